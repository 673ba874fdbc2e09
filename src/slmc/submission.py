"""A run or a scan on many machines: a job array whose tasks share the points, written as a script or carried out here.

Paths are all that is passed. Every task says ``slmc resume DIR`` and takes points that no other is working on; one that
meets its time limit leaves a checkpoint, exits with 75 and is put into the queue again.
"""

import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

from slmc.starting import STOPPED
from slmc.system import UserError

SCRIPT = "submit.sh"
"""The job script in the directory of a run."""

_TOLD_BEFORE, _SHORTEST = 120, 300
"""Seconds before its time limit at which a task is told, and the shortest limit: tasks that are told as soon as they
begin would be put into the queue again for ever."""

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<numbers>\d+(?::\d+){0,2})")


def slurm_script(directory: Path, n_jobs: int, time: str, cores: int, options: tuple[str, ...] = ()) -> str:
    """An sbatch script: ``n_jobs`` tasks with so many cores and a time limit each; ``options`` are lines for sbatch.

    Raises ``UserError`` for an option on more than one line.
    """
    if any("\n" in option for option in options):
        raise UserError("an option of sbatch is one line, for instance --partition=long.")
    lines = [
        f"--job-name=slmc-{_word(directory.name)}",
        f"--array=0-{n_jobs - 1}",
        f"--cpus-per-task={cores}",
        f"--time={time}",
        "--requeue",
        # Two minutes are enough for a block and a checkpoint of most runs; longer blocks want more.
        f"--signal=B:TERM@{_TOLD_BEFORE}",
        f"--output={_word(directory.name)}-%A_%a.out",
        *options,
    ]
    command = " ".join(map(shlex.quote, resume_command(directory.absolute())))
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in lines),
            "",
            "# The batch shell is told of the time limit, and passes it on; slmc leaves a checkpoint and exits with "
            f"{STOPPED}.",
            f"{command} &",
            "task=$!",
            "trap 'kill -TERM $task' TERM",
            "wait $task; code=$?",
            "while kill -0 $task 2>/dev/null; do wait $task; code=$?; done",
            f'if [ $code -eq {STOPPED} ]; then scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"; fi',
            "exit $code",
            "",
        ]
    )


def check_time(limit: str) -> None:
    """Raises ``UserError`` for a time limit that Slurm would not understand, or that leaves a task no time to work."""
    seconds = _seconds(limit)
    if seconds is None:
        raise UserError(
            f"--time {limit!r:.40} is no time limit; write minutes, hours:minutes:seconds or "
            "days-hours:minutes:seconds, as for Slurm."
        )
    if seconds < _SHORTEST:
        raise UserError(
            f"--time {limit} is too short: a task is told {_TOLD_BEFORE // 60} minutes before its limit to leave a "
            f"checkpoint; give at least {_SHORTEST // 60} minutes."
        )


def _seconds(limit: str) -> float | None:
    """Of a time limit as Slurm writes it: minutes[:seconds], hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
    if limit.lower() in ("infinite", "unlimited"):
        return math.inf
    known = _TIME.fullmatch(limit)
    if known is None:
        return None
    numbers = [int(number) for number in known["numbers"].split(":")]
    if known["days"] is not None:
        units = (3600, 60, 1)
    else:
        units = (3600, 60, 1) if len(numbers) == 3 else (60, 1, 0)
    days = int(known["days"] or 0)
    return 86400 * days + sum(unit * number for unit, number in zip(units, numbers, strict=False))


def resume_command(directory: Path) -> list[str]:
    """What every task runs: one point that fails is not tried by each of them."""
    return [sys.executable, "-m", "slmc.cli", "resume", "--quiet", "--skip-failed", str(directory)]


def carried_out_here(directory: Path, n_jobs: int) -> int:
    """Runs ``n_jobs`` tasks on this machine and waits for them; the largest of their exit codes."""
    tasks = [subprocess.Popen(resume_command(directory)) for _ in range(n_jobs)]
    return max(task.wait() for task in tasks)


def sent_to_slurm(script: Path) -> str:
    """What sbatch says of a script. Raises ``UserError`` where there is no sbatch, or it refuses."""
    try:
        told = subprocess.run(["sbatch", str(script)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(f"there is no sbatch on this machine; submit {script} where there is one.") from None
    if told.returncode:
        raise UserError(f"sbatch refused {script}: {' '.join(told.stderr.split())[:300].rstrip('.')}.")
    return told.stdout.strip()


def _word(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_.=," else "_" for sign in name)[:60]
