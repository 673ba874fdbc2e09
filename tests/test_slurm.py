"""A scan on a real Slurm: of its tasks one meets its time limit, one is killed, and one point is wrong."""

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slmc import submission
from undrawn import COMMAND

DAEMONS = ("sbatch", "scontrol", "slurmctld", "slurmd", "munged")
SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "slurm"
PATIENCE = 240
"""Seconds, at most, for whatever Slurm is to do; the time limit is looked at every half minute."""

WRONG = "T=0.28,J=1e+300"
SCAN = """
system = "double_exchange"
[scan]
points = "list"
start = "none"
[scan.fields]
"target.temperature" = { start = 0.2, stop = 0.31, n = 12 }
"target.coupling" = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1e300, 1.8, 1.9, 2.0]
[target]
shape = [2, 2]
[exact]
n_steps = 2
tuning_steps = 10
[model]
name = "linear"
[inner]
update = "heat-bath"
n_updates = 2
[thermalisation]
n_steps = 10
[learning]
n_rounds = 1
n_steps = 20
training_steps = 0
[measurement]
n_chains = 4
n_steps = 40
block_size = 20
n_thermalise = 10
"""

Slmc = Callable[..., tuple[int, str, str]]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Slurm on this machine, of which clients know by the environment."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    missing = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    # Sockets have short paths, shorter than those of the folders of tests.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        begun = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True)
        try:
            if begun.returncode:
                pytest.skip(f"Slurm does not start here: {begun.stderr[-300:]}")
            monkeypatch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
            yield
        finally:
            subprocess.run([SCRIPT, "stop", folder], check=False)


def test_a_scan_goes_through_whatever_befalls_its_tasks(
    slmc: Slmc, slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is that of one process, to the bit, with the wrong point named in both.

    The task that meets its time limit is kept waiting in the middle of a point until Slurm has told it.
    """
    config, alone, shared = tmp_path / "scan.toml", tmp_path / "alone", tmp_path / "shared"
    config.write_text(SCAN)
    serial = subprocess.run([*COMMAND, "run", config, "--out", alone, "-q"], capture_output=True, text=True)
    assert serial.returncode == 2
    assert "1 of 12 points failed, T = 0.28, J = 1e+300" in " ".join(serial.stderr.split())

    def undrawn_resume(directory: Path) -> list[str]:
        return [*COMMAND, *submission_resume(directory)[3:]]

    submission_resume = submission.resume_command
    monkeypatch.setattr(submission, "resume_command", undrawn_resume)
    monkeypatch.chdir(tmp_path)
    options = ("--out", shared, "--jobs=3", "--cores=1", "--time=00:20:00")
    code, out, err = slmc("submit", config, *options)
    assert (code, err) == (0, "")
    job = out.split()[-1]

    late = working(job, 0, shared)
    os.kill(late, signal.SIGSTOP)
    told = subprocess.run(["scontrol", "update", f"jobid={job}_0", "timelimit=1"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    os.kill(working(job, 1, shared), signal.SIGKILL)
    waited_for(lambda: is_told(late), "the time limit")
    os.kill(late, signal.SIGCONT)
    waited_for(lambda: state_of(job, 0)["Restarts"] == "1", "the task to be put into the queue again")
    subprocess.run(["scontrol", "update", f"jobid={job}_0", "timelimit=20"], check=True)
    waited_for(lambda: all(state_of(job, task)["JobState"] in ("COMPLETED", "FAILED") for task in range(3)), "the end")

    # Told by its own exit code: by Slurm's own signal, that of a point that is wrong, and again of that one.
    assert [state_of(job, task)["ExitCode"] for task in range(3)] == ["2:0", "137:0", "2:0"]
    logs = sorted(tmp_path.glob("shared-*.out"))
    assert any("T = 0.28, J = 1e+300" in " ".join(log.read_text().split()) for log in logs)
    lines = repeated(slmc("table", shared)[1])
    assert lines == repeated((alone / "table.csv").read_text())
    assert len(lines) == 12
    assert [line["coupling"] for line in lines if line["verdict"].startswith("failed: ")] == ["1e+300"]
    assert (shared / WRONG / "failure.txt").exists()


def repeated(table: str) -> list[dict[str, str]]:
    """The lines of a table, without times, which do not repeat."""
    lines = list(csv.DictReader(table.splitlines()))
    return [{name: cell for name, cell in line.items() if name != "ess_per_second"} for line in lines]


def working(job: str, task: int, scan: Path) -> int:
    """The process of a task, once it is in the middle of a point."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in processes_of(job, task) if any(holds(pid, lock) for lock in scan.glob("*/.lock"))]
        return bool(found)

    waited_for(is_there, f"task {task} to begin")
    return found[0]


def processes_of(job: str, task: int) -> list[int]:
    """Those of Python that a task of a job array has started."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not folder.name.isdecimal() or b"resume" not in (folder / "cmdline").read_bytes().split(b"\0"):
                continue
            about = (folder / "environ").read_bytes().split(b"\0")
            if {f"SLURM_ARRAY_JOB_ID={job}".encode(), f"SLURM_ARRAY_TASK_ID={task}".encode()} <= set(about):
                found.append(int(folder.name))
    return found


def holds(pid: int, lock: Path) -> bool:
    """Whether a process has claimed a point, and begun it."""
    with contextlib.suppress(OSError):
        opened = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        return str(lock) in opened and (lock.parent / "progress.json").exists()
    return False


def is_told(pid: int) -> bool:
    """Whether SIGTERM waits for a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    waiting = next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd"))
    return bool(waiting >> (signal.SIGTERM - 1) & 1)


def state_of(job: str, task: int) -> dict[str, str]:
    """What Slurm says of a task."""
    said = subprocess.run(["scontrol", "show", "job", "-o", f"{job}_{task}"], capture_output=True, text=True).stdout
    return {"JobState": "", "Restarts": "", "ExitCode": ""} | dict(
        part.split("=", 1) for part in said.split() if "=" in part
    )


def waited_for(condition: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {words}"
        time.sleep(0.1)
