"""Cluster growth in loops compiled by Numba, which XLA calls without the way through Python.

A custom call of XLA is a C function of one pointer, to a frame of 64-bit words (``xla/ffi/api/c_api.h``). The words
read here: 1 is the address of an extension, present when the runtime asks for the version of the interface; 2 that of
the runtime's own description; 9 and 14 those of the lists of arguments and results. A buffer has the address of its
data in word 3, its rank in 4 and the address of its extents in 5.
"""

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

# Without run-time checks of annotations (``no_type_check``) throughout: Numba has to see the bare functions.


@intrinsic
@no_type_check
def _pointer(context, address):
    def convert(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.uint64), convert


@numba.njit
@no_type_check
def _words(address, n_words):
    return numba.carray(_pointer(address), n_words, np.uint64)


@numba.njit
@no_type_check
def _data(buffer):
    return _pointer(_words(buffer, 6)[3])


@numba.njit
@no_type_check
def _extents(buffer):
    words = _words(buffer, 6)
    return numba.carray(_pointer(words[5]), (np.int64(words[4]),), np.int64)


@numba.njit
@no_type_check
def _size(extents):
    size = 1
    for extent in extents:
        size *= extent
    return size


@numba.njit
@no_type_check
def _answers_version(frame):
    """Whether the runtime only asks for the version of the interface, and answers with the runtime's own."""
    if frame[1] == 0:
        return False
    _words(_words(frame[1], 4)[3], 4)[3] = _words(frame[2], 5)[4]
    return True


@numba.njit
@no_type_check
def _root(labels, site):
    while labels[site] != site:
        labels[site] = labels[labels[site]]
        site = labels[site]
    return site


@numba.njit
@no_type_check
def join(extents, bonds, labels):
    """Writes into ``labels`` the least site number of the cluster of each site, by union–find.

    ``bonds`` (axis, site) says whether the bond to the next site along an axis is drawn; sites in C order.
    """
    for site in range(len(labels)):
        labels[site] = site
    stride = len(labels)
    for axis in range(len(extents)):
        extent = extents[axis]
        stride //= extent
        for row in range(len(labels) // stride):
            step = -stride * (extent - 1) if row % extent == extent - 1 else stride
            for site in range(row * stride, (row + 1) * stride):
                if bonds[axis, site]:
                    one, other = _root(labels, site), _root(labels, site + step)
                    if one < other:
                        labels[other] = one
                    else:
                        labels[one] = other
    for site in range(len(labels)):
        labels[site] = labels[labels[site]]


@numba.njit
@no_type_check
def _rotated(word, by):
    return (word << np.uint64(by)) | (word >> np.uint64(64 - by))


@numba.njit
@no_type_check
def _seeded(state, seed):
    """Four words from one by SplitMix64: Steele, Lea, Flood, OOPSLA 2014."""
    for i in range(4):
        seed += np.uint64(0x9E3779B97F4A7C15)
        word = (seed ^ (seed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state[i] = word ^ (word >> np.uint64(31))


@numba.njit
@no_type_check
def _uniform(state):
    """A number in [0, 1) with 53 bits by xoshiro256++: Blackman, Vigna, ACM Trans. Math. Softw. 47, 36 (2021)."""
    result = _rotated(state[0] + state[3], 23) + state[0]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = _rotated(state[3], 45)
    return np.float64(result >> np.uint64(11)) * 2.0**-53


@numba.njit
@no_type_check
def grow(neighbours, spins, inside, seed_of_numbers, site, sign, probability, cluster):
    """Marks in ``cluster`` the Wolff cluster of a site.

    A bond from the cluster to one of the ``neighbours`` (site, neighbour) outside of it, where s_i s_j has the ``sign``
    of the coupling and which lies ``inside``, is drawn with ``probability``.
    """
    state = np.empty(4, np.uint64)
    _seeded(state, seed_of_numbers)
    cluster[:] = False
    stack = np.empty(len(spins), np.int32)
    stack[0], n_waiting = site, 1
    cluster[site] = True
    while n_waiting:
        n_waiting -= 1
        here = stack[n_waiting]
        wanted = sign * spins[here]
        for there in neighbours[here]:
            if not cluster[there] and spins[there] == wanted and inside[there] and _uniform(state) < probability:
                cluster[there] = True
                stack[n_waiting] = there
                n_waiting += 1


@no_type_check
def _join_call(frame_address):
    frame = _words(frame_address, 16)
    if not _answers_version(frame):
        drawn, found = _words(frame[9], 1)[0], _words(frame[14], 1)[0]
        extents = _extents(drawn)[1:]
        n_sites = _size(extents)
        bonds = numba.carray(_data(drawn), (len(extents), n_sites), np.uint8)
        join(extents, bonds, numba.carray(_data(found), (n_sites,), np.int32))
    return np.uint64(0)


@no_type_check
def _grow_call(frame_address):
    frame = _words(frame_address, 16)
    if not _answers_version(frame):
        arguments, found = _words(frame[9], 6), _words(frame[14], 1)[0]
        n_sites, n_neighbours = _extents(arguments[0])
        sign, probability = numba.carray(_data(arguments[5]), (2,), np.float64)
        grow(
            numba.carray(_data(arguments[0]), (n_sites, n_neighbours), np.int32),
            numba.carray(_data(arguments[1]), (n_sites,), np.float64),
            numba.carray(_data(arguments[2]), (n_sites,), np.uint8),
            numba.carray(_data(arguments[3]), (1,), np.uint64)[0],
            numba.carray(_data(arguments[4]), (1,), np.int32)[0],
            sign,
            probability,
            numba.carray(_data(found), (n_sites,), np.uint8),
        )
    return np.uint64(0)


@functools.cache
def custom_call(name: str) -> str:
    """Compiles one of the loops ("join" or "grow") and registers it with XLA; the name to call it by."""
    loop: Callable[..., Any] = {"join": _join_call, "grow": _grow_call}[name]
    compiled = numba.cfunc(types.uint64(types.uint64))(loop)
    _kept.append(compiled)
    jax.ffi.register_ffi_target(f"slmc_{name}", jax.ffi.pycapsule(compiled.ctypes), platform="cpu")
    return f"slmc_{name}"


_kept: list[Any] = []
"""The compiled functions, for XLA keeps only their addresses."""
