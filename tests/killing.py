"""Processes that are stopped where a test wants it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import jax

from undrawn import COMMAND


def stopped_at(
    marker: Path, *arguments: str | Path, by: signal.Signals = signal.SIGKILL, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Starts the command line in a process of its own and sends it a signal once a file exists; exit code and output.

    The file is a checkpoint, named by its number, or a later one: only the last few are kept.

    The process has as many devices as this one, so that bits can be compared with those of runs in this process.
    """
    command = [*COMMAND, *map(str, arguments)]
    given = os.environ if environment is None else environment
    given = {"JAX_NUM_CPU_DEVICES": str(len(jax.devices("cpu"))), **given}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=given) as process:
        while process.poll() is None and not _is_reached(marker):
            time.sleep(0.002)
        process.send_signal(by)
        output, _ = process.communicate()
    return process.returncode, output


def _is_reached(marker: Path) -> bool:
    try:
        names = [path.name for path in marker.parent.iterdir()]
    except FileNotFoundError:
        return False
    return any(name.isdigit() and name >= marker.name for name in names)
