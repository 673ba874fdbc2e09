"""From what is measured, T(τ) in Legendre polynomials, to Green functions and self-energies.

    T(τ) = (1/β) Σ_pq [(e^V − 1) N]_pq δ(τ − τ_p + τ_q) = t_0 δ(τ) + Σ_l ((2l + 1)/β) t_{1+l} P_l(2τ/β − 1)
    g = g0 + g0 ∗ T ∗ g0,   G(iω) = G0(iω) − G0(iω)² T(iω),   Σ(iω) = −T(iω)/(1 − G0(iω) T(iω))

Σ is what is added to U/2, the Hartree term at half filling, which is in g0. Its error does not grow with ω, as that of
1/G0 − 1/G does: the improved estimator of auxiliary-field methods. Legendre polynomials: Boehnke, Hafermann, Ferrero,
Lechermann, Parcollet, PRB 84, 075145 (2011).
"""

import functools
import math

import numpy as np
from jaxtyping import Complex, Float
from scipy.special import spherical_jn

from slmc.systems.impurity.poles import Poles

_N_FREQUENCIES = 4000
"""Matsubara frequencies in sums whose terms fall as 1/ω³."""


def n_moments(beta: float, scale: float) -> int:
    """Legendre polynomials for structure on an energy ``scale``: 16 + 3 √(β scale), even."""
    return 2 * math.ceil((16 + 3 * math.sqrt(beta * scale)) / 2)


def matsubara(beta: float, n_frequencies: int) -> Float[np.ndarray, " frequency"]:
    """ω_n = (2n + 1) π/β, n = 0, 1, …"""
    return (2 * np.arange(n_frequencies) + 1) * np.pi / beta


@functools.lru_cache(maxsize=16)
def transform(n_frequencies: int, n_legendre: int) -> Complex[np.ndarray, "frequency moment"]:
    """∫ e^{iω_n τ} of what belongs to each moment; it does not depend on β."""
    n, degree = np.arange(n_frequencies)[:, None], np.arange(n_legendre)[None]
    bessel = spherical_jn(degree, (2 * n + 1) * np.pi / 2)
    phases = 1j ** (degree + 1) * (-1.0) ** n
    return np.concatenate([np.ones((n_frequencies, 1)), (2 * degree + 1) * phases * bessel], axis=1)


def at_frequencies(moments: Float[np.ndarray, "*any moment"], n_frequencies: int) -> Complex[np.ndarray, "*any n"]:
    """T(iω_n)."""
    return moments @ transform(n_frequencies, moments.shape[-1] - 1).T


def green_function(
    poles: Poles, beta: float, moments: Float[np.ndarray, "*any moment"], n_frequencies: int
) -> Complex[np.ndarray, "*any n"]:
    """G(iω_n)."""
    bare = poles.at_frequencies(matsubara(beta, n_frequencies))
    return bare - bare**2 * at_frequencies(moments, n_frequencies)


def self_energy(
    poles: Poles, beta: float, moments: Float[np.ndarray, "*any moment"], n_frequencies: int
) -> Complex[np.ndarray, "*any n"]:
    """Σ(iω_n) − U/2."""
    bare = poles.at_frequencies(matsubara(beta, n_frequencies))
    measured = at_frequencies(moments, n_frequencies)
    return -measured / (1 - bare * measured)


def to_times(
    poles: Poles, beta: float, n_legendre: int, times: Float[np.ndarray, " time"]
) -> Float[np.ndarray, "time moment"]:
    """The matrix A of g(τ) − g0(τ) = Σ_k A_τk t_k at times in [0, β]; 0 is 0⁺."""
    frequencies = matsubara(beta, _N_FREQUENCIES)
    squared = poles.at_frequencies(frequencies) ** 2
    phases = np.exp(-1j * np.outer(times, frequencies))
    rows = 2 / beta * np.real((phases * squared) @ transform(_N_FREQUENCIES, n_legendre))
    rows[:, 0] = [_convolved(poles, beta, float(time)) for time in times]
    return rows


def _convolved(poles: Poles, beta: float, time: float) -> float:
    """h(τ) = ∫_0^β g0(τ − τ') g0(τ') dτ', by Gauss–Legendre quadrature from kink to kink."""
    total = 0.0
    for low, high, sign in ((0.0, time, 1.0), (time, beta, -1.0)):
        nodes, weights = _quadrature(low, high, max(poles.fastest, 1 / beta))
        other = time - nodes if sign > 0 else time - nodes + beta
        total += sign * float(np.sum(weights * poles.at_times(beta, other) * poles.at_times(beta, nodes)))
    return total


def _quadrature(low: float, high: float, fastest: float) -> tuple[np.ndarray, np.ndarray]:
    n_panels = max(1, math.ceil((high - low) * fastest / 4))
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(low, high, n_panels + 1)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()
