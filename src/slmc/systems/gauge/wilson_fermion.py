"""Wilson fermions."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from slmc.lattice import Shape
from slmc.numbers import positive
from slmc.systems.gauge.even_odd import EVEN, ODD, Hopping, half_shape, packed, unpacked
from slmc.systems.gauge.fermion_operator import FermionField, FermionOperator, columns
from slmc.systems.gauge.gamma_matrices import reduced_gammas, times_gamma_5
from slmc.systems.gauge.gauge_action import check_colours
from slmc.systems.gauge.links import LinkMatrices, check_even, check_lattice
from slmc.systems.gauge.wilson_hop import hop, prepared_links


class Wilson(FermionOperator):
    """M = 1 − κ H,  H ψ(x) = Σ_μ [(1 − γ_μ) U_μ(x) ψ(x+μ) + (1 + γ_μ) U_μ(x−μ)† ψ(x−μ)].

    Wilson, in: New Phenomena in Subnuclear Physics (1977). Chiral γ matrices, two components in two dimensions and four
    in three and four; M† = γ_5 M γ_5. With even–odd preconditioning

        M̂ = 1 − κ² H_eo H_oe on even sites,   det M = det M̂,   A = M̂†M̂,

    else A = M†M. det A is the weight of two degenerate flavours. ``hopping_parameter`` is κ. Raises ``ValueError`` for
    an odd extent with ``even_odd``, and for κ that is not positive.
    """

    n_tastes = 2

    shape: Shape = eqx.field(static=True)
    n_colours: int = eqx.field(static=True)
    hopping_parameter: Float[Array, ""]
    even_odd: bool = eqx.field(static=True)
    antiperiodic: bool = eqx.field(static=True)

    def __init__(
        self,
        shape: Shape,
        n_colours: int,
        hopping_parameter: float,
        even_odd: bool = True,
        antiperiodic: bool = True,
    ) -> None:
        self.shape, self.n_colours = check_lattice(shape), check_colours(n_colours)
        if even_odd:
            check_even(self.shape, "even–odd preconditioning")
        positive(hopping_parameter, "the hopping parameter κ")
        self.hopping_parameter = jnp.asarray(hopping_parameter, jnp.float64)
        self.even_odd, self.antiperiodic = even_odd, antiperiodic

    @property
    def components(self) -> tuple[int, ...]:
        return (2 * len(reduced_gammas(len(self.shape))[0]), self.n_colours)

    @property
    def field_shape(self) -> tuple[int, ...]:
        return (*self.components, *(half_shape(self.shape) if self.even_odd else self.shape))

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
        kappa = self.hopping_parameter.astype(field.dtype)
        if not self.even_odd:
            return field - kappa * hop(hopping, field, None)
        return field - kappa**2 * hop(hopping, hop(hopping, field, ODD), EVEN)

    def adjoint(self, hopping: Hopping, field: FermionField) -> FermionField:
        """M̂†ψ = γ_5 M̂ γ_5 ψ."""
        return times_gamma_5(self.apply(hopping, times_gamma_5(field)))

    def dense_factor(self, hopping: Hopping) -> tuple[Float[Array, ""], Complex[Array, "state other"]]:
        """Zero and M̂†, or M†."""
        return jnp.zeros(()), columns(lambda field: self.adjoint(hopping, field), self.field_shape)

    def spectrum(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        largest = 2 * len(self.shape) * self.hopping_parameter
        upper = (1 + (largest**2 if self.even_odd else largest)) ** 2
        return jnp.zeros_like(upper), upper

    def propagator(self, hopping: Hopping, source: FermionField, solve) -> FermionField:
        if not self.even_odd:
            return solve(self.adjoint(hopping, source))
        even, odd = packed(source, len(self.shape))
        kappa = self.hopping_parameter.astype(source.dtype)
        x_even = solve(self.adjoint(hopping, even + kappa * hop(hopping, odd, EVEN)))
        x_odd = odd + kappa * hop(hopping, x_even, ODD)
        return unpacked(x_even, x_odd, len(self.shape))
