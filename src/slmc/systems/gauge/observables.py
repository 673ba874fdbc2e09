"""What is measured on a gauge field: loops, fermion correlators, topological charge."""

import math
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Key

from slmc.lattice import n_sites
from slmc.montecarlo.special_unitary import Matrices, antihermitian, as_matrices, dagger, multiply, trace
from slmc.systems.gauge.domain_wall import DomainWall
from slmc.systems.gauge.even_odd import real_part_of_product
from slmc.systems.gauge.fermion_operator import FermionField, FermionOperator, gaussian_field
from slmc.systems.gauge.links import LinkMatrices, Links, planes, polyakov_lines, rectangle, shifted
from slmc.systems.gauge.solvers import STANDARD_SOLVER, Solver, conjugate_gradient
from slmc.systems.gauge.staggered_fermion import Staggered


@jax.jit
def plaquette(links: Links) -> Float[Array, ""]:
    """Re tr U_μν/N averaged over sites and planes; 1 on the ordered field."""
    return wilson_loop(links, 1, 1)


@partial(jax.jit, static_argnums=(1, 2))
def wilson_loop(links: Links, first: int, second: int) -> Float[Array, ""]:
    """Re tr W/N of R×T loops, averaged over sites, planes and, for R ≠ T, both orientations."""
    u = as_matrices(links)
    sides = {(first, second), (second, first)}
    values = [jnp.mean(rectangle(u, mu, nu, extents)) for mu, nu in planes(len(links)) for extents in sorted(sides)]
    return jnp.mean(jnp.stack(values)) / len(u)


@partial(jax.jit, static_argnums=(1, 2))
def static_loop(links: Links, distance: int, time: int) -> Float[Array, ""]:
    """Re tr W/N of loops of ``distance`` links in space and ``time`` in the last direction: the static potential's."""
    u, last = as_matrices(links), len(links) - 1
    values = [jnp.mean(rectangle(u, mu, last, (distance, time))) for mu in range(last)]
    return jnp.mean(jnp.stack(values)) / len(u)


@partial(jax.jit, static_argnums=1)
def polyakov_loop(links: Links, direction: int = -1) -> Complex[Array, ""]:
    """tr Pol/N averaged over the sites transverse to a direction; time, the last, by default."""
    u = as_matrices(links)
    return jnp.mean(trace(polyakov_lines(u, direction % len(links)))) / len(u)


def polyakov_susceptibility(loops: Complex[Array, "..."], transverse_size: int) -> Float[Array, ""]:
    """χ = V_t (⟨|L|²⟩ − ⟨|L|⟩²) of a series of Polyakov loops, V_t the number of transverse sites."""
    modulus = jnp.abs(loops)
    return transverse_size * (jnp.mean(modulus**2) - jnp.mean(modulus) ** 2)


def staggered_condensate(operator: Staggered, trace_inverse: Float[Array, ""]) -> Float[Array, ""]:
    """ψ̄ψ = tr M⁻¹ / V of one staggered field, summed over colours and not divided by tastes.

    From tr A⁻¹ over even sites, the observable of ``FermionDeterminant``: tr M⁻¹ = 2 m tr A⁻¹.
    """
    return 2 * operator.mass * trace_inverse / n_sites(operator.shape)


@eqx.filter_jit
def noisy_condensate(
    key: Key[Array, ""], operator: FermionOperator, links: Links, n_sources: int = 4, solver: Solver = STANDARD_SOLVER
) -> Float[Array, ""]:
    """An unbiased estimate of Re tr M⁻¹ / V from Gaussian sources, one solution each, for any lattice.

    For domain walls M⁻¹ is the propagator of the quarks on the walls, (D_ov⁻¹ − 1)/(1 − m).
    """
    hopping = operator.prepare(as_matrices(links))
    shape = (*operator.components, *operator.shape)

    def of_source(key: Key[Array, ""]) -> Array:
        source = gaussian_field(key, shape)
        propagated = _propagated(operator, hopping, source, solver)
        return real_part_of_product(source, propagated)

    return jnp.mean(jax.lax.map(of_source, jax.random.split(key, n_sources))) / n_sites(operator.shape)


@eqx.filter_jit
def residual_mass(
    operator: DomainWall, links: Links, sources: FermionField, solver: Solver = STANDARD_SOLVER
) -> Float[Array, ""]:
    """m_res = Re tr q / tr q†q − m of the quarks of domain walls, q their propagator: what few layers add to the mass.

    Traces are sums over ``sources``, spin, colour and sites behind an axis that counts them: all unit vectors for the
    traces themselves, ``unit_sources``, ``noisy_sources`` for an estimate. With infinitely many layers q⁻¹ − m is
    antihermitian, and m_res vanishes.
    """
    hopping = operator.prepare(as_matrices(links))

    def traces(source: FermionField) -> tuple[Array, Array]:
        quark = _propagated(operator, hopping, source, solver)
        return real_part_of_product(source, quark), real_part_of_product(quark, quark)

    trace, norm = jax.lax.map(traces, sources)
    return jnp.sum(trace) / jnp.sum(norm) - operator.mass


def unit_sources(operator: FermionOperator) -> FermionField:
    """All sources of one component at one site; for small lattices."""
    shape = (*operator.components, *operator.shape)
    return jnp.eye(math.prod(shape), dtype=jnp.complex128).reshape(-1, *shape)


def noisy_sources(key: Key[Array, ""], operator: FermionOperator, n_sources: int) -> FermionField:
    """Gaussian sources."""
    return gaussian_field(key, (n_sources, *operator.components, *operator.shape))


class PointSource(NamedTuple):
    """What a point source at the origin tells: Re tr M⁻¹(0; 0) over spin and colour, and the pion correlator C(t).

    Averaged over gauge fields the trace is the condensate Re tr M⁻¹/V.
    """

    trace: Float[Array, ""]
    correlator: Float[Array, " time"]


@eqx.filter_jit
def point_source(operator: FermionOperator, links: Links, solver: Solver = STANDARD_SOLVER) -> PointSource:
    """Trace and pion correlator from the same solutions, one for each component."""
    hopping = operator.prepare(as_matrices(links))
    components = operator.components
    n_components = math.prod(components)

    def of_component(component: Array) -> tuple[Array, Array]:
        source = jnp.zeros((n_components, n_sites(operator.shape)), jnp.complex128).at[component, 0].set(1.0)
        source = source.reshape(*components, *operator.shape)
        propagated = _propagated(operator, hopping, source, solver)
        squares = jnp.sum(propagated.real**2 + propagated.imag**2, axis=tuple(range(propagated.ndim - 1)))
        return real_part_of_product(source, propagated), squares

    traces, correlators = jax.lax.map(of_component, jnp.arange(n_components))
    return PointSource(jnp.sum(traces), jnp.sum(correlators, axis=0))


def pion_correlator(operator: FermionOperator, links: Links, solver: Solver = STANDARD_SOLVER) -> Float[Array, " time"]:
    """C(t) = Σ_x tr |M⁻¹(x, t; 0)|²: the pseudoscalar correlator of a point source at the origin.

    For Wilson fermions that of γ_5 ⊗ γ_5 by M† = γ_5 M γ_5, for staggered ones the Goldstone pion. For domain walls M⁻¹
    is the propagator of the quarks on the walls.
    """
    return point_source(operator, links, solver).correlator


def _propagated(operator: FermionOperator, hopping, source: FermionField, solver: Solver) -> FermionField:
    def solve(b: FermionField) -> FermionField:
        return conjugate_gradient(lambda field: operator.normal(hopping, field), b, solver).x

    return operator.propagator(hopping, source, solve)


def clover(u: LinkMatrices, first: int, second: int) -> Matrices:
    """F_μν(x), traceless and antihermitian, from the four plaquettes around x: Lüscher, JHEP 08, 071 (2010)."""
    dimension = u.shape[2]
    a, b = u[:, :, first], u[:, :, second]
    b_ahead, a_above = shifted(b, first, 1, dimension), shifted(a, second, 1, dimension)
    right_up = multiply(multiply(a, b_ahead), dagger(multiply(b, a_above)))
    # The other leaves are plaquettes of neighbouring sites, begun at another corner.
    left_up = shifted(multiply(multiply(b_ahead, dagger(a_above)), multiply(dagger(b), a)), first, -1, dimension)
    left_down = multiply(dagger(multiply(b, a_above)), multiply(a, b_ahead))
    left_down = shifted(shifted(left_down, first, -1, dimension), second, -1, dimension)
    right_down = shifted(multiply(multiply(dagger(b), a), multiply(b_ahead, dagger(a_above))), second, -1, dimension)
    return antihermitian(right_up + left_up + left_down + right_down) / 4


@jax.jit
def topological_charge(links: Links) -> Float[Array, ""]:
    """Q = −(1/32π²) Σ_x ε_μνρσ tr F_μν F_ρσ by clover leaves; four dimensions. Measure it on a flowed field.

    Raises ``ValueError`` in other dimensions.
    """
    if len(links) != 4:
        raise ValueError(f"the topological charge needs 4 dimensions; got {len(links)}.")
    u = as_matrices(links)
    pairs = (((0, 1), (2, 3), 1), ((0, 2), (1, 3), -1), ((0, 3), (1, 2), 1))
    density = [sign * trace(multiply(clover(u, *plane), clover(u, *other))).real for plane, other, sign in pairs]
    return -jnp.sum(sum(density[1:], density[0])) / (4 * jnp.pi**2)


@jax.jit
def energy_density(links: Links) -> Float[Array, ""]:
    """E = −Σ_{μ<ν} tr F_μν F_μν by clover leaves, averaged over sites."""
    u = as_matrices(links)
    squares = [-trace(multiply(field, field)).real for field in (clover(u, mu, nu) for mu, nu in planes(len(links)))]
    return jnp.mean(sum(squares[1:], squares[0]))


__all__ = [
    "PointSource",
    "clover",
    "energy_density",
    "noisy_condensate",
    "noisy_sources",
    "pion_correlator",
    "plaquette",
    "point_source",
    "polyakov_loop",
    "polyakov_susceptibility",
    "residual_mass",
    "staggered_condensate",
    "static_loop",
    "topological_charge",
    "unit_sources",
    "wilson_loop",
]
