"""The command line in a process of its own, with reports whose figures are composed and not drawn.

    python tests/undrawn.py run NAME …

Drawing takes most of the time of a small run. That figures can be drawn is tested in ``tests/report``.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, str(Path(__file__).resolve())]
"""Begins a command line of ``slmc``."""

STOP = "SLMC_TESTS_STOP"
"""Variable of the environment: a signal, and the path of a checkpoint in whose next block it comes."""


@functools.cache
def figure() -> type:
    """A figure that is saved as an empty picture."""
    from matplotlib.figure import Figure

    class Undrawn(Figure):
        def savefig(self, stream: Any, **_: Any) -> None:
            stream.write('<svg width="1pt" height="1pt"></svg>')

    return Undrawn


def without_drawings(write: Callable[..., Any]) -> Callable[..., Any]:
    """What writes a report, made to draw no figures. Matplotlib is imported when the first is written, as before."""

    def written(*arguments: Any) -> Any:
        from slmc.report import drawing

        drawing.Figure = figure()
        return write(*arguments)

    return written


def sends_itself(signal: int, checkpoint: Path) -> None:
    """Lets the process send itself a signal once a block is computed that comes after a checkpoint, before its own."""
    from slmc.simulation.checkpoint import Checkpoints

    save = Checkpoints.save
    waiting = [signal]

    def saved(self: Checkpoints, number: int, *rest: Any) -> None:
        is_here = self.directory.absolute() == checkpoint.parent.absolute()
        if waiting and is_here and number > int(checkpoint.name):
            os.kill(os.getpid(), waiting.pop())
        save(self, number, *rest)

    Checkpoints.save = saved  # type: ignore[method-assign]


if __name__ == "__main__":
    import caches

    caches.compile_loops_once()

    import slmc.cli
    from slmc import runs

    if STOP in os.environ:
        number, path = os.environ[STOP].split(" ", 1)
        sends_itself(int(number), Path(path))
    runs._write_report = without_drawings(runs._write_report)
    slmc.cli.main()
