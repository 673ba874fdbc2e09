"""How the poles of ``poles`` are found. ``python -m slmc.systems.spins.rational`` writes them to ``poles.npz``.

The derivative of log cosh(x/2) by x² is a sum over the squared Matsubara frequencies, Σ_k 1/(o_k² + x²). Its first
terms are kept. The others are a rational function to rounding (AAA algorithm: Nakatsukasa, Sète, Trefethen, SIAM J.
Sci. Comput. 40, A1494 (2018)), whose poles are the remaining frequencies; all weights are then fitted by least squares.
Rounding is what limits it. Frequencies and weights together are at last improved by steps of Gauss and Newton whose
residuals are computed in extended precision, which takes errors from 1e-9 to 1e-12 for the farthest levels.
At T = 0.05, where 20 of the first Matsubara frequencies with a Gauss rule for the others give 1e-11 a level, 14 give
1e-14.

The other functions take more frequencies, chosen one after the other as what those before represent least (QR with
pivots).
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
from scipy.interpolate import AAA

from slmc.lanes import N_LANES
from slmc.systems.spins.poles import (
    MAX_LANES,
    Function,
    PoleTable,
    angles,
    energy,
    largest_error,
    log_cosh,
    logarithms,
    occupation,
    pole_table,
    variance,
)

REACHES = 2.0 ** np.arange(2, 14.5, 0.5)
MAX_POLES = 32
TOLERANCE = 5e-13
"""Of log cosh; for reaches above 4096, where it is not kept to, the best is taken."""

OBSERVABLES_TOLERANCE = 5e-11
"""Of the other functions, with the rounding of a sum of logarithms."""

_SMALLEST_FREQUENCY = 2.2

_N_REFINED = 6
"""How many rational functions are improved further: the best of those with the most poles, which can gain most."""

Basis = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Poles(NamedTuple):
    """Frequencies and weights for log cosh, and the largest error."""

    frequencies: np.ndarray
    weights: np.ndarray
    error: float


LONGEST_KEPT = 256.0
"""Rows up to this reach stay as an earlier version found them, so that runs go on to the same bits."""


def table(kept: PoleTable) -> PoleTable:
    """All rows: those of ``kept`` for short reaches, new ones for long ones."""
    n_kept = int(np.sum(REACHES <= LONGEST_KEPT))
    first = [column[:n_kept] for column in kept]
    new = map(np.array, zip(*(_row(float(reach)) for reach in REACHES[n_kept:]), strict=True))
    return PoleTable(*map(np.concatenate, zip(first, new, strict=True)))


def poles_of_log_cosh(reach: float) -> Poles:
    """As few groups of lanes as keep to the tolerance, and the best poles that fill them; else the least error."""
    best: Poles | None = None
    for most in range(N_LANES, MAX_POLES + 1, N_LANES):
        promising = sorted(_candidates(most, reach), key=lambda poles: (-len(poles.weights), poles.error))[:_N_REFINED]
        best = min((_refined(poles, reach) for poles in promising), key=lambda poles: poles.error)
        if best.error <= TOLERANCE:
            break
    assert best is not None
    return best


def _refined(poles: Poles, reach: float) -> Poles:
    """Poles near given ones, closest to log cosh and its derivative, of which forces are made, at many points.

    Gauss–Newton: steps in the logarithms of frequencies and of weights.
    """
    x = _samples(reach, 1500).astype(np.longdouble)[:, None]
    scale = np.repeat([1.0, 1e-2], len(x))
    values = scale * np.concatenate([occupation(x[:, 0]), log_cosh(x[:, 0])])
    logarithm = np.log(np.concatenate([poles.frequencies, poles.weights]).astype(np.longdouble))
    best, least = logarithm, np.inf
    for _ in range(30):
        o, w = np.split(np.exp(logarithm), 2)
        ratio, squared = (x / o) ** 2, o**2 + x**2
        derivatives, logs = 2 * w * x / squared, w * np.log1p(ratio)
        residuals = values - scale * np.concatenate([derivatives.sum(1), logs.sum(1)])
        if (largest := np.abs(residuals).max()) < least:
            best, least = logarithm, largest
        by_o = np.concatenate([-2 * derivatives * o**2 / squared, -2 * w * ratio / (1 + ratio)])
        by_w = np.concatenate([derivatives, logs])
        columns = (scale[:, None] * np.hstack([by_o, by_w])).astype(float)
        change = _fitted(columns, residuals.astype(float), 1e-13)
        logarithm = logarithm + change * min(1.0, 0.3 / np.abs(change).max())
    frequencies, weights = np.split(np.exp(best).astype(float), 2)
    error = _error(log_cosh, logarithms, frequencies, weights, reach)
    return min(poles, Poles(frequencies, weights, error), key=lambda poles: poles.error)


def _candidates(most: int, reach: float) -> Iterator[Poles]:
    for n_kept in range(min(most - 5, 15)):
        for n_others in range(max(4, most - n_kept - 4), most - n_kept + 1):
            for n_samples in (300, 400, 500, 800, 1300):
                poles = _with_kept(n_kept, n_others, n_samples, reach)
                if poles is not None and len(poles.frequencies) <= most:
                    yield poles


def _with_kept(n_kept: int, n_others: int, n_samples: int, reach: float) -> Poles | None:
    """The first Matsubara frequencies and the poles of the rest; nothing where rounding gives weights that cannot be.

    In t = 1/(o² + x²), o the first frequency of the rest, the rest over t is rational too, with o a pole of the rest.
    """
    x = _samples(reach, n_samples)
    kept, first = (2 * np.arange(n_kept) + 1) * np.pi, ((2 * n_kept + 1) * np.pi) ** 2
    whole = np.where(x > 1e-3, np.tanh(x / 2) / (4 * np.maximum(x, 1e-3)), 1 / 8 - x**2 / 96)
    rest = whole - np.sum(1 / (kept**2 + x[:, None] ** 2), axis=1)
    t = 1 / (first + x**2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        squared = first - 1 / AAA(t, rest / t, max_terms=n_others, rtol=0, clean_up=False).poles()
    real = squared.real[(squared.real > 1.05 * first) & (np.abs(squared.imag) < 1e-8 * np.abs(squared))]
    frequencies = np.sort(np.concatenate([kept, np.sqrt(np.append(first, real))]))
    for _ in range(5):
        weights = _fitted(logarithms(x, frequencies), log_cosh(x), 1e-16)
        if np.all(weights > 0.5):
            return Poles(frequencies, weights, _error(log_cosh, logarithms, frequencies, weights, reach))
        # Poles that rounding makes have no weight.
        frequencies = frequencies[weights > 0.5]
    return None


def _row(reach: float) -> tuple[np.ndarray, ...]:
    poles = poles_of_log_cosh(reach)
    frequencies, fits, error = _for_observables(poles.frequencies, reach)
    padded = [np.full(MAX_LANES, frequencies[-1]), *(np.zeros(MAX_LANES) for _ in range(4))]
    for row, values in zip(padded, (frequencies, poles.weights, *fits), strict=True):
        row[: len(values)] = values
    return tuple(map(np.asarray, (reach, *padded, len(frequencies), poles.error, error)))


def _for_observables(poles: np.ndarray, reach: float) -> tuple[np.ndarray, list[np.ndarray], float]:
    """The poles and as many other frequencies as the other functions need, their weights and their largest error."""
    x = _samples(reach, 600)
    others = _most_different(poles, x, np.geomspace(_SMALLEST_FREQUENCY, 4 * reach, 400))
    best: tuple[np.ndarray, list[np.ndarray], float] | None = None
    for n_frequencies in range(-(-len(poles) // N_LANES) * N_LANES, MAX_LANES + 1, N_LANES):
        frequencies = np.concatenate([poles, others[: n_frequencies - len(poles)]])
        functions = [(energy, logarithms), (variance, logarithms), (occupation, angles)]
        fits = [_best_fit(function, basis, frequencies, x, reach) for function, basis in functions]
        error = max(largest for _, largest in fits)
        if best is None or error < best[2]:
            best = frequencies, [weights for weights, _ in fits], error
        if error <= OBSERVABLES_TOLERANCE:
            break
    assert best is not None
    return best


def _most_different(poles: np.ndarray, x: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The candidates ordered by how much of each is in none of the poles and the candidates before it."""
    taken, offered = (_scaled(logarithms(x, frequencies)) for frequencies in (poles, candidates))
    basis = np.linalg.qr(taken)[0]
    for _ in range(2):
        offered = offered - basis @ (basis.T @ offered)
    order = scipy.linalg.qr(offered, mode="r", pivoting=True)[1]
    return candidates[order]


def _best_fit(
    function: Function, basis: Basis, frequencies: np.ndarray, x: np.ndarray, reach: float
) -> tuple[np.ndarray, float]:
    """Weights by least squares, cut off where it serves best: small weights round little, more of them fit better."""
    fits = [_fitted(basis(x, frequencies), function(x), 10.0**-power) for power in range(10, 16)]
    bounds = [
        _error(function, basis, frequencies, weights, reach)
        + 1e-16 * float(np.max(np.abs(basis(x, frequencies)) @ np.abs(weights)))
        for weights in fits
    ]
    return fits[int(np.argmin(bounds))], min(bounds)


def _error(function: Function, basis: Basis, frequencies: np.ndarray, weights: np.ndarray, reach: float) -> float:
    return largest_error(function, lambda x: basis(x, frequencies) @ weights, reach)


def _fitted(columns: np.ndarray, values: np.ndarray, cutoff: float) -> np.ndarray:
    scale = np.abs(columns).max(0)
    return np.linalg.lstsq(columns / scale, values, rcond=cutoff)[0] / scale


def _scaled(columns: np.ndarray) -> np.ndarray:
    return columns / np.abs(columns).max(0)


def _samples(reach: float, n_points: int) -> np.ndarray:
    """Chebyshev points in asinh(x/2) on [0, reach]: equally dense in the logarithm of large x."""
    angle = np.pi * (np.arange(n_points) + 0.5) / n_points
    return 2 * np.sinh(np.arcsinh(reach / 2) * (1 - np.cos(angle)) / 2)


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_name("poles.npz"), **table(pole_table())._asdict())
