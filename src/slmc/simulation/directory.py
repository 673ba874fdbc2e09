"""Run directories: made once, never overwritten, used by one process at a time."""

import contextlib
import fcntl
import itertools
from collections.abc import Iterator
from pathlib import Path

from slmc.kept_summary import LOCK, RECORDS, is_worked_on, records_path
from slmc.system import UserError

CHECKPOINTS = "checkpoints"
CONFIG = "config.toml"
PROGRESS = "progress.json"

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "PROGRESS",
    "RECORDS",
    "claimed",
    "config_of",
    "holds_run",
    "is_taken",
    "is_worked_on",
    "locked",
    "new_directory",
    "records_path",
]


def new_directory(out: Path | None, name: str) -> Path:
    """An empty directory for a run: ``out``, or the first free of runs/NAME, runs/NAME-2, …

    Raises ``UserError`` if ``out`` exists and is not an empty directory.
    """
    if out is None:
        names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        out = next(path for path in map(Path("runs").joinpath, names) if not path.exists())
    elif is_taken(out):
        raise UserError(
            f"--out {out} exists and is not empty; give a new directory, or continue the run in it with: "
            f"slmc run --continue {out}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}.") from None
    return out


def is_taken(out: Path) -> bool:
    """Whether there is something else than an empty directory, or one in which a run was stopped before it began."""
    if not (out.exists() or out.is_symlink()):
        return False
    return not out.is_dir() or any(path.name != LOCK and not path.name.startswith(".config") for path in out.iterdir())


def holds_run(directory: Path) -> bool:
    """Whether there is a run in a directory."""
    return (directory / CONFIG).exists()


def config_of(directory: Path) -> Path:
    """The configuration of an existing run. Raises ``UserError`` if the directory holds none."""
    path = directory / CONFIG
    if not path.is_file():
        what = "there is no config.toml in it" if not path.exists() else "its config.toml is no file"
        raise UserError(f"{directory} holds no run ({what}); give a directory made by slmc run.")
    return path


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[bool]:
    """Whether this process alone may work on a run while the context lasts; the claim of one that dies ends."""
    with (directory / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps a second process out of a run. Raises ``UserError`` if one is already at work."""
    with claimed(directory) as ours:
        if not ours:
            raise UserError(f"another process is working on {directory}; wait for it, or stop it first.")
        yield
