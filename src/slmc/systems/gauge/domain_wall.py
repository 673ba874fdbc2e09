"""Domain-wall fermions: chiral quarks on the two walls of a fifth dimension."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slmc.lattice import Shape
from slmc.systems.gauge.even_odd import EVEN, ODD, Hopping, half_shape, packed, unpacked
from slmc.systems.gauge.fermion_operator import FermionField, FermionOperator, columns
from slmc.systems.gauge.gamma_matrices import reduced_gammas, times_gamma_5
from slmc.systems.gauge.gauge_action import check_colours
from slmc.systems.gauge.links import LinkMatrices, check_even, check_lattice
from slmc.systems.gauge.wilson_hop import hop, prepared_links

LayerMatrix = Float[Array, "layer layer"]


class DomainWall(FermionOperator):
    """Möbius domain-wall fermions; Shamir's with b = 1, c = 0. Fields have an axis of layers between spin and colour.

        D = (b D_W + 1) + (c D_W − 1) W,   (Wψ)_s = P_− ψ_{s+1} + P_+ ψ_{s−1},   P_± = (1 ± γ_5)/2,

    with −m times the field of the other wall where s leaves the layers, D_W = d − M_5 − H/2, H the hopping term of
    ``Wilson`` and M_5 the ``height`` of the wall. ``mass`` is m. Shamir, Nucl. Phys. B 406, 90 (1993); Brower, Neff,
    Orginos, arXiv:1206.5214. As b(d − M_5) + 1 and W mix layers alone,

        D = M K,   M = 1 − ½ H G,   K = (b(d − M_5) + 1) + (c(d − M_5) − 1) W,   G = (b + cW) K⁻¹,

    K does not depend on the links, and even–odd preconditioning is that of Wilson fermions, M̂ = 1 − ¼ H_eo G H_oe G.

        det D(m)/det D(1) = det D_ov(m) of the overlap operator D_ov(m) = ½[1 + m + (1 − m) γ_5 ε(H_T)],
        H_T = γ_5 (b + c) D_W [2 + (b − c) D_W]⁻¹,   ε(x) = [(1+x)^n − (1−x)^n]/[(1+x)^n + (1−x)^n] of n layers,

    is the weight of one flavour, two of which have det A(m)/det A(1), A = M̂†M̂, up to a constant: give
    ``with_mass(1.0)``, the Pauli–Villars fields, as ``denominator`` of a target. Without them the weight holds the
    fifth dimension's own, heavy fermions. ``propagator`` is that of the quark fields q = P_− ψ_0 + P_+ ψ_{n−1},
    (D_ov⁻¹ − 1)/(1 − m).

    Raises ``ValueError`` for an odd extent with ``even_odd``, a negative mass, a height outside (0, 2), where free
    walls hold no flavour or more than one, fewer than one layer, b ≤ 0 or c < 0.
    """

    n_tastes = 2

    shape: Shape = eqx.field(static=True)
    n_colours: int = eqx.field(static=True)
    mass: Float[Array, ""]
    height: Float[Array, ""]
    n_layers: int = eqx.field(static=True)
    b: Float[Array, ""]
    c: Float[Array, ""]
    even_odd: bool = eqx.field(static=True)
    antiperiodic: bool = eqx.field(static=True)

    def __init__(
        self,
        shape: Shape,
        n_colours: int,
        mass: float,
        height: float = 1.8,
        n_layers: int = 8,
        b: float = 1.0,
        c: float = 0.0,
        even_odd: bool = True,
        antiperiodic: bool = True,
    ) -> None:
        self.shape, self.n_colours = check_lattice(shape), check_colours(n_colours)
        if even_odd:
            check_even(self.shape, "even–odd preconditioning")
        for holds, sentence in (
            (0 <= mass < math.inf, f"the mass of a domain-wall fermion must not be negative; got {mass}."),
            (0 < height < 2, f"the height of a domain wall must lie between 0 and 2; got {height}."),
            (n_layers >= 1, f"a domain wall needs at least one layer; got {n_layers}."),
            (0 < b < math.inf and 0 <= c < math.inf, f"domain walls need b > 0 and c ≥ 0; got b = {b}, c = {c}."),
        ):
            if not holds:
                raise ValueError(sentence)
        self.mass, self.height = jnp.asarray(mass, jnp.float64), jnp.asarray(height, jnp.float64)
        self.b, self.c = jnp.asarray(b, jnp.float64), jnp.asarray(c, jnp.float64)
        self.n_layers, self.even_odd, self.antiperiodic = int(n_layers), even_odd, antiperiodic

    def with_mass(self, mass: float) -> "DomainWall":
        """The same walls with another mass; 1 makes Pauli–Villars fields."""
        return eqx.tree_at(lambda operator: operator.mass, self, jnp.asarray(mass, jnp.float64))

    @property
    def components(self) -> tuple[int, ...]:
        return (2 * len(reduced_gammas(len(self.shape))[0]), self.n_colours)

    @property
    def field_shape(self) -> tuple[int, ...]:
        spin, colour = self.components
        return (spin, self.n_layers, colour, *(half_shape(self.shape) if self.even_odd else self.shape))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.field_shape

    def prepare(self, u: LinkMatrices) -> Hopping:
        return prepared_links(u, self.antiperiodic, self.even_odd)

    def normal(self, hopping: Hopping, field: FermionField) -> FermionField:
        return self.adjoint(hopping, self.apply(hopping, field))

    def factor(self, hopping: Hopping, noise: FermionField) -> FermionField:
        return self.adjoint(hopping, noise)

    def adjoint_factor(self, hopping: Hopping, field: FermionField) -> FermionField:
        return self.apply(hopping, field)

    def apply(self, hopping: Hopping, field: FermionField) -> FermionField:
        """M̂ ψ, or M ψ without even–odd preconditioning."""
        layers = self._hopping_layers()
        if not self.even_odd:
            return field - hop(hopping, _across(layers, field), None) / 2
        odd = hop(hopping, _across(layers, field), ODD)
        return field - hop(hopping, _across(layers, odd), EVEN) / 4

    def adjoint(self, hopping: Hopping, field: FermionField) -> FermionField:
        """M̂†ψ: H† = γ_5 H γ_5, and G† is G with the two chiralities exchanged."""
        layers, x = self._hopping_layers().T, times_gamma_5(field)
        if not self.even_odd:
            return times_gamma_5(x - _across(layers, hop(hopping, x, None)) / 2)
        odd = _across(layers, hop(hopping, x, ODD))
        return times_gamma_5(x - _across(layers, hop(hopping, odd, EVEN)) / 4)

    def dense_factor(self, hopping: Hopping) -> tuple[Float[Array, ""], Complex[Array, "state other"]]:
        """Zero and M̂†, or M†."""
        return jnp.zeros(()), columns(lambda field: self.adjoint(hopping, field), self.field_shape)

    def spectrum(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        layers = jnp.abs(self._hopping_layers())
        largest = len(self.shape) * jnp.sqrt(jnp.max(jnp.sum(layers, axis=0)) * jnp.max(jnp.sum(layers, axis=1)))
        upper = (1 + (largest**2 if self.even_odd else largest)) ** 2
        return jnp.zeros_like(upper), upper

    def log_det_of_layers(self) -> Float[Array, ""]:
        """log |det K|, by which log |det D| exceeds log |det M|: a constant, of which the mass knows."""
        n, (diagonal, wall) = self.n_layers, self._diagonal()
        one_chirality = jnp.log(jnp.abs(diagonal**n + self.mass * (-wall) ** n))
        spin, colour = self.components
        return spin * colour * math.prod(self.shape) * one_chirality

    def propagator(self, hopping: Hopping, source: FermionField, solve) -> FermionField:
        """(D_ov⁻¹ − 1)/(1 − m) of a source of quarks: from wall to wall through D⁻¹."""
        five = jnp.zeros((source.shape[0], self.n_layers, *source.shape[1:]), source.dtype)
        half = len(source) // 2
        five = five.at[:half, 0].set(source[:half]).at[half:, -1].set(source[half:])
        five = five - self.c.astype(five.dtype) * self._wilson(hopping, five)
        solution = _across(self._inverse_of_diagonal(), self._solved(hopping, five, solve))
        return jnp.concatenate([solution[:half, -1], solution[half:, 0]])

    def _solved(self, hopping: Hopping, source: FermionField, solve) -> FermionField:
        """M⁻¹ of a source on the whole lattice."""
        if not self.even_odd:
            return solve(self.adjoint(hopping, source))
        even, odd = packed(source, len(self.shape))
        layers = self._hopping_layers()
        x_even = solve(self.adjoint(hopping, even + hop(hopping, _across(layers, odd), EVEN) / 2))
        x_odd = odd + hop(hopping, _across(layers, x_even), ODD) / 2
        return unpacked(x_even, x_odd, len(self.shape))

    def _wilson(self, hopping: Hopping, field: FermionField) -> FermionField:
        """D_W of a field on the whole lattice."""
        diagonal = (len(self.shape) - self.height).astype(field.dtype)
        if not self.even_odd:
            return diagonal * field - hop(hopping, field, None) / 2
        even, odd = packed(field, len(self.shape))
        moved = unpacked(hop(hopping, odd, EVEN), hop(hopping, even, ODD), len(self.shape))
        return diagonal * field - moved / 2

    def _diagonal(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The coefficients of 1 and W in K."""
        diagonal = len(self.shape) - self.height
        return self.b * diagonal + 1, self.c * diagonal - 1

    def _inverse_of_diagonal(self) -> LayerMatrix:
        """K⁻¹ on P_−: Wⁿ = −m makes the geometric series of W end."""
        diagonal, wall = self._diagonal()
        ratio = -wall / diagonal
        powers = ratio ** np.arange(self.n_layers, dtype=float) / (diagonal * (1 + self.mass * ratio**self.n_layers))
        return self._polynomial(powers)

    def _hopping_layers(self) -> LayerMatrix:
        """G on P_−; on P_+ it is the transpose."""
        wall = jnp.eye(self.n_layers, k=1).at[-1, 0].set(-self.mass)
        return (self.b * jnp.eye(self.n_layers) + self.c * wall) @ self._inverse_of_diagonal()

    def _polynomial(self, coefficients: Float[Array, " layer"]) -> LayerMatrix:
        """Σ_j a_j W^j on P_−: a_j at (s, s + j), −m a_j where that leaves the layers."""
        here, there = np.indices((self.n_layers, self.n_layers))
        return jnp.where(there >= here, 1.0, -self.mass) * coefficients[(there - here) % self.n_layers]


def _across(matrix: LayerMatrix, field: FermionField) -> FermionField:
    """A matrix over layers on the lower half of the spins, its transpose on the upper."""
    matrix, half = matrix.astype(field.dtype), len(field) // 2
    upper = jnp.einsum("ts,at...->as...", matrix, field[:half])
    lower = jnp.einsum("st,at...->as...", matrix, field[half:])
    return jnp.concatenate([upper, lower])
