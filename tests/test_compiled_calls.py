"""A compiled loop behind XLA's call, and the eight numbers at once that such loops work on."""

from typing import no_type_check

import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest

from slmc import lanes
from slmc.compiled_calls import answers_version, arguments, custom_call, data, extents, frame_words, results, size


@no_type_check
def _sum_and_square(frame_address):
    """The sum of two lists of numbers, and the square of the first, for any shape of equal extents."""
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, found = arguments(frame, 2), results(frame, 2)
        n = size(extents(given[0]))
        first = numba.carray(data(given[0]), (n,), np.float64)
        second = numba.carray(data(given[1]), (n,), np.float64)
        numba.carray(data(found[0]), (n,), np.float64)[:] = first + second
        numba.carray(data(found[1]), (n,), np.float64)[:] = first**2
    return np.uint64(0)


def test_a_call_reads_and_writes_buffers_of_any_shape():
    name = custom_call("test_sum_and_square", _sum_and_square)
    assert name == custom_call("test_sum_and_square", _sum_and_square)
    a, b = jnp.arange(12.0).reshape(3, 4), jnp.ones((3, 4))
    shape = jax.ShapeDtypeStruct((4,), jnp.float64)
    call = jax.ffi.ffi_call(name, (shape, shape), vmap_method="broadcast_all")
    total, square = jax.jit(jax.vmap(call))(a, b)
    np.testing.assert_array_equal(total, a + b)
    np.testing.assert_array_equal(square, a**2)


@numba.njit
@no_type_check
def _lanes_of(numbers, found, sums):
    address = np.uint64(numbers.ctypes.data)
    a, b, c = (
        lanes.load_anywhere(address),
        lanes.load_anywhere(address + np.uint64(64)),
        lanes.load_anywhere(address + np.uint64(128)),
    )
    outcomes = (
        a + b,
        a - b,
        a * b,
        a / b,
        -a,
        lanes.plus_product(a, b, c),
        lanes.minus_product(a, b, c),
        lanes.square_root(a),
        lanes.exponents(a),
        lanes.mantissas(a),
        lanes.spread(numbers[0]),
    )
    for n in range(len(outcomes)):
        sums[n] = lanes.total(outcomes[n])
        for number in range(lanes.N_LANES):
            found[n, number] = lanes.lane(outcomes[n], number)


def test_eight_numbers_at_once_do_what_eight_numbers_do():
    numbers = np.random.default_rng(0).uniform(0.01, 900, 24)
    found, sums = np.empty((11, 8)), np.empty(11)
    _lanes_of(numbers, found, sums)
    a, b, c = numbers.reshape(3, 8)
    mantissas, exponents = np.frexp(a)
    expected = [a + b, a - b, a * b, a / b, -a, a + b * c, a - b * c, np.sqrt(a), exponents - 1, 2 * mantissas]
    np.testing.assert_allclose(found, [*expected, np.full(8, a[0])], rtol=1e-15)
    np.testing.assert_allclose(sums, found.sum(axis=1), rtol=1e-14)


@numba.njit
@no_type_check
def _turns_of(imaginary, found):
    address = np.uint64(imaginary.ctypes.data)
    step = np.uint64(64)
    before, by = lanes.load_anywhere(address), lanes.load_anywhere(address + step)
    turned = lanes.turns(before, by, lanes.load_anywhere(address + step + step))
    for number in range(lanes.N_LANES):
        found[number] = lanes.lane(turned, number)


@pytest.mark.parametrize("seed", range(5))
def test_turns_are_what_a_sum_of_phases_loses(seed):
    before, by = np.random.default_rng(seed).uniform(-np.pi, np.pi, (2, 8))
    found = np.empty(8)
    _turns_of(np.concatenate([np.sin(before), np.sin(by), np.sin(before + by)]), found)
    np.testing.assert_allclose(2 * np.pi * found + np.angle(np.exp(1j * (before + by))), before + by, atol=1e-12)
