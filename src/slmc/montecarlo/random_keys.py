"""Random keys of a chain whose numbers are made inline.

JAX on a CPU makes each group of random numbers in a loop of its own, which in a cheap step costs as much as the rest of
its arithmetic. The numbers here are the same to the bit, by the same function written out.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Key, UInt32

Words = UInt32[Array, "..."]

_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)


def inline(key: Key[Array, ""]) -> Key[Array, ""]:
    """A key that gives the same numbers as ``key`` with ``jax.random``, made inline where that is known to be faster.

    Only JAX's own kind of key (Threefry-2x32) with its partitionable numbering is changed; others are returned as they
    are.
    """
    own_kind = str(jax.random.key_impl(key)) == "threefry2x32"
    if not (own_kind and jax.config.jax_threefry_partitionable):  # type: ignore[attr-defined]
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_INLINE)


def _threefry(key: Words, high: Words, low: Words) -> tuple[Words, Words]:
    """Threefry-2x32 with 20 rounds: Salmon, Moraes, Dror, Shaw, SC11 (2011), doi:10.1145/2063384.2063405."""
    first, second = key[0], key[1]
    schedule = first, second, first ^ second ^ np.uint32(0x1BD11BDA)
    high, low = high + schedule[0], low + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            high = high + low
            low = high ^ ((low << np.uint32(rotation)) | (low >> np.uint32(32 - rotation)))
        high = high + schedule[(group + 1) % 3]
        low = low + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return high, low


def _numbered(key: Words, shape: tuple[int, ...]) -> tuple[Words, Words]:
    """Two words for each place in an array, from its number."""
    numbers = jnp.arange(math.prod(shape), dtype=jnp.uint64).reshape(shape)
    return _threefry(key, (numbers >> np.uint64(32)).astype(jnp.uint32), numbers.astype(jnp.uint32))


def _split(key: Words, shape: tuple[int, ...]) -> Words:
    return jnp.stack(_numbered(key, shape), axis=-1)


def _random_bits(key: Words, bit_width: int, shape: tuple[int, ...]) -> Array:
    high, low = _numbered(key, shape)
    if bit_width == 64:
        return (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


def _fold_in(key: Words, data: Any) -> Words:
    """The key of seed ``data``, whose upper 32 bits are zero, hashed with ``key``."""
    low = jnp.asarray(data, jnp.uint32)
    return jnp.stack(_threefry(key, jnp.zeros_like(low), low), axis=-1)


def _seed(seed: Array) -> Words:
    raise TypeError("keys made inline are made from other keys, by slmc.montecarlo.random_keys.inline.")


_INLINE = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="inline", tag="inl"
)
