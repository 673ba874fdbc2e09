"""CPU seconds until something is there: ``import slmc``, the command's help, a look at a run, a scan of many points.

    python benchmarks/start.py

Writes ``benchmarks/results/start.json`` and, from it, ``docs/results/start.md``. The points of the scan are copies of
one small run, each with settings, records, checkpoints and a model of its own, as the run would have left them.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from command import main
from result_file import ResultFile, table

import slmc
from slmc import runs
from slmc.kept_summary import SUMMARY, keep_summary, kept_summary
from slmc.simulation import CHECKPOINTS, CONFIG, Checkpoints, Records, points_of, records_path, write_whole


class Settings(NamedTuple):
    """How many points, and how often each command is tried."""

    n_points: int = 1000
    repeats: int = 5


QUICK = Settings(3, 1)

SMALL = {
    "target.shape": (2, 2),
    "target.coupling": 2.0,
    "exact": {"n_steps": 2, "tuning_steps": 10},
    "thermalisation.n_steps": 10,
    "model.name": "linear",
    "inner": {"update": "heat-bath", "n_updates": 2},
    "learning": {"n_rounds": 1, "n_steps": 20, "training_steps": 0},
    "measurement": {"n_chains": 4, "n_steps": 100, "block_size": 50, "n_thermalise": 0},
    "baseline.n_steps": 0,
}


def cpu_of(command: list[str], repeats: int) -> float:
    """The least user and system time of a process, of several."""
    best = float("inf")
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def commands(settings: Settings) -> dict[str, Any]:
    """Processes of their own, and a look at a run that is complete."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        runs.run("double_exchange_small", SMALL, out=directory, quiet=True)
        cli = [sys.executable, "-m", "slmc.cli"]
        named = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import slmc": [sys.executable, "-c", "import slmc"],
            "slmc --help": [*cli, "--help"],
            "slmc info": [*cli, "info", str(directory)],
        }
        return {name: cpu_of(command, settings.repeats) for name, command in named.items()}


def gathering(settings: Settings) -> dict[str, Any]:
    """The table of all points by the command line, and a look at one point, whose summary is kept or not."""
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan"
        fill(scan, settings.n_points)
        cli = [sys.executable, "-m", "slmc.cli"]
        started = time.perf_counter()
        gathered = cpu_of([*cli, "table", str(scan), "--out", str(scan / "all.csv")], 1)
        seconds = time.perf_counter() - started
        lines = (scan / "all.csv").read_text().splitlines()
        assert len(lines) == settings.n_points + 1
        first, *others = sorted(scan.glob("T=*"))[: settings.repeats + 1]
        one = cpu_of([*cli, "info", str(first)], settings.repeats)
        slmc.info(first)
        opened = []
        for path in others or [first]:
            (path / SUMMARY).unlink(missing_ok=True)
            before = time.process_time()
            slmc.info(path)
            opened.append(time.process_time() - before)
    return {
        "points": settings.n_points,
        "table": gathered,
        "table, wall": seconds,
        "slmc info of a point": one,
        "slmc.info of a point, nothing kept": min(opened),
    }


def fill(scan: Path, n_points: int) -> None:
    """A scan whose points are all finished: the first is carried out, the others are made from it."""
    fields = {"target.temperature": {"start": 0.1, "stop": 1.0, "n": n_points}}
    opened = runs.begin("double_exchange_small", {**SMALL, "scan": {"fields": fields, "start": "none"}}, scan)
    assert isinstance(opened, runs.Run)
    first, *others = points_of(scan, opened.settings)
    single = {"target.temperature": [first.fields["target.temperature"]]}
    one = scan.with_name("one")
    runs.run("double_exchange_small", {**SMALL, "scan": {"fields": single, "start": "none"}}, out=one, quiet=True)
    (scan / "records.zarr").mkdir()
    shutil.copytree(one / first.directory.name, first.directory)
    shutil.copytree(one / "records.zarr" / first.directory.name, records_path(first.directory))
    about = json.loads((one / "records.zarr" / "zarr.json").read_text())
    about["attributes"] |= {"identity": opened.settings.identity, "settings": opened.settings.model_dump_json()}
    (scan / "records.zarr" / "zarr.json").write_text(json.dumps(about))
    job = runs._job(runs._run_of(first), runs.Reporter(quiet=True))
    stored = Checkpoints(first.directory / CHECKPOINTS, None, "").restore(job.new_state())
    assert stored is not None
    (state, marks), summary = stored, kept_summary(first.directory)
    assert summary is not None
    for point in others:
        shutil.copytree(first.directory, point.directory, ignore=shutil.ignore_patterns(CHECKPOINTS, SUMMARY))
        shutil.copytree(records_path(first.directory), records_path(point.directory))
        write_whole(point.directory / CONFIG, point.text)
        about = records_path(point.directory) / "zarr.json"
        text = json.loads(about.read_text())
        text["attributes"] |= {"identity": point.settings.identity, "settings": point.settings.model_dump_json()}
        about.write_text(json.dumps(text))
        forms = Records(records_path(point.directory), read_only=True).forms()
        checkpoints = Checkpoints(point.directory / CHECKPOINTS, point.settings.identity, "")
        checkpoints.save(int(state.number), state, marks._replace(forms=forms))
        keep_summary(point.directory, summary)


def make_all(results: ResultFile, settings: Settings) -> None:
    results.make("commands", commands, settings)
    results.make("gathering", gathering, settings)


def write(results: ResultFile, settings: Settings) -> None:
    rows, gathered = results.rows["commands"], results.rows["gathering"]
    lines = [(f"`{name}`", f"{seconds:.2f}") for name, seconds in rows.items()]
    n_points = gathered["points"]
    lines += [
        (f"`slmc table` of {n_points} finished points", f"{gathered['table']:.1f}"),
        ("`slmc info` of one of them", f"{gathered['slmc info of a point']:.2f}"),
        ("`slmc.info(point)`, everything read and checked", f"{gathered['slmc.info of a point, nothing kept']:.2f}"),
    ]
    page = PAGE.format(provenance=results.provenance(), table=table(("", "CPU seconds"), lines))
    (results.page_folder / "start.md").write_text(page)


PAGE = """# How long it takes to start

{provenance}

User and system time of processes of their own, the least of several tries, but for the table, which is made once.

{table}

Every finished run and every finished point of a scan keeps its summary in `summary.json`, which counts as long as no
file of the run has changed since. Where it does not, records and checkpoint are read, with all their checksums.
"""


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": make_all}, write)
