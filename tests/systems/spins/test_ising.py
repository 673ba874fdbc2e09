"""Ising models and their updates against sums written out and the enumeration of all states of a 4×4 lattice."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import chisquare

import objects_ising
from objects_ising import signs
from slmc.lattice import colouring, neighbours, shells
from slmc.systems.spins import Ising, PlaquetteIsing
from slmc.systems.spins.clusters import (
    cluster_labels,
    grown_cluster,
    joined_labels,
    labelled_cluster,
    propagated_labels,
)
from slmc.testing import check_detailed_balance

SHAPES = [(4, 4), (5, 3), (2, 4), (3, 4, 2), (6,), (4, 1)]


# -------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("shape", SHAPES)
def test_two_body_weight_is_the_sum_over_shells(shape):
    found = shells(shape)
    n_shells = min(3, found.n_shells)
    couplings = np.random.default_rng(1).normal(size=n_shells)
    model = Ising(shape, couplings=jnp.asarray(couplings), constant=0.4, temperature=0.7)
    spins = signs(2, *shape)
    flat, energy = np.asarray(spins).ravel(), 0.4
    for i, j in itertools.product(range(flat.size), repeat=2):
        if 1 <= found.shell[i, j] <= n_shells:
            energy -= couplings[found.shell[i, j] - 1] * found.multiplicity[i, j] * flat[i] * flat[j] / 2
    assert float(model.log_weight(spins)) == pytest.approx(-energy / 0.7, abs=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 4, 2)])
def test_plaquette_weight_is_the_sum_over_squares(shape):
    model = PlaquetteIsing(shape, 0.8, 0.3, 1.7)
    spins = np.asarray(signs(3, *shape))
    energy = 0.0
    for site in np.ndindex(*shape):

        def at(*axes, site=site):
            return spins[tuple((x + (a in axes)) % n for a, (x, n) in enumerate(zip(site, shape, strict=True)))]

        energy -= sum(0.8 * at() * at(a) for a in range(len(shape)))
        energy -= sum(0.3 * at() * at(a) * at(b) * at(a, b) for a, b in itertools.combinations(range(len(shape)), 2))
    assert float(model.log_weight(jnp.asarray(spins))) == pytest.approx(-energy / 1.7, abs=1e-12)


MODELS = {
    "one shell": lambda shape: Ising(shape, couplings=[0.7]),
    "two shells": lambda shape: Ising(shape, couplings=[0.7, -0.3]),
    "plaquettes": lambda shape: PlaquetteIsing(shape, 1.0, 0.4, 1.3),
}


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 4), (3, 4, 2)])
@pytest.mark.parametrize("name", MODELS)
def test_local_fields_and_colours(name, shape):
    """Flipping a spin changes log W by −2 s h, and the fields of no sites but those said to interact."""
    model = MODELS[name](shape)
    spins = signs(4, *shape)
    fields = model.local_fields(spins)
    colours, interacting = colouring(model.interacting()), model.interacting()
    for site in range(spins.size):
        flipped = spins.ravel().at[site].multiply(-1.0).reshape(shape)
        change = -2 * spins.ravel()[site] * fields.ravel()[site]
        assert float(model.log_weight(flipped) - model.log_weight(spins)) == pytest.approx(float(change), abs=1e-12)
        others = np.flatnonzero(np.abs(np.asarray(model.local_fields(flipped) - fields).ravel()) > 1e-12)
        assert set(others) <= set(interacting[site])
        assert not np.any(colours[others] == colours[site])


def test_an_even_lattice_is_a_checkerboard():
    assert colouring(neighbours((6, 4), 1)[0]).max() == 1
    assert colouring(PlaquetteIsing((6, 4)).interacting()).max() == 3


def test_a_model_on_another_lattice_keeps_its_energy_per_site():
    model = Ising((4, 4), couplings=[0.7, -0.3], constant=3.2, temperature=0.7)
    tiled = model.on_lattice((8, 8), 1.4)
    spins = signs(5, 4, 4)
    wanted = 4 * model.log_weight(spins) / 2
    assert float(tiled.log_weight(jnp.tile(spins, (2, 2)))) == pytest.approx(float(wanted), abs=1e-12)


@pytest.mark.parametrize("model", [Ising, PlaquetteIsing])
def test_bad_temperature(model):
    with pytest.raises(ValueError, match="temperature must be positive"):
        model((4, 4), temperature=0.0)


def test_too_many_couplings():
    with pytest.raises(ValueError, match="the number of couplings must lie between"):
        Ising((2, 2), couplings=[1.0, 1.0, 1.0])


# ------------------------------------------------------------------------------------------------------- clusters


@pytest.mark.parametrize("shape", [(16, 16), (5, 7), (4, 6, 5), (30,), (2, 4)])
@pytest.mark.parametrize("labels", [cluster_labels, joined_labels, propagated_labels])
def test_labels_are_connected_components(labels, shape):
    rng = np.random.default_rng(6)
    n = int(np.prod(shape))
    sites = np.arange(n).reshape(shape)
    for density in (0.1, 0.3, 0.5, 0.7):
        bonds = rng.random((len(shape), *shape)) < density
        pairs = [(sites[b], np.roll(sites, -1, axis)[b]) for axis, b in enumerate(bonds)]
        first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
        _, expected = connected_components(coo_matrix((np.ones(len(first)), (first, second)), (n, n)), directed=False)
        found = np.asarray(labels(jnp.asarray(bonds))).ravel()
        least = np.array([np.flatnonzero(expected == label)[0] for label in expected])
        np.testing.assert_array_equal(found, least)


def cluster_probabilities(spins, coupling, seed, inside):
    """The probability of every cluster of a site, by adding up all subsets of bonds."""
    shape = spins.shape
    sites, sign = np.arange(spins.size).reshape(shape), np.sign(coupling)
    bonds = [
        (i, j)
        for axis, extent in enumerate(shape)
        if extent > 1
        for i, j in zip(sites.ravel(), np.roll(sites, -1, axis).ravel(), strict=True)
        if spins.flat[i] * spins.flat[j] * sign > 0 and inside.flat[i] and inside.flat[j]
    ]
    p = 1 - np.exp(-2 * abs(coupling))
    found = {}
    for drawn in itertools.product([False, True], repeat=len(bonds)):
        cluster, grows = {seed}, True
        while grows:
            more = {k for (i, j), on in zip(bonds, drawn, strict=True) if on and {i, j} & cluster for k in (i, j)}
            grows, cluster = not more <= cluster, cluster | more
        number = sum(2**site for site in cluster)
        found[number] = found.get(number, 0.0) + np.prod(np.where(drawn, p, 1 - p))
    return found


def cluster_p_value(grow, coupling, shape, inside, expected_coupling=None):
    """Chi-square of the clusters that are found against all subsets of bonds; the smallest p of three sites."""
    spins = np.where(np.random.default_rng(15).random(shape) < 0.2, -1.0, 1.0)
    if coupling < 0:
        spins = spins * (-1) ** np.indices(shape).sum(0)
    keys, found = jax.random.split(jax.random.key(12), 4096), []
    for seed in (0, 1, spins.size - 1):
        one = jax.jit(jax.vmap(grow, (0, None, None, None, None)))
        clusters = one(keys, jnp.asarray(coupling), jnp.asarray(spins), jnp.asarray(seed), jnp.asarray(inside))
        numbers = np.asarray(clusters).reshape(len(keys), -1) @ 2 ** np.arange(spins.size)
        wanted = cluster_probabilities(spins, expected_coupling or coupling, seed, inside)
        assert set(numbers) <= set(wanted)
        counts = np.array([(numbers == number).sum() for number in wanted])
        expected = len(keys) * np.array(list(wanted.values()))
        common = expected >= 8
        if not np.all(common):
            counts, expected = (np.append(x[common], x[~common].sum()) for x in (counts, expected))
        found.append(chisquare(counts, expected).pvalue if len(counts) > 1 else 1.0)
    return min(found)


@pytest.mark.parametrize("grow", [grown_cluster, labelled_cluster])
@pytest.mark.parametrize(("shape", "coupling"), [((2, 3), 0.3), ((7,), 0.6), ((3, 1, 2), -0.25)])
def test_clusters_are_those_of_independent_bonds(grow, shape, coupling):
    everywhere = np.ones(shape, bool)
    assert cluster_p_value(grow, coupling, shape, everywhere) > 1e-4
    inside = everywhere.copy()
    inside.flat[2] = False
    assert cluster_p_value(grow, coupling, shape, inside) > 1e-4
    assert cluster_p_value(grow, coupling, shape, everywhere, 1.15 * coupling) < 1e-6


# ------------------------------------------------------- clusters keep detailed balance, against enumerated states

CLUSTERS = [
    (name, update) for name, solvable in objects_ising.SOLVABLE.items() for update in solvable.updates if "W" in update
]


@pytest.mark.parametrize(("name", "update"), CLUSTERS)
def test_cluster_updates_keep_detailed_balance(name, update):
    make, draws, statistics, updates, _ = objects_ising.SOLVABLE[name]
    two = statistics["magnetisation"], statistics["neighbours"]
    check_detailed_balance(jax.random.key(9), updates[update](make()), draws(), *two)
