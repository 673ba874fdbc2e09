"""Determinants of CT-AUX in compiled loops: the weight, what is measured with it, and updates of rank one.

    N_σ⁻¹ = e^{V_σ} − G (e^{V_σ} − 1),   e^{V_σ} = diag e^{σ γ s_i},   G_ij = g0(τ_i − τ_j),   G_ii = g0(0⁺)

Both spins lie next to each other on the first axis of a matrix, σ = + first. A propagator is a table of polynomials of
degree five (``propagator.Propagator``).
"""

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
    matching,
    results,
    seed_numbers,
    size,
    uniform,
)

# Without run-time checks of annotations (``no_type_check``) throughout: Numba has to see the bare functions.

N_NUMBERS = 5
"""What is measured beside the vertices' own Green function: n, Σ s, n_↑, n_↓, n_↑ n_↓."""

N_TIMES = 8
"""Equidistant times at which densities are measured."""

FLIP, INSERT = 0.2, 0.6
"""A local update flips a spin with probability 0.2, inserts a vertex with 0.4, and removes one else."""

_FAST = {"reassoc", "contract"}


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def propagator(table, beta, time):
    """g0 at a time difference in (−β, β), antiperiodic."""
    sign = 1.0
    if time < 0:
        time += beta
        sign = -1.0
    n = len(table)
    x = time * (n / beta)
    i = min(int(x), n - 1)
    u = x - i
    c = table[i]
    return sign * (c[0] + u * (c[1] + u * (c[2] + u * (c[3] + u * (c[4] + u * c[5])))))


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def n_occupied(vertices):
    """Occupied slots, which come first."""
    n = 0
    while n < len(vertices) and vertices[n, 1] != 0:
        n += 1
    return n


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def fill(table, beta, gamma, vertices, n, matrices):
    """Writes N_σ⁻¹ of the first n vertices."""
    up, down = math.exp(gamma) - 1, math.exp(-gamma) - 1
    for i in range(n):
        for j in range(n):
            g = table[0, 0] if i == j else propagator(table, beta, vertices[i, 0] - vertices[j, 0])
            a, b = (up, down) if vertices[j, 1] > 0 else (down, up)
            matrices[0, i, j] = -g * a
            matrices[1, i, j] = -g * b
            if i == j:
                matrices[0, i, i] += 1 + a
                matrices[1, i, i] += 1 + b


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
@no_type_check
def _log_determinant(a, n):
    """log |det a|, by elimination with pivots from rows; a is overwritten."""
    total = 0.0
    for k in range(n):
        p = k
        for i in range(k + 1, n):
            if abs(a[i, k]) > abs(a[p, k]):
                p = i
        if p != k:
            for j in range(k, n):
                a[k, j], a[p, j] = a[p, j], a[k, j]
        pivot = a[k, k]
        if pivot == 0:
            return -np.inf
        total += math.log(abs(pivot))
        for i in range(k + 1, n):
            factor = a[i, k] / pivot
            row, pivot_row = a[i], a[k]
            for j in range(k + 1, n):
                row[j] -= factor * pivot_row[j]
    return total


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
@no_type_check
def invert(a, n, pivots):
    """Replaces a by its inverse (Gauss–Jordan, pivots from rows); returns log |det a|."""
    total = 0.0
    for k in range(n):
        p = k
        for i in range(k + 1, n):
            if abs(a[i, k]) > abs(a[p, k]):
                p = i
        pivots[k] = p
        if p != k:
            for j in range(n):
                a[k, j], a[p, j] = a[p, j], a[k, j]
        pivot = a[k, k]
        if pivot == 0:
            return -np.inf
        total += math.log(abs(pivot))
        pivot_row = a[k]
        pivot_row[k] = 1.0
        for j in range(n):
            pivot_row[j] /= pivot
        for i in range(n):
            if i != k:
                row = a[i]
                factor = row[k]
                row[k] = 0.0
                for j in range(n):
                    row[j] -= factor * pivot_row[j]
    for k in range(n - 1, -1, -1):
        p = pivots[k]
        if p != k:
            for i in range(n):
                a[i, k], a[i, p] = a[i, p], a[i, k]
    return total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def log_measure(n, expansion, beta):
    """log of (K/2β)ⁿ/n!."""
    return n * math.log(expansion / (2 * beta)) - math.lgamma(n + 1.0)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def log_weight(table, constants, vertices):
    """log W of a configuration; ``constants`` are β, K, γ."""
    beta, expansion, gamma = constants
    n = n_occupied(vertices)
    matrices = np.empty((2, n, n))
    fill(table, beta, gamma, vertices, n, matrices)
    determinants = _log_determinant(matrices[0], n) + _log_determinant(matrices[1], n)
    return determinants + log_measure(n, expansion, beta)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def inverses(table, constants, vertices, n, matrices, pivots):
    """Writes N_σ; returns log W."""
    beta, expansion, gamma = constants
    fill(table, beta, gamma, vertices, n, matrices)
    determinants = invert(matrices[0], n, pivots) + invert(matrices[1], n, pivots)
    return determinants + log_measure(n, expansion, beta)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _slope(table, beta, time):
    """The derivative of g0, which is antiperiodic as g0 is."""
    sign = 1.0
    if time < 0:
        time += beta
        sign = -1.0
    n = len(table)
    x = time * (n / beta)
    i = min(int(x), n - 1)
    u = x - i
    c = table[i]
    return sign * (n / beta) * (c[1] + u * (2 * c[2] + u * (3 * c[3] + u * (4 * c[4] + u * 5 * c[5]))))


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def force(table, constants, vertices, n, matrices, gradient):
    """∂ log W/∂τ_i = −Σ_jσ [N_σ,ji g0'(τ_i − τ_j) e_j − N_σ,ij g0'(τ_j − τ_i) e_i], e = e^V − 1; needs N_σ."""
    beta, gamma = constants[0], constants[2]
    gradient[:] = 0.0
    for spin in range(2):
        sign = 1.0 - 2.0 * spin
        for i in range(n):
            for j in range(n):
                if i != j:
                    slope = _slope(table, beta, vertices[i, 0] - vertices[j, 0])
                    term = matrices[spin, j, i] * slope * (math.exp(sign * gamma * vertices[j, 1]) - 1)
                    gradient[i, 0] -= term
                    gradient[j, 0] += term


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
@no_type_check
def _dot(a, b, n):
    total = 0.0
    for i in range(n):
        total += a[i] * b[i]
    return total


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
@no_type_check
def _add(a, factor, b, n):
    for i in range(n):
        a[i] += factor * b[i]


@numba.njit(cache=True, fastmath=_FAST, error_model="numpy")
@no_type_check
def _add_legendre(weights, x, n, factors, series):
    """series_{spin,l} += Σ_q weights_{spin, parity of l, q} P_l(x_q), by the recurrence of Legendre polynomials.

    ``factors`` has room for three rows of numbers."""
    before, now, later = factors[0], factors[1], factors[2]
    for q in range(n):
        before[q], now[q] = 1.0, x[q]
    for degree in range(series.shape[1]):
        up, down = weights[0, degree % 2], weights[1, degree % 2]
        of_up, of_down = 0.0, 0.0
        for q in range(n):
            of_up += up[q] * before[q]
            of_down += down[q] * before[q]
        series[0, degree] += of_up
        series[1, degree] += of_down
        a, b = (2.0 * degree + 3.0) / (degree + 2.0), (degree + 1.0) / (degree + 2.0)
        for q in range(n):
            later[q] = a * x[q] * now[q] - b * before[q]
        before, now, later = now, later, before


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def measure(table, constants, vertices, n, matrices, numbers, series):
    """What is measured with N_σ in ``matrices``.

    ``numbers``: n, Σ s, and n_↑, n_↓, n_↑ n_↓ averaged over equidistant times. ``series`` (spin, 1 + L): of
    T(τ) = Σ_pq [(e^V − 1) N]_pq δ(τ − τ_p + τ_q)/β the part at τ = 0 (p = q), and Legendre moments of the rest."""
    beta, gamma = constants[0], constants[2]
    numbers[:] = 0.0
    series[:] = 0.0
    numbers[0] = n
    left, right, strengths = np.empty(n), np.empty(n), np.empty((2, n))
    for i in range(n):
        numbers[1] += vertices[i, 1]
    for time in range(N_TIMES):
        at = time * beta / N_TIMES
        densities = np.empty(2)
        for spin in range(2):
            sign = 1.0 - 2.0 * spin
            for i in range(n):
                left[i] = propagator(table, beta, at - vertices[i, 0]) * (math.exp(sign * gamma * vertices[i, 1]) - 1)
                # A vertex at the same time is before: a density commutes with its kick.
                since = vertices[i, 0] - at
                right[i] = propagator(table, beta, since if since != 0 else -1e-300)
            empty = table[0, 0]
            for i in range(n):
                empty += left[i] * _dot(matrices[spin, i], right, n)
            densities[spin] = 1 - empty
        numbers[2] += densities[0] / N_TIMES
        numbers[3] += densities[1] / N_TIMES
        numbers[4] += densities[0] * densities[1] / N_TIMES
    for spin in range(2):
        for p in range(n):
            strengths[spin, p] = (math.exp((1.0 - 2.0 * spin) * gamma * vertices[p, 1]) - 1) / beta
            series[spin, 0] += strengths[spin, p] * matrices[spin, p, p]
    x, weights, factors = np.empty(n), np.empty((2, 2, n)), np.empty((3, n))
    for p in range(1, n):
        # (q, p) is at −x if (p, q) is at x, with the other sign, and P_l(−x) = (−1)^l P_l(x).
        for q in range(p):
            time = vertices[p, 0] - vertices[q, 0]
            sign = 1.0 if time >= 0 else -1.0
            x[q] = 2 * (time if time >= 0 else time + beta) / beta - 1
            for spin in range(2):
                there = sign * strengths[spin, p] * matrices[spin, p, q]
                back = sign * strengths[spin, q] * matrices[spin, q, p]
                weights[spin, 0, q], weights[spin, 1, q] = there - back, there + back
        _add_legendre(weights, x, p, factors, series[:, 1:])


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def symmetric_change(vertices, n, beta, words):
    """Turns the circle of times by a random angle, and all spins with probability one half: the weight stays."""
    turn, factor = uniform(words) * beta, 1.0 if uniform(words) < 0.5 else -1.0
    for i in range(n):
        time = vertices[i, 0] + turn
        vertices[i, 0] = time - beta if time >= beta else time
        vertices[i, 1] *= factor


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def change_of_slices(vertices, n, words):
    """Turns the spins of equidistant times by a random number of steps, and all of them with probability one half."""
    turn, factor = int(uniform(words) * n), 1.0 if uniform(words) < 0.5 else -1.0
    spins = vertices[:n, 1].copy()
    for i in range(n):
        vertices[i, 1] = factor * spins[(i + turn) % n]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def flip_ratios(matrices, n, k, old, columns, ratios):
    """Writes det N_σ⁻¹ after by before a flip of vertex k, whose e^{V_σ} were ``old``; returns their product.

    ``columns`` (spin, vertex) holds the k-th column of G. N⁻¹ changes by −(1/e − e)(G − 1) in its k-th column.
    """
    for spin in range(2):
        e = old[spin]
        projected = _dot(matrices[spin, k], columns[spin], n) - matrices[spin, k, k]
        ratios[spin] = 1 - (1 / e - e) * projected
    return ratios[0] * ratios[1]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def flip(matrices, n, k, old, columns, ratios, work):
    """Makes the N_σ of a flip of vertex k."""
    for spin in range(2):
        e, a = old[spin], matrices[spin]
        factor = (1 / e - e) / ratios[spin]
        left, row = work[0], work[1]
        for i in range(n):
            left[i] = factor * (_dot(a[i], columns[spin], n) - a[i, k])
            row[i] = a[k, i]
        for i in range(n):
            _add(a[i], left[i], row, n)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def insertion_ratios(matrices, n, kicks, s, spins, columns, rows, corner, left, right, ratios):
    """Writes det N_σ⁻¹ after by before a vertex of spin s is added; returns their product.

    ``kicks`` are e^γ − 1 and e^{−γ} − 1; ``columns`` and ``rows`` (spin, vertex) hold G from the new time and to it,
    ``corner`` (spin) at equal times; ``spins`` are those of the vertices. ``left`` and ``right`` are made for
    ``insert``.
    """
    for spin in range(2):
        a, up, down = matrices[spin], kicks[spin], kicks[1 - spin]
        strength = up if s > 0 else down
        schur = 1 + strength - corner[spin] * strength
        right[spin, :n] = 0.0
        for i in range(n):
            left[spin, i] = -strength * _dot(a[i], columns[spin], n)
            below = -rows[spin, i] * (up if spins[i] > 0 else down)
            _add(right[spin], below, a[i], n)
            schur -= below * left[spin, i]
        ratios[spin] = schur
    return ratios[0] * ratios[1]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def insert(matrices, n, left, right, ratios):
    """Makes the N_σ with the vertex added as the last."""
    for spin in range(2):
        inverse, a = 1 / ratios[spin], matrices[spin]
        for i in range(n):
            _add(a[i], left[spin, i] * inverse, right[spin], n)
            a[i, n] = -left[spin, i] * inverse
            a[n, i] = -right[spin, i] * inverse
        a[n, n] = inverse


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def remove(matrices, n, k):
    """Makes the N_σ without vertex k, in whose place the last one comes."""
    last = n - 1
    for spin in range(2):
        a = matrices[spin]
        if k != last:
            for j in range(n):
                a[k, j], a[last, j] = a[last, j], a[k, j]
            for i in range(n):
                a[i, k], a[i, last] = a[i, last], a[i, k]
        inverse = 1 / a[last, last]
        for i in range(last):
            _add(a[i], -a[i, last] * inverse, a[last], last)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def local_updates(table, constants, vertices, n, matrices, n_updates, flips_alone, words):
    """Local updates with N_σ of the n vertices in ``matrices``; with ``flips_alone`` times stay.

    Returns n (−1 if the array was full), the accepted ones, and the change of log Π det N_σ⁻¹.
    """
    beta, expansion, gamma = constants
    capacity = len(vertices)
    columns, rows, left, right = (
        np.empty((2, capacity)),
        np.empty((2, capacity)),
        np.empty((2, capacity)),
        np.empty((2, capacity)),
    )
    ratios, old, corner, work = np.empty(2), np.empty(2), np.full(2, table[0, 0]), np.empty((2, capacity))
    kicks = math.exp(gamma) - 1, math.exp(-gamma) - 1
    n_accepted, change = 0, 0.0
    for _ in range(n_updates):
        kind = 0.0 if flips_alone else uniform(words)
        if kind < FLIP:
            if n == 0:
                continue
            k = int(uniform(words) * n)
            for i in range(n):
                g = table[0, 0] if i == k else propagator(table, beta, vertices[i, 0] - vertices[k, 0])
                columns[0, i] = columns[1, i] = g
            old[0] = math.exp(gamma * vertices[k, 1])
            old[1] = 1 / old[0]
            ratio = flip_ratios(matrices, n, k, old, columns, ratios)
            if uniform(words) < ratio:
                flip(matrices, n, k, old, columns, ratios, work)
                vertices[k, 1] = -vertices[k, 1]
                n_accepted += 1
                change += math.log(ratio)
        elif kind < INSERT:
            time = uniform(words) * beta
            s = 1.0 if uniform(words) < 0.5 else -1.0
            for i in range(n):
                columns[0, i] = columns[1, i] = propagator(table, beta, vertices[i, 0] - time)
                rows[0, i] = rows[1, i] = propagator(table, beta, time - vertices[i, 0])
            ratio = insertion_ratios(matrices, n, kicks, s, vertices[:, 1], columns, rows, corner, left, right, ratios)
            if uniform(words) < ratio * expansion / (n + 1):
                if n == capacity:
                    return -1, n_accepted, change
                insert(matrices, n, left, right, ratios)
                vertices[n, 0], vertices[n, 1] = time, s
                n += 1
                n_accepted += 1
                change += math.log(ratio)
        else:
            if n == 0:
                continue
            k = int(uniform(words) * n)
            ratio = matrices[0, k, k] * matrices[1, k, k]
            if uniform(words) < ratio * n / expansion:
                remove(matrices, n, k)
                n -= 1
                vertices[k, 0], vertices[k, 1] = vertices[n, 0], vertices[n, 1]
                vertices[n, 0], vertices[n, 1] = 0.0, 0.0
                n_accepted += 1
                change += math.log(ratio)
    return n, n_accepted, change


# ------------------------------------------------------------------------------------------------------------- calls


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def of_rank_one(buffer):
    """A buffer of vectors, chains before."""
    shape = extents(buffer)
    return size(shape[:-1]), shape[-1]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def of_rank_two(buffer):
    """A buffer of matrices, chains before."""
    shape = extents(buffer)
    return size(shape[:-2]), shape[-2], shape[-1]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def entry(buffer, whole, chain):
    """Which of the entries of a buffer belongs to a chain of the whole."""
    return matching(extents(buffer), whole, chain)


@no_type_check
def log_weight_call(frame_address):
    """Of a table, constants and vertices: log W."""
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 3), results(frame, 1)[0]
        tables = numba.carray(data(given[0]), of_rank_two(given[0]), np.float64)
        constants = numba.carray(data(given[1]), of_rank_one(given[1]), np.float64)
        vertices = numba.carray(data(given[2]), of_rank_two(given[2]), np.float64)
        whole = extents(made)
        log_weights = numba.carray(data(made), (size(extents(made)),), np.float64)
        for chain in range(len(log_weights)):
            table = tables[entry(given[0], whole, chain)]
            of_chain = constants[entry(given[1], whole, chain)]
            numbers = (of_chain[0], of_chain[1], of_chain[2])
            log_weights[chain] = log_weight(table, numbers, vertices[entry(given[2], whole, chain)])
    return np.uint64(0)


@no_type_check
def force_call(frame_address):
    """Of a table, constants and vertices: log W and its derivatives."""
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 3), results(frame, 2)
        tables = numba.carray(data(given[0]), of_rank_two(given[0]), np.float64)
        constants = numba.carray(data(given[1]), of_rank_one(given[1]), np.float64)
        vertices = numba.carray(data(given[2]), of_rank_two(given[2]), np.float64)
        whole = extents(made[0])
        log_weights = numba.carray(data(made[0]), (size(extents(made[0])),), np.float64)
        gradients = numba.carray(data(made[1]), of_rank_two(made[1]), np.float64)
        for chain in range(len(log_weights)):
            table = tables[entry(given[0], whole, chain)]
            of_chain = constants[entry(given[1], whole, chain)]
            numbers, here = (of_chain[0], of_chain[1], of_chain[2]), vertices[entry(given[2], whole, chain)]
            n = n_occupied(here)
            matrices, pivots = np.empty((2, n, n)), np.empty(n, np.int64)
            log_weights[chain] = inverses(table, numbers, here, n, matrices, pivots)
            force(table, numbers, here, n, matrices, gradients[chain])
    return np.uint64(0)


@no_type_check
def updates_call(frame_address):
    """Of a table, constants, vertices, a seed and (a number of updates, 1 for flips alone): new vertices, log W,
    numbers, series, the share of updates that were accepted (−1 where the array was full).

    No updates leave everything as it is and measure.
    """
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 5), results(frame, 5)
        tables = numba.carray(data(given[0]), of_rank_two(given[0]), np.float64)
        constants = numba.carray(data(given[1]), of_rank_one(given[1]), np.float64)
        vertices = numba.carray(data(given[2]), of_rank_two(given[2]), np.float64)
        seeds = numba.carray(data(given[3]), (size(extents(given[3])),), np.uint64)
        counts = numba.carray(data(given[4]), of_rank_one(given[4]), np.int64)
        moved = numba.carray(data(made[0]), of_rank_two(made[0]), np.float64)
        whole = extents(made[1])
        log_weights = numba.carray(data(made[1]), (size(extents(made[1])),), np.float64)
        numbers = numba.carray(data(made[2]), of_rank_one(made[2]), np.float64)
        series = numba.carray(data(made[3]), of_rank_two(made[3]), np.float64)
        accepted = numba.carray(data(made[4]), (size(extents(made[4])),), np.float64)
        capacity = moved.shape[1]
        matrices, pivots, words = (
            np.empty((2, capacity, capacity)),
            np.empty(capacity, np.int64),
            np.empty(4, np.uint64),
        )
        for chain in range(len(moved)):
            table = tables[entry(given[0], whole, chain)]
            of_chain = constants[entry(given[1], whole, chain)]
            fixed, here = (of_chain[0], of_chain[1], of_chain[2]), moved[chain]
            here[:] = vertices[entry(given[2], whole, chain)]
            n, wanted = n_occupied(here), counts[entry(given[4], whole, chain), 0]
            flips_alone = counts[entry(given[4], whole, chain), 1] > 0
            if wanted:
                seed_numbers(words, seeds[entry(given[3], whole, chain)])
                if flips_alone:
                    change_of_slices(here, n, words)
                else:
                    symmetric_change(here, n, fixed[0], words)
            log_weights[chain] = inverses(table, fixed, here, n, matrices, pivots)
            accepted[chain] = 0.0
            if wanted:
                before = log_measure(n, fixed[1], fixed[0])
                n, n_accepted, change = local_updates(table, fixed, here, n, matrices, wanted, flips_alone, words)
                accepted[chain] = -1.0 if n < 0 else n_accepted / wanted
                n = max(n, 0)
                log_weights[chain] += change + log_measure(n, fixed[1], fixed[0]) - before
            measure(table, fixed, here, n, matrices, numbers[chain], series[chain])
    return np.uint64(0)
