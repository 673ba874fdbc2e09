"""Random numbers made inline are those of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slmc.montecarlo.random_keys import inline

KEY = jax.random.key(20)


@pytest.mark.parametrize(
    "draw",
    [
        jax.random.uniform,
        lambda key: jax.random.normal(key, (3, 2)),
        lambda key: jax.random.bits(key, (5,), jnp.uint8),
        lambda key: jax.random.bits(key, (5,), jnp.uint16),
        lambda key: jax.random.bits(key, (), jnp.uint32),
        lambda key: jax.random.bits(key, (4,), jnp.uint64),
        lambda key: jax.random.permutation(key, 9),
        lambda key: jax.random.randint(key, (4,), 0, 9),
        lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
        lambda key: jax.random.key_data(jax.random.fold_in(key, 7)),
        lambda key: jax.random.key_data(jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(3))),
        lambda key: jax.vmap(jax.random.uniform)(jax.random.split(jax.random.fold_in(key, 2**32 - 1), 3)),
    ],
)
def test_inline_numbers_are_those_of_jax(draw):
    np.testing.assert_array_equal(draw(inline(KEY)), draw(KEY))


def test_keys_of_other_kinds_are_left_alone():
    other = jax.random.key(3, impl="rbg")
    assert inline(other) is other
    with jax.threefry_partitionable(False):
        assert inline(KEY) is KEY
