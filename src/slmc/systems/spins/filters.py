"""Position-only filters: translation-invariant sums over displacements, symmetric under the point group."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.lattice import Displacements, Shape, displacements, n_sites

DENSE_UP_TO = 64
"""Sites up to which a matrix product is faster than Fourier transforms."""


def n_displacements(shape: Shape, reach: int | None) -> int:
    """Classes of displacements with no component beyond ``reach`` (``None``: all of the torus)."""
    return int(np.sum(_within(displacements(shape), reach)))


def multiplicities(shape: Shape, reach: int | None) -> np.ndarray:
    """Number of displacement vectors of every class within reach."""
    torus = displacements(shape)
    counts = np.bincount(torus.number[0], weights=torus.multiplicity[0])
    return counts[_within(torus, reach)]


def filtered(
    shape: Shape, reach: int | None, weights: Float[Array, "filter displacement"], fields: Float[Array, "field 3 site"]
) -> Float[Array, "filter 3 site"]:
    """y_c,i = Σ_d w_c,d Σ_{j at a displacement of class d from i} x_c,j.

    There are as many fields as filters, or one field for all filters. Summed as a matrix product on small lattices
    and by Fourier transforms, O(N log N), on larger ones.
    """
    if n_sites(shape) <= DENSE_UP_TO:
        matrices = _spread(shape, reach, weights, slice(None))
        if len(fields) == 1:
            return jnp.einsum("kj,cji->cki", fields[0], matrices)
        return jnp.einsum("ckj,cji->cki", fields, matrices)
    axes = tuple(range(-len(shape), 0))
    kernels = jnp.fft.rfftn(_spread(shape, reach, weights, 0).reshape(-1, 1, *shape), axes=axes).real
    waves = jnp.fft.rfftn(fields.reshape(-1, 3, *shape), axes=axes)
    return jnp.fft.irfftn(waves * kernels.astype(waves.dtype), shape, axes).reshape(-1, 3, n_sites(shape))


def spectral_sum(shape: Shape, row: Float[Array, " site"], fields: Float[Array, "site component"]) -> Float[Array, ""]:
    """Σ_ij w(j − i) x_i·x_j by Fourier transforms, for weights w that are even in every component of a displacement.

    ``row`` holds the weights from the first site. Σ_k w(k) |x(k)|²/N, where half of the waves along the last axis stand
    for two each.
    """
    axes = tuple(range(-len(shape), 0))
    weights = jnp.fft.rfftn(row.reshape(shape), axes=axes).real
    waves = jnp.fft.rfftn(fields.T.reshape(-1, *shape), axes=axes)
    number = np.arange(shape[-1] // 2 + 1)
    stands_for = jnp.asarray(np.where((number == 0) | (2 * number == shape[-1]), 1, 2) / n_sites(shape), row.dtype)
    return jnp.sum((waves.real**2 + waves.imag**2) * (weights * stands_for).astype(waves.real.dtype))


def carried(
    weights: Float[Array, "*kept displacement"], old: Shape, old_reach: int | None, new: Shape, new_reach: int | None
) -> Float[Array, "*kept other"]:
    """Weights by displacement of one lattice as weights of another; displacements that the old one lacks get zero."""
    before, after = (displacements(shape).vectors for shape in (old, new))
    before, after = before[_within(displacements(old), old_reach)], after[_within(displacements(new), new_reach)]
    known = {tuple(vector): place for place, vector in enumerate(before)}
    result = np.zeros((*weights.shape[:-1], len(after)))
    for place, vector in enumerate(after):
        if tuple(vector) in known:
            result[..., place] = np.asarray(weights)[..., known[tuple(vector)]]
    return jnp.asarray(result)


def _within(torus: Displacements, reach: int | None) -> np.ndarray:
    return np.full(len(torus.vectors), True) if reach is None else torus.vectors.max(-1) <= reach


def _spread(shape: Shape, reach: int | None, weights: Float[Array, "filter displacement"], rows: int | slice) -> Array:
    """The weight with which each site enters the sum of each of the chosen sites."""
    torus = displacements(shape)
    within = _within(torus, reach)
    # Classes are ordered by distance, not by reach.
    place = np.where(within, np.cumsum(within) - 1, 0)[torus.number[rows]]
    factor = np.where(within[torus.number[rows]], torus.multiplicity[rows], 0)
    factor = factor.reshape((1,) * (weights.ndim - 1) + factor.shape)
    return weights[..., place] * jnp.asarray(factor, weights.dtype)
