"""Path integrals: oscillators have known beads; what P beads give is what products of P matrices give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants

from slmc import testing
from slmc.montecarlo import LEAPFROG, HamiltonianTrajectory, MetropolisHastings, Target, init_chains, run_chains
from slmc.statistics import estimate
from slmc.systems.atoms import PathIntegral, RingPolymer
from slmc.systems.atoms.path_integral import HBAR_SQUARED, normal_modes

BETA = 8.0
"""m = ħ = 1, as in the published tests of the method."""

PUBLISHED = {8: 0.260075, 16: 0.291095, 32: 0.301826, 64: 0.304795}
"""⟨x²⟩ of V = x²/2 + x⁴/2 with P beads."""


class Oscillator(Target):
    """log W = −β (x²/2 + λ x⁴/2)."""

    quartic: jax.Array

    def log_weight(self, x):
        return -BETA * jnp.sum(x**2 / 2 + self.quartic * x**4 / 2)


def polymer(n_beads, quartic=0.0, frequency=1.5):
    target = PathIntegral(Oscillator(jnp.asarray(quartic)), [1.0], BETA, n_beads, hbar_squared=1.0)
    return target, RingPolymer(target, [1 / np.sqrt(BETA)], frequency)


def update(target, manifold, guide=None, step=0.4, n_steps=5):
    return MetropolisHastings(target, HamiltonianTrajectory(guide or target.driving_part, manifold, step, n_steps))


def by_matrices(n_beads, quartic):
    """⟨x²⟩ from the trace of (e^{−τV/2} e^{−τT} e^{−τV/2})^P on a grid, τ = β/P."""
    x, tau = np.linspace(-4.5, 4.5, 301), BETA / n_beads
    potential = x**2 / 2 + quartic * x**4 / 2
    kernel = np.exp(-((x[:, None] - x[None]) ** 2) / (2 * tau) - tau * (potential[:, None] + potential[None]) / 2)
    density = np.diag(np.linalg.matrix_power(kernel / kernel.sum(0).max(), n_beads))
    return float(np.sum(density * x**2) / np.sum(density))


def draws(target, n_draws=3000):
    """Exact: modes of a harmonic oscillator are Gaussians of variance 1/(a_k + β/P)."""
    springs = np.asarray(target.springs)
    spread = 1 / np.sqrt(springs + BETA / len(springs))
    return jnp.asarray(spread * np.random.default_rng(1).normal(size=(n_draws, *springs.shape)))


STATISTICS = {
    "centroid": lambda y: y[0, 0, 0],
    "fast": lambda y: y[4, 0, 0],
    "spread": lambda y: jnp.sum(y[1:] ** 2),
    "virial": lambda y: jnp.sum(y**2),
}


def test_modes_are_orthogonal_and_springs_are_theirs() -> None:
    for n_beads in (2, 5, 8):
        modes = normal_modes(n_beads)
        np.testing.assert_allclose(modes.T @ modes, np.eye(n_beads), atol=1e-13)
        target, _ = polymer(n_beads)
        y = np.random.default_rng(0).normal(size=(n_beads, 1, 1))
        x = (modes @ y[:, 0, 0])[:, None]
        springs = n_beads / BETA * np.sum((np.roll(x, -1, axis=0) - x) ** 2)
        np.testing.assert_allclose(np.sum(np.asarray(target.springs) * y**2), springs, rtol=1e-12)


def test_hbar_is_in_units_of_atoms() -> None:
    unit = constants.atomic_mass * constants.angstrom**2 * constants.electron_volt
    assert pytest.approx(constants.hbar**2 / unit, rel=1e-8) == HBAR_SQUARED


def test_what_comes_with_the_weight_is_that_of_the_beads() -> None:
    """Potential, centroid virial and spread of two particles in three dimensions, from where their beads are."""
    n_beads, quartic = 5, 0.7
    target = PathIntegral(Oscillator(jnp.asarray(quartic)), [1.0, 2.0], BETA, n_beads, hbar_squared=1.0)
    modes = np.random.default_rng(3).normal(size=(n_beads, 2, 3))
    found = target.log_weight_and_observables(jnp.asarray(modes))[1]
    x = np.einsum("jk,kac->jac", normal_modes(n_beads), modes)
    away = x - x.mean(0)
    slope = x + 2 * quartic * x**3
    expected = {
        "potential": np.sum(x**2 + quartic * x**4) / 2 / n_beads,
        "kinetic": 3 * 2 / (2 * BETA) + np.sum(away * slope) / (2 * n_beads),
        "spread": np.mean(np.sum(away**2, axis=-1)),
    }
    expected["energy"] = expected["potential"] + expected["kinetic"]
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("stiffness", [1.0, 1.3])
def test_oscillators_keep_their_distribution(stiffness) -> None:
    """By the potential itself, and by a guide whose force constant is 30 per cent off."""
    target, manifold = polymer(8)
    scaled = PathIntegral(Stiffer(jnp.asarray(stiffness)), [1.0], BETA, 8, hbar_squared=1.0).driving_part
    found = testing.check_invariance(jax.random.key(0), update(target, manifold, scaled), draws(target), STATISTICS)
    assert found.moved > 0.5


class Stiffer(Target):
    """log W = −β k x²/2."""

    stiffness: jax.Array

    def log_weight(self, x):
        return -BETA * self.stiffness * jnp.sum(x**2) / 2


def test_springs_that_are_left_out_of_the_decision_are_caught() -> None:
    """Wrong: that free motion is exact does not mean that it keeps p²."""
    target, manifold = polymer(8)
    potential = target.driving_part
    wrong = MetropolisHastings(potential, HamiltonianTrajectory(potential, manifold, jnp.asarray(0.4), 5))
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        testing.check_invariance(jax.random.key(0), wrong, draws(target), STATISTICS, n_steps=2)


def test_trajectories_are_reversible_and_forces_derivatives() -> None:
    target, manifold = polymer(8, 1.0)
    y = draws(target, 1)[0]
    testing.check_reversible_trajectory(jax.random.key(0), LEAPFROG, target.driving_part, manifold, y, 0.3, 5)
    testing.check_force(jax.random.key(1), target, manifold, y)


def test_published_values_are_those_of_matrix_products() -> None:
    for n_beads, value in PUBLISHED.items():
        assert by_matrices(n_beads, 1.0) == pytest.approx(value, abs=2e-6)


@pytest.mark.parametrize("n_beads", [16, 64])
def test_beads_are_those_of_matrix_products(n_beads) -> None:
    """And with them energies: ⟨T⟩ by the centroid virial is that of the virial theorem, ½⟨x V'⟩, to the same P."""
    target, manifold = polymer(n_beads, 1.0)
    start = draws(target, 256) * 0.5

    def observe(state, info):
        x2 = jnp.sum(state.configuration**2) / n_beads
        return x2, info.accepted, state.observables["kinetic"]

    states = init_chains(update(target, manifold, step=0.3), start)
    states, _ = run_chains(jax.random.key(0), update(target, manifold, step=0.3), states, 20, observe)
    _, (squares, accepted, kinetic) = run_chains(
        jax.random.key(1), update(target, manifold, step=0.3), states, 60, observe
    )
    found = estimate(np.asarray(squares))
    assert found.error < 0.004
    assert abs(found.value - PUBLISHED[n_beads]) < 3.5 * found.error
    # It does not fall with the number of beads: the springs are no part of what a step gets wrong.
    assert float(np.mean(np.asarray(accepted))) > 0.85
    assert 0.2 < float(np.mean(np.asarray(kinetic))) < 0.5


def test_one_bead_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 beads; got 1"):
        polymer(1)
