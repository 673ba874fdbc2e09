"""Gauge actions against loops over sites; staples, forces, symmetry."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_gauge as reference
from slmc.montecarlo import INTEGRATORS, SpecialUnitary, Target
from slmc.montecarlo.integrators import integrate
from slmc.montecarlo.special_unitary import as_matrices, multiply, trace
from slmc.systems.gauge import EffectiveAction, GaugeAction, random_links, transformed, unit_links
from slmc.systems.gauge.gauge_action import RECTANGLE_COEFFICIENTS
from slmc.systems.gauge.links import staples
from slmc.systems.gauge.observables import plaquette, polyakov_loop, static_loop, wilson_loop
from slmc.testing import check_force, check_reversible_trajectory, check_symmetry

MANIFOLD = SpecialUnitary()
CASES = [((3, 4), 3), ((2, 3, 4), 2), ((2, 3, 2, 4), 3)]


def effective(shape, n_colours):
    model = EffectiveAction(shape, n_colours, 2.1, rectangles=True, polyakov_loops=True)
    loops = jnp.asarray(np.linspace(-0.5, 0.7, len(shape)))
    return eqx.tree_at(
        lambda m: (m.rectangle, m.polyakov, m.constant), model, (jnp.asarray(-0.3), loops, jnp.asarray(5.0))
    )


ACTIONS = {
    "Iwasaki": lambda shape, n: GaugeAction(shape, n, 2.3, "Iwasaki"),
    "effective": effective,
    "plaquette": lambda shape, n: GaugeAction(shape, n, 2.3),
}


@pytest.mark.parametrize(("shape", "n"), CASES)
def test_actions_are_those_of_loops_over_sites(shape, n):
    links = random_links(jax.random.key(1), shape, n)
    u = reference.complex_links(links)
    for name, c1 in RECTANGLE_COEFFICIENTS.items():
        expected = -reference.gauge_action(u, 2.3, c1)
        assert float(log_weight(GaugeAction(shape, n, 2.3, name), links)) == pytest.approx(expected, rel=1e-12)
    model = effective(shape, n)
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


class Compiled(Target):
    """The same target, compiled once for value and gradient."""

    target: Target

    def log_weight(self, configuration):
        return log_weight(self.target, configuration)


@eqx.filter_jit
def log_weight(target, configuration):
    return target.log_weight(configuration)


@pytest.mark.parametrize(
    ("name", "shape", "n"), [("Iwasaki", (3, 4), 2), ("effective", (2, 3, 2, 4), 3), ("plaquette", (2, 3), 4)]
)
def test_forces_and_gauge_invariance(name, shape, n):
    target, links = Compiled(ACTIONS[name](shape, n)), random_links(jax.random.key(4), shape, n)
    check_force(jax.random.key(5), target, MANIFOLD, links, tolerance=1e-7, n_directions=2)
    g = MANIFOLD.random(jax.random.key(6), (*shape, 2, n, n))
    check_symmetry(target, links, lambda u: transformed(u, g))


def test_forces_are_gauge_covariant():
    """F(x) in the algebra turns with the gauge: project(U^g, F^g) = g F g†, so their lengths agree link by link."""
    shape = (2, 2, 4)
    target, links = Compiled(ACTIONS["effective"](shape, 2)), random_links(jax.random.key(7), shape, 2)
    g = MANIFOLD.random(jax.random.key(8), (*shape, 2, 2, 2))
    force = MANIFOLD.project(links, jax.grad(target.log_weight)(links))
    moved = transformed(links, g)
    force_moved = MANIFOLD.project(moved, jax.grad(target.log_weight)(moved))
    # F is linear in U as the links are: it transforms like them.
    np.testing.assert_allclose(force_moved, transformed(force, g), atol=1e-12)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_trajectories_are_reversible(name):
    links = random_links(jax.random.key(9), (2, 2), 3)
    target = GaugeAction((2, 2), 3, 4.0)
    check_reversible_trajectory(jax.random.key(10), INTEGRATORS[name], target, MANIFOLD, links, 0.2, 10)


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
