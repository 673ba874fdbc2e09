"""Staggered (Kogut–Susskind) fermions."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slmc.lattice import Shape
from slmc.montecarlo.special_unitary import dagger
from slmc.numbers import positive
from slmc.systems.gauge.even_odd import EVEN, ODD, Hopping, half_shape, neighbour, packed, unpacked
from slmc.systems.gauge.fermion_operator import FermionField, FermionOperator, act, with_boundary
from slmc.systems.gauge.gauge_action import check_colours
from slmc.systems.gauge.links import LinkMatrices, check_even, check_lattice


class Staggered(FermionOperator):
    """M = m + D, D ψ(x) = ½ Σ_μ η_μ(x) [U_μ(x) ψ(x+μ) − U_μ(x−μ)† ψ(x−μ)], η_μ = (−1)^(x_0 + … + x_{μ−1}).

    D is antihermitian and joins even with odd sites, so M†M = m² − D² does not mix them; A is its even half,

        A = m² + D_eo D_eo†,   det A = det M,   m² ≤ A ≤ m² + d²,

    which stands for four tastes in four dimensions. Kogut, Susskind, PRD 11, 395 (1975). ``mass`` is m in lattice
    units. Raises ``ValueError`` for an odd extent, where η_μ and the two parities do not exist, and for a mass that is
    not positive.
    """

    n_tastes = 4

    shape: Shape = eqx.field(static=True)
    n_colours: int = eqx.field(static=True)
    mass: Float[Array, ""]
    antiperiodic: bool = eqx.field(static=True)

    def __init__(self, shape: Shape, n_colours: int, mass: float, antiperiodic: bool = True) -> None:
        self.shape, self.n_colours = check_lattice(shape), check_colours(n_colours)
        check_even(self.shape, "a staggered fermion")
        positive(mass, "the mass of a staggered fermion")
        self.mass, self.antiperiodic = jnp.asarray(mass, jnp.float64), antiperiodic

    @property
    def components(self) -> tuple[int, ...]:
        return (self.n_colours,)

    @property
    def field_shape(self) -> tuple[int, ...]:
        return (self.n_colours, *half_shape(self.shape))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (2, *self.field_shape)

    def prepare(self, u: LinkMatrices) -> Hopping:
        signed = with_boundary(u, self.antiperiodic) * jnp.asarray(
            staggered_phases(self.shape)[None, None] / 2, u.dtype
        )
        return Hopping(*packed(signed, len(self.shape)))

    def normal(self, hopping: Hopping, field: FermionField) -> FermionField:
        return self._squared_mass(field) * field - self.derivative(hopping, self.derivative(hopping, field, ODD), EVEN)

    def factor(self, hopping: Hopping, noise: FermionField) -> FermionField:
        """The even half of M†χ for χ on the whole lattice: m χ_e − D_eo χ_o."""
        return self.mass.astype(noise.dtype) * noise[0] - self.derivative(hopping, noise[1], EVEN)

    def adjoint_factor(self, hopping: Hopping, field: FermionField) -> FermionField:
        return jnp.stack([self.mass.astype(field.dtype) * field, self.derivative(hopping, field, ODD)])

    def derivative(self, hopping: Hopping, field: FermionField, parity: int) -> FermionField:
        """D ψ on the sites of a parity, of ψ on the others."""
        here, there = (hopping.even, hopping.odd) if parity == EVEN else (hopping.odd, hopping.even)
        dimension, total = len(self.shape), jnp.zeros_like(field)
        for mu in range(dimension):
            forward = act(here[:, :, mu], neighbour(field, mu, 1, dimension, parity))
            backward = neighbour(act(dagger(there[:, :, mu]), field), mu, -1, dimension, parity)
            total = total + forward - backward
        return total

    def dense_factor(self, hopping: Hopping) -> tuple[Float[Array, ""], Complex[Array, "state other"]]:
        """m² and D_eo."""
        dimension, n = len(self.shape), self.n_colours
        sites = np.arange(np.prod(half_shape(self.shape)))
        numbers = jnp.asarray(sites.reshape(half_shape(self.shape)))
        matrix = jnp.zeros((n, len(sites), n, len(sites)), hopping.even.dtype)
        for mu in range(dimension):
            backward = neighbour(dagger(hopping.odd[:, :, mu]), mu, -1, dimension, EVEN)
            for sign, u in ((1, hopping.even[:, :, mu]), (-1, -backward)):
                reached = neighbour(numbers, mu, sign, dimension, EVEN).ravel()
                matrix = matrix.at[:, sites, :, reached].add(jnp.moveaxis(u.reshape(n, n, -1), 2, 0))
        return self.mass**2, matrix.reshape(n * len(sites), -1)

    def spectrum(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return self.mass**2, self.mass**2 + len(self.shape) ** 2

    def propagator(self, hopping: Hopping, source: FermionField, solve) -> FermionField:
        even, odd = packed(source, len(self.shape))
        # M⁻¹ = M† (M†M)⁻¹; eliminating odd sites leaves A x_e = m b_e − D_eo b_o.
        mass = self.mass.astype(source.dtype)
        x_even = solve(mass * even - self.derivative(hopping, odd, EVEN))
        x_odd = (odd - self.derivative(hopping, x_even, ODD)) / mass
        return unpacked(x_even, x_odd, len(self.shape))

    def _squared_mass(self, like: Array) -> Array:
        return (self.mass**2).astype(like.dtype)


def staggered_phases(shape: Shape) -> np.ndarray:
    """η_μ(x), shape (direction, *lattice)."""
    coordinates = np.indices(shape)
    return np.stack([1 - 2 * (coordinates[:mu].sum(0) % 2) for mu in range(len(shape))]).astype(float)
