"""Compiled programs are kept for the next start, where they can be, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmc import compiled_programs

PROGRAM = """
import jax
from slmc import compiled_programs
compiled_programs._SHORTEST = 0.0
compiled_programs.keep()
hits = []
jax.monitoring.register_event_listener(lambda event, **kw: hits.append(event) if event.endswith("cache_hits") else None)
print(float(jax.jit(lambda x: x * 2 + 1)(20.5)), len(hits) > 0)
"""


def outcome(**environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, check=True
    )
    return result.stdout.split("\n")[0]


def test_a_second_start_finds_what_the_first_compiled(tmp_path: Path) -> None:
    assert outcome(XDG_CACHE_HOME=str(tmp_path)) == "42.0 False"
    assert list(tmp_path.glob("slmc/programs-*/*"))
    assert outcome(XDG_CACHE_HOME=str(tmp_path)) == "42.0 True"


def test_a_folder_that_jax_was_told_of_is_left_to_jax(tmp_path: Path) -> None:
    told = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "told"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert outcome(**told) == "42.0 False"
    assert not (tmp_path / "cache").exists()


def test_without_a_folder_that_can_be_written_everything_runs_as_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert outcome(XDG_CACHE_HOME=str(tmp_path / "file")) == "42.0 False"


def test_the_folder_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_programs, "LARGEST", 1000)
    for number in range(10):
        file = tmp_path / str(number)
        file.write_bytes(bytes(300))
        os.utime(file, (number, number))
    compiled_programs._make_room(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["9"]
