"""The J1-J2 Heisenberg model in NetKet's terms, and its exact ground state where known."""

import functools
from typing import Any, NamedTuple

import netket as nk
import numpy as np
from jaxtyping import Array, Complex

from slmc.lattice import Shape, check_shape, n_sites

KNOWN_ENERGIES = {
    ((4, 4), 0.0): -0.7017801875,
    ((4, 4), 0.5): -0.528620,
    ((6, 6), 0.0): -0.6788721388,
    ((6, 6), 0.5): -0.503810,
}
"""Exact ground-state energies a site by shape and J2/J1 (units of J1), from exact diagonalisation."""

_LARGEST_DIAGONALISED = 20
"""Sites up to which ``exact_ground_state`` diagonalises."""


class J1J2(NamedTuple):
    """The model on a lattice: NetKet's graph, Hilbert space and Hamiltonian (in units of J1)."""

    graph: Any
    hilbert: Any
    hamiltonian: Any


def j1j2(shape: Shape, j2: float = 0.0, marshall: bool = False) -> J1J2:
    """H = Σ_⟨ij⟩ S_i·S_j + J2 Σ_⟨⟨ij⟩⟩ S_i·S_j, S = 1/2, periodic, total S^z = 0, J1 = 1.

    The second sum is over the next distance: diagonals of the square lattice, second neighbours of the chain. S is
    half of what NetKet's operators are made of, σ·σ = 4 S·S; energies here are those of S·S. Every pair counts once.
    With ``marshall`` the basis is rotated by π about z on one sublattice, making all amplitudes positive at J2 = 0.

    Raises ``ValueError`` for extents that are odd or smaller than 4.
    """
    shape = check_shape(shape)
    if any(extent % 2 or extent < 4 for extent in shape):
        raise ValueError(f"extents must be even and at least 4; got {list(shape)}.")
    graph = nk.graph.Lattice(
        basis_vectors=np.eye(len(shape)), extent=shape, pbc=True, max_neighbor_order=2, point_group=None
    )
    hilbert = nk.hilbert.Spin(0.5, n_sites(shape), total_sz=0)
    operator = nk.operator.Heisenberg(hilbert, graph, J=[0.25, 0.25 * j2], sign_rule=[marshall, False])
    return J1J2(graph, hilbert, operator.to_jax_operator())


class GroundState(NamedTuple):
    """Energy (not a site's share) and amplitudes in the order of NetKet's basis."""

    energy: float
    amplitudes: np.ndarray


@functools.lru_cache(maxsize=8)
def exact_ground_state(shape: Shape, j2: float, marshall: bool = False) -> GroundState:
    """By Lanczos iteration in the space of total S^z = 0. Raises ``ValueError`` beyond 20 sites."""
    if n_sites(shape) > _LARGEST_DIAGONALISED:
        raise ValueError(
            f"{n_sites(shape)} sites are too many for exact diagonalisation; at most {_LARGEST_DIAGONALISED}."
        )
    found = nk.exact.lanczos_ed(j1j2(shape, j2, marshall).hamiltonian, k=1, compute_eigenvectors=True)
    energies, vectors = found
    return GroundState(float(energies[0]), np.asarray(vectors)[:, 0])


def exact_energy(shape: Shape, j2: float) -> float | None:
    """Exact ground-state energy a site: by diagonalisation of small lattices, else from the table, else ``None``."""
    if n_sites(shape) <= _LARGEST_DIAGONALISED:
        return exact_ground_state(tuple(shape), float(j2)).energy / n_sites(shape)
    return KNOWN_ENERGIES.get((tuple(shape), float(j2)))


def fidelity(log_amplitudes: Complex[Array | np.ndarray, " state"], exact: np.ndarray) -> float:
    """|⟨ψ|φ⟩|² of normalised states, ψ from log ψ over the whole basis."""
    amplitudes = np.exp(np.asarray(log_amplitudes) - np.max(np.real(log_amplitudes)))
    overlap = np.vdot(amplitudes, exact)
    return float(abs(overlap) ** 2 / (np.vdot(amplitudes, amplitudes).real * np.vdot(exact, exact).real))
