"""When to stop before the end: a signal (a scheduler's time limit, Ctrl-C, a closed terminal) or the wall time."""

import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(Exception):  # noqa: N818 (not an error)
    """A request to stop that arrived in the middle of a block."""


class Stopper:
    """Watches for signals and the wall time while in its context; a second signal does what it did before.

    Signals that are ignored stay so: of a process in the background of a script, or under ``nohup``.
    """

    def __init__(self, wall_time: float | None) -> None:
        self._deadline = None if wall_time is None else time.monotonic() + wall_time
        self._signal: str | None = None
        self._previous: dict[int, object] = {}

    @property
    def signalled(self) -> bool:
        return self._signal is not None

    @property
    def requested(self) -> bool:
        return self.signalled or (self._deadline is not None and time.monotonic() > self._deadline)

    @property
    def reason(self) -> str:
        return self._signal or "the wall time"

    def __enter__(self) -> "Stopper":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
