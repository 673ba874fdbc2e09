"""log W and its force from factorisations at fixed frequencies, in loops compiled by Numba that XLA calls.

One matrix 1 − i(H − μ)/ω for each frequency ω, eight frequencies in the lanes of one pass. The eliminated sites are
inverted first, then each front of ``elimination`` is factored into L U without pivoting. No pivot can be small: the
Hermitian part of the matrix is 1, and so that of every Schur complement and of every pivot is at least 1. The force
takes those blocks of the inverse whose place in the fronts is not zero (selected inversion: Takahashi, Fagan, Chen,
1973; Erisman, Tinney, Commun. ACM 18, 177 (1975)), from the last front to the first.
"""

import math
from typing import no_type_check

import numba
import numpy as np

from slmc.compiled_calls import answers_version, arguments, data, extents, frame_words, results, size
from slmc.lanes import N_LANES, lane, load_anywhere, spread, total
from slmc.systems.spins.poles import LONGEST_SPIN, MAX_LANES
from slmc.systems.spins.spin_blocks import (
    block_of_site,
    complex_block,
    counted,
    less_product,
    load_block,
    minus_inverse,
    plus_scaled,
    quaternion,
    spin_of,
    store_block,
    with_hop,
    zero_block,
)

ELIMINATED, KEPT, N_PIVOTS, SIZES, STARTS, COMPACT_STARTS, CHILD_STARTS, CHILDREN = range(8)
RELATIVE_STARTS, RELATIVE, TERM_STARTS, TERM_PLACES, TERM_ELIMINATED, TERM_HOPS = range(8, 14)
HOP_STARTS, HOP_PLACES, HOPS = range(14, 17)

N_SCALARS = 3
"""What stands in front of the other numbers: T, μ and |J|/2."""

_loop = numba.njit(cache=True)
_inlined = numba.njit(cache=True, forceinline=True)
# Pasted into their callers before types are known: a level of functions less is a third of the time to compile.
_pasted = numba.njit(cache=True, inline="always")


@_inlined
@no_type_check
def part(tables, number):
    """One part of ``Elimination.tables``."""
    return tables[tables[number] : tables[number + 1]]


@_inlined
@no_type_check
def _row_by_column(t, address, row, column, stride, n):
    for q in range(n):
        t = less_product(t, load_block(address, row + q, t), load_block(address, column + q * stride, t))
    return t


@_inlined
@no_type_check
def _two_rows_by_column(t, s, address, row, other_row, column, stride, n):
    for q in range(n):
        shared = load_block(address, column + q * stride, t)
        t = less_product(t, load_block(address, row + q, t), shared)
        s = less_product(s, load_block(address, other_row + q, t), shared)
    return t, s


@_inlined
@no_type_check
def _row_by_two_columns(t, s, address, row, column, other_column, stride, n):
    for q in range(n):
        shared = load_block(address, row + q, t)
        t = less_product(t, shared, load_block(address, column + q * stride, t))
        s = less_product(s, shared, load_block(address, other_column + q * stride, t))
    return t, s


@_loop
@no_type_check
def _invert_eliminated(address, first, tables, fields, mu, inverse_frequency, state, like):
    """Stores (1 − i(h·σ − μ)/ω)⁻¹/ω² of each eliminated site."""
    sites = part(tables, ELIMINATED)
    scale = -(inverse_frequency * inverse_frequency)
    for n in range(len(sites)):
        x, y, z = fields[sites[n], 0], fields[sites[n], 1], fields[sites[n], 2]
        inverse, re, im = minus_inverse(block_of_site(x, y, z, mu, inverse_frequency, like))
        store_block(address, first + n, plus_scaled(zero_block(like), scale, inverse))
        state = counted(state, re, im, like)
    return state


@_loop
@no_type_check
def _fill_front(address, front, starts, tables, fields, hops, squares, mu, inverse_frequency, pivot_sites, like):
    """The blocks of the matrix of kept sites that belong to a front, and what its children leave to it."""
    width, start, first = part(tables, SIZES)[front], starts[front], starts[len(starts) - 1]
    for block in range(start, start + width * width):
        store_block(address, block, zero_block(like))
    for pivot in range(len(pivot_sites)):
        x, y, z = fields[pivot_sites[pivot], 0], fields[pivot_sites[pivot], 1], fields[pivot_sites[pivot], 2]
        own = block_of_site(x, y, z, mu, inverse_frequency, like)
        store_block(address, start + pivot * (width + 1), own)
    term_starts, places = part(tables, TERM_STARTS), part(tables, TERM_PLACES)
    through, products = part(tables, TERM_ELIMINATED), part(tables, TERM_HOPS)
    for term in range(term_starts[front], term_starts[front + 1]):
        t, other = load_block(address, start + places[term], like), load_block(address, first + through[term], like)
        store_block(address, start + places[term], plus_scaled(t, spread(squares[products[term]]), other))
    hop_starts, hop_places, kinds = part(tables, HOP_STARTS), part(tables, HOP_PLACES), part(tables, HOPS)
    for hop in range(hop_starts[front], hop_starts[front + 1]):
        t = load_block(address, start + hop_places[hop], like)
        store_block(address, start + hop_places[hop], with_hop(t, hops[kinds[hop]], inverse_frequency))
    child_starts, children = part(tables, CHILD_STARTS), part(tables, CHILDREN)
    for n in range(child_starts[front], child_starts[front + 1]):
        _add_child(address, children[n], starts, start, width, tables, like)


@_loop
@no_type_check
def _add_child(address, child, starts, start, width, tables, like):
    n_pivots, child_width = part(tables, N_PIVOTS)[child], part(tables, SIZES)[child]
    relative_starts = part(tables, RELATIVE_STARTS)
    relative = part(tables, RELATIVE)[relative_starts[child] : relative_starts[child + 1]]
    corner = starts[child] + n_pivots * (child_width + 1)
    one = spread(1.0)
    for i in range(len(relative)):
        for j in range(len(relative)):
            place = start + relative[i] * width + relative[j]
            left = load_block(address, corner + i * child_width + j, like)
            store_block(address, place, plus_scaled(load_block(address, place, like), one, left))


@_loop
@no_type_check
def _take_out_pivots(address, start, n_pivots, width, state, like):
    """L U of the pivots of a front in place, and what is left for the parent. On the diagonal stands −U⁻¹."""
    for pivot in range(n_pivots):
        column, row = start + pivot, start + pivot * width
        t = _row_by_column(load_block(address, row + pivot, like), address, row, column, width, pivot)
        inverse, re, im = minus_inverse(t)
        store_block(address, row + pivot, inverse)
        state = counted(state, re, im, like)
        for i in range(pivot + 1, width):
            here = start + i * width
            t = _row_by_column(load_block(address, here + pivot, like), address, here, column, width, pivot)
            store_block(address, here + pivot, less_product(zero_block(like), t, inverse))
        for j in range(pivot + 1, width):
            t = _row_by_column(load_block(address, row + j, like), address, row, start + j, width, pivot)
            store_block(address, row + j, t)
    # Rows in pairs, the last one twice where their number is odd: what two rows share is read once.
    for i in range(n_pivots, width, 2):
        here, other = start + i * width, start + min(i + 1, width - 1) * width
        for j in range(n_pivots, width):
            t, s = load_block(address, here + j, like), load_block(address, other + j, like)
            t, s = _two_rows_by_column(t, s, address, here, other, start + j, width, n_pivots)
            store_block(address, here + j, t)
            store_block(address, other + j, s)
    return state


@_pasted
@no_type_check
def factor(address, starts, tables, fields, hops, squares, mu, inverse_frequency, like):
    """L U of the whole matrix, front by front from ``starts``, and its determinant as ``counted`` has it."""
    sizes, n_pivots = part(tables, SIZES), part(tables, N_PIVOTS)
    one, zero = spread(1.0), spread(0.0)
    state = (one, zero, one, zero, zero)
    first, kept, n_before = starts[len(sizes)], part(tables, KEPT), 0
    state = _invert_eliminated(address, first, tables, fields, mu, inverse_frequency, state, like)
    for front in range(len(sizes)):
        pivot_sites = kept[n_before : n_before + n_pivots[front]]
        n_before += n_pivots[front]
        _fill_front(address, front, starts, tables, fields, hops, squares, mu, inverse_frequency, pivot_sites, like)
        state = _take_out_pivots(address, starts[front], n_pivots[front], sizes[front], state, like)
    return state


@_loop
@no_type_check
def _invert_front(address, start, n_pivots, width, row_copy, column_copy, like):
    """The inverse on a front in place of its factors, from the inverse on its border."""
    for pivot in range(n_pivots - 1, -1, -1):
        row = start + pivot * width
        inverse = load_block(address, row + pivot, like)
        for i in range(pivot + 1, width):
            store_block(address, row_copy + i, load_block(address, row + i, like))
            store_block(address, column_copy + i, load_block(address, start + i * width + pivot, like))
        rest = width - pivot - 1
        corner = start + (pivot + 1) * (width + 1)
        upper, lower = row_copy + pivot + 1, column_copy + pivot + 1
        for j in range(0, rest, 2):
            k = min(j + 1, rest - 1)
            t, s = zero_block(like), zero_block(like)
            t, s = _row_by_two_columns(t, s, address, upper, corner + j, corner + k, width, rest)
            store_block(address, row + pivot + 1 + j, less_product(zero_block(like), inverse, t))
            store_block(address, row + pivot + 1 + k, less_product(zero_block(like), inverse, s))
            t, s = zero_block(like), zero_block(like)
            t, s = _two_rows_by_column(t, s, address, corner + j * width, corner + k * width, lower, 1, rest)
            store_block(address, start + (pivot + 1 + j) * width + pivot, t)
            store_block(address, start + (pivot + 1 + k) * width + pivot, s)
        t = plus_scaled(zero_block(like), spread(-1.0), inverse)
        store_block(address, row + pivot, _row_by_column(t, address, row + pivot + 1, lower, 1, rest))


@_loop
@no_type_check
def _hand_to_child(address, child, start, width, tables, like):
    n_pivots, child_width = part(tables, N_PIVOTS)[child], part(tables, SIZES)[child]
    relative_starts = part(tables, RELATIVE_STARTS)
    relative = part(tables, RELATIVE)[relative_starts[child] : relative_starts[child + 1]]
    corner = part(tables, STARTS)[child] + n_pivots * (child_width + 1)
    for i in range(len(relative)):
        for j in range(len(relative)):
            block = load_block(address, start + relative[i] * width + relative[j], like)
            store_block(address, corner + i * child_width + j, block)


@_pasted
@no_type_check
def invert_fronts(address, scratch, tables, like):
    """Blocks of the inverse in place of the factors."""
    sizes, starts, n_pivots = part(tables, SIZES), part(tables, STARTS), part(tables, N_PIVOTS)
    child_starts, children = part(tables, CHILD_STARTS), part(tables, CHILDREN)
    for front in range(len(sizes) - 1, -1, -1):
        width, start = sizes[front], starts[front]
        _invert_front(address, start, n_pivots[front], width, scratch, scratch + width, like)
        for n in range(child_starts[front], child_starts[front + 1]):
            _hand_to_child(address, children[n], start, width, tables, like)


@_inlined
@no_type_check
def _add_spin(force, site, block, weight):
    x, y, z = spin_of(block)
    force[site, 0] += total(x * weight)
    force[site, 1] += total(y * weight)
    force[site, 2] += total(z * weight)


@_loop
@no_type_check
def add_force(address, first, tables, squares, inverse_frequency, weight, force, like):
    """Adds Σ_p 2 w_p Re tr(G_ii σ) from the inverse on the fronts, where ``weight`` is 2 w/ω."""
    through_sites, starts, kept = part(tables, ELIMINATED), part(tables, STARTS), part(tables, KEPT)
    sizes, n_pivots, n_before = part(tables, SIZES), part(tables, N_PIVOTS), 0
    term_starts, places = part(tables, TERM_STARTS), part(tables, TERM_PLACES)
    through, products = part(tables, TERM_ELIMINATED), part(tables, TERM_HOPS)
    around = first + len(through_sites)
    for n in range(len(through_sites)):
        store_block(address, around + n, zero_block(like))
    for front in range(len(sizes)):
        for pivot in range(n_pivots[front]):
            block = load_block(address, starts[front] + pivot * (sizes[front] + 1), like)
            _add_spin(force, kept[n_before + pivot], block, weight)
        n_before += n_pivots[front]
        for term in range(term_starts[front], term_starts[front + 1]):
            block, place = load_block(address, starts[front] + places[term], like), around + through[term]
            strength = spread(squares[products[term]])
            store_block(address, place, plus_scaled(load_block(address, place, like), strength, block))
    squared = spread(1.0) / (inverse_frequency * inverse_frequency)
    for n in range(len(through_sites)):
        own, surroundings = load_block(address, first + n, like), load_block(address, around + n, like)
        through_others = less_product(zero_block(like), own, less_product(zero_block(like), surroundings, own))
        block = plus_scaled(plus_scaled(zero_block(like), squared, own), -squared, through_others)
        _add_spin(force, through_sites[n], block, weight)


@_pasted
@no_type_check
def _workspace(starts, tables, n_components):
    """Memory for the blocks of eight frequencies: fronts, eliminated sites twice, and two rows."""
    n_blocks = starts[len(starts) - 1] + 2 * len(part(tables, ELIMINATED)) + 2 * part(tables, SIZES).max()
    return np.empty((n_blocks * n_components + 1) * N_LANES)


@_inlined
@no_type_check
def _front_starts(tables, with_force):
    """Without a force a front need not stay once its parent has taken up what it left."""
    return part(tables, STARTS) if with_force else part(tables, COMPACT_STARTS)


@_inlined
@no_type_check
def _aligned(array):
    return (np.uint64(array.ctypes.data) + np.uint64(63)) & ~np.uint64(63)


@_pasted
@no_type_check
def row_of_poles(poles, numbers, hops):
    """The first row of ``packed_poles`` that reaches all levels; −1 where none does."""
    temperature, mu, half_coupling = numbers[0], numbers[1], numbers[2]
    reach = (np.sum(np.abs(hops)) + LONGEST_SPIN * half_coupling + abs(mu)) / temperature
    for row in range(len(poles)):
        if reach <= poles[row, 0]:
            return row
    return -1


@_inlined
@no_type_check
def values(poles, row, number):
    """Frequencies (0) or weights for log cosh (1), energy (2), variance (3) and occupation (4)."""
    return poles[row, 3 + number * MAX_LANES : 3 + (number + 1) * MAX_LANES]


@_pasted
@no_type_check
def _one_group(memory, tables, numbers, hops, fields, frequencies, weights, logarithms, angles, force, like):
    """Eight frequencies: log |det| and arg det into ``logarithms`` and ``angles``, and their share of a force."""
    starts = _front_starts(tables, len(force) > 0)
    first, n_eliminated = starts[len(starts) - 1], len(part(tables, ELIMINATED))
    address, temperature, mu = _aligned(memory), spread(numbers[0]), numbers[1]
    inverse_frequency = spread(1.0) / (temperature * load_anywhere(np.uint64(frequencies.ctypes.data)))
    squares = np.outer(hops, hops).ravel()
    state = factor(address, starts, tables, fields, hops, squares, mu, inverse_frequency, like)
    mantissa, exponent, phase_re, phase_im, n_turns = state
    for n in range(N_LANES):
        logarithms[n] = lane(exponent, n) * math.log(2.0) + math.log(lane(mantissa, n))
        angles[n] = math.atan2(lane(phase_im, n), lane(phase_re, n)) + 2 * math.pi * lane(n_turns, n)
    if len(force) > 0:
        invert_fronts(address, first + 2 * n_eliminated, tables, like)
        weight = load_anywhere(np.uint64(weights.ctypes.data)) * inverse_frequency
        add_force(address, first, tables, squares, inverse_frequency, weight + weight, force, like)


@_pasted
@no_type_check
def _all_groups(n_groups, tables, poles, row, numbers, hops, fields, logarithms, angles, force, like):
    memory = _workspace(_front_starts(tables, len(force) > 0), tables, len(like))
    frequencies, weights = values(poles, row, 0), values(poles, row, 1)
    for group in range(n_groups):
        here = slice(group * N_LANES, (group + 1) * N_LANES)
        _one_group(
            memory,
            tables,
            numbers,
            hops,
            fields,
            frequencies[here],
            weights[here],
            logarithms[here],
            angles[here],
            force,
            like,
        )


@_pasted
@no_type_check
def evaluate(tables, poles, numbers, observables, force):
    """log W of one configuration; not a number where a spin is too long for the poles or no poles reach the levels.

    ``observables`` get density, grand energy and energy variance of the whole lattice if there is room for them, and
    ``force`` gets ∂ log W/∂field.
    """
    n_sites = len(part(tables, ELIMINATED)) + len(part(tables, KEPT))
    hops, fields = numbers[N_SCALARS : len(numbers) - 3 * n_sites], numbers[len(numbers) - 3 * n_sites :]
    fields = fields.reshape(n_sites, 3)
    row = row_of_poles(poles, numbers, hops)
    observables[:], force[:] = math.nan, 0
    if row < 0 or _has_too_long(fields, LONGEST_SPIN * numbers[2]):
        force[:] = math.nan
        return math.nan
    n_poles = int(poles[row, 1])
    n_groups = (int(poles[row, 2]) if len(observables) > 0 else n_poles + N_LANES - 1) // N_LANES
    logarithms, angles = np.zeros(MAX_LANES), np.zeros(MAX_LANES)
    if numbers[1] == 0 and len(part(tables, HOPS)) == 0:
        _all_groups(n_groups, tables, poles, row, numbers, hops, fields, logarithms, angles, force, quaternion())
    else:
        _all_groups(n_groups, tables, poles, row, numbers, hops, fields, logarithms, angles, force, complex_block())
    temperature, mu = numbers[0], numbers[1]
    if len(observables) > 0:
        observables[0] = n_sites + np.sum(values(poles, row, 4) * angles)
        observables[1] = -n_sites * mu - 2 * temperature * np.sum(values(poles, row, 2) * logarithms)
        observables[2] = 2 * temperature**2 * np.sum(values(poles, row, 3) * logarithms)
    log_weight = n_sites * (2 * math.log(2.0) + mu / temperature)
    for n in range(n_poles):
        log_weight += 2 * values(poles, row, 1)[n] * logarithms[n]
    return log_weight


@_pasted
@no_type_check
def _has_too_long(fields, longest):
    for site in range(len(fields)):
        if not fields[site, 0] ** 2 + fields[site, 1] ** 2 + fields[site, 2] ** 2 <= longest**2:
            return True
    return False


@no_type_check
def call(frame_address):
    """Arguments tables, poles and numbers; results log W, observables and force; leading extents are chains.

    Observables and force are made where their buffers have room.
    """
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 3), results(frame, 3)
        tables = numba.carray(data(given[0]), (size(extents(given[0])),), np.int32)
        n_columns, n_numbers = _last(given[1], 1), _last(given[2], 1)
        poles = numba.carray(data(given[1]), (size(extents(given[1])) // n_columns, n_columns), np.float64)
        n_chains = size(extents(given[2])) // n_numbers
        numbers = numba.carray(data(given[2]), (n_chains, n_numbers), np.float64)
        log_weights = numba.carray(data(made[0]), (n_chains,), np.float64)
        observables, force = np.empty((n_chains, 0)), np.empty((n_chains, 0, 3))
        if _last(made[1], 1) > 0:
            observables = numba.carray(data(made[1]), (n_chains, _last(made[1], 1)), np.float64)
        if _last(made[2], 2) > 0:
            force = numba.carray(data(made[2]), (n_chains, _last(made[2], 2), 3), np.float64)
        for chain in range(n_chains):
            log_weights[chain] = evaluate(tables, poles, numbers[chain], observables[chain], force[chain])
    return np.uint64(0)


@_inlined
@no_type_check
def _last(buffer, number):
    """One of the last extents of a buffer."""
    shape = extents(buffer)
    return shape[len(shape) - number]
