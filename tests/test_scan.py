"""A run over temperatures: groups, reports, resuming, and samples of the disorder within it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray

TINY = [
    "--set=target.shape=[2,3]",
    "--set=target.coupling=2.0",
    "--set=target.concentration=0.7",
    "--set=target.n_samples=2",
    "--set=measurement.observables=[magnetization,magnetization_squared,energy]",
    "--set=model.name=linear",
    "--set=inner.update=heat-bath",
    "--set=inner.n_updates=2",
    "--set=thermalisation.n_steps=10",
    "--set=exact.tuning_steps=10",
    "--set=learning.n_rounds=1",
    "--set=learning.n_steps=20",
    "--set=learning.training_steps=0",
    "--set=measurement.n_chains=4",
    "--set=measurement.n_steps=40",
    "--set=measurement.block_size=20",
    "--set=measurement.n_thermalise=10",
]


def slmc(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "slmc.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def records(directory: Path) -> dict[str, np.ndarray]:
    with xarray.open_datatree(directory / "records.zarr", engine="zarr", consolidated=False) as tree:
        return {
            f"{node.path}/{name}": np.asarray(variable)
            for node in tree.subtree
            for name, variable in node.data_vars.items()
        }


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scan") / "run"
    options = [*TINY, "--set=scan.temperatures=[0.5,0.25]", "--set=baseline.n_steps=40"]
    finished = slmc("run", "double_exchange_small", "--out", directory, *options)
    assert finished.returncode == 0, finished.stderr
    assert "0.25" in finished.stdout
    return directory


def test_every_temperature_is_a_group_and_a_run(scan: Path) -> None:
    found = records(scan)
    for temperature in ("0.5", "0.25"):
        assert found[f"/T={temperature}/measurement/energy"].shape == (4, 40)
        assert found[f"/T={temperature}/baseline/energy"].shape == (4, 40)
        assert (scan / f"T={temperature}" / "report.html").is_file()
    assert not np.array_equal(found["/T=0.5/measurement/energy"], found["/T=0.25/measurement/energy"])
    assert not (scan / "T=0.5" / "start.eqx").exists()
    assert (scan / "T=0.25" / "start.eqx").read_bytes() == (scan / "T=0.5" / "model.eqx").read_bytes()


def test_info_and_report_show_all_temperatures(scan: Path) -> None:
    points = json.loads(slmc("info", scan, "--json").stdout)["points"]
    assert [point["temperature"] for point in points] == [0.5, 0.25]
    for point in points:
        assert point["phase"] == "done"
        energy = point["observables"]["energy"]
        assert energy["monte_carlo_error"] > 0
        assert point["baseline"]["observables"]["energy"]["monte_carlo_error"] > 0
    assert "acceptance" in slmc("info", scan).stdout
    one = json.loads(slmc("info", scan / "T=0.25", "--json").stdout)
    assert one["observables"] == points[1]["observables"]
    (scan / "report.html").unlink()
    assert slmc("report", scan).returncode == 0
    page = (scan / "report.html").read_text()
    assert 'href="T=0.25/report.html"' in page
    assert page.count('class="plot"') == 2


def test_killed_and_resumed_a_scan_gives_the_same_bits_and_goes_on_to_new_temperatures(
    scan: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    options = [*TINY, "--set=scan.temperatures=[0.5,0.25]", "--set=baseline.n_steps=40"]
    command = [
        sys.executable,
        "-m",
        "slmc.cli",
        "run",
        "double_exchange_small",
        "--out",
        str(directory),
        "-q",
        *options,
    ]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 200
        while not (directory / "T=0.25" / "progress.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    resumed = slmc("resume", directory, "-q")
    assert resumed.returncode == 0, resumed.stderr
    first, second = records(scan), records(directory)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)

    config = directory / "config.toml"
    config.write_text(config.read_text().replace("[0.5, 0.25]", "[0.5, 0.25, 0.1]"))
    assert slmc("resume", directory, "-q").returncode == 0
    longer = records(directory)
    assert "/T=0.1/measurement/energy" in longer
    np.testing.assert_array_equal(longer["/T=0.25/measurement/energy"], first["/T=0.25/measurement/energy"])


def test_the_wall_time_holds_for_all_temperatures_together(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    options = [*TINY, "--set=scan.temperatures=[0.5,0.25]", "--set=measurement.wall_time=0.5"]
    stopped = slmc("run", "double_exchange_small", "--out", directory, *options)
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped at T = 0.5; continue with: slmc resume" in " ".join(stopped.stdout.split())
    assert not (directory / "T=0.25").exists()
    points = json.loads(slmc("info", directory, "--json").stdout)["points"]
    assert len(points) == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("scan.temperatures=[0.5,0.5]", "each temperature must be listed once"),
        ("scan.temperatures=[0.5,-1]", "scan.temperatures"),
        ("target.concentration=0", "target.concentration"),
        ("target.n_samples=3", "n_samples > 1 needs concentration < 1"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, option: str, words: str) -> None:
    failed = slmc("run", "double_exchange_small", "--out", tmp_path / "run", f"--set={option}")
    assert failed.returncode == 2
    assert words in failed.stderr
    assert not (tmp_path / "run").exists()
