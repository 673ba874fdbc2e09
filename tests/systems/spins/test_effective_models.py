"""Linear model, Transformer and network: against the reference, symmetric, equivariant, carried to other lattices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
import reference_double_exchange as reference
from slmc.lattice import point_group, shells, translations
from slmc.montecarlo import SinglePrecision
from slmc.systems.spins import EquivariantNetwork, EquivariantTransformer, Heisenberg, filters
from slmc.testing import check_equivariance, check_force, check_symmetry

TRACED_ANEW = True
"""It changes what is compiled."""

SHAPES = [(4, 4), (3, 4), (2, 6)]
TRANSFORMERS = [name for name in objects.MODELS if "Transformer" in name]


def orthogonal(seed):
    return jnp.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0])


def symmetries(shape):
    """A rotation, a reflection, translations and the point group, as functions of a configuration."""
    matrix = orthogonal(1)
    yield lambda spins: spins @ matrix
    yield lambda spins: -spins @ matrix
    for permutation in [*list(translations(shape))[1::4], *point_group(shape)]:
        yield lambda spins, p=permutation: spins.reshape(-1, 3)[p].reshape(spins.shape)


def expected_log_weight(model, spins):
    if isinstance(model, EquivariantNetwork):
        return reference.network_log_weight(spins, model)
    head = getattr(model, "head", model)
    if isinstance(model, EquivariantTransformer):
        spins = reference.transformer_spins(
            spins,
            [
                (np.asarray(layer.filters), None if layer.scores is None else np.asarray(layer.scores))
                for layer in model.layers
            ],
        )
    return reference.heisenberg_log_weight(spins, np.asarray(head.couplings), float(head.constant), head.temperature)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 2, 2)])
@pytest.mark.parametrize("name", objects.MODELS)
def test_log_weight(name, shape):
    model, spins = objects.MODELS[name](shape), objects.random_spins(1, *shape)
    assert float(model.log_weight(spins)) == pytest.approx(expected_log_weight(model, spins), rel=1e-10)


@pytest.mark.parametrize("name", objects.MODELS)
def test_force(name):
    model, spins = objects.MODELS[name]((3, 4)), objects.random_spins(2, 3, 4)
    # Short steps, lest the finite differences reach across a kink of the ReLU.
    check_force(jax.random.key(1), model, objects.SPHERE, spins, step_size=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", objects.MODELS)
def test_symmetries(name, shape):
    model, spins = objects.MODELS[name](shape), objects.random_spins(3, *shape)
    for transformation in symmetries(shape):
        check_symmetry(model, spins, transformation)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_effective_spins_are_equivariant_unit_vectors(name, shape):
    model, spins = objects.MODELS[name](shape), objects.random_spins(4, *shape)
    effective = model.effective_spins(spins)
    np.testing.assert_allclose(jnp.sum(effective**2, -1), 1, atol=1e-13)
    assert float(jnp.max(jnp.abs(effective - spins))) > 0.01
    for transformation in symmetries(shape):
        check_equivariance(model.effective_spins, spins, transformation)


@pytest.mark.parametrize("attention", ["dot-product", "factored"])
def test_without_attention_weights_it_is_the_linear_model(attention):
    model = objects.random_transformer((4, 4), attention, 2, scale=0.0)
    spins = objects.random_spins(5, 4, 4)
    np.testing.assert_allclose(model.effective_spins(spins), spins, atol=1e-15)
    assert float(model.log_weight(spins)) == pytest.approx(float(model.head.log_weight(spins)), rel=1e-13)


@pytest.mark.parametrize(("attention", "per_head"), [("dot-product", 3), ("factored", 2)])
def test_number_of_parameters(attention, per_head):
    model = EquivariantTransformer((6, 6), 3, 2, 6, 4, attention, key=jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(model))
    assert count == 3 * per_head * 2 * 7 + 4 + 1


def tiled(spins, factors):
    return jnp.tile(spins, (*factors, 1))


@pytest.mark.parametrize("n_shells", [1, 2, None])
def test_linear_model_on_a_larger_lattice(n_shells):
    """Repeated periodically, a configuration has that many times the energy: the couplings keep their meaning."""
    model, spins = objects.random_heisenberg((4, 4), n_shells), objects.random_spins(6, 4, 4)
    larger = model.on_lattice((8, 4))
    assert larger.temperature == model.temperature
    assert float(larger.constant) == pytest.approx(float(model.constant))
    per_cell = float(model.log_weight(spins) + model.reduced_constant)
    found = float(larger.log_weight(tiled(spins, (2, 1))) + larger.reduced_constant)
    assert found == pytest.approx(2 * per_cell, rel=1e-12)


def test_linear_model_on_a_lattice_where_shells_fall_together():
    """On 6×6 → 12×12 shells of one distance keep one coupling, and shells the small torus lacks have none."""
    model = objects.random_heisenberg((6, 6))
    larger = model.on_lattice((12, 12))
    known = dict(zip(shells((6, 6)).squared_distances[1:], np.asarray(model.couplings), strict=True))
    for squared, coupling in zip(shells((12, 12)).squared_distances[1:], np.asarray(larger.couplings), strict=False):
        assert coupling == pytest.approx(known.get(squared, 0.0), rel=1e-13)


@pytest.mark.parametrize("attention", ["dot-product", "factored"])
def test_transformer_on_a_larger_lattice(attention):
    """Position-only attention of a repeated configuration repeats; dot-product attention agrees layer by layer too."""
    model = objects.random_transformer((4, 4), attention, 2, n_shells=2, head_shells=1)
    spins = objects.random_spins(7, 4, 4)
    larger = model.on_lattice((8, 4))
    assert larger.shape == (8, 4)
    assert larger.temperature == model.temperature
    for layer in larger.layers:
        assert layer.filters.shape[-1] == 3
    values = reference.transformer_spins(
        tiled(spins, (2, 1)),
        [
            (np.asarray(layer.filters), None if layer.scores is None else np.asarray(layer.scores))
            for layer in model.layers
        ],
    )
    np.testing.assert_allclose(larger.effective_spins(tiled(spins, (2, 1))), values, atol=1e-12)
    if attention == "factored":
        np.testing.assert_allclose(values, np.tile(model.effective_spins(spins), (2, 1, 1)), atol=1e-12)


@pytest.mark.parametrize("reach", [1, 2])
@pytest.mark.parametrize("shape", [(8, 4), (12, 8)])
def test_network_on_a_larger_lattice(shape, reach):
    """Repeated periodically, a configuration has that many times the energy: filters mean the same everywhere."""
    model, spins = objects.random_network((4, 4), reach=reach), objects.random_spins(6, 4, 4)
    larger = model.on_lattice(shape)
    factors = (shape[0] // 4, shape[1] // 4)
    expected = float(model.log_weight(spins)) * factors[0] * factors[1]
    assert float(larger.log_weight(tiled(spins, factors))) == pytest.approx(expected, rel=1e-12)
    assert larger.temperature == model.temperature


def test_network_at_another_temperature_keeps_its_energies():
    model, spins = objects.random_network((4, 4)), objects.random_spins(6, 4, 4)
    colder = model.on_lattice((4, 4), temperature=0.1)
    assert float(colder.log_weight(spins)) * 0.1 == pytest.approx(float(model.log_weight(spins)) * 0.4, rel=1e-12)


def test_network_with_a_longer_reach():
    """New displacements enter with weight zero."""
    model, spins = objects.random_network((8, 8), reach=1), objects.random_spins(6, 8, 8)
    longer = model.on_lattice((8, 8), reach=3)
    assert longer.filters.shape[-1] > model.filters.shape[-1]
    assert float(longer.log_weight(spins)) == pytest.approx(float(model.log_weight(spins)), rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (2, 6), (5,), (2, 3, 4)])
@pytest.mark.parametrize("reach", [None, 1])
def test_filters_by_fourier_transforms_equal_those_by_matrices(shape, reach, monkeypatch):
    model, spins = objects.random_network(shape, reach=reach), objects.random_spins(5, *shape)
    by_matrices = jax.value_and_grad(model.log_weight)(spins)
    monkeypatch.setattr(filters, "DENSE_UP_TO", 0)
    by_transforms = jax.value_and_grad(model.log_weight)(spins)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), by_matrices, by_transforms)


def test_network_starts_as_its_linear_part():
    fresh = EquivariantNetwork((4, 4), key=jax.random.key(0))
    fresh = eqx.tree_at(lambda model: model.linear.couplings, fresh, jnp.arange(1.0, 6.0))
    linear, spins = Heisenberg((4, 4), couplings=jnp.arange(1.0, 6.0)), objects.random_spins(5, 4, 4)
    assert float(fresh.log_weight(spins)) == pytest.approx(float(linear.log_weight(spins)), rel=1e-12)


def test_single_precision_rounds_the_model_alone():
    model, spins = objects.random_network((4, 4)), objects.random_spins(5, 4, 4)
    value, force = jax.value_and_grad(SinglePrecision(model).log_weight)(spins)
    exact, exact_force = jax.value_and_grad(model.log_weight)(spins)
    assert value.dtype == force.dtype == jnp.float64
    assert 0 < abs(float(value - exact)) < 1e-5 * abs(float(exact))
    np.testing.assert_allclose(force, exact_force, atol=1e-4 * float(jnp.max(jnp.abs(exact_force))))


def test_on_the_same_lattice_nothing_changes():
    for name, make in objects.MODELS.items():
        model, spins = make((4, 4)), objects.random_spins(8, 4, 4)
        assert float(model.on_lattice((4, 4)).log_weight(spins)) == pytest.approx(
            float(model.log_weight(spins)), rel=1e-13
        ), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Heisenberg((4, 4), 9), "n_shells must lie between 0 and 5"),
        (lambda: Heisenberg((4, 4), couplings=[1.0] * 9), "the number of couplings must lie between 0 and 5"),
        (lambda: Heisenberg((4, 4), 2, [1.0]), "leave n_shells out"),
        (lambda: Heisenberg((4, 4), temperature=-1.0), "temperature must be positive"),
        (lambda: EquivariantTransformer((4, 4), -1, key=jax.random.key(0)), "n_layers must be at least 0"),
        (lambda: EquivariantNetwork((4, 4), 0, key=jax.random.key(0)), "n_layers must be at least 1"),
        (lambda: EquivariantNetwork((4, 4), reach=-1, key=jax.random.key(0)), "reach must be at least 0"),
        (lambda: EquivariantNetwork((4, 4), temperature=0.0, key=jax.random.key(0)), "temperature must be positive"),
        (lambda: EquivariantTransformer((4, 4), n_heads=0, key=jax.random.key(0)), "n_heads must be at least 1"),
        (lambda: EquivariantTransformer((4, 4), n_shells=7, key=jax.random.key(0)), "n_shells must lie between"),
        (lambda: EquivariantTransformer((4, 4), head_shells=7, key=jax.random.key(0)), "head_shells must lie between"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
