"""Model files and checkpoints: no file runs code, or asks for more memory than it has itself; paths are data."""

import io
import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import objects
from slmc.lattice import displacements
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.clock import Clock, read_progress, time_split
from slmc.simulation.marks import Marks
from slmc.simulation.progress import Reporter
from slmc.system import UserError, load_model, save_model
from slmc.systems.spins.models import build_like, describe

MODEL = objects.random_heisenberg((4, 4))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model.eqx", MODEL, describe(MODEL))
    return tmp_path / "model.eqx"


def header_of(path: Path) -> dict:
    return json.loads(path.read_bytes().partition(b"\n")[0])


def rewritten(path: Path, **changes: object) -> None:
    """The same numbers behind another description."""
    header, rest = header_of(path), path.read_bytes().partition(b"\n")[2]
    header["model"] |= changes
    path.write_bytes(json.dumps(header).encode() + b"\n" + rest)


def test_a_model_comes_back(saved: Path) -> None:
    assert eqx.tree_equal(load_model(saved, build_like), MODEL)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [100_000, 100_000]},
        {"shape": [10**9]},
        {"shape": "44"},
        {"shape": [4.0, 4.0]},
        {"n_shells": 10**12},
        {"n_shells": 2},
        {"temperature": math.nan},
        {"name": "network", "n_channels": 10**6, "n_hidden": 10**6},
        {"name": "network", "n_channels": 200, "n_hidden": 400},
        {"name": "pickle"},
        {"nonsense": 1},
    ],
)
def test_descriptions_that_do_not_belong_to_the_file(saved: Path, changes: dict) -> None:
    rewritten(saved, **changes)
    with pytest.raises(UserError, match=r"the model file .*model\.eqx"):
        load_model(saved, build_like)


def array_file(shape: tuple[int, ...], dtype: str = "<f8", content: bytes = b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


@pytest.mark.parametrize(
    "numbers",
    [
        array_file((10**15,)),
        array_file((5,), "|O", b"cos\nsystem\n(S'exit 1'\ntR."),
        array_file((5,), "<f4", bytes(20)),
        array_file((5,), content=np.full(5, math.nan).tobytes()),
        b"",
        b"\x93NUMPY\x01\x00\xff\xff{'descr': " + b"(" * 60000,
        b"\x80\x04.",
    ],
)
def test_numbers_that_are_not_those_of_the_model(saved: Path, numbers: bytes) -> None:
    head, _, _ = saved.read_bytes().partition(b"\n")
    saved.write_bytes(head + b"\n" + numbers)
    with pytest.raises(UserError, match="is damaged or no model file"):
        load_model(saved, build_like)


FIRST_LINES = [b"", b"[]", b"1" * 10**6, b"[" * 60000, b'{"format": 1}', b"\xff\xfe", b'{"format": 9}']


@pytest.mark.parametrize("content", FIRST_LINES)
def test_first_lines_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.eqx").write_bytes(content)
    with pytest.raises(UserError, match="the model file"):
        load_model(tmp_path / "model.eqx", build_like)


def test_cut_lengthened_and_special_files(saved: Path) -> None:
    content = saved.read_bytes()
    for wrong in (content[:-1], content[: len(content) // 2], content + b"\0"):
        saved.write_bytes(wrong)
        with pytest.raises(UserError, match="is damaged"):
            load_model(saved, build_like)
    os.mkfifo(fifo := saved.with_name("fifo"))
    for special in (fifo, saved.parent, Path("/dev/zero")):
        with pytest.raises(UserError, match="is no file but a directory or device"):
            load_model(special, build_like)
    with pytest.raises(UserError, match="No such file"):
        load_model(saved.with_name("nothing"), build_like)


def test_tables_of_all_pairs_are_bounded() -> None:
    with pytest.raises(ValueError, match="go up to 16384 sites; got 40000"):
        displacements((200, 200))


# --- checkpoints ------------------------------------------------------------------------------------------------------

STATE = {"chains": jnp.arange(6.0).reshape(2, 3), "labels": np.zeros((0, 3)), "number": np.asarray(7)}


@pytest.mark.parametrize("name", ["plain", "x[1]", "[red]x", "a b", "ü*?", "n" * 200])
def test_checkpoints_in_directories_of_any_name(tmp_path: Path, name: str) -> None:
    checkpoints = Checkpoints(tmp_path / name / "checkpoints", "identity", "free")
    for number in (1, 2, 3):
        checkpoints.save(number, STATE, Marks(lengths={"measurement/energy": number}))
    assert checkpoints.numbers() == [2, 3]
    found = Checkpoints(tmp_path / name / "checkpoints", "identity", "free").restore(STATE)
    assert found is not None
    assert found[1] == checkpoints.marks() == Marks(lengths={"measurement/energy": 3})
    assert eqx.tree_equal(found[0], STATE)


def test_a_checkpoint_larger_than_the_run_is_not_unpacked(tmp_path: Path) -> None:
    """Zeros: a file of some kilobytes for any number of them."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "identity", "free")
    checkpoints.save(1, STATE | {"chains": np.zeros(10**7)}, Marks())
    with pytest.raises(UserError, match=r"is damaged and cannot be read \(ValueError\)"):
        checkpoints.restore(STATE)


def test_no_message_advises_to_delete(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", "identity", "free")
    for number in (1, 2):
        checkpoints.save(number, STATE, Marks())
    for file in (tmp_path / "checkpoints" / "000002").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"move .*000002 elsewhere and resume") as error:
        checkpoints.restore(STATE)
    assert "delete" not in str(error.value)


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"[]", b"3", b"null", b"[" * 100_000, b"\xff", b"", b'{"laps": 3, "warnings": "x", "phase": 1, "total": "a"}'],
)
def test_progress_that_is_none_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "progress.json").write_bytes(content)
    stored = read_progress(tmp_path / "progress.json")
    assert stored == {}
    assert time_split(stored)["other"] == 0
    assert Clock(tmp_path / "progress.json").warnings == []


def test_progress_keeps_what_is_right(tmp_path: Path) -> None:
    right = {"laps": {"measure": 1.5}, "inner_share": 0.5, "warnings": ["slow"], "phase": "measure", "more": [1]}
    wrong = {"evaluations": {"measurement": "many"}, "total": math.inf, "found": [1]}
    (tmp_path / "progress.json").write_text(json.dumps(right | wrong))
    assert read_progress(tmp_path / "progress.json") == right
    assert read_progress(Path("/dev/zero")) == {}


def test_progress_in_a_notebook_is_a_bar_for_each_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown once and then replaced, without widgets; the last figures stay, also of a phase that ends early."""
    shown: list[list[str]] = []

    class Handle:
        def update(self, bundle: dict[str, str], raw: bool) -> None:
            assert raw
            shown[-1].append(bundle["text/plain"])

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        assert "<progress" in bundle["text/html"]
        shown.append([bundle["text/plain"]])
        return Handle()

    front_end = ModuleType("IPython.display")
    front_end.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", front_end)
    reporter = Reporter(Console(force_jupyter=True))
    reporter.phase("thermalise", 5)
    for done in range(1, 6):
        reporter.advance(done, acceptance=0.8)
    reporter.phase("learn", 2)
    reporter.advance(0.5, residual=0.3)
    reporter.close()
    assert [bars[-1] for bars in shown] == ["thermalise 5/5  acceptance 0.8", "learn      0.5/2  residual 0.3"]
