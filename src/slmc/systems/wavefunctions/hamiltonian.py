"""The J1-J2 Heisenberg model in NetKet's terms, and its exact ground state where known."""

import functools
from typing import Any, NamedTuple

import netket as nk
import numpy as np
from jaxtyping import Array, Complex
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import eigsh

from slmc.lattice import Shape, check_shape, n_sites

KNOWN_ENERGIES: dict[tuple[Shape, float], float] = {
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


def energy_bound(physics: J1J2, j2: float) -> float:
    """The largest |energy| a site of any state, 3/4 Σ_b |J_b| / N over bonds b: that of singlets on all of them."""
    n_bonds = [len(physics.graph.edges(filter_color=colour)) for colour in (0, 1)]
    return 0.75 * (n_bonds[0] + abs(j2) * n_bonds[1]) / physics.hilbert.size


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
    matrix = sparse_matrix(j1j2(shape, j2, marshall), j2, marshall)
    # From a fixed start: ARPACK's own is random.
    energies, vectors = eigsh(matrix, k=1, which="SA", v0=np.random.default_rng(0).normal(size=matrix.shape[0]))
    return GroundState(float(energies[0]), vectors[:, 0])


def sparse_matrix(physics: J1J2, j2: float, marshall: bool = False) -> csr_matrix:
    """H in the order of NetKet's basis, bond by bond; the same matrix as NetKet's, made much faster."""
    is_up = np.asarray(physics.hilbert.all_states()) > 0
    states = is_up @ (1 << np.arange(is_up.shape[1]))
    order = np.argsort(states)
    matrix = csr_matrix((len(states), len(states)))
    for colour, coupling in ((0, 1.0), (1, j2)):
        sign = -1.0 if marshall and colour == 0 else 1.0
        for i, j in physics.graph.edges(filter_color=colour):
            rows = np.flatnonzero(is_up[:, i] != is_up[:, j])
            columns = order[np.searchsorted(states, states[rows] ^ (1 << i) ^ (1 << j), sorter=order)]
            diagonal = np.full(len(states), coupling / 4)
            diagonal[rows] = -coupling / 4
            exchange = csr_matrix((np.full(len(rows), sign * coupling / 2), (rows, columns)), matrix.shape)
            matrix = matrix + diags(diagonal).tocsr() + exchange
    return matrix


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
