"""Local updates of the network model in compiled loops."""

import math
from typing import no_type_check

import numba
import numpy as np

from slmc.compiled_calls import (
    answers_version,
    arguments,
    data,
    extents,
    frame_words,
    results,
    seed_numbers,
    size,
    uniform,
)
from slmc.systems.impurity.determinant_kernel import (
    FLIP,
    INSERT,
    entry,
    log_measure,
    n_occupied,
    of_rank_one,
    of_rank_two,
    symmetric_change,
)

# Without run-time checks of annotations (``no_type_check``) throughout: Numba has to see the bare functions.


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _add_vertex(sums, vertices, n, beta, time, s, left_out, sign, own):
    """Adds (``sign`` 1) or takes away (−1) a vertex at ``time`` from the sums of all others, and writes its own.

    Sums (vertex, 2m) are of T_2k(2|τ_i − τ_j|/β − 1) s_i s_j and, in the second half, of T_2k alone.
    """
    m = sums.shape[1] // 2
    own[:] = 0.0
    for i in range(n):
        if i == left_out:
            continue
        x = 2 * abs(vertices[i, 0] - time) / beta - 1
        y = 2 * x * x - 1
        both = s * vertices[i, 1]
        before, now = 1.0, y
        for k in range(m):
            own[k] += both * before
            own[m + k] += before
            sums[i, k] += sign * both * before
            sums[i, m + k] += sign * before
            before, now = now, 2 * y * now - before


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _total(coefficients, hidden, bias, outer, potential, sums, n):
    """What the model adds to log [(K/2β)ⁿ/n!]."""
    if n == 0:
        return potential[0]
    n_features = sums.shape[1]
    total = 0.0
    for i in range(n):
        for k in range(n_features):
            total += 0.5 * coefficients[k] * sums[i, k] / n
        for unit in range(len(outer)):
            value = bias[unit]
            for k in range(n_features):
                value += hidden[unit, k] * sums[i, k] / n
            total += outer[unit] * math.tanh(value)
    return total + potential[n]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _fill(sums, vertices, n, beta, own):
    """The sums of all vertices."""
    sums[:] = 0.0
    for i in range(n):
        _add_vertex(sums, vertices, i, beta, vertices[i, 0], vertices[i, 1], -1, 1.0, own)
        sums[i] = own


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def network_updates(coefficients, hidden, bias, outer, constants, potential, vertices, n_updates, words):
    """Local updates in place; returns the accepted share and what the model adds."""
    beta, expansion = constants[0], constants[1]
    n, capacity = n_occupied(vertices), len(vertices)
    sums, own = np.empty((capacity, len(coefficients))), np.empty(len(coefficients))
    if n_updates:
        symmetric_change(vertices, n, beta, words)
    _fill(sums, vertices, n, beta, own)
    total = _total(coefficients, hidden, bias, outer, potential, sums, n)
    trial, n_accepted = np.empty_like(sums), 0
    for _ in range(n_updates):
        kind = uniform(words)
        if kind < FLIP:
            if n == 0:
                continue
            k = int(uniform(words) * n)
            trial[:n] = sums[:n]
            time, s = vertices[k, 0], vertices[k, 1]
            _add_vertex(trial, vertices, n, beta, time, s, k, -1.0, own)
            _add_vertex(trial, vertices, n, beta, time, -s, k, 1.0, own)
            trial[k] = own
            proposed = _total(coefficients, hidden, bias, outer, potential, trial, n)
            if uniform(words) < math.exp(min(proposed - total, 0.0)):
                vertices[k, 1] = -s
                sums, trial, total = trial, sums, proposed
                n_accepted += 1
        elif kind < INSERT:
            time, s = uniform(words) * beta, 1.0 if uniform(words) < 0.5 else -1.0
            # A full array is the end of the circle for a proposal, which the exact weight decides on.
            if n == capacity:
                continue
            trial[:n] = sums[:n]
            _add_vertex(trial, vertices, n, beta, time, s, -1, 1.0, own)
            trial[n] = own
            proposed = _total(coefficients, hidden, bias, outer, potential, trial, n + 1)
            log_ratio = proposed - total + math.log(expansion / (n + 1))
            if uniform(words) < math.exp(min(log_ratio, 0.0)):
                vertices[n, 0], vertices[n, 1] = time, s
                sums, trial, total = trial, sums, proposed
                n += 1
                n_accepted += 1
        else:
            if n == 0:
                continue
            k = int(uniform(words) * n)
            trial[:n] = sums[:n]
            _add_vertex(trial, vertices, n, beta, vertices[k, 0], vertices[k, 1], k, -1.0, own)
            trial[k] = trial[n - 1]
            proposed = _total(coefficients, hidden, bias, outer, potential, trial, n - 1)
            log_ratio = proposed - total + math.log(n / expansion)
            if uniform(words) < math.exp(min(log_ratio, 0.0)):
                n -= 1
                vertices[k, 0], vertices[k, 1] = vertices[n, 0], vertices[n, 1]
                vertices[n, 0], vertices[n, 1] = 0.0, 0.0
                sums, trial, total = trial, sums, proposed
                n_accepted += 1
    # Sums are made anew: what is returned is log W of the vertices, to the last bit the same from any path.
    _fill(sums, vertices, n, beta, own)
    total = _total(coefficients, hidden, bias, outer, potential, sums, n)
    return n_accepted / max(1, n_updates), total


@no_type_check
def network_call(frame_address):
    """Of coefficients, weights, biases and outer weights of hidden units, constants (β, K, γ), potential, vertices, a
    seed and a number of updates: new vertices, the accepted share, log W.

    No updates leave everything as it is.
    """
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 9), results(frame, 3)
        coefficients = numba.carray(data(given[0]), of_rank_one(given[0]), np.float64)
        hidden = numba.carray(data(given[1]), of_rank_two(given[1]), np.float64)
        bias = numba.carray(data(given[2]), of_rank_one(given[2]), np.float64)
        outer = numba.carray(data(given[3]), of_rank_one(given[3]), np.float64)
        constants = numba.carray(data(given[4]), of_rank_one(given[4]), np.float64)
        potential = numba.carray(data(given[5]), of_rank_one(given[5]), np.float64)
        vertices = numba.carray(data(given[6]), of_rank_two(given[6]), np.float64)
        seeds = numba.carray(data(given[7]), (size(extents(given[7])),), np.uint64)
        n_updates = numba.carray(data(given[8]), (size(extents(given[8])),), np.int64)
        moved = numba.carray(data(made[0]), of_rank_two(made[0]), np.float64)
        accepted = numba.carray(data(made[1]), (size(extents(made[1])),), np.float64)
        whole = extents(made[2])
        log_weights = numba.carray(data(made[2]), (size(extents(made[2])),), np.float64)
        words = np.empty(4, np.uint64)
        for chain in range(len(moved)):
            here = moved[chain]
            here[:] = vertices[entry(given[6], whole, chain)]
            fixed = constants[entry(given[4], whole, chain)]
            seed_numbers(words, seeds[entry(given[7], whole, chain)])
            accepted[chain], total = network_updates(
                coefficients[entry(given[0], whole, chain)],
                hidden[entry(given[1], whole, chain)],
                bias[entry(given[2], whole, chain)],
                outer[entry(given[3], whole, chain)],
                fixed,
                potential[entry(given[5], whole, chain)],
                here,
                n_updates[entry(given[8], whole, chain)],
                words,
            )
            log_weights[chain] = total + log_measure(n_occupied(here), fixed[1], fixed[0])
    return np.uint64(0)
