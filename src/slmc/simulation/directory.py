"""Run directories: made once, never overwritten, used by one process at a time."""

import contextlib
import fcntl
import itertools
from collections.abc import Iterator
from pathlib import Path

from slmc.system import UserError

RECORDS = "records.zarr"


def new_directory(out: Path | None, name: str) -> Path:
    """An empty directory for a run: ``out``, or the first free of runs/NAME, runs/NAME-2, …

    Raises ``UserError`` if ``out`` exists and is not an empty directory.
    """
    if out is None:
        names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        out = next(path for path in map(Path("runs").joinpath, names) if not path.exists())
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out {out} exists and is not empty; give a new directory, or continue the run in it with: "
            f"slmc resume {out}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}.") from None
    return out


def records_path(directory: Path) -> Path:
    """Where the records of a run are: its own, or, for a point of a scan, a group of the scan's."""
    of_scan = directory.absolute().parent / RECORDS
    return of_scan / directory.name if of_scan.is_dir() else directory / RECORDS


def config_of(directory: Path) -> Path:
    """The configuration of an existing run. Raises ``UserError`` if the directory holds none."""
    path = directory / "config.toml"
    if not path.is_file():
        raise UserError(f"{directory} holds no run (there is no config.toml in it); give a directory made by slmc run.")
    return path


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[bool]:
    """Whether this process alone may work on a run while the context lasts; the claim of one that dies ends."""
    with (directory / ".lock").open("w") as file:
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
