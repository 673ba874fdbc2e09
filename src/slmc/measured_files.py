"""What ``slmc measure`` found in files of configurations: of each of them, and of all as one chain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slmc.statistics import Estimate, estimate, notation
from slmc.system import FileMeasurement, Measured, OfFile

_LONGEST_PRINTED = 64
"""Elements of an array that are printed; longer ones are in the JSON."""

_MOST_COLUMNS = 3
"""Files that are printed one by one, if there are no more; all are in the JSON."""


Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Headings and rows, as they are printed."""


@dataclass(frozen=True)
class MeasuredFiles:
    """``values`` of each file by their names, arrays among them; ``estimates`` of all files as one chain.

    Errors follow from the autocorrelation of the files in their order, and are NaN for fewer than four. ``of_all`` is
    derived from all of them together, ``notes`` are sentences on what is to be known of single files.
    """

    paths: list[Path]
    values: list[Measured]
    notes: list[str]
    of_all: Measured
    descriptions: Mapping[str, str]

    @property
    def estimates(self) -> dict[str, Estimate | np.ndarray]:
        """Means with errors of numbers; of an array an object array of them."""
        found: dict[str, Estimate | np.ndarray] = {}
        for name, series in self._series().items():
            flat = np.moveaxis(series, 0, -1).reshape(-1, len(series))
            each = [estimate(line[None], moved=True) for line in flat]
            if series.ndim == 1:
                found[name] = each[0]
                continue
            of_array = np.empty(len(each), object)
            of_array[:] = each
            found[name] = of_array.reshape(series.shape[1:])
        return found

    def _series(self) -> dict[str, np.ndarray]:
        """What was measured of every file, real, the files first."""
        series: dict[str, np.ndarray] = {}
        for name, first in self.values[0].items():
            stacked = np.stack([np.asarray(one[name]) for one in self.values])
            if np.iscomplexobj(first):
                series |= {f"{name}_re": stacked.real, f"{name}_im": stacked.imag}
            else:
                series[name] = stacked
        return series

    @property
    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        series = self._series()
        rows = [
            {"file": str(path), **{name: _plain(values[number]) for name, values in series.items()}}
            for number, path in enumerate(self.paths)
        ]
        means = {name: _as_json(known) for name, known in self.estimates.items()}
        of_all = {name: _plain(np.asarray(value)) for name, value in self.of_all.items()}
        about = {name: self.descriptions.get(name.removesuffix("_re").removesuffix("_im"), "") for name in series}
        return {"files": rows, "means": means, "of_all": of_all, "descriptions": about, "notes": self.notes}

    @property
    def tables(self) -> list[Table]:
        """Headings and rows: numbers, with a column for each of a few files; then every array by its elements."""
        series, estimates = self._series(), self.estimates
        several = len(self.paths) > 1
        shown = self.paths if len(self.paths) <= _MOST_COLUMNS else []
        heading: tuple[str, ...] = ("", *(path.name for path in shown), *(["mean"] if several else []))
        rows: list[tuple[str, ...]] = []
        for name, values in series.items():
            if values.ndim == 1:
                each = [f"{values[number]:.8g}" for number in range(len(shown))]
                rows.append((name, *each, *([_notation(estimates[name])] if several else [])))
        if several:
            blank = [""] * len(shown)
            rows += [(f"{name} of the average", *blank, f"{value:.8g}") for name, value in self.of_all.items()]
        found: list[Table] = [(heading, rows)]
        for name, values in series.items():
            if values.ndim > 1 and values[0].size <= _LONGEST_PRINTED:
                known = estimates[name]
                assert isinstance(known, np.ndarray)
                places: list[tuple[str, ...]] = [
                    (_place(place), _notation(known[place])) for place in np.ndindex(known.shape)
                ]
                found.append(((name, "value"), places))
        return found


def measured_files(paths: Sequence[Path], found: Sequence[OfFile], how: FileMeasurement) -> MeasuredFiles:
    """What was found, put together."""
    values = [one.values for one in found]
    notes = [note for one in found for note in one.notes]
    return MeasuredFiles(list(paths), values, notes, how.of_all(values), how.descriptions)


def _place(place: tuple[int, ...]) -> str:
    return ", ".join(map(str, place))


def _notation(known: Any) -> str:
    return f"{known.value:.8g}" if not np.isfinite(known.error) else notation(known.value, known.error)


def _plain(values: Any) -> Any:
    """Numbers, with nothing in the place of those that are none."""
    if np.ndim(values):
        return [_plain(value) for value in values]
    return float(values) if np.isfinite(values) else None


def _as_json(known: Any) -> Any:
    if isinstance(known, np.ndarray):
        return [_as_json(one) for one in known]
    return {"value": _plain(np.asarray(known.value)), "error": _plain(np.asarray(known.error))}
