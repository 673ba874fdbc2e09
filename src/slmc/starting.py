"""What comes before everything else where slmc is a command: signals and refusals while it starts are one sentence.

Imports nothing of the package and nothing that takes time. Where the package is used as a library it does nothing.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

STOPPED = 75
"""Exit code of a command that was stopped early and can be given again, EX_TEMPFAIL of sysexits.h."""

REFUSED = 2
"""Exit code of a command that was refused."""

_TRUTH_VALUES = ("y", "yes", "t", "true", "on", "1", "n", "no", "f", "false", "off", "0", "")

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


def configure_jax() -> None:
    """float64, and one CPU device per core that this process may use, unless their number is set already; at least two.

    Two on a single core too, and where JAX_NUM_CPU_DEVICES asks for one, because the bits of a run are the same on any
    number of devices but one. Said in the environment, which JAX reads when it is imported; where it has been imported
    already it is told, and the devices come too late where it has been used (see ``devices.is_confined``).
    """
    if not find_spec("jax_plugins") or os.environ.get("JAX_PLATFORMS") == "cpu":
        # NetKet would divide its samples among the devices, which on the cores of one processor gains nothing.
        os.environ.setdefault("NETKET_SHARDING", "0")
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "jax" not in sys.modules:
        asked = os.environ.get("JAX_NUM_CPU_DEVICES", "")
        if asked not in ("", "-1") and not asked.isdecimal():
            raise ValueError(f"the environment variable JAX_NUM_CPU_DEVICES must be a whole number; got {asked[:60]!r}")
        os.environ["JAX_NUM_CPU_DEVICES"] = str(max(2, n_cores if asked in ("", "-1") else int(asked)))
        if (given := os.environ.get("JAX_ENABLE_X64", "true")).lower() not in _TRUTH_VALUES:
            raise ValueError(f"the environment variable JAX_ENABLE_X64 must be true or false; got {given[:60]!r}")
        os.environ["JAX_ENABLE_X64"] = "true"
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    chosen = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    with contextlib.suppress(RuntimeError):  # JAX has been used already.
        jax.config.update("jax_num_cpu_devices", max(2, n_cores if chosen in (None, -1) else chosen))


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


def refuse(error: Exception) -> None:
    """Ends a command of which a part cannot be imported."""
    _refuse(type(error), error, None)


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
