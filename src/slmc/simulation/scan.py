"""Many runs as one: the points of a scan, each in a directory of its own, in any order and by several processes.

A point is claimed by the lock of its directory, which the operating system opens again when a process dies. It may
begin once its neighbour's model is there, whatever order processes take them in, so that the bits do not depend on it.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from slmc.simulation.clock import read_progress
from slmc.simulation.directory import RECORDS, claimed
from slmc.simulation.records import Records
from slmc.simulation.toml import to_toml
from slmc.system import RunSettings, field_about, point_settings

START = "start.eqx"
"""The model from which a point starts to learn, kept in its directory."""

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
    def is_complete(self) -> bool:
        return read_progress(self.directory / "progress.json").get("phase") == "done"


def points_of(directory: Path, settings: RunSettings) -> list[Point]:
    """All points of a scan, in the order in which it goes through them."""
    points, names = [], set[str]()
    for number, fields in enumerate(settings.scan.all_points):
        shown = {field_about(settings, name)["symbol"]: value for name, value in fields.items()}
        name = _file_name(",".join(f"{symbol}={value!r}" for symbol, value in shown.items()))
        if name in names:
            name = f"{name},{number}"
        names.add(name)
        words = ", ".join(f"{symbol} = {_brief(value)}" for symbol, value in shown.items())
        point = point_settings(settings, number)
        updates: dict[str, object] = {"title": f"{settings.title or settings.system}, {words}"}
        model: Any = getattr(point, "model", None)
        if settings.learns and hasattr(model, "file"):
            has_start = settings.scan.neighbour(number) is not None or model.file is not None
            updates["model"] = model.model_copy(update={"file": START if has_start else None})
        points.append(Point(number, words, fields, directory / name, point.model_copy(update=updates)))
    return points


def begun_points(directory: Path, settings: RunSettings) -> list[Point]:
    """Those that have been begun."""
    return [point for point in points_of(directory, settings) if (point.directory / "config.toml").is_file()]


def carry_out_points(
    directory: Path, settings: RunSettings, carry_out: Callable[[Point], bool], told: Callable[[Point, bool], None]
) -> bool:
    """Carries out every point that no other process does; whether all are complete in the end.

    ``carry_out(point)`` runs one and says whether it is complete, ``told(point, complete)`` hears of it. A point that
    is not complete ends the scan, which goes on when it is resumed.
    """
    Records(directory / RECORDS)
    deadline = settings.measurement.wall_time
    started = time.monotonic()
    points = points_of(directory, settings)
    while left := [point for point in points if not point.is_complete]:
        ready = [point for point in left if _has_start(directory, settings, points, point)]
        for point, ours in _claims(ready):
            if not ours or point.is_complete:
                continue
            _prepare(directory, settings, points, point)
            complete = carry_out(_within(point, deadline, time.monotonic() - started))
            told(point, complete)
            if not complete:
                return False
            break
        else:
            if deadline is not None and time.monotonic() - started > deadline:
                return False
            time.sleep(_POLL)
    return True


def _claims(points: list[Point]) -> Iterator[tuple[Point, bool]]:
    for point in points:
        point.directory.mkdir(exist_ok=True)
        with claimed(point.directory) as ours:
            yield point, ours


def _start_of(directory: Path, settings: RunSettings, points: list[Point], point: Point) -> Path | None:
    """The file of the model from which a point starts to learn; ``None`` if it starts anew."""
    if getattr(getattr(point.settings, "model", None), "file", None) is None:
        return None
    neighbour = settings.scan.neighbour(point.number)
    return directory / START if neighbour is None else points[neighbour].directory / "model.eqx"


def _has_start(directory: Path, settings: RunSettings, points: list[Point], point: Point) -> bool:
    start = _start_of(directory, settings, points, point)
    return start is None or start.is_file() or (point.directory / START).is_file()


def _prepare(directory: Path, settings: RunSettings, points: list[Point], point: Point) -> None:
    """Puts the starting model and the configuration of a point into its directory."""
    start, kept = _start_of(directory, settings, points, point), point.directory / START
    if start is not None and not kept.is_file():
        shutil.copyfile(start, kept.with_suffix(".part"))
        kept.with_suffix(".part").rename(kept)
    text = to_toml(point.settings, without=point.settings.without_effect)
    (point.directory / "config.toml").write_text(text)


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
