"""Clusters of bonds by union–find, compiled by Numba: the part of a cluster update that no vector program does fast."""

from typing import no_type_check

import numba
import numpy as np

# Without run-time checks of the annotations (``no_type_check``): Numba has to see the bare functions.


@numba.njit(nogil=True)
@no_type_check
def _root(labels: np.ndarray, site: int) -> int:
    while labels[site] != site:
        labels[site] = labels[labels[site]]
        site = labels[site]
    return site


@numba.njit(nogil=True)
@no_type_check
def join(extents: np.ndarray, bonds: np.ndarray, labels: np.ndarray) -> None:
    """Writes into ``labels`` (lattice, site) the least site number of each site's cluster.

    ``bonds`` (lattice, axis, site) says whether the bond to the next site along an axis is drawn; sites are numbered
    in C order on a torus of ``extents``.
    """
    n_sites = labels.shape[1]
    for lattice in range(labels.shape[0]):
        here = labels[lattice]
        for site in range(n_sites):
            here[site] = site
        stride = n_sites
        for axis in range(len(extents)):
            extent = extents[axis]
            stride //= extent
            for site in range(n_sites):
                if bonds[lattice, axis, site]:
                    last = (site // stride) % extent == extent - 1
                    there = site - stride * (extent - 1) if last else site + stride
                    one, other = _root(here, site), _root(here, there)
                    if one < other:
                        here[other] = one
                    else:
                        here[one] = other
        for site in range(n_sites):
            here[site] = here[here[site]]
