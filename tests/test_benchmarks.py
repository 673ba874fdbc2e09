"""Every benchmark runs, at a tiny size, writes its results and pages, and continues from stored rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "a_row", "words"),
    [
        ("anchor", "linear-1", ("⟨m_st²⟩", "proposal autocorrelation", "linear, 1 shell")),
        ("scaling", None, ("all shells", "scaling.svg", "independent code")),
        ("efficiency", "quick: chains", ("paid back after", "Exact HMC was tuned", "quick")),
        ("data_efficiency", "one layer", ("log-weights alone", "Variants")),
        ("peers", None, ("NUTS", "tinyDA")),
        ("cost", "4x4", ("cost.svg", "the same in float32")),
        ("temperature", "T = 0.5", ("temperature.svg", "χ²", "samples / evaluation")),
        ("cubic", "cost 2", ("cubic.svg", "inner / exact")),
        ("dilution", "weak 0.5", ("dilution.svg", "of the error Monte Carlo")),
        ("plaquette", "couplings 4", ("Ratios of τ", "plaquette.svg", "three shells")),
        ("strong_coupling", "6x6", ("s/√N", "Exact self-learning Monte Carlo")),
        ("wavefunctions", "4x4 dot-product 1", ("V-score", "wavefunctions-energy.svg", "look at the input")),
    ],
)
def test_benchmark_writes_its_page_and_continues(tmp_path, name, a_row, words):
    _run(name, tmp_path)
    stored = json.loads((tmp_path / f"{name}.json").read_text())
    assert stored["machine"]["cores"] == os.cpu_count()
    assert stored["command"].startswith(f"python benchmarks/{name}.py")
    page = (tmp_path / f"{name}.md").read_text()
    assert all(word in page for word in words)

    # An interruption: at most one row is missing; nothing else is made again.
    kept = {key: row for key, row in stored["rows"].items() if key != a_row}
    (tmp_path / f"{name}.json").write_text(json.dumps(stored | {"rows": kept}))
    printed = _run(name, tmp_path)
    added = [line for line in printed.splitlines() if not line.startswith(" ")]
    assert [line[: len(a_row or "")] for line in added] == ([a_row] if a_row else [])
    again = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert {key: row.get("residual") for key, row in again.items()} == {
        key: row.get("residual") for key, row in stored["rows"].items()
    }


def test_the_gpu_benchmark_says_where_there_is_none(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--quick", "--out", str(tmp_path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1
    assert "no CUDA device is present" in finished.stderr


def test_power_law_is_found_and_its_error_is_that_of_the_seeds(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from power_law import Curve, fitted

    n = np.tile([1, 10, 20, 30, 40], (3, 1))
    nothing = np.zeros(n.shape)
    exact = fitted(Curve(n, 5.0 * n**-1.5, nothing, nothing, nothing), 1, 100)
    assert exact.exponent == pytest.approx(1.5)
    assert exact.prefactor == pytest.approx(5.0)
    assert exact.error == pytest.approx(0.0, abs=1e-12)

    exponents = np.array([[1.2], [1.5], [1.8]])
    scattered = fitted(Curve(n, n**-exponents, nothing, nothing, nothing), 1, 4000)
    assert scattered.exponent == pytest.approx(1.5)
    assert scattered.error == pytest.approx(np.std([1.2, 1.5, 1.8]) / np.sqrt(3), rel=0.05)


RESULTS = sorted(path.stem for path in (BENCHMARKS / "results").glob("*.json"))


@pytest.mark.parametrize("name", RESULTS)
def test_pages_of_the_docs_are_those_of_the_stored_rows(name):
    stored = (BENCHMARKS / "results" / f"{name}.json").read_text()
    assert json.loads(stored)["rows"]
    page = (BENCHMARKS.parent / "docs" / "results" / f"{name}.md").read_text()
    assert json.loads(stored)["date"] in page
    assert json.loads(stored)["command"] in page


def _run(name: str, out: Path) -> str:
    # Compiling takes nearly all of the time of a tiny run.
    environment = os.environ | {"XDG_CACHE_HOME": str(out / "cache"), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--out", str(out)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
