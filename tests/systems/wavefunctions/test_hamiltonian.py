"""The model against a dense matrix written down independently, and against published energies."""

import numpy as np
import pytest
import reference_spins as reference

from slmc.systems.wavefunctions import exact_energy, exact_ground_state, fidelity, j1j2
from slmc.systems.wavefunctions.hamiltonian import KNOWN_ENERGIES, sparse_matrix


def ordered(shape, j2, marshall):
    """The reference's matrix in the order of NetKet's basis."""
    states = np.asarray(j1j2(shape).hilbert.all_states())
    places = {tuple(state): place for place, state in enumerate(reference.basis(int(np.prod(shape))))}
    order = [places[tuple(int(spin) for spin in state)] for state in states]
    return reference.hamiltonian(shape, j2, marshall)[np.ix_(order, order)]


def test_matrix_elements_of_netkets_operator():
    physics = j1j2((6,), 0.3, marshall=True)
    np.testing.assert_allclose(physics.hamiltonian.to_dense(), ordered((6,), 0.3, True), atol=1e-12)


@pytest.mark.parametrize("marshall", [False, True])
def test_matrix_elements_of_the_matrix_that_is_diagonalised(marshall):
    found = sparse_matrix(j1j2((8,)), 0.3, marshall).toarray()
    np.testing.assert_allclose(found, ordered((8,), 0.3, marshall), atol=1e-12)


def test_bonds_of_the_square_lattice():
    graph = j1j2((4, 4)).graph
    for colour, squared_distance in ((0, 1), (1, 2)):
        edges = {tuple(sorted(edge)) for edge in graph.edges(filter_color=colour)}
        assert edges == set(reference.bonds((4, 4), squared_distance))


@pytest.mark.parametrize("j2", [0.0, 0.5])
def test_published_energies_of_the_square_lattice(j2):
    assert exact_energy((4, 4), j2) == pytest.approx(KNOWN_ENERGIES[(4, 4), j2], abs=1e-6)
    assert exact_energy((6, 6), j2) == KNOWN_ENERGIES[(6, 6), j2]
    assert exact_energy((8, 8), j2) is None


def test_the_marshall_rotation_makes_amplitudes_positive():
    plain, rotated = exact_ground_state((4, 4), 0.0), exact_ground_state((4, 4), 0.0, marshall=True)
    assert plain.energy == pytest.approx(rotated.energy, rel=1e-10)
    amplitudes = rotated.amplitudes * np.sign(rotated.amplitudes.sum())
    assert amplitudes.min() > 0
    assert plain.amplitudes.min() < 0 < plain.amplitudes.max()


def test_fidelity():
    exact = exact_ground_state((8,), 0.3).amplitudes
    assert fidelity(np.log(exact.astype(complex)) + (3.0 + 2.0j), exact) == pytest.approx(1.0)
    assert fidelity(np.log(np.abs(exact).astype(complex)), exact) < 0.9


@pytest.mark.parametrize("shape", [(5,), (2, 4), (4, 3)])
def test_lattices_that_are_not_allowed(shape):
    with pytest.raises(ValueError, match="extents must be even and at least 4"):
        j1j2(shape)
