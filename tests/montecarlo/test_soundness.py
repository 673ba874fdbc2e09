"""Chains that cannot be right are refused: off the manifold, at no weight or an infinite one, of several targets."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc.montecarlo import (
    Flat,
    LocalSweep,
    MetropolisHastings,
    Repeated,
    ReplicaExchange,
    Sequence,
    Signs,
    SpecialUnitary,
    Sphere,
    Target,
    check_on_manifold,
    init_chains,
    manifold_of,
    run_chains,
    stacked,
)
from slmc.montecarlo.update import same_target
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import CheckerboardSweep, HeatBathSweep, Ising, WolffUpdate

# --- manifolds --------------------------------------------------------------------------------------------------------

SU3 = SpecialUnitary()
POINTS = {
    "flat": (Flat(), np.array([3.0, -1e9])),
    "sphere": (Sphere(), np.concatenate([np.asarray(objects.random_spins(1, 5)), np.zeros((1, 3))])),
    "signs": (Signs(), np.array([1.0, -1.0, 0.0])),
    "SU(3)": (SU3, np.asarray(SU3.random(jax.random.key(1), (4, 2, 3, 3)))),
    "SU(4)": (SU3, np.asarray(SU3.random(jax.random.key(1), (4, 2, 4, 4)))),
}
OFF = {
    "sphere": lambda x: 3 * x,
    "signs": lambda x: 0.5 * x,
    "SU(3)": lambda x: x * np.array([0.0, 1.0, 1.0])[:, None],
    "SU(4)": lambda x: x[:, :, [1, 0, 2, 3]],
}


@pytest.mark.parametrize("name", POINTS)
def test_distance_from_the_manifold(name):
    """For NumPy arrays and inside a compiled program; lengths of 3, zero rows, a wrong determinant, NaN are off."""
    manifold, points = POINTS[name]
    assert float(manifold.distance(points)) < 1e-12
    assert float(jax.jit(manifold.distance)(jnp.asarray(points))) < 1e-12
    if name in OFF:
        assert float(manifold.distance(OFF[name](points))) > 0.1
        assert float(jax.jit(manifold.distance)(jnp.asarray(OFF[name](points)))) > 0.1
    broken = points.copy()
    broken.flat[-1] = math.nan
    assert math.isnan(manifold.distance(broken))
    with pytest.raises(ValueError, match=r"chain 1 is not on its manifold"):
        check_on_manifold(manifold, np.stack([points, broken]))


def test_updates_tell_where_they_move():
    ring, ising = objects.ring(), Ising((4, 4), couplings=[0.3])
    hmc = objects.hmc(ring, 0.3)
    for update in (hmc, LocalSweep(ring, Sphere(), 1.0), HeatBathSweep(ring), objects.palindrome(ring)):
        assert isinstance(manifold_of(update), Sphere)
        assert isinstance(manifold_of(Repeated(objects.slmc(ring, update, 1), 2)), Sphere)
    assert isinstance(manifold_of(ReplicaExchange(stacked([hmc, hmc]))), Sphere)
    assert isinstance(manifold_of(WolffUpdate(ising)), Signs)
    assert isinstance(manifold_of(CheckerboardSweep(ising)), Signs)


def test_chains_do_not_start_off_their_manifold():
    update = objects.hmc(objects.ring(), 0.3)
    spins = objects.random_spins(1, 4, 4)
    with pytest.raises(ValueError, match="chain 2 is not on its manifold, Sphere"):
        init_chains(update, spins.at[2].multiply(3.0))
    states = jax.jit(lambda x: init_chains(update, x))(spins)
    assert states.log_weight.shape == (4,)


# --- weights ----------------------------------------------------------------------------------------------------------


class Wall(Target):
    """−x²/2 within |x| < 1, and ``beyond`` outside."""

    beyond: float

    def log_weight(self, x):
        return jnp.where(jnp.abs(x[0]) < 1, -jnp.sum(x**2) / 2, self.beyond)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_chain_starts_at_a_weight_that_is_none(bad):
    update = LocalSweep(Wall(bad), Flat(), 1.0)
    with pytest.raises(FloatingPointError, match=f"log-weight of chain 1 is {bad} where it starts"):
        init_chains(update, jnp.asarray([[0.0], [2.0]]))


def test_a_chain_that_falls_into_an_infinite_weight_is_noticed():
    update = LocalSweep(Wall(math.inf), Flat(), 1.0)
    states = init_chains(update, jnp.zeros((2, 1)))
    with pytest.raises(FloatingPointError, match="is inf after some steps; a chain stays for ever"):
        run_chains(jax.random.key(1), update, states, 50)


def test_a_weight_of_zero_is_left():
    update = LocalSweep(Wall(-math.inf), Flat(), 1.0)
    states = init_chains(update, jnp.full((4, 1), 1.5))
    states, _ = run_chains(jax.random.key(2), update, states, 100)
    assert np.all(np.isfinite(states.log_weight))
    assert float(jnp.max(jnp.abs(states.configuration))) < 1


# --- one target -------------------------------------------------------------------------------------------------------


def test_parts_of_a_sequence_share_their_target():
    """A palindrome of updates of different targets passed the guard of CumulativeUpdate, and was 70 σ wrong."""
    first, second = LocalSweep(objects.gaussian(), Flat(), 1.0), LocalSweep(objects.other_gaussian(), Flat(), 1.0)
    with pytest.raises(ValueError, match="have different targets"):
        Sequence((first, second, first))
    with pytest.raises(ValueError, match="have different targets"):
        Sequence((Repeated(first, 2), Sequence((second, second))))
    with pytest.raises(ValueError, match="at least one update"):
        Sequence(())
    # Equal values are one target, though made twice.
    again = LocalSweep(objects.gaussian(), Flat(), 0.5)
    assert Sequence((first, again, first)).reversible


def test_a_target_replaced_in_one_part_is_noticed_by_the_guard():
    import equinox as eqx

    first, middle = (LocalSweep(objects.gaussian(), Flat(), step) for step in (1.0, 0.5))
    sequence = Sequence((first, middle, first))
    changed = eqx.tree_at(lambda s: s.updates[1].target, sequence, objects.other_gaussian())
    assert not changed.reversible
    with pytest.raises(ValueError, match="keeps detailed balance"):
        CumulativeUpdate(changed)


def test_targets_are_compared_inside_compiled_programs_too():
    """Where values are not known arrays of one shape pass, and other structures do not."""

    @jax.jit
    def shares(a, b):
        first, second = objects.Gaussian(a), objects.Gaussian(b)
        return jnp.asarray([same_target(first, second), same_target(first, first), same_target(first, objects.ring())])

    assert shares(jnp.eye(2), 2 * jnp.eye(2)).tolist() == [True, True, False]
    assert not same_target(objects.Gaussian(jnp.eye(2)), objects.Gaussian(2 * jnp.eye(2)))
    assert not same_target(objects.Gaussian(jnp.eye(2)), objects.Gaussian(jnp.eye(3)))
    assert not same_target(Wall(0.0), Wall(1.0))


# --- nothing to do ----------------------------------------------------------------------------------------------------


def nothing(state, info):
    return {}


def test_no_steps_and_no_observables_are_empty_results():
    update = objects.hmc(objects.ring(), 0.3)
    states = init_chains(update, objects.random_spins(1, 4, 4))
    same, infos = run_chains(jax.random.key(1), update, states, 0)
    np.testing.assert_array_equal(same.configuration, states.configuration)
    assert infos.accepted.shape == (4, 0)
    assert run_chains(jax.random.key(1), update, states, 2, nothing)[1] == {}
    single = ReplicaExchange(stacked([update]))
    _, infos = run_chains(jax.random.key(1), single, init_chains(single, objects.random_spins(1, 4, 1, 4)), 3)
    assert infos.swapped.shape == (4, 3, 0)


def test_no_chains_and_numbers_of_steps_that_are_none_are_refused(as_users_call):
    update = objects.hmc(objects.ring(), 0.3)
    states = init_chains(update, objects.random_spins(1, 4, 4))
    with pytest.raises(ValueError, match="of at least one chain"):
        init_chains(update, jnp.zeros((0, 4, 3)))
    for wrong, words in ((-1, "at least 0"), (2.5, "a whole number"), (True, "a whole number")):
        with pytest.raises(ValueError, match=f"n_steps must be {words}"):
            run_chains(jax.random.key(1), update, states, wrong)
        with pytest.raises(ValueError, match="n_steps must be"):
            Repeated(update, wrong)
        with pytest.raises(ValueError, match="n_updates must be"):
            CumulativeUpdate(update, wrong)
        with pytest.raises(ValueError, match="n_steps must be"):
            objects.hmc(objects.ring(), 0.3, wrong)
    assert isinstance(Repeated(update, np.int64(2)).n_steps, int)
    assert isinstance(update, MetropolisHastings)
