"""Configurations that are dictionaries are labelled, fitted, learned and sampled like arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects_product
from objects_product import MANIFOLD, configurations, hmc, local, pulled_spins
from slmc.montecarlo import Label, init_chains, log_weight_and_force, run_chains
from slmc.selflearning import (
    Learner,
    LearningSettings,
    TrainingSettings,
    fit,
    fit_linear,
    learn,
    measure_acceptance,
    residual,
)

SETTINGS = LearningSettings(n_rounds=2, n_steps=12, n_updates=2, training=TrainingSettings(n_steps=0))


def labelled(target, n, seed=1):
    drawn = configurations(seed, n)
    return Label(drawn, *jax.vmap(lambda x: log_weight_and_force(target, x))(drawn))


def nothing():
    return pulled_spins(0.0, 0.0, 0.0, 0.0, 0.0)


def solve(model, labels):
    return fit_linear(model, labels, MANIFOLD, ridge=1e-14)


def parameters(model):
    return np.array([float(leaf) for leaf in jax.tree.leaves(model)])


def test_proposals_are_labelled():
    target = pulled_spins()
    update = hmc(target).labelled
    states, info = run_chains(jax.random.key(1), update, init_chains(update, configurations(2, 4)), 6)
    assert states.configuration["spins"].shape == (4, 2, 3)
    assert info.label.configuration["positions"].shape == (4, 6, 2)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), info.label)
    expected = jax.vmap(lambda x: log_weight_and_force(target, x))(flat.configuration)
    np.testing.assert_allclose(flat.log_weight, expected[0], rtol=1e-11)
    for part, force in flat.force.items():
        np.testing.assert_allclose(force, expected[1][part], atol=1e-11)


@pytest.mark.parametrize("force_weight", [0.0, 1.0])
def test_least_squares_recovers_all_parameters(force_weight):
    known = pulled_spins()
    fitted = fit_linear(nothing(), labelled(known, 64), MANIFOLD, force_weight, ridge=1e-14)
    np.testing.assert_allclose(parameters(fitted), parameters(known), rtol=1e-8)
    assert residual(fitted, labelled(known, 32, 2)) < 1e-8


@pytest.mark.parametrize("single_precision", [False, True])
def test_training_finds_the_parameters(single_precision):
    known = pulled_spins()
    settings = TrainingSettings(
        n_steps=150, batch_size=64, learning_rate=0.05, weight_decay=0.0, single_precision=single_precision
    )
    trained = fit(jax.random.key(2), nothing(), labelled(known, 128), labelled(known, 32, 2), MANIFOLD, settings)
    assert trained.residual < 0.05 * trained.history[0, 2]
    np.testing.assert_allclose(parameters(trained.model), parameters(known), atol=0.05)


@pytest.mark.parametrize("exact", [local, hmc])
def test_what_is_learned_while_sampling_is_always_accepted(exact):
    """By sweeps, whose configurations are labelled afterwards, and by trajectories, which label what they propose."""
    target = pulled_spins()
    learner = Learner(target, MANIFOLD, exact(target), lambda model: hmc(model, 0.3, 2), solve, SETTINGS)
    learned = learn(jax.random.key(3), learner, nothing(), configurations(3, 4), n_thermalise=5)
    np.testing.assert_allclose(parameters(learned.model), parameters(target), rtol=1e-7)
    first, second = learned.reports
    assert (first.n_labels, second.n_labels) == (36, 72)
    # Two decisions a step, of four points each; or four steps of two kicks, and the decision.
    each = 4 + 1 if exact is local else 9
    assert first.exact_evaluations == 4 * 12 * each
    assert second.exact_evaluations == first.exact_evaluations + 4 * 12
    measured = measure_acceptance(
        jax.random.key(4), target, learned.update.proposal, learned.chains.configuration, height, n_steps=10
    )
    assert measured.acceptance == pytest.approx(1.0)


def height(configuration):
    return jnp.sum(configuration["spins"][:, 2])


def test_the_inner_chain_is_chosen_and_tuned():
    target = pulled_spins()
    settings = LearningSettings(n_rounds=1, n_steps=12, n_updates=None, training=TrainingSettings(n_steps=0))
    inner = (lambda model: hmc(model, 0.3, 2), objects_product.local)
    learner = Learner(target, MANIFOLD, hmc(target), inner, solve, settings, observable=height)
    learned = learn(jax.random.key(5), learner, nothing(), configurations(4, 4), n_thermalise=5)
    assert {int(line[0]) for line in learned.reports[0].inner} == {0, 1}
    assert 0 < learned.reports[0].inner_step_size != 0.3
