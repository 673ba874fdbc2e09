"""Domain-wall fermions against dense matrices, the overlap operator, free fields and published identities."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_gauge as reference
from slmc.montecarlo import SpecialUnitary, Target
from slmc.montecarlo.special_unitary import as_matrices
from slmc.systems.gauge import (
    DomainWall,
    Dynamical,
    FermionDeterminant,
    GaugeAction,
    PseudofermionAction,
    PseudofermionProduct,
    Solver,
    Staggered,
    Wilson,
    random_links,
    unit_links,
)
from slmc.systems.gauge.dynamical import GivenPseudofermion
from slmc.systems.gauge.fermion_operator import gaussian_field
from slmc.systems.gauge.gamma_matrices import gamma_matrices
from slmc.systems.gauge.observables import noisy_condensate, noisy_sources, pion_correlator, residual_mass, unit_sources
from slmc.testing import check_force

MANIFOLD = SpecialUnitary()
FLAT, FOUR = (2, 2), (2, 2, 2, 2)
SHAMIR, MOEBIUS = (1.0, 0.0), (1.5, 0.5)
TIGHT = Solver(1e-13, 5000)


def walls(shape=FLAT, n_layers=3, kind=SHAMIR, mass=0.1, height=1.8, **more):
    return DomainWall(shape, 2, mass, height, n_layers, *kind, **more)


OPERATORS = {
    "Shamir": walls,
    "Möbius": lambda: walls((2, 4), 2, MOEBIUS),
    "Möbius, whole lattice": lambda: walls((3, 2), 4, MOEBIUS, even_odd=False),
    "one layer": lambda: walls(n_layers=1, kind=MOEBIUS, mass=0.3),
    "three dimensions": lambda: walls((2, 2, 2), 2, (1.0, 0.7), antiperiodic=False),
}


def links_of(operator, seed=1):
    return random_links(jax.random.key(seed), operator.shape, operator.n_colours)


def dense_kernel(operator, links):
    """D_W and γ_5, sites, then spin, then colour."""
    gammas, u = gamma_matrices(len(operator.shape)), reference.complex_links(links)
    kernel = reference.wilson_kernel(u, float(operator.height), gammas, operator.antiperiodic)
    spin = len(gammas[0])
    chirality = np.repeat([1.0, -1.0], spin // 2)
    return kernel, np.kron(np.eye(u[0, ..., 0, 0].size), np.kron(np.diag(chirality), np.eye(u.shape[-1])))


def numbers(operator):
    return float(operator.mass), operator.n_layers, float(operator.b), float(operator.c)


@eqx.filter_jit
def matrices(operator, links):
    """A, B and B† as matrices, and A by its application."""
    hopping, size = operator.prepare(as_matrices(links)), math.prod(operator.field_shape)
    units = jnp.eye(size, dtype=jnp.complex128).reshape(size, *operator.field_shape)

    def matrix(function):
        return jax.vmap(lambda unit: function(hopping, unit).reshape(-1), out_axes=1)(units)

    applied = (matrix(one) for one in (operator.normal, operator.factor, operator.adjoint_factor))
    return operator.dense(hopping), *applied


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_the_dense_matrix(name):
    """det A, B B† = A, the adjoint, the bounds; and the propagator of quarks is that of the overlap operator."""
    operator = OPERATORS[name]()
    links = links_of(operator)
    kernel, gamma_5 = dense_kernel(operator, links)
    dense, normal, factor, adjoint = map(np.asarray, matrices(operator, links))
    full = reference.domain_wall_matrix(kernel, gamma_5, *numbers(operator))
    expected = np.linalg.slogdet(full)[1] - float(operator.log_det_of_layers())
    assert np.linalg.slogdet(dense)[1] / 2 == pytest.approx(expected, abs=1e-10)
    np.testing.assert_allclose(normal, dense, atol=1e-12)
    np.testing.assert_allclose(factor @ factor.conj().T, dense, atol=1e-12)
    np.testing.assert_allclose(adjoint, factor.conj().T, atol=1e-12)
    values, (lower, upper) = np.linalg.eigvalsh(dense), map(float, operator.spectrum())
    assert lower <= values[0]
    assert values[-1] <= upper * (1 + 1e-12)

    overlap = np.linalg.inv(reference.overlap_matrix(kernel, gamma_5, *numbers(operator)))
    quark = (overlap - np.eye(len(overlap))) / (1 - float(operator.mass))
    found = np.asarray(quarks(operator, links)).reshape(len(quark), *operator.components, -1)
    order = found.reshape(len(quark), -1, np.prod(operator.shape)).transpose(0, 2, 1).reshape(len(quark), -1)
    order = order.reshape(-1, np.prod(operator.shape), len(quark)).transpose(1, 0, 2).reshape(len(quark), -1).T
    np.testing.assert_allclose(order, quark, atol=1e-9)


@eqx.filter_jit
def quarks(operator, links):
    """The propagator of all unit sources, by dense solutions."""
    hopping = operator.prepare(as_matrices(links))
    dense = operator.dense(hopping)

    def solve(b):
        return jnp.linalg.solve(dense, b.reshape(-1)).reshape(b.shape)

    return jax.vmap(lambda source: operator.propagator(hopping, source, solve))(unit_sources(operator))


# --- the determinant identity, and the numbers of the references -----------------------------------------------------


def log_det_ratio(operator, links):
    """log |det D(m)/det D(1)|, of one flavour."""
    heavy = operator.with_mass(1.0)
    target = FermionDeterminant(GaugeAction(operator.shape, 2, 0.0), operator, 1.0, denominator=heavy)
    layers = operator.log_det_of_layers() - heavy.log_det_of_layers()
    return float(log_weight(target, links) + layers)


@eqx.filter_jit
def log_weight(target, configuration):
    return target.log_weight(configuration)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["Shamir", "Möbius", "one layer", "three dimensions"])
def test_the_ratio_of_determinants_is_that_of_the_overlap_operator(name, seed):
    """At any number of layers, on any field: to rounding."""
    operator = OPERATORS[name]()
    links = links_of(operator, seed)
    overlap = reference.overlap_matrix(*dense_kernel(operator, links), *numbers(operator))
    assert log_det_ratio(operator, links) == pytest.approx(np.linalg.slogdet(overlap)[1], abs=1e-10)


COMPUTED = [
    (SHAMIR, 4, -4.6624951279, 0.524709701),
    (SHAMIR, 8, -2.6419951178, 0.0588169785),
    (MOEBIUS, 4, -2.6169826538, 0.0522673960),
    (MOEBIUS, 8, -2.4026085586, None),
]
"""log |det D(m)/det D(1)| and m_res by dense matrices of another program, antiperiodic, m = 0.1, M_5 = 1.8."""

SIGN_FUNCTION = -2.3977889750


def test_numbers_computed_by_another_program():
    """Both tend to what infinitely many layers give, from below and above."""
    links = random_links(jax.random.key(0), FOUR, 2)
    ratios, masses = [], []
    for kind, n_layers, expected, expected_mass in COMPUTED:
        operator = walls(FOUR, n_layers, kind)
        ratios.append(log_det_ratio(operator, links))
        assert ratios[-1] == pytest.approx(expected, abs=2e-10)
        if expected_mass is not None:
            masses.append(float(residual_mass(operator, links, unit_sources(operator), TIGHT)))
            assert masses[-1] == pytest.approx(expected_mass, rel=2e-9)
    overlap = reference.overlap_matrix(*dense_kernel(operator, links), 0.1, np.inf, *MOEBIUS)
    assert np.linalg.slogdet(overlap)[1] == pytest.approx(SIGN_FUNCTION, abs=2e-10)
    distances = np.abs(np.array(ratios) - SIGN_FUNCTION)
    assert distances[0] > 5 * distances[1] > distances[2] > 5 * distances[3]


def test_the_residual_mass_falls_with_the_layers():
    """Estimated from a few sources, and the same as its traces."""
    links = links_of(walls(), 4)
    masses = [float(residual_mass(w, links, unit_sources(w), TIGHT)) for w in (walls(n_layers=n) for n in (2, 6, 16))]
    assert masses[0] > 3 * masses[1] > 9 * masses[2] > 0
    operator = walls(n_layers=2)
    sources = noisy_sources(jax.random.key(2), operator, 300)
    assert float(residual_mass(operator, links, sources)) == pytest.approx(masses[0], rel=0.1)


# --- free fields -----------------------------------------------------------------------------------------------------


def free_matrix(p, mass, height, n_layers, b, c):
    """D(p) of free walls, layers outermost, then spin."""
    gammas = gamma_matrices(len(p))
    kernel = (np.sum(1 - np.cos(p)) - height) * np.eye(len(gammas[0])) + sum(
        1j * g * np.sin(q) for g, q in zip(gammas, p, strict=True)
    )
    chirality = np.diag(np.repeat([1.0, -1.0], len(kernel) // 2))
    return reference.domain_wall_matrix(kernel, chirality, mass, n_layers, b, c), kernel, chirality


def momenta(shape):
    axes = [2 * np.pi * (np.arange(extent) + 0.5 * (k == len(shape) - 1)) / extent for k, extent in enumerate(shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))


@pytest.mark.parametrize(("n_layers", "expected"), [(4, -36.0608712753), (8, -30.6401439415)])
def test_free_determinants(n_layers, expected):
    """4⁴, each colour, against another program; and on 2⁴ those of the operator."""
    for shape in ((4, 4, 4, 4), FOUR) if n_layers == 4 else ((4, 4, 4, 4),):
        total = 0.0
        for p in momenta(shape):
            light, heavy = (free_matrix(p, m, 1.8, n_layers, *SHAMIR)[0] for m in (0.1, 1.0))
            total += np.linalg.slogdet(light)[1] - np.linalg.slogdet(heavy)[1]
        if shape == FOUR:
            assert log_det_ratio(walls(FOUR, n_layers), unit_links(FOUR, 2)) == pytest.approx(2 * total, abs=1e-9)
        else:
            assert total == pytest.approx(expected, abs=2e-9)


def test_the_free_spectrum():
    """Plane waves are eigenvectors of the sites: M on them is D(p) K⁻¹, for every momentum."""
    shape, kind = (4, 6), MOEBIUS
    operator = walls(shape, 3, kind, even_odd=False)
    hopping = operator.prepare(as_matrices(unit_links(shape, 2)))
    spins = np.random.default_rng(1).normal(size=(2, 3))
    apply = eqx.filter_jit(operator.apply)
    for p in momenta(shape)[::5]:
        full, kernel, chirality = free_matrix(p, 0.1, 1.8, 3, *kind)
        at_rest = reference.domain_wall_matrix(0.2 * np.eye(len(kernel)), chirality, 0.1, 3, *kind)
        wave = np.exp(1j * np.tensordot(p, np.indices(shape), 1))
        field = np.zeros((2, 3, 2, *shape), complex)
        field[:, :, 0] = spins[..., None, None] * wave
        found = np.asarray(apply(hopping, jnp.asarray(field)))[:, :, 0]
        expected = (full @ np.linalg.inv(at_rest) @ spins.T.reshape(-1)).reshape(3, 2).T
        np.testing.assert_allclose(found, expected[..., None, None] * wave, atol=1e-12)


def test_free_quarks():
    """Residual mass of another program on 4⁴ (a source at one site tells it); condensate and pion by momenta."""
    shape = (4, 4, 4, 4)
    operator, links = walls(shape, 8), unit_links(shape, 2)
    at_origin = np.zeros((4, 4, 2, *shape), complex)
    at_origin[range(4), range(4), 0, 0, 0, 0, 0] = 1
    assert float(residual_mass(operator, links, jnp.asarray(at_origin), TIGHT)) == pytest.approx(0.002448897, rel=1e-6)


def free_quark(shape, n_layers, kind, mass=0.1):
    """q(p) of every momentum, by the overlap operator."""
    found = []
    for p in momenta(shape):
        _, kernel, chirality = free_matrix(p, mass, 1.8, n_layers, *kind)
        inverse = np.linalg.inv(reference.overlap_matrix(kernel, chirality, mass, n_layers, *kind))
        found.append((inverse - np.eye(len(kernel))) / (1 - mass))
    return np.array(found)


def test_free_condensate_and_pion():
    shape, kind = (4, 6), MOEBIUS
    operator, links = walls(shape, 4, kind), unit_links(shape, 2)
    q = free_quark(shape, 4, kind)
    expected = 2 * np.mean(np.trace(q, axis1=1, axis2=2).real)
    assert float(noisy_condensate(jax.random.key(1), operator, links, 400)) == pytest.approx(expected, rel=0.05)
    waves = np.exp(1j * np.tensordot(np.indices(shape).reshape(2, -1).T, momenta(shape), (1, 1)))
    in_space = np.tensordot(waves, q, (1, 0)) / math.prod(shape)
    by_time = 2 * (abs(in_space) ** 2).sum((1, 2)).reshape(shape).sum(0)
    np.testing.assert_allclose(pion_correlator(operator, links, TIGHT), by_time, rtol=1e-8)


# --- weights, forces, pseudofermions ---------------------------------------------------------------------------------


class Compiled(Target):
    """The same target, compiled once for value and gradient."""

    target: Target

    def log_weight(self, configuration):
        return log_weight(self.target, configuration)


def action_of(operator, denominator="Pauli–Villars", gauge=0.0, solver=TIGHT):
    below = operator.with_mass(1.0) if denominator == "Pauli–Villars" else denominator
    return PseudofermionAction(GaugeAction(operator.shape, 2, gauge), operator, solver=solver, denominator=below)


@pytest.mark.parametrize("kind", [SHAMIR, MOEBIUS])
def test_forces(kind):
    """Of the exact ratio of determinants, and of one pseudofermion, against finite differences."""
    operator = walls(FLAT, 3, kind)
    links, phi = links_of(operator), gaussian_field(jax.random.key(5), operator.field_shape)
    exact = FermionDeterminant(GaugeAction(FLAT, 2, 2.3), operator, 2.0, denominator=operator.with_mass(1.0))
    check_force(jax.random.key(4), Compiled(exact), MANIFOLD, links, 1e-7, n_directions=1)
    given = Compiled(GivenPseudofermion(action_of(operator, gauge=2.3), phi))
    check_force(jax.random.key(6), given, MANIFOLD, links, 1e-7, n_directions=1)


def test_force_in_four_dimensions():
    operator = walls(FOUR, 2, MOEBIUS)
    links, phi = links_of(operator), gaussian_field(jax.random.key(5), operator.field_shape)
    given = Compiled(GivenPseudofermion(action_of(operator), phi))
    check_force(jax.random.key(6), given, MANIFOLD, links, 1e-7, n_directions=1)


RATIOS = {
    "Pauli–Villars": lambda: (walls(), walls().with_mass(1.0)),
    "heavier walls": lambda: (walls(kind=MOEBIUS), walls(kind=MOEBIUS, mass=0.4)),
    "heavier Wilson": lambda: (Wilson(FLAT, 2, 0.2), Wilson(FLAT, 2, 0.1)),
}


@eqx.filter_jit
def weighed(action, links, phi, chi):
    """log W of φ, and φ of χ with its log W and its estimate of tr A⁻¹."""
    drawn = action.coloured(chi, links)
    of_drawn, observables = action.log_weight_and_observables(Dynamical(links, drawn))
    return action.fermion_log_weight(Dynamical(links, phi)), drawn, of_drawn, observables["trace_inverse"]


@pytest.mark.parametrize("name", RATIOS)
def test_ratios_are_those_of_dense_matrices(name):
    """φ†B_d†A⁻¹B_dφ; B_dφ = Bχ of a drawn φ, whose weight is that of its noise; tr A⁻¹ by |B⁻†χ|²."""
    operator, below = RATIOS[name]()
    links = links_of(operator)
    phi, chi = (gaussian_field(jax.random.key(k), operator.field_shape) for k in (7, 8))
    found, drawn, of_drawn, trace = weighed(action_of(operator, below), links, phi, chi)
    (dense, _, factor, _), (_, _, factor_below, _) = (map(np.asarray, matrices(o, links)) for o in (operator, below))
    flat_phi, flat_chi, flat_drawn = (np.asarray(one).reshape(-1) for one in (phi, chi, drawn))
    b = factor_below @ flat_phi
    assert float(found) == pytest.approx(-(b.conj() @ np.linalg.solve(dense, b)).real, rel=1e-10)
    np.testing.assert_allclose(factor_below @ flat_drawn, factor @ flat_chi, atol=1e-9)
    assert float(of_drawn) == pytest.approx(-np.sum(abs(flat_chi) ** 2), rel=1e-10)
    noise = np.linalg.solve(factor.conj().T, flat_chi)
    assert float(trace) == pytest.approx(np.sum(abs(noise) ** 2), rel=1e-8)


@pytest.mark.parametrize("shape", [FOUR, (2, 2, 2, 4)])
def test_the_gaussian_integral_is_the_ratio_of_determinants(shape):
    """⟨exp(log W[φ, U'] − log W[φ, U])⟩ over φ drawn at U is det(U')/det(U), both of A(m)/A(1), by one step apart."""
    operator = walls(shape, 2, MOEBIUS, mass=0.5)
    links = links_of(operator)
    tangent = MANIFOLD.draw_momentum(jax.random.key(9), links)
    moved, _ = MANIFOLD.move(links, tangent, jnp.asarray(0.05))
    action, n_draws = action_of(operator, solver=Solver(1e-6)), 128

    @jax.jit
    def change(key):
        phi = action.draw_pseudofermion(key, links)
        after, before = (action.fermion_log_weight(Dynamical(one, phi)) for one in (moved, links))
        return after - before

    changes = np.asarray(jax.lax.map(change, jax.random.split(jax.random.key(10), n_draws)))
    expected = 2 * (log_det_ratio(operator, moved) - log_det_ratio(operator, links))
    weights = np.exp(changes - expected)
    error = np.std(weights) / np.sqrt(n_draws)
    assert np.std(changes) > 0.1
    assert error < 0.1
    assert np.mean(weights) == pytest.approx(1, abs=4 * error)
    if shape != FOUR:
        return
    # The twin: without Pauli–Villars fields the integral is another determinant.
    bare = FermionDeterminant(GaugeAction(shape, 2, 0.0), operator, 2.0)
    wrong = float(log_weight(bare, moved) - log_weight(bare, links))
    assert abs(np.mean(np.exp(changes - wrong)) - 1) > 4 * error


def test_a_product_is_the_sum_of_its_factors():
    light, heavier = walls(), walls(mass=0.4)
    gauge, links = GaugeAction(FLAT, 2, 1.7), links_of(walls())
    factors = action_of(light, heavier), action_of(heavier)
    product = PseudofermionProduct(gauge, *factors)
    chi = product.noise(jax.random.key(11))
    phi = eqx.filter_jit(lambda product: product.coloured(chi, links))(product)
    found, observables = eqx.filter_jit(lambda product: product.log_weight_and_observables(Dynamical(links, phi)))(
        product
    )
    squared = sum(float(jnp.sum(jnp.abs(one) ** 2)) for one in chi)
    assert float(found) == pytest.approx(float(gauge.log_weight(links)) - squared, rel=1e-10)
    first = weighed(factors[0], links, phi[0], chi[0])
    assert float(observables["trace_inverse"]) == pytest.approx(float(first[3]), rel=1e-9)
    zeros = product.no_pseudofermion(3)
    assert [one.shape for one in zeros] == [(3, *one.shape) for one in phi]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: walls((3, 2)), "even–odd preconditioning needs even extents"),
        (lambda: walls(mass=-0.1), "must not be negative"),
        (lambda: walls(mass=math.nan), "must not be negative"),
        (lambda: walls(height=2.0), "between 0 and 2"),
        (lambda: walls(n_layers=0), "at least one layer"),
        (lambda: walls(kind=(0.0, 0.0)), "b > 0 and c ≥ 0"),
        (lambda: action_of(walls(), Wilson(FLAT, 2, 0.1)), "same kind"),
        (lambda: action_of(walls(), walls(n_layers=4)), "same kind"),
        (lambda: action_of(walls(), walls(antiperiodic=False)), "same kind"),
        (lambda: FermionDeterminant(GaugeAction(FLAT, 2, 1.0), walls(), 2.0, None, walls((2, 4))), "same kind"),
        (lambda: action_of(Staggered(FLAT, 2, 0.1), Staggered(FLAT, 2, 0.5)), "a factor of A that has an inverse"),
        (
            lambda: PseudofermionAction(
                GaugeAction(FLAT, 2, 1.0), walls(), 1.0, spectrum=(0.01, 20.0), denominator=walls(mass=1.0)
            ),
            "multiples of 2 flavours",
        ),
        (lambda: PseudofermionProduct(GaugeAction(FLAT, 2, 1.0)), "at least one"),
        (
            lambda: PseudofermionProduct(
                GaugeAction(FLAT, 2, 1.0), PseudofermionAction(GaugeAction(FLAT, 2, 0.0), Staggered(FLAT, 2, 0.5), 2.0)
            ),
            "none of them with rational functions",
        ),
    ],
)
def test_wrong_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
