"""log W_eff of the equivariant network in loops compiled by Numba that XLA calls: ``EquivariantNetwork`` on a CPU.

Eight sites, neighbours along the last axis, are the lanes of one block; where an extent is no multiple of eight the
rest of a block repeats sites and is left out of sums. Filters are even in every component of a displacement, so that
fields are first folded along the last axis, x(y + d) + x(y − d): half as many products.
"""

from typing import no_type_check

import numba
import numpy as np

from slmc.compiled_calls import answers_version, arguments, data, extents, frame_words, matching, results, size
from slmc.lanes import exponential, load, load_anywhere, plus_product, spread, spread_from, store, total

SIZES, SHIFTED, CLASS_STARTS, MEMBERS = range(4)
"""The parts of the tables: see ``compiled_network.tables_of``."""

N_EXTENTS, N_ROWS, N_BLOCKS_OF_ROW, N_CHANNELS, N_HIDDEN, N_LAYERS, N_CLASSES, ROW = range(8)
"""What the first part lists: the last extent, rows, blocks of a row, the network's sizes, the room for a row."""

_inlined = numba.njit(cache=True, forceinline=True)
_loop = numba.njit(cache=True)


@_inlined
@no_type_check
def _part(tables, number):
    return tables[tables[number] : tables[number + 1]]


@_inlined
@no_type_check
def _address(array):
    return (np.uint64(array.ctypes.data) + np.uint64(63)) & ~np.uint64(63)


@_inlined
@no_type_check
def _place(numbers, first):
    """The address of one of many numbers."""
    return np.uint64(numbers.ctypes.data) + np.uint64(8 * first)


@_inlined
@no_type_check
def _room(n_lanes):
    return np.empty(8 * n_lanes + 8)


@_loop
@no_type_check
def _fold(sizes, rows, first, folded):
    """For every row of a field, in blocks: the field itself, and sums of what lies a distance ahead and behind.

    ``rows`` holds each row repeated over ``ROW`` numbers, ``first`` that of the field.
    """
    extent, n_rows, n_blocks, room = sizes[N_EXTENTS], sizes[N_ROWS], sizes[N_BLOCKS_OF_ROW], sizes[ROW]
    for row in range(n_rows):
        start = rows + np.uint64(8 * (first + row) * room)
        for distance in range(extent // 2 + 1):
            for block in range(n_blocks):
                here = start + np.uint64(64 * block)
                ahead = load_anywhere(here + np.uint64(8 * distance))
                if 0 < 2 * distance < extent:
                    ahead = ahead + load_anywhere(here + np.uint64(8 * (extent - distance)))
                store(folded, (distance * n_rows + row) * n_blocks + block, ahead)


@_loop
@no_type_check
def _class_sums(tables, folded, block, sums):
    """The sum of a folded field over the displacements of each class, at the sites of a block."""
    sizes, shifted, starts, members = (
        _part(tables, SIZES),
        _part(tables, SHIFTED),
        _part(tables, CLASS_STARTS),
        _part(tables, MEMBERS),
    )
    n_blocks = sizes[N_ROWS] * sizes[N_BLOCKS_OF_ROW]
    for number in range(len(starts) - 1):
        t = spread(0.0)
        for member in range(starts[number], starts[number + 1]):
            leading, distance = members[3 * member], members[3 * member + 1]
            x = load(folded, distance * n_blocks + shifted[leading * n_blocks + block])
            t = plus_product(t, spread(np.float64(members[3 * member + 2])), x)
        store(sums, number, t)


@_loop
@no_type_check
def _combined(weights, n_columns, first, source, stride, target, target_stride, n_outputs, bias):
    """target_o = bias_o + Σ_c weights_oc source_c of lanes, for ``n_outputs`` rows of weights from ``first`` on."""
    for output in range(0, n_outputs, 4):
        o1, o2, o3 = min(output + 1, n_outputs - 1), min(output + 2, n_outputs - 1), min(output + 3, n_outputs - 1)
        w0, w1 = first + output * n_columns, first + o1 * n_columns
        w2, w3 = first + o2 * n_columns, first + o3 * n_columns
        t0 = t1 = t2 = t3 = spread(0.0)
        if bias != 0:
            t0, t1 = spread_from(bias, output), spread_from(bias, o1)
            t2, t3 = spread_from(bias, o2), spread_from(bias, o3)
        for column in range(n_columns):
            x = load(source, column * stride)
            t0 = plus_product(t0, spread_from(weights, w0 + column), x)
            t1 = plus_product(t1, spread_from(weights, w1 + column), x)
            t2 = plus_product(t2, spread_from(weights, w2 + column), x)
            t3 = plus_product(t3, spread_from(weights, w3 + column), x)
        store(target, output * target_stride, t0)
        store(target, o1 * target_stride, t1)
        store(target, o2 * target_stride, t2)
        store(target, o3 * target_stride, t3)


@_loop
@no_type_check
def _filtered(tables, of_displacements, first, folded, target, place, stride):
    """A folded field times the weights of all displacements (leading, distance), at every block: four at a time."""
    sizes, shifted = _part(tables, SIZES), _part(tables, SHIFTED)
    n_leading, n_distances = sizes[N_ROWS], sizes[N_EXTENTS] // 2 + 1
    n_blocks = sizes[N_ROWS] * sizes[N_BLOCKS_OF_ROW]
    for block in range(0, n_blocks, 4):
        b1, b2, b3 = min(block + 1, n_blocks - 1), min(block + 2, n_blocks - 1), min(block + 3, n_blocks - 1)
        t0 = t1 = t2 = t3 = spread(0.0)
        for leading in range(n_leading):
            row, weight = leading * n_blocks, first + leading * n_distances
            s0, s1, s2, s3 = shifted[row + block], shifted[row + b1], shifted[row + b2], shifted[row + b3]
            for distance in range(n_distances):
                w, away = spread_from(of_displacements, weight + distance), distance * n_blocks
                t0 = plus_product(t0, w, load(folded, away + s0))
                t1 = plus_product(t1, w, load(folded, away + s1))
                t2 = plus_product(t2, w, load(folded, away + s2))
                t3 = plus_product(t3, w, load(folded, away + s3))
        store(target, place + block * stride, t0)
        store(target, place + b1 * stride, t1)
        store(target, place + b2 * stride, t2)
        store(target, place + b3 * stride, t3)


@_loop
@no_type_check
def _perceived(sizes, channels, block, pairs, hidden, weights, bias, readout):
    """h = silu(A V·V + b) at the sites of a block, and o·h."""
    n_channels, n_hidden = sizes[N_CHANNELS], sizes[N_HIDDEN]
    vectors, number = block * 3 * n_channels, 0
    for c in range(n_channels):
        x = load(channels, vectors + 3 * c)
        y, z = load(channels, vectors + 3 * c + 1), load(channels, vectors + 3 * c + 2)
        for d in range(c, n_channels):
            t = x * load(channels, vectors + 3 * d)
            t = plus_product(t, y, load(channels, vectors + 3 * d + 1))
            store(pairs, number, plus_product(t, z, load(channels, vectors + 3 * d + 2)))
            number += 1
    here = hidden + np.uint64(64 * block * n_hidden)
    _combined(weights, number, 0, pairs, 1, here, 1, n_hidden, bias)
    one, energy = spread(1.0), spread(0.0)
    for h in range(n_hidden):
        x = load(here, h)
        x = x / (one + exponential(-x))
        store(here, h, x)
        energy = plus_product(energy, spread_from(readout, h), x)
    return energy


@_loop
@no_type_check
def _sent(sizes, channels, hidden, block, gates, scratch, rows):
    """Σ_e γ_ce(h) V_e of the sites of a block, into the rows of the fields (channel, component)."""
    n_channels, n_hidden = sizes[N_CHANNELS], sizes[N_HIDDEN]
    n_rows, n_blocks, room = sizes[N_ROWS], sizes[N_BLOCKS_OF_ROW], sizes[ROW]
    row, column = block // n_blocks, block % n_blocks
    here, vectors = hidden + np.uint64(64 * block * n_hidden), block * 3 * n_channels
    nothing = np.uint64(0)
    for c in range(n_channels):
        _combined(gates, n_hidden, c * n_channels * n_hidden, here, 1, scratch, 1, n_channels, nothing)
        x = y = z = spread(0.0)
        for e in range(n_channels):
            gate = load(scratch, e)
            x = plus_product(x, gate, load(channels, vectors + 3 * e))
            y = plus_product(y, gate, load(channels, vectors + 3 * e + 1))
            z = plus_product(z, gate, load(channels, vectors + 3 * e + 2))
        store(rows + np.uint64(8 * ((3 * c * n_rows + row) * room + 8 * column)), 0, x)
        store(rows + np.uint64(8 * (((3 * c + 1) * n_rows + row) * room + 8 * column)), 0, y)
        store(rows + np.uint64(8 * (((3 * c + 2) * n_rows + row) * room + 8 * column)), 0, z)


@_loop
@no_type_check
def _repeat_rows(sizes, rows, n_fields):
    """Every row over and over, from its first ``extent`` numbers."""
    extent, room = sizes[N_EXTENTS], sizes[ROW]
    for row in range(n_fields * sizes[N_ROWS]):
        for y in range(extent, room):
            rows[row * room + y] = rows[row * room + y - extent]


@_loop
@no_type_check
def _by_displacement(tables, weights, n_filters):
    """Weights by class as weights by displacement (leading, distance)."""
    sizes, starts, members = _part(tables, SIZES), _part(tables, CLASS_STARTS), _part(tables, MEMBERS)
    n_distances, n_classes = sizes[N_EXTENTS] // 2 + 1, sizes[N_CLASSES]
    spread_out = np.zeros((n_filters, sizes[N_ROWS] * n_distances))
    for number in range(n_classes):
        for member in range(starts[number], starts[number + 1]):
            place = members[3 * member] * n_distances + members[3 * member + 1]
            for c in range(n_filters):
                spread_out[c, place] = members[3 * member + 2] * weights[c * n_classes + number]
    return spread_out.ravel()


@_loop
@no_type_check
def evaluate(tables, filters, perceptrons, messages, spins):
    """log W_eff without the constant.

    ``filters`` are those of the channels and, last, the couplings; ``perceptrons`` has weights, bias and readout of
    every layer, ``messages`` gates, filters and mixing, one after the other. Weights of a class of displacements stand
    for each of its members.
    """
    sizes = _part(tables, SIZES)
    extent, n_rows, n_blocks = sizes[N_EXTENTS], sizes[N_ROWS], sizes[N_ROWS] * sizes[N_BLOCKS_OF_ROW]
    n_channels, n_hidden, n_classes, room = sizes[N_CHANNELS], sizes[N_HIDDEN], sizes[N_CLASSES], sizes[ROW]
    n_distances, n_pairs = extent // 2 + 1, n_channels * (n_channels + 1) // 2
    memory = _room(
        3 * n_channels * n_rows * (room // 8)
        + 3 * n_distances * n_blocks
        + n_classes
        + (6 * n_channels + n_hidden) * n_blocks
        + n_pairs
        + n_channels
        + 1
        + 8
    )
    rows = _address(memory)
    folded = rows + np.uint64(64 * 3 * n_channels * n_rows * (room // 8))
    sums = folded + np.uint64(64 * 3 * n_distances * n_blocks)
    channels = sums + np.uint64(64 * n_classes)
    received = channels + np.uint64(64 * 3 * n_channels * n_blocks)
    hidden = received + np.uint64(64 * 3 * n_channels * n_blocks)
    pairs = hidden + np.uint64(64 * n_hidden * n_blocks)
    scratch = pairs + np.uint64(64 * n_pairs)
    offset = np.int64(rows - np.uint64(memory.ctypes.data)) // 8
    row_numbers = memory[offset : offset + 3 * n_channels * n_rows * room]
    for k in range(3):
        for row in range(n_rows):
            for y in range(extent):
                row_numbers[(k * n_rows + row) * room + y] = spins[row * extent + y, k]
    _repeat_rows(sizes, row_numbers, 3)
    inside = np.zeros(8 * sizes[N_BLOCKS_OF_ROW])
    inside[:extent] = 1.0
    of_field = np.uint64(64 * n_distances * n_blocks)
    for k in range(3):
        _fold(sizes, rows, k * n_rows, folded + np.uint64(k) * of_field)
    energy, nothing = spread(0.0), np.uint64(0)
    coupled = scratch + np.uint64(64 * n_channels)
    for block in range(n_blocks):
        valid = load_anywhere(np.uint64(inside.ctypes.data) + np.uint64(64 * (block % sizes[N_BLOCKS_OF_ROW])))
        for k in range(3):
            here = folded + np.uint64(k) * of_field
            _class_sums(tables, here, block, sums)
            place = channels + np.uint64(64 * (block * 3 * n_channels + k))
            _combined(_place(filters, 0), n_classes, 0, sums, 1, place, 3, n_channels, nothing)
            _combined(_place(filters, 0), n_classes, n_channels * n_classes, sums, 1, coupled, 1, 1, nothing)
            energy = plus_product(energy, valid * load(here, block), load(coupled, 0))
    energy = energy * spread(0.5)
    per_layer = n_hidden * n_pairs + 2 * n_hidden
    per_message = n_channels * n_channels * n_hidden + n_channels * n_classes + n_channels * n_channels
    for layer in range(sizes[N_LAYERS]):
        if layer > 0:
            start = (layer - 1) * per_message
            gates = _place(messages, start)
            start += n_channels * n_channels * n_hidden
            of_displacements = _by_displacement(tables, messages[start : start + n_channels * n_classes], n_channels)
            mixing = _place(messages, start + n_channels * n_classes)
            for block in range(n_blocks):
                _sent(sizes, channels, hidden, block, gates, scratch, rows)
            _repeat_rows(sizes, row_numbers, 3 * n_channels)
            for c in range(n_channels):
                for k in range(3):
                    _fold(sizes, rows, (3 * c + k) * n_rows, folded)
                    first = c * n_rows * n_distances
                    _filtered(tables, _place(of_displacements, 0), first, folded, received, 3 * c + k, 3 * n_channels)
            for block in range(n_blocks):
                for k in range(3):
                    here = np.uint64(64 * (block * 3 * n_channels + k))
                    _combined(mixing, n_channels, 0, received + here, 3, scratch, 1, n_channels, nothing)
                    for c in range(n_channels):
                        place = block * 3 * n_channels + 3 * c + k
                        store(channels, place, load(channels, place) + load(scratch, c))
        start = layer * per_layer
        weights, bias = _place(perceptrons, start), _place(perceptrons, start + n_hidden * n_pairs)
        readout = _place(perceptrons, start + n_hidden * n_pairs + n_hidden)
        for block in range(n_blocks):
            valid = load_anywhere(np.uint64(inside.ctypes.data) + np.uint64(64 * (block % sizes[N_BLOCKS_OF_ROW])))
            of_block = _perceived(sizes, channels, block, pairs, hidden, weights, bias, readout)
            energy = plus_product(energy, valid, of_block)
    return total(energy)


@no_type_check
def call(frame_address):
    """Arguments tables, filters, perceptrons, messages, spins; the result log W_eff; leading extents are chains."""
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 5), results(frame, 1)[0]
        whole = extents(made)
        tables = numba.carray(data(given[0]), (size(extents(given[0])),), np.int32)
        filters, perceptrons, messages = _lists(given[1]), _lists(given[2]), _lists(given[3])
        shape = extents(given[4])
        n_sites = shape[len(shape) - 2]
        spins = numba.carray(data(given[4]), (size(shape) // (3 * n_sites), n_sites, 3), np.float64)
        log_weights = numba.carray(data(made), (size(whole),), np.float64)
        for chain in range(len(log_weights)):
            log_weights[chain] = evaluate(
                tables,
                filters[matching(extents(given[1]), whole, chain)],
                perceptrons[matching(extents(given[2]), whole, chain)],
                messages[matching(extents(given[3]), whole, chain)],
                spins[matching(shape, whole, chain)],
            )
    return np.uint64(0)


@_inlined
@no_type_check
def _lists(buffer):
    """The lists of numbers that a buffer holds."""
    shape = extents(buffer)
    length = shape[len(shape) - 1]
    return numba.carray(data(buffer), (size(shape) // length, length), np.float64)
