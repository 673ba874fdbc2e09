"""Decisions, sequences, tuning: what an update carries and reports."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc.montecarlo import (
    DualAveraging,
    Flat,
    LocalSweep,
    MeasuredTarget,
    MetropolisHastings,
    Proposal,
    Repeated,
    Sequence,
    State,
    Target,
    accept_or_reject,
    init_chains,
    run_chains,
    tune,
    tune_step_size,
    with_step_size,
)
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import HeatBathSweep, Heisenberg, OverRelaxationSweep


class NaNOutside(Target):
    """A Gaussian that is not a number for |x| > 1: the normal distribution cut off there."""

    def log_weight(self, x):
        return jnp.where(jnp.max(jnp.abs(x)) > 1, jnp.nan, -jnp.sum(x**2) / 2)


def test_decision():
    here, there = (State(jnp.asarray(x), jnp.asarray(w), {}) for x, w in ((1.0, -3.0), (2.0, -5.0)))
    keys = jax.random.split(jax.random.key(1), 20_000)
    _, accepted, log_ratio = jax.vmap(lambda key: accept_or_reject(key, here, there, jnp.asarray(1.3)))(keys)
    np.testing.assert_allclose(log_ratio, -0.7)
    assert float(jnp.mean(accepted)) == pytest.approx(np.exp(-0.7), abs=4 * 0.5 / np.sqrt(20_000))


@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf])
def test_impossible_weights_are_rejected(bad):
    here, there = (State(jnp.asarray(x), jnp.asarray(w), {}) for x, w in ((1.0, -3.0), (2.0, bad)))
    state, accepted, _ = accept_or_reject(jax.random.key(2), here, there, jnp.zeros(()))
    assert not accepted
    assert (float(state.configuration), float(state.log_weight)) == (1.0, -3.0)
    state, accepted, _ = accept_or_reject(
        jax.random.key(2), here, here._replace(log_weight=jnp.asarray(9.0)), jnp.asarray(jnp.nan)
    )
    assert not accepted


def test_chains_never_enter_where_the_weight_is_not_a_number():
    update = LocalSweep(NaNOutside(), Flat(), 1.0)
    states, infos = run_chains(jax.random.key(3), update, init_chains(update, jnp.zeros((8, 2))), 50)
    assert float(jnp.max(jnp.abs(states.configuration))) <= 1
    assert np.all(np.isfinite(states.log_weight))
    assert 0 < float(jnp.mean(infos.accepted)) < 1


@pytest.mark.parametrize("name", objects.PAIR_UPDATES)
def test_the_state_carries_the_exact_evaluation_of_its_configuration(name):
    """After any update log-weight and configuration belong together; observables too, except where labels are made."""
    target = objects.double_exchange_pair()
    update = objects.PAIR_UPDATES[name](target)
    states, infos = run_chains(jax.random.key(4), update, init_chains(update, objects.random_spins(1, 4, 2)), 5)
    for chain in range(4):
        configuration = states.configuration[chain]
        np.testing.assert_allclose(jnp.sum(configuration**2, -1), 1, atol=1e-12)
        log_weight, observables = target.log_weight_and_observables(configuration)
        assert float(states.log_weight[chain]) == pytest.approx(float(log_weight), rel=1e-11)
        if name != "SLMC, labelled":
            for quantity, value in observables.items():
                assert float(states.observables[quantity][chain]) == pytest.approx(float(value), abs=1e-9)
    for leaf in jax.tree.leaves(infos):
        assert leaf.shape[:2] == (4, 5)


def test_labels_are_the_exact_values_of_the_proposals():
    target = objects.double_exchange_pair()
    update = objects.PAIR_UPDATES["SLMC, labelled"](target)
    _, info = run_chains(jax.random.key(5), update, init_chains(update, objects.random_spins(2, 4, 2)), 8)
    proposed = info.label.configuration.reshape(-1, 2, 3)
    expected = jax.vmap(jax.value_and_grad(target.log_weight))(proposed)
    np.testing.assert_allclose(info.label.log_weight.ravel(), expected[0], rtol=1e-11)
    np.testing.assert_allclose(info.label.force.reshape(-1, 2, 3), expected[1], atol=1e-10)


def test_one_exact_evaluation_for_each_outer_step():
    calls = []

    class Counted(MeasuredTarget):
        def log_weight(self, x):
            return self.log_weight_and_observables(x)[0]

        def log_weight_and_observables(self, x):
            jax.debug.callback(lambda: calls.append(1))
            return -jnp.sum(x**2) / 2, {"square": jnp.sum(x**2)}

    update = objects.slmc(Counted(), LocalSweep(objects.other_gaussian(), Flat(), 1.0), 4)
    state = update.init(jnp.zeros(2))
    jax.effects_barrier()
    calls.clear()
    for step in range(3):
        state, _ = update.step(jax.random.key(step), state)
    jax.effects_barrier()
    assert len(calls) == 3
    assert float(state.observables["square"]) == pytest.approx(float(jnp.sum(state.configuration**2)))


# --- reversibility, as updates state it -----------------------------------------------------------------------------


def test_only_palindromes_are_reversible():
    model = objects.other_ring()
    reflect, draw = OverRelaxationSweep(model), HeatBathSweep(model)
    assert Sequence((reflect, draw, reflect)).reversible
    assert Sequence((draw,)).reversible
    assert Repeated(Sequence((reflect, draw, reflect)), 3).reversible
    forward = Sequence((reflect, draw))
    assert not forward.reversible
    assert not Sequence((forward, draw, forward)).reversible
    assert not Repeated(forward, 2).reversible
    with pytest.raises(ValueError, match="make a Sequence palindromic"):
        CumulativeUpdate(forward)
    with pytest.raises(ValueError, match="n_updates must be at least 1"):
        CumulativeUpdate(draw, 0)


def test_a_palindrome_survives_tree_operations_but_not_a_change_of_one_end():
    """Setting a step size copies the objects around it; the two ends still hold the same arrays."""
    model, manifold = objects.other_ring(), objects.SPHERE
    end, middle = LocalSweep(model, manifold, 0.5), LocalSweep(model, manifold, 1.0)
    sequence = Sequence((end, middle, end))
    assert with_step_size(sequence, lambda s: s.updates[1].step_size, 0.7).reversible
    assert not with_step_size(sequence, lambda s: s.updates[0].step_size, 0.7).reversible


class Stay(Proposal):
    """Proposes where the chain is."""

    def propose(self, key, configuration):
        return configuration, jnp.zeros(())


def test_a_proposal_that_stays_is_always_accepted():
    update = MetropolisHastings(objects.gaussian(), Stay())
    _, info = update.step(jax.random.key(1), update.init(jnp.ones(2)))
    assert float(info.accepted) == 1
    assert float(info.log_ratio) == 0


# --- tuning -----------------------------------------------------------------------------------------------------------


def test_dual_averaging_finds_the_step_size():
    """Acceptance exp(−h) has acceptance 0.8 at h = −log 0.8."""
    averaging = DualAveraging.start(1.0)
    for _ in range(200):
        averaging = averaging.updated(float(np.exp(-averaging.step_size)), 0.8)
    assert averaging.averaged == pytest.approx(-np.log(0.8), rel=0.05)
    assert DualAveraging.start(0.3).averaged == pytest.approx(0.3)


def test_steps_are_bounded_where_any_is_accepted():
    """Acceptance above the wanted one at every step size: the step went to 10^7 and, in the end, to what overflows."""
    averaging = DualAveraging.start(0.1, largest=10.0)
    free = DualAveraging.start(0.1)
    for _ in range(20_000):
        averaging, free = averaging.updated(0.95, 0.8), free.updated(1.0, 0.8)
    assert averaging.step_size == pytest.approx(10.0)
    assert averaging.averaged <= 10.0
    assert math.isfinite(free.step_size**2)
    for _ in range(20_000):
        free = free.updated(0.0, 0.99)
    assert free.step_size > 0
    assert DualAveraging.start(50.0, largest=10.0).step_size == pytest.approx(10.0)


def test_tuning_that_does_not_saturate_is_not_changed_by_the_bound():
    bounded, free = DualAveraging.start(0.1, largest=10.0), DualAveraging.start(0.1)
    for _ in range(30):
        bounded, free = (one.updated(float(np.exp(-one.step_size)), 0.8) for one in (bounded, free))
    assert (bounded.step_size, bounded.averaged) == (free.step_size, free.averaged)


def test_step_sizes_that_are_none():
    for arguments in ((0.0,), (math.nan,), (1.0, 0.0), (1.0, math.nan)):
        with pytest.raises(ValueError, match="must be positive and finite"):
            DualAveraging.start(*arguments)
    with pytest.raises(ValueError, match="between 0 and 1; got nan"):
        DualAveraging.start(1.0).updated(math.nan, 0.8)


def test_tuning_says_where_it_ended_far_from_what_was_wanted():
    update = LocalSweep(objects.gaussian(), Flat(), 1e4)
    states = init_chains(update, jnp.zeros((4, 2)))
    short = tune(jax.random.key(1), update, states, n_rounds=1, n_steps=2)
    assert short.acceptance == 0
    assert "tuning ended at acceptance 0.00, far from the 0.80" in short.verdict
    update = LocalSweep(objects.gaussian(), Flat(), 1.0)
    assert tune(jax.random.key(1), update, init_chains(update, jnp.zeros((8, 2)))).verdict == ""
    free = LocalSweep(Heisenberg((2,), couplings=[0.0]), objects.SPHERE, 1.0)
    tuning = tune(jax.random.key(1), free, init_chains(free, objects.random_spins(1, 4, 2)))
    assert "any step is accepted" in tuning.verdict
    with pytest.raises(ValueError, match="wanted acceptance must lie between 0 and 1"):
        tune(jax.random.key(1), update, states, wanted=1.0)
    with pytest.raises(ValueError, match="n_rounds must be at least 1"):
        tune(jax.random.key(1), update, states, n_rounds=0)


def _accepted(state, info):
    return info.accepted


@pytest.mark.parametrize(("start", "wanted"), [(0.01, 0.7), (5.0, 0.7)])
def test_tuned_step_size_gives_the_wanted_acceptance(start, wanted):
    update = LocalSweep(objects.gaussian(), Flat(), start)
    states = init_chains(update, Flat().random(jax.random.key(6), (32, 2)))
    tuned, states = tune_step_size(jax.random.key(7), update, states, lambda u: u.step_size, wanted)
    _, accepted = run_chains(jax.random.key(8), tuned, states, 100, _accepted)
    assert float(jnp.mean(accepted)) == pytest.approx(wanted, abs=0.05)


def test_step_size_is_data_of_the_compiled_program():
    update = objects.PAIR_UPDATES["HMC, leapfrog"](objects.double_exchange_pair())
    changed = with_step_size(update, lambda u: u.proposal.step_size, 0.123)
    assert float(changed.proposal.step_size) == 0.123
    others = eqx.partition(update, eqx.is_array)[1]
    assert eqx.tree_equal(others, eqx.partition(changed, eqx.is_array)[1])
