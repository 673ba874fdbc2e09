"""Data in imaginary time or at Matsubara frequencies as poles of positive weight, by non-negative least squares.

    f(τ) = Σ_l a_l e^{−ε_l τ}/(1 + e^{−βε_l}),   f(iω) = Σ_l a_l/(iω − ε_l),   a_l ≥ 0

on a grid of energies that is dense near zero. Every function of this form belongs to a positive spectral density, and
the other way round: what cannot be fitted is no hybridization function and no propagator, and noise that would make it
none is left out. The same for τ and for iω, whatever the grid of the data.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from slmc.systems.impurity.poles import Poles

N_ENERGIES = 40
"""Energies of either sign."""

TOLERANCE = 0.02
"""Of data, relative to their root mean square, that may remain without a positive spectral density."""


def energy_grid(beta: float, largest: float) -> Float[np.ndarray, " pole"]:
    """From ±T/4 to ±``largest`` in equal ratios, and 0."""
    positive = np.geomspace(min(0.25 / beta, largest / 10), largest, N_ENERGIES)
    return np.concatenate([-positive[::-1], [0.0], positive])


def of_frequencies(
    energies: Float[np.ndarray, " pole"],
    frequencies: Float[np.ndarray, " n"],
    values: np.ndarray,
    total: float | None = None,
) -> tuple[Poles, float]:
    """The poles of values at ω_n > 0, and the relative residual; ``total`` is Σ a_l if that is known."""
    kernel = 1 / (1j * frequencies[:, None] - energies)
    matrix, wanted = np.concatenate([kernel.real, kernel.imag]), np.concatenate([values.real, values.imag])
    return _solved(energies, matrix, wanted, total)


def of_times(
    energies: Float[np.ndarray, " pole"], beta: float, times: Float[np.ndarray, " time"], values: np.ndarray
) -> tuple[Poles, float]:
    """The poles of values at times in [0, β], positive as ⟨d(τ) d†⟩ is, and the relative residual."""
    kernel = np.stack([Poles(np.array([e]), np.ones(1)).at_times(beta, times) for e in energies], axis=1)
    return _solved(energies, kernel, values, None)


def _solved(energies: np.ndarray, matrix: np.ndarray, wanted: np.ndarray, total: float | None) -> tuple[Poles, float]:
    scale = float(np.sqrt(np.mean(wanted**2))) or 1.0
    rows, right = matrix / scale, wanted / scale
    if total is not None:
        heavy = 10.0 * np.sqrt(len(wanted))
        rows = np.concatenate([rows, np.full((1, len(energies)), heavy)])
        right = np.append(right, heavy * total)
    weights, _ = nnls(rows, right, maxiter=100 * len(energies))
    if total is not None:
        weights = weights * (total / weights.sum())
    residual = float(np.sqrt(np.mean((matrix @ weights - wanted) ** 2))) / scale
    return Poles(energies, weights), residual


def read_hybridization(path: Path, beta: float) -> tuple[Float[np.ndarray, " level"], Float[np.ndarray, " level"]]:
    """Levels and couplings of a hybridization function in a text file.

    Two columns are τ and Δ(τ) = Σ_k V_k² e^{−ε_k τ}/(1 + e^{−βε_k}) > 0 on a grid from 0 to β; three are ω_n and the
    real and imaginary part of Δ(iω_n) = Σ_k V_k²/(iω_n − ε_k), from the lowest frequency. Raises ``ValueError`` with
    what is wrong with the file, ``OSError`` where it cannot be read.
    """
    try:
        data = np.loadtxt(path, ndmin=2)
    except (ValueError, UnicodeDecodeError):
        raise ValueError("it is no table of numbers; give two columns, τ Δ, or three, ω Re Δ Im Δ.") from None
    if data.shape[1] not in (2, 3) or len(data) < 8 or not np.all(np.isfinite(data)):
        raise ValueError(
            "it must have two columns, τ Δ, or three, ω Re Δ Im Δ, in at least 8 lines of finite numbers; got "
            f"{data.shape[0]} lines of {data.shape[1]}."
        )
    grid = data[:, 0]
    if not np.all(np.diff(grid) > 0):
        raise ValueError("its first column must increase from line to line.")
    if data.shape[1] == 2:
        if abs(grid[0]) > 1e-6 * beta or abs(grid[-1] - beta) > 1e-6 * beta:
            raise ValueError(f"its τ must go from 0 to β = {beta:g}; they go from {grid[0]:g} to {grid[-1]:g}.")
        if np.any(data[:, 1] <= 0):
            raise ValueError("its Δ(τ) must be positive everywhere; turn the sign if it is that of −⟨c c†⟩.")
        steep = max(abs(np.log(data[1, 1] / data[0, 1])) / grid[1], abs(np.log(data[-2, 1] / data[-1, 1])) / grid[1])
        poles, residual = of_times(energy_grid(beta, max(4 * steep, 20 / beta)), beta, grid, data[:, 1])
    else:
        numbers = grid * beta / np.pi
        if np.any(np.abs(numbers - np.round(numbers)) > 1e-3) or np.any(np.round(numbers) % 2 == 0):
            raise ValueError(f"its ω must be Matsubara frequencies (2n + 1) π/β at β = {beta:g}.")
        if np.any(data[:, 2] >= 0):
            raise ValueError("its Im Δ(iω) must be negative at every ω > 0.")
        poles, residual = of_frequencies(energy_grid(beta, grid[-1]), grid, data[:, 1] + 1j * data[:, 2])
    if residual > TOLERANCE:
        raise ValueError(
            f"its Δ belongs to no positive spectral density: {residual:.0%} of it remain; look at its sign and its β."
        )
    kept = poles.weights > 1e-12 * poles.weights.max()
    return poles.energies[kept], np.sqrt(poles.weights[kept])
