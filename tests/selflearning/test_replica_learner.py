"""Learning a model for every replica: each as if alone, stopped together, frozen into one replica exchange."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc.montecarlo import (
    MetropolisHastings,
    ReplicaExchange,
    init_chains,
    run_chains,
    stacked,
    step_size,
)
from slmc.selflearning import Learner, LearningSettings, ReplicaLearner, TrainingSettings, fit_linear
from slmc.selflearning.on_the_fly import learning_round, start_learning
from slmc.systems.spins import Heisenberg

COUPLINGS = (0.3, 0.6, 0.9)
SHAPE = (2, 3)
SETTINGS = LearningSettings(n_rounds=2, n_steps=12, n_updates=2, training=TrainingSettings(n_steps=0))


def solve(model, labels):
    return fit_linear(model, labels, objects.SPHERE, ridge=1e-14)


def inner(model):
    return objects.hmc(model, 0.3, 2)


def learner_of(coupling):
    target = Heisenberg(SHAPE, couplings=[coupling, 0.2 * coupling])
    return Learner(target, objects.SPHERE, objects.hmc(target, 0.3, 2), inner, solve, SETTINGS)


@pytest.fixture(scope="module")
def learner():
    return ReplicaLearner(tuple(learner_of(coupling) for coupling in COUPLINGS))


@pytest.fixture(scope="module")
def chains(learner):
    exact = ReplicaExchange(stacked([part.exact for part in learner.learners]))
    return init_chains(exact, objects.random_spins(1, 4, 3, *SHAPE))


@pytest.fixture(scope="module")
def rounds(learner, chains):
    """The states before the first round, after it and after the second, and both reports."""
    states, reports = [learner.begin((Heisenberg(SHAPE, 1),) * 3, chains)], []
    for number in range(2):
        state, report = learner.round(jax.random.fold_in(jax.random.key(2), number), states[-1])
        states.append(state)
        reports.append(report)
    return states, reports


def test_every_replica_learns_as_if_alone(learner, chains, rounds):
    states, reports = rounds
    alone = []
    for number, part in enumerate(learner.learners):
        start = init_chains(part.exact, chains.configuration[:, number])
        state = start_learning(part, Heisenberg(SHAPE, 1), start)
        alone.append(learning_round(jax.random.fold_in(jax.random.fold_in(jax.random.key(2), 0), number), part, state))
    for number, (state, report) in enumerate(alone):
        np.testing.assert_array_equal(states[1].chains.configuration[:, number], state.chains.configuration)
        np.testing.assert_array_equal(states[1].model[number].reduced_couplings, state.model.reduced_couplings)
        assert reports[0].by_replica["residual"][number] == report.residual
    assert reports[0].residual == max(report.residual for _, report in alone)
    assert reports[0].n_labels == sum(report.n_labels for _, report in alone)
    assert reports[0].exact_evaluations == sum(report.exact_evaluations for _, report in alone)
    assert int(states[1].exact_evaluations) == reports[0].exact_evaluations
    assert len(reports[0].predicted) == len(reports[0].exact) == sum(len(report.exact) for _, report in alone)


def test_replicas_stop_together(learner, rounds):
    states, _ = rounds
    assert [learner.is_finished(state) for state in states] == [False, False, True]


def test_the_update_exchanges_replicas_that_propose_with_their_own_models(learner, rounds):
    states, _ = rounds
    update = learner.update(states[2])
    assert isinstance(update, ReplicaExchange)
    assert isinstance(update.update, MetropolisHastings)
    for number, model in enumerate(states[2].model):
        couplings = update.update.proposal.update.target.reduced_couplings[number]
        np.testing.assert_array_equal(couplings, model.reduced_couplings)
        np.testing.assert_array_equal(update.target.replicas.reduced_couplings[number][0], COUPLINGS[number])
        tuned = update.update.proposal.update.proposal.step_size[number]
        assert float(tuned) == float(states[2].states[number].inner_step_size)
    assert step_size(update) is None
    _, info = run_chains(jax.random.key(3), update, init_chains(update, states[2].chains.configuration), 10)
    assert 0 < np.asarray(info.infos.accepted).mean() <= 1
    assert np.asarray(info.swapped).any()


def test_other_chains_are_given_to_their_replicas(learner, chains, rounds):
    states, _ = rounds
    moved = learner.with_chains(states[1], chains)
    for number, state in enumerate(moved.states):
        np.testing.assert_array_equal(state.chains.configuration, chains.configuration[:, number])
        expected = jax.vmap(learner.learners[number].target.log_weight)(chains.configuration[:, number])
        np.testing.assert_allclose(state.chains.log_weight, expected, atol=1e-12)
        assert int(state.n_labels) == int(states[1].states[number].n_labels)


def test_frozen_models_are_finished_and_leave_no_data(learner, rounds):
    def finished(model, labels):
        assert len(labels.log_weight) == 72
        return Heisenberg(SHAPE, couplings=2 * model.reduced_couplings)

    states, _ = rounds
    frozen = learner.frozen(states[2], finished)
    for number in range(3):
        old = states[2].model[number].reduced_couplings
        np.testing.assert_allclose(frozen.model[number].reduced_couplings, 2 * old)
        assert len(frozen.states[number].labels.log_weight) == 0


def test_replicas_share_the_length_of_their_inner_chains():
    settings = replace(SETTINGS, n_updates=None)
    part = replace(learner_of(0.5), settings=settings, observable=jnp.mean)
    with pytest.raises(ValueError, match="share the length of the inner chain"):
        ReplicaLearner((part, part))


def test_one_replica_that_still_learns_keeps_all_learning(learner, rounds):
    states, _ = rounds
    part = states[2].states[1]._replace(n_rounds=np.asarray(1))
    assert not learner.is_finished(states[2]._replace(states=(states[2].states[0], part, states[2].states[2])))
