"""Every benchmark runs, at a tiny size, writes its results and pages, and continues from stored rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def _run(name: str, out: Path, *options: str) -> str:
    environment = os.environ | {"XDG_CACHE_HOME": str(out / "cache")}
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--out", str(out), *options]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize(
    ("name", "a_row", "words"),
    [
        ("anchor", "exact-hamiltonian", ("⟨m_st²⟩", "proposal autocorrelation", "linear, 1 shell")),
        ("scaling", "paper/seed-0/L-0", ("s² ∝ n^(−a)", "all shells", "scaling.svg")),
    ],
)
def test_benchmark_writes_its_page_and_continues(tmp_path, name, a_row, words):
    _run(name, tmp_path)
    stored = json.loads((tmp_path / f"{name}.json").read_text())
    assert stored["machine"]["cores"] == os.cpu_count()
    assert stored["command"].startswith(f"python benchmarks/{name}.py")
    page = (tmp_path / f"{name}.md").read_text()
    assert all(word in page for word in words)

    # An interruption: one row is missing; only that row is made again.
    kept = {key: row for key, row in stored["rows"].items() if key != a_row}
    (tmp_path / f"{name}.json").write_text(json.dumps(stored | {"rows": kept}))
    printed = _run(name, tmp_path)
    assert [line.split()[0] for line in printed.splitlines()] == [a_row]
    assert json.loads((tmp_path / f"{name}.json").read_text())["rows"].keys() == stored["rows"].keys()


def test_pages_are_made_from_stored_rows_alone():
    for name in ("anchor", "scaling"):
        results = BENCHMARKS / "results" / f"{name}.json"
        stored = json.loads(results.read_text())
        page = (BENCHMARKS.parent / "docs" / "results" / f"{name}.md").read_text()
        assert stored["rows"]
        assert stored["date"] in page
