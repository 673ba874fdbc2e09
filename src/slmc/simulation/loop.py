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
from slmc.simulation.files import checksum
from slmc.simulation.marks import Marks
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

    ``other_files`` are names of files that it writes, or reads, in its directory beside those of the loop.
    Its state is a named tuple with the fields ``phase`` (a number), ``block`` (blocks done in it) and ``number``
    (blocks done in all), whose leaves are arrays. The last of ``phases`` says that it is complete.
    """

    @property
    def files(self) -> Files: ...
    @property
    def phases(self) -> tuple[Phase, ...]: ...
    @property
    def wall_time(self) -> float | None: ...
    @property
    def other_files(self) -> tuple[str, ...]: ...

    def new_state(self) -> Any:
        """The state before the first block."""

    def begin(self, state: Any) -> Any:
        """What comes before the first block of a run that is not continued."""

    def rewound(self, state: Any, marks: Marks) -> int | None:
        """The number of an older checkpoint to go on from, where the settings ask for more of an earlier phase."""

    def go_on(self, state: Any, marks: Marks) -> Any:
        """What comes before the first block after an interruption, or where a complete run is to be longer."""

    def n_blocks(self, state: Any) -> int:
        """Blocks of the phase."""

    def advance(self, state: Any, stopper: Stopper) -> Any:
        """One block. Raises ``Stopped`` if it gives up in the middle because it was asked to."""

    def is_sound(self, state: Any) -> bool:
        """Whether a checkpoint may be written: if not, the run goes on even when it is asked to stop."""

    def about(self, state: Any) -> dict[str, Any]:
        """What is told of the state beside the records."""

    def is_final(self, state: Any) -> bool:
        """Whether variables that do not grow are as they will stay."""

    def kept(self, state: Any) -> tuple[int, ...]:
        """Numbers of older checkpoints that this state needs."""


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
    files = job.files
    with contextlib.closing(files.reporter), Stopper(job.wall_time) as stopper:
        state = _first_state(job)
        _announce(job, state)
        while not _is_complete(job, state) and not stopper.signalled:
            before = int(state.phase)
            try:
                state = job.advance(state, stopper)
            except Stopped:
                break
            state = state._replace(number=np.asarray(int(state.number) + 1))
            sound = job.is_sound(state)
            if sound:
                _save(job, state)
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
    """The state to go on from; from then on there is a checkpoint for whatever is recorded."""
    files, new = job.files, job.new_state()
    stored = files.checkpoints.restore(new)
    if stored is None:
        files.records.truncate({})
        state = job.begin(new)
        _save(job, state)
        return state
    state, marks = stored
    if (older := job.rewound(state, marks)) is not None:
        number = state.number
        state, marks = files.checkpoints.restore(new, older) or stored
        state = state._replace(number=np.asarray(int(number) + 1))
        # Before anything is cut that the last checkpoint counts on.
        files.checkpoints.save(int(state.number), state, marks._replace(kept=(older,)))
    files.records.truncate(marks.lengths)
    files.records.verify()
    return job.go_on(state, marks)


def _save(job: Job, state: Any) -> None:
    files = job.files
    sums = {name: checksum(files.directory / name) for name in job.other_files}
    marks = Marks(
        phase=phase_of(job, state).name,
        lengths=files.records.lengths(),
        forms=files.records.forms(job.is_final(state)),
        files={name: total for name, total in sums.items() if total is not None},
        kept=job.kept(state),
    )
    files.checkpoints.save(int(state.number), state, marks)


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
