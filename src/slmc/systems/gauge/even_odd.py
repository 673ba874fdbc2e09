"""Fields on the sites of one parity, packed along the time axis, and their neighbours."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from slmc.lattice import Shape
from slmc.systems.gauge.links import shifted

EVEN, ODD = 0, 1


class Hopping(NamedTuple):
    """Links with the fermions' phases in them, those of even and those of odd sites, the time axis halved.

    U_μ(x) as matrices for staggered fermions, ``AlignedLinks`` for Wilson and domain-wall ones. Without even–odd
    packing both are the links of the whole lattice.
    """

    even: Array
    odd: Array


def half_shape(shape: Shape) -> Shape:
    """The shape of a field on one parity."""
    return (*shape[:-1], shape[-1] // 2)


def packed(field: Array, dimension: int) -> tuple[Array, Array]:
    """The parts of a field on even and on odd sites.

    Entry j of the packed time axis is the site t = 2j or 2j + 1, whichever has the parity.
    """
    *leading, time_size = field.shape
    pairs = field.reshape(*leading, time_size // 2, 2)
    first = _first_is_even(field.shape[-dimension:], field.ndim)
    return jnp.where(first, pairs[..., 0], pairs[..., 1]), jnp.where(first, pairs[..., 1], pairs[..., 0])


def unpacked(even: Array, odd: Array, dimension: int) -> Array:
    """The field on all sites."""
    shape = (*even.shape[-dimension:-1], 2 * even.shape[-1])
    first = _first_is_even(shape, even.ndim)
    pairs = jnp.stack([jnp.where(first, even, odd), jnp.where(first, odd, even)], axis=-1)
    return pairs.reshape(*even.shape[:-1], shape[-1])


def neighbour(field: Array, direction: int, steps: int, dimension: int, parity: int | None) -> Array:
    """The field at x ± μ for every x of a parity, given on the sites of the other; ``None`` for the whole lattice."""
    if parity is None or direction < dimension - 1:
        return shifted(field, direction, steps, dimension)
    # Where the site of this parity comes first of its pair, x + μ lies in the same pair and x − μ in the one before.
    first = _first_is_even((*field.shape[-dimension:-1], 2 * field.shape[-1]), field.ndim)
    first = first if parity == EVEN else ~first
    same = first if steps == 1 else ~first
    return jnp.where(same, field, shifted(field, direction, steps, dimension))


def _first_is_even(shape: Shape, n_axes: int) -> Array:
    """Whether the earlier site of each pair is even, shaped to broadcast over packed fields."""
    spatial = np.indices(shape[:-1]).sum(0) % 2 == 0
    return jnp.asarray(spatial[..., None].reshape((1,) * (n_axes - len(shape)) + (*shape[:-1], 1)))


def real_part_of_product(first: Complex[Array, "*field"], second: Complex[Array, "*field"]) -> Array:
    """Re ⟨first, second⟩, over all components and sites."""
    return jnp.sum(first.real * second.real + first.imag * second.imag)
