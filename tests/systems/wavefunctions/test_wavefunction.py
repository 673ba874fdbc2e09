"""The wave function: symmetries, gradients, amplitudes that are finite and sampled as they are."""

import jax
import jax.numpy as jnp
import netket as nk
import numpy as np
import pytest
from scipy.stats import chisquare

from slmc.lattice import point_group, translations
from slmc.systems.wavefunctions import SymmetryProjection, VisionTransformer, j1j2
from slmc.systems.wavefunctions.attention import ATTENTIONS
from slmc.systems.wavefunctions.settings import SamplingSettings
from slmc.systems.wavefunctions.symmetry import symmetry_group
from slmc.systems.wavefunctions.vmc import exchange_sampler
from slmc.systems.wavefunctions.wavefunction import sum_log_cosh

SHAPE = (4, 4)
SPINS = jnp.asarray(nk.hilbert.Spin(0.5, 16, total_sz=0).random_state(jax.random.key(5), 8))


def transformer(kind="factored", shape=SHAPE, **more):
    return VisionTransformer(shape, n_layers=1, n_features=8, n_heads=2, attention=kind, **more)


def parameters_of(model, spins=SPINS):
    """Parameters off their special initial values: no zero biases, no unit scales."""
    variables = jax.jit(model.init)(jax.random.key(1), spins)
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def by_patches(shape, patch):
    return [
        move
        for shift, move in zip(np.ndindex(*shape), translations(shape), strict=True)
        if not np.any(np.array(shift) % patch)
    ]


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_translations_by_patches_change_nothing(kind):
    model = transformer(kind)
    variables = parameters_of(model)
    value = jax.jit(model.apply)
    expected = value(variables, SPINS)
    assert np.abs(np.diff(expected.real)).max() > 1e-3
    for move in by_patches(SHAPE, 2):
        np.testing.assert_allclose(value(variables, SPINS[:, move]), expected, atol=1e-10)
    moved = value(variables, SPINS[:, list(translations(SHAPE))[1]])
    assert np.abs(moved - expected).max() > 1e-3


@pytest.mark.parametrize(("kind", "flip", "momentum_pi"), [("factored", 1, False), ("dot-product", -1, True)])
def test_projection_has_every_symmetry_asked_for(kind, flip, momentum_pi):
    model = SymmetryProjection(transformer(kind), SHAPE, 2, True, flip, momentum_pi)
    variables = parameters_of(model)
    value = jax.jit(model.apply)
    amplitudes = np.exp(value(variables, SPINS))
    assert np.abs(amplitudes).min() > 1e-6
    for shift, move in zip(np.ndindex(*SHAPE), translations(SHAPE), strict=True):
        character = (-1) ** sum(shift) if momentum_pi else 1
        np.testing.assert_allclose(np.exp(value(variables, SPINS[:, move])), character * amplitudes, rtol=1e-10)
    for move in point_group(SHAPE):
        np.testing.assert_allclose(np.exp(value(variables, SPINS[:, move])), amplitudes, rtol=1e-10)
    np.testing.assert_allclose(np.exp(value(variables, -SPINS)), flip * amplitudes, rtol=1e-10)


def test_a_projection_on_too_few_translations_is_caught():
    """The wrong twin: patches of 2 sites, but only the identity among translations."""
    model = SymmetryProjection(transformer(), SHAPE, 1, True, 1)
    variables = parameters_of(model)
    moved = SPINS[:, list(translations(SHAPE))[1]]
    value = jax.jit(model.apply)
    assert np.abs(value(variables, moved) - value(variables, SPINS)).max() > 1e-3


def test_symmetry_groups_have_their_sizes():
    assert len(symmetry_group((4, 4), 2, True, 1, False).signs) == 4 * 8 * 2
    assert len(symmetry_group((8,), 2, True, 0, False).signs) == 2 * 2
    assert len(symmetry_group((6, 6), 6, False, 0, True).signs) == 36
    with pytest.raises(ValueError, match="must divide the extents"):
        symmetry_group((4, 4), 3, False, 0, False)
    with pytest.raises(ValueError, match="momentum π needs"):
        symmetry_group((4, 4), 1, False, 0, True)
    with pytest.raises(ValueError, match="spin_flip must be"):
        symmetry_group((4, 4), 1, False, 2, False)


@pytest.mark.parametrize("name", [*ATTENTIONS, "projected"])
def test_gradients_against_finite_differences(name):
    model = SymmetryProjection(transformer(), SHAPE, 2, True, 1) if name == "projected" else transformer(name)
    variables = parameters_of(model)

    @jax.jit
    def both(variables, direction):
        return jax.jvp(lambda at: model.apply(at, SPINS), (variables,), (direction,))

    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    length = sum(float(jnp.sum(one**2)) for one in drawn) ** 0.5
    direction = jax.tree.unflatten(structure, [one / length for one in drawn])
    _, derivative = both(variables, direction)

    def at(step):
        return both(jax.tree.map(lambda x, d: x + step * d, variables, direction), direction)[0]

    numeric = (8 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / 12e-3
    np.testing.assert_allclose(derivative, numeric, rtol=1e-7, atol=1e-8)


def test_log_amplitudes_are_finite_for_every_configuration():
    states = jnp.asarray(j1j2(SHAPE).hilbert.all_states())
    assert states.shape == (12870, 16)
    model = transformer("dot-product")
    value, variables = jax.jit(model.apply), parameters_of(model)
    for scale in (1.0, 30.0):
        assert np.isfinite(value(jax.tree.map(lambda leaf, by=scale: by * leaf, variables), states)).all()


def test_the_sum_of_log_cosh():
    key_real, key_imaginary = jax.random.split(jax.random.key(3))
    # Also where cosh would overflow.
    real = 5.0 ** jax.random.normal(key_real, (50, 7)) * jnp.where(jnp.arange(50)[:, None] < 25, 1.0, 300.0)
    z = jax.lax.complex(real * (-1.0) ** jnp.arange(7), 3 * jax.random.normal(key_imaginary, (50, 7)))
    found = sum_log_cosh(z)
    z = np.asarray(z)
    terms = np.where(
        np.abs(z.real) < 20, np.log(np.cosh(np.clip(z.real, -20, 20) + 1j * z.imag)), z * np.sign(z.real) - np.log(2)
    )
    expected = terms.sum(axis=1)
    np.testing.assert_allclose(found.real, expected.real, rtol=1e-12)
    np.testing.assert_allclose(np.exp(1j * found.imag), np.exp(1j * expected.imag), atol=1e-10)


def test_batch_dimensions_are_free():
    model = transformer()
    variables = parameters_of(model)
    value = jax.jit(model.apply)
    flat = value(variables, SPINS)
    np.testing.assert_allclose(value(variables, SPINS.reshape(2, 4, 16)), flat.reshape(2, 4), atol=1e-12)
    np.testing.assert_allclose(value(variables, SPINS[0]), flat[0], atol=1e-12)


def test_parameters_of_the_published_form():
    """Counted by hand for 10×10, 4 layers of 60 features and 10 heads: embedding, blocks, head."""
    model = VisionTransformer((10, 10), n_layers=4, n_features=60, n_heads=10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 100)))
    block = 2 * (60 * 60 + 60) + 10 * 25 + 4 * 60 + (60 * 240 + 240) + (240 * 60 + 60)
    expected = (4 * 60 + 60) + 4 * block + 2 * (60 * 60 + 60) + 6 * 60
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected == 155_620


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (VisionTransformer((4, 6), patch=4), "do not tile"),
        (VisionTransformer((4, 4), n_features=9, n_heads=2), "multiple of n_heads"),
        (VisionTransformer((4, 4), attention="none"), "attention must be one of"),
    ],
)
def test_forms_that_are_not_allowed(model, message):
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), jnp.ones((1, int(np.prod(model.shape)))))


@pytest.fixture(scope="module", params=["exchanges and flips", "lattice symmetries", "first power"])
def sampled(request):
    """Power, amplitudes of all configurations, and how often 8,192 independent chains of the sampler end in each."""
    more = {"lattice symmetries": {"lattice_symmetries": 0.3}, "first power": {"power": 1.0}}.get(request.param, {})
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        physics, model = j1j2(SHAPE), transformer()
        variables = jax.tree.map(lambda leaf: 2.0 * leaf, parameters_of(model))
        sampler = exchange_sampler(physics, SamplingSettings(n_samples=8192, n_chains=8192, sweep_size=100, **more))
        state = nk.vqs.MCState(
            sampler, model, n_samples=8192, variables=variables, n_discard_per_chain=0, sampler_seed=3
        )
        found = np.asarray(physics.hilbert.states_to_numbers(state.sample(chain_length=1).reshape(-1, 16)))
        values = np.asarray(jax.jit(model.apply)(variables, jnp.asarray(physics.hilbert.all_states())))
    return more.get("power", 2.0), values, np.bincount(found, minlength=len(values))


def p_value(probabilities, counts):
    """Chi-square in 100 bins of neighbouring probability, of equal weight."""
    probabilities = probabilities / probabilities.sum()
    order = np.argsort(probabilities)
    bins = np.minimum((100 * np.cumsum(probabilities[order])).astype(int), 99)
    observed = np.bincount(bins, counts[order], minlength=100)
    expected = np.bincount(bins, probabilities[order], minlength=100) * counts.sum()
    return chisquare(observed[expected > 0], expected[expected > 0]).pvalue


def test_the_sampler_draws_from_the_power_of_the_amplitudes(sampled):
    power, values, counts = sampled
    probabilities = np.exp(power * (values.real - values.real.max()))
    assert probabilities.max() / probabilities.min() > 30 ** (power / 2)
    assert p_value(probabilities, counts) > 1e-4


def test_another_distribution_is_told_apart(sampled):
    """The wrong twins: one power less and one more."""
    power, values, counts = sampled
    for wrong in (power - 1, power + 1):
        assert p_value(np.exp(wrong * (values.real - values.real.max())), counts) < 1e-10


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_the_encoder_in_single_precision_is_the_same_function(kind):
    """Nearly, and with parameters, log ψ and derivatives in double precision."""
    double, single = transformer(kind), transformer(kind, single_precision=True)
    variables = parameters_of(double)

    def value_and_slope(model):
        def value(variables):
            return model.apply(variables, SPINS)

        direction = jax.tree.map(jnp.ones_like, variables)
        return jax.jit(lambda: jax.jvp(value, (variables,), (direction,)))()

    expected, found = value_and_slope(double), value_and_slope(single)
    for one, other in zip(expected, found, strict=True):
        assert other.dtype == one.dtype
        difference = np.abs(one - other).max()
        assert 0 < difference < 1e-4 * np.abs(one).max()
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(single.init(jax.random.key(1), SPINS)))
