"""Integrators and manifolds: reversible, of the stated order, on the sphere and tangent to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc.montecarlo import INTEGRATORS, HamiltonianTrajectory, SinglePrecision
from slmc.montecarlo.integrators import integrate
from slmc.montecarlo.manifolds import squared_norm
from slmc.testing import check_reversible_trajectory


@pytest.mark.parametrize("name", INTEGRATORS)
def test_tables_are_palindromes_and_add_up(name):
    integrator = INTEGRATORS[name]
    for coefficients in (integrator.drifts, integrator.kicks):
        assert coefficients == coefficients[::-1]
        assert sum(coefficients) == pytest.approx(1, abs=1e-14)
    assert len(integrator.drifts) == len(integrator.kicks) + 1


@pytest.mark.parametrize("name", INTEGRATORS)
def test_reversible_on_the_sphere(name):
    target, spins = objects.TARGETS["double exchange"]((2, 2)), objects.random_spins(1, 2, 2)
    check_reversible_trajectory(jax.random.key(1), INTEGRATORS[name], target, objects.SPHERE, spins, 0.2, 10)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_reversible_with_forces_in_single_precision(name):
    """Rounded forces are functions of the position all the same."""
    guide, spins = SinglePrecision(objects.random_network((4, 4))), objects.random_spins(1, 4, 4)
    check_reversible_trajectory(jax.random.key(1), INTEGRATORS[name], guide, objects.SPHERE, spins, 0.2, 10)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_reversible_in_flat_space(name):
    manifold = objects.MANIFOLDS["flat"][0]
    start = manifold.random(jax.random.key(2), (2,))
    check_reversible_trajectory(jax.random.key(3), INTEGRATORS[name], objects.gaussian(), manifold, start, 0.3, 10)


def energy_errors(integrator, guide, manifold, start, step_sizes, length):
    """Greatest energy error at the ends of several trajectories of one length, for each step size."""
    momenta = jax.vmap(manifold.draw_momentum, (0, None))(jax.random.split(jax.random.key(4), 8), start)

    def energy(position, momentum):
        return jnp.sum(momentum**2) / 2 - guide.log_weight(position)

    def error(momentum, step_size, n_steps):
        end = integrate(integrator, guide, manifold, start, momentum, step_size, n_steps)
        return energy(*end) - energy(start, momentum)

    return [
        float(jnp.sqrt(jnp.mean(jax.vmap(lambda p, h=h: error(p, jnp.asarray(h), round(length / h)))(momenta) ** 2)))
        for h in step_sizes
    ]


@pytest.mark.parametrize("name", INTEGRATORS)
def test_order_of_the_energy_error(name):
    integrator = INTEGRATORS[name]
    guide, start = objects.random_heisenberg((2, 2)), objects.random_spins(2, 2, 2)
    step_sizes = np.array([0.1, 0.05, 0.025]) * (1 if integrator.order == 2 else 2)
    errors = energy_errors(integrator, guide, objects.SPHERE, start, step_sizes, 1.0)
    slope = np.polyfit(np.log(step_sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(integrator.order, abs=0.25)


def assert_close(first, second, atol):
    for ours, theirs in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0)


@pytest.mark.parametrize("name", objects.MANIFOLDS)
def test_geodesics(name):
    """Two halves make a whole, the way back leads back, the speed stays, momenta are tangent."""
    manifold, shape = objects.MANIFOLDS[name]
    position = manifold.random(jax.random.key(5), shape)
    momentum = manifold.draw_momentum(jax.random.key(6), position)
    time = jnp.asarray(1.7)
    moved, turned = manifold.move(position, momentum, time)
    halfway = manifold.move(*manifold.move(position, momentum, time / 2), time / 2)
    assert_close((moved, turned), halfway, 1e-13)
    back, _ = manifold.move(moved, jax.tree.map(jnp.negative, turned), time)
    assert_close(back, position, 1e-13)
    assert float(squared_norm(turned)) == pytest.approx(float(squared_norm(momentum)), rel=1e-13)
    for point, vector in ((position, momentum), (moved, turned)):
        assert_close(manifold.project(point, vector), vector, 1e-13)
    still = jax.tree.map(jnp.zeros_like, momentum)
    assert_close(manifold.move(position, still, time), (position, still), 1e-15)


def test_sphere_does_not_drift():
    sphere = objects.SPHERE
    carry = (objects.random_spins(7, 4), sphere.draw_momentum(jax.random.key(7), objects.random_spins(7, 4)))
    (position, momentum), _ = jax.lax.scan(
        lambda c, _: (sphere.move(*c, jnp.asarray(0.3)), None), carry, None, length=2000
    )
    np.testing.assert_allclose(jnp.sum(position**2, -1), 1, atol=1e-14)
    np.testing.assert_allclose(jnp.sum(position * momentum, -1), 0, atol=1e-14)
    perturbed = sphere.perturb(jax.random.key(8), position, jnp.asarray(0.5))
    np.testing.assert_allclose(jnp.sum(perturbed**2, -1), 1, atol=1e-14)


def test_momenta_on_the_sphere_have_two_components():
    spins = objects.random_spins(9, 20_000)
    kinetic = jnp.sum(objects.SPHERE.draw_momentum(jax.random.key(9), spins) ** 2, -1)
    assert float(jnp.mean(kinetic)) == pytest.approx(2.0, abs=0.06)


def test_forces_of_a_trajectory_are_counted():
    guide = objects.gaussian()
    manifold = objects.MANIFOLDS["flat"][0]
    for integrator in INTEGRATORS.values():
        assert HamiltonianTrajectory(guide, manifold, 0.1, 7, integrator).n_forces == 7 * len(integrator.kicks)
