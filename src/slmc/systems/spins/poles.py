"""Sums over levels as sums over poles: what replaces a diagonalisation.

With x = (E − μ)/T, a sum over levels of any of these functions is a sum over a few fixed frequencies o_p of the
logarithm of a determinant or its phase:

    log cosh(x/2)        ≈ Σ_p w_p log(1 + x²/o_p²)      Σ_n log(1 + x_n²/o_p²) = 2 log |det(1 − i(H − μ)/(o_p T))|
    x tanh(x/2)/2        ≈ Σ_p u_p log(1 + x²/o_p²)
    x²/(4 cosh²(x/2))    ≈ Σ_p v_p log(1 + x²/o_p²)
    tanh(x/2)/2          ≈ Σ_p y_p arctan(x/o_p)         Σ_n arctan(x_n/o_p) = −arg det(1 − i(H − μ)/(o_p T))

for all |x| up to a ``reach`` known before the run. The exact o_p are the Matsubara frequencies (2k + 1)π, infinitely
many of weight 1; ``rational`` finds few that do as well, and the file ``poles.npz`` holds them. The error on [0, reach]
is bounded, not estimated, by values at many points: see ``largest_error``.
"""

import functools
from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

MAX_LANES = 64
"""Frequencies of one row of the table at most, for all four functions together."""

LONGEST_SPIN = 1.05
"""The reach allows for spins a little longer than 1, as finite differences off the sphere make them."""


class PoleTable(NamedTuple):
    """Frequencies and weights for reaches from 4 to 16384, a row each, padded with frequencies of weight zero.

    ``error`` is the largest error of log cosh(x/2) for one level, ``observables_error`` that of the other three.
    ``n_frequencies`` serve all functions; the first of them, those with a weight in ``log_cosh``, serve that one.
    """

    reach: np.ndarray
    frequencies: np.ndarray
    log_cosh: np.ndarray
    energy: np.ndarray
    variance: np.ndarray
    occupation: np.ndarray
    n_frequencies: np.ndarray
    error: np.ndarray
    observables_error: np.ndarray

    def row(self, reach: float) -> int:
        """The row for levels up to |E − μ| = ``reach`` T; raises ``ValueError`` where there is none."""
        if not reach <= self.reach[-1]:
            raise ValueError(f"there are poles up to (|E| + |μ|)/T = {self.reach[-1]:g}; got {reach:.4g}.")
        return int(np.searchsorted(self.reach, reach))

    def packed(self) -> np.ndarray:
        """What the compiled loops read, in each row: reach, numbers of poles and frequencies, and the five lists."""
        n_poles = np.sum(self.log_cosh > 0, axis=1)
        lists = (self.frequencies, self.log_cosh, self.energy, self.variance, self.occupation)
        return np.column_stack([self.reach, n_poles, self.n_frequencies, *lists])


@functools.cache
def pole_table() -> PoleTable:
    """The poles of this version of the package."""
    with files("slmc.systems.spins").joinpath("poles.npz").open("rb") as file, np.load(file) as stored:
        return PoleTable(**stored)


def log_cosh(x: np.ndarray) -> np.ndarray:
    """log cosh(x/2); log(1 + exp(−x)) is this and log 2 less x/2."""
    return np.logaddexp(x / 2, -x / 2) - np.log(x.dtype.type(2))


def energy(x: np.ndarray) -> np.ndarray:
    """x tanh(x/2)/2; x f(x) is x/2 less this."""
    return x * np.tanh(x / 2) / 2


def variance(x: np.ndarray) -> np.ndarray:
    """x² f(x) (1 − f(x))."""
    decayed = np.exp(-np.abs(x))
    return x**2 * decayed / (1 + decayed) ** 2


def occupation(x: np.ndarray) -> np.ndarray:
    """tanh(x/2)/2; f(x) is 1/2 less this."""
    return np.tanh(x / 2) / 2


def logarithms(x: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """log(1 + x²/o²) for all x (rows) and frequencies (columns)."""
    return np.log1p((x[:, None] / frequencies) ** 2)


def angles(x: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """arctan(x/o)."""
    return np.arctan(x[:, None] / frequencies)


def largest_error(function: Function, approximation: Function, reach: float) -> float:
    """A bound of |function − approximation| on [0, reach], for the functions of this file.

    Their difference is analytic but for the imaginary axis beyond ±i o_1, where o_1 ≥ 2.2. On the segments [0, 2],
    [2, 4], [4, 8], … it is therefore, to less than 1e-16, a polynomial of degree 40 (Bernstein's ellipses with ρ ≥ 4),
    and a polynomial of degree m is nowhere larger than its largest value at n > m Chebyshev points over cos(πm/2n)
    (Ehlich, Zeller, Math. Z. 86, 41 (1964)). In extended precision, where the machine has it.
    """
    degree, n_points = 40, 160
    points = np.cos(np.pi * (np.arange(n_points) + 0.5) / n_points)
    ends = np.concatenate([[0.0], 2.0 ** np.arange(1, np.log2(reach)), [reach]])
    x = ((ends[:-1] + ends[1:]) / 2)[:, None] + ((ends[1:] - ends[:-1]) / 2)[:, None] * points
    x = x.ravel().astype(np.longdouble)
    errors = np.abs(function(x) - approximation(x))
    return float(errors.max() / np.cos(np.pi * degree / (2 * n_points)))
