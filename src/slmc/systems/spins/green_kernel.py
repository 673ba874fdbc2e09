"""Local Metropolis sweeps of the double-exchange weight from Green's functions, in loops compiled by Numba.

The inverse G of 1 − i(H − μ)/ω is kept for all frequencies of ``poles``. Turning the spin of site i changes one block
of the matrix by Δ, so that a decision needs the block G_ii alone, and an accepted one changes G by a product of its
column and row:

    log W' − log W = Σ_p 2 w_p log |det(1 + Δ G_ii)|,      G' = G − G_·i (1 + Δ G_ii)⁻¹ Δ G_i·

(Sherman, Morrison, Ann. Math. Stat. 21, 124 (1950); Blankenbecler, Scalapino, Sugar, PRD 24, 2278 (1981).) Where kept
sites do not hop to each other and μ = 0, phases i on one sublattice make all blocks quaternions.
"""

import math
from typing import no_type_check

import numba
import numpy as np
from numba.extending import overload

from slmc.compiled_calls import answers_version, arguments, data, extents, frame_words, matching, results, size
from slmc.lanes import N_LANES, lane, load_anywhere, spread
from slmc.systems.spins.pole_kernel import row_of_poles, values
from slmc.systems.spins.spin_blocks import (
    block_of_site,
    complex_block,
    less_product,
    load_block,
    minus_inverse,
    plus_scaled,
    quaternion,
    store_block,
    zero_block,
)

_N_QUATERNION = 4
_loop = numba.njit(cache=True)
_inlined = numba.njit(cache=True, forceinline=True)


@_inlined
@no_type_check
def quaternion_of_hop(strength, sign, inverse_frequency):
    zero = spread(0.0)
    return spread(sign * strength) * inverse_frequency, zero, zero, zero


@_inlined
@no_type_check
def complex_block_of_hop(strength, sign, inverse_frequency):
    zero, change = spread(0.0), spread(-strength) * inverse_frequency
    return zero, change, zero, zero, zero, zero, zero, change


@no_type_check
def block_of_hop(strength, sign, inverse_frequency, like):
    """−i strength/ω; for quaternions times −i or i, by the ``sign`` of the sublattice."""


@overload(block_of_hop)
@no_type_check
def _block_of_hop(strength, sign, inverse_frequency, like):
    if like.count == _N_QUATERNION:
        return lambda strength, sign, inverse_frequency, like: quaternion_of_hop(strength, sign, inverse_frequency)
    return lambda strength, sign, inverse_frequency, like: complex_block_of_hop(strength, sign, inverse_frequency)


@_loop
@no_type_check
def _invert(address, sites, signs, hops, fields, mu, inverse_frequency, like):
    """G for eight frequencies, by elimination without pivots: the Hermitian part of the matrix is 1."""
    n = len(fields)
    for block in range(n * n):
        store_block(address, block, zero_block(like))
    for i in range(n):
        store_block(
            address,
            i * n + i,
            block_of_site(fields[i, 0], fields[i, 1], fields[i, 2], mu, inverse_frequency, like),
        )
        for k in range(len(hops)):
            block = i * n + sites[i, k]
            hop = block_of_hop(hops[k], signs[i], inverse_frequency, like)
            store_block(address, block, plus_scaled(load_block(address, block, like), spread(1.0), hop))
    for k in range(n):
        negative, _, _ = minus_inverse(load_block(address, k * n + k, like))
        pivot = plus_scaled(zero_block(like), spread(-1.0), negative)
        for j in range(n):
            if j != k:
                row = load_block(address, k * n + j, like)
                store_block(address, k * n + j, less_product(zero_block(like), negative, row))
        for i in range(n):
            if i != k:
                factor = load_block(address, i * n + k, like)
                for j in range(n):
                    if j != k:
                        t = load_block(address, i * n + j, like)
                        store_block(address, i * n + j, less_product(t, factor, load_block(address, k * n + j, like)))
                store_block(address, i * n + k, less_product(zero_block(like), factor, pivot))
        store_block(address, k * n + k, pivot)


@_inlined
@no_type_check
def _change(address, n, site, old, new, mu, inverse_frequency, like):
    """−Δ, and −(1 + Δ G_ii)⁻¹ with real and imaginary part of the determinant of what it inverts."""
    before = block_of_site(old[0], old[1], old[2], mu, inverse_frequency, like)
    after = block_of_site(new[0], new[1], new[2], mu, inverse_frequency, like)
    less = plus_scaled(before, spread(-1.0), after)
    one = block_of_site(0.0, 0.0, 0.0, 0.0, inverse_frequency, like)
    inverse, re, im = minus_inverse(less_product(one, less, load_block(address, site * n + site, like)))
    return less, inverse, re, im


@_loop
@no_type_check
def _renew(address, n, site, less, inverse, row, like):
    """G after a change; ``row`` is memory for a row."""
    # (−(1 + Δ G_ii)⁻¹)(−Δ) = (1 + Δ G_ii)⁻¹ Δ
    factor = plus_scaled(zero_block(like), spread(-1.0), less_product(zero_block(like), inverse, less))
    minus_factor = plus_scaled(zero_block(like), spread(-1.0), factor)
    for j in range(n):
        old = load_block(address, site * n + j, like)
        store_block(row, j, less_product(zero_block(like), minus_factor, old))
    for i in range(n):
        column = load_block(address, i * n + site, like)
        for j in range(n):
            t = load_block(address, i * n + j, like)
            store_block(address, i * n + j, less_product(t, column, load_block(row, j, like)))


@_inlined
@no_type_check
def _aligned(array):
    return (np.uint64(array.ctypes.data) + np.uint64(63)) & ~np.uint64(63)


@_inlined
@no_type_check
def _n_groups(poles, row):
    return (int(poles[row, 1]) + N_LANES - 1) // N_LANES


@_loop
@no_type_check
def _workspace(poles, row, n, n_components):
    """Memory for the inverse at all frequencies and a row of it.

    Made by the caller of ``_sweep``, which knows its address alone: Numba frees an array after its last use by name.
    """
    return np.empty((_n_groups(poles, row) * n * n + n) * n_components * N_LANES + N_LANES)


@_loop
@no_type_check
def _sweep(memory, sites, signs, hops, poles, row, numbers, half, noise, backwards, spins, like):
    """Sweeps in a ``_workspace``; returns how many proposals were accepted."""
    n, n_components = len(spins), len(like)
    temperature, mu = numbers[0], numbers[1]
    n_groups = _n_groups(poles, row)
    first = _aligned(memory)
    of_group = np.uint64(64 * n * n * n_components)
    spare = first + np.uint64(n_groups) * of_group
    frequencies, weights = values(poles, row, 0), values(poles, row, 1)
    for group in range(n_groups):
        place = np.uint64(frequencies.ctypes.data) + np.uint64(64 * group)
        inverse_frequency = spread(1.0) / (spread(temperature) * load_anywhere(place))
        address = first + np.uint64(group) * of_group
        _invert(address, sites, signs, hops, half * spins, mu, inverse_frequency, like)
    n_accepted = 0
    new, proposed = np.empty(3), np.empty(3)
    for sweep in range(len(noise)):
        for number in range(n):
            site = n - 1 - number if backwards[sweep] else number
            if spins[site, 0] == 0 and spins[site, 1] == 0 and spins[site, 2] == 0:
                continue
            for k in range(3):
                new[k] = spins[site, k] + noise[sweep, site, k]
            length = math.sqrt(new[0] * new[0] + new[1] * new[1] + new[2] * new[2])
            for k in range(3):
                new[k] /= length
                proposed[k] = half * new[k]
            change = 0.0
            for group in range(n_groups):
                place = np.uint64(frequencies.ctypes.data) + np.uint64(64 * group)
                inverse_frequency = spread(1.0) / (spread(temperature) * load_anywhere(place))
                address = first + np.uint64(group) * of_group
                old = half * spins[site]
                less, inverse, re, im = _change(address, n, site, old, proposed, mu, inverse_frequency, like)
                modulus = re * re + im * im
                for k in range(N_LANES):
                    change += weights[group * N_LANES + k] * math.log(lane(modulus, k))
            if noise[sweep, site, 3] < change:
                n_accepted += 1
                for group in range(n_groups):
                    place = np.uint64(frequencies.ctypes.data) + np.uint64(64 * group)
                    inverse_frequency = spread(1.0) / (spread(temperature) * load_anywhere(place))
                    address = first + np.uint64(group) * of_group
                    old = half * spins[site]
                    less, inverse, re, im = _change(address, n, site, old, proposed, mu, inverse_frequency, like)
                    _renew(address, n, site, less, inverse, spare, like)
                spins[site] = new
    return n_accepted


@_loop
@no_type_check
def sweep(sites, signs, poles, numbers, noise, backwards, spins):
    """Turns ``spins`` by sweeps; returns the accepted share of proposals, not a number where no poles reach the levels.

    ``numbers`` are T, μ, |J|/2, J/2 and the hops to each neighbour; ``noise`` (sweep, site) three numbers that are
    added to a spin and the logarithm of a uniform one; ``signs`` of the sublattices, all zero where there are none.
    """
    hops = numbers[4:]
    row = row_of_poles(poles, numbers, hops)
    if row < 0:
        return math.nan
    n_proposed = 0
    for site in range(len(spins)):
        if spins[site, 0] != 0 or spins[site, 1] != 0 or spins[site, 2] != 0:
            n_proposed += len(noise)
    are_quaternions = numbers[1] == 0 and signs[0] != 0
    memory = _workspace(poles, row, len(spins), len(quaternion()) if are_quaternions else len(complex_block()))
    if are_quaternions:
        n = _sweep(memory, sites, signs, hops, poles, row, numbers, numbers[3], noise, backwards, spins, quaternion())
    else:
        like = complex_block()
        n = _sweep(memory, sites, signs, hops, poles, row, numbers, numbers[3], noise, backwards, spins, like)
    return n / max(n_proposed, 1)


@no_type_check
def call(frame_address):
    """Arguments sites, signs, poles, numbers, noise, backwards, spins; results spins and the accepted share."""
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 7), results(frame, 2)
        whole = extents(made[1])
        shape = extents(made[0])
        n = shape[len(shape) - 2]
        signs = numba.carray(data(given[1]), (n,), np.float64)
        sites = numba.carray(data(given[0]), (n, size(extents(given[0])) // n), np.int32)
        tables = extents(given[2])
        n_columns = tables[len(tables) - 1]
        poles = numba.carray(data(given[2]), (size(tables) // n_columns, n_columns), np.float64)
        own = extents(given[3])
        n_numbers = own[len(own) - 1]
        numbers = numba.carray(data(given[3]), (size(own) // n_numbers, n_numbers), np.float64)
        own = extents(given[4])
        n_sweeps = own[len(own) - 3]
        noise = numba.carray(data(given[4]), (size(own) // (4 * n * n_sweeps), n_sweeps, n, 4), np.float64)
        backwards = numba.carray(data(given[5]), (size(extents(given[5])) // n_sweeps, n_sweeps), np.uint8)
        spins = numba.carray(data(given[6]), (size(extents(given[6])) // (3 * n), n, 3), np.float64)
        turned = numba.carray(data(made[0]), (size(shape) // (3 * n), n, 3), np.float64)
        accepted = numba.carray(data(made[1]), (len(turned),), np.float64)
        for chain in range(len(turned)):
            turned[chain] = spins[matching(extents(given[6]), whole, chain)]
            accepted[chain] = sweep(
                sites,
                signs,
                poles,
                numbers[matching(extents(given[3]), whole, chain)],
                noise[matching(extents(given[4]), whole, chain)],
                backwards[matching(extents(given[5]), whole, chain)],
                turned[chain],
            )
    return np.uint64(0)
