"""Propagators as sums over poles: what a bath makes of the impurity before the interaction is switched on.

    g(τ) = Σ_l a_l e^{−ε_l τ}/(1 + e^{−βε_l}),   G(iω) = Σ_l a_l/(iω − ε_l),   Σ_l a_l = 1

With levels and couplings of a bath, ε and a are eigenvalues and impurity weights of the one-body Hamiltonian.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float
from scipy.optimize import least_squares


class Poles(NamedTuple):
    """Energies ε_l and weights a_l. Weights of levels are positive; those of a fit to data need not be."""

    energies: Float[np.ndarray, " pole"]
    weights: Float[np.ndarray, " pole"]

    @property
    def fastest(self) -> float:
        """The largest energy in absolute value."""
        return float(np.max(np.abs(self.energies)))

    @property
    def symmetric(self) -> bool:
        """Whether there is particle–hole symmetry, g(τ) = g(β − τ)."""
        order = np.argsort(self.energies)
        energies, weights = self.energies[order], self.weights[order]
        return bool(
            np.allclose(energies, -energies[::-1], atol=1e-9) and np.allclose(weights, weights[::-1], atol=1e-9)
        )

    def at_times(self, beta: float, times: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """g(τ) in [0, β], without overflow."""
        result = np.zeros_like(np.asarray(times, float))
        for energy, weight in zip(self.energies, self.weights, strict=True):
            decay = -times * energy if energy > 0 else (beta - times) * energy
            result += weight / (1 + math.exp(-beta * abs(energy))) * np.exp(decay)
        return result

    def at_frequencies(self, frequencies: Float[np.ndarray, " n"]) -> Complex[np.ndarray, " n"]:
        """G(iω)."""
        return np.sum(self.weights / (1j * frequencies[:, None] - self.energies), axis=1)


def of_levels(level: float, energies: np.ndarray, couplings: np.ndarray) -> Poles:
    """Of an impurity level x = ε_d + U/2 − μ and bath levels ε_k coupled to it by V_k."""
    hamiltonian = np.diag(np.concatenate([[level], energies])).astype(float)
    hamiltonian[0, 1:] = hamiltonian[1:, 0] = couplings
    values, vectors = np.linalg.eigh(hamiltonian)
    return Poles(values, vectors[0] ** 2)


def semicircle(half_bandwidth: float, coupling: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Levels and couplings of a bath with Δ(iω) = V² ∫ ρ(ε)/(iω − ε) dε, ρ(ε) = (2/πD²) √(D² − ε²).

    Gauss–Chebyshev nodes of the second kind, as many as make g(τ) right to rounding at this β.
    """
    n_levels = 6 * math.ceil(beta * half_bandwidth) + 20
    angle = np.pi * np.arange(1, n_levels + 1) / (n_levels + 1)
    return half_bandwidth * np.cos(angle), coupling * np.sqrt(2 / (n_levels + 1)) * np.sin(angle)


def fitted(g: Callable[[np.ndarray], np.ndarray], beta: float, n_levels: int, symmetric: bool) -> Poles:
    """The few levels whose g(τ) is nearest to a given one, by least squares over 401 equidistant times.

    From twelve random starts. With ``symmetric`` levels come in pairs ±ε of equal weight.
    """
    times = np.linspace(0, beta, 401)
    wanted, rng, half = g(times), np.random.default_rng(0), n_levels // 2

    def unpacked(parameters: np.ndarray) -> Poles:
        if symmetric:
            energies, weights = np.exp(parameters[:half]), np.exp(parameters[half : 2 * half])
            centre = np.exp(parameters[2 * half :])
            energies = np.concatenate([energies, -energies, np.zeros_like(centre)])
            weights = np.concatenate([weights, weights, centre])
        else:
            energies, weights = parameters[:n_levels], np.exp(parameters[n_levels:])
        return Poles(energies, weights / weights.sum())

    def difference(parameters: np.ndarray) -> np.ndarray:
        return unpacked(parameters).at_times(beta, times) - wanted

    n_parameters = 2 * half + n_levels % 2 if symmetric else 2 * n_levels
    starts = rng.normal(size=(12, n_parameters))
    with np.errstate(over="ignore", invalid="ignore"):
        fits = [least_squares(difference, start, x_scale="jac", max_nfev=200) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    return unpacked(best.x)
