"""Whether settings, checkpoints and records in a directory belong together, before any of them is believed."""

from pathlib import Path
from typing import NamedTuple

from slmc.simulation.checkpoint import Checkpoints, belongs
from slmc.simulation.clock import read_progress
from slmc.simulation.directory import CHECKPOINTS, PROGRESS, is_worked_on, records_path
from slmc.simulation.files import checksum
from slmc.simulation.marks import Marks
from slmc.simulation.records import Records
from slmc.system import UserError


class Stored(NamedTuple):
    """What is stored of a run: its records as far as they count, the phase it is in, what is to be said of the rest."""

    directory: Path
    records: Records
    phase: str
    doubts: tuple[str, ...] = ()


def opened_records(directory: Path, checkpoints: Checkpoints, settings: str = "") -> Records:
    """The records of a run, to go on with; new ones are signed with its identity and ``settings``.

    Raises ``UserError`` for a checkpoint or records of other settings, and for records without a checkpoint.
    """
    marks = checkpoints.marks()
    records = Records(records_path(directory), marks=marks)
    _check_identity(records, checkpoints)
    if marks is None and any(records.lengths().values()):
        raise UserError(
            f"{directory} has records but no checkpoint to go on from, as a copy without its directory checkpoints; "
            "bring that back, or start a new run in another directory. Nothing was changed."
        )
    if marks is not None:
        records.check_signature(marks)
    if checkpoints.identity is not None:
        records.sign(checkpoints.identity, settings)
    return records


def stored_run(directory: Path, checkpoints: Checkpoints | None = None) -> Stored:
    """What is stored of a run, to be read, while it goes on too; without ``checkpoints`` whatever its settings were.

    Raises ``UserError`` for a checkpoint or records of other settings, and for what is damaged.
    """
    checkpoints = checkpoints or Checkpoints(directory / CHECKPOINTS, None, "")
    marks = checkpoints.marks()
    records = Records(records_path(directory), read_only=True, marks=marks)
    _check_identity(records, checkpoints)
    progress = read_progress(directory / PROGRESS)
    if marks is None:
        return Stored(directory, records, progress.get("phase", ""), _without_checkpoint(records))
    records.check(marks)
    # Configurations are looked at where they are read: a look at a run must not take as long as all of them.
    records.verify(with_configurations=False)
    doubts = _doubts(directory, marks, progress)
    if not is_worked_on(directory) and (damage := checkpoints.damage()):
        doubts = (*doubts, damage)
    return Stored(directory, records, marks.phase or progress.get("phase", ""), doubts)


def _check_identity(records: Records, checkpoints: Checkpoints) -> None:
    if records.identity is not None and not belongs(records.identity, checkpoints.identity):
        raise UserError(checkpoints.other)


def _without_checkpoint(records: Records) -> tuple[str, ...]:
    if not any(records.lengths().values()):
        return ()
    return ("there is no checkpoint with which the records can be compared",)


def _doubts(directory: Path, marks: Marks, progress: dict[str, object]) -> tuple[str, ...]:
    """What is said of files on which no measured number hangs."""
    doubts = [] if progress else [f"{PROGRESS} is damaged or missing, so that times, costs and warnings are not known"]
    if not is_worked_on(directory):
        wrong = [name for name, total in marks.files.items() if checksum(directory / name) != total]
        doubts += [f"{name} is damaged or missing" for name in wrong]
    return tuple(doubts)
