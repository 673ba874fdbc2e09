"""The pole weight against diagonalisations in NumPy; its error bound, its bits, its limits."""

import functools
import hashlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

import objects
import reference_double_exchange as reference
from slmc.system.run_settings import nested
from slmc.systems.spins import DoubleExchange, diluted, pole_weight, poles, rational
from slmc.systems.spins.elimination import elimination
from slmc.systems.spins.models import ModelSettings
from slmc.systems.spins.settings import DoubleExchangeRun, DoubleExchangeSettings, InnerSettings

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


# --- the approximation -----------------------------------------------------------------------------------------------


def approximations(table, row):
    """Functions of x and what the table makes of them, with the error that the table says."""
    frequencies = table.frequencies[row]
    for name, basis, error in (
        ("log_cosh", poles.logarithms, table.error[row]),
        ("energy", poles.logarithms, table.observables_error[row]),
        ("variance", poles.logarithms, table.observables_error[row]),
        ("occupation", poles.angles, table.observables_error[row]),
    ):
        weights = getattr(table, name)[row]
        yield name, getattr(poles, name), functools.partial(_sum_of, basis, frequencies, weights), float(error)


def _sum_of(basis, frequencies, weights, x):
    return basis(x, frequencies) @ weights


@pytest.mark.parametrize("row", range(25))
def test_the_error_of_every_row_is_what_the_table_says(row):
    table = poles.pole_table()
    x = np.random.default_rng(row).uniform(0, 1, 3000) ** 4 * table.reach[row]
    for name, function, approximation, error in approximations(table, row):
        rounding = 3e-16 * table.reach[row]
        assert poles.largest_error(function, approximation, float(table.reach[row])) <= error + rounding, name
        assert np.abs(function(x) - approximation(x)).max() <= error + rounding, name


def test_the_bound_holds_between_the_points_where_it_is_taken_and_notices_a_wrong_weight():
    table, row = poles.pole_table(), 10
    frequencies, weights = table.frequencies[row], table.log_cosh[row].copy()
    weights[3] *= 1 + 1e-7
    approximation = functools.partial(_sum_of, poles.logarithms, frequencies, weights)
    bound = poles.largest_error(poles.log_cosh, approximation, float(table.reach[row]))
    x = np.linspace(0, table.reach[row], 20_001)
    largest = np.abs(poles.log_cosh(x) - approximation(x)).max()
    assert 1e3 * table.error[row] < largest <= bound < 1.2 * largest


def test_log_cosh_is_the_sum_over_matsubara_frequencies():
    x, n_terms = np.array([0.3, 4.0, 11.0]), 400_000
    matsubara = (2 * np.arange(n_terms) + 1) * np.pi
    tail = x**2 / (4 * np.pi**2 * n_terms)
    np.testing.assert_allclose(poles.logarithms(x, matsubara).sum(axis=1) + tail, poles.log_cosh(x), rtol=1e-12)
    by_definition = x / (1 + np.exp(x))
    np.testing.assert_allclose(x / 2 - poles.energy(x), by_definition, rtol=1e-10)
    np.testing.assert_allclose(x * (0.5 - poles.occupation(x)), by_definition, rtol=1e-10)
    np.testing.assert_allclose(poles.variance(x), by_definition * (x - by_definition), rtol=1e-10)


def test_poles_can_be_found_again():
    found = rational.poles_of_log_cosh(8.0)
    assert len(found.frequencies) <= 8
    assert found.error <= rational.TOLERANCE
    assert np.isclose(found.frequencies[0], np.pi, rtol=1e-12)


# --- log W and force -------------------------------------------------------------------------------------------------


def configurations(shape):
    """Random, ferromagnetic, Néel and spiral spins."""
    position = np.indices(shape)
    axis, other = np.array([0.48, -0.6, 0.64]), np.array([0.8, 0.0, -0.6])
    angle = 2 * np.pi * position[-1] / shape[-1]
    spiral = np.cos(angle)[..., None] * axis + np.sin(angle)[..., None] * other
    uniform = np.broadcast_to(axis, (*shape, 3))
    staggered = np.where(position.sum(0) % 2, -1.0, 1.0)[..., None] * axis
    return np.stack([objects.random_spins(1, *shape), uniform, staggered, spiral / np.linalg.norm(spiral[0, 0])])


def diagonalised(spins, hopping, coupling, mu, temperature):
    """log W and ∂ log W/∂S by NumPy's eigenvectors of the slow reference."""
    levels, vectors = np.linalg.eigh(reference.hamiltonian(spins, hopping, coupling))
    x = (levels - mu) / temperature
    n_sites = spins[..., 0].size
    psi = vectors.reshape(n_sites, 2, -1)
    occupied = psi / (1 + np.exp(np.clip(x, -700, 700)))
    force = -coupling / 2 / temperature * np.einsum("ian,cab,ibn->ic", psi.conj(), PAULI, occupied).real
    return np.logaddexp(0, -x).sum(), force.reshape(spins.shape)


PARAMETERS = [
    (coupling, mu, temperature)
    for temperature in (0.01, 0.05, 0.3, 1.0)
    for coupling, mu in ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (-1.0, -1.2), (4.0, 0.0), (16.0, -8.3), (16.0, 0.0))
]
"""J = 0 at μ = 0 has levels at μ, and at μ = |J|/2 the levels of an isolated site lie there."""


@eqx.filter_jit
def by_poles(shape, hopping, spins, parameters):
    def of(spins, coupling, mu, temperature):
        hoppings = jnp.asarray(hopping)
        electrons = pole_weight.Electrons(coupling / 2 * spins, hoppings, jnp.abs(coupling) / 2, temperature, mu)
        log_weight, force = pole_weight.log_weight_and_force(shape, electrons)
        return log_weight, coupling / 2 * force

    over_spins = jax.vmap(of, (0, None, None, None))
    return jax.vmap(over_spins, (None, 0, 0, 0))(spins.reshape(len(spins), -1, 3), *parameters.T)


@pytest.mark.parametrize("shape", [(4, 4), (2, 6)])
def test_log_weight_and_force_are_those_of_a_diagonalisation(shape):
    spins = configurations(shape)
    log_weights, forces = by_poles(shape, (1.0,), jnp.asarray(spins), jnp.asarray(PARAMETERS))
    for (coupling, mu, temperature), found, force in zip(PARAMETERS, log_weights, forces, strict=True):
        for n, configuration in enumerate(spins):
            expected, expected_force = diagonalised(configuration, [1.0], coupling, mu, temperature)
            where = f"J = {coupling}, μ = {mu}, T = {temperature}, configuration {n}"
            assert abs(found[n] - expected) <= 1e-9, where
            error, largest = np.abs(force[n].reshape(*shape, 3) - expected_force).max(), np.abs(expected_force).max()
            assert error <= 1e-11 * max(1, largest), where


@pytest.mark.parametrize(
    ("shape", "hopping"),
    [
        ((5, 4), (1.0,)),
        ((7,), (-0.7,)),
        ((1, 6), (1.3,)),
        ((3, 3), (1.0, 0.4)),
        ((4, 4, 2), (0.8,)),
        ((12,), (1.0, 0.2)),
    ],
)
def test_any_lattice_and_range_of_hopping(shape, hopping):
    spins = objects.random_spins(3, *shape)
    arguments = (hopping, 1.7, -0.4, 0.1)
    target = DoubleExchange(shape, *arguments, weight="poles")
    expected, force = diagonalised(np.asarray(spins), *arguments)
    found, gradient = jax.value_and_grad(target.log_weight)(spins)
    assert abs(found - expected) <= 1e-10
    np.testing.assert_allclose(gradient, force, atol=1e-11)
    observables = target.log_weight_and_observables(spins)[1]
    for name, value in reference.observables(spins, *arguments).items():
        assert float(observables[name]) == pytest.approx(value, rel=1e-10, abs=1e-10), name


def test_sites_without_a_spin():
    spins = diluted(jax.random.key(0), objects.random_spins(0, 1, 4, 4), 0.5)[0]
    arguments = ([1.0], 3.0, 0.7, 0.05)
    target = DoubleExchange((4, 4), *arguments, weight="poles")
    expected, force = diagonalised(np.asarray(spins), *arguments)
    found, gradient = jax.value_and_grad(target.log_weight)(spins)
    assert abs(found - expected) <= 1e-10
    np.testing.assert_allclose(gradient, force, atol=1e-11)


def test_gradients_by_parameters_are_those_of_a_diagonalisation():
    spins = objects.random_spins(4, 4, 4)
    gradients = []
    for weight in ("poles", "diagonalisation"):
        target = DoubleExchange((4, 4), 1.2, 2.0, -0.3, 0.2, weight)
        gradients.append(jax.tree.leaves(jax.grad(lambda target: target.log_weight(spins))(target)))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)


# --- bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [0.0, -0.4])
def test_log_weight_is_the_same_to_the_bit_however_it_is_asked_for(mu):
    """Alone or with force or observables, and for a chain alone or among others."""
    target = DoubleExchange((4, 4), chemical_potential=mu, weight="auto")
    assert target.weight == "poles"
    spins = objects.random_spins(5, 6, 4, 4)
    alone = np.array([eqx.filter_jit(target.log_weight)(one) for one in spins])
    np.testing.assert_array_equal(alone, jax.jit(jax.vmap(target.log_weight))(spins))
    np.testing.assert_array_equal(alone, jax.jit(jax.vmap(jax.value_and_grad(target.log_weight)))(spins)[0])
    np.testing.assert_array_equal(alone, jax.jit(jax.vmap(target.log_weight_and_observables))(spins)[0])
    force = jax.jit(jax.vmap(jax.grad(target.log_weight)))
    np.testing.assert_array_equal(force(spins)[2:4], force(spins[2:4]))


# --- choice and limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "weight"),
    [
        ({"shape": (6, 6)}, "poles"),
        ({"shape": (5, 5), "chemical_potential": -0.7}, "poles"),
        ({"shape": (12, 12), "hopping": (1.0, 0.3)}, "poles"),
        ({"shape": (6, 6), "hopping": (1.0,) * 9}, "diagonalisation"),
        ({"shape": (4, 4), "temperature": 1e-4}, "diagonalisation"),
    ],
)
def test_auto_takes_what_is_cheaper_and_possible(arguments, weight):
    assert DoubleExchange(**arguments, weight="auto").weight == weight


def test_the_bound_of_the_error():
    assert DoubleExchange((6, 6), weight="diagonalisation").error_bound == 0
    assert 0 < DoubleExchange((16, 16), weight="poles").error_bound < 1e-10
    strong = {"coupling": 16.0, "chemical_potential": -8.3, "temperature": 0.01}
    assert DoubleExchange((6, 6), weight="poles", **strong).error_bound < 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": "exact"}, 'weight must be "auto", "poles" or "diagonalisation"'),
        ({"weight": "poles", "temperature": 1e-4}, "raise the temperature"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        DoubleExchange((4, 4), **arguments)


def test_what_the_poles_do_not_reach_is_not_a_number():
    """A weight is right or absent, and an absent one is never accepted."""
    target, spins = DoubleExchange((4, 4), weight="poles"), objects.random_spins(7, 4, 4)
    assert np.isfinite(target.log_weight(1.04 * spins))
    assert np.isnan(target.log_weight(1.1 * spins))
    cold = eqx.tree_at(lambda target: target.temperature, target, jnp.asarray(1e-4))
    assert np.isnan(cold.log_weight(spins))


def test_a_moved_chemical_potential_needs_no_new_target():
    target, spins = DoubleExchange((4, 4), weight="poles"), objects.random_spins(8, 3, 4, 4)
    moved = target.at_filling(0.6, spins)
    assert moved.weight == "poles"
    density = jax.vmap(moved.log_weight_and_observables)(spins)[1]["density"]
    assert float(density.mean()) == pytest.approx(0.6, abs=1e-10)


def test_runs_begun_before_there_was_a_choice_keep_their_identity():
    inner, model = InnerSettings(sweeps="one by one"), ModelSettings(evaluation="arrays")
    target = DoubleExchangeSettings(weight="diagonalisation", local_decisions="weights")
    settings = DoubleExchangeRun(target=target, inner=inner, model=model)
    hidden = (*settings.may_change, *settings.came_later, "inner.proposal", "measurement.keep_every", "frozen")
    earlier = settings.model_dump_json(exclude=nested(hidden))
    assert settings.identity == hashlib.sha256(earlier.encode()).hexdigest()
    assert DoubleExchangeRun(target={"weight": "poles"}).identity != settings.identity


def test_a_configuration_says_which_weight():
    assert DoubleExchangeSettings(weight="diagonalisation").build().weight == "diagonalisation"
    with pytest.raises(ValidationError, match="raise the temperature"):
        DoubleExchangeSettings(weight="poles", temperature=1e-4)


@pytest.mark.parametrize("shape", [(6, 6), (8, 8)])
def test_fronts_that_share_memory_do_not_overlap_while_they_are_needed(shape):
    tables = elimination(shape, 1).tables
    parts = [tables[tables[n] : tables[n + 1]] for n in range(17)]
    sizes, compact, child_starts, children = parts[3], parts[5], parts[6], parts[7]
    needed = set()
    for front, size in enumerate(sizes):
        here = set(range(compact[front], compact[front] + size**2))
        assert not any(here & set(range(compact[n], compact[n] + sizes[n] ** 2)) for n in needed)
        needed = (needed | {front}) - set(children[child_starts[front] : child_starts[front + 1]])
    assert compact[-1] <= (sizes**2).sum()
