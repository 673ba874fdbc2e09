"""Chiral γ matrices in two to four dimensions."""

import jax.numpy as jnp
import numpy as np

from slmc.systems.gauge.fermion_operator import FermionField


def reduced_gammas(dimension: int) -> list[np.ndarray]:
    """σ_μ of the chiral γ_μ = [[0, σ_μ], [σ_μ†, 0]]; γ_5 is 1 above and −1 below."""
    if dimension == 2:
        return [np.array([[1.0 + 0j]]), np.array([[-1j]])]
    pauli = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]])]
    return [*(-1j * sigma for sigma in pauli), np.eye(2, dtype=complex)][:dimension]


def gamma_matrices(dimension: int) -> list[np.ndarray]:
    """γ_μ with γ_μ γ_ν + γ_ν γ_μ = 2 δ_μν."""
    gammas = []
    for sigma in reduced_gammas(dimension):
        zero = np.zeros_like(sigma)
        gammas.append(np.block([[zero, sigma], [sigma.conj().T, zero]]))
    return gammas


def times_gamma_5(field: FermionField) -> FermionField:
    upper, lower = jnp.split(field, 2)
    return jnp.concatenate([upper, -lower])
