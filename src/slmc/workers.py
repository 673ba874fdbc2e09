"""Processes that work for this one, several at a time; one that hangs or dies is replaced.

``Crew`` hands requests to idle workers and starts another where one has died. What a worker is, who uses it says:
``FunctionProcess`` calls a function of Python in a process of its own, started anew and never forked from one that runs
JAX, for functions that hold the interpreter.
"""

import atexit
import contextlib
import multiprocessing
import signal
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

ENDED, HUNG, RAISED = "ended its process", "took too long", "raised an error"
"""How a request can fail, in words."""

_START = 120.0
"""Seconds, beside the time of an evaluation, in which a process must have begun: it imports what the function needs."""

Answer = TypeVar("Answer", covariant=True)


@runtime_checkable
class Worker(Protocol[Answer]):
    """One process. ``evaluated`` never raises for what a request can do; it says in ``is_alive`` whether it goes on."""

    is_alive: bool

    def evaluated(self, request: Any) -> Answer: ...
    def end(self) -> None: ...


class Crew(Generic[Answer]):
    """``n_workers`` workers made by ``make``, which share the requests of a call.

    They are started with the first call and end with this process. Calls may come from several threads at once.
    """

    def __init__(self, make: Callable[[], Worker[Answer]], n_workers: int) -> None:
        self._make, self._n_workers = make, n_workers
        self._idle: Queue[Worker[Answer]] = Queue()
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._all: list[Worker[Answer]] = []
        self._finalizer = weakref.finalize(self, _end_all, self._all)
        atexit.register(self._finalizer)

    def start(self, check: Callable[[Worker[Answer]], None] | None = None) -> None:
        """Starts the workers, unless they are at work already; ``check`` may try one of them first."""
        with self._lock:
            if self._threads is not None:
                return
            for _ in range(self._n_workers):
                self._idle.put(self._new())
            if check is not None:
                worker = self._idle.get()
                try:
                    check(worker)
                finally:
                    self._idle.put(worker)
            self._threads = ThreadPoolExecutor(self._n_workers)

    def evaluated(self, requests: Sequence[Any]) -> list[Answer]:
        """The answers, in the order of the requests."""
        self.start()
        assert self._threads is not None
        return list(self._threads.map(self._evaluated, requests))

    def close(self) -> None:
        """Ends the workers; they are started again when needed."""
        with self._lock:
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads, self._idle = None, Queue()
            _end_all(self._all)

    def _new(self) -> Worker[Answer]:
        worker = self._make()
        self._all.append(worker)
        return worker

    def _evaluated(self, request: Any) -> Answer:
        idle = self._idle
        worker = idle.get()
        try:
            return worker.evaluated(request)
        finally:
            if not worker.is_alive:
                with self._lock:
                    if worker in self._all:
                        self._all.remove(worker)
                    worker.end()
                    worker = self._new()
            idle.put(worker)


class Called(NamedTuple):
    """What a function returned, or what went wrong, one of the words above, and what was told of it."""

    result: Any
    failure: str = ""
    words: str = ""


class FunctionProcess:
    """A process that calls ``functions[request[0]](*request[1:])`` for every request.

    The functions must be found by name in a module, or in the script that is run: the process imports it anew. A
    script keeps what it does itself under ``if __name__ == "__main__":``.
    """

    def __init__(self, functions: dict[str, Callable[..., Any]], timeout: float) -> None:
        # Not forked: threads of JAX would be left in the middle of what they did. What goes through the pipe is between
        # two processes of one program; nothing is ever read from a file so.
        context = multiprocessing.get_context("spawn")
        self._timeout, self._patience = timeout, timeout + _START
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(functions, other), daemon=True)
        self.is_alive = True
        try:
            self._process.start()
        except Exception as error:  # a function that no other process can find
            self.is_alive, self._refused = False, f"{type(error).__name__}: {error}"
        else:
            self._refused = ""
        other.close()

    def evaluated(self, request: Any) -> Called:
        if self._refused:
            return Called(None, ENDED, self._refused)
        try:
            self._connection.send(request)
            if not self._connection.poll(self._patience):
                self.is_alive = False
                return Called(None, HUNG, f"{self._timeout:g} s")
            self._patience = self._timeout
            return Called(*self._connection.recv())
        except (EOFError, OSError):
            self.is_alive = False
            return Called(
                None,
                ENDED,
                "functions for processes belong in a module, or in a script whose own work "
                'stands under if __name__ == "__main__"',
            )

    def end(self) -> None:
        """Ends the process."""
        self.is_alive = False
        with contextlib.suppress(OSError):
            self._connection.close()
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


def _serve(functions: dict[str, Callable[..., Any]], connection: Any) -> None:
    """Answers until the other end closes. Signals that ask a run to stop go to all processes of a group; a function
    finishes what it is doing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            name, *arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = Called(functions[name](*arguments))
        except Exception as error:
            answer = Called(None, RAISED, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        with contextlib.suppress(BrokenPipeError):
            connection.send(tuple(answer))


def _end_all(workers: list[Any]) -> None:
    while workers:
        workers.pop().end()
