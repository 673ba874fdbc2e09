"""Where the time goes, kept across interruptions."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from slmc.simulation.files import is_signed, signed, write_whole

_LONGEST = 2**24
"""Bytes of a file of progress, at most."""

_compiling = 0.0


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    global _compiling
    if event == "/jax/core/compile/backend_compile_duration":
        _compiling += duration_secs


jax.monitoring.register_event_duration_secs_listener(_listen)


class Clock:
    """Wall seconds by activity, compilation set apart; saved beside the run with its phase and warnings.

    ``inner_share`` is the share of the inner chain in a step of self-learning Monte Carlo, the rest being the exact
    evaluation; both are timed alone, since a compiled step cannot be timed inside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        stored = read_progress(path)
        self._laps: dict[str, float] = stored.get("laps", {})
        self.inner_share: float | None = stored.get("inner_share")
        self.warnings: list[str] = stored.get("warnings", [])
        self._before = stored.get("total", 0.0)
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def lap(self, activity: str) -> Iterator[None]:
        """Adds the time spent inside to an activity, less that of compiling."""
        started, compiled = time.perf_counter(), _compiling
        try:
            yield
        finally:
            spent = time.perf_counter() - started - (_compiling - compiled)
            self._laps[activity] = self._laps.get(activity, 0.0) + max(0.0, spent)

    def move(self, source: str, destination: str, seconds: float) -> None:
        """Books part of one activity under another."""
        seconds = min(seconds, self.seconds(source))
        self._laps[source] = self.seconds(source) - seconds
        self._laps[destination] = self.seconds(destination) + seconds

    def seconds(self, activity: str) -> float:
        return self._laps.get(activity, 0.0)

    def save(self, **about: Any) -> None:
        """Writes the times, with ``about`` beside them and a checksum, atomically."""
        stored = {
            **about,
            "laps": self._laps,
            "inner_share": self.inner_share,
            "warnings": self.warnings,
            "total": self._before + time.perf_counter() - self._started,
        }
        write_whole(self.path, signed(stored))


def read_progress(path: Path) -> dict[str, Any]:
    """What ``Clock`` stored; empty if there is nothing or it is damaged, for no result hangs on it.

    Entries that are not of the kind that ``Clock`` and runs store are left out.
    """
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return {}
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(stored, dict) or not is_signed(stored):
        return {}
    return {name: value for name, value in stored.items() if name not in _KINDS or _KINDS[name](value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_provenance(value: Any) -> bool:
    """Texts by names, and versions by packages, as ``provenance.made_with`` gives them."""
    if not isinstance(value, dict):
        return False
    texts = [text for name, text in value.items() if name != "versions"]
    versions = value.get("versions", {})
    return isinstance(versions, dict) and all(isinstance(text, str) for text in (*texts, *versions.values()))


_KINDS: dict[str, Callable[[Any], bool]] = {
    "laps": _are_numbers,
    "evaluations": _are_numbers,
    "found": _are_numbers,
    "total": _is_number,
    "seed": _is_number,
    "n_parameters": _is_number,
    "made": _is_provenance,
    "inner_share": lambda value: value is None or (_is_number(value) and 0 <= value <= 1),
    "phase": lambda value: isinstance(value, str),
    "warnings": lambda value: isinstance(value, list) and all(isinstance(line, str) for line in value),
}


def time_split(stored: dict[str, Any], learns: bool = True) -> dict[str, float]:
    """Seconds by exact weight, inner chain and training (where there is a model), and everything else."""
    laps, share = stored.get("laps", {}), stored.get("inner_share") or 0.0
    steps = laps.get("learn", 0.0) + laps.get("measure", 0.0)
    split = {"exact_weight": laps.get("thermalise", 0.0) + (1 - share) * steps}
    if learns:
        split |= {"inner": share * steps, "training": laps.get("training", 0.0)}
    split["other"] = max(0.0, stored.get("total", 0.0) - sum(split.values()) - laps.get("baseline", 0.0))
    return split
