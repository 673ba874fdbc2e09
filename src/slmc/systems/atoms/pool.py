"""Energies and forces of many configurations at once, by calculators in processes of their own."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from slmc.system import UserError, shortened
from slmc.systems.atoms.cell import Cell
from slmc.workers import Crew

Positions = Float[np.ndarray, "configuration atom 3"]

FAILURES = ("raised an error", "took too long", "gave no finite numbers", "ended its process")
"""How an evaluation can fail. Atoms that are too near are no failure: they have weight zero and are never evaluated."""

TOO_NEAR = "atoms too near"
_FIRST = 100
"""Evaluations before which the share of failures is taken as if there had been as many."""

_START = 120.0
"""Seconds that a process has to start in: importing a calculator takes longer than evaluating one."""

_DISPLACED, _SLOPE = 0.01, 0.05
"""Å along the force by which it is compared with energies, and how far they may differ, relative to it."""

_STRETCHED, _OF_KT = 0.01, 0.02
"""Of ln V, by which dU/dV is compared with energies, and of kT an atom how far the two V dU/dV may differ at least."""

_IS_VIRTUAL = sys.prefix != sys.base_prefix
_SCRIPT = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class CalculatorSettings:
    """Which calculator, and how it is used.

    ``name`` is one that ASE knows or an entry point of the group ``slmc.calculators``, ``parameters`` are those of its
    constructor. With ``fresh`` it is made anew for each evaluation, so that an energy is a function of the positions,
    to the bit; without, it may begin where its last evaluation ended, which is faster. An evaluation that raises, gives
    numbers that are not finite, ends its process, or takes more than ``timeout`` seconds has weight zero. More than a
    share ``max_failures`` of them ends the run. ``history_tolerance``, in eV, is how far two energies of one
    configuration may differ by what was evaluated before. ``field`` is what a configuration file calls it. With
    ``breathes`` the volume of the cell changes. ``thermal_energy`` is kT in eV, by which dU/dV is judged.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    n_workers: int = 1
    fresh: bool = True
    timeout: float = 600.0
    max_failures: float = 0.02
    history_tolerance: float = 2.6e-5
    field: str = "target.calculator"
    breathes: bool = False
    thermal_energy: float = 2.6e-2


class Answer(NamedTuple):
    """An evaluation: energy in eV, forces in eV/Å; or what went wrong, one of ``FAILURES``, with the words told.

    ``slope`` is V dU/dV in eV, the atoms going with the cell, where it was asked for.
    """

    energy: float
    forces: np.ndarray
    failure: str = ""
    words: str = ""
    slope: float = 0.0


class Request(NamedTuple):
    """Positions in Å; the factor by which the edges of the cell are longer, and whether dU/dV is wanted."""

    positions: np.ndarray
    scale: float = 1.0
    slope: bool = False


class CalculatorPool:
    """``n_workers`` processes with a calculator each, which share the configurations of a batch.

    They are started with the first evaluation and end with this process. One that hangs or dies is replaced. ``counts``
    tells evaluations and failures by their kinds, ``doubt`` that forces are no derivatives of the energy. May be called
    from several threads at once.

    Raises ``UserError``, in the call that evaluates, for a calculator that cannot be made, whose energy depends on what
    it evaluated before, or that fails too often.
    """

    def __init__(self, cell: Cell, settings: CalculatorSettings) -> None:
        self.cell, self.settings = cell, settings
        self.counts: Counter[str] = Counter()
        self.last_words = self.doubt = ""
        self._lock = threading.Lock()
        self._crew = Crew(partial(_Worker, cell, settings), settings.n_workers)

    def __call__(self, batch: Positions) -> tuple[Float[np.ndarray, " configuration"], Positions]:
        """Energies (+∞ where an evaluation failed or atoms are too near) and forces (zero there)."""
        return self.stretched(batch, np.ones(len(batch)), slopes=False)[:2]

    def stretched(
        self, batch: Positions, scales: Float[np.ndarray, " configuration"], slopes: bool
    ) -> tuple[Float[np.ndarray, " configuration"], Positions, Float[np.ndarray, " configuration"]]:
        """The same in cells whose edges are longer by ``scales``, and V dU/dV in eV if ``slopes`` are wanted."""
        energies, forces, derivatives = np.full(len(batch), np.inf), np.zeros(batch.shape), np.zeros(len(batch))
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = self.cell.are_apart(batch / scales[:, None, None], scales)
        with self._lock:
            self.counts[TOO_NEAR] += int(np.sum(~apart))
        places = np.flatnonzero(apart)
        if len(places):
            requests = [Request(batch[place], float(scales[place]), slopes) for place in places]
            self._crew.start(partial(self._check_function, request=requests[0]))
            answers = self._crew.evaluated(requests)
            self._count(answers)
            for place, answer in zip(places, answers, strict=True):
                if not answer.failure:
                    energies[place], forces[place], derivatives[place] = answer.energy, answer.forces, answer.slope
            self._check_failures()
        return energies, forces, derivatives

    def close(self) -> None:
        """Ends the processes; they are started again when needed."""
        self._crew.close()

    @property
    def n_failures(self) -> int:
        return sum(self.counts[kind] for kind in FAILURES)

    @property
    def remark(self) -> str:
        """A sentence about failures, empty where there were none."""
        kinds = [f"{self.counts[kind]} {kind}" for kind in FAILURES if self.counts[kind]]
        if not kinds:
            return ""
        return (
            f"{self.n_failures} of {self.counts['evaluations']} evaluations by the calculator {self.settings.name!r} "
            f"failed ({', '.join(kinds)}; the last: {self.last_words}); such configurations have weight zero."
        )

    def _check_function(self, worker: Any, request: Request) -> None:
        """Refuses a calculator whose energy is no function of the positions; doubts forces that are not its slope."""
        positions, scale, _ = request
        first = worker.evaluated(request)
        length = np.linalg.norm(first.forces)
        step = _DISPLACED * (first.forces / length if length > 0 else np.ones_like(positions))
        there = [Request(x, scale) for x in (positions + step, positions - step, positions)]
        ahead, behind, again = (worker.evaluated(one) for one in there)
        self.counts["evaluations"] += 4
        if any(answer.failure for answer in (first, ahead, behind, again)):
            return  # failures are dealt with where they are counted
        difference = abs(first.energy - again.energy)
        if not difference <= self.settings.history_tolerance:
            raise UserError(
                f"the calculator {self.settings.name!r} gave two energies, {difference:.1e} eV apart, for one "
                "configuration, before and after another: its energy depends on its history, and is no weight. "
                'Converge it further, or set target.restart = "fresh".'
            )
        slope, expected = behind.energy - ahead.energy, 2 * _DISPLACED * length
        if abs(slope - expected) > _SLOPE * expected + 10 * self.settings.history_tolerance:
            self.doubt = (
                f"the forces of the calculator {self.settings.name!r} are not the derivatives of its energy: along "
                f"them it falls by {slope:.4g} eV where {expected:.4g} eV are expected. Averages are those of the "
                "energy all the same; trajectories and the model that is trained on the forces are poor."
            )
        if self.settings.breathes:
            self._check_slope(worker, request)

    def _check_slope(self, worker: Any, request: Request) -> None:
        """Doubts a pressure that is not the derivative of the energy."""
        larger, smaller = (
            Request(factor * request.positions, factor * request.scale)
            for factor in (np.exp(_STRETCHED / 6), np.exp(-_STRETCHED / 6))
        )
        told, above, below = (worker.evaluated(one) for one in (request._replace(slope=True), larger, smaller))
        self.counts["evaluations"] += 3
        if any(answer.failure for answer in (told, above, below)):
            return
        slope = (above.energy - below.energy) / _STRETCHED
        allowed = _SLOPE * abs(slope) + _OF_KT * self.cell.n_atoms * self.settings.thermal_energy
        if abs(told.slope - slope) > allowed:
            self.doubt = (
                f"the pressure of the calculator {self.settings.name!r} is not the derivative of its energy: V dU/dV "
                f"is {told.slope:.4g} eV by its stress, {slope:.4g} eV by its energy. A pair potential whose cut-off "
                "is not shifted does so (in LAMMPS: pair_modify shift yes). The averages of this run are those of the "
                "energy; other codes at constant pressure follow the stress and find another density."
            )

    def _count(self, answers: Iterable[Answer]) -> None:
        with self._lock:
            for answer in answers:
                self.counts["evaluations"] += 1
                if answer.failure:
                    self.counts[answer.failure] += 1
                    self.last_words = answer.words

    def _check_failures(self) -> None:
        n_evaluations = self.counts["evaluations"]
        if self.n_failures > self.settings.max_failures * max(n_evaluations, _FIRST):
            raise UserError(
                f"the calculator {self.settings.name!r} failed in {self.n_failures} of {n_evaluations} evaluations, "
                f"more than target.max_failures = {self.settings.max_failures:g} allows (the last: "
                f"{self.last_words}); check its parameters, or allow more."
            )


# Libraries that packages bring along, MPI for instance, lie in the environment of Python itself.
_LIBRARIES = {
    "LD_LIBRARY_PATH": os.pathsep.join(
        filter(None, (os.environ.get("LD_LIBRARY_PATH"), str(Path(sys.prefix, "lib")) if _IS_VIRTUAL else ""))
    )
}


class _Worker:
    """One process with its calculator."""

    def __init__(self, cell: Cell, settings: CalculatorSettings) -> None:
        self.settings, self._n_atoms = settings, len(cell.numbers)
        single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**single, **os.environ, **_LIBRARIES},
            # Signals that ask a run to stop go to all processes of a group; a calculator finishes what it is doing.
            start_new_session=True,
        )
        described = {
            "calculator": settings.name,
            "parameters": settings.parameters,
            "numbers": [int(number) for number in cell.numbers],
            "cell": np.asarray(cell.vectors).tolist() if cell.is_periodic else None,
            "pbc": cell.is_periodic,
            "fresh": settings.fresh,
            "breathes": settings.breathes,
        }
        self._send(json.dumps(described).encode() + b"\n")
        self._has_started = False
        self.is_alive = True

    def evaluated(self, request: Request) -> Answer:
        """Never raises but for a calculator that cannot be made."""
        if not self._has_started:
            self._wait_for_start()
        numbers = np.ascontiguousarray(request.positions, np.float64).ravel()
        if self.settings.breathes:
            numbers = np.append(numbers, [request.scale, float(request.slope)])
        self._send(numbers.tobytes())
        read = self._read(time.monotonic() + self.settings.timeout)
        if isinstance(read, str):
            self.is_alive = False
            words = f"{self.settings.timeout:g} s" if read == FAILURES[1] else "the process is gone"
            return self._failed(read, words)
        head, content = read
        if "error" in head:
            return self._failed(FAILURES[0], head["error"])
        forces = np.frombuffer(content).reshape(-1, 3)
        slope = head.get("slope", 0.0)
        if not (np.isfinite(head["energy"]) and np.isfinite(slope) and np.all(np.isfinite(forces))):
            return self._failed(FAILURES[2], f"energy {head['energy']}")
        return Answer(head["energy"], forces, slope=slope)

    def end(self) -> None:
        """Ends the process."""
        self.is_alive = False
        # Programs that it keeps alive are of its group, and go with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def _failed(self, failure: str, words: str) -> Answer:
        return Answer(np.inf, np.zeros((self._n_atoms, 3)), failure, shortened(words, 200))

    def _wait_for_start(self) -> None:
        read = self._read(time.monotonic() + _START, with_content=False)
        self._has_started = True
        if isinstance(read, str) or "error" in read[0]:
            words = f"it {read}" if isinstance(read, str) else shortened(read[0]["error"], 300)
            raise UserError(f"{self.settings.field} = {self.settings.name!r} cannot be used: {words}.")

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        # A process that is gone is noticed where its answer is awaited.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(content)
            self._process.stdin.flush()

    def _read(self, until: float, with_content: bool = True) -> tuple[dict[str, Any], bytes] | str:
        """The next answer; the kind of failure if none comes."""
        assert self._process.stdout is not None
        descriptor, buffer = self._process.stdout.fileno(), bytearray()
        while True:
            head, newline, content = bytes(buffer).partition(b"\n")
            if newline:
                told = json.loads(head)
                if "error" in told or not with_content or len(content) == 24 * self._n_atoms:
                    return told, content
            if not select.select([descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
                return FAILURES[1]
            read = os.read(descriptor, 1 << 20)
            if not read:
                return FAILURES[3]
            buffer += read
