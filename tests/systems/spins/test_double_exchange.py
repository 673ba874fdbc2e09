"""The exact target against a slow, independent NumPy reference, finite differences and its symmetries."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
import reference_double_exchange as reference
from slmc.lattice import point_group, staggered_sign, translations
from slmc.systems.spins import DoubleExchange
from slmc.systems.spins.hermitian import eigenvalues
from slmc.systems.spins.observables import specific_heat
from slmc.testing import check_force, check_symmetry

CASES = [(shape, n_shells) for shape in objects.LATTICES for n_shells in (1, 2, 3)]


def case(shape, n_shells, seed=0):
    p = objects.double_exchange_parameters(seed + 10 * n_shells + len(shape), n_shells)
    spins = objects.random_spins(seed, *shape)
    arguments = (p["hopping"], p["coupling"], p["chemical_potential"], p["temperature"])
    return DoubleExchange(shape, **p), spins, arguments


@pytest.mark.parametrize(("shape", "n_shells"), CASES)
def test_hamiltonian_element_by_element(shape, n_shells):
    target, spins, (hopping, coupling, *_) = case(shape, n_shells)
    expected = reference.hamiltonian(spins, hopping, coupling)
    np.testing.assert_allclose(target.hamiltonian(spins), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("shape", "n_shells"), CASES)
def test_log_weight_and_observables(shape, n_shells):
    target, spins, arguments = case(shape, n_shells)
    expected = reference.log_weight(spins, *arguments)
    assert float(target.log_weight(spins)) == pytest.approx(expected, rel=1e-10)
    log_weight, observables = target.log_weight_and_observables(spins)
    assert float(log_weight) == pytest.approx(expected, rel=1e-10)
    for name, value in reference.observables(spins, *arguments).items():
        assert float(observables[name]) == pytest.approx(value, rel=1e-10, abs=1e-10), name


def test_published_couplings_do_not_overflow():
    target = DoubleExchange((4, 4), 1.0, 16.0, -8.3, 0.001)
    spins = objects.random_spins(0, 4, 4)
    assert float(target.log_weight(spins)) == pytest.approx(
        reference.log_weight(spins, [1.0], 16.0, -8.3, 0.001), rel=1e-10
    )
    assert np.all(np.isfinite(jax.grad(target.log_weight)(spins)))


@pytest.mark.parametrize(("shape", "n_shells"), [((4, 4), 3), ((3, 4), 2), ((6, 4), 1), ((4, 4, 4), 1)])
def test_force(shape, n_shells):
    target, spins, _ = case(shape, n_shells)
    check_force(jax.random.key(1), target, objects.SPHERE, spins, n_directions=3)


def ordered(shape, staggered):
    signs = staggered_sign(shape) if staggered else np.ones(shape)
    return jnp.asarray(signs[..., None] * np.array([0.48, -0.6, 0.64]))


@pytest.mark.parametrize("staggered", [False, True])
def test_force_at_a_degenerate_spectrum(staggered):
    """Ferromagnet and Néel state: nearly all levels are degenerate, and the force is along the spin or vanishes."""
    target = DoubleExchange((4, 4), (1.0, 0.3), 2.0, -0.3, 0.2)
    spins = ordered((4, 4), staggered)
    force = jax.grad(target.log_weight)(spins)
    assert np.all(np.isfinite(force))
    np.testing.assert_allclose(objects.SPHERE.project(spins, force), 0, atol=1e-11)
    check_force(jax.random.key(2), target, objects.SPHERE, spins)

    def stretched(length):
        """Along the spins, off the sphere, the derivative does not vanish."""
        return target.log_weight(length * spins)

    step = 1e-4
    slope = (8 * (stretched(1 + step) - stretched(1 - step)) - stretched(1 + 2 * step) + stretched(1 - 2 * step)) / (
        12 * step
    )
    assert float(jnp.sum(force * spins)) == pytest.approx(float(slope), rel=1e-7)


@pytest.mark.parametrize("spins", [objects.random_spins(3, 4, 4), ordered((4, 4), False), ordered((4, 4), True)])
def test_gradients_by_every_parameter(spins):
    target = DoubleExchange((4, 4), (1.0, 0.3, -0.2), 2.0, -0.3, 0.2)
    gradient = jax.grad(lambda target: target.log_weight(spins))(target)
    log_weight = eqx.filter_jit(lambda target: target.log_weight(spins))
    step = 1e-3
    for name in ("coupling", "chemical_potential", "temperature", "hopping"):
        value = np.atleast_1d(getattr(target, name))
        for index in range(value.size):

            def at(n, name=name, value=value, index=index):
                moved = jnp.asarray(value + n * step * (np.arange(value.size) == index)).reshape(
                    getattr(target, name).shape
                )
                return float(log_weight(eqx.tree_at(lambda t: getattr(t, name), target, moved)))

            slope = np.dot([45, -9, 1], [at(n) - at(-n) for n in (1, 2, 3)]) / (60 * step)
            found = float(np.atleast_1d(getattr(gradient, name))[index])
            assert found == pytest.approx(slope, rel=1e-7, abs=1e-7), (name, index)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (6, 4)])
def test_chain_rule_of_all_parameters_at_once(shape):
    """A tangent in spins and parameters together is the sum of the separate ones."""
    target, spins, _ = case(shape, 2)
    directions = jax.tree.map(jnp.ones_like, (spins, target))
    _, together = jax.jvp(lambda s, t: t.log_weight(s), (spins, target), directions)
    gradient = jax.grad(lambda pair: pair[1].log_weight(pair[0]))((spins, target))
    assert float(together) == pytest.approx(sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(gradient)), rel=1e-10)


def orthogonal(seed):
    return jnp.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0])


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (6, 4)])
@pytest.mark.parametrize("name", ["double exchange", "double exchange, 3 hoppings"])
def test_symmetries(name, shape):
    target, spins = objects.TARGETS[name](shape), objects.random_spins(4, *shape)
    matrix = orthogonal(5)
    for transformation in (lambda s: s @ matrix, lambda s: s @ -matrix, lambda s: -s):
        check_symmetry(target, spins, transformation)
    lattice = [*list(translations(shape))[1::5], *point_group(shape)]
    for permutation in lattice:
        check_symmetry(target, spins, lambda s, p=permutation: s.reshape(-1, 3)[p].reshape(s.shape))


def test_specific_heat_is_the_temperature_derivative_at_fixed_spins():
    target, spins, _ = case((4, 4), 1)

    def grand_energy(temperature):
        moved = eqx.tree_at(lambda t: t.temperature, target, jnp.asarray(temperature))
        return float(moved.log_weight_and_observables(spins)[1]["grand_energy"])

    temperature, step = float(target.temperature), 1e-4
    values = [grand_energy(temperature + n * step) for n in (1, -1, 2, -2)]
    slope = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * step)
    variance = np.array([float(target.log_weight_and_observables(spins)[1]["energy_variance"])])
    assert specific_heat(np.array([0.0]), variance, temperature, 16) == pytest.approx(slope / 16, rel=1e-7)


def test_grand_energy_is_minus_the_derivative_by_beta_and_density_that_by_mu():
    target, spins, _ = case((4, 4), 2)
    observables = target.log_weight_and_observables(spins)[1]
    gradient = jax.grad(lambda target: target.log_weight(spins))(target)
    beta = 1 / float(target.temperature)
    assert float(gradient.temperature) / beta**2 == pytest.approx(float(observables["grand_energy"]), rel=1e-10)
    assert float(gradient.chemical_potential) / beta / 16 == pytest.approx(float(observables["density"]), rel=1e-10)


def test_at_filling():
    target = DoubleExchange((4, 4), temperature=0.1)
    spins = objects.random_spins(6, 5, 4, 4)
    moved = target.at_filling(0.7, spins)
    densities = [
        reference.observables(one, [1.0], 1.0, float(moved.chemical_potential), 0.1)["density"] for one in spins
    ]
    assert np.mean(densities) == pytest.approx(0.7, abs=1e-9)
    with pytest.raises(ValueError, match="filling must lie between 0 and 2"):
        target.at_filling(2.0, spins)


@pytest.mark.parametrize("n", [1, 7, 32])
def test_eigenvalues(n):
    rng = np.random.default_rng(n)
    matrix = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
    matrix = matrix + matrix.conj().T
    np.testing.assert_allclose(eigenvalues(jnp.asarray(matrix)), np.linalg.eigvalsh(matrix), atol=1e-12)
    batch = jax.vmap(eigenvalues)(jnp.stack([jnp.asarray(matrix), jnp.asarray(2 * matrix)]))
    np.testing.assert_allclose(batch[1], 2 * batch[0], atol=1e-11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (0, 4)}, "shape must list one or more positive whole extents"),
        ({"shape": (4, 4), "temperature": 0.0}, "temperature must be positive"),
        ({"shape": (2, 2), "hopping": (1, 1, 1)}, "the number of hoppings must lie between 0 and 2"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        DoubleExchange(**arguments)
