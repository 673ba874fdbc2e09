"""CASK against loops over sites; its symmetries; guides with a scale and couplings of their own, and their fit."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import reference_gauge as reference
from slmc.montecarlo import Flat, Label, SpecialUnitary, Target
from slmc.selflearning import GaussNewtonSettings, fit_gauss_newton, fit_linear, residual
from slmc.systems.gauge import (
    ActionChange,
    CaskSmearing,
    Dynamical,
    FermionDeterminant,
    FermionGuide,
    GaugeAction,
    LoopAction,
    PseudofermionAction,
    Solver,
    Staggered,
    StoutSmearing,
    TrajectoryEnds,
    random_links,
    transformed,
)
from slmc.systems.gauge.fermion_operator import gaussian_field
from slmc.systems.gauge.guide import trained_part
from slmc.systems.gauge.smearing import LOOPS
from slmc.testing import check_force

MANIFOLD = SpecialUnitary()
CUBE = (3, 3, 3)
WEIGHTS = [[0.1, 0.02], [0.15, -0.05], [-0.1, 0.04], [0.2, 0.03]]
"""ρ, ρ_Q, ρ_K, ρ_V of plaquettes and rectangles."""


def cask(n_layers=1, scores="links"):
    return CaskSmearing(n_layers, ("plaquette", "rectangle"), [WEIGHTS] * n_layers, scores)


@eqx.filter_jit
def smeared(smearing, links):
    return smearing.smeared(links)


# --- against loops over sites ----------------------------------------------------------------------------------------


def projected(matrix):
    """The antihermitian traceless part."""
    part = (matrix - matrix.conj().T) / 2
    return part - np.trace(part) / len(matrix) * np.eye(len(matrix))


def staple_steps(dimension, mu):
    """Paths from x to x + μ that go round by ν."""
    return [[way, mu + 1, -way] for nu in range(dimension) if nu != mu for way in (nu + 1, -nu - 1)]


def each_link(u, algebra):
    """exp(algebra(μ, site)) U for every link."""
    found = np.empty_like(u)
    for mu in range(len(u)):
        for site in np.ndindex(*u.shape[1:-2]):
            found[(mu, *site)] = scipy.linalg.expm(algebra(mu, site)) @ u[(mu, *site)]
    return found


def stout_by_paths(u, rho):
    def algebra(mu, site):
        staples = sum(reference.path(u, site, steps) for steps in staple_steps(len(u), mu))
        return projected(rho * staples @ u[(mu, *site)].conj().T)

    return each_link(u, algebra)


def cask_by_paths(u, rho, rho_query, rho_key, rho_value):
    """One layer with plaquettes alone, staple by staple."""
    query, key, value = (stout_by_paths(u, one) for one in (rho_query, rho_key, rho_value))
    n = u.shape[-1]

    def attention(mu, site):
        link, total = u[(mu, *site)], 0
        for steps in staple_steps(len(u), mu):
            overlap = np.trace(query[(mu, *site)] @ reference.path(key, site, steps).conj().T).real
            overlap -= np.trace(link @ reference.path(u, site, steps).conj().T).real
            total = total + np.tan(np.pi * overlap / (4 * (n + 0.01))) * reference.path(value, site, steps)
        return projected(total @ link.conj().T)

    attended = each_link(u, attention)

    def output(mu, site):
        staples = sum(reference.path(attended, site, steps) for steps in staple_steps(len(u), mu))
        return projected(rho * staples @ u[(mu, *site)].conj().T)

    return each_link(u, output)


@pytest.mark.parametrize(("shape", "n"), [((2, 3, 2), 2), ((3, 4), 3)])
def test_a_layer_is_that_of_loops_over_sites(shape, n):
    links, weights = random_links(jax.random.key(1), shape, n), (0.12, 0.2, -0.1, 0.15)
    found = smeared(CaskSmearing(1, ("plaquette",), [[[one] for one in weights]]), links)
    expected = cask_by_paths(reference.complex_links(links), *weights)
    np.testing.assert_allclose(reference.complex_links(found), expected, atol=1e-13)


# --- symmetries ------------------------------------------------------------------------------------------------------


def mirrored(links, axis):
    """x_axis → −x_axis: links along the axis turn round and start a site earlier."""
    u = reference.complex_links(links)
    found = np.roll(np.flip(u, axis + 1), 1, axis + 1)
    found[axis] = np.conj(np.swapaxes(np.roll(found[axis], -1, axis), -1, -2))
    return jnp.asarray(reference.stored(found))


def permuted(links, order):
    """Axes exchanged."""
    u = reference.complex_links(links)[list(order)]
    axes = (0, *(1 + one for one in order), len(order) + 1, len(order) + 2)
    return jnp.asarray(reference.stored(np.transpose(u, axes)))


SYMMETRIES = {
    **{f"mirror {axis}": lambda links, axis=axis: mirrored(links, axis) for axis in range(3)},
    **{
        f"axes {order}": lambda links, order=order: permuted(links, order) for order in itertools.permutations(range(3))
    },
    "shift": lambda links: jnp.roll(links, (1, 2), (1, 3)),
    "gauge": lambda links: transformed(links, MANIFOLD.random(jax.random.key(3), (*CUBE, 2, 2, 2))),
}


def violations(smearing, links):
    """How far smearing and symmetry are from commuting, the largest component of each."""
    after = smeared(smearing, links)
    return {
        name: float(jnp.max(jnp.abs(smeared(smearing, symmetry(links)) - symmetry(after))))
        for name, symmetry in SYMMETRIES.items()
    }


@pytest.mark.parametrize("scores", ["links", "positions"])
def test_every_symmetry_of_the_lattice_and_of_the_gauge(scores):
    links = random_links(jax.random.key(2), CUBE, 2)
    found = violations(cask(2, scores), links)
    assert max(found.values()) < 1e-12
    assert float(jnp.max(jnp.abs(smeared(cask(2, scores), links) - links))) > 0.1


def test_the_published_form_that_scores_upper_staples_alone_is_not_equivariant():
    """The twin: covariant, but not the same in a mirror."""
    found = violations(cask(1, "upper links"), random_links(jax.random.key(2), CUBE, 2))
    assert found["gauge"] < 1e-12
    assert all(found[f"mirror {axis}"] > 1e-2 for axis in range(3))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("scores", ["links", "upper links", "positions"])
def test_without_queries_and_keys_it_is_stout_to_the_bit(n, scores):
    links = random_links(jax.random.key(4), (2, 3), n)
    weights = jnp.asarray(WEIGHTS).at[1:3].set(0.0)
    found = smeared(CaskSmearing(2, ("plaquette", "rectangle"), weights, scores), links)
    stout = smeared(StoutSmearing(2, ("plaquette", "rectangle"), weights[:1]), links)
    np.testing.assert_array_equal(found, stout)


# --- forces and derivatives ------------------------------------------------------------------------------------------


class Compiled(Target):
    """The same target, compiled once for value and gradient."""

    target: Target

    def log_weight(self, configuration):
        return log_weight(self.target, configuration)


@eqx.filter_jit
def log_weight(target, configuration):
    return target.log_weight(configuration)


def test_force_through_attention():
    operator = Staggered((2, 4), 2, 0.4)
    exact = FermionDeterminant(GaugeAction((2, 4), 2, 2.3), operator, 4.0, cask())
    check_force(jax.random.key(5), Compiled(exact), MANIFOLD, random_links(jax.random.key(6), (2, 4), 2), 1e-7, 1)


# --- guides ----------------------------------------------------------------------------------------------------------

TORUS = (2, 2)
LOOPS_OF_GUIDE = ("plaquette", "temporal Polyakov")


def guide_of(smearing, couplings=0.0, scale=1.0, mass=0.8):
    gauge = GaugeAction(TORUS, 2, 1.2)
    fermions = PseudofermionAction(gauge, Staggered(TORUS, 2, mass), smearing=smearing, solver=Solver(1e-12))
    return FermionGuide(LoopAction(gauge, LOOPS_OF_GUIDE, couplings), fermions, scale)


def ends(n, seed=7):
    links = random_links(jax.random.key(seed), TORUS, 2, 2, n)
    shape = guide_of(None).fermions.pseudofermion_shape
    phi = jax.vmap(lambda key: gaussian_field(key, shape))(jax.random.split(jax.random.key(seed + 1), n))
    return TrajectoryEnds(links[0], links[1], phi)


def labelled(change, several):
    values = eqx.filter_jit(lambda change: jax.lax.map(change.log_weight, several))(change)
    return Label(several, np.asarray(values), several.start)


def test_a_guide_is_the_sum_of_its_parts():
    links, phi = random_links(jax.random.key(8), TORUS, 2), ends(1).pseudofermion[0]
    guide = guide_of(None, [0.3, -0.2], 1.7)
    u = reference.complex_links(links)
    loops = 4 * (1 - reference.loop_deficit(u, (1, 1)) / 4) * 2, reference.polyakov_sum(u, 1).real
    gauge = -reference.gauge_action(u, 1.2, 0.0) + 0.3 * loops[0] / 2 - 0.2 * loops[1] / 2
    fermions = float(guide.fermions.fermion_log_weight(Dynamical(links, phi)))
    assert float(guide.log_weight(Dynamical(links, phi))) == pytest.approx(gauge + 1.7 * fermions, rel=1e-9)
    drawn = guide.coloured(guide.noise(jax.random.key(9)), links)
    expected = guide.fermions.coloured(guide.noise(jax.random.key(9)), links) / complex(np.sqrt(1.7))
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)


def test_loops_of_an_action_are_traces_over_the_number_of_colours():
    links = random_links(jax.random.key(18), TORUS, 3)
    base = GaugeAction(TORUS, 3, 1.2)
    action = LoopAction(base, LOOPS_OF_GUIDE, [0.3, -0.2])
    u = reference.complex_links(links)
    loops = 4 * (1 - reference.loop_deficit(u, (1, 1)) / 4) * 3, reference.polyakov_sum(u, 1).real
    expected = float(base.log_weight(links)) + 0.3 * loops[0] / 3 - 0.2 * loops[1] / 3
    assert float(action.log_weight(links)) == pytest.approx(expected, rel=1e-10)


def test_gauss_newton_finds_a_guide_of_the_same_structure():
    """The labels are those of another set of numbers, which the fit finds, and nothing else is moved."""
    sought = guide_of(StoutSmearing(1, ("plaquette",), 0.12), [0.3, -0.2], 1.4)
    start = guide_of(StoutSmearing(1, ("plaquette",), 0.02))
    labels, held_out = labelled(ActionChange(sought), ends(24)), labelled(ActionChange(sought), ends(8, 17))
    found = fit_gauss_newton(
        ActionChange(start), labels, held_out, GaussNewtonSettings(tolerance=1e-9), where=trained_part
    )
    guide = found.model.action
    assert found.residual < 1e-6
    for one, other in zip(trained_part(found.model), trained_part(ActionChange(sought)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert (guide.fermions.operator.mass, guide.gauge.base.beta) == (0.8, 1.2)
    assert found.history[0, 2] == pytest.approx(residual(ActionChange(start), held_out))
    assert np.all(np.diff(found.history[:, 1]) < 0)


class Curved(Target):
    """log W = θ·x, and a parameter that nothing reads."""

    theta: jax.Array
    idle: jax.Array

    def log_weight(self, configuration):
        return jnp.sum(self.theta * configuration)


def test_gauss_newton_is_least_squares_where_the_model_is_linear():
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(50, 3))
    labels = Label(inputs, inputs @ np.array([1.0, -2.0, 0.5]) + 3 + 0.1 * rng.normal(size=50), inputs)
    model = Curved(jnp.zeros(3), jnp.ones(()))
    by_solve = fit_linear(model, labels, Flat(), force_weight=0.0, where=lambda one: one.theta)
    settings = GaussNewtonSettings(damping=0.0, n_steps=2)
    found = fit_gauss_newton(model, labels, labels, settings)
    np.testing.assert_allclose(found.model.theta, by_solve.theta, rtol=1e-8)
    assert float(found.model.idle) == 1
    with pytest.raises(ValueError, match="need more labels"):
        fit_gauss_newton(model, Label(*(leaf[:4] for leaf in labels)), labels)
    with pytest.raises(FloatingPointError, match="not finite"):
        fit_gauss_newton(model, labels._replace(log_weight=labels.log_weight * np.nan), labels)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CaskSmearing(1, ("square",)), "loops must be"),
        (lambda: CaskSmearing(0), "at least one layer"),
        (lambda: CaskSmearing(1, scores="softmax"), "scores must be one of links"),
        (lambda: LoopAction(GaugeAction(TORUS, 2, 1.0), ()), "loops must be"),
    ],
)
def test_wrong_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_guide_of_all_loops_has_eleven_numbers():
    """The baseline that attention must beat: two layers of stout with three loops, four couplings, a scale."""
    gauge, smearing = GaugeAction(TORUS, 2, 1.0), StoutSmearing(2, LOOPS[:1] + LOOPS[2:])
    guide = FermionGuide(LoopAction(gauge), PseudofermionAction(gauge, Staggered(TORUS, 2, 0.8), smearing=smearing))
    assert sum(leaf.size for leaf in trained_part(ActionChange(guide))) == 11
