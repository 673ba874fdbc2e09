"""Clusters and sweeps in loops compiled by Numba, which XLA calls (``slmc.compiled_calls``)."""

import math
from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np

from slmc import compiled_calls
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
from slmc.lanes import load_anywhere, plus_product, spread, total

# Without run-time checks of annotations (``no_type_check``) throughout: Numba has to see the bare functions.


@numba.njit(cache=True)
@no_type_check
def _root(labels, site):
    while labels[site] != site:
        labels[site] = labels[labels[site]]
        site = labels[site]
    return site


@numba.njit(cache=True)
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
                    root, other = _root(labels, site), _root(labels, site + step)
                    if root < other:
                        labels[other] = root
                    else:
                        labels[root] = other
    for site in range(len(labels)):
        labels[site] = labels[labels[site]]


@numba.njit(cache=True)
@no_type_check
def grow(neighbours, spins, inside, seed_of_numbers, site, sign, probability, cluster):
    """Marks in ``cluster`` the Wolff cluster of a site.

    A bond from the cluster to one of the ``neighbours`` (site, neighbour) outside of it, where s_i s_j has the ``sign``
    of the coupling and which lies ``inside``, is drawn with ``probability``.
    """
    state = np.empty(4, np.uint64)
    seed_numbers(state, seed_of_numbers)
    cluster[:] = False
    stack = np.empty(len(spins), np.int32)
    stack[0], n_waiting = site, 1
    cluster[site] = True
    while n_waiting:
        n_waiting -= 1
        here = stack[n_waiting]
        wanted = sign * spins[here]
        for there in neighbours[here]:
            if not cluster[there] and spins[there] == wanted and inside[there] and uniform(state) < probability:
                cluster[there] = True
                stack[n_waiting] = there
                n_waiting += 1


@numba.njit(cache=True, fastmath={"reassoc", "contract"})
@no_type_check
def _field(neighbours, strength, spins, site):
    """h_i = Σ_k strength_k S_{neighbour k of i}."""
    x = y = z = 0.0
    for k in range(len(strength)):
        other = neighbours[site, k]
        x += strength[k] * spins[other, 0]
        y += strength[k] * spins[other, 1]
        z += strength[k] * spins[other, 2]
    return x, y, z


@numba.njit(cache=True)
@no_type_check
def _cosine(u, h):
    """1 + log(u + (1 − u) exp(−2h))/h: the cosine to a field of strength h, by inversion."""
    cosine = 2 * u - 1 if h < 1e-6 else 1 + math.log(u + (1 - u) * math.exp(-2 * h)) / h
    return min(max(cosine, -1.0), 1.0)


@numba.njit(cache=True)
@no_type_check
def _axis(x, y, z, h):
    """The direction of a field of strength h; the third axis for a vanishing one."""
    if h < 1e-6:
        return 0.0, 0.0, 1.0
    return x / h, y / h, z / h


@numba.njit(cache=True)
@no_type_check
def _turned(x, y, z, cosine, along_first, along_second):
    """A unit vector from its components along an axis and along two directions at right angles to it.

    Their frame: Duff et al., J. Comput. Graph. Tech. 6, 1 (2017).
    """
    sign = math.copysign(1.0, z)
    a = -1 / (sign + z)
    b = x * y * a
    x_new = cosine * x + along_first * (1 + sign * x * x * a) + along_second * b
    y_new = cosine * y + along_first * sign * b + along_second * (sign + y * y * a)
    z_new = cosine * z - along_first * sign * x - along_second * y
    length = math.sqrt(x_new * x_new + y_new * y_new + z_new * z_new)
    return x_new / length, y_new / length, z_new / length


@numba.njit(cache=True)
@no_type_check
def draw_spins(neighbours, strength, order, numbers, spins):
    """Heat bath: see ``sweeps.draw_along``, of which this is one call after the other."""
    for site in order:
        if not spins[site].any():
            continue
        u, v = numbers[site]
        x, y, z = _field(neighbours, strength, spins, site)
        h = math.sqrt(x * x + y * y + z * z)
        cosine = _cosine(u, h)
        sine = math.sqrt(1 - cosine * cosine)
        along_first, along_second = sine * math.cos(2 * math.pi * v), sine * math.sin(2 * math.pi * v)
        x, y, z = _axis(x, y, z, h)
        spins[site, 0], spins[site, 1], spins[site, 2] = _turned(x, y, z, cosine, along_first, along_second)


@numba.njit(cache=True)
@no_type_check
def reflect_spins(neighbours, strength, order, numbers, spins):
    """Over-relaxation: see ``sweeps.reflect``, of which this is one call after the other."""
    for site in order:
        x, y, z = _field(neighbours, strength, spins, site)
        squared = x * x + y * y + z * z
        if squared > 0 and spins[site].any():
            factor = 2 * (spins[site, 0] * x + spins[site, 1] * y + spins[site, 2] * z) / squared
            x, y, z = factor * x - spins[site, 0], factor * y - spins[site, 1], factor * z - spins[site, 2]
            length = math.sqrt(x * x + y * y + z * z)
            spins[site, 0], spins[site, 1], spins[site, 2] = x / length, y / length, z / length


@numba.njit(cache=True, fastmath={"reassoc", "contract"})
@no_type_check
def _gathered(sites, strength, x, y, z):
    """h_i = Σ_k strength_k S_{sites_k}, of components apart from each other."""
    a = b = c = 0.0
    for k in range(len(sites)):
        j = sites[k]
        a += strength[k] * x[j]
        b += strength[k] * y[j]
        c += strength[k] * z[j]
    return a, b, c


@numba.njit(cache=True, forceinline=True, fastmath={"contract"})
@no_type_check
def _along(a, b, c, u, v, w):
    """A spin from exp(h·S) for the field h = (a, b, c), from a number u and a point (v, w) of the unit disc.

    ``_turned`` with as few divisions and roots as can be: they are what a sweep waits for.
    """
    h, inverse = _strength(a, b, c)
    remains = math.exp(-2 * h)
    logarithm = math.log(u + (1 - u) * remains)
    return _at(a, b, c, h, inverse, u, logarithm, v, w)


@numba.njit(cache=True, forceinline=True, fastmath={"contract"})
@no_type_check
def _strength(a, b, c):
    """|h| and its inverse; 0 and 0 for a field that vanishes."""
    squared = a * a + b * b + c * c
    h = math.sqrt(squared)
    return (h, 1 / h) if squared >= 1e-12 else (0.0, 0.0)


@numba.njit(cache=True, forceinline=True, fastmath={"contract"})
@no_type_check
def _at(a, b, c, h, inverse, u, logarithm, v, w):
    """The spin, once log(u + (1 − u) exp(−2h)) is known."""
    cosine = min(max(1 + logarithm * inverse, -1.0), 1.0)
    a, b, c = a * inverse, b * inverse, c * inverse
    if h == 0:
        cosine = 2 * u - 1
        a, b, c = 0.0, 0.0, 1.0
    sine = math.sqrt(1 - cosine * cosine) / (v * v + w * w)
    first, second = sine * (v * v - w * w), sine * 2 * v * w
    sign = math.copysign(1.0, c)
    r = -1 / (sign + c)
    s = first * sign * a + second * b
    return cosine * a + first + a * r * s, cosine * b + second * sign + b * r * s, cosine * c - s


@numba.njit(cache=True)
@no_type_check
def _numbers(state):
    """What a spin is drawn from: a uniform number and a point of the unit disc, twice whose angle is the azimuth.

    von Neumann, Natl. Bur. Stand. Appl. Math. Ser. 12, 36 (1951).
    """
    u = uniform(state)
    v, w = 2 * uniform(state) - 1, 2 * uniform(state) - 1
    while not 0 < v * v + w * w <= 1:
        v, w = 2 * uniform(state) - 1, 2 * uniform(state) - 1
    return u, v, w


@numba.njit(cache=True)
@no_type_check
def _normalised(x, y, z):
    # Every spin was made anew from its field, so that rounding has not added up. A zero vector is no spin, and stays.
    length = math.sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length) if length > 0 else (x, y, z)


@numba.njit(cache=True)
@no_type_check
def draw_often(neighbours, strength, seed, n_sweeps, spins):
    """Sweeps of the heat bath, each through the sites in order or in reverse order: ``draw_spins`` many times over.

    ``strength`` is that of the ``neighbours`` (site, neighbour) of each site. Random numbers come from the ``seed``.
    """
    n_sites = len(spins)
    state = np.empty(4, np.uint64)
    seed_numbers(state, seed)
    x, y, z = spins[:, 0].copy(), spins[:, 1].copy(), spins[:, 2].copy()
    for _ in range(n_sweeps):
        backwards = uniform(state) < 0.5
        for number in range(n_sites):
            site = n_sites - 1 - number if backwards else number
            if x[site] == 0 and y[site] == 0 and z[site] == 0:
                continue
            a, b, c = _gathered(neighbours[site], strength, x, y, z)
            x[site], y[site], z[site] = _along(a, b, c, *_numbers(state))
    for site in range(n_sites):
        spins[site] = _normalised(x[site], y[site], z[site])


@numba.njit(cache=True, forceinline=True)
@no_type_check
def _rows_added(field, where, rows, row, first, end):
    """Adds to h_i = Σ_j w(j − i) S_j of a site in a row the rows to which displacements from ``first`` to ``end`` lead.

    ``where`` has the addresses of spins and of weights from the site on, and the lengths of their rows.
    """
    (a, b, c), (spins, weights, room, n_weights) = field, where
    of_component = np.uint64(8 * len(rows) * room)
    for displacement in range(first, end):
        w = weights + np.uint64(8 * displacement * n_weights)
        s = spins + np.uint64(8 * rows[displacement, row] * room)
        for block in range(room // 8):
            away = np.uint64(64 * block)
            weight = load_anywhere(w + away)
            a = plus_product(a, weight, load_anywhere(s + away))
            b = plus_product(b, weight, load_anywhere(s + of_component + away))
            c = plus_product(c, weight, load_anywhere(s + of_component + of_component + away))
    return a, b, c


@numba.njit(cache=True)
@no_type_check
def draw_often_in_rows(rows, weights, seed, n_sweeps, spins):
    """``draw_often`` where all sites interact: fields are sums over rows of sites, eight sites at a time.

    ``rows`` (displacement, row) is ``lattice.rows_ahead``; ``weights`` (displacement, number) those of the sites of the
    row that a displacement leads to, from the site at the same place of the row on, as often as it takes. They are even
    in the displacement.
    """
    n_rows, n_sites, n_weights = len(rows), len(spins), weights.shape[1]
    extent = n_sites // n_rows
    room, quarter = n_weights - extent, n_rows // 4
    state = np.empty(4, np.uint64)
    seed_numbers(state, seed)
    # Rows begin at multiples of a vector's size, whose loads are faster, and end with sites without a spin.
    memory = np.zeros(3 * n_rows * room + 8)
    first = -(np.int64(memory.ctypes.data) // 8) % 8
    components = memory[first : first + 3 * n_rows * room].reshape(3, n_rows, room)
    for site in range(n_sites):
        for k in range(3):
            components[k, site // extent, site % extent] = spins[site, k]
    start, of_weights = np.uint64(components.ctypes.data), np.uint64(weights.ctypes.data)
    # The weight between a site and the one after it, in the same row and from the last of one to the first of the next.
    within, across = weights[0, 1 % extent], np.zeros(n_rows + 1)
    for row in range(n_rows - 1):
        for displacement in range(n_rows):
            if rows[displacement, row] == row + 1:
                across[row] = weights[displacement, 1 % extent]
    nothing = spread(0.0), spread(0.0), spread(0.0)
    for _ in range(n_sweeps):
        backwards = uniform(state) < 0.5
        row, place = (n_rows - 1, extent - 1) if backwards else (0, 0)
        where = start, of_weights + np.uint64(8 * (extent - place)), room, n_weights
        sums = _rows_added(nothing, where, rows, row, 0, n_rows)
        a, b, c = total(sums[0]), total(sums[1]), total(sums[2])
        for _ in range(n_sites):
            x, y, z = components[0, row, place], components[1, row, place], components[2, row, place]
            is_spin = x != 0 or y != 0 or z != 0
            u = v = w = 1.0
            if is_spin:
                u, v, w = _numbers(state)
            next_row, next_place = row, place - 1 if backwards else place + 1
            if next_place < 0:
                next_row, next_place = max(row - 1, 0), extent - 1
            elif next_place == extent:
                next_row, next_place = min(row + 1, n_rows - 1), 0
            # A spin is a long chain of operations that wait for each other. Between them the processor sums the field
            # of the next one, of the spins as they are.
            where = start, of_weights + np.uint64(8 * (extent - next_place)), room, n_weights
            h, inverse = _strength(a, b, c)
            sums = _rows_added(nothing, where, rows, next_row, quarter, 2 * quarter)
            remains = math.exp(-2 * h)
            sums = _rows_added(sums, where, rows, next_row, 2 * quarter, 3 * quarter)
            logarithm = math.log(u + (1 - u) * remains)
            sums = _rows_added(sums, where, rows, next_row, 3 * quarter, n_rows)
            x_new, y_new, z_new = _at(a, b, c, h, inverse, u, logarithm, v, w)
            sums = _rows_added(sums, where, rows, next_row, 0, quarter)
            a, b, c = total(sums[0]), total(sums[1]), total(sums[2])
            if is_spin:
                components[0, row, place], components[1, row, place], components[2, row, place] = x_new, y_new, z_new
                weight = within if next_row == row else across[min(row, next_row)]
                a, b, c = a + weight * (x_new - x), b + weight * (y_new - y), c + weight * (z_new - z)
            row, place = next_row, next_place
    for site in range(n_sites):
        row, place = site // extent, site % extent
        spins[site] = _normalised(components[0, row, place], components[1, row, place], components[2, row, place])


@numba.njit(cache=True)
@no_type_check
def _matrices(buffer):
    """How many matrices a buffer holds, their rows and their columns."""
    shape = extents(buffer)
    return size(shape[:-2]), shape[-2], shape[-1]


@no_type_check
def _draw_often_call(frame_address):
    """Of every chain on a leading axis, if there is one; what all share has one place on it."""
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 5), results(frame, 1)[0]
        places = numba.carray(data(given[0]), _matrices(given[0]), np.int32)
        weights = numba.carray(data(given[1]), _matrices(given[1]), np.float64)
        seeds = numba.carray(data(given[2]), (size(extents(given[2])),), np.uint64)
        n_sweeps = numba.carray(data(given[3]), (size(extents(given[3])),), np.int32)
        spins = numba.carray(data(given[4]), _matrices(given[4]), np.float64)
        drawn = numba.carray(data(made), _matrices(made), np.float64)
        for chain in range(len(drawn)):
            drawn[chain] = spins[chain % len(spins)]
            here, strengths = places[chain % len(places)], weights[chain % len(weights)]
            seed, n = seeds[chain % len(seeds)], n_sweeps[chain % len(n_sweeps)]
            if len(here) == drawn.shape[1]:
                draw_often(here, strengths[0], seed, n, drawn[chain])
            else:
                draw_often_in_rows(here, strengths, seed, n, drawn[chain])
    return np.uint64(0)


@no_type_check
def _join_call(frame_address):
    frame = frame_words(frame_address)
    if not answers_version(frame):
        drawn, result = arguments(frame, 1)[0], results(frame, 1)[0]
        lattice = extents(drawn)[1:]
        n_sites = size(lattice)
        bonds = numba.carray(data(drawn), (len(lattice), n_sites), np.uint8)
        join(lattice, bonds, numba.carray(data(result), (n_sites,), np.int32))
    return np.uint64(0)


@no_type_check
def _grow_call(frame_address):
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, result = arguments(frame, 6), results(frame, 1)[0]
        n_sites, n_neighbours = extents(given[0])
        sign, probability = numba.carray(data(given[5]), (2,), np.float64)
        grow(
            numba.carray(data(given[0]), (n_sites, n_neighbours), np.int32),
            numba.carray(data(given[1]), (n_sites,), np.float64),
            numba.carray(data(given[2]), (n_sites,), np.uint8),
            numba.carray(data(given[3]), (1,), np.uint64)[0],
            numba.carray(data(given[4]), (1,), np.int32)[0],
            sign,
            probability,
            numba.carray(data(result), (n_sites,), np.uint8),
        )
    return np.uint64(0)


@numba.njit(cache=True)
@no_type_check
def _sweep_buffers(frame):
    """What a sweep reads, and the spins that it changes, which start as those that it is given."""
    given, result = arguments(frame, 5), results(frame, 1)[0]
    n_sites, n_neighbours = extents(given[0])
    spins = numba.carray(data(result), (n_sites, 3), np.float64)
    spins[:] = numba.carray(data(given[4]), (n_sites, 3), np.float64)
    return (
        numba.carray(data(given[0]), (n_sites, n_neighbours), np.int32),
        numba.carray(data(given[1]), (n_neighbours,), np.float64),
        numba.carray(data(given[2]), (n_sites,), np.int32),
        numba.carray(data(given[3]), (n_sites, 2), np.float64),
        spins,
    )


@no_type_check
def _draw_call(frame_address):
    frame = frame_words(frame_address)
    if not answers_version(frame):
        draw_spins(*_sweep_buffers(frame))
    return np.uint64(0)


@no_type_check
def _reflect_call(frame_address):
    frame = frame_words(frame_address)
    if not answers_version(frame):
        reflect_spins(*_sweep_buffers(frame))
    return np.uint64(0)


_CALLS: dict[str, Callable[..., Any]] = {
    "join": _join_call,
    "grow": _grow_call,
    "draw": _draw_call,
    "draw_often": _draw_often_call,
    "reflect": _reflect_call,
}


def custom_call(name: str) -> str:
    """Compiles one of the loops and registers it with XLA; the name to call it by."""
    return compiled_calls.custom_call(name, _CALLS[name])
