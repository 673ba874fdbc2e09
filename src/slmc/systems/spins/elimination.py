"""In which order the sites of a lattice are eliminated from a determinant: once for a lattice, in plain Python.

A matrix with a block for every pair of sites that hop is factored in two stages. First go the ``eliminated`` sites, no
two of which hop to each other (one sublattice, where there are two): each is inverted by itself. What remains couples
the ``kept`` sites through the eliminated ones; these are ordered by minimum degree and gathered into fronts, dense
matrices of a few pivots and the later sites they touch (multifrontal elimination: Duff, Reid, ACM Trans. Math. Softw.
9, 302 (1983)).
"""

import functools
import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from slmc.lattice import Shape, neighbours


class Front(NamedTuple):
    """Pivots, and the later sites that they touch: numbers of kept sites."""

    pivots: list[int]
    border: set[int]
    children: list[int]

    @property
    def size(self) -> int:
        return len(self.pivots) + len(self.border)


class Elimination(NamedTuple):
    """What the factorisation needs to know of a lattice.

    ``tables`` holds all indices in one array of int32: a header with the places of the parts (see ``_HEADER``), and the
    parts. ``n_products`` counts products of blocks, the cost of a factorisation. ``bipartite`` says that kept sites do
    not hop to each other.
    """

    tables: np.ndarray
    n_kept: int
    n_products: int
    bipartite: bool


_HEADER = (
    "eliminated_sites",
    "kept_sites",
    "n_pivots",
    "front_sizes",
    "front_starts",
    "compact_starts",
    "child_starts",
    "children",
    "relative_starts",
    "relative",
    "term_starts",
    "term_places",
    "term_eliminated",
    "term_hops",
    "hop_starts",
    "hop_places",
    "hops",
)
"""The parts of ``Elimination.tables`` in their order; the header has the place of each, and of the end."""


@functools.lru_cache(maxsize=16)
def elimination(shape: Shape, n_shells: int) -> Elimination:
    """The elimination of a lattice whose sites hop to all of the first ``n_shells`` shells."""
    sites = neighbours(shape, n_shells)[0]
    eliminated = _independent_sites(sites)
    kept = np.flatnonzero(~eliminated)
    terms, hops = _terms(sites, eliminated, kept), _hops(sites, eliminated, kept)
    fronts = _fronts(_adjacency(len(kept), (terms, hops)))
    tables = _tables(np.flatnonzero(eliminated), kept, terms, hops, fronts)
    n_products = sum(_n_products(len(front.pivots), front.size) for front in fronts)
    return Elimination(tables, len(kept), n_products, not len(hops))


def _independent_sites(sites: np.ndarray) -> np.ndarray:
    """Which sites go first: no two of them hop to each other. On even extents the first sublattice."""
    chosen = np.zeros(len(sites), bool)
    for site, others in enumerate(sites):
        chosen[site] = not chosen[others].any()
    return chosen


def _terms(sites: np.ndarray, eliminated: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """How kept sites couple through eliminated ones: row, column, eliminated site, number of the pair of hops."""
    number, n_hops = _numbers(kept, len(sites)), sites.shape[1]
    around = number[sites[eliminated]]
    first, second = (index.ravel() for index in np.indices((n_hops, n_hops)))
    through = np.arange(len(around))[:, None]
    parts = (around[:, first], around[:, second], through, first * n_hops + second)
    return np.stack(np.broadcast_arrays(*parts), -1).reshape(-1, 4)


def _hops(sites: np.ndarray, eliminated: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """How kept sites hop to each other: row, column, hop."""
    number = _numbers(kept, len(sites))
    here, hop = np.nonzero(~eliminated[:, None] & ~eliminated[sites])
    return np.stack([number[here], number[sites[here, hop]], hop], -1)


def _numbers(kept: np.ndarray, n_sites: int) -> np.ndarray:
    number = np.full(n_sites, -1)
    number[kept] = np.arange(len(kept))
    return number


def _adjacency(n_kept: int, couplings: Iterable[np.ndarray]) -> list[set[int]]:
    """The other kept sites that each couples to."""
    coupled: list[set[int]] = [set() for _ in range(n_kept)]
    for rows in couplings:
        for row, column in rows[:, :2].tolist():
            if row != column:
                coupled[row].add(column)
    return coupled


def _fronts(adjacency: list[set[int]]) -> list[Front]:
    """The fronts, children before parents, each merged into its parent where that is cheaper."""
    order, borders = _minimum_degree(adjacency)
    rank = {site: position for position, site in enumerate(order)}
    fronts = {site: Front([site], borders[site], []) for site in order}
    roots = []
    for site in order:
        front = fronts[site]
        for child in sorted(front.children, key=lambda child: fronts[child].size):
            _merge_if_cheaper(fronts, child, site)
        if front.border:
            fronts[min(front.border, key=rank.__getitem__)].children.append(site)
        else:
            roots.append(site)
    return _children_first(fronts, roots)


def _minimum_degree(adjacency: list[set[int]]) -> tuple[list[int], list[set[int]]]:
    """Always the site that touches the fewest others goes next; what each touches when it goes."""
    touched = [set(others) for others in adjacency]
    queue = [(len(others), site) for site, others in enumerate(touched)]
    heapq.heapify(queue)
    order, gone = [], [False] * len(touched)
    while queue:
        degree, site = heapq.heappop(queue)
        if gone[site] or degree != len(touched[site]):
            continue
        gone[site] = True
        order.append(site)
        for other in touched[site]:
            touched[other] |= touched[site]
            touched[other] -= {other, site}
            heapq.heappush(queue, (len(touched[other]), other))
    return order, touched


def _merge_if_cheaper(fronts: dict[int, Front], child: int, parent: int) -> None:
    lower, upper = fronts[child], fronts[parent]
    n_pivots = len(lower.pivots) + len(upper.pivots)
    apart = _cost(len(lower.pivots), lower.size) + _cost(len(upper.pivots), upper.size)
    if _cost(n_pivots, len(lower.pivots) + upper.size) <= apart:
        upper.pivots[:0] = lower.pivots
        upper.children.remove(child)
        upper.children.extend(lower.children)
        del fronts[child]


def _n_products(n_pivots: int, size: int) -> int:
    """Products of blocks that take the pivots out of a front."""
    return sum((size - pivot - 1) * (size - pivot) for pivot in range(n_pivots))


def _cost(n_pivots: int, size: int) -> float:
    """Of a front, in products of blocks; setting up a block and handing it to the parent cost about one each."""
    return _n_products(n_pivots, size) + size**2 + (size - n_pivots) ** 2


def _children_first(fronts: dict[int, Front], roots: list[int]) -> list[Front]:
    """The fronts in the order of elimination, each soon after its children, which are named by position."""
    parents_first, waiting = [], list(roots)
    while waiting:
        site = waiting.pop()
        parents_first.append(site)
        waiting.extend(fronts[site].children)
    position = {site: number for number, site in enumerate(reversed(parents_first))}
    children = {site: [position[child] for child in fronts[site].children] for site in position}
    return [fronts[site]._replace(children=children[site]) for site in position]


def _tables(
    eliminated: np.ndarray, kept: np.ndarray, terms: np.ndarray, hops: np.ndarray, fronts: list[Front]
) -> np.ndarray:
    """All indices as one array of int32."""
    order = [site for front in fronts for site in front.pivots]
    rank = _numbers(np.array(order), len(kept)).tolist()
    members = [[*front.pivots, *sorted(front.border, key=rank.__getitem__)] for front in fronts]
    positions = [{site: position for position, site in enumerate(sites)} for sites in members]
    parent = {child: number for number, front in enumerate(fronts) for child in front.children}
    relative = [
        [positions[parent[number]][site] for site in members[number][len(front.pivots) :]]
        for number, front in enumerate(fronts)
    ]
    sizes = np.array([len(sites) for sites in members])
    places = _Places(rank, [number for number, front in enumerate(fronts) for _ in front.pivots], positions)
    term_starts, term_places, terms = places.by_front(terms)
    hop_starts, hop_places, hops = places.by_front(hops)
    parts = {
        "eliminated_sites": eliminated,
        "kept_sites": kept[order],
        "n_pivots": [len(front.pivots) for front in fronts],
        "front_sizes": sizes,
        "front_starts": _starts(sizes**2),
        "compact_starts": _compact_starts(sizes, [front.children for front in fronts]),
        "child_starts": _starts([len(front.children) for front in fronts]),
        "children": _joined(front.children for front in fronts),
        "relative_starts": _starts([len(numbers) for numbers in relative]),
        "relative": _joined(relative),
        "term_starts": term_starts,
        "term_places": term_places,
        "term_eliminated": terms[:, 2],
        "term_hops": terms[:, 3],
        "hop_starts": hop_starts,
        "hop_places": hop_places,
        "hops": hops[:, 2],
    }
    return _packed([np.asarray(parts[name]) for name in _HEADER])


class _Places(NamedTuple):
    """Where blocks (row, column) lie: in the front that takes out the earlier of the two."""

    rank: list[int]
    front_of_rank: list[int]
    positions: list[dict[int, int]]

    def by_front(self, couplings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the couplings of each front start, the places of their blocks, and the couplings in that order."""
        pairs = couplings[:, :2].tolist()
        fronts = np.array([self.front_of_rank[min(self.rank[i], self.rank[j])] for i, j in pairs], int)
        order = np.argsort(fronts, kind="stable")
        places = [self._place(front, *pairs[n]) for front, n in zip(fronts[order].tolist(), order, strict=True)]
        starts = np.searchsorted(fronts[order], np.arange(len(self.positions) + 1))
        return starts, np.array(places, int), couplings[order]

    def _place(self, front: int, row: int, column: int) -> int:
        position = self.positions[front]
        return position[row] * len(position) + position[column]


def _compact_starts(sizes: np.ndarray, children: list[list[int]]) -> np.ndarray:
    """Where fronts start, and how long the memory is, if each may lie where fronts that are done with lay.

    A front is done with when its parent has taken up what it left.
    """
    used: dict[int, int] = {}
    starts: list[int] = []
    longest = 0
    for number, size in enumerate(sizes.tolist()):
        start = 0
        for other in sorted(used, key=starts.__getitem__):
            if starts[other] - start >= size**2:
                break
            start = starts[other] + used[other]
        starts.append(start)
        used[number] = size**2
        longest = max(longest, start + size**2)
        for child in children[number]:
            del used[child]
    return np.array([*starts, longest])


def _packed(parts: list[np.ndarray]) -> np.ndarray:
    header = len(parts) + 1 + _starts([len(part) for part in parts])
    return np.concatenate([header, *parts]).astype(np.int32)


def _starts(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(int)


def _joined(lists: Iterable[list[int]]) -> np.ndarray:
    return np.array([number for numbers in lists for number in numbers], int)
