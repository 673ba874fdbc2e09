"""Curves of residual and acceptance against depth, and the power law fitted to them."""

from typing import Any, NamedTuple

import numpy as np
from result_file import ResultFile


class Curve(NamedTuple):
    """One family's results; axes (seed, layers), only seeds whose every depth is finished."""

    n_parameters: np.ndarray
    squared_residual: np.ndarray
    acceptance: np.ndarray
    acceptance_error: np.ndarray
    autocorrelation: np.ndarray

    @property
    def n_seeds(self) -> int:
        return len(self.squared_residual)


def curve(results: ResultFile, settings: Any, name: str) -> Curve:
    depths = range(settings.max_layers + 1)
    rows = [[results.rows.get(f"{name}/seed-{seed}/L-{n}") for n in depths] for seed in range(settings.n_seeds)]
    rows = [found for found in rows if all(found)]

    def collect(value) -> np.ndarray:
        return np.array([[value(row) for row in found] for found in rows]).reshape(len(rows), len(depths))

    length = str(settings.n_updates)
    return Curve(
        collect(lambda row: row["n_parameters"]),
        collect(lambda row: row["residual"] ** 2),
        collect(lambda row: row["acceptance"][length]["value"]),
        collect(lambda row: row["acceptance"][length]["error"]),
        collect(lambda row: row["acceptance"][length]["proposal_autocorrelation"]),
    )


class PowerLaw(NamedTuple):
    """s² = prefactor · n^(−exponent), with the bootstrap error of the exponent over seeds."""

    exponent: float
    error: float
    prefactor: float


def fitted(found: Curve, first_layer: int, n_bootstrap: int) -> PowerLaw:
    """Least squares of log s² against log n over all seeds from ``first_layer`` on; whole seeds are resampled."""
    x = np.log(found.n_parameters[0, first_layer:])
    y = np.log(found.squared_residual[:, first_layer:])
    slope, intercept = np.polyfit(x, y.mean(0), 1)
    drawn = np.random.default_rng(0).integers(found.n_seeds, size=(n_bootstrap, found.n_seeds))
    slopes = [np.polyfit(x, y[members].mean(0), 1)[0] for members in drawn]
    return PowerLaw(-slope, float(np.std(slopes)), float(np.exp(intercept)))


def power_laws(found: Curve, settings: Any) -> dict[str, dict[str, float]]:
    """The law from one layer on and from two on, where there are at least two depths to fit."""
    first_layers = [first for first in (1, 2) if settings.max_layers > first]
    return {f"L>={first}": fitted(found, first, settings.n_bootstrap)._asdict() for first in first_layers}
