"""The summary of a finished run, kept beside it: it is shown, and a thousand points are gathered, without reading all.

It counts as long as the files that it was made of are those that were there, by name, size and time of their last
change. What is changed on a disk otherwise is noticed where the records are read. Imports nothing that takes time.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

RECORDS = "records.zarr"
LOCK = ".lock"

SUMMARY = "summary.json"
"""Its name in the directory of a run."""

FORMAT = 1
"""Changes, as the version of the package does, with what a summary has in it or how it is found."""

_NOT_READ = (SUMMARY, "report.html")


def kept_summary(directory: Path) -> dict[str, Any] | None:
    """The summary that was kept of a run; ``None`` without one, and where files have changed since."""
    try:
        stored = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(stored, dict) or set(stored) != {"files", "summary", "crc32"}:
        return None
    if stored["crc32"] != _crc(stored["summary"]) or stored["files"] != _fingerprint(directory):
        return None
    summary: dict[str, Any] = stored["summary"]
    return summary


def keep_summary(directory: Path, summary: dict[str, Any]) -> None:
    """Keeps the summary of a run that is finished and that nobody works on, where there may be written."""
    if summary.get("phase") != "done" or is_worked_on(directory):
        return
    content = json.dumps({"files": _fingerprint(directory), "summary": summary, "crc32": _crc(summary)})
    unfinished = directory / f".{SUMMARY}.{os.getpid()}"
    with contextlib.suppress(OSError):
        unfinished.write_text(content, encoding="utf-8")
        os.replace(unfinished, directory / SUMMARY)


def records_path(directory: Path) -> Path:
    """Where the records of a run are: its own, or, for a point of a scan, a group of the scan's."""
    of_scan = directory.absolute().parent / RECORDS
    return of_scan / directory.name if of_scan.is_dir() else directory / RECORDS


def is_worked_on(directory: Path) -> bool:
    """Whether another process is working on a run."""
    try:
        with (directory / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _crc(summary: Any) -> int:
    return zlib.crc32(json.dumps(summary).encode())


def _fingerprint(directory: Path) -> str:
    """A digest of which files a run has, how large they are and when they were written last."""
    digest = hashlib.sha256(f"{version('slmc')} {FORMAT}".encode())
    of_scan = records_path(directory)
    for folder in (directory, *([of_scan] if of_scan.parent != directory.absolute() else [])):
        for line in sorted(_files_in(str(folder), "")):
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files_in(folder: str, name: str) -> Iterator[str]:
    """What a file is like, a line for each in a folder, by its ``name`` there: moved as a whole it stays the same."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_in(entry.path, f"{name}{entry.name}/")
        elif entry.name not in _NOT_READ and not entry.name.startswith("."):
            with contextlib.suppress(OSError):  # a link to nothing, or what somebody has just removed
                about = entry.stat()
                yield f"{name}{entry.name}\0{about.st_size}\0{about.st_mtime_ns}\n"
