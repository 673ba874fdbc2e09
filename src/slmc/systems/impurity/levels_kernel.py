"""The CT-AUX weight of a bath of few levels, and its updates, in compiled loops.

With r levels (those that diagonalise impurity and bath, energies ε_l, the impurity being the vector u) the weight of a
spin is a determinant of r × r matrices,

    det N_σ⁻¹ = det(1 + Π)/det(1 + e^{−βh}),   Π = e^{−(β−τ_n)h} V_n ⋯ V_1 e^{−τ_1 h},   V_i = 1 + (e^{σγs_i} − 1) u uᵀ

for τ_1 < … < τ_n: O(n r³) instead of O(n³) (Iazzi, Troyer, PRB 91, 241118 (2015)). Products of factors whose scales
differ by e^{βε} lose everything unless scales are kept apart: every product is Q D T with an orthogonal Q, a diagonal
D (its logarithm is kept) and a T of order one, renewed before the factors have spread by e^{``SPREAD``}.

Updates go from window to window of imaginary time. With a window empty, G = (1 + Π)⁻¹ at its beginning gives the
propagator of the impurity between any two times inside, and with that the vertices inside are moved by rank-one updates
of small determinants, which stay well conditioned where a product with the vertices in it does not.
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
    results,
    seed_numbers,
    size,
    uniform,
)
from slmc.systems.impurity.determinant_kernel import (
    FLIP,
    INSERT,
    entry,
    flip,
    flip_ratios,
    insert,
    insertion_ratios,
    invert,
    log_measure,
    n_occupied,
    of_rank_one,
    of_rank_two,
    remove,
)

# Without run-time checks of annotations (``no_type_check``) throughout: Numba has to see the bare functions.

SPREAD = 16.0
"""Factors are multiplied while their scales differ by e^{SPREAD} at most: log W is then right to 1e-10."""


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _renew(q, logs, t, work):
    """From C D T, C in place of Q, to Q' D' T': C D = Q' R, columns from the largest down, by Gram and Schmidt, twice.

    The order is that of the columns before anything is subtracted: scales differ by far more than what directions do.
    """
    r = len(logs)
    rest, new_t, new_logs, sizes = work[0], work[1], work[2, 0], work[2, 1]
    for j in range(r):
        norm = 0.0
        for i in range(r):
            rest[i, j] = q[i, j]
            new_t[i, j] = 0.0
            norm += q[i, j] * q[i, j]
        sizes[j] = 0.5 * math.log(norm) + logs[j]
    for place in range(r):
        best = 0
        for k in range(1, r):
            if sizes[k] > sizes[best]:
                best = k
        sizes[best] = -np.inf
        for turn in range(2):
            for previous in range(place):
                overlap = 0.0
                for i in range(r):
                    overlap += q[i, previous] * rest[i, best]
                for i in range(r):
                    rest[i, best] -= overlap * q[i, previous]
                if turn == 0:
                    # What the second turn finds is rounding of this.
                    scale = overlap * math.exp(min(logs[best] - new_logs[previous], 700.0))
                    for j in range(r):
                        new_t[previous, j] += scale * t[best, j]
        norm = 0.0
        for i in range(r):
            norm += rest[i, best] * rest[i, best]
        norm = math.sqrt(norm)
        # ``q`` is overwritten from the left; its old columns live on in ``rest``.
        for i in range(r):
            q[i, place] = rest[i, best] / norm
        new_logs[place] = logs[best] + math.log(norm)
        for j in range(r):
            new_t[place, j] += t[best, j]
    for i in range(r):
        logs[i] = new_logs[i]
        for j in range(r):
            t[i, j] = new_t[i, j]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _start(q, logs, t):
    """The product of nothing."""
    for i in range(len(logs)):
        logs[i] = 0.0
        for j in range(len(logs)):
            q[i, j] = t[i, j] = 1.0 if i == j else 0.0


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _copy(q, logs, t, to_q, to_logs, to_t):
    """A product Q D T to another place."""
    for i in range(len(logs)):
        to_logs[i] = logs[i]
        for j in range(len(logs)):
            to_q[i, j], to_t[i, j] = q[i, j], t[i, j]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _move(x, y, z, source, target):
    """The vectors of a vertex to another slot."""
    for level in range(x.shape[1]):
        x[target, level], y[target, level] = x[source, level], y[source, level]
        z[target, 0, level], z[target, 1, level] = z[source, 0, level], z[source, 1, level]


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _advance(energies, impurity, strength, vertices, backwards, begin, end, q, logs, t, work):
    """Multiplies from the left by all between two times: e^{−time h}, and 1 + (e^{σγs} − 1) u uᵀ at vertices in order.

    ``strength`` is σγ. ``backwards`` makes the transposed product, from the end to the beginning. Renewed in the end.
    """
    r, count = len(energies), len(vertices)
    widest = 0.0
    for level in range(r):
        widest = max(widest, 2 * abs(energies[level]))
    longest = SPREAD / (2 * widest) if widest > 0 else np.inf
    time, spread = end if backwards else begin, 0.0
    for place in range(count + 1):
        kick, until = 0.0, begin if backwards else end
        if place < count:
            i = count - 1 - place if backwards else place
            until, kick = vertices[i, 0], strength * vertices[i, 1]
        left, time = abs(until - time), until
        while True:
            step = min(left, longest)
            is_last = step == left
            due = step * widest + (abs(kick) if is_last else 0.0)
            if spread + due > SPREAD:
                _renew(q, logs, t, work)
                spread = 0.0
            spread += due
            for level in range(r):
                factor = math.exp(-step * energies[level])
                for j in range(r):
                    q[level, j] *= factor
            left -= step
            if is_last:
                break
        if kick != 0:
            factor = math.exp(kick) - 1
            for j in range(r):
                overlap = 0.0
                for level in range(r):
                    overlap += impurity[level] * q[level, j]
                overlap *= factor
                for level in range(r):
                    q[level, j] += impurity[level] * overlap
    _renew(q, logs, t, work)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _closed(q, logs, t, other_q, other_logs, other_t, between, green, work, pivots):
    """log det(1 + A B E) of A = Q D T, Bᵀ = Q' D' T' and a diagonal E, ``between``; writes (1 + A B E)⁻¹.

    1 + A B E = Q D_> [D_>⁻¹ Qᵀ E⁻¹ Q' D'_>⁻¹ + D_< T T'ᵀ D'_<] D'_> Q'ᵀ E, D_> = max(D, 1), D_< = min(D, 1).
    """
    r = len(logs)
    inner, half, large, small = work[0], work[1], work[2], work[3]
    total = 0.0
    for i in range(r):
        total += max(logs[i], 0.0) + max(other_logs[i], 0.0) + math.log(between[i])
        large[0, i], small[0, i] = math.exp(-max(logs[i], 0.0)), math.exp(min(logs[i], 0.0))
        large[1, i], small[1, i] = math.exp(-max(other_logs[i], 0.0)), math.exp(min(other_logs[i], 0.0))
        for level in range(r):
            half[i, level] = q[level, i] / between[level]
    for i in range(r):
        for j in range(r):
            overlap, product = 0.0, 0.0
            for level in range(r):
                overlap += half[i, level] * other_q[level, j]
                product += t[i, level] * other_t[j, level]
            inner[i, j] = overlap * large[0, i] * large[1, j] + product * small[0, i] * small[1, j]
    total += invert(inner, r, pivots)
    for i in range(r):
        for j in range(r):
            value = 0.0
            for level in range(r):
                value += inner[i, level] * large[0, level] * q[j, level]
            half[i, j] = large[1, i] * value
    for i in range(r):
        for j in range(r):
            value = 0.0
            for level in range(r):
                value += other_q[i, level] * half[level, j]
            green[i, j] = value / between[i]
    return total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _by_time(vertices, n):
    """Vertices sorted by time, in a new array."""
    order = np.argsort(vertices[:n, 0])
    result = np.empty((n, 2))
    for place in range(n):
        result[place, 0], result[place, 1] = vertices[order[place], 0], vertices[order[place], 1]
    return result


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _sort(vertices, n):
    """Sorts a few vertices by time, in place, by insertion."""
    for place in range(1, n):
        time, s = vertices[place, 0], vertices[place, 1]
        k = place
        while k > 0 and vertices[k - 1, 0] > time:
            vertices[k, 0], vertices[k, 1] = vertices[k - 1, 0], vertices[k - 1, 1]
            k -= 1
        vertices[k, 0], vertices[k, 1] = time, s


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def log_determinants(energies, impurity, beta, gamma, vertices, n):
    """Σ_σ log det N_σ⁻¹."""
    r = len(energies)
    q, logs, t, green = np.empty((r, r)), np.empty(r), np.empty((r, r)), np.empty((r, r))
    other_q, other_logs, other_t = np.empty((r, r)), np.empty(r), np.empty((r, r))
    work, pivots, nothing = np.empty((4, max(r, 2), r)), np.empty(r, np.int64), np.ones(r)
    total = 0.0
    _start(other_q, other_logs, other_t)
    ordered = _by_time(vertices, n)
    for spin in range(2):
        sign = 1.0 - 2.0 * spin
        _start(q, logs, t)
        _advance(energies, impurity, sign * gamma, ordered, False, 0.0, beta, q, logs, t, work)
        total += _closed(q, logs, t, other_q, other_logs, other_t, nothing, green, work, pivots)
    for level in range(r):
        energy = beta * energies[level]
        total -= 2 * (max(-energy, 0.0) + math.log1p(math.exp(-abs(energy))))
    return total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _vectors(energies, impurity, time, green, x, y, z):
    """For a time after the beginning of a window: x = e^{−τh} u, y = e^{τh} u, and z_σ = G_σ y."""
    r = len(energies)
    for level in range(r):
        factor = math.exp(-time * energies[level])
        x[level], y[level] = impurity[level] * factor, impurity[level] / factor
    for spin in range(2):
        for level in range(r):
            total = 0.0
            for m in range(r):
                total += green[spin, level, m] * y[m]
            z[spin, level] = total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _between(x, y, z, earlier):
    """The propagator from (y, z) to (x): x·G y, and x·(G − 1) y if x is the earlier one."""
    total = 0.0
    for level in range(len(x)):
        total += x[level] * (z[level] - y[level]) if earlier else x[level] * z[level]
    return total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _in_window(energies, impurity, green, length, constants, slopes, inside, m, n, capacity, n_updates, words, room):
    """Local updates of the m vertices inside a window, by times after its beginning; n is the number of all.

    Returns m, n and the accepted updates. ``slopes`` are e^{f(n+1) − f(n)}.
    """
    beta, expansion, gamma = constants
    matrices, x, y, z, columns, rows, left, right, work, pivots = room
    ratios, old, corner = np.empty(2), np.empty(2), np.empty(2)
    up, down = math.exp(gamma), math.exp(-gamma)
    kicks = up - 1, down - 1
    rate = expansion * length / beta
    for i in range(m):
        _vectors(energies, impurity, inside[i, 0], green, x[i], y[i], z[i])
    for spin in range(2):
        a = matrices[spin]
        for j in range(m):
            e = up if (inside[j, 1] > 0) == (spin == 0) else down
            for i in range(m):
                g = _between(x[i], y[j], z[j, spin], i != j and inside[i, 0] < inside[j, 0])
                a[i, j] = -g * (e - 1)
            a[j, j] += e
        invert(a, m, pivots)
    n_accepted = 0
    for _ in range(n_updates):
        kind = uniform(words)
        if kind < FLIP:
            if m == 0:
                continue
            k = int(uniform(words) * m)
            for i in range(m):
                earlier = i != k and inside[i, 0] < inside[k, 0]
                columns[0, i] = _between(x[i], y[k], z[k, 0], earlier)
                columns[1, i] = _between(x[i], y[k], z[k, 1], earlier)
            old[0] = up if inside[k, 1] > 0 else down
            old[1] = 1 / old[0]
            ratio = flip_ratios(matrices, m, k, old, columns, ratios)
            if uniform(words) < ratio:
                flip(matrices, m, k, old, columns, ratios, work)
                inside[k, 1] = -inside[k, 1]
                n_accepted += 1
        elif kind < INSERT:
            time = uniform(words) * length
            s = 1.0 if uniform(words) < 0.5 else -1.0
            # A full array is the end of the circle for a proposal, which the exact weight decides on.
            if n == capacity or m == len(x):
                continue
            new_x, new_y, new_z = x[m], y[m], z[m]
            _vectors(energies, impurity, time, green, new_x, new_y, new_z)
            for i in range(m):
                before, after = inside[i, 0] < time, time < inside[i, 0]
                for spin in range(2):
                    columns[spin, i] = _between(x[i], new_y, new_z[spin], before)
                    rows[spin, i] = _between(new_x, y[i], z[i, spin], after)
            for spin in range(2):
                corner[spin] = _between(new_x, new_y, new_z[spin], False)
            ratio = insertion_ratios(matrices, m, kicks, s, inside[:, 1], columns, rows, corner, left, right, ratios)
            if uniform(words) < ratio * slopes[n] * rate / (m + 1):
                insert(matrices, m, left, right, ratios)
                inside[m, 0], inside[m, 1] = time, s
                m += 1
                n += 1
                n_accepted += 1
        else:
            if m == 0:
                continue
            k = int(uniform(words) * m)
            ratio = matrices[0, k, k] * matrices[1, k, k]
            if uniform(words) * slopes[n - 1] * rate < ratio * m:
                remove(matrices, m, k)
                m -= 1
                n -= 1
                inside[k, 0], inside[k, 1] = inside[m, 0], inside[m, 1]
                _move(x, y, z, m, k)
                n_accepted += 1
    return m, n, n_accepted


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def sweep(energies, impurity, constants, slopes, vertices, n, n_windows, n_updates, words, room, stores):
    """Windows one after the other from a random angle of the circle, in a random direction, all spins flipped or not.

    Turn, direction and flip leave the weight as it is. Returns n and the accepted updates.
    """
    beta, gamma = constants[0], constants[2]
    r, capacity = len(energies), len(vertices)
    length = beta / n_windows
    turn = uniform(words) * beta
    mirrored, flipped = uniform(words) < 0.5, uniform(words) < 0.5
    for i in range(n):
        time = vertices[i, 0] + turn
        time = time - beta if time >= beta else time
        if mirrored:
            time = beta - time
        vertices[i, 0] = time if 0 <= time < beta else 0.0
        vertices[i, 1] = -vertices[i, 1] if flipped else vertices[i, 1]
    ordered = _by_time(vertices, n)
    vertices[:] = 0.0
    later_q, later_logs, later_t = stores
    q, logs, t, green = np.empty((2, r, r)), np.empty((2, r)), np.empty((2, r, r)), np.empty((2, r, r))
    end_q, end_logs, end_t = np.empty((r, r)), np.empty(r), np.empty((r, r))
    work, pivots, inside = np.empty((4, max(r, 2), r)), np.empty(r, np.int64), np.empty((capacity, 2))
    between = np.empty(r)
    for level in range(r):
        between[level] = math.exp(-length * energies[level])
    for spin in range(2):
        sign = 1.0 - 2.0 * spin
        _start(end_q, end_logs, end_t)
        last = n
        for window in range(n_windows - 1, -1, -1):
            # The product of all that is later than the window, transposed.
            begin = (window + 1) * length
            if window < n_windows - 1:
                first = last
                while first > 0 and ordered[first - 1, 0] >= begin:
                    first -= 1
                _advance(
                    energies, impurity, sign * gamma, ordered[first:last], True, begin, begin + length,
                    end_q, end_logs, end_t, work,
                )  # fmt: skip
                last = first
            _copy(end_q, end_logs, end_t, later_q[window, spin], later_logs[window, spin], later_t[window, spin])
        _start(q[spin], logs[spin], t[spin])
    first, n_placed, n_accepted = 0, 0, 0
    for window in range(n_windows):
        begin = window * length
        end = begin + length if window < n_windows - 1 else beta
        m = 0
        while first < len(ordered) and ordered[first, 0] < end:
            inside[m, 0], inside[m, 1] = ordered[first, 0] - begin, ordered[first, 1]
            m += 1
            first += 1
        for spin in range(2):
            _closed(
                q[spin], logs[spin], t[spin], later_q[window, spin], later_logs[window, spin], later_t[window, spin],
                between, green[spin], work, pivots,
            )  # fmt: skip
        m, n, accepted = _in_window(
            energies, impurity, green, length, constants, slopes, inside, m, n, capacity, n_updates, words, room
        )
        n_accepted += accepted
        _sort(inside, m)
        made = inside[:m]
        for spin in range(2):
            strength = gamma * (1.0 - 2.0 * spin)
            _advance(energies, impurity, strength, made, False, 0.0, length, q[spin], logs[spin], t[spin], work)
        for i in range(m):
            vertices[n_placed, 0] = min(begin + made[i, 0], np.nextafter(beta, 0.0))
            vertices[n_placed, 1] = made[i, 1]
            n_placed += 1
    return n, n_accepted


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def log_weight(energies, impurity, constants, potential, vertices):
    """log W, with a potential f(n) of the number of vertices."""
    beta, expansion, gamma = constants
    n = n_occupied(vertices)
    determinants = log_determinants(energies, impurity, beta, gamma, vertices, n)
    return determinants + potential[n] + log_measure(n, expansion, beta)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def sweeps(energies, impurity, constants, potential, vertices, n_sweeps, n_windows, n_updates, words):
    """Many sweeps, in place; returns the share of updates that were accepted."""
    r, capacity = len(energies), len(vertices)
    room = (
        np.empty((2, capacity, capacity)),
        np.empty((capacity, r)),
        np.empty((capacity, r)),
        np.empty((capacity, 2, r)),
        np.empty((2, capacity)),
        np.empty((2, capacity)),
        np.empty((2, capacity)),
        np.empty((2, capacity)),
        np.empty((2, capacity)),
        np.empty(capacity, np.int64),
    )
    stores = np.empty((n_windows, 2, r, r)), np.empty((n_windows, 2, r)), np.empty((n_windows, 2, r, r))
    slopes = np.exp(potential[1:] - potential[:-1])
    n, total = n_occupied(vertices), 0
    for _ in range(n_sweeps):
        n, accepted = sweep(
            energies, impurity, constants, slopes, vertices, n, n_windows, n_updates, words, room, stores
        )
        total += accepted
    return total / max(1, n_sweeps * n_windows * n_updates)


# ------------------------------------------------------------------------------------------------------------- calls


@no_type_check
def sweeps_call(frame_address):
    """Of energies, impurity vector, constants, potential, vertices, a seed, and numbers of sweeps, windows and updates
    in a window: new vertices, the accepted share, log W.

    No sweeps leave everything as it is.
    """
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 7), results(frame, 3)
        energies = numba.carray(data(given[0]), of_rank_one(given[0]), np.float64)
        impurity = numba.carray(data(given[1]), of_rank_one(given[1]), np.float64)
        constants = numba.carray(data(given[2]), of_rank_one(given[2]), np.float64)
        potential = numba.carray(data(given[3]), of_rank_one(given[3]), np.float64)
        vertices = numba.carray(data(given[4]), of_rank_two(given[4]), np.float64)
        seeds = numba.carray(data(given[5]), (size(extents(given[5])),), np.uint64)
        counts = numba.carray(data(given[6]), of_rank_one(given[6]), np.int64)
        moved = numba.carray(data(made[0]), of_rank_two(made[0]), np.float64)
        accepted = numba.carray(data(made[1]), (size(extents(made[1])),), np.float64)
        whole = extents(made[2])
        log_weights = numba.carray(data(made[2]), (size(extents(made[2])),), np.float64)
        words = np.empty(4, np.uint64)
        for chain in range(len(moved)):
            moved[chain] = vertices[entry(given[4], whole, chain)]
            of_chain = constants[entry(given[2], whole, chain)]
            numbers = counts[entry(given[6], whole, chain)]
            fixed = of_chain[0], of_chain[1], of_chain[2]
            levels = energies[entry(given[0], whole, chain)]
            vector = impurity[entry(given[1], whole, chain)]
            f = potential[entry(given[3], whole, chain)]
            accepted[chain] = 0.0
            if numbers[0]:
                seed_numbers(words, seeds[entry(given[5], whole, chain)])
                accepted[chain] = sweeps(
                    levels, vector, fixed, f, moved[chain], numbers[0], numbers[1], numbers[2], words
                )
            log_weights[chain] = log_weight(levels, vector, fixed, f, moved[chain])
    return np.uint64(0)
