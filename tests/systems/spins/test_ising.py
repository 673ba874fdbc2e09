"""Ising models and their updates against sums written out and the enumeration of all states of a 4×4 lattice."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import chisquare

from slmc.lattice import colouring, neighbours, shells
from slmc.montecarlo import LocalSweep, MetropolisHastings, Signs
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import (
    CheckerboardSweep,
    Ising,
    PlaquetteIsing,
    SwendsenWangProposal,
    SwendsenWangUpdate,
    WolffProposal,
    WolffUpdate,
)
from slmc.systems.spins.clusters import (
    cluster_labels,
    grown_cluster,
    joined_labels,
    labelled_cluster,
    propagated_labels,
)
from slmc.testing import check_detailed_balance, check_invariance

N_DRAWS = 16384
SHAPES = [(4, 4), (5, 3), (2, 4), (3, 4, 2), (6,), (4, 1)]


def signs(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).choice([-1.0, 1.0], shape))


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


# ------------------------------------------------------------------------------------ updates against enumeration

STATES = jnp.asarray(list(itertools.product([-1.0, 1.0], repeat=16))).reshape(-1, 4, 4)
STATISTICS = {
    "magnetisation": lambda spins: jnp.asarray(jnp.sum(spins), jnp.int64),
    "neighbours": lambda spins: jnp.asarray(
        jnp.sum(spins * jnp.roll(spins, 1, 0)) + jnp.sum(spins * jnp.roll(spins, 1, 1)), jnp.int64
    ),
    "squares": lambda spins: jnp.asarray(
        jnp.sum(spins * jnp.roll(spins, 1, 0) * jnp.roll(spins, 1, 1) * jnp.roll(spins, (1, 1), (0, 1))), jnp.int64
    ),
    "corner": lambda spins: jnp.asarray(spins[0, 0] + 2 * spins[1, 1] + 4 * spins[0, 2], jnp.int64),
}


def draws(target, seed=7, n=N_DRAWS):
    log_weights = np.asarray(jax.vmap(target.log_weight)(STATES))
    weights = np.exp(log_weights - log_weights.max())
    return STATES[np.random.default_rng(seed).choice(len(weights), n, p=weights / weights.sum())]


def near(temperature=2.6):
    return Ising((4, 4), couplings=[1.0], temperature=temperature)


def three_shells():
    return Ising((4, 4), couplings=[1.245, -0.09, -0.014], temperature=2.493)


def antiferromagnet():
    return Ising((4, 4), couplings=[-1.0, 0.3], temperature=2.2)


def plaquette():
    return PlaquetteIsing((4, 4), 1.0, 0.2, 2.493)


def slmc(target, inner, n_updates):
    return MetropolisHastings(target, CumulativeUpdate(inner, n_updates))


UPDATES = {
    "checkerboard": (near, CheckerboardSweep),
    "checkerboard, three shells": (three_shells, CheckerboardSweep),
    "checkerboard, plaquettes": (plaquette, CheckerboardSweep),
    "Wolff": (near, WolffUpdate),
    "Wolff, three shells": (three_shells, WolffUpdate),
    "Wolff, antiferromagnet": (antiferromagnet, WolffUpdate),
    "Wolff, restricted": (near, lambda target: WolffUpdate(target, radius=1.0)),
    "Wolff, restricted, three shells": (three_shells, lambda target: WolffUpdate(target, radius=1.5)),
    "Wolff for plaquettes": (
        plaquette,
        lambda target: MetropolisHastings(target, WolffProposal(jnp.asarray(0.5))),
    ),
    "Swendsen–Wang": (near, SwendsenWangUpdate),
    "Swendsen–Wang, three shells": (three_shells, SwendsenWangUpdate),
    "Swendsen–Wang for plaquettes": (
        plaquette,
        lambda target: MetropolisHastings(target, SwendsenWangProposal(jnp.asarray(0.3))),
    ),
    "SLMC, Wolff": (plaquette, lambda target: slmc(target, WolffUpdate(near()), 3)),
    "SLMC, restricted Wolff": (plaquette, lambda target: slmc(target, WolffUpdate(near(), 1.5), 3)),
    "nested SLMC, Wolff, three shells": (plaquette, lambda target: slmc(target, WolffUpdate(three_shells()), 3)),
}


@pytest.mark.parametrize("name", UPDATES)
def test_every_update_keeps_the_enumerated_distribution(name):
    make, update = UPDATES[name]
    target = make()
    check_invariance(jax.random.key(8), update(target), draws(target), STATISTICS)


@pytest.mark.parametrize("name", [name for name in UPDATES if "checkerboard" not in name])
def test_cluster_updates_keep_detailed_balance(name):
    make, update = UPDATES[name]
    target = make()
    check_detailed_balance(
        jax.random.key(9), update(target), draws(target, 10), STATISTICS["magnetisation"], STATISTICS["neighbours"]
    )


class WithoutSurface(WolffProposal):
    """Wrong: the bonds across the surface of the ball are forgotten."""

    def propose(self, key, configuration):
        proposed, _ = super().propose(key, configuration)
        pairs = [jnp.sum(spins * jnp.roll(spins, -1, axis)) for spins in (configuration, proposed) for axis in range(2)]
        return proposed, self.reduced_coupling * (pairs[0] + pairs[1] - pairs[2] - pairs[3])


class OtherBonds(WolffProposal):
    """Wrong: clusters grow as if the coupling were larger than the ratio says."""

    def propose(self, key, configuration):
        larger = WolffProposal(1.3 * self.reduced_coupling, self.radius)
        proposed, ratio = larger.propose(key, configuration)
        return proposed, ratio / 1.3


@pytest.mark.parametrize("wrong", [WithoutSurface(jnp.asarray(1 / 2.6), 1.0), OtherBonds(jnp.asarray(1 / 2.6))])
def test_wrong_cluster_proposals_are_caught(wrong):
    target = near()
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        check_invariance(jax.random.key(8), MetropolisHastings(target, wrong), draws(target), STATISTICS)


def test_a_checkerboard_with_too_few_colours_is_caught():
    class TwoColours(PlaquetteIsing):
        """Wrong: says that only nearest neighbours interact."""

        def interacting(self):
            return neighbours(self.shape, 1)[0]

    target = TwoColours((4, 4), 0.2, 0.6, 1.6)
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        check_invariance(jax.random.key(8), CheckerboardSweep(target), draws(target), STATISTICS)


def test_local_sweeps_of_any_target_agree():
    """The general sweep, one site at a time, runs on Ising targets too."""
    target = plaquette()
    check_invariance(jax.random.key(8), LocalSweep(target, Signs(), 1.0), draws(target, n=4096), STATISTICS)
