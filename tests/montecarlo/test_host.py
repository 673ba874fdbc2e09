"""A weight computed outside JAX samples like the same weight in JAX, and says what is wrong with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc import testing
from slmc.montecarlo import (
    HamiltonianTrajectory,
    HostTarget,
    Label,
    LocalSweep,
    MetropolisHastings,
    init_chains,
    log_weight_and_force,
    run_chains,
)
from slmc.selflearning import TrainingSettings, fit, fit_linear
from slmc.systems.spins import Heisenberg

SHAPE = (3, 2)
INSIDE = Heisenberg(SHAPE, couplings=[0.8], temperature=1.3)


def weights_and_forces(batch):
    """The nearest-neighbour Heisenberg model; on an extent of 2 either neighbour counts."""
    fields = sum(np.roll(batch, step, axis) for axis in (1, 2) for step in (-1, 1)) * 0.8 / 1.3
    return (batch * fields).sum((1, 2, 3)) / 2, fields


def weights(batch):
    return weights_and_forces(batch)[0]


def hmc(target):
    return MetropolisHastings(target, HamiltonianTrajectory(target, objects.SPHERE, 0.3, 3))


def local(target):
    return LocalSweep(target, objects.SPHERE, 0.5)


@pytest.mark.parametrize("make", [hmc, local])
def test_chains_are_those_of_the_same_weight_in_jax(make):
    start = objects.random_spins(1, 6, *SHAPE)
    outside = HostTarget(weights, weights_and_forces)
    ours, theirs = (run_chains(jax.random.key(2), make(one), init_chains(make(one), start), 20) for one in
                    (outside, INSIDE))  # fmt: skip
    np.testing.assert_allclose(ours[0].configuration, theirs[0].configuration, atol=1e-9)
    np.testing.assert_allclose(ours[0].log_weight, theirs[0].log_weight, atol=1e-9)
    assert 0.1 < float(np.mean(ours[1].accepted)) < 1


def test_force_is_the_derivative():
    testing.check_force(
        jax.random.key(3), HostTarget(weights, weights_and_forces), objects.SPHERE, objects.random_spins(4, *SHAPE)
    )


def test_chains_reach_the_host_together():
    seen = []

    def counted(batch):
        seen.append(len(batch))
        return weights(batch)

    target = HostTarget(counted)
    jax.block_until_ready(jax.vmap(target.log_weight)(objects.random_spins(5, 7, *SHAPE)))
    assert seen == [7]


def test_a_wrong_shape_is_told():
    target = HostTarget(lambda batch: weights(batch)[:, None])
    with pytest.raises(Exception, match=r"returned arrays of shapes \[\(4, 1\)\] for 4 configurations"):
        jax.block_until_ready(jax.vmap(target.log_weight)(objects.random_spins(5, 4, *SHAPE)))


def test_without_derivatives_models_learn_from_log_weights_alone():
    target = HostTarget(weights)
    spins = objects.random_spins(6, 64, *SHAPE)
    log_weights, forces = jax.vmap(lambda x: log_weight_and_force(target, x))(spins)
    assert np.isnan(forces).all()
    labels = Label(spins, log_weights, forces)
    model = Heisenberg(SHAPE, n_shells=1)
    fitted = fit_linear(model, labels, objects.SPHERE, force_weight=0)
    assert fitted.reduced_couplings[0] == pytest.approx(0.8 / 1.3)
    with pytest.raises(ValueError, match="give force_weight=0"):
        fit_linear(model, labels, objects.SPHERE)
    settings = TrainingSettings(n_steps=100, learning_rate=0.05, force_weight=0)
    trained = fit(jax.random.key(7), model, labels, labels, objects.SPHERE, settings)
    assert trained.residual < 0.2 * float(jnp.std(log_weights))
