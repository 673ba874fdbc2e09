"""What lattice fermions have in common: a Hermitian positive operator A and fields on which it acts."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Key

from slmc.lattice import Shape
from slmc.montecarlo.special_unitary import Matrices
from slmc.systems.gauge.even_odd import Hopping
from slmc.systems.gauge.links import LinkMatrices

FermionField = Complex[Array, "..."]
"""Spin and layer (if any), colour, then the sites of one parity (or all)."""


class FermionOperator(eqx.Module):
    """A lattice Dirac operator M through the Hermitian positive A with det A = |det M|^(2 n_fields).

    ``n_tastes`` flavours have the weight det A. For staggered fermions A is M†M on even sites (four tastes); for Wilson
    fermions M̂†M̂ with the even–odd preconditioned M̂ (two flavours). What acts on fields takes the links through
    ``prepare``, once for many applications.

    To write your own: A must be Hermitian and positive, ``factor`` give B with A = B B†, and ``dense_factor`` agree
    with ``normal``, A ψ = B B†ψ. Where the weight needs bosonic fields besides, as that of domain walls does, targets
    take them as their ``denominator``.
    """

    shape: eqx.AbstractVar[Shape]
    n_colours: eqx.AbstractVar[int]
    antiperiodic: eqx.AbstractVar[bool]
    n_tastes: eqx.AbstractClassVar[int]

    @property
    @abc.abstractmethod
    def components(self) -> tuple[int, ...]:
        """Spin (if any) and colour: the components at a site of a source of ``propagator``."""

    @property
    @abc.abstractmethod
    def field_shape(self) -> tuple[int, ...]:
        """The shape of a field on which A acts."""

    @property
    @abc.abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of a field on which B acts."""

    @abc.abstractmethod
    def prepare(self, u: LinkMatrices) -> Hopping:
        """The links as A needs them, with boundary conditions and phases."""

    @abc.abstractmethod
    def normal(self, hopping: Hopping, field: FermionField) -> FermionField:
        """A ψ."""

    @abc.abstractmethod
    def factor(self, hopping: Hopping, noise: FermionField) -> FermionField:
        """B χ with A = B B†."""

    @abc.abstractmethod
    def adjoint_factor(self, hopping: Hopping, field: FermionField) -> FermionField:
        """B†ψ."""

    @abc.abstractmethod
    def dense_factor(self, hopping: Hopping) -> tuple[Float[Array, ""], Complex[Array, "state other"]]:
        """A number s and a matrix X with A = s + X X†; for small lattices."""

    def dense(self, hopping: Hopping) -> Complex[Array, "state state"]:
        """A as a matrix; for small lattices."""
        return shifted_square(*self.dense_factor(hopping))

    @abc.abstractmethod
    def spectrum(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Bounds of the eigenvalues of A on every gauge field (0 where there is none from below)."""

    @abc.abstractmethod
    def propagator(self, hopping: Hopping, source: FermionField, solve) -> FermionField:
        """M⁻¹ of a source on the whole lattice, where ``solve(b)`` is A⁻¹ b."""


def check_denominator(operator: FermionOperator, denominator: FermionOperator | None) -> None:
    """Raises ``ValueError`` unless the two are of one kind, on one lattice, with fields of one shape."""
    if denominator is None:
        return
    same = all(
        getattr(operator, name) == getattr(denominator, name) for name in ("shape", "field_shape", "antiperiodic")
    )
    if type(operator) is not type(denominator) or not same:
        raise ValueError(
            "the denominator must be an operator of the same kind on the same lattice, with the same boundary "
            "conditions and fields of the same shape: only its mass and like numbers may differ."
        )


def gaussian_field(key: Key[Array, ""], shape: tuple[int, ...]) -> FermionField:
    """χ with density exp(−χ†χ): real and imaginary parts of variance 1/2."""
    parts = jax.random.normal(key, (2, *shape), jnp.float64) / np.sqrt(2)
    return jax.lax.complex(parts[0], parts[1])


def with_boundary(u: LinkMatrices, antiperiodic: bool) -> LinkMatrices:
    """The links with −1 on those that cross the end of the last direction (time) if that is antiperiodic."""
    if not antiperiodic:
        return u
    dimension, time_size = u.shape[2], u.shape[-1]
    sign = np.ones((1, 1, dimension, *(1,) * (dimension - 1), time_size))
    sign[0, 0, -1, ..., -1] = -1
    return u * jnp.asarray(sign, u.dtype)


def act(u: Matrices, field: FermionField) -> FermionField:
    """U ψ at every site; the colour of ψ is the axis before those of the lattice."""
    colour = field.ndim - u.ndim + 1
    by_colour = jnp.moveaxis(field, colour, 0)
    spin = (None,) * colour
    products = [jnp.expand_dims(by_colour[k], colour) * u[:, k][spin] for k in range(len(u))]
    return sum(products[1:], products[0])


def shifted_square(shift: Float[Array, ""], matrix: Complex[Array, "state other"]) -> Complex[Array, "state state"]:
    """s + X X†, by real products, of which three do: XLA multiplies complex matrices on CPUs at half their speed."""
    both = jnp.concatenate([matrix.real, matrix.imag], axis=1)
    across = matrix.imag @ matrix.real.T
    unit = jnp.eye(len(matrix), dtype=both.dtype)
    return jax.lax.complex(shift.astype(both.dtype) * unit + both @ both.T, across - across.T)


def columns(function, shape: tuple[int, ...]) -> Complex[Array, "out state"]:
    """The matrix of a linear function of a field of the given shape."""
    size = int(np.prod(shape))
    units = jnp.eye(size, dtype=jnp.complex128).reshape(size, *shape)
    return jax.vmap(lambda unit: function(unit).reshape(-1), out_axes=1)(units)
