"""Wilson fermions."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slmc.lattice import Shape
from slmc.montecarlo.special_unitary import dagger
from slmc.systems.gauge.even_odd import EVEN, ODD, Hopping, half_shape, neighbour, packed, unpacked
from slmc.systems.gauge.fermion_operator import FermionField, FermionOperator, act, columns, with_boundary
from slmc.systems.gauge.gauge_action import check_colours
from slmc.systems.gauge.links import LinkMatrices, check_even, check_lattice


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
        if not hopping_parameter > 0:
            raise ValueError(f"the hopping parameter κ must be positive; got {hopping_parameter}.")
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


def prepared_links(u: LinkMatrices, antiperiodic: bool, even_odd: bool) -> Hopping:
    """The links as ``hop`` takes them."""
    signed = with_boundary(u, antiperiodic)
    return Hopping(*packed(signed, u.shape[2])) if even_odd else Hopping(signed, signed)


def hop(hopping: Hopping, field: FermionField, parity: int | None) -> FermionField:
    """H ψ on the sites of a parity, of ψ on the others; ``None`` for the whole lattice.

    Spin is the first axis of a field, colour the last before the sites; what lies between is carried along.
    """
    here, there = (hopping.odd, hopping.even) if parity == ODD else (hopping.even, hopping.odd)
    dimension = here.shape[2]
    upper, lower = jnp.split(field, 2)
    out_upper, out_lower = jnp.zeros_like(upper), jnp.zeros_like(lower)
    for mu, gamma in enumerate(reduced_gammas(dimension)):
        turned = _times(gamma, lower)
        # (1 ∓ γ_μ) has rank two: h = ψ_u ∓ σ_μ ψ_l carries all there is, (1 ∓ γ_μ) ψ = (h, ∓ σ_μ† h).
        forward = act(here[:, :, mu], neighbour(upper - turned, mu, 1, dimension, parity))
        backward = neighbour(act(dagger(there[:, :, mu]), upper + turned), mu, -1, dimension, parity)
        out_upper = out_upper + forward + backward
        out_lower = out_lower + _times(gamma.conj().T, backward - forward)
    return jnp.concatenate([out_upper, out_lower])


def reduced_gammas(dimension: int) -> list[np.ndarray]:
    """σ_μ of the chiral γ_μ = [[0, σ_μ], [σ_μ†, 0]]; γ_5 is 1 above and −1 below."""
    if dimension == 2:
        return [np.array([[1.0 + 0j]]), np.array([[-1j]])]
    pauli = [np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.array([[1, 0], [0, -1]])]
    return [*(-1j * one for one in pauli), np.eye(2, dtype=complex)][:dimension]


def gamma_matrices(dimension: int) -> list[np.ndarray]:
    """γ_μ with γ_μ γ_ν + γ_ν γ_μ = 2 δ_μν."""
    found = []
    for sigma in reduced_gammas(dimension):
        zero = np.zeros_like(sigma)
        found.append(np.block([[zero, sigma], [sigma.conj().T, zero]]))
    return found


def times_gamma_5(field: FermionField) -> FermionField:
    upper, lower = jnp.split(field, 2)
    return jnp.concatenate([upper, -lower])


def _times(matrix: np.ndarray, field: FermionField) -> FermionField:
    """A constant spin matrix with one entry in each row times a field, the factors 1 and i spared."""
    rows = []
    for row in matrix:
        column = int(np.flatnonzero(row)[0])
        rows.append(complex(row[column]) * field[column])
    return jnp.stack(rows)
