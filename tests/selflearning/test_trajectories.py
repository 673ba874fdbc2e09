"""SLHMC as a configuration: one trajectory of the model proposes, of a length chosen for exact evaluations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc.montecarlo import (
    Flat,
    HamiltonianTrajectory,
    LocalSweep,
    MetropolisHastings,
    init_chains,
    log_weight_and_force,
    run_chains,
)
from slmc.montecarlo.update import same_target
from slmc.runs import settings_of
from slmc.selflearning import Learner, LearningSettings, TrainingSettings
from slmc.selflearning.trajectory_length import longest_allowed, weigh_trajectories
from slmc.system import UserError

TARGET = objects.Gaussian(jnp.diag(jnp.asarray([1.0, 4.0, 0.01])))
MODEL = objects.Gaussian(jnp.diag(jnp.asarray([1.1, 3.8, 0.012])))
START = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)) / np.sqrt([1.0, 4.0, 0.01]))


def hmc(guide, n_steps=4):
    return MetropolisHastings(guide, HamiltonianTrajectory(guide, Flat(), 0.3, n_steps))


def short(model):
    return hmc(model, 2)


def long(model):
    return hmc(model, 32)


def sweep(model):
    return LocalSweep(model, Flat(), 0.5)


def slow(x):
    return x[2]


def test_a_good_model_goes_far_and_a_poor_one_does_not() -> None:
    candidates = tuple(hmc(MODEL, n) for n in (2, 8, 32))
    taken = {
        residual: weigh_trajectories(jax.random.key(0), candidates, START, slow, residual, longest=100)[0]
        for residual in (0.05, 20.0)
    }
    assert taken[0.05].n_updates == 32
    assert taken[0.05].acceptance > 0.9
    assert taken[20.0].n_updates < 32
    assert taken[0.05].autocorrelation < taken[20.0].autocorrelation
    assert math.isnan(taken[0.05].exact_seconds)
    capped = weigh_trajectories(jax.random.key(0), candidates, START, slow, 0.05, longest=9)
    assert [line.candidate for line in capped] == [1, 0]
    assert weigh_trajectories(jax.random.key(0), candidates, START, slow, 0.05, longest=1)[0].candidate == 0


def test_a_trajectory_that_explodes_is_not_taken() -> None:
    """Beyond the stability of the integrator nothing is left of it; the shortest remains."""
    wild = tuple(MetropolisHastings(MODEL, HamiltonianTrajectory(MODEL, Flat(), 40.0, n)) for n in (2, 256))
    lines = weigh_trajectories(jax.random.key(0), wild, START, slow, 1.0, longest=1000)
    assert lines[0].n_updates == 2


def test_lengths_grow_only_where_proposals_are_accepted() -> None:
    assert longest_allowed(4, math.nan) == 8
    assert longest_allowed(16, 0.5) == 64
    assert longest_allowed(16, 0.2) == 16
    assert longest_allowed(16, 0.05) == 4
    assert longest_allowed(2, 0.0) == 1


def test_one_trajectory_of_the_model_proposes_and_the_target_decides() -> None:
    settings = LearningSettings(
        n_rounds=2, n_steps=(12, 4), n_updates=None, proposal="trajectory", label_trajectories=True,
        training=TrainingSettings(n_steps=0),
    )  # fmt: skip
    learner = Learner(TARGET, Flat(), hmc(TARGET), (short, long), None, settings, observable=slow)
    state = learner.begin(MODEL, init_chains(hmc(TARGET), START))
    state, first = learner.round(jax.random.key(1), state)
    # Six of eight chains train: 12 steps of four forces and a decision.
    assert first.n_labels == 6 * 12 * 5
    assert first.exact_evaluations == 8 * 12 * 5
    labels = jax.tree.map(lambda leaf: leaf[: first.n_labels], state.labels)
    values, forces = jax.vmap(lambda x: log_weight_and_force(TARGET, x))(jnp.asarray(labels.configuration))
    np.testing.assert_allclose(labels.log_weight, values, atol=1e-12)
    np.testing.assert_allclose(labels.force, forces, atol=1e-12)
    state, second = learner.round(jax.random.key(2), state)
    assert second.n_labels == first.n_labels + 6 * 4
    assert second.exact_evaluations == first.exact_evaluations + 8 * 4
    update = learner.update(state)
    assert update.target is learner.target
    assert isinstance(update.proposal, HamiltonianTrajectory)
    assert same_target(update.proposal.guide, state.model)
    assert not same_target(update.proposal.guide, learner.target)


def test_labels_on_the_way_change_no_bit_of_the_chain() -> None:
    update, key = hmc(TARGET), jax.random.key(3)
    chains = init_chains(update, START)
    plain, infos = run_chains(key, update, chains, 3)
    labelled, seen = run_chains(key, update.labelled_throughout, chains, 3)
    np.testing.assert_allclose(labelled.configuration, plain.configuration, atol=1e-12)
    np.testing.assert_array_equal(seen.accepted, infos.accepted)
    assert seen.label.log_weight.shape == (8, 3, 5)
    # Where the trajectory is not the target's own, the decision is all there is.
    slhmc = MetropolisHastings(TARGET, HamiltonianTrajectory(MODEL, Flat(), 0.3, 4))
    assert slhmc.labelled_throughout.label_proposals is True


@pytest.mark.parametrize("system", ["double_exchange", "gauge"])
def test_it_is_a_field_of_every_system(system: str) -> None:
    data = {"system": system, "inner": {"proposal": "trajectory", "n_steps": 7}}
    if system == "double_exchange":
        data["model"] = {"name": "linear"}
        data["inner"]["update"] = "hmc"
    settings = settings_of(data)
    assert settings.learning_settings.proposal == "trajectory"
    plain = settings_of({**data, "inner": {**data["inner"], "proposal": "chain"}})
    assert plain.identity != settings.identity
    wrong = {"inner.n_updates has no effect": {"n_updates": 3}, "needs inner.update": {"update": "heat-bath"}}
    for words, changed in wrong.items():
        with pytest.raises(UserError, match=words):
            settings_of({**data, "inner": {**data["inner"], **changed}})


@pytest.mark.usefixtures("as_users_call")
def test_updates_that_are_no_trajectories_are_refused() -> None:
    settings = LearningSettings(n_rounds=1, n_steps=12, n_updates=1, proposal="trajectory")
    learner = Learner(TARGET, Flat(), hmc(TARGET), sweep, None, settings)
    state = learner.begin(MODEL, init_chains(hmc(TARGET), START))
    with pytest.raises(ValueError, match="needs inner updates that are trajectories"):
        learner.update(state)
    with pytest.raises(ValueError, match="proposal must be 'chain' or 'trajectory'"):
        LearningSettings(proposal="nothing")
