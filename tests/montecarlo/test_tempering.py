"""Replica exchange: every temperature keeps its distribution, wrong swap rules are caught, walkers are followed."""

import itertools
import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exact_draws
import objects
import objects_ising
from slmc.montecarlo import (
    Flat,
    HamiltonianTrajectory,
    Info,
    LocalSweep,
    MetropolisHastings,
    ReplicaExchange,
    ReplicaTarget,
    Signs,
    Target,
    Tempered,
    Update,
    init_chains,
    round_trips,
    run_chains,
    stacked,
    tuned_ladder,
)
from slmc.montecarlo.tempering import UNTEMPERED
from slmc.selflearning import CumulativeUpdate, Learner, LearningSettings, TrainingSettings, fit_linear, learn_ladder
from slmc.statistics import estimate
from slmc.systems.spins import CheckerboardSweep, DoubleExchange, Ising, PlaquetteIsing
from slmc.testing import check_invariance

TEMPERATURES = (1.5, 2.2, 3.5)
SHAPE = (3, 3)
N_DRAWS = 16384
STATES = jnp.asarray(np.array(list(itertools.product([-1.0, 1.0], repeat=9)))).reshape(-1, *SHAPE)


def plaquette(temperature):
    return PlaquetteIsing(SHAPE, 1.0, 0.3, temperature)


def draws(seed=1):
    """Independent exact draws at each temperature, side by side."""
    rng = np.random.default_rng(seed)
    columns = []
    for temperature in TEMPERATURES:
        log_weights = np.asarray(jax.vmap(plaquette(temperature).log_weight)(STATES))
        weights = np.exp(log_weights - log_weights.max())
        columns.append(rng.choice(len(weights), N_DRAWS, p=weights / weights.sum()))
    return STATES[np.stack(columns, 1)]


def magnetisation(replica):
    return lambda spins: jnp.asarray(jnp.sum(spins[replica]), jnp.int64)


STATISTICS = {f"magnetisation at T = {t}": magnetisation(k) for k, t in enumerate(TEMPERATURES)} | {
    "first and last": lambda spins: jnp.asarray(jnp.sum(spins[0]) + 20 * jnp.sum(spins[2]), jnp.int64)
}


def sweeps():
    return stacked([CheckerboardSweep(plaquette(t)) for t in TEMPERATURES])


def learned():
    """At each temperature self-learning Monte Carlo with a model of its own, wrong on purpose."""
    return stacked(
        [
            MetropolisHastings(plaquette(t), CumulativeUpdate(CheckerboardSweep(plaquette(1.2 * t + 0.1)), 2))
            for t in TEMPERATURES
        ]
    )


@pytest.mark.parametrize("make", [sweeps, learned])
def test_every_temperature_keeps_its_distribution(make):
    found = check_invariance(jax.random.key(2), ReplicaExchange(make()), draws(), STATISTICS, n_steps=2)
    assert found.moved > 0.5


def tempered(kind=Tempered):
    """Local Metropolis at each temperature, of one harmonic well whose weight is known at all."""
    well = Well(jnp.asarray(1.0))
    targets = [kind(well, jnp.asarray(1 / t)) for t in TEMPERATURES]
    return stacked([LocalSweep(target, Flat(), jnp.asarray(1.5)) for target in targets])


class Well(Target):
    """log W = −k |x|²/2."""

    stiffness: jax.Array

    def log_weight(self, x):
        return -self.stiffness * jnp.sum(x**2) / 2


class Forgetful(Tempered):
    """Wrong: what is exchanged weighs nothing where it arrives, so that all exchanges are accepted."""

    def log_weight_of(self, observables):
        return 0 * observables[UNTEMPERED]


@pytest.mark.parametrize(("kind", "is_right"), [(Tempered, True), (Forgetful, False)])
def test_tempered_replicas_swap_without_another_evaluation(kind, is_right):
    exchange = ReplicaExchange(tempered(kind))
    draws = jnp.asarray(np.random.default_rng(3).normal(size=(4096, len(TEMPERATURES), 2)))
    draws = draws * jnp.sqrt(jnp.asarray(TEMPERATURES))[None, :, None]
    assert exchange.evaluations_per_step(draws[0]) == len(TEMPERATURES) * 2
    statistics = {f"{k}": lambda x, k=k: jnp.sum(x[k] ** 2) for k in range(len(TEMPERATURES))}
    if is_right:
        assert check_invariance(jax.random.key(1), exchange, draws, statistics, n_steps=2).moved > 0.5
        state, _ = exchange.step(jax.random.key(0), exchange.init(draws[0]))
        fresh = exchange.init(state.configuration)
        np.testing.assert_allclose(state.observables["log_weights"], fresh.observables["log_weights"], rtol=1e-12)
    else:
        with pytest.raises(AssertionError, match="does not leave its target invariant"):
            check_invariance(jax.random.key(1), exchange, draws, statistics, n_steps=2)


class Inverse(Target):
    """log W with the wrong sign."""

    original: Target

    def log_weight(self, x):
        return -self.original.log_weight(x)


class Backwards(ReplicaExchange):
    """Wrong: swaps with the inverse of the ratio."""

    def _swap(self, key, odd, replicas, walkers):
        inverse = eqx.tree_at(lambda one: one.update.target, ReplicaExchange(self.update), Inverse(self.update.target))
        negative = replicas._replace(log_weight=-replicas.log_weight)
        swapped, *rest = inverse._swap(key, odd, negative, walkers)
        return swapped._replace(log_weight=-swapped.log_weight), *rest


class Always(ReplicaExchange):
    """Wrong: swaps whatever the weights."""

    def _swap(self, key, odd, replicas, walkers):
        level = replicas._replace(log_weight=jnp.full_like(replicas.log_weight, -1e9))
        return super()._swap(key, odd, level, walkers)


@pytest.mark.parametrize("wrong", [Backwards, Always])
def test_wrong_swap_rules_are_caught(wrong):
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        check_invariance(jax.random.key(2), wrong(sweeps()), draws(), STATISTICS, n_steps=2)


def test_spin_fermion_replicas_with_hmc():
    """Two spins at two temperatures, whose weights are not powers of each other."""
    temperatures, p = (0.2, 0.6), objects.DOUBLE_EXCHANGE_PAIR

    def update(temperature):
        target = DoubleExchange((2,), p["hopping"], p["coupling"], p["mu"], temperature)
        return MetropolisHastings(target, HamiltonianTrajectory(target, objects.SPHERE, 0.4, 3))

    exact = [exact_draws.double_exchange_pair(**p | {"temperature": t}) for t in temperatures]
    rng = np.random.default_rng(3)
    pairs = jnp.asarray(np.stack([one.draw(rng, 8192) for one in exact], 1))
    statistics = {f"S1·S2 at {k}": lambda spins, k=k: jnp.sum(spins[k, 0] * spins[k, 1]) for k in range(2)}
    exchange = ReplicaExchange(stacked([update(t) for t in temperatures]))
    check_invariance(jax.random.key(4), exchange, pairs, statistics)


def test_the_state_belongs_to_its_configuration():
    exchange = ReplicaExchange(sweeps())
    states, info = run_chains(jax.random.key(5), exchange, init_chains(exchange, draws()[:4]), 20)
    target = ReplicaTarget(stacked([plaquette(t) for t in TEMPERATURES]))
    for chain in range(4):
        replicas = zip(TEMPERATURES, states.configuration[chain], strict=True)
        log_weights = [float(plaquette(t).log_weight(spins)) for t, spins in replicas]
        np.testing.assert_allclose(states.observables["log_weights"][chain], log_weights, atol=1e-12)
        assert float(states.log_weight[chain]) == pytest.approx(sum(log_weights))
        assert float(target.log_weight(states.configuration[chain])) == pytest.approx(sum(log_weights))
    assert not np.any(np.asarray(info.swapped) & ~np.asarray(info.tried))
    assert np.all(np.asarray(info.tried).sum(-1) == 1)
    share = np.asarray(info.swapped).sum() / np.asarray(info.tried).sum()
    assert share == pytest.approx(np.asarray(info.acceptance).sum() / np.asarray(info.tried).sum(), abs=0.2)


def test_round_trips_are_counted():
    # Walker 0 climbs from the first replica to the last and comes back: one round trip.
    swapped = np.array([[1, 0], [0, 1], [0, 0], [0, 1], [1, 0]], bool)
    found = round_trips(swapped)
    assert found.n_round_trips == 1
    np.testing.assert_array_equal(found.walkers[1], [1, 2, 0])
    np.testing.assert_array_equal(found.walkers[-1], [0, 1, 2])


def test_recorded_walkers_are_those_of_the_swaps():
    """Those that the state carries, step by step, and their round trips."""
    exchange = ReplicaExchange(sweeps())
    _, (walkers, swapped) = run_chains(
        jax.random.key(6), exchange, init_chains(exchange, draws()[:4]), 200, _walkers_and_swaps
    )
    for recorded, pairs in zip(np.asarray(walkers), np.asarray(swapped), strict=True):
        followed = round_trips(pairs)
        np.testing.assert_array_equal(recorded, followed.walkers)
        assert followed.n_round_trips == trips_of(recorded) > 0


def _walkers_and_swaps(state, info):
    return state.observables["walkers"], info.swapped


def trips_of(walkers):
    """Round trips counted walker by walker: the ends that it sees in turn, in pairs."""
    trips, last = 0, walkers.shape[1] - 1
    for walker in range(walkers.shape[1]):
        places = [walker, *np.argmax(walkers == walker, axis=1)]
        ends = [place for place in places if place in (0, last)]
        trips += sum(a != b for a, b in itertools.pairwise(ends)) // 2
    return trips


class Still(Update):
    """Leaves its replica alone, so that nothing but swaps moves configurations."""

    target: Target

    @property
    def reversible(self):
        return True

    def step(self, key, state):
        return state, Info(jnp.ones(()), jnp.zeros(()))


def test_walkers_carry_their_configurations():
    exchange = ReplicaExchange(stacked([Still(plaquette(t)) for t in TEMPERATURES]))
    start = draws()[:8]
    states, info = run_chains(jax.random.key(7), exchange, init_chains(exchange, start), 30)
    assert np.asarray(info.swapped).any()
    for configuration, walkers, begun in zip(states.configuration, states.observables["walkers"], start, strict=True):
        np.testing.assert_array_equal(configuration, begun[walkers])


def test_a_ladder_gets_closer_where_swaps_fail():
    ladder = tuned_ladder(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.2, 0.8, 0.8]))
    assert (ladder[0], ladder[-1]) == (1.0, 4.0)
    assert np.all(np.diff(ladder) > 0)
    assert ladder[1] < 1.7
    even = np.geomspace(1, 8, 4)
    np.testing.assert_allclose(tuned_ladder(even, np.full(3, 0.5)), even)


def test_replicas_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="the same structure"):
        stacked([LocalSweep(objects.ising(), objects.SPHERE, 0.5), LocalSweep(objects.gaussian(), objects.SPHERE, 0.5)])
    with pytest.raises(ValueError, match="at least one"):
        stacked([])


def learner_at(temperature):
    target = PlaquetteIsing((4, 4), 1.0, 0.3, temperature)
    return Learner(target, Signs(), CheckerboardSweep(target), CheckerboardSweep, start=_solve, settings=LADDER)


LADDER = LearningSettings(n_rounds=2, n_steps=20, n_updates=2, training=TrainingSettings(n_steps=0))


def _solve(model, labels):
    return fit_linear(model, labels, Signs())


def test_a_learned_ladder_swaps_evenly_and_samples_every_temperature():
    """Temperatures crowded at one end are spread out while learning; frozen, every replica keeps its energy."""
    temperatures = (6.0, 5.7, 5.4, 2.2)
    start = Signs().random(jax.random.key(0), (8, 4, 4, 4))
    found = learn_ladder(jax.random.key(1), learner_at, Ising((4, 4)), temperatures, start, n_rounds=3, n_steps=150)
    first, last = found.reports[0], found.reports[-1]
    assert np.ptp(last.swap_acceptance) < 0.5 * np.ptp(first.swap_acceptance)
    assert (found.temperatures[[0, -1]] == [6.0, 2.2]).all()
    assert last.round_trips > first.round_trips
    assert len({float(model.reduced_couplings[0]) for model in found.models}) == 4

    def observe(state, info):
        return state.observables["log_weights"]

    _, log_weights = run_chains(jax.random.key(2), found.update, found.chains, 600, observe)
    states = objects_ising.STATES
    for replica, temperature in enumerate(found.temperatures):
        exact = np.asarray(jax.vmap(learner_at(float(temperature)).target.log_weight)(states))
        weights = np.exp(exact - exact.max())
        seen = estimate(np.asarray(log_weights)[:, :, replica])
        assert seen.value == pytest.approx(np.average(exact, weights=weights), abs=4 * seen.error)
        assert seen.error < 0.1 * exact.std()


@pytest.mark.parametrize(
    ("temperatures", "settings", "words"),
    [((1.0,), LADDER, "at least 2 temperatures"), ((1.0, 2.0), None, "share the length of the inner chain")],
)
def test_ladder_errors(temperatures, settings, words):
    def make(temperature):
        learner = learner_at(temperature)
        if settings is None:
            chosen = replace(learner.settings, n_updates=None)
            return replace(learner, settings=chosen, observable=jnp.mean)
        return learner

    with pytest.raises(ValueError, match=words):
        learn_ladder(jax.random.key(1), make, Ising((4, 4)), temperatures, jnp.ones((2, len(temperatures), 4, 4)))


@pytest.mark.parametrize(
    ("temperatures", "acceptance", "words"),
    [
        ([1.0, math.nan, 3.0], [0.5, 0.5], "positive temperatures"),
        ([], [], "positive temperatures"),
        ([1.0, 2.0], [math.nan], "between 0 and 1"),
        ([1.0, 2.0], [1.5], "between 0 and 1"),
        ([1.0, 2.0, 3.0], [0.5], "3 temperatures have 2 pairs"),
        ([1.0, 3.0, 2.0], [0.5, 0.5], "must ascend, or descend"),
        ([1.0, 1.0], [0.5], "must ascend, or descend"),
    ],
)
def test_ladders_that_are_none(temperatures, acceptance, words):
    with pytest.raises(ValueError, match=words):
        tuned_ladder(temperatures, acceptance)


@pytest.mark.usefixtures("as_users_call")
def test_a_ladder_of_one_rung():
    np.testing.assert_array_equal(tuned_ladder([0.7], []), [0.7])
    found = round_trips(np.zeros((5, 0), bool))
    assert found.n_round_trips == 0
    assert found.walkers.tolist() == [[0]] * 5
    assert round_trips(np.zeros((0, 3), bool)).walkers.shape == (0, 4)
    with pytest.raises(ValueError, match="those of one chain"):
        round_trips(np.zeros(5, bool))
