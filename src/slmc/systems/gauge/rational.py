"""Rational approximations of x^power, for flavour numbers whose determinant is not a whole power."""

import warnings
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.numbers import finite, positive

_N_POINTS = 2000


class Rational(eqx.Module):
    """r(x) = r_0 + Σ_k r_k/(x + σ_k) with σ_k ≥ 0, for multi-shift solvers."""

    constant: Float[Array, ""]
    residues: Float[Array, " pole"]
    shifts: Float[Array, " pole"]

    def __call__(self, x: Float[Array | np.ndarray, "*points"]) -> np.ndarray:
        """r(x), elementwise, in NumPy."""
        x = np.asarray(x)[..., None]
        return float(self.constant) + np.sum(np.asarray(self.residues) / (x + np.asarray(self.shifts)), axis=-1)


class Approximation(NamedTuple):
    """A rational function and its largest relative error over the range, on a grid finer than it was made on."""

    rational: Rational
    error: float


def rational_power(power: float, lower: float, upper: float, tolerance: float = 1e-11) -> Approximation:
    """x^power on [lower, upper] with a relative error of at most ``tolerance``.

    Poles by the AAA algorithm (Nakatsukasa, Sète, Trefethen, SIAM J. Sci. Comput. 40, A1494 (2018); scipy), residues by
    a weighted least-squares fit; as many poles as are needed. Raises ``ValueError`` for a range that does not lie above
    zero, and if no approximation with real shifts is good enough.
    """
    finite(power, "power")
    positive(tolerance, "tolerance")
    if not 0 < lower < upper < np.inf:
        raise ValueError(f"the range of a rational approximation must be 0 < lower < upper; got {lower}, {upper}.")
    # Nested so that the end points are on both grids; the check falls between the points of the fit.
    check = np.geomspace(lower, upper, 2 * _N_POINTS - 1)
    grid = check[::2]
    best = np.inf
    for n_terms in range(3, 40):
        shifts = _shifts(grid, grid**power, n_terms)
        if shifts is None:
            continue
        design = np.concatenate([np.ones((len(grid), 1)), 1 / (grid[:, None] + shifts)], axis=1)
        weights = grid**-power
        scale = np.linalg.norm(design * weights[:, None], axis=0)
        coefficients = np.linalg.lstsq(design * weights[:, None] / scale, np.ones(len(grid)), rcond=None)[0] / scale
        rational = Rational(jnp.asarray(coefficients[0]), jnp.asarray(coefficients[1:]), jnp.asarray(shifts))
        error = float(np.max(np.abs(rational(check) / check**power - 1)))
        if error <= tolerance:
            return Approximation(rational, error)
        best = min(best, error)
    raise ValueError(
        f"no rational approximation of x^{power:g} on [{lower:g}, {upper:g}] is better than {best:.1e}; "
        "narrow the range (a larger mass) or allow a larger error."
    )


def _shifts(grid: np.ndarray, values: np.ndarray, n_terms: int) -> np.ndarray | None:
    """Minus the poles if all of them are real and below the range, else nothing."""
    from scipy.interpolate import AAA  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        poles = AAA(grid, values, rtol=0, max_terms=n_terms, clean_up=False).poles()
    real = np.all(np.abs(poles.imag) <= 1e-8 * np.abs(poles))
    return np.sort(-poles.real) if real and np.all(poles.real < 0) else None
