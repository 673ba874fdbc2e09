"""Neighbour shells, multiplicities and symmetries of the torus."""

import itertools

import numpy as np
import pytest

import reference_double_exchange as reference
from slmc import lattice

SHAPES = [(4,), (2,), (2, 1), (3, 4), (4, 4), (6, 4), (2, 3, 4), (4, 4, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_shells_are_the_displacement_vectors(shape):
    found, expected = lattice.shells(shape), reference.displacements_by_shell(shape)
    assert found.n_shells == len(expected)
    sites = list(itertools.product(*[range(extent) for extent in shape]))
    matrices = lattice.shell_sum_matrices(shape, found.n_shells)
    for n, vectors in enumerate(expected):
        assert found.squared_distances[n + 1] == sum(c**2 for c in vectors[0])
        matrix = np.zeros((len(sites), len(sites)))
        for i, position in enumerate(sites):
            for vector in vectors:
                matrix[i, reference.site_number(np.add(position, vector), shape)] += 1
        np.testing.assert_array_equal(matrices[n], matrix)


@pytest.mark.parametrize("shape", [*SHAPES, (10, 10)])
def test_displacement_classes(shape):
    found, expected = lattice.displacements(shape), reference.displacement_classes(shape)
    for n, (vector, vectors) in enumerate(zip(found.vectors, expected, strict=True)):
        assert tuple(vector) == tuple(sorted((abs(c) for c in vectors[0]), reverse=True))
        counts = np.zeros(lattice.n_sites(shape))
        for displacement in vectors:
            counts[reference.site_number(displacement, shape)] += 1
        np.testing.assert_array_equal(np.where(found.number[0] == n, found.multiplicity[0], 0), counts)


def test_displacements_tell_apart_what_shells_unite():
    found, shells = lattice.displacements((10, 10)), lattice.shells((10, 10))
    straight, slanted = 5 * 10, 3 * 10 + 4
    assert shells.shell[0, straight] == shells.shell[0, slanted]
    assert found.number[0, straight] != found.number[0, slanted]


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbour_table_sums_like_the_matrices(shape):
    n_shells = lattice.shells(shape).n_shells
    sites, shell, multiplicity = lattice.neighbours(shape, n_shells)
    values, weights = np.random.default_rng(1).normal(size=len(sites)), np.arange(1.0, n_shells + 1)
    found = (weights[shell - 1] * multiplicity * values[sites]).sum(-1)
    np.testing.assert_allclose(
        found, np.einsum("n,nij,j->i", weights, lattice.shell_sum_matrices(shape, n_shells), values)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_symmetries_keep_distances(shape):
    found = lattice.shells(shape)
    shifts, operations = list(lattice.translations(shape)), list(lattice.point_group(shape))
    assert len({tuple(p) for p in shifts}) == lattice.n_sites(shape)
    for permutation in (*shifts, *operations):
        np.testing.assert_array_equal(np.sort(permutation), np.arange(lattice.n_sites(shape)))
        np.testing.assert_array_equal(found.shell[permutation][:, permutation], found.shell)
        np.testing.assert_array_equal(found.multiplicity[permutation][:, permutation], found.multiplicity)


def test_point_group_of_the_square_and_the_cube():
    assert len({tuple(p) for p in lattice.point_group((4, 4))}) == 8
    assert len({tuple(p) for p in lattice.point_group((3, 4))}) == 4
    assert len({tuple(p) for p in lattice.point_group((4, 4, 4))}) == 48


def test_staggered_sign():
    signs = lattice.staggered_sign((4, 6))
    assert all(signs[x, y] == (-1) ** (x + y) for x in range(4) for y in range(6))
    with pytest.raises(ValueError, match="has an odd extent"):
        lattice.staggered_sign((4, 3))


def test_errors():
    with pytest.raises(ValueError, match="must list one or more positive whole extents"):
        lattice.check_shape(())
    with pytest.raises(ValueError, match="n_shells must lie between 0 and 5"):
        lattice.resolve_n_shells((4, 4), 6)
