"""The Bethe lattice by the hybridization expansion of ALPS, for ``benchmarks/impurity.py``, beside slmc's own.

    python benchmarks/impurity_hybridization.py BETA U N_ITERATIONS SECONDS

In an environment of its own with pyalps (``pip install pyalps``), named by ``SLMC_PYALPS_PYTHON``. Half-bandwidth 2,
half filling, Δ(τ) = G(τ), from the metal. Prints one line of JSON: D, Im Σ(iω_0) and g(β/2), each of all iterations.
Nothing of slmc is used.
"""

import json
import os
import sys
import tempfile

import numpy as np
import pyalps.cthyb as hybridization

N_TAU = 1000
T = 1.0


def semicircle(beta, tau):
    """−⟨d d†⟩ of the lattice without interaction."""
    angle = np.pi * np.arange(1, 1001) / 1001
    energies, weights = 2 * T * np.cos(angle), 2 / 1001 * np.sin(angle) ** 2
    decay = np.where(energies > 0, -tau[:, None] * energies, (beta - tau)[:, None] * energies)
    return -np.sum(weights * np.exp(decay) / (1 + np.exp(-beta * np.abs(energies))), axis=1)


def at_first_frequency(beta, tau, values):
    """∫ e^{iω_0 τ} f(τ) dτ."""
    return complex(np.trapezoid(np.exp(1j * np.pi * tau / beta) * values, tau))


def solved(beta, interaction, delta, seed, seconds):
    """G(τ) and F(τ) = −U ⟨d(τ) n_{−σ}(τ) d†⟩, averaged over spins."""
    tau = np.linspace(0, beta, N_TAU + 1)
    np.savetxt("delta.dat", np.column_stack([np.arange(N_TAU + 1), delta, delta]))
    hybridization.solve(
        {
            "BASENAME": "solver",
            "DELTA": "delta.dat",
            "N_TAU": N_TAU,
            "BETA": beta,
            "U": interaction,
            "MU": interaction / 2,
            "N_ORBITALS": 2,
            "SWEEPS": 10**9,
            "MAX_TIME": seconds,
            "THERMALIZATION": 5000,
            "N_MEAS": 100,
            "N_HISTOGRAM_ORDERS": 200,
            "TEXT_OUTPUT": 1,
            "SEED": seed,
            "VERBOSE": 0,
        }
    )
    return tau, *(np.loadtxt(name)[:, 1:3].mean(1) for name in ("Gt.dat", "Ft.dat"))


if __name__ == "__main__":
    beta, interaction = float(sys.argv[1]), float(sys.argv[2])
    n_iterations, seconds = int(sys.argv[3]), int(sys.argv[4])
    os.chdir(tempfile.mkdtemp())
    tau = np.linspace(0, beta, N_TAU + 1)
    green = semicircle(beta, tau)
    history = []
    for iteration in range(n_iterations):
        _, green, product = solved(beta, interaction, T**2 * green, iteration + 1, seconds)
        sigma = at_first_frequency(beta, tau, product) / at_first_frequency(beta, tau, green)
        # Particle–hole symmetry, which noise breaks.
        green = (green + green[::-1]) / 2
        numbers = {"sigma_im": sigma.imag, "double_occupancy": abs(float(product[-1])) / interaction}
        history.append(numbers | {"green_half_beta": float(-green[N_TAU // 2])})
    print(json.dumps(history))
