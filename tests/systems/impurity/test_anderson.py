"""The weight of the impurity against operators on Fock space, and what is measured with it against diagonalisation."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects_impurity as objects
import reference_impurity as reference
from slmc.montecarlo import Label, State, init_chains, run_chains
from slmc.systems.impurity import (
    Anderson,
    BathModel,
    HirschFye,
    NetworkModel,
    PairModel,
    Poles,
    RankOneSweep,
    SliceNetwork,
    fit_network,
    fit_pairs,
    fit_potential,
    fit_slices,
    fitted,
    of_levels,
    semicircle,
)
from slmc.systems.impurity.anderson import dense_log_weight
from slmc.systems.impurity.hirsch_fye import dense_log_weight as dense_slices
from slmc.systems.impurity.levels import dense_log_weight as dense_bath
from slmc.systems.impurity.moments import at_frequencies, green_function, self_energy, to_times
from slmc.systems.impurity.network_model import dense_log_weight as dense_network
from slmc.systems.impurity.pair_model import dense_log_weight as dense_pairs


def random_vertices(seed, n, beta, capacity):
    rng = np.random.default_rng(seed)
    vertices = np.zeros((capacity, 2))
    vertices[:n] = np.stack([rng.uniform(0, beta, n), rng.choice([-1.0, 1.0], n)], 1)
    return vertices


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_the_weight_is_a_trace_over_fock_space(n):
    target, vertices = objects.target(), random_vertices(n, n, objects.BETA, objects.CAPACITY)
    slow = reference.Impurity(objects.LEVEL, objects.ENERGIES, objects.COUPLINGS)
    expected = slow.log_weight(objects.BETA, objects.INTERACTION, objects.EXPANSION, [tuple(v) for v in vertices[:n]])
    configuration = jnp.asarray(vertices)
    for value in (
        target.log_weight(configuration),
        target.log_weight_and_observables(configuration)[0],
        dense_log_weight(target.propagator, target.constants, configuration),
        BathModel(target.poles, target.constants).log_weight(configuration),
    ):
        assert float(value) == pytest.approx(expected, abs=1e-10)


def test_effective_weights_are_the_same_in_jax():
    vertices = jnp.asarray(random_vertices(3, 9, objects.BETA, objects.CAPACITY))
    bath, pairs = objects.poor_bath(), objects.poor_pairs()
    parameters = bath.energies, bath.impurity, bath.constants, bath.potential(objects.CAPACITY)
    assert float(bath.log_weight(vertices)) == pytest.approx(float(dense_bath(parameters, vertices)), abs=1e-11)
    for model in (pairs, objects.poor_pairs(by_order=False)):
        assert float(model.log_weight(vertices)) == pytest.approx(float(dense_pairs(model, vertices)), abs=1e-11)
    network = objects.poor_network()
    assert float(network.log_weight(vertices)) == pytest.approx(float(dense_network(network, vertices)), abs=1e-11)


def antiperiodic(poles, beta, difference):
    """g0 between −β and β, 0⁺ at 0."""
    return np.where(difference < 0, -1, 1) * poles.at_times(
        beta, np.where(difference < 0, difference + beta, difference)
    )


def matrices(vertices, target):
    """(e^V − 1) N of spin up, in NumPy."""
    beta, _, gamma = (float(value) for value in target.constants)
    times, kicks = vertices[:, 0], np.exp(gamma * vertices[:, 1])
    g = antiperiodic(target.poles, beta, times[:, None] - times[None, :])
    return (kicks - 1)[:, None] * np.linalg.inv(np.diag(kicks) - g * (kicks - 1)[None, :])


def test_the_green_function_of_a_configuration_is_a_trace_over_fock_space():
    """g(τ, 0) by T against operators in order; the moments that are measured are those of this T."""
    target, n, beta = objects.target(), 6, objects.BETA
    vertices = random_vertices(11, n, beta, objects.CAPACITY)
    slow = reference.Impurity(objects.LEVEL, objects.ENERGIES, objects.COUPLINGS)
    of_t, used = matrices(vertices[:n], target), vertices[:n]
    for later in (0.3, 0.9, 1.4):
        left = antiperiodic(target.poles, beta, later - used[:, 0])
        right = target.poles.at_times(beta, used[:, 0])
        g = target.poles.at_times(beta, np.array(later)) + left @ of_t @ right
        expected = slow.green_of(beta, objects.INTERACTION, objects.EXPANSION, [tuple(v) for v in used], later)
        assert float(g) == pytest.approx(expected, abs=1e-10)
    seen = target.log_weight_and_observables(jnp.asarray(vertices))[1]
    apart = used[:, 0][:, None] - used[:, 0][None, :]
    x = 2 * np.where(apart < 0, apart + beta, apart) / beta - 1
    n_legendre = seen["moments"].shape[1] - 1
    weights = np.where(apart < 0, -1, 1) * of_t / beta
    legendre = np.polynomial.legendre.legvander(x, n_legendre - 1) * weights[..., None]
    expected = np.append(np.trace(of_t) / beta, np.sum(legendre[~np.eye(n, dtype=bool)], axis=0))
    np.testing.assert_allclose(seen["moments"][0], expected, atol=1e-10)


def test_slices_sum_to_the_trotter_product():
    """Σ_s W/2^L and ⟨n_↑ n_↓⟩ of all states against operators on Fock space."""
    target, n_slices = objects.slices(), objects.N_SLICES
    log_weights, seen = jax.jit(jax.vmap(target.log_weight_and_observables))(objects.SLICES)
    weights = np.exp(np.asarray(log_weights))
    # The measure of n vertices is a constant here.
    constant = n_slices * math.log(float(target.continuous.expansion) / 6) - math.lgamma(n_slices + 1)
    slow = reference.Impurity(objects.LEVEL, objects.ENERGIES, objects.COUPLINGS)
    log_z, double = slow.on_slices(3.0, 3.0, n_slices)
    assert math.log(weights.mean()) - constant == pytest.approx(log_z, abs=1e-10)
    assert float(weights @ seen["numbers"][:, 4] / weights.sum()) == pytest.approx(double, abs=1e-10)


def test_a_network_of_slices_is_the_same_in_jax_and_fits_what_it_is_made_of():
    network, states = objects.poor_slices(), objects.SLICES
    log_weights = jax.jit(jax.vmap(network.log_weight))(states)
    np.testing.assert_allclose(log_weights, jax.vmap(lambda s: dense_slices(network, s))(states), atol=1e-12)
    found = fit_slices(SliceNetwork(objects.N_SLICES, 2, 3), Label(states, log_weights, jnp.zeros_like(states)))
    assert np.std(jax.vmap(found.log_weight)(states) - log_weights) < np.std(log_weights) / 10


@pytest.fixture(scope="module")
def cold():
    """β = 50, U = 4 in a semicircular bath: a configuration after 4000 updates, and 1e4 later without renewal."""
    poles = of_levels(0.0, *semicircle(2.0, 1.0, 50.0))
    target = Anderson(poles, 50.0, 4.0)
    first = eqx.filter_jit(RankOneSweep(target, 4000).step)
    second = eqx.filter_jit(RankOneSweep(target, 10_000).step)
    state = first(jax.random.key(1), State(jnp.zeros((target.capacity, 2)), jnp.zeros(()), {}))[0]
    return target, state, second(jax.random.key(2), state)[0]


def test_rank_one_updates_do_not_drift(cold):
    """Σ of 1e4 logarithms of ratios against a determinant of the end."""
    target, before, after = cold
    assert float(jnp.sum(jnp.abs(before.configuration[:, 1]))) > 40
    for state in (before, after):
        fresh, observables = target.log_weight_and_observables(state.configuration)
        assert abs(float(state.log_weight - fresh)) < 1e-8
        for name, values in observables.items():
            np.testing.assert_allclose(values, state.observables[name], atol=1e-7, err_msg=name)


def test_the_product_of_few_levels_is_their_determinant_when_cold(cold):
    target, _, state = cold
    beta = float(target.beta)
    model = BathModel(fitted(lambda t: target.poles.at_times(beta, t), beta, 5, symmetric=True), target.constants)
    parameters = model.energies, model.impurity, model.constants, model.potential(target.capacity)
    difference = float(model.log_weight(state.configuration) - dense_bath(parameters, state.configuration))
    assert abs(difference) < 1e-9


def test_tables_are_right_to_rounding_and_a_linear_one_is_not(cold):
    target, beta = cold[0], 50.0
    times = np.random.default_rng(0).uniform(0, beta, 2000)
    exact = target.poles.at_times(beta, times)
    np.testing.assert_allclose(target.propagator(jnp.asarray(times)), exact, atol=1e-12)
    np.testing.assert_allclose(target.propagator(jnp.asarray(times - beta)), -exact, atol=1e-12)
    grid = np.linspace(0, beta, 2**10 + 1)
    linear = np.interp(times, grid, target.poles.at_times(beta, grid))
    assert np.max(np.abs(linear - exact)) > 1e-6


@pytest.fixture(scope="module")
def sampled():
    """R5, without particle–hole symmetry: 16 chains."""
    beta, interaction, level, energies, couplings = reference.REFERENCES["R5"]
    target = Anderson(of_levels(level, np.array(energies), np.array(couplings)), beta, interaction)
    update = RankOneSweep(target, 24)
    states = init_chains(update, jnp.zeros((16, target.capacity, 2)))
    states, _ = run_chains(jax.random.key(3), update, states, 100, lambda state, info: info.accepted)
    _, seen = run_chains(jax.random.key(4), update, states, 3000, lambda state, info: state.observables)
    slow = reference.Impurity(level, energies, couplings)
    return target, jax.device_get(seen), slow.expectations(beta, interaction, beta * np.array([0.25, 0.5, 0.75]))


def deviation(by_chain, expected):
    """In errors of the mean over chains."""
    return abs(np.mean(by_chain) - expected) / (np.std(by_chain, ddof=1) / math.sqrt(len(by_chain)))


def test_all_that_is_measured_agrees_with_diagonalisation(sampled):
    target, seen, exact = sampled
    beta, interaction = float(target.beta), float(target.interaction)
    numbers, green = seen["numbers"].mean(1), seen["green"].mean(2)
    density = exact["n_up"] + exact["n_down"]
    squared = seen["numbers"][..., 1] ** 2 - seen["numbers"][..., 0]
    chi = beta * squared.mean(1) / (2 * math.sinh(float(target.constants[2]))) ** 2
    expected = {
        "order": (numbers[:, 0], 1 + beta * interaction * (density / 2 - exact["D"])),
        "n_up": (numbers[:, 2], exact["n_up"]),
        "D": (numbers[:, 4], exact["D"]),
        "density": (2 - green[..., 0].mean(1) * 2, density),
        "chi": (chi, exact["chi"]),
        **{f"g at {k}β/4": (green[..., 8 * k].mean(1), exact["g"][k - 1]) for k in (1, 2, 3)},
    }
    assert {name: d for name, (by_chain, value) in expected.items() if (d := deviation(by_chain, value)) > 3.5} == {}


def test_green_function_and_self_energy_agree_with_diagonalisation(sampled):
    target, seen, exact = sampled
    beta = float(target.beta)
    moments = seen["moments"].mean((1, 2))
    green = green_function(target.poles, beta, moments, 1)[:, 0]
    assert deviation(green.real, exact["G"].real) < 3.5
    assert deviation(green.imag, exact["G"].imag) < 3.5
    bare = target.poles.at_frequencies(np.array([math.pi / beta]))[0]
    sigma = self_energy(target.poles, beta, moments, 1)[:, 0]
    assert deviation(sigma.imag, (1 / bare - 1 / exact["G"]).imag) < 3.5
    assert deviation(sigma.real, (1 / bare - 1 / exact["G"]).real) < 3.5


def test_moments_become_times_and_frequencies():
    """Of T(τ) = a e^{−τ}, antiperiodic, and a part at τ = 0: both against quadrature."""
    beta, poles = 4.0, Poles(np.array([-0.8, 0.3]), np.array([0.4, 0.6]))
    nodes, weights = np.polynomial.legendre.leggauss(400)
    at, weights = beta * (nodes + 1) / 2, weights * beta / 2
    values = 0.7 * np.exp(-at)
    moments = np.concatenate([[0.2], (weights * values) @ np.polynomial.legendre.legvander(nodes, 19)])
    frequencies = (2 * np.arange(5) + 1) * np.pi / beta
    direct = 0.2 + np.exp(1j * np.outer(frequencies, at)) @ (weights * values)
    np.testing.assert_allclose(at_frequencies(moments, 5), direct, atol=1e-10)
    many = (2 * np.arange(100_000) + 1) * np.pi / beta
    # T(iω) = 0.2 + 0.7 (e^{−β} e^{iωβ} − 1)/(iω − 1)
    known = 0.2 - 0.7 * (math.exp(-beta) + 1) / (1j * many - 1)
    times = np.array([0.0, 1.0, 2.5, beta])
    change = 2 / beta * np.real(np.exp(-1j * np.outer(times, many)) @ (poles.at_frequencies(many) ** 2 * known))
    np.testing.assert_allclose(to_times(poles, beta, 20, times) @ moments, change, atol=2e-6)


def labels_of(target, configurations):
    log_weights = jax.vmap(target.log_weight)(configurations)
    return Label(configurations, log_weights, jnp.zeros_like(configurations))


def test_models_find_what_they_are_made_of():
    """Each fits labels of a model of its own kind, to rounding."""
    configurations = objects.draws()[:512]
    bath = eqx.tree_at(lambda m: (m.slope, m.curvature), objects.poor_bath(), (jnp.asarray(0.3), jnp.asarray(0.02)))
    found = fit_potential(objects.poor_bath(), labels_of(bath, configurations))
    np.testing.assert_allclose([found.slope, found.curvature], [0.3, 0.02], atol=1e-9)
    pairs = objects.poor_pairs()
    found = fit_pairs(PairModel(3, pairs.constants), labels_of(pairs, configurations))
    wanted, got = (jax.vmap(model.log_weight)(configurations) for model in (pairs, found))
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    network = objects.poor_network()
    labels = labels_of(network, configurations)
    found = fit_network(NetworkModel(2, 3, network.constants), labels)
    best_pairs = fit_pairs(PairModel(2, network.constants), labels)
    left, without = (np.std(labels.log_weight - jax.vmap(m.log_weight)(configurations)) for m in (found, best_pairs))
    assert left < without / 3


def test_a_full_array_ends_the_program():
    target = Anderson(of_levels(0.0, np.array([0.0]), np.array([1.0])), 10.0, 4.0, capacity=4)
    state = State(jnp.zeros((4, 2)), jnp.zeros(()), {})
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"the array of 4 vertices is full; raise target\.capacity"):
        jax.block_until_ready(eqx.filter_jit(RankOneSweep(target, 500).step)(jax.random.key(0), state))


@pytest.mark.usefixtures("as_users_call")
def test_what_constructors_refuse():
    poles = of_levels(0.0, np.array([0.0]), np.array([1.0]))
    for make, words in (
        (lambda: Anderson(poles, 1.0, -1.0), "interaction must be positive"),
        (lambda: Anderson(poles, math.inf, 1.0), "beta must be finite"),
        (lambda: Anderson(Poles(np.array([math.nan]), np.ones(1)), 1.0, 1.0), "energies must be finite"),
        (lambda: BathModel(Poles(np.zeros(1), np.ones(1)), np.ones(3)), "at least 2 levels"),
        (
            lambda: BathModel(Poles(np.zeros(2), np.array([1.5, -0.5])), np.ones(3)),
            "levels must be positive",
        ),
        (lambda: PairModel(0, np.ones(3)), "n_polynomials must be at least 1"),
        (lambda: HirschFye(poles, 1.0, 1.0, 12), "multiple of 8"),
        (lambda: NetworkModel(2, 0, np.ones(3)), "n_hidden must be at least 1"),
        (lambda: RankOneSweep(objects.target(), 0), "n_updates must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
