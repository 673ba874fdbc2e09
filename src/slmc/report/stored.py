"""What a run left on disk, read for plotting: missing groups and variables are ``None``, never an error."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray

from slmc.lattice import coordinates
from slmc.report.notation import Symbol, symbol_of


@dataclass(frozen=True)
class Stored:
    """The records of a run and its summary, in which numbers are finite (see ``finite_only``)."""

    records: xarray.DataTree
    summary: dict[str, Any]

    def variable(self, group: str, name: str) -> xarray.DataArray | None:
        members = self.records.children.get(group)
        return None if members is None else members.data_vars.get(name)

    def values(self, group: str, name: str) -> np.ndarray | None:
        """A variable as numbers, ``None`` where there is nothing in it."""
        variable = self.variable(group, name)
        if variable is None or variable.size == 0:
            return None
        values = np.asarray(variable.values, float)
        return None if np.isnan(values).all() else values

    def series(self, group: str, name: str) -> np.ndarray | None:
        """A (chain, draw) variable without the draws that some chain has not written yet."""
        values = self.values(group, name)
        if values is None or values.ndim != 2:
            return None
        values = values[:, ~np.isnan(values).any(axis=0)]
        return values if values.shape[1] >= 2 else None

    def attributes(self, name: str) -> dict[str, Any]:
        """What is stored about an observable, measured or derived: units, description, symbol, how it is drawn."""
        for group in ("measurement", "baseline", "thermalisation"):
            variable, members = self.variable(group, name), self.records.children.get(group)
            derived = {} if members is None else members.attrs.get("derived", {}).get(name, {})
            about = dict(variable.attrs) if variable is not None else dict(derived)
            if about:
                return about
        return {}

    def attribute(self, name: str, attribute: str) -> str:
        """One of them as a text; empty where it is not stored."""
        return str(self.attributes(name).get(attribute) or "")

    def symbol(self, name: str) -> Symbol:
        """How an observable is written."""
        return symbol_of(name, self.attributes(name))

    def by_slowness(self) -> list[str]:
        """The figure of merit, other slow observables, log W, and all others that are stored."""
        measured = self.records.children.get("measurement")
        names = [] if measured is None else [str(name) for name in measured.data_vars]
        slow = [name for name in names if self.attributes(name).get("slow")]
        merit = [str(self.summary.get("figure_of_merit") or "log_weight")]
        return list(dict.fromkeys((*merit, *slow, "log_weight", *self.shown())))

    def traced(self) -> list[str]:
        """The observables whose series are drawn beside log W, the slowest first; all where none is marked."""
        names = self.by_slowness()
        marked = {name for name in names if self.attributes(name).get("traced")}
        return [name for name in names if name in marked or name == "log_weight"] if marked else names

    def shown(self) -> list[str]:
        """The observables in the order in which they are shown."""
        measured = self.records.children.get("measurement")
        listed = [] if measured is None else [str(name) for name in measured.attrs.get("observables", ())]
        return [name for name in listed or self.observables() if self.attributes(name).get("shown", True)]

    def drawn_as(self, kind: str) -> str | None:
        """The first measured variable that is drawn in a figure of its own kind; ``None`` where there is none."""
        return next(iter(self.all_drawn_as(kind)), None)

    def all_drawn_as(self, kind: str) -> list[str]:
        """All measured variables that are drawn in a figure of a kind."""
        measured = self.records.children.get("measurement")
        names = [] if measured is None else [str(name) for name in measured.data_vars]
        return [name for name in names if self.attributes(name).get("drawn") == kind]

    @property
    def learns(self) -> bool:
        """Whether there was a model: the summary of a run without one does not speak of its residual."""
        return "residual" in self.summary

    def observables(self) -> dict[str, dict[str, Any]]:
        return self.summary.get("observables") or {}

    def baseline(self) -> dict[str, Any]:
        return self.summary.get("baseline") or {}


def finite_only(summary: Any) -> Any:
    """The summary with NaN and infinities, which say that a number is not known, replaced by ``None``."""
    if isinstance(summary, dict):
        return {name: finite_only(entry) for name, entry in summary.items()}
    return None if isinstance(summary, float) and not math.isfinite(summary) else summary


def thinned(series: np.ndarray, n_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of at most ``n_points`` evenly spaced entries of the last axis."""
    stride = -(-series.shape[-1] // n_points)
    return np.arange(0, series.shape[-1], stride), series[..., ::stride]


def binned_errors(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bin lengths 1, 2, 4, … and the error of the mean that independent bins of that length would have."""
    lengths, errors = [], []
    length = 1
    while series.shape[1] // length >= 2 and series.shape[0] * (series.shape[1] // length) >= 8:
        n_bins = series.shape[1] // length
        means = series[:, : n_bins * length].reshape(len(series), n_bins, length).mean(-1)
        lengths.append(length)
        errors.append(means.std(ddof=1) / np.sqrt(means.size))
        length *= 2
    return np.array(lengths), np.array(errors)


def mean_and_error(series: np.ndarray, n_blocks: int = 10) -> tuple[float, float | None]:
    """The mean of a (chain, draw) series and its error from block means."""
    blocks = [block.mean(1) for block in np.array_split(series, min(n_blocks, series.shape[1]), axis=1)]
    means = np.stack(blocks)
    return float(series.mean()), float(means.std(ddof=1) / np.sqrt(means.size)) if means.size > 1 else None


class Correlations(NamedTuple):
    """⟨S_i·S_j⟩ averaged over each shell of equal distance, nearest first; ``even`` says which sublattice it joins."""

    distances: np.ndarray
    means: np.ndarray
    errors: np.ndarray
    even: np.ndarray


def correlations(factor: np.ndarray, n_dimensions: int) -> Correlations:
    """Spin correlations by distance from block means of the structure factor ``(block, q0, q1, …)``."""
    shape = factor.shape[-n_dimensions:]
    by_displacement = np.fft.ifftn(factor, axes=tuple(range(1, 1 + n_dimensions))).real.reshape(len(factor), -1)
    # Only displacements from the origin are needed: slmc.lattice.shells would build all pairs, too many in 3D.
    positions = coordinates(shape)
    squared = (np.minimum(positions, np.array(shape) - positions) ** 2).sum(1)
    distances, shell = np.unique(squared, return_inverse=True)
    members = np.arange(len(distances))[:, None] == shell[None, :]
    by_shell = by_displacement @ (members / members.sum(1, keepdims=True)).T
    errors = by_shell.std(0, ddof=1) / np.sqrt(len(by_shell)) if len(by_shell) > 1 else np.zeros(len(distances))
    return Correlations(np.sqrt(distances), by_shell.mean(0), errors, distances % 2 == 0)
