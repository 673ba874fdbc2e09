"""The one loop under every run: phases made of blocks, resumable to the bit.

A block is a function of the state before it; after each, records have been appended, and a checkpoint is written.
Whatever a crash leaves behind the last checkpoint is cut off on resuming and computed again, with the same bits.
"""

import contextlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from slmc.devices import forget_failed_programs
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.clock import Clock
from slmc.simulation.progress import Reporter
from slmc.simulation.records import Records
from slmc.simulation.stopping import Stopped, Stopper
from slmc.system import UserError, sentence_of


class Phase(NamedTuple):
    """A phase of a run. Its number stands in checkpoints and in random keys and never changes, wherever it comes."""

    name: str
    number: int


class Files(NamedTuple):
    """What a run has on disk, and whom it tells."""

    directory: Path
    records: Records
    checkpoints: Checkpoints
    clock: Clock
    reporter: Reporter


@runtime_checkable
class Job(Protocol):
    """What the loop needs of a run that samples, or that optimises.

    Its state is a named tuple with the fields ``phase`` (a number), ``block`` (blocks done in it) and ``number``
    (blocks done in all), whose leaves are arrays. The last of ``phases`` says that it is complete.
    """

    @property
    def files(self) -> Files: ...
    @property
    def phases(self) -> tuple[Phase, ...]: ...
    @property
    def wall_time(self) -> float | None: ...

    def new_state(self) -> Any:
        """The state before the first block."""

    def begin(self, state: Any) -> Any:
        """What comes before the first block of a run that is not continued."""

    def go_on(self, state: Any, lengths: dict[str, int]) -> Any:
        """What comes before the first block after an interruption; ``lengths`` are those of the records."""

    def n_blocks(self, state: Any) -> int:
        """Blocks of the phase."""

    def advance(self, state: Any, stopper: Stopper) -> Any:
        """One block. Raises ``Stopped`` if it gives up in the middle because it was asked to."""

    def is_sound(self, state: Any) -> bool:
        """Whether a checkpoint may be written: if not, the run goes on even when it is asked to stop."""

    def about(self, state: Any) -> dict[str, Any]:
        """What is told of the state beside the records."""


def run_blocks(job: Job) -> bool:
    """Starts a run or continues it from its last checkpoint; whether it is complete.

    It returns early, with a checkpoint written, if told to stop by a signal or the wall time. Raises ``UserError`` for
    a damaged checkpoint, and where a compiled program gives up (conjugate gradients that do not converge); the last
    checkpoint then stands.
    """
    try:
        return _run_blocks(job)
    except RuntimeError as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        forget_failed_programs()
        raise UserError(
            f"{sentence.rstrip('.')}; what was recorded is kept, and slmc resume {job.files.directory} goes on from "
            "the last checkpoint."
        ) from None


def _run_blocks(job: Job) -> bool:
    files, state = job.files, _first_state(job)
    _announce(job, state)
    with contextlib.closing(files.reporter), Stopper(job.wall_time) as stopper:
        while not _is_complete(job, state):
            before = int(state.phase)
            try:
                state = job.advance(state, stopper)
            except Stopped:
                break
            state = state._replace(number=np.asarray(int(state.number) + 1))
            sound = job.is_sound(state)
            if sound:
                files.checkpoints.save(int(state.number), state, files.records.lengths())
            _save_progress(job, state)
            if int(state.phase) != before:
                _announce(job, state)
            if stopper.requested and sound:
                break
    complete = _is_complete(job, state)
    if not complete:
        files.reporter.note(f"stopped by {stopper.reason}; continue with: slmc resume {files.directory}")
    return complete


def _first_state(job: Job) -> Any:
    files, new = job.files, job.new_state()
    stored = files.checkpoints.restore(new)
    files.records.truncate(stored[1] if stored else {})
    return job.go_on(*stored) if stored else job.begin(new)


def phase_of(job: Job, state: Any) -> Phase:
    """The phase that a state is in."""
    return next(phase for phase in job.phases if phase.number == int(state.phase))


def following(job: Job, state: Any) -> Any:
    """The state at the beginning of the next phase."""
    later = job.phases[job.phases.index(phase_of(job, state)) + 1]
    return state._replace(phase=np.asarray(later.number), block=np.asarray(0))


def _is_complete(job: Job, state: Any) -> bool:
    return int(state.phase) == job.phases[-1].number


def _announce(job: Job, state: Any) -> None:
    _save_progress(job, state)
    if not _is_complete(job, state):
        job.files.reporter.phase(phase_of(job, state).name, job.n_blocks(state), int(state.block))


def _save_progress(job: Job, state: Any) -> None:
    job.files.clock.save(phase=phase_of(job, state).name, **job.about(state))
