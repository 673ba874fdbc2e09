"""A run over temperatures: groups, reports, resuming, and samples of the disorder within it."""

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray

from slmc import submission
from slmc.simulation.files import signed, write_whole
from slmc.simulation.scan import Point, carry_out_points, points_of
from slmc.system import UserError, validated
from slmc.systems.spins.settings import DoubleExchangeRun
from undrawn import COMMAND

TINY = [
    "--set=target.shape=[2,3]",
    "--set=target.coupling=2.0",
    "--set=target.concentration=0.7",
    "--set=target.n_samples=2",
    '--set=measurement.observables=["magnetization","magnetization_squared","energy"]',
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
    "--set=measurement.n_thermalise=20",
]


Slmc = Callable[..., tuple[int, str, str]]


def records(directory: Path) -> dict[str, np.ndarray]:
    with xarray.open_datatree(directory / "records.zarr", engine="zarr", consolidated=False) as tree:
        return {
            f"{node.path}/{name}": np.asarray(variable)
            for node in tree.subtree
            for name, variable in node.data_vars.items()
        }


def test_a_scan_from_start_to_end(slmc: Slmc, tmp_path: Path) -> None:
    """One test, since each run takes seconds: groups, reports, wall time, SIGKILL, resuming, further temperatures.

    Only what is killed runs in a process of its own, and gives the bits of this one.
    """
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = [*TINY, "--set=scan.temperatures=[0.5,0.25]", "--set=baseline.n_steps=20"]
    code, out, err = slmc("run", "double_exchange_small", "--out", whole, *options)
    assert (code, err) == (0, "")
    assert "0.25" in out
    _check_groups(whole)
    _check_summaries(slmc, whole)
    _check_table_and_job(slmc, whole, tmp_path)

    code, out, _ = slmc("run", "double_exchange_small", "--out", cut, *options, "--set=measurement.wall_time=0.1")
    assert code == 75
    assert "stopped at T = 0.5; continue with: slmc resume" in " ".join(out.split())
    assert not (cut / "T=0.25").exists()
    config = cut / "config.toml"
    config.write_text(config.read_text().replace("wall_time = 0.1\n", ""))
    with subprocess.Popen([*COMMAND, "resume", str(cut), "-q"]) as process:
        deadline = time.monotonic() + 200
        while not (cut / "T=0.25" / "progress.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    config.write_text(config.read_text().replace("[0.5, 0.25]", "[0.5, 0.25, 0.1]"))
    assert slmc("resume", cut, "-q") == (0, "", "")
    first, second = records(whole), records(cut)
    assert set(second) == {*first, *(name.replace("0.25", "0.1") for name in first if "0.25" in name)}
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values, err_msg=name)


def _check_table_and_job(slmc: Slmc, scan: Path, folder: Path) -> None:
    """The table as it is in the scan, printed and written; a job script whose tasks resume it."""
    code, out, _ = slmc("table", scan)
    assert (code, out) == (0, (scan / "table.csv").read_text())
    assert slmc("table", scan, "--out", folder / "t.csv")[0] == 0
    assert (folder / "t.csv").read_text() == out
    assert "must end with .csv, .parquet, .nc" in slmc("table", scan, "--out", folder / "t.txt")[2]
    assert "holds no scan" in slmc("table", scan / "T=0.5")[2]
    options = ("--jobs=3", "--time=01:00:00", "--sbatch=--partition=short")
    code, out, _ = slmc("submit", scan, "--on=slurm", "--print", *options)
    assert code == 0
    assert out == (scan / "submit.sh").read_text()
    for line in ("--array=0-2", "--time=01:00:00", "--partition=short", "--requeue"):
        assert f"#SBATCH {line}\n" in out
    assert f"resume --quiet --skip-failed {scan.absolute()} &" in out
    assert subprocess.run(["bash", "-n", scan / "submit.sh"]).returncode == 0
    assert "must be local or slurm" in slmc("submit", scan, "--on=mars")[2]
    for limit, words in (("1:00", "is too short"), ("soon", "is no time limit")):
        assert words in slmc("submit", scan, "--print", f"--time={limit}")[2]


def _check_groups(scan: Path) -> None:
    found = records(scan)
    for temperature in ("0.5", "0.25"):
        assert found[f"/T={temperature}/measurement/energy"].shape == (4, 40)
        assert found[f"/T={temperature}/baseline/energy"].shape == (4, 20)
        assert (scan / f"T={temperature}" / "report.html").is_file()
    assert not np.array_equal(found["/T=0.5/measurement/energy"], found["/T=0.25/measurement/energy"])
    assert not (scan / "T=0.5" / "start.eqx").exists()
    assert (scan / "T=0.25" / "start.eqx").read_bytes() == (scan / "T=0.5" / "model.eqx").read_bytes()


def _check_summaries(slmc: Slmc, scan: Path) -> None:
    points = json.loads(slmc("info", scan, "--json")[1])["points"]
    assert [point["temperature"] for point in points] == [0.5, 0.25]
    for point in points:
        assert point["phase"] == "done"
        assert point["observables"]["energy"]["monte_carlo_error"] > 0
        assert point["baseline"]["observables"]["energy"]["monte_carlo_error"] > 0
    one = json.loads(slmc("info", scan / "T=0.25", "--json")[1])
    assert one["observables"] == points[1]["observables"]
    for temperature in ("0.5", "0.25"):  # kept when the point was finished; what is read again is the same
        (scan / f"T={temperature}" / "summary.json").unlink()
    assert json.loads(slmc("info", scan, "--json")[1])["points"] == points
    (scan / "report.html").unlink()
    assert slmc("report", scan)[0] == 0
    page = (scan / "report.html").read_text()
    assert 'href="T=0.25/report.html"' in page
    assert page.count('class="plot"') == 2


def test_a_point_that_fails_is_put_aside(tmp_path: Path) -> None:
    """And those that would begin with its model; whoever tries again goes through."""
    fields = {"target.temperature": [0.5, 0.3, 0.2], "target.coupling": [1.0, 2.0]}
    settings = validated({"scan": {"fields": fields}, "inner": {"n_updates": 5}}, DoubleExchangeRun)
    tried, heard, wrong = list[int](), list[str](), {2}

    def carry_out(point: Point) -> bool:
        tried.append(point.number)
        if point.number in wrong:
            raise UserError("the solver did not converge.")
        (point.directory / "model.eqx").touch()
        write_whole(point.directory / "progress.json", signed({"phase": "done"}))
        return True

    def told(point: Point, outcome: str) -> None:
        heard.append(outcome)

    words = "1 of 6 points failed, T = 0.3, J = 1: the solver did not converge; 3 more have no model to start from"
    with pytest.raises(UserError, match=words):
        carry_out_points(tmp_path, settings, carry_out, told)
    assert (tried, heard) == ([0, 1, 2], ["done", "done", "the solver did not converge."])
    with pytest.raises(UserError, match=words):
        carry_out_points(tmp_path, settings, carry_out, told, skip_failed=True)
    assert tried == [0, 1, 2]
    wrong.clear()
    assert carry_out_points(tmp_path, settings, carry_out, told)
    assert tried == [0, 1, 2, 2, 3, 4, 5]
    assert not list(tmp_path.rglob("failure.txt"))


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("1-2", 93600), ("1-2:30", 95400), ("UNLIMITED", np.inf)],
)
def test_time_limits_are_read_as_slurm_writes_them(limit: str, seconds: float) -> None:
    assert submission._seconds(limit) == seconds


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ({"target.temperature": [0.5, 0.2]}, [None, "start.eqx"]),
        # A stored model brings its form with it.
        ({"model.n_layers": [1, 2]}, [None, None]),
        ({"model.n_layers": [1, 2], "target.temperature": [0.5, 0.2]}, [None] * 4),
    ],
)
def test_a_scan_over_the_model_learns_anew_at_every_point(fields: dict, files: list) -> None:
    settings = validated({"scan": {"fields": fields}}, DoubleExchangeRun)
    assert [point.settings.model.file for point in points_of(Path(), settings)] == files


def test_a_range_has_both_ends() -> None:
    fields = {"target.temperature": {"start": 0.1, "stop": 0.3, "n": 3}}
    points = points_of(Path(), validated({"scan": {"fields": fields}}, DoubleExchangeRun))
    assert sorted(point.settings.target.temperature for point in points) == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("scan.temperatures=[0.5,0.5]", "each value of target.temperature must be listed once"),
        ("scan.temperatures=[0.5,-1]", "scan, target.temperature = -1: target.temperature = -1 is not allowed"),
        ("target.concentration=0", "target.concentration"),
        ("target.n_samples=3", "n_samples > 1 needs concentration < 1"),
    ],
)
def test_wrong_settings_are_told(slmc: Slmc, tmp_path: Path, option: str, words: str) -> None:
    code, _, err = slmc("run", "double_exchange_small", "--out", tmp_path / "run", f"--set={option}")
    assert code == 2
    assert words in " ".join(err.split())
    assert not (tmp_path / "run").exists()


EXACT_ONLY = """
system = "double_exchange"
[target]
shape = [2, 2]
coupling = 2.0
temperature = 0.2
[exact]
update = "local"
tuning_steps = 10
[thermalisation]
n_steps = 10
[learning]
n_rounds = 0
[measurement]
n_chains = 4
n_steps = 40
block_size = 20
n_thermalise = 0
[scan]
temperatures = [0.5]
"""


def test_a_scan_without_a_model(slmc: Slmc, tmp_path: Path) -> None:
    config, scan = tmp_path / "config.toml", tmp_path / "scan"
    config.write_text(EXACT_ONLY)
    assert slmc("run", config, "--out", scan, "-q") == (0, "", "")
    points = json.loads(slmc("info", scan, "--json")[1])["points"]
    assert [point["temperature"] for point in points] == [0.5]
    for point in points:
        assert point["phase"] == "done"
        assert "residual" not in point
        assert point["exact_evaluations"] == {"thermalisation": 4 * (10 + 10) * 4, "measurement": 4 * 40 * 4}
        assert {path.name for path in (scan / point["directory"]).glob("*.eqx")} == set()
    page = (scan / "report.html").read_text()
    assert "residual" not in page
    assert "exact updates alone" in page
    # The next temperature has no model to start from.
    two = {"scan": {"temperatures": [0.5, 0.2]}, "learning": {"n_rounds": 0}}
    assert points_of(Path(), validated(two, DoubleExchangeRun))[1].settings.model.file is None


def test_runs_begun_before_scans_keep_their_identity() -> None:
    """The digest that their checkpoints carry is that of the settings of their time, in their order."""
    free = {"title": True, "measurement": {"n_steps", "wanted_error", "wall_time"}, "baseline": {"n_steps"}}
    settings = validated(
        {
            "target": {"shape": (2, 2), "weight": "diagonalisation", "local_decisions": "weights"},
            "model": {"evaluation": "arrays"},
            "inner": {"sweeps": "one by one"},
        },
        DoubleExchangeRun,
    )
    data = json.loads(settings.model_dump_json(exclude=free | {"scan": True, "frozen": True}))
    del data["target"]["weight"], data["target"]["local_decisions"], data["model"]["evaluation"]
    del data["inner"]["sweeps"], data["inner"]["proposal"], data["measurement"]["keep_every"]
    before = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    assert settings.identity == hashlib.sha256(before.encode()).hexdigest()
