"""What comes before everything else where slmc is a command: signals and refusals while it starts are one sentence.

Imports nothing of the package and nothing that takes time. Where the package is used as a library it does nothing.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

STOPPED = 75
"""Exit code of a command that was stopped early and can be given again, EX_TEMPFAIL of sysexits.h."""

REFUSED = 2
"""Exit code of a command that was refused."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def begin() -> None:
    """While a command imports the package: signals, and errors of what it imports, end it in one sentence."""
    if is_command():
        _take_signals()
        sys.excepthook = _refuse


def is_command() -> bool:
    """Whether this process is the command, not a program that uses the package."""
    told = [argument for argument in sys.orig_argv[1:4] if not argument.startswith("-X")]
    return Path(sys.argv[0]).name in ("slmc", "slmc.exe") or (
        sys.argv[0] in ("-m", "-c") and "slmc.cli" in "".join(told)
    )


@contextlib.contextmanager
def signals_in_a_sentence() -> Iterator[None]:
    """Signals end the process with one sentence, wherever nothing else waits for them."""
    previous = _take_signals()
    sys.excepthook = sys.__excepthook__
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _take_signals() -> dict[int, object]:
    """Handles all signals that are not ignored; returns what did before."""
    try:
        return {n: signal.signal(n, _end) for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN}
    except ValueError:  # not the main thread
        return {}


def _end(number: int, frame: FrameType | None) -> None:
    """Leaves at once: what is on disk is whole at any moment."""
    text = (
        f"stopped by {signal.Signals(number).name} between two checkpoints; what was measured is kept, and "
        "slmc run --continue goes on with it.\n"
    )
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
    os._exit(STOPPED)


def _refuse(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """An error while the package is imported: what it needs is missing, or refuses its environment."""
    words = " ".join(str(error).split())
    text = (
        f"error: slmc cannot start ({kind.__name__}: {words[:300]}); look at what is installed, and at the environment "
        "variables whose names begin with JAX_ and XLA_.\n"
    )
    with contextlib.suppress(OSError):
        os.write(2, text.encode(errors="replace"))
    os._exit(REFUSED)
