"""Trajectories of atoms with masses leave the distribution as it is; wrong ones do not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slmc import testing
from slmc.montecarlo import LEAPFROG, HamiltonianTrajectory, MetropolisHastings, Product
from slmc.systems.atoms import FromEnergy, HarmonicCrystal, Massive
from slmc.systems.atoms.masses import ANGSTROM_PER_FS

BETA, STIFFNESS, MASSES = 8.0, 2.0, (1.0, 16.0, 200.0)
PLACES = np.arange(9.0).reshape(3, 3)
TARGET = FromEnergy(HarmonicCrystal(jnp.asarray(PLACES), jnp.asarray(STIFFNESS)), BETA)
GUIDE = FromEnergy(HarmonicCrystal(jnp.asarray(PLACES + 0.1), jnp.asarray(1.5 * STIFFNESS)), BETA)
STATISTICS = {
    "light": lambda x: x[0, 0],
    "heavy": lambda x: x[2, 1],
    "energy": lambda x: TARGET.log_weight(x),
    "centre": lambda x: jnp.mean(x[:, 2]),
}


def draws(n=4000, seed=0):
    spread = 1 / np.sqrt(BETA * STIFFNESS)
    return jnp.asarray(PLACES + spread * np.random.default_rng(seed).normal(size=(n, 3, 3)))


class Forgetful(Massive):
    """The force acts on all atoms as if they had one mass, their motion does not."""

    def impulse(self, position, force):
        return jnp.mean(self.speeds) * force


def update(manifold, guide, step=3.0, n_steps=4):
    return MetropolisHastings(TARGET, HamiltonianTrajectory(guide, manifold, step, n_steps))


@pytest.mark.parametrize("guide", [TARGET, GUIDE])
def test_hmc_and_slhmc_with_masses_are_invariant(guide) -> None:
    testing.check_invariance(jax.random.key(1), update(Massive(MASSES, BETA), guide), draws(), STATISTICS)


class NoRatio(HamiltonianTrajectory):
    """A wrong twin: the kinetic energy is forgotten."""

    def propose(self, key, configuration):
        position, ratio = super().propose(key, configuration)
        return position, 0 * ratio


def test_a_forgotten_kinetic_energy_is_caught() -> None:
    wrong = MetropolisHastings(TARGET, NoRatio(GUIDE, Massive(MASSES, BETA), jnp.asarray(3.0), 4))
    with pytest.raises(AssertionError, match="not leave its target invariant"):
        testing.check_invariance(jax.random.key(1), wrong, draws(), STATISTICS)


def test_trajectories_are_reversible_and_times_are_femtoseconds() -> None:
    manifold = Massive(MASSES, BETA)
    x = draws(1)[0]
    testing.check_reversible_trajectory(jax.random.key(2), LEAPFROG, GUIDE, manifold, x, 3.0, 5)
    testing.check_force(jax.random.key(3), TARGET, manifold, x)
    # Hamilton's equation of one atom: acceleration F/m, in Å/fs² for eV/Å and u.
    force = jax.grad(TARGET.log_weight)(x) / BETA
    acceleration = manifold.speeds * manifold.impulse(x, BETA * force)
    np.testing.assert_allclose(acceleration, force / np.array(MASSES)[:, None] * ANGSTROM_PER_FS**2, rtol=1e-12)
    both = Product({"atoms": manifold})
    np.testing.assert_array_equal(both.impulse({"atoms": x}, {"atoms": x})["atoms"], manifold.impulse(x, x))


def test_a_force_that_ignores_masses_costs_acceptance_alone() -> None:
    """Any kick by a function of the position is exact: masses that don't fit are no mistake of the averages."""
    manifold = Forgetful(MASSES, BETA)
    result = testing.check_invariance(
        jax.random.key(4), update(manifold, TARGET, 1.0), draws(), STATISTICS, least_moved=0.01
    )
    assert result.moved > 0


def test_the_centre_of_mass_is_held() -> None:
    manifold = Massive(MASSES, BETA, holds_centre=True)
    x = draws(64)
    moved = jax.vmap(lambda key, x: update(manifold, GUIDE).proposal.propose(key, x)[0])(
        jax.random.split(jax.random.key(5), 64), x
    )
    share = jnp.asarray(MASSES)[None, :, None] / sum(MASSES)
    np.testing.assert_allclose(jnp.sum(share * moved, axis=1), jnp.sum(share * x, axis=1), atol=1e-12)
    assert float(jnp.mean(jnp.abs(moved - x))) > 0.01
    testing.check_reversible_trajectory(jax.random.key(6), LEAPFROG, GUIDE, manifold, x[0], 3.0, 5)
    momenta = jax.vmap(lambda key: manifold.draw_momentum(key, x[0]))(jax.random.split(jax.random.key(7), 4000))
    assert float(jnp.mean(jnp.sum(momenta**2, axis=(1, 2)))) == pytest.approx(6, rel=0.05)


def test_masses_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Massive([1.0, 0.0], BETA)
    assert eqx.is_array(Massive(MASSES, BETA).speeds)
