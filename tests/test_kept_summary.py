"""Summaries that are kept beside finished runs count while no file of them changes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slmc.kept_summary import SUMMARY, keep_summary, kept_summary
from slmc.simulation.directory import claimed

FOUND = {"phase": "done", "verdict": "ok", "value": 0.1 + 0.2, "unknown": None}


@pytest.fixture(params=["a run", "a point of a scan"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The directory of a run, with a summary that was kept."""
    directory = tmp_path / "scan" / "T=1.0"
    of_scan = request.param == "a point of a scan"
    records = directory.parent / "records.zarr" / "T=1.0" if of_scan else directory / "records.zarr"
    for name in (directory / "config.toml", directory / "checkpoints" / "1" / "a", records / "energy" / "c" / "0"):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(name.name)
    keep_summary(directory, FOUND)
    assert kept_summary(directory) == FOUND
    return directory


def of_records(run: Path) -> Path:
    return next(run.parent.rglob("c/0"))


@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "config.toml").write_text("config.tomL"),
        lambda run: of_records(run).write_text("1"),
        lambda run: of_records(run).with_name("1").write_text("1"),
        lambda run: of_records(run).unlink(),
        lambda run: shutil.rmtree(run / "checkpoints"),
        lambda run: (run / SUMMARY).write_text((run / SUMMARY).read_text().replace('"ok"', '"no"')),
        lambda run: (run / SUMMARY).write_text("[]"),
        lambda run: (run / SUMMARY).write_text('{"files": "", "summary": {}, "crc32": 0}'),
        lambda run: (run / SUMMARY).unlink(),
    ],
)
def test_it_does_not_count_once_a_file_has_changed(run: Path, change: Callable[[Path], object]) -> None:
    change(run)
    assert kept_summary(run) is None


def test_it_counts_where_the_run_is_copied_to_and_reports_are_no_part_of_it(run: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "scan", tmp_path / "copy")
    (tmp_path / "copy" / "T=1.0" / "report.html").write_text("new")
    assert kept_summary(tmp_path / "copy" / "T=1.0") == FOUND


def test_none_is_kept_of_runs_that_go_on(run: Path) -> None:
    (run / SUMMARY).unlink()
    keep_summary(run, {**FOUND, "phase": "measure"})
    assert kept_summary(run) is None
    with claimed(run) as ours:
        assert ours
        keep_summary(run, FOUND)
    assert not (run / SUMMARY).exists()
    (run / SUMMARY).write_text(json.dumps(FOUND))
    assert kept_summary(run) is None
