"""The three kinds of attention against loops in NumPy, and the dependence of their weights on the input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_spins as reference

from slmc.systems.wavefunctions import attention_map, attention_weights, input_dependence
from slmc.systems.wavefunctions.attention import ATTENTIONS, WEIGHTS
from slmc.systems.wavefunctions.observables import _collect
from slmc.systems.wavefunctions.wavefunction import VisionTransformer

TOKENS = (2, 3)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_is_what_its_formula_says(kind):
    module = ATTENTIONS[kind](TOKENS, 2)
    tokens = jax.random.normal(jax.random.key(0), (3, 6, 4))
    parameters = jax.jit(module.init)(jax.random.key(1), tokens)["params"]
    parameters["position"] = jax.random.normal(jax.random.key(2), (2, 6))
    apply = jax.jit(functools.partial(module.apply, mutable=["intermediates"]))
    output, stored = apply({"params": parameters}, tokens)
    (weights,) = stored["intermediates"][WEIGHTS]
    for sample in range(3):
        expected, mixed = reference.attention(kind, np.asarray(tokens[sample]), parameters, TOKENS)
        np.testing.assert_allclose(weights[sample], expected, atol=1e-12)
        np.testing.assert_allclose(output[sample], mixed, atol=1e-12)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_moves_with_its_tokens(kind):
    module = ATTENTIONS[kind](TOKENS, 2)
    tokens = jax.random.normal(jax.random.key(0), (1, 6, 4))
    variables, apply = jax.jit(module.init)(jax.random.key(1), tokens), jax.jit(module.apply)
    plain = apply(variables, tokens).reshape(1, *TOKENS, 4)
    for shift in np.ndindex(*TOKENS):
        moved = jnp.roll(tokens.reshape(1, *TOKENS, 4), shift, (1, 2)).reshape(1, 6, 4)
        expected = jnp.roll(plain, shift, (1, 2)).reshape(1, 6, 4)
        np.testing.assert_allclose(apply(variables, moved), expected, atol=1e-12)


@pytest.fixture(scope="module")
def seen():
    """Attention weights of all kinds on random configurations of a 4×6 lattice."""
    spins = jnp.sign(jax.random.normal(jax.random.key(0), (32, 24)))
    found = {}
    for kind in ATTENTIONS:
        model = VisionTransformer((4, 6), n_layers=2, n_features=8, n_heads=2, attention=kind)
        found[kind] = attention_weights(model, jax.jit(model.init)(jax.random.key(1), spins), spins)
    return found


def test_input_dependence_is_zero_for_factored_attention_alone(seen):
    assert np.array_equal(input_dependence(seen["factored"]), np.zeros((2, 2)))
    for kind in ("dot-product", "decoupled"):
        assert (input_dependence(seen[kind]) > 1e-3).all()


def test_input_dependence_and_maps_are_what_their_formulas_say(seen):
    weights = np.asarray(seen["dot-product"])
    assert weights.shape == (2, 32, 2, 6, 6)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-12)
    spread, maps = input_dependence(seen["dot-product"]), attention_map(seen["dot-product"], TOKENS)
    places = list(np.ndindex(*TOKENS))
    for layer, head in np.ndindex(2, 2):
        one = weights[layer, :, head]
        expected = np.sqrt(one.var(axis=0).sum() / (one.mean(axis=0) ** 2).sum())
        assert spread[layer, head] == pytest.approx(expected, rel=1e-12)
        for number, step in enumerate(places):
            reached = [places.index(tuple((np.array(place) + step) % TOKENS)) for place in places]
            mean = np.mean([one[:, i, j] for i, j in enumerate(reached)])
            assert maps[layer, head, number] == pytest.approx(mean, rel=1e-12)


def test_a_model_without_attention_has_no_weights():
    import netket as nk

    model, spins = nk.models.RBM(), jnp.ones((2, 4))
    assert attention_weights(model, model.init(jax.random.key(0), spins), spins) is None


def test_layers_beyond_the_tenth_stay_in_order():
    stored = {f"block{layer}": {"attention": {WEIGHTS: (layer,)}} for layer in range(12)}
    assert _collect(dict(sorted(stored.items()))) == list(range(12))
