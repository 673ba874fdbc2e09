"""Many runs as one: the points of a scan, each in a directory of its own, in any order and by several processes.

A point is claimed by the lock of its directory, which the operating system opens again when a process dies. It may
begin once its neighbour's model is there, whatever order processes take them in, so that the bits do not depend on it.
"""

import contextlib
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from slmc.simulation.checkpoint import changed_settings
from slmc.simulation.clock import read_progress
from slmc.simulation.config_file import read_toml
from slmc.simulation.directory import CONFIG, PROGRESS, RECORDS, claimed, holds_run
from slmc.simulation.files import write_whole
from slmc.simulation.marks import Marks
from slmc.simulation.records import Records
from slmc.simulation.toml import to_toml
from slmc.system import RunSettings, UserError, brief, field_about, idle_fields_taken, point_settings

START = "start.eqx"
"""The model from which a point starts to learn, or with which it proposes, kept in its directory."""

FAILURE = "failure.txt"
"""What was said of a point when it failed, in its directory until it is tried again."""

_POLL = 0.5
"""Seconds between looks at what other processes have finished."""


class Point(NamedTuple):
    """One point of a scan: its number, what is scanned there, in words and numbers, its directory and its settings."""

    number: int
    words: str
    fields: dict[str, object]
    directory: Path
    settings: RunSettings

    @property
    def text(self) -> str:
        """Its configuration, as it is in its directory."""
        return to_toml(self.settings, without=self.settings.without_effect)

    @property
    def is_complete(self) -> bool:
        """Whether it was carried out as the settings are now: what they ask for may be more than what there is."""
        if read_progress(self.directory / PROGRESS).get("phase") != "done":
            return False
        return read_toml(self.directory / CONFIG) == tomllib.loads(self.text)

    @property
    def failure(self) -> str:
        """What was said of it when it failed; empty if it did not."""
        return failure_in(self.directory)


def failure_in(directory: Path) -> str:
    """What was said of a run when it failed as a point of a scan; empty if it did not."""
    try:
        return (directory / FAILURE).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def points_of(directory: Path, settings: RunSettings) -> list[Point]:
    """All points of a scan, in the order in which it goes through them.

    Those that an earlier version has begun keep their seeds. Raises ``UserError`` for a point whose configuration is
    that of another one.
    """
    points, names = [], set[str]()
    for number, fields in enumerate(settings.scan.all_points):
        shown = {field_about(settings, name)["symbol"]: value for name, value in fields.items()}
        name = _file_name(",".join(f"{symbol}={value!r}" for symbol, value in shown.items()))
        if name in names:
            name = f"{name},{number}"
        names.add(name)
        words = ", ".join(f"{symbol} = {_brief(value)}" for symbol, value in shown.items())
        with idle_fields_taken():  # whether any is idle was looked at when the scan began
            point = point_settings(settings, number)
        seed = _seed_of(directory / name, point.seed, (settings.seed + number) % 2**63)
        updates: dict[str, object] = {"title": f"{settings.title or settings.system}, {words}", "seed": seed}
        model: Any = getattr(point, "model", None)
        if settings.learns and hasattr(model, "file"):
            has_start = source_of(settings, number) is not None or model.file is not None
            updates["model"] = model.model_copy(update={"file": START if has_start else None})
            updates["frozen"] = settings.frozen or not settings.scan.learns_at(number)
        points.append(Point(number, words, fields, directory / name, point.model_copy(update=updates)))
    return points


def source_of(settings: RunSettings, number: int) -> int | None:
    """The point whose model a point starts from or proposes with; ``None`` for its own, or that of a file."""
    return None if settings.frozen else settings.scan.source(number)


def _seed_of(directory: Path, seed: int, earlier: int) -> int:
    """The seed of a point: its own, or that which an ``earlier`` version gave it and with which it was begun."""
    if not holds_run(directory):
        return seed
    stored = read_toml(directory / CONFIG).get("seed")
    if stored not in (seed, earlier):
        raise UserError(
            f"{directory / CONFIG} says seed = {brief(stored)}, which is not that of this point of the scan; was the "
            "seed of the scan changed? Restore it, or start a new scan."
        )
    return int(stored)


def begun_points(directory: Path, settings: RunSettings) -> list[Point]:
    """Those that have been begun."""
    return [point for point in points_of(directory, settings) if holds_run(point.directory)]


def carry_out_points(
    directory: Path,
    settings: RunSettings,
    carry_out: Callable[[Point], bool],
    told: Callable[[Point, str], None],
    skip_failed: bool = False,
) -> bool:
    """Carries out every point that no other process does; whether all are complete in the end.

    ``carry_out(point)`` runs one and says whether it is complete; ``told(point, outcome)`` hears of it, the outcome
    being ``"done"``, ``"stopped"`` or what went wrong. A point that is not complete ends the scan, which goes on when
    it is resumed. One that fails, ``carry_out`` raising ``UserError``, is put aside for all processes, and the others
    go on; those that failed before are tried again unless they are to be skipped. Raises ``UserError`` naming those
    that failed when nothing else is left to do.
    """
    _sign(directory, settings)
    deadline = settings.measurement.wall_time
    started = time.monotonic()
    points = points_of(directory, settings)
    if not skip_failed:
        forget_failures(points)
    left, n_left = points, -1
    while left := [point for point in left if not point.is_complete]:
        if len(left) == n_left:  # nothing that this process could do
            if not _are_to_come(directory, settings, points, left):
                raise UserError(_sentence_about_failures(points, left))
            if deadline is not None and time.monotonic() - started > deadline:
                return False
            time.sleep(_POLL)
        n_left = len(left)
        for point in left:
            if not _has_start(directory, settings, points, point):
                continue
            with _claim(point) as ours:
                if not ours or point.failure or point.is_complete:
                    continue
                _prepare(directory, settings, points, point)
                try:
                    complete = carry_out(_within(point, deadline, time.monotonic() - started))
                except UserError as error:
                    write_whole(point.directory / FAILURE, f"{error}\n")
                    told(point, f"{error}")
                    continue
            told(point, "done" if complete else "stopped")
            if not complete:
                return False
    return True


def forget_failures(points: list[Point]) -> None:
    """Lets points that failed be tried again."""
    for point in points:
        (point.directory / FAILURE).unlink(missing_ok=True)


def _are_to_come(directory: Path, settings: RunSettings, points: list[Point], left: list[Point]) -> bool:
    """Whether a process can still carry out any of the points that are left.

    Failed ones are lost, and those whose model was to come from one that is lost.
    """
    lost = {point.number for point in left if point.failure}
    n_lost = 0
    while len(lost) > n_lost:
        n_lost = len(lost)
        waiting = [point for point in left if not _has_start(directory, settings, points, point)]
        lost |= {point.number for point in waiting if source_of(settings, point.number) in lost}
    return len(lost) < len(left)


def _sentence_about_failures(points: list[Point], left: list[Point]) -> str:
    """One sentence with the point that failed first, and how many others."""
    failed = [point for point in left if point.failure]
    waiting = len(left) - len(failed)
    words = f"{failed[0].words}: {failed[0].failure.rstrip('.')}"
    others = ", ".join(point.words for point in failed[1:])
    return (
        f"{len(failed)} of {len(points)} points failed, {words}"
        + (f"; and so did {others}" if others else "")
        + (f"; {waiting} more have no model to start from without" if waiting else "; all others are complete")
        + ". What is recorded is kept; slmc resume tries again."
    )


def check_scan(directory: Path, settings: RunSettings) -> None:
    """Raises ``UserError`` for records of a scan that was begun with other settings."""
    _check_identity(Records(directory / RECORDS, read_only=True, marks=Marks()), directory, settings)


def _check_identity(records: Records, directory: Path, settings: RunSettings) -> None:
    if records.identity not in (None, settings.identity):
        raise UserError(changed_settings(directory, ", ".join(settings.may_change)))


def _sign(directory: Path, settings: RunSettings) -> None:
    """The records of all points belong to the settings that they have in common."""
    records = Records(directory / RECORDS, marks=Marks())
    _check_identity(records, directory, settings)
    records.sign(settings.identity, settings.model_dump_json())


@contextlib.contextmanager
def _claim(point: Point) -> Iterator[bool]:
    """Whether a point is this process's own while the context lasts."""
    point.directory.mkdir(exist_ok=True)
    with claimed(point.directory) as ours:
        yield ours


def _start_of(directory: Path, settings: RunSettings, points: list[Point], point: Point) -> Path | None:
    """The file of the model with which a point proposes or starts to learn; ``None`` if it starts anew."""
    if getattr(getattr(point.settings, "model", None), "file", None) is None:
        return None
    source = source_of(settings, point.number)
    return directory / START if source is None else points[source].directory / "model.eqx"


def _has_start(directory: Path, settings: RunSettings, points: list[Point], point: Point) -> bool:
    start = _start_of(directory, settings, points, point)
    return start is None or start.is_file() or (point.directory / START).is_file()


def _prepare(directory: Path, settings: RunSettings, points: list[Point], point: Point) -> None:
    """Puts the starting model and the configuration of a point into its directory."""
    start, kept = _start_of(directory, settings, points, point), point.directory / START
    if start is not None and not kept.is_file():
        shutil.copyfile(start, kept.with_suffix(".part"))
        kept.with_suffix(".part").rename(kept)
    write_whole(point.directory / CONFIG, point.text)


def _within(point: Point, limit: float | None, spent: float) -> Point:
    """The point with what is left of the wall time."""
    if limit is None:
        return point
    measurement = point.settings.measurement.model_copy(update={"wall_time": max(1e-3, limit - spent)})
    return point._replace(settings=point.settings.model_copy(update={"measurement": measurement}))


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=,+\-]", "_", name)[:200]


def _brief(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
