"""Every benchmark runs, at a tiny size, writes its results and pages, and continues from stored rows."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = Path(__file__).with_name("benchmarks_at_small_size.py")
Run = Callable[[str, Path], str]
NEEDS_TBLITE = pytest.mark.skipif(find_spec("tblite") is None, reason="tblite is not installed")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a benchmark of a name, writing to a folder, and returns what it printed; all of them in one process."""
    command = [sys.executable, str(SMALL)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def answered(name: str, out: Path) -> str:
            assert process.stdin
            assert process.stdout
            print(
                json.dumps({"name": name, "out": str(out), "cache": str(out / "cache")}), file=process.stdin, flush=True
            )
            answer = json.loads(process.stdout.readline())
            assert answer["error"] == ""
            return answer["printed"]

        yield answered
        process.communicate()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("anchor", ("⟨m_st²⟩", "proposal autocorrelation", "linear, 1 shell")),
        ("scaling", ("all shells", "scaling.svg", "independent code")),
        ("efficiency", ("paid back after", "Exact HMC was tuned", "two time scales", "quick")),
        ("data_efficiency", ("log-weights alone", "Variants")),
        ("peers", ("NUTS", "tinyDA")),
        ("vectors", ("solves per effective sample", "2 | slmc", "slmc through the coarse grid")),
        ("learn_at", ("frozen", "learned here", "own model")),
        ("start", ("slmc --help", "of 3 finished points")),
        ("weight", ("poles with force", "## Error")),
        ("temperature", ("temperature.svg", "χ²", "samples / evaluation")),
        ("cubic", ("cubic.svg", "inner / exact")),
        ("error_coverage", ("is_known_to", "std z", "Binder ratio")),
        ("dilution", ("dilution.svg", "of the error Monte Carlo")),
        ("plaquette", ("Ratios per N spins", "plaquette.svg", "three shells")),
        ("strong_coupling", ("s/√N", "Exact self-learning Monte Carlo")),
        ("gauge", ("Two dimensions", "## Quenched", "RHMC", "effective action", "gauge_slhmc.svg", "floor")),
        ("impurity", ("Against exact diagonalisation", "Held-out residuals", "Crossover", "Bethe lattice")),
        pytest.param("atoms", ("What an independent sample costs", "atoms.svg"), marks=NEEDS_TBLITE),
        pytest.param("quantum_nuclei", ("bead evaluations", "exact HMC"), marks=NEEDS_TBLITE),
        pytest.param("guides", ("held-out loss", "stout", "own couplings"), id="gauge guides"),
    ],
)
def test_benchmark_writes_its_page(run: Run, tmp_path, name, words):
    run(name, tmp_path)
    stored = json.loads((tmp_path / f"{name}.json").read_text())
    assert stored["machine"]["cores"] == os.cpu_count()
    assert stored["command"].startswith(f"python benchmarks/{name}.py")
    page = (tmp_path / f"{name}.md").read_text()
    assert all(word in page for word in words)


def test_an_interrupted_benchmark_makes_only_what_is_missing(run: Run, tmp_path):
    run("cost", tmp_path)
    assert "the same in float32" in (tmp_path / "cost.md").read_text()
    path = tmp_path / "cost.json"
    stored = json.loads(path.read_text())
    kept = {key: row for key, row in stored["rows"].items() if key != "4x4"}
    path.write_text(json.dumps(stored | {"rows": kept, "date": "2001-02-03"}))
    printed = run("cost", tmp_path)
    assert [line[:3] for line in printed.splitlines() if not line.startswith(" ")] == ["4x4"]
    rows = json.loads(path.read_text())["rows"]
    # Rows of another day say so, since the header tells what made the new ones.
    assert rows["2x2"].pop("made")["date"] == "2001-02-03"
    assert rows["2x2"] == kept["2x2"]
    assert "made" not in rows["4x4"]
    assert "Made on 2001-02-03" in (tmp_path / "cost.md").read_text()


def test_the_gpu_benchmark_says_where_there_is_none(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--quick", "--out", str(tmp_path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
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
PAGES = {"examples": ("own_target", "replica_exchange"), "gpu": ("gauge",)}


@pytest.mark.parametrize("name", RESULTS)
def test_pages_of_the_docs_are_those_of_the_stored_rows(name):
    stored = (BENCHMARKS / "results" / f"{name}.json").read_text()
    assert json.loads(stored)["rows"]
    for page_name in PAGES.get(name, (name,)):
        page = (BENCHMARKS.parent / "docs" / "results" / f"{page_name}.md").read_text()
        assert json.loads(stored)["date"] in page
        assert json.loads(stored)["command"] in page
