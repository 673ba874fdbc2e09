"""The gauge field: an SU(N) matrix on every link of a periodic lattice in two to four dimensions.

Conventions are on one page, docs/explanation/gauge-conventions.md.
"""

import itertools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Key

from slmc.lattice import Shape, check_shape
from slmc.montecarlo.special_unitary import Matrices, SpecialUnitary, as_matrices, as_points, dagger, identity, multiply

Links = Float[Array, "direction *lattice 2 n n"]
"""U_μ(x), the matrix that leads from x to x + μ: direction, coordinates, real and imaginary part, row, column."""

LinkMatrices = Complex[Array, "n n direction *lattice"]
"""The gauge field as complex matrices with components first (``as_matrices``), as everything below works with it."""

SiteMatrices = Float[Array, "*lattice 2 n n"]
"""A matrix on every site: a gauge transformation."""


def check_lattice(shape: Shape) -> Shape:
    """The shape as a tuple of ints; raises ``ValueError`` unless it has two to four axes of positive extent."""
    shape = check_shape(shape)
    if not 2 <= len(shape) <= 4:
        raise ValueError(f"a gauge field needs a lattice of 2 to 4 dimensions, for instance (4, 4, 4, 4); got {shape}.")
    return shape


def check_even(shape: Shape, what: str) -> None:
    """Raises ``ValueError`` if an extent is odd, where ``what`` needs a checkerboard."""
    if any(extent % 2 for extent in shape):
        raise ValueError(f"{what} needs even extents in every direction; got {shape}.")


def links_shape(shape: Shape, n_colours: int) -> tuple[int, ...]:
    """The shape of the array that holds a gauge field."""
    return (len(shape), *check_lattice(shape), 2, n_colours, n_colours)


def unit_links(shape: Shape, n_colours: int) -> Links:
    """The ordered start: every link the unit matrix, every plaquette 1."""
    unit = identity(n_colours, 1 + len(check_lattice(shape)))
    return as_points(jnp.broadcast_to(unit, (n_colours, n_colours, len(shape), *shape)))


def random_links(key: Key[Array, ""], shape: Shape, n_colours: int, *leading: int) -> Links:
    """The disordered start: every link from the Haar measure; ``leading`` axes count chains."""
    return SpecialUnitary().random(key, (*leading, *links_shape(shape, n_colours)))


def shifted(field: Array, direction: int, steps: int, dimension: int) -> Array:
    """The field at x + steps·μ, where the last ``dimension`` axes are those of the lattice."""
    return jnp.roll(field, -steps, direction - dimension)


def transformed(links: Links, by: SiteMatrices) -> Links:
    """The gauge-transformed field, U_μ(x) → g(x) U_μ(x) g(x + μ)†."""
    u, g = as_matrices(links), as_matrices(by)
    dimension = len(links)
    moved = [multiply(multiply(g, u[:, :, mu]), dagger(shifted(g, mu, 1, dimension))) for mu in range(dimension)]
    return as_points(jnp.stack(moved, axis=2))


def line(u: LinkMatrices, direction: int, length: int) -> Matrices:
    """The product of ``length`` links along a direction, from every site x to x + length·μ."""
    dimension = u.shape[2]
    product = u[:, :, direction]
    for step in range(1, length):
        product = multiply(product, shifted(u[:, :, direction], direction, step, dimension))
    return product


def rectangle(u: LinkMatrices, first: int, second: int, lengths: tuple[int, int] = (1, 1)) -> Float[Array, "*lattice"]:
    """Re tr of the closed loop from every site: ``lengths[0]`` links along ``first``, ``lengths[1]`` along ``second``.

    (1, 1) is the plaquette U_μ(x) U_ν(x+μ) U_μ(x+ν)† U_ν(x)†.
    """
    dimension = u.shape[2]
    bottom, side = line(u, first, lengths[0]), line(u, second, lengths[1])
    out = multiply(bottom, shifted(side, first, lengths[0], dimension))
    back = multiply(side, shifted(bottom, second, lengths[1], dimension))
    return jnp.sum(out.real * back.real + out.imag * back.imag, axis=(0, 1))


def polyakov_lines(u: LinkMatrices, direction: int) -> Matrices:
    """The product of all links along a direction, closed by periodicity, at every transverse site."""
    along = jnp.moveaxis(u[:, :, direction], 2 + direction, 0)
    product = along[0]
    for step in range(1, len(along)):
        product = multiply(product, along[step])
    return product


def planes(dimension: int) -> Iterator[tuple[int, int]]:
    """The pairs of directions μ < ν."""
    return itertools.combinations(range(dimension), 2)


def staples(u: LinkMatrices, direction: int) -> Matrices:
    """A(x) with Σ over plaquettes that hold U_μ(x) of Re tr P = Re tr U_μ(x) A(x), for one direction μ.

    Each of the 2(d − 1) terms is the product of the three other links, running from x + μ to x. On an extent of 2 or
    more no staple holds the link itself, so that A is what a heat bath needs.
    """
    dimension = u.shape[2]
    here = u[:, :, direction]
    total = jnp.zeros_like(here)
    for other in range(dimension):
        if other == direction:
            continue
        side = u[:, :, other]
        far_side = shifted(side, direction, 1, dimension)
        above = multiply(far_side, dagger(multiply(side, shifted(here, other, 1, dimension))))
        below = multiply(dagger(multiply(here, far_side)), side)
        total = total + above + shifted(below, other, -1, dimension)
    return total


def parity(shape: Shape) -> np.ndarray:
    """0 on even and 1 on odd sites, by the sum of coordinates."""
    return np.indices(shape).sum(0) % 2


__all__ = [
    "LinkMatrices",
    "Links",
    "SiteMatrices",
    "check_even",
    "check_lattice",
    "line",
    "links_shape",
    "parity",
    "planes",
    "polyakov_lines",
    "random_links",
    "rectangle",
    "shifted",
    "staples",
    "transformed",
    "unit_links",
]
