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
    "child_starts",
    "children",
    "relative_starts",
    "relative",
    "entry_starts",
    "entry_places",
    "entry_sites",
    "term_starts",
    "term_eliminated",
    "term_hops",
    "hop_starts",
    "hops",
)
"""The parts of ``Elimination.tables`` in their order; the header has the place of each, and of the end."""


@functools.lru_cache(maxsize=16)
def elimination(shape: Shape, n_shells: int) -> Elimination:
    """The elimination of a lattice whose sites hop to all of the first ``n_shells`` shells."""
    sites = neighbours(shape, n_shells)[0]
    eliminated = _independent_sites(sites)
    kept = np.flatnonzero(~eliminated)
    entries = _Entries.of(sites, eliminated, kept)
    fronts = _fronts(entries.adjacency())
    tables = _tables(sites, np.flatnonzero(eliminated), kept, entries, fronts)
    n_products = sum(_n_products(len(front.pivots), front.size) for front in fronts)
    return Elimination(tables, len(kept), n_products, not len(entries.hops))


def _independent_sites(sites: np.ndarray) -> np.ndarray:
    """Which sites go first: no two of them hop to each other. On even extents the first sublattice."""
    chosen = np.zeros(len(sites), bool)
    for site, others in enumerate(sites):
        chosen[site] = not chosen[others].any()
    return chosen


class _Entries(NamedTuple):
    """The blocks (row, column) of the matrix of kept sites, and of what they are sums."""

    rows: np.ndarray
    columns: np.ndarray
    term_starts: np.ndarray
    terms: np.ndarray
    hop_starts: np.ndarray
    hops: np.ndarray

    @staticmethod
    def of(sites: np.ndarray, eliminated: np.ndarray, kept: np.ndarray) -> "_Entries":
        """Terms are (eliminated site, hop to the row, hop to the column), hops those between kept sites."""
        number = np.full(len(sites), -1)
        number[kept] = np.arange(len(kept))
        n_kept, n_hops = len(kept), sites.shape[1]
        through = np.flatnonzero(eliminated)
        first, second = (index.ravel() for index in np.indices((n_hops, n_hops)))
        term_keys = number[sites[through][:, first]] * n_kept + number[sites[through][:, second]]
        terms = np.stack(np.broadcast_arrays(np.arange(len(through))[:, None], first * n_hops + second), -1)
        here, hop = np.nonzero(~eliminated[:, None] & ~eliminated[sites])
        hop_keys = number[here] * n_kept + number[sites[here, hop]]
        diagonal = np.arange(n_kept) * (n_kept + 1)
        keys = np.unique(np.concatenate([diagonal, term_keys.ravel(), hop_keys]))
        terms, term_starts = _grouped(keys, term_keys.ravel(), terms.reshape(-1, 2))
        hops, hop_starts = _grouped(keys, hop_keys, hop)
        return _Entries(keys // n_kept, keys % n_kept, term_starts, terms, hop_starts, hops)

    def adjacency(self) -> list[set[int]]:
        """The other kept sites that each touches."""
        touched: list[set[int]] = [set() for _ in range(self.rows.max() + 1)]
        for row, column in zip(self.rows.tolist(), self.columns.tolist(), strict=True):
            if row != column:
                touched[row].add(column)
        return touched


def _grouped(keys: np.ndarray, of: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values ordered by their keys, and where those of each key start."""
    order = np.argsort(of, kind="stable")
    return values[order], np.searchsorted(of[order], np.append(keys, keys[-1] + 1))


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
    one, other = fronts[child], fronts[parent]
    n_pivots = len(one.pivots) + len(other.pivots)
    apart = _cost(len(one.pivots), one.size) + _cost(len(other.pivots), other.size)
    if _cost(n_pivots, len(one.pivots) + other.size) <= apart:
        other.pivots[:0] = one.pivots
        other.children.remove(child)
        other.children.extend(one.children)
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
    sites: np.ndarray, eliminated: np.ndarray, kept: np.ndarray, entries: _Entries, fronts: list[Front]
) -> np.ndarray:
    """All indices as one array of int32."""
    order = [site for front in fronts for site in front.pivots]
    rank = np.empty(len(kept), int)
    rank[order] = np.arange(len(kept))
    members = [[*front.pivots, *sorted(front.border, key=rank.__getitem__)] for front in fronts]
    place = [{site: position for position, site in enumerate(sites_of)} for sites_of in members]
    home = {site: number for number, front in enumerate(fronts) for site in front.pivots}
    parent = {child: number for number, front in enumerate(fronts) for child in front.children}
    relative = [
        [place[parent[number]][site] for site in members[number][len(front.pivots) :]]
        for number, front in enumerate(fronts)
    ]
    pairs = list(zip(entries.rows.tolist(), entries.columns.tolist(), strict=True))
    homes = np.array([home[row if rank[row] < rank[column] else column] for row, column in pairs])
    by_front = np.argsort(homes, kind="stable")
    places = [place[homes[n]][pairs[n][0]] * len(members[homes[n]]) + place[homes[n]][pairs[n][1]] for n in by_front]
    terms, term_starts = _reordered(entries.terms, entries.term_starts, by_front)
    hops, hop_starts = _reordered(entries.hops, entries.hop_starts, by_front)
    diagonal = [kept[row] if row == column else -1 for row, column in (pairs[n] for n in by_front)]
    sizes = np.array([len(sites_of) for sites_of in members])
    parts = {
        "eliminated_sites": eliminated,
        "kept_sites": kept,
        "n_pivots": [len(front.pivots) for front in fronts],
        "front_sizes": sizes,
        "front_starts": _starts(sizes**2),
        "child_starts": _starts([len(front.children) for front in fronts]),
        "children": _joined(front.children for front in fronts),
        "relative_starts": _starts([len(positions) for positions in relative]),
        "relative": _joined(relative),
        "entry_starts": np.searchsorted(homes[by_front], np.arange(len(fronts) + 1)),
        "entry_places": places,
        "entry_sites": diagonal,
        "term_starts": term_starts,
        "term_eliminated": terms[:, 0],
        "term_hops": terms[:, 1],
        "hop_starts": hop_starts,
        "hops": hops,
    }
    return _packed([np.asarray(parts[name]) for name in _HEADER])


def _packed(parts: list[np.ndarray]) -> np.ndarray:
    header = len(parts) + 1 + _starts([len(part) for part in parts])
    return np.concatenate([header, *parts]).astype(np.int32)


def _starts(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(int)


def _joined(lists: Iterable[list[int]]) -> np.ndarray:
    return np.array([number for numbers in lists for number in numbers], int)


def _reordered(values: np.ndarray, starts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups of values in another order, and where each starts."""
    pieces = [values[starts[n] : starts[n + 1]] for n in order]
    return np.concatenate(pieces), _starts([len(piece) for piece in pieces])
