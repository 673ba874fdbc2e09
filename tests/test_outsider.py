"""A package of somebody else's, installed beside slmc, gets all that our own systems get."""

import json
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from killing import stopped_at
from slmc.system import discovery
from undrawn import COMMAND

PACKAGE = Path(__file__).parent / "outsider"
NAME = "oscillators"
Slmc = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages, as an installer leaves it: the package and the metadata with its entry point."""
    folder, about = tmp_path_factory.mktemp("site"), tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    (folder / "slmc_oscillators").symlink_to(PACKAGE / "slmc_oscillators")
    metadata = folder / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    points = about["entry-points"]["slmc.systems"]
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (metadata / "entry_points.txt").write_text(f"[slmc.systems]\n{lines}\n")
    return folder


@pytest.fixture
def found(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is on the path of this process."""
    monkeypatch.syspath_prepend(str(installed))
    discovery._entries.cache_clear()
    yield
    discovery._entries.cache_clear()


@pytest.fixture(scope="module")
def environment(installed: Path) -> dict[str, str]:
    # Bits are compared as users get them.
    kept = {
        name: value for name, value in os.environ.items() if name not in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
    }
    return {**kept, "PYTHONPATH": os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    directory = tmp_path_factory.mktemp("finished") / "run"
    subprocess.run([*COMMAND, "run", NAME, "--out", str(directory), "-q"], check=True, env=environment)
    return directory


def contents(directory: Path) -> dict[str, np.ndarray]:
    import xarray

    with xarray.open_datatree(directory / "records.zarr", engine="zarr", consolidated=False) as tree:
        return {f"{node.path}/{name}": np.asarray(v) for node in tree.subtree for name, v in node.data_vars.items()}


def test_killed_at_a_third_two_thirds_and_the_end_it_gives_the_same_bits(
    tmp_path: Path, environment: dict[str, str], finished: Path
) -> None:
    directory = tmp_path / "run"
    command = ["run", NAME, "--out", str(directory), "-q"]
    last = max(int(path.name) for path in (finished / "checkpoints").iterdir())
    for share in (0.3, 0.6, 0.85):
        marker = directory / "checkpoints" / f"{round(share * last):06d}"
        assert stopped_at(marker, *command, environment=environment)[0] == -signal.SIGKILL
        command = ["resume", str(directory), "-q"]
    subprocess.run([*COMMAND, *command], check=True, env=environment)
    expected, found = contents(finished), contents(directory)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert (directory / "model.eqx").read_bytes() == (finished / "model.eqx").read_bytes()


@pytest.mark.usefixtures("found")
def test_info_speaks_of_its_own_observables(slmc: Slmc, finished: Path) -> None:
    code, out, _ = slmc("info", finished, "--json")
    told = json.loads(out)
    assert code == 0
    assert list(told["observables"]) == ["mean displacement squared", "⟨x²⟩", "ratio"]
    assert told["figure_of_merit"] == "mean displacement squared"
    assert told["phase"] == "done"
    # One evaluation a step, whatever the model does; the exact chain's trajectories take four forces and a weight.
    assert told["exact_evaluations"]["measurement"] == 4 * 200
    assert told["baseline"]["exact_evaluations"] == 4 * 80 * 5
    squared = told["observables"]["⟨x²⟩"]["value"]
    assert told["observables"]["ratio"]["value"] == pytest.approx(squared**2, rel=1e-3)


@pytest.mark.usefixtures("found")
def test_init_and_examples_know_it(slmc: Slmc) -> None:
    assert NAME in slmc("examples")[1]
    code, text, _ = slmc("init", NAME)
    assert code == 0
    assert tomllib.loads(text)["target"]["anharmonicity"] == 0.2
    assert "# of the quartic term" in text
    code, _, err = slmc("run", NAME, "--set=target.anharmonicty=0.1")
    assert code == 2
    assert "did you mean anharmonicity" in " ".join(err.split())


@pytest.mark.usefixtures("found")
def test_the_report_shows_its_figure_of_merit(slmc: Slmc, finished: Path) -> None:
    assert slmc("report", finished)[0] == 0
    page = (finished / "report.html").read_text()
    for label in ("Autocorrelation of X^2", "X^2, mean displacement squared"):
        assert f'aria-label="{label}' in page
    assert "<i>X</i><sup>2</sup>" in page
    assert "X², X the mean displacement" in page
    assert not re.search("spin|magneti|lattice constants|plaquette", page)


@pytest.mark.usefixtures("found")
def test_a_scan_over_a_field_of_its_own(slmc: Slmc, tmp_path: Path) -> None:
    few = ["--set=measurement.n_steps=40", "--set=baseline.n_steps=0", "--set=learning.n_rounds=1"]
    grid = (
        '--set=scan.fields={"target.anharmonicity" = [0.1, 0.4], "target.stiffness" = {start = 1.0, stop = 2.0, n = 2}}'
    )
    code, out, err = slmc("run", NAME, "--out", tmp_path / "scan", *few, grid)
    assert (code, err) == (0, "")
    assert "g = 0.4, k = 2" in out
    points = json.loads(slmc("info", tmp_path / "scan", "--json")[1])["points"]
    assert [(p["anharmonicity"], p["stiffness"]) for p in points] == [(0.1, 1.0), (0.1, 2.0), (0.4, 1.0), (0.4, 2.0)]
    table = (tmp_path / "scan" / "table.csv").read_text().splitlines()
    assert table[0].startswith("anharmonicity,stiffness,mean displacement squared,mean displacement squared_error")
    assert len(table) == 5
    page = (tmp_path / "scan" / "report.html").read_text()
    assert page.count('class="plot"') == 2
    assert "g = 0.1, k = 2" in page
