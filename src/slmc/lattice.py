"""Periodic hypercubic lattices: neighbour shells, sublattices and symmetry operations.

A lattice is its shape, a tuple of extents such as ``(6, 6)`` or ``(4, 4, 4)``. Sites are numbered in
row-major order, so that an array of shape ``(*shape, 3)`` reshaped to ``(n_sites, 3)`` lists its sites.
Everything here is plain NumPy, computed once for a shape.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from slmc.numbers import count, positive_count

Shape = tuple[int, ...]

MOST_SITES = 2**24
"""Sites of a lattice; more do not fit into the memory of a machine, whatever lives on them."""

MOST_PAIRED_SITES = 2**14
"""Sites of a lattice of which all pairs are tabulated, which takes 4 GB."""


class Shells(NamedTuple):
    """The neighbour shells of a torus, ordered by distance.

    ``shell[i, j]`` is the number of the shell in which site j lies as seen from i (0 is i itself, 1 the
    nearest neighbours, …). ``multiplicity[i, j]`` counts the shortest displacement vectors that lead from
    i to j: on an even extent L the displacements +L/2 and -L/2 reach the same site, which then counts
    twice (four times if two axes do so). With this multiplicity a sum over a shell is the sum over the
    displacement vectors of the infinite lattice, so that couplings mean the same on every lattice size and
    nearest-neighbour hopping has the dispersion -2t Σ_a cos k_a also on an extent of 2.
    """

    squared_distances: np.ndarray
    shell: np.ndarray
    multiplicity: np.ndarray

    @property
    def n_shells(self) -> int:
        return len(self.squared_distances) - 1


def check_shape(shape: Shape) -> Shape:
    """The shape as a tuple of ints; raises ``ValueError`` unless it lists positive whole extents."""
    try:
        result = tuple(positive_count(extent, "extent") for extent in shape)
    except (TypeError, ValueError):
        result = ()
    if not result:
        raise ValueError(f"shape must list one or more positive whole extents, for instance (6, 6); got {shape!r}.")
    if math.prod(result) > MOST_SITES:
        raise ValueError(f"a lattice may have at most {MOST_SITES} sites; got {math.prod(result)}.")
    return result


def n_sites(shape: Shape) -> int:
    return math.prod(shape)


def coordinates(shape: Shape) -> np.ndarray:
    """Integer coordinates of every site, shape (n_sites, dimension)."""
    return np.indices(shape).reshape(len(shape), -1).T


def sites_at(shape: Shape, steps: np.ndarray) -> np.ndarray:
    """Numbers of the sites that each site reaches by each of the ``steps`` (step, axis): shape (site, step)."""
    reached = (coordinates(shape)[:, None, :] + steps[None]) % np.array(shape)
    return np.ravel_multi_index(tuple(np.moveaxis(reached, -1, 0)), shape)


@functools.lru_cache(maxsize=64)
def shells(shape: Shape) -> Shells:
    """All neighbour shells of the torus by distance of the shortest displacement."""
    around, reached_by = shells_of_origin(shape), _displacement_numbers(shape)
    return Shells(around.squared_distances, around.shell[reached_by], around.multiplicity[reached_by])


@functools.lru_cache(maxsize=64)
def shells_of_origin(shape: Shape) -> Shells:
    """``shells`` as seen from site 0 alone: ``shell[j]`` and ``multiplicity[j]``, of O(N) size."""
    shortest, multiplicity = _shortest_displacements(shape)
    distances, shell = np.unique((shortest**2).sum(-1), return_inverse=True)
    return Shells(distances, shell, multiplicity)


def _shortest_displacements(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Components, without sign, of the shortest displacement from site 0 to each, and how many there are."""
    extents, displacement = np.array(shape), coordinates(shape)
    shortest = np.minimum(displacement, extents - displacement)
    wraps = (2 * displacement == extents) & (extents > 1)
    return shortest, 2 ** wraps.sum(-1)


def _displacement_numbers(shape: Shape) -> np.ndarray:
    """The site to which the displacement from i to j leads from site 0, for all i and j.

    Raises ``ValueError`` for a lattice too large for a table of all pairs of sites.
    """
    if n_sites(shape) > MOST_PAIRED_SITES:
        raise ValueError(
            f"tables of all pairs of sites go up to {MOST_PAIRED_SITES} sites; got {n_sites(shape)}, {shape}."
        )
    numbers = np.zeros((n_sites(shape),) * 2, np.int32)
    for along, extent in zip(coordinates(shape).T.astype(np.int32), shape, strict=True):
        numbers *= extent
        numbers += (along[None, :] - along[:, None]) % np.int32(extent)
    return numbers


class Displacements(NamedTuple):
    """The displacements of a torus up to reflections and exchanges of axes, nearest first.

    ``vectors[n]`` are the components of class n, not negative and descending; class 0 is no displacement. ``number``
    and ``multiplicity`` are to classes what ``Shells.shell`` and ``Shells.multiplicity`` are to shells. Unlike shells,
    which on a large lattice unite displacements such as (5, 0) and (4, 3), a class means the same on every torus that
    has it.
    """

    vectors: np.ndarray
    number: np.ndarray
    multiplicity: np.ndarray


@functools.lru_cache(maxsize=64)
def displacements(shape: Shape) -> Displacements:
    """All classes of displacements of the torus."""
    shortest, multiplicity = _shortest_displacements(shape)
    components = np.sort(shortest, axis=-1)[:, ::-1]
    by_distance = np.column_stack([(components**2).sum(-1), components])
    classes, number = np.unique(by_distance, axis=0, return_inverse=True)
    reached_by = _displacement_numbers(shape)
    return Displacements(classes[:, 1:], number.ravel()[reached_by], multiplicity[reached_by])


def resolve_n_shells(shape: Shape, n_shells: int | None, name: str = "n_shells") -> int:
    """``n_shells`` checked against the lattice; ``None`` means all shells of the torus."""
    available = shells_of_origin(shape).n_shells
    if n_shells is None:
        return available
    if not 0 <= count(n_shells, name) <= available:
        raise ValueError(
            f"{name} must lie between 0 and {available}, the number of neighbour shells of the {shape} torus; "
            f"got {n_shells}."
        )
    return n_shells


def shell_sum_matrices(shape: Shape, n_shells: int) -> np.ndarray:
    """Matrices A with (A[n] x)_i = Σ over the displacements of shell n+1 of x at the site they reach from i."""
    of_lattice = shells(shape)
    return np.stack(
        [np.where(of_lattice.shell == n, of_lattice.multiplicity, 0).astype(float) for n in range(1, n_shells + 1)]
        or [np.zeros((0, n_sites(shape), n_sites(shape)))]
    ).reshape(n_shells, n_sites(shape), n_sites(shape))


@functools.lru_cache(maxsize=64)
def neighbours(shape: Shape, n_shells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbour table ``(sites, shell, multiplicity)`` of the first shells.

    ``sites[i, k]`` is the k-th distinct neighbour of i; by translation invariance ``shell[k]`` and
    ``multiplicity[k]`` are the same for every i.
    """
    of_origin = shells_of_origin(shape)
    origin = np.flatnonzero((of_origin.shell >= 1) & (of_origin.shell <= n_shells))
    displacement = coordinates(shape)[origin]
    reached = (coordinates(shape)[:, None, :] + displacement[None, :, :]) % np.array(shape)
    sites = np.ravel_multi_index(tuple(np.moveaxis(reached, -1, 0)), shape)
    return sites, of_origin.shell[origin], of_origin.multiplicity[origin]


@functools.lru_cache(maxsize=64)
def rows_ahead(shape: Shape) -> np.ndarray:
    """The row, a line of sites along the last axis, to which every displacement along the other axes leads from each.

    ``rows_ahead(shape)[d, r]``: displacement d from row r, both in C order.
    """
    leading = shape[:-1]
    rows = np.arange(n_sites(shape) // shape[-1]).reshape(leading)
    axes = tuple(range(len(leading)))
    moved = [np.roll(rows, [-step for step in steps], axes) if steps else rows for steps in np.ndindex(*leading)]
    return np.array(moved, np.int32).reshape(rows.size, rows.size)


def colouring(neighbours_of: np.ndarray) -> np.ndarray:
    """A number for every site, different from those of all its neighbours (``neighbours_of[i]`` lists those of i).

    Sites of one colour can be updated at once where only neighbours interact. Greedy, in the order of the sites: two
    colours for nearest neighbours on even extents (the checkerboard), a few more elsewhere.
    """
    colours = np.full(len(neighbours_of), -1)
    for site, others in enumerate(neighbours_of):
        taken = set(colours[others[others != site]])
        colours[site] = next(colour for colour in itertools.count() if colour not in taken)
    return colours


def staggered_sign(shape: Shape) -> np.ndarray:
    """+1 on one sublattice and -1 on the other, shape ``shape``.

    Raises ``ValueError`` on an odd extent (other than 1), where the torus has no two sublattices.
    """
    if any(extent % 2 and extent > 1 for extent in shape):
        raise ValueError(
            f"shape {shape} has an odd extent, so the torus has no two sublattices and no staggered "
            "magnetization; use even extents."
        )
    return 1 - 2 * (np.indices(shape).sum(0) % 2)


def translations(shape: Shape) -> Iterator[np.ndarray]:
    """All translations as permutations of site numbers."""
    sites = np.arange(n_sites(shape)).reshape(shape)
    for shift in np.ndindex(*shape):
        yield np.roll(sites, shift, axis=tuple(range(len(shape)))).ravel()


def point_group(shape: Shape) -> Iterator[np.ndarray]:
    """The point group of the torus as permutations of site numbers: exchanges of equal axes, reflections."""
    sites = np.arange(n_sites(shape)).reshape(shape)
    axes = range(len(shape))
    for order in itertools.permutations(axes):
        if all(shape[a] == shape[b] for a, b in zip(order, axes, strict=True)):
            for signs in itertools.product((1, -1), repeat=len(shape)):
                index = np.ix_(*[(sign * np.arange(n)) % n for sign, n in zip(signs, shape, strict=True)])
                yield np.transpose(sites, order)[index].ravel()
