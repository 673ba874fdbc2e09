"""Loops compiled by Numba that XLA calls on a CPU, without the way through Python and without a compiler.

A custom call of XLA is a C function of one pointer, to a frame of 64-bit words (``xla/ffi/api/c_api.h``). The words
read here: 1 is the address of an extension, present when the runtime asks for the version of the interface; 2 that of
the runtime's own description; 9 and 14 those of the lists of arguments and results. A buffer has the address of its
data in word 3, its rank in 4 and the address of its extents in 5.

To write one: a function of the address of the frame, decorated with ``no_type_check``,

    def my_call(frame_address):
        frame = frame_words(frame_address)
        if not answers_version(frame):
            numbers, result = arguments(frame, 1)[0], results(frame, 1)[0]
            loop(numba.carray(data(numbers), (extents(numbers)[0],), np.float64), …)
        return np.uint64(0)

and ``jax.ffi.ffi_call(custom_call("my_name", my_call), …)``. Without run-time checks of annotations
(``no_type_check``) throughout: Numba has to see the bare functions.
"""

from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
@no_type_check
def _pointer(context, address):
    def convert(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.uint64), convert


@numba.njit(cache=True)
@no_type_check
def _words(address, n_words):
    return numba.carray(_pointer(address), n_words, np.uint64)


@numba.njit(cache=True)
@no_type_check
def frame_words(address):
    """The frame of a call."""
    return _words(address, 16)


@numba.njit(cache=True)
@no_type_check
def answers_version(frame):
    """Whether the runtime only asks for the version of the interface, and answers with the runtime's own."""
    if frame[1] == 0:
        return False
    _words(_words(frame[1], 4)[3], 4)[3] = _words(frame[2], 5)[4]
    return True


@numba.njit(cache=True)
@no_type_check
def arguments(frame, n_arguments):
    """The addresses of the buffers that a call reads."""
    return _words(frame[9], n_arguments)


@numba.njit(cache=True)
@no_type_check
def results(frame, n_results):
    """The addresses of the buffers that a call fills."""
    return _words(frame[14], n_results)


@numba.njit(cache=True)
@no_type_check
def data(buffer):
    """Where the numbers of a buffer are, for ``numba.carray``."""
    return _pointer(_words(buffer, 6)[3])


@numba.njit(cache=True)
@no_type_check
def extents(buffer):
    """The shape of a buffer."""
    words = _words(buffer, 6)
    return numba.carray(_pointer(words[5]), (np.int64(words[4]),), np.int64)


@numba.njit(cache=True)
@no_type_check
def size(shape):
    """The product of extents."""
    total = 1
    for extent in shape:
        total *= extent
    return total


@numba.njit(cache=True)
@no_type_check
def _rotated(word, by):
    return (word << np.uint64(by)) | (word >> np.uint64(64 - by))


@numba.njit(cache=True)
@no_type_check
def seed_numbers(words, seed):
    """Four words, from which ``uniform`` draws, from one by SplitMix64: Steele, Lea, Flood, OOPSLA 2014."""
    for i in range(4):
        seed += np.uint64(0x9E3779B97F4A7C15)
        word = (seed ^ (seed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words[i] = word ^ (word >> np.uint64(31))


@numba.njit(cache=True)
@no_type_check
def uniform(words):
    """A number in [0, 1) with 53 bits by xoshiro256++: Blackman, Vigna, ACM Trans. Math. Softw. 47, 36 (2021)."""
    result = _rotated(words[0] + words[3], 23) + words[0]
    shifted = words[1] << np.uint64(17)
    words[2] ^= words[0]
    words[3] ^= words[1]
    words[1] ^= words[2]
    words[0] ^= words[3]
    words[2] ^= shifted
    words[3] = _rotated(words[3], 45)
    return np.float64(result >> np.uint64(11)) * 2.0**-53


@numba.njit(cache=True)
@no_type_check
def matching(own, whole, number):
    """Which of the entries on the leading axes of a buffer belongs to entry ``number`` of the ``whole``.

    ``own`` are the extents of the buffer, of which the first are those of the ``whole`` or 1, where all share an entry.
    """
    place, stride = 0, 1
    for axis in range(len(whole) - 1, -1, -1):
        if own[axis] > 1:
            place += stride * (number % whole[axis])
            stride *= own[axis]
        number //= whole[axis]
    return place


def custom_call(name: str, function: Callable[..., Any]) -> str:
    """Compiles a function of the frame's address and registers it with XLA, once; the name to call it by."""
    registered = f"slmc_{name}"
    if registered not in _kept:
        compiled = numba.cfunc(types.uint64(types.uint64), cache=True)(function)
        jax.ffi.register_ffi_target(registered, jax.ffi.pycapsule(compiled.ctypes), platform="cpu")
        _kept[registered] = compiled
    return registered


_kept: dict[str, Any] = {}
"""The compiled functions, for XLA keeps only their addresses."""
