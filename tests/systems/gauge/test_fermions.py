"""Staggered and Wilson fermions against dense matrices built site by site; determinants, solvers, forces."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_gauge as reference
from slmc.devices import forget_failed_programs
from slmc.montecarlo import (
    OMELYAN,
    Label,
    MetropolisHastings,
    SpecialUnitary,
    State,
    Target,
    init_chains,
    run_chains,
)
from slmc.montecarlo.integrators import integrate
from slmc.montecarlo.special_unitary import as_matrices
from slmc.montecarlo.target import evaluate
from slmc.selflearning import TrainingSettings, fit
from slmc.systems.gauge import (
    ActionChange,
    DrivenManifold,
    Dynamical,
    FermionDeterminant,
    GaugeAction,
    PseudofermionAction,
    PseudofermionTrajectory,
    RefreshPseudofermions,
    Solver,
    Staggered,
    StoutSmearing,
    TrajectoryEnds,
    Wilson,
    random_links,
    transformed,
)
from slmc.systems.gauge.dynamical import GivenPseudofermion
from slmc.systems.gauge.even_odd import EVEN, packed
from slmc.systems.gauge.fermion_operator import act, gaussian_field
from slmc.systems.gauge.gamma_matrices import gamma_matrices
from slmc.systems.gauge.observables import noisy_condensate, pion_correlator, staggered_condensate
from slmc.systems.gauge.rational import rational_power
from slmc.systems.gauge.solvers import conjugate_gradient, multi_shift
from slmc.testing import check_force, check_symmetry

MANIFOLD = SpecialUnitary()
SHAPE = (2, 4)
LARGER = (2, 2, 2, 4)

OPERATORS = {
    "staggered": lambda: Staggered(SHAPE, 2, 0.4),
    "Wilson": lambda: Wilson(SHAPE, 2, 0.2),
    "staggered, four dimensions": lambda: Staggered(LARGER, 2, 0.4),
    "Wilson, four dimensions": lambda: Wilson(LARGER, 2, 0.11),
    "Wilson, whole lattice": lambda: Wilson((3, 4), 3, 0.2, even_odd=False),
    "staggered, periodic": lambda: Staggered((4, 2), 3, 0.7, antiperiodic=False),
}


class Compiled(Target):
    """The same target, compiled once for value and gradient."""

    target: Target

    def log_weight(self, configuration):
        return log_weight(self.target, configuration)


@eqx.filter_jit
def log_weight(target, configuration):
    return target.log_weight(configuration)


def links_of(operator, seed=1):
    return random_links(jax.random.key(seed), operator.shape, operator.n_colours)


def reference_matrix(operator, links):
    u = reference.complex_links(links)
    if isinstance(operator, Staggered):
        return reference.staggered_matrix(u, float(operator.mass), operator.antiperiodic)
    gammas = gamma_matrices(len(operator.shape))
    return reference.wilson_matrix(u, float(operator.hopping_parameter), gammas, operator.antiperiodic)


def test_gamma_matrices():
    for dimension in (2, 3, 4):
        gammas = gamma_matrices(dimension)
        for mu, nu in np.ndindex(dimension, dimension):
            product = gammas[mu] @ gammas[nu] + gammas[nu] @ gammas[mu]
            np.testing.assert_allclose(product, 2 * (mu == nu) * np.eye(len(product)), atol=1e-15)


@eqx.filter_jit
def applied(operator, links, source, field):
    """A and B as matrices, A ψ, and M⁻¹ of a source by a dense solution."""
    hopping = operator.prepare(as_matrices(links))
    dense = operator.dense(hopping)
    size = int(np.prod(operator.noise_shape))
    units = jnp.eye(size, dtype=jnp.complex128).reshape(size, *operator.noise_shape)
    factor = jax.lax.map(lambda one: operator.factor(hopping, one).reshape(-1), units).T

    def solve(b):
        return jnp.linalg.solve(dense, b.reshape(-1)).reshape(b.shape)

    return dense, factor, operator.normal(hopping, field), operator.propagator(hopping, source, solve)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_the_dense_matrix(name):
    """det A, its bounds, M⁻¹ of a source, A ψ, and B B† = A."""
    operator = OPERATORS[name]()
    links = links_of(operator)
    matrix = reference_matrix(operator, links)
    components = operator.field_shape[: len(operator.field_shape) - len(operator.shape)]
    source = gaussian_field(jax.random.key(2), (*components, *operator.shape))
    field = gaussian_field(jax.random.key(3), operator.field_shape)
    dense, factor, product, propagated = map(np.asarray, applied(operator, links, source, field))

    log_det = np.linalg.slogdet(matrix)[1] * (1 if isinstance(operator, Staggered) else 2)
    assert np.linalg.slogdet(dense)[1] == pytest.approx(log_det, rel=1e-11)
    values = np.linalg.eigvalsh(dense)
    lower, upper = map(float, operator.spectrum())
    assert lower <= values[0] * (1 + 1e-12)
    assert values[-1] <= upper * (1 + 1e-12)
    flat_source, flat = (_sites_first(np.asarray(one), len(operator.shape)) for one in (source, propagated))
    np.testing.assert_allclose(matrix @ flat, flat_source, atol=1e-11)
    np.testing.assert_allclose(product.reshape(-1), dense @ np.asarray(field).reshape(-1), atol=1e-12)
    np.testing.assert_allclose(factor @ factor.conj().T, dense, atol=1e-12)


def _sites_first(field, dimension):
    """The order of the reference: site, spin, colour."""
    return np.moveaxis(field, range(-dimension, 0), range(dimension)).reshape(-1)


@pytest.mark.parametrize(("name", "smeared"), [("staggered", True), ("Wilson", False)])
def test_forces_of_determinant_and_pseudofermions(name, smeared):
    """Against finite differences, with smeared links and without; gauge invariance of the determinant."""
    operator = OPERATORS[name]()
    links = links_of(operator)
    smearing = StoutSmearing(1, ("plaquette", "temporal Polyakov"), [[0.1, 0.05]]) if smeared else None
    gauge = GaugeAction(operator.shape, 2, 2.3)
    exact = FermionDeterminant(gauge, operator, 3.0, smearing)
    check_force(jax.random.key(4), Compiled(exact), MANIFOLD, links, tolerance=1e-7, n_directions=1)
    n_flavours = 1.0 if isinstance(operator, Staggered) else None
    action = PseudofermionAction(gauge, operator, n_flavours, smearing, Solver(1e-13))
    phi = gaussian_field(jax.random.key(5), operator.field_shape)
    given = Compiled(GivenPseudofermion(action, phi))
    check_force(jax.random.key(6), given, MANIFOLD, links, 1e-7, n_directions=1)
    if smeared:
        g = MANIFOLD.random(jax.random.key(7), (*operator.shape, 2, 2, 2))
        check_symmetry(Compiled(exact), links, lambda u: transformed(u, g))


FOUR = (2, 2, 2, 2)


@pytest.mark.parametrize("make", [lambda: Staggered(FOUR, 3, 0.5), lambda: Wilson(FOUR, 3, 0.11)])
def test_forces_and_gauge_invariance_of_one_solution(make):
    """Without a rational function, in four dimensions: φ(x) turns with g(x) as sources of the links do."""
    operator = make()
    links, phi = links_of(operator), gaussian_field(jax.random.key(5), operator.field_shape)
    action = PseudofermionAction(GaugeAction(FOUR, 3, 5.5), operator, solver=Solver(1e-13))
    tangent = MANIFOLD.draw_momentum(jax.random.key(6), links)
    g = MANIFOLD.random(jax.random.key(7), (*FOUR, 2, 3, 3))
    turned, turned_phi = transformed(links, g), act(packed(as_matrices(g), 4)[EVEN], phi)

    @jax.jit
    def value_and_force(links, phi, time):
        moved, _ = MANIFOLD.move(links, tangent, time)
        return jax.value_and_grad(GivenPseudofermion(action, phi).log_weight)(moved)

    value, force = value_and_force(links, phi, 0.0)
    differences = [
        float(value_and_force(links, phi, k * 1e-3)[0] - value_and_force(links, phi, -k * 1e-3)[0]) for k in (1, 2, 3)
    ]
    assert float(jnp.sum(force * tangent)) == pytest.approx(np.dot([45, -9, 1], differences) / 60e-3, rel=1e-7)
    assert float(value_and_force(turned, turned_phi, 0.0)[0]) == pytest.approx(float(value), rel=1e-10)
    assert abs(float(value_and_force(turned, phi, 0.0)[0] - value)) > 1


def test_derivative_by_the_weights_of_the_smearing():
    """What trains a guide, against finite differences."""
    smearing = StoutSmearing(2, ("plaquette", "temporal Polyakov"), [[0.1, 0.05], [0.02, -0.1]])
    operator = OPERATORS["staggered"]()
    action = PseudofermionAction(GaugeAction(SHAPE, 2, 2.3), operator, None, smearing, Solver(1e-13))
    links, phi = links_of(operator), gaussian_field(jax.random.key(5), operator.field_shape)

    @jax.jit
    def value_and_slope(weights):
        def log_weight(weights):
            changed = eqx.tree_at(lambda one: one.smearing.weights, action, weights)
            return changed.log_weight(Dynamical(links, phi))

        return jax.value_and_grad(log_weight)(weights)

    direction, step = np.array([[1.0, -2.0], [0.5, 1.5]]), 1e-3
    values = [float(value_and_slope(smearing.weights + k * step * direction)[0]) for k in (-3, -2, -1, 1, 2, 3)]
    slope = np.dot([-1, 9, -45, 45, -9, 1], values) / (60 * step)
    found = np.sum(direction * np.asarray(value_and_slope(smearing.weights)[1]))
    assert abs(slope) > 1e-2
    assert found == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("n_gauge_steps", [0, 2])
def test_trajectories_with_a_pseudofermion_are_reversible_and_of_second_order(n_gauge_steps):
    """As ``PseudofermionTrajectory`` puts them together, on one time scale and on two."""
    shape, integrator = (2, 2), OMELYAN
    action = PseudofermionAction(GaugeAction(shape, 2, 2.3), Staggered(shape, 2, 0.4), solver=Solver(1e-13))
    links = random_links(jax.random.key(20), shape, 2)
    phi = gaussian_field(jax.random.key(21), action.pseudofermion_shape)
    guide = GivenPseudofermion(action, phi, with_gauge=not n_gauge_steps)
    manifold = DrivenManifold(MANIFOLD, action.gauge, n_gauge_steps, integrator) if n_gauge_steps else MANIFOLD

    def energy(position, momentum):
        return jnp.sum(momentum**2) / 2 - action.log_weight(Dynamical(position, phi))

    @jax.jit
    @jax.vmap
    def followed(position, momentum, step_size, n_steps):
        start = position, momentum
        end = jax.lax.fori_loop(
            0, n_steps, lambda _, at: integrate(integrator, guide, manifold, *at, step_size, 1), start
        )
        return *end, energy(*end) - energy(*start)

    momenta = jax.vmap(MANIFOLD.draw_momentum, (0, None))(jax.random.split(jax.random.key(22), 8), links)
    many, step_sizes, errors = jnp.stack([links] * 8), np.array([0.2, 0.1, 0.05]), []
    for step_size in step_sizes:
        how = jnp.full(8, step_size), jnp.full(8, round(1.2 / step_size))
        position, arrived, change = followed(many, momenta, *how)
        errors.append(np.sqrt(np.mean(np.asarray(change) ** 2)))
    assert np.polyfit(np.log(step_sizes), np.log(errors), 1)[0] == pytest.approx(integrator.order, abs=0.25)
    returned, turned, _ = followed(position, -arrived, *how)
    assert float(jnp.max(jnp.abs(position - many))) > 0.1
    np.testing.assert_allclose(returned, many, atol=1e-10)
    np.testing.assert_allclose(turned, -momenta, atol=1e-10)


@eqx.filter_jit
def dense_of(operator, links):
    return operator.dense(operator.prepare(as_matrices(links)))


@eqx.filter_jit
def weighed_and_drawn(action, links, phi, keys):
    drawn = jax.vmap(lambda key: action.draw_pseudofermion(key, links))(keys)
    return action.fermion_log_weight(Dynamical(links, phi)), drawn


@pytest.mark.parametrize(("name", "rational"), [("staggered", True), ("Wilson", False)])
def test_pseudofermion_weights_are_those_of_the_dense_operator(name, rational):
    """φ†A^(−α)φ by conjugate gradients and by the rational function; φ drawn with the right covariance."""
    operator = OPERATORS[name]()
    links, n_draws = links_of(operator), 400
    values, vectors = np.linalg.eigh(np.asarray(dense_of(operator, links)))
    phi = gaussian_field(jax.random.key(8), operator.field_shape)
    components = abs(vectors.conj().T @ np.asarray(phi).reshape(-1)) ** 2
    n_flavours = 1 if rational else operator.n_tastes
    bounds = (0.9 * values[0], 1.1 * values[-1])
    action = PseudofermionAction(
        GaugeAction(SHAPE, 2, 2.3), operator, n_flavours, solver=Solver(1e-13), spectrum=bounds
    )
    power = n_flavours / operator.n_tastes
    weight, drawn = weighed_and_drawn(action, links, phi, jax.random.split(jax.random.key(9), n_draws))
    assert float(weight) == pytest.approx(-np.sum(values**-power * components), rel=1e-10)
    by_mode = np.mean(abs(np.asarray(drawn).reshape(n_draws, -1) @ vectors.conj()) ** 2, axis=0) / values**power
    assert np.mean(by_mode) == pytest.approx(1, abs=5 / np.sqrt(n_draws * len(values)))
    assert np.max(abs(by_mode - 1)) < 0.35


@eqx.filter_jit
def solved(operator, links, b, shifts, solver):
    hopping = operator.prepare(as_matrices(links))

    def apply(field):
        return operator.normal(hopping, field)

    return conjugate_gradient(apply, b, solver), multi_shift(apply, b, shifts, solver)


def test_conjugate_gradients():
    """Against a dense solution; the residual told is the true one; shifts from small to large."""
    operator = OPERATORS["Wilson"]()
    links = links_of(operator)
    b = gaussian_field(jax.random.key(10), operator.field_shape)
    dense, flat = np.asarray(dense_of(operator, links)), np.asarray(b).reshape(-1)
    shifts = jnp.asarray([3.0, 1e-6, 0.1, 1e4])
    found, several = solved(operator, links, b, shifts, Solver(1e-12))
    np.testing.assert_allclose(found.x.reshape(-1), np.linalg.solve(dense, flat), atol=1e-10)
    residual = np.linalg.norm(dense @ np.asarray(found.x).reshape(-1) - flat) / np.linalg.norm(flat)
    assert float(found.residual) == pytest.approx(residual, rel=0.05)
    for x, sigma in zip(several.x, shifts, strict=True):
        expected = np.linalg.solve(dense + float(sigma) * np.eye(len(dense)), flat)
        np.testing.assert_allclose(np.asarray(x).reshape(-1), expected, atol=1e-10)
    assert float(jnp.max(several.residual)) < 1e-11
    assert int(several.n_iterations) == pytest.approx(int(found.n_iterations), abs=1)


def test_no_convergence_is_an_error():
    operator = Staggered(SHAPE, 2, 1e-3)
    hopping = operator.prepare(as_matrices(links_of(operator)))
    b = gaussian_field(jax.random.key(11), operator.field_shape)
    solve = eqx.filter_jit(conjugate_gradient)
    with pytest.raises(eqx.EquinoxRuntimeError, match="did not reach a relative residual"):
        jax.block_until_ready(solve(lambda f: operator.normal(hopping, f), b, Solver(1e-12, 2)).x)


def test_chains_stop_where_conjugate_gradients_do_not_converge():
    """The error reaches the caller of a program that runs on several devices."""
    action = PseudofermionAction(GaugeAction((2, 2), 2, 1.0), Staggered((2, 2), 2, 1e-4), solver=Solver(1e-12, 1))
    with pytest.raises(RuntimeError, match="raise max_iterations, or take a larger tolerance"):
        refreshed(action)
    forget_failed_programs()


def refreshed(action):
    update = RefreshPseudofermions(action)
    links = random_links(jax.random.key(13), (2, 2), 2, 8)
    phi = jnp.zeros((8, *action.pseudofermion_shape), jnp.complex128)
    jax.block_until_ready(run_chains(jax.random.key(14), update, init_chains(update, Dynamical(links, phi)), 2))


@eqx.filter_jit
def stepped(update, state):
    return update.step(jax.random.key(14), state)


def one_state(action):
    links = random_links(jax.random.key(13), action.operator.shape, 2)
    phi = gaussian_field(jax.random.key(16), action.pseudofermion_shape)
    return State(Dynamical(links, phi), jnp.zeros(()), {"trace_inverse": jnp.zeros(())})


@pytest.mark.parametrize(("lower", "upper", "holds"), [(0.16, 4.16, True), (0.16, 1.0, False)])
def test_eigenvalues_outside_the_given_spectrum_are_an_error(lower, upper, holds):
    """Staggered eigenvalues lie between m² and m² + d²; their mean is m² + d/2."""
    gauge, operator = GaugeAction((2, 2), 2, 1.0), Staggered((2, 2), 2, 0.4)
    action = PseudofermionAction(gauge, operator, 3.0, spectrum=(lower, upper), rational_tolerance=1e-8)
    update = RefreshPseudofermions(action)
    if holds:
        assert np.isfinite(stepped(update, one_state(action))[0].log_weight)
    else:
        with pytest.raises(RuntimeError, match=r"outside the spectrum.* wider spectrum"):
            stepped(update, one_state(action))


def test_links_that_are_no_numbers_are_rejected():
    """As a trajectory with far too long a step makes them; the run goes on, as it does without fermions."""
    action = PseudofermionAction(GaugeAction((2, 2), 2, 1.0), Staggered((2, 2), 2, 0.4))
    far = eqx.tree_at(lambda path: path.step_size, PseudofermionTrajectory(action, 1.0, 1), jnp.asarray(jnp.inf))
    update, before = MetropolisHastings(action, far), one_state(action)
    after, info = stepped(update, before)
    assert np.isnan(info.log_ratio)
    assert info.accepted == 0
    np.testing.assert_array_equal(after.configuration.links, before.configuration.links)


def test_training_moves_the_smearing_of_a_guide_and_nothing_else():
    """Weight decay would shrink its mass and coupling, which have no gradient."""
    smearing = StoutSmearing(1, ("plaquette",), 0.05)
    guide = PseudofermionAction(GaugeAction((2, 2), 2, 1.2), Staggered((2, 2), 2, 0.8), smearing=smearing)
    links = random_links(jax.random.key(17), (2, 2), 2, 2, 32)
    phi = jax.vmap(lambda key: gaussian_field(key, guide.pseudofermion_shape))(jax.random.split(jax.random.key(18), 32))
    ends = TrajectoryEnds(links[0], links[1], phi)
    other = eqx.tree_at(lambda one: one.smearing.weights, guide, jnp.asarray([[0.15]]))
    labels = Label(ends, jax.jit(jax.vmap(ActionChange(other).log_weight))(ends), links[0])
    settings = TrainingSettings(2, 32, weight_decay=1e-2, force_weight=0.0, evaluate_every=2)
    found = fit(
        jax.random.key(19),
        ActionChange(guide),
        labels,
        labels,
        MANIFOLD,
        settings,
        where=lambda change: change.action.smearing,
    ).model.action
    assert 0.05 < float(found.smearing.weights[0, 0]) < 0.15
    assert (found.operator.mass, found.gauge.beta) == (guide.operator.mass, guide.gauge.beta)


@pytest.mark.parametrize("power", [-0.25, -0.5, -0.75, 0.125, 0.25])
def test_rational_powers(power):
    lower, upper = 1e-3, 17.0
    found = rational_power(power, lower, upper, 1e-10)
    x = np.random.default_rng(1).uniform(np.log(lower), np.log(upper), 5000)
    error = np.max(abs(found.rational(np.exp(x)) / np.exp(power * x) - 1))
    assert error <= 1e-10
    assert found.error == pytest.approx(error, rel=0.5)
    assert np.all(np.asarray(found.rational.shifts) >= 0)


def test_condensate_and_pion():
    operator = OPERATORS["staggered"]()
    links = links_of(operator)
    matrix = reference_matrix(operator, links)
    inverse, n_sites = np.linalg.inv(matrix), np.prod(SHAPE)
    expected = np.trace(inverse).real / n_sites
    target = FermionDeterminant(GaugeAction(SHAPE, 2, 2.0), operator, 4.0)
    _, observables = eqx.filter_jit(evaluate)(target, links)
    by_mass = eqx.filter_jit(eqx.filter_grad(lambda target: target.log_weight(links)))(target).operator.mass
    assert float(by_mass) / n_sites == pytest.approx(expected, rel=1e-12)
    assert float(staggered_condensate(operator, observables["trace_inverse"])) == pytest.approx(expected, rel=1e-12)
    noisy = eqx.filter_jit(noisy_condensate)(jax.random.key(12), operator, links, 300)
    assert float(noisy) == pytest.approx(expected, rel=0.05)
    by_time = (abs(inverse[:, :2]) ** 2).sum(1).reshape(*SHAPE, 2).sum((0, 2))
    np.testing.assert_allclose(eqx.filter_jit(pion_correlator)(operator, links), by_time, rtol=1e-8)


@pytest.mark.parametrize("n_flavours", [4.0, 6.0])
def test_pseudofermions_estimate_the_trace(n_flavours):
    """Each draw gives φ†A^(−1−α)φ of the dense matrix, and many of them, for fixed links, the trace."""
    operator, n_draws = Staggered((2, 2), 2, 0.4), 4096
    gauge, links = GaugeAction((2, 2), 2, 1.2), links_of(operator)
    action = PseudofermionAction(gauge, operator, n_flavours)
    alpha = action.power
    assert alpha * action.n_fields == n_flavours / 4

    @eqx.filter_jit
    def drawn(action, key):
        phi = action.draw_pseudofermion(key, links)
        observables = action.log_weight_and_observables(Dynamical(links, phi))[1]
        return phi.reshape(action.n_fields, -1), observables["trace_inverse"]

    keys = jax.random.split(jax.random.key(15), n_draws)
    phi, found = map(np.asarray, jax.lax.map(lambda key: drawn(action, key), keys, batch_size=64))
    values, vectors = np.linalg.eigh(operator.dense(operator.prepare(as_matrices(links))))
    weights = np.mean(abs(phi @ vectors.conj()) ** 2, axis=1)
    np.testing.assert_allclose(found, weights @ values ** (-1 - alpha), rtol=1e-6)
    exact = np.sum(1 / values)
    error = np.std(found) / np.sqrt(n_draws)
    assert error < 0.02 * exact
    assert np.mean(found) == pytest.approx(exact, abs=4 * error)
    if alpha != 1:
        assert abs(np.mean(weights @ values**-2) - exact) > 4 * error


def test_wilson_pion():
    operator = OPERATORS["Wilson"]()
    links = links_of(operator)
    inverse = np.linalg.inv(reference_matrix(operator, links))
    by_time = (abs(inverse[:, :4]) ** 2).sum(1).reshape(*SHAPE, 4).sum((0, 2))
    np.testing.assert_allclose(eqx.filter_jit(pion_correlator)(operator, links), by_time, rtol=1e-8)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Staggered((3, 4), 2, 0.1), "even extents"),
        (lambda: Wilson((3, 4), 2, 0.1), "even–odd preconditioning needs even extents"),
        (lambda: Staggered((4, 4), 2, 0.0), "must be positive"),
        (lambda: Wilson((4, 4), 2, -0.1), "must be positive"),
        (lambda: PseudofermionAction(GaugeAction((4, 4), 2, 1.0), Wilson((4, 4), 2, 0.1), 1), "spectrum"),
        (lambda: rational_power(-0.5, 0.0, 1.0), "0 < lower"),
        (lambda: StoutSmearing(1, ("square",)), "loops must be"),
    ],
)
def test_wrong_input_is_refused(make, word):
    with pytest.raises(ValueError, match=word):
        make()
