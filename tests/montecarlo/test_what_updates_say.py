"""What updates say of themselves: evaluations a step, step sizes, the decisive part; and tuning by it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
import objects_product
from slmc.montecarlo import (
    FOURTH_ORDER,
    Flat,
    HamiltonianTrajectory,
    HostTarget,
    Info,
    LocalSweep,
    MetropolisHastings,
    Proposal,
    Repeated,
    ReplicaExchange,
    Sequence,
    Target,
    Update,
    decision_of,
    evaluations_per_step,
    init_chains,
    run_chains,
    stacked,
    step_size,
    tune_step_size,
    with_step_size,
)
from slmc.montecarlo.tempering import replica
from slmc.selflearning import CumulativeUpdate
from slmc.selflearning.inner_chain import innermost


class Counted(Target):
    """A Gaussian computed on the host, which notes every evaluation of log W, with its force or without."""

    host: HostTarget

    def __init__(self, calls):
        def weights(batch):
            calls.extend(["weight"] * len(batch))
            return -(batch**2).sum(1) / 2

        def weights_and_forces(batch):
            calls.extend(["force"] * len(batch))
            return -(batch**2).sum(1) / 2, -batch

        self.host = HostTarget(weights, weights_and_forces)

    def log_weight(self, x):
        return self.host.log_weight(x)


def trajectory(guide, n_steps=3, integrator=FOURTH_ORDER):
    return HamiltonianTrajectory(guide, Flat(), 0.1, n_steps, integrator)


def local(target):
    return LocalSweep(target, Flat(), 0.7)


# Update and evaluations of its target in one step, of a configuration of two coordinates.
COUNTS = {
    "local": (local, 2),
    "HMC": (lambda target: MetropolisHastings(target, trajectory(target)), 13),
    "SLHMC": (lambda target: MetropolisHastings(target, trajectory(objects.other_gaussian())), 1),
    "SLMC": (lambda target: objects.slmc(target, local(objects.other_gaussian())), 1),
    "Sequence": (lambda target: Sequence((local(target), objects.slmc(target, local(objects.gaussian())))), 3),
    "Repeated": (lambda target: Repeated(local(target), 3), 6),
}


@pytest.mark.parametrize("name", COUNTS)
def test_evaluations_are_those_that_are_made(name):
    make, count = COUNTS[name]
    calls: list[str] = []
    update = make(Counted(calls))
    state = jax.block_until_ready(update.init(jnp.ones(2)))
    calls.clear()
    jax.block_until_ready(update.step(jax.random.key(1), state))
    assert len(calls) == count
    assert evaluations_per_step(update, jnp.ones(2)) == count


def test_a_guide_on_the_host_that_is_not_the_target_costs_the_target_nothing():
    """Equal functions and equal numbers do not make a guide the target: it is one exact evaluation a step."""
    ours: list[str] = []
    theirs: list[str] = []
    target, guide = Counted(ours), Counted(theirs)
    update = MetropolisHastings(target, trajectory(guide))
    state = jax.block_until_ready(update.init(jnp.ones(2)))
    ours.clear()
    jax.block_until_ready(update.step(jax.random.key(1), state))
    assert (ours, len(theirs)) == (["weight"], 12)
    assert evaluations_per_step(update, jnp.ones(2)) == 1


def test_a_guide_with_the_numbers_of_the_target_is_another_one():
    target, guide = objects.gaussian(), objects.gaussian()
    assert evaluations_per_step(MetropolisHastings(target, trajectory(guide)), jnp.ones(2)) == 1
    assert evaluations_per_step(MetropolisHastings(target, trajectory(target)), jnp.ones(2)) == 13


def test_points_of_a_product_are_counted():
    update = objects_product.local(objects_product.pulled_spins())
    assert evaluations_per_step(update, objects_product.configurations(1)) == 4


def test_evaluations_of_replicas():
    """Every replica's update, and one of each for the configuration that it may be given."""
    exchange = ReplicaExchange(stacked([local(objects.gaussian()) for _ in range(3)]))
    assert evaluations_per_step(exchange, jnp.ones((3, 2))) == 3 * (2 + 1)


def test_guides_of_replicas_are_still_their_targets():
    """HMC stays HMC in a stack, and when it is taken out again."""
    targets = [objects.gaussian(), objects.other_gaussian()]
    exchange = ReplicaExchange(stacked([MetropolisHastings(target, trajectory(target)) for target in targets]))
    assert evaluations_per_step(exchange, jnp.ones((2, 2))) == 2 * (13 + 1)
    for number, target in enumerate(targets):
        alone = replica(exchange.update, number)
        assert evaluations_per_step(alone, jnp.ones(2)) == 13
        assert eqx.tree_equal(alone.target, target)


# --- step sizes and decisions ----------------------------------------------------------------------------------------


class Shift(Proposal):
    """Proposes the mirror image: nothing to be tuned."""

    def propose(self, key, configuration):
        return -configuration, jnp.zeros(())


def mirror(target):
    return MetropolisHastings(target, Shift())


def test_step_sizes():
    target = objects.gaussian()
    assert float(step_size(local(target))) == 0.7
    assert float(step_size(MetropolisHastings(target, trajectory(target)))) == 0.1
    assert step_size(mirror(target)) is None
    assert step_size(Sequence((mirror(target), mirror(target)))) is None
    assert float(step_size(Sequence((local(target), mirror(target))))) == 0.7
    assert float(step_size(Repeated(local(target), 2))) == 0.7
    assert step_size(Repeated(mirror(target), 2)) is None
    # The inner step size of self-learning updates is not theirs: it is that of their innermost update.
    nested = objects.slmc(target, objects.slmc(target, local(target)))
    assert step_size(nested) is None
    assert float(step_size(innermost(nested))) == 0.7
    replicas = ReplicaExchange(stacked([LocalSweep(target, Flat(), size) for size in (0.3, 0.6)]))
    np.testing.assert_array_equal(step_size(replicas), [0.3, 0.6])
    assert step_size(ReplicaExchange(stacked([mirror(target), mirror(target)]))) is None


def test_any_step_size_can_be_replaced():
    target = objects.gaussian()
    for update in (
        local(target),
        MetropolisHastings(target, trajectory(target)),
        Sequence((mirror(target), local(target))),
        Repeated(Sequence((local(target), mirror(target))), 2),
    ):
        assert float(step_size(with_step_size(update, step_size, 0.25))) == 0.25


def test_the_decision_is_that_of_the_decisive_part():
    target = objects.gaussian()
    always, sometimes = mirror(target), LocalSweep(target, Flat(), 3.0)
    for update, pick in (
        (sometimes, lambda info: info),
        (Sequence((always, sometimes)), lambda info: info[1]),
        (Sequence((sometimes, always), decisive=0), lambda info: info[0]),
        (Repeated(Sequence((sometimes, always)), 2), lambda info: info[1]),
        (Sequence((always, Sequence((sometimes, always), 0))), lambda info: info[1][0]),
    ):
        _, info = run_chains(jax.random.key(2), update, init_chains(update, jnp.ones((4, 2))), 5)
        decision = decision_of(update)(info)
        assert isinstance(decision, Info)
        assert decision is pick(info)


def test_updates_that_differ_in_numbers_alone_share_their_decision():
    target = objects.gaussian()
    first, second = (Sequence((LocalSweep(target, Flat(), size), mirror(target))) for size in (0.1, 0.2))
    assert decision_of(first) is decision_of(second)
    assert decision_of(first) is not decision_of(Sequence(first.updates, decisive=0))


def test_decisions_of_replicas_have_an_axis_of_their_own():
    exchange = ReplicaExchange(stacked([local(objects.gaussian()) for _ in range(3)]))
    _, info = run_chains(jax.random.key(3), exchange, init_chains(exchange, jnp.ones((4, 3, 2))), 5)
    assert decision_of(exchange)(info).accepted.shape == (4, 5, 3)


# --- tuning ----------------------------------------------------------------------------------------------------------


def gaussian_of(width):
    return objects.Gaussian(jnp.asarray(objects.PRECISION / width**2))


def acceptances(update, states):
    _, info = run_chains(jax.random.key(6), update, states, 100)
    return np.asarray(decision_of(update)(info).accepted).mean((0, 1))


def test_every_replica_is_tuned_to_its_own_acceptance():
    """Step sizes in proportion to the widths, from one and the same start."""
    widths = (0.3, 1.0, 3.0)
    exchange = ReplicaExchange(stacked([LocalSweep(gaussian_of(width), Flat(), 0.5) for width in widths]))
    start = jnp.asarray(np.random.default_rng(4).normal(size=(32, 3, 2))) * jnp.asarray(widths)[None, :, None]
    tuned, states = tune_step_size(jax.random.key(5), exchange, init_chains(exchange, start), wanted=0.6)
    by_width = np.asarray(step_size(tuned)) / widths
    np.testing.assert_allclose(by_width, by_width.mean(), rtol=0.2)
    np.testing.assert_allclose(acceptances(tuned, states), 0.6, atol=0.06)


def test_repeated_steps_are_tuned_by_all_their_decisions():
    update = Repeated(LocalSweep(objects.gaussian(), Flat(), 5.0), 3)
    states = init_chains(update, Flat().random(jax.random.key(7), (16, 2)))
    tuned, states = tune_step_size(jax.random.key(8), update, states, wanted=0.7)
    assert float(acceptances(tuned, states).mean()) == pytest.approx(0.7, abs=0.06)


def test_without_a_step_size_nothing_happens():
    update = mirror(objects.gaussian())
    states = init_chains(update, jnp.ones((4, 2)))
    tuned, after = tune_step_size(jax.random.key(9), update, states)
    assert tuned is update
    assert after is states


def test_trajectories_through_dictionaries_are_tuned():
    """From steps of which none is accepted. By so many chains that their noise is a fifth of what is allowed."""
    update = objects_product.hmc(objects_product.pulled_spins(), 3.0)
    states = init_chains(update, objects_product.configurations(2, 256))
    tuned, states = tune_step_size(jax.random.key(10), update, states, wanted=0.8)
    assert float(acceptances(tuned, states)) == pytest.approx(0.8, abs=0.08)


class Silent(Update):
    """Says nothing of itself but what it must."""

    target: Target

    @property
    def reversible(self):
        return True

    def step(self, key, state):
        return state, Info(jnp.ones(()), jnp.zeros(()))


def test_an_update_that_says_nothing_costs_one_evaluation_and_has_no_step_size():
    update = Silent(objects.gaussian())
    assert evaluations_per_step(update, jnp.ones(2)) == 1
    assert step_size(update) is None
    info = Info(jnp.ones(()), jnp.zeros(()))
    assert decision_of(update)(info) is info
    assert MetropolisHastings(update.target, CumulativeUpdate(update)).inner_update is update
