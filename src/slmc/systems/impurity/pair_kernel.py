"""Local updates of the pair model in compiled loops."""

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
    n_occupied,
    of_rank_one,
    of_rank_two,
    symmetric_change,
)

# Without run-time checks of annotations (``no_type_check``) throughout: Numba has to see the bare functions.


@numba.njit(cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
@no_type_check
def _fields(coefficients, beta, times, spins, n, time):
    """Σ_j J(τ − τ_j) s_j and Σ_j L(τ − τ_j), in even Chebyshev polynomials of 2|τ|/β − 1 by their recurrence.

    ``coefficients`` (2, m) are those of J and L. T_2k(x) = T_k(2x² − 1).
    """
    m = coefficients.shape[1]
    with_spins, without = 0.0, 0.0
    for j in range(n):
        x = 2 * abs(times[j] - time) / beta - 1
        y = 2 * x * x - 1
        a = b = c = d = 0.0
        for k in range(m - 1, 0, -1):
            a, b = coefficients[0, k] + 2 * y * a - b, a
            c, d = coefficients[1, k] + 2 * y * c - d, c
        with_spins += (coefficients[0, 0] + y * a - b) * spins[j]
        without += coefficients[1, 0] + y * c - d
    return with_spins, without


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def pair_sum(coefficients, beta, times, spins, n):
    """Σ_{i<j} [J(τ_i − τ_j) s_i s_j + L(τ_i − τ_j)]."""
    total = 0.0
    for i in range(1, n):
        with_spins, without = _fields(coefficients, beta, times, spins, i, times[i])
        total += spins[i] * with_spins + without
    return total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def divided(total, n, by_order):
    """The pair sum as it enters log W: divided by n, or not."""
    if not by_order:
        return total
    return total / n if n else 0.0


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def pair_updates(coefficients, constants, potential, by_order, vertices, n_updates, words):
    """Local updates in place; returns the accepted share and the pair sum."""
    beta, expansion = constants[0], constants[1]
    n, capacity = n_occupied(vertices), len(vertices)
    symmetric_change(vertices, n, beta, words)
    times, spins = vertices[:, 0].copy(), vertices[:, 1].copy()
    total, n_accepted = pair_sum(coefficients, beta, times, spins, n), 0
    zero, zero_without = _fields(coefficients, beta, np.zeros(1), np.ones(1), 1, 0.0)
    for _ in range(n_updates):
        kind = uniform(words)
        if kind < FLIP:
            if n == 0:
                continue
            k = int(uniform(words) * n)
            field = _fields(coefficients, beta, times, spins, n, times[k])[0] - zero * spins[k]
            change = -2 * spins[k] * field
            if uniform(words) < math.exp(min(divided(change, n, by_order), 0.0)):
                spins[k] = -spins[k]
                total += change
                n_accepted += 1
        elif kind < INSERT:
            time, s = uniform(words) * beta, 1.0 if uniform(words) < 0.5 else -1.0
            # A full array is the end of the circle for a proposal, which the exact weight decides on.
            if n == capacity:
                continue
            with_spins, without = _fields(coefficients, beta, times, spins, n, time)
            grown = total + s * with_spins + without
            log_ratio = divided(grown, n + 1, by_order) - divided(total, n, by_order)
            log_ratio += potential[n + 1] - potential[n] + math.log(expansion / (n + 1))
            if uniform(words) < math.exp(min(log_ratio, 0.0)):
                times[n], spins[n] = time, s
                total = grown
                n += 1
                n_accepted += 1
        else:
            if n == 0:
                continue
            k = int(uniform(words) * n)
            with_spins, without = _fields(coefficients, beta, times, spins, n, times[k])
            left = total - spins[k] * (with_spins - zero * spins[k]) - (without - zero_without)
            log_ratio = divided(left, n - 1, by_order) - divided(total, n, by_order)
            log_ratio += potential[n - 1] - potential[n] + math.log(n / expansion)
            if uniform(words) < math.exp(min(log_ratio, 0.0)):
                n -= 1
                times[k], spins[k] = times[n], spins[n]
                times[n], spins[n] = 0.0, 0.0
                total = left
                n_accepted += 1
    vertices[:, 0], vertices[:, 1] = times, spins
    return n_accepted / max(1, n_updates), pair_sum(coefficients, beta, times, spins, n)


@no_type_check
def pair_call(frame_address):
    """Of coefficients, constants (β, K, γ, 1 for sums divided by n), potential, vertices, a seed and a number of
    updates: new vertices, the accepted share, log W.

    No updates leave everything as it is.
    """
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 6), results(frame, 3)
        coefficients = numba.carray(data(given[0]), of_rank_two(given[0]), np.float64)
        constants = numba.carray(data(given[1]), of_rank_one(given[1]), np.float64)
        potential = numba.carray(data(given[2]), of_rank_one(given[2]), np.float64)
        vertices = numba.carray(data(given[3]), of_rank_two(given[3]), np.float64)
        seeds = numba.carray(data(given[4]), (size(extents(given[4])),), np.uint64)
        n_updates = numba.carray(data(given[5]), (size(extents(given[5])),), np.int64)
        moved = numba.carray(data(made[0]), of_rank_two(made[0]), np.float64)
        accepted = numba.carray(data(made[1]), (size(extents(made[1])),), np.float64)
        whole = extents(made[2])
        log_weights = numba.carray(data(made[2]), (size(extents(made[2])),), np.float64)
        words = np.empty(4, np.uint64)
        for chain in range(len(moved)):
            here = moved[chain]
            here[:] = vertices[entry(given[3], whole, chain)]
            fixed = constants[entry(given[1], whole, chain)]
            of_pairs = coefficients[entry(given[0], whole, chain)]
            f = potential[entry(given[2], whole, chain)]
            wanted = n_updates[entry(given[5], whole, chain)]
            by_order = fixed[3] > 0
            if wanted:
                seed_numbers(words, seeds[entry(given[4], whole, chain)])
                accepted[chain], total = pair_updates(of_pairs, fixed, f, by_order, here, wanted, words)
                n = n_occupied(here)
            else:
                n = n_occupied(here)
                accepted[chain], total = 0.0, pair_sum(of_pairs, fixed[0], here[:, 0], here[:, 1], n)
            measure = n * math.log(fixed[1] / (2 * fixed[0])) - math.lgamma(n + 1.0)
            log_weights[chain] = divided(total, n, by_order) + f[n] + measure
    return np.uint64(0)
