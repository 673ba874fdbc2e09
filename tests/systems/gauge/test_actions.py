"""Gauge actions against loops over sites; staples, forces, symmetry."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_gauge as reference
from objects_gauge import effective_action
from slmc.montecarlo import INTEGRATORS, SpecialUnitary
from slmc.montecarlo.integrators import integrate
from slmc.montecarlo.special_unitary import as_matrices, multiply, trace
from slmc.systems.gauge import GaugeAction, random_links, transformed, unit_links
from slmc.systems.gauge.gauge_action import RECTANGLE_COEFFICIENTS
from slmc.systems.gauge.links import staples
from slmc.systems.gauge.observables import plaquette, polyakov_loop, static_loop, wilson_loop

MANIFOLD = SpecialUnitary()
CASES = [((3, 4), 3), ((2, 3, 4), 2), ((2, 3, 2, 4), 3)]


@pytest.mark.parametrize(("shape", "n"), CASES)
def test_actions_are_those_of_loops_over_sites(shape, n):
    links = random_links(jax.random.key(1), shape, n)
    u = reference.complex_links(links)
    for name, c1 in RECTANGLE_COEFFICIENTS.items():
        expected = -reference.gauge_action(u, 2.3, c1)
        assert float(log_weight(GaugeAction(shape, n, 2.3, name), links)) == pytest.approx(expected, rel=1e-12)
    model = effective_action(shape, n)
    loops = np.array([reference.polyakov_sum(u, mu).real for mu in range(len(shape))])
    expected = 2.1 * reference.loop_deficit(u, (1, 1)) - 0.3 * reference.loop_deficit(u, (2, 1)) + 5.0
    assert float(log_weight(model, links)) == pytest.approx(-expected - np.asarray(model.polyakov) @ loops, rel=1e-12)


def test_loops_are_averages_over_sites_and_planes():
    shape, n = (3, 4), 3
    links = random_links(jax.random.key(2), shape, n)
    u = reference.complex_links(links)
    for lengths, n_loops in (((1, 1), 12), ((1, 2), 24), ((2, 3), 24)):
        expected = 1 - reference.loop_deficit(u, lengths) / n_loops
        assert float(wilson_loop(links, *lengths)) == pytest.approx(expected, abs=1e-13)
    for mu in range(2):
        expected = reference.polyakov_sum(u, mu) / n / (12 / shape[mu])
        assert complex(polyakov_loop(links, mu)) == pytest.approx(expected, abs=1e-13)
    assert float(wilson_loop(unit_links(shape, n), 2, 2)) == pytest.approx(1)
    assert float(static_loop(unit_links((2, 2, 3), 2), 1, 2)) == pytest.approx(1)
    assert float(plaquette(links)) == float(wilson_loop(links, 1, 1))


@pytest.mark.parametrize(("shape", "n"), CASES)
def test_staples_are_what_a_link_is_multiplied_with(shape, n):
    """Σ_x Re tr U_μ A counts every plaquette that holds a link μ, once for each of the two."""
    u = as_matrices(random_links(jax.random.key(3), shape, n))
    dimension = len(shape)
    total = sum(float(jnp.sum(trace(multiply(u[:, :, mu], staples(u, mu))).real)) for mu in range(dimension))
    n_plaquettes = np.prod(shape) * dimension * (dimension - 1) / 2
    deficit = reference.loop_deficit(np.moveaxis(np.asarray(u), (0, 1), (-2, -1)), (1, 1))
    assert total == pytest.approx(4 * n * (n_plaquettes - deficit), rel=1e-12)


@eqx.filter_jit
def log_weight(target, configuration):
    return target.log_weight(configuration)


def test_forces_are_gauge_covariant():
    """F(x) in the algebra turns with the gauge: project(U^g, F^g) = g F g†, so their lengths agree link by link."""
    shape = (2, 2, 4)
    target, links = effective_action(shape, 2), random_links(jax.random.key(7), shape, 2)
    g = MANIFOLD.random(jax.random.key(8), (*shape, 2, 2, 2))
    gradient = jax.jit(jax.grad(target.log_weight))
    force = MANIFOLD.project(links, gradient(links))
    moved = transformed(links, g)
    force_moved = MANIFOLD.project(moved, gradient(moved))
    # F is linear in U as the links are: it transforms like them.
    np.testing.assert_allclose(force_moved, transformed(force, g), atol=1e-12)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_order_of_the_energy_error(name):
    integrator, target = INTEGRATORS[name], GaugeAction((2, 2), 3, 4.0)
    links = random_links(jax.random.key(11), (2, 2), 3)
    momenta = jax.vmap(MANIFOLD.draw_momentum, (0, None))(jax.random.split(jax.random.key(12), 8), links)

    def energy(position, momentum):
        return jnp.sum(momentum**2) / 2 - target.log_weight(position)

    @jax.jit
    def errors(momenta, step_size, length):
        def one(momentum):
            carry = jax.lax.fori_loop(
                0, length, lambda _, at: integrate(integrator, target, MANIFOLD, *at, step_size, 1), (links, momentum)
            )
            return energy(*carry) - energy(links, momentum)

        return jnp.sqrt(jnp.mean(jax.vmap(one)(momenta) ** 2))

    step_sizes = np.array([0.1, 0.05, 0.025]) * (1 if integrator.order == 2 else 1.5)
    found = [float(errors(momenta, jnp.asarray(h), round(0.6 / h))) for h in step_sizes]
    slope = np.polyfit(np.log(step_sizes), np.log(found), 1)[0]
    assert slope == pytest.approx(integrator.order, abs=0.25)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (((4,), 2, 1.0), "2 to 4 dimensions"),
        (((4, 4), 1, 1.0), "at least 2"),
        (((4, 4), 2, 1.0, "Luscher"), "improvement"),
    ],
)
def test_wrong_actions_are_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        GaugeAction(*arguments)
