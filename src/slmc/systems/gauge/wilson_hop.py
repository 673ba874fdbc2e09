"""The hopping term that Wilson and domain-wall fermions share."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from slmc.montecarlo.special_unitary import dagger
from slmc.systems.gauge.even_odd import ODD, Hopping, neighbour, packed
from slmc.systems.gauge.fermion_operator import FermionField, with_boundary
from slmc.systems.gauge.gamma_matrices import reduced_gammas
from slmc.systems.gauge.links import LinkMatrices, shifted

AlignedLinks = Complex[Array, "way n n *lattice"]
"""The links that lead from a site, forward along every direction, then backward."""


def prepared_links(u: LinkMatrices, antiperiodic: bool, even_odd: bool) -> Hopping:
    """The links as ``hop`` takes them: those that lead away from even sites, and from odd ones."""
    signed = with_boundary(u, antiperiodic)
    dimension = u.shape[2]
    backward = [dagger(shifted(signed[:, :, mu], mu, -1, dimension)) for mu in range(dimension)]
    aligned = jnp.concatenate([jnp.moveaxis(signed, 2, 0), jnp.stack(backward)])
    return Hopping(*packed(aligned, dimension)) if even_odd else Hopping(aligned, aligned)


def hop(hopping: Hopping, field: FermionField, parity: int | None) -> FermionField:
    """H ψ on the sites of a parity, of ψ on the others; ``None`` for the whole lattice.

    H ψ(x) = Σ_μ [(1 − γ_μ) U_μ(x) ψ(x+μ) + (1 + γ_μ) U_μ(x−μ)† ψ(x−μ)]. Spin is the first axis of a field, colour the
    last before the sites; what lies between is carried along.
    """
    links = hopping.odd if parity == ODD else hopping.even
    dimension, gammas = len(links) // 2, reduced_gammas(len(links) // 2)
    upper, lower = jnp.split(field, 2)
    turned = [_times(gamma, lower) for gamma in gammas]
    # (1 ∓ γ_μ) has rank two: h = ψ_u ∓ σ_μ ψ_l carries all there is, (1 ∓ γ_μ) ψ = (h, ∓ σ_μ† h). All ways are one
    # array, so that the links' product is one loop over memory and one program to compile.
    forward = [neighbour(upper - lower_part, mu, 1, dimension, parity) for mu, lower_part in enumerate(turned)]
    backward = [neighbour(upper + lower_part, mu, -1, dimension, parity) for mu, lower_part in enumerate(turned)]
    arrived = _each_way(links, jnp.stack([*forward, *backward]))
    differences = arrived[dimension:] - arrived[:dimension]
    back = [_times(gamma.conj().T, difference) for gamma, difference in zip(gammas, differences, strict=True)]
    return jnp.concatenate([jnp.sum(arrived, axis=0), sum(back[1:], back[0])])


def _each_way(links: AlignedLinks, spinors: FermionField) -> FermionField:
    """U h of every way; the colour of h is the axis before those of the lattice."""
    colour = spinors.ndim - links.ndim + 2
    u = jnp.expand_dims(links, tuple(range(1, colour)))
    products = [
        jax.lax.index_in_dim(u, k, colour + 1, keepdims=False) * jax.lax.slice_in_dim(spinors, k, k + 1, axis=colour)
        for k in range(links.shape[1])
    ]
    return sum(products[1:], products[0])


def _times(matrix: np.ndarray, field: FermionField) -> FermionField:
    """A constant spin matrix with one entry in each row times a field, the factors 1 and i spared."""
    rows = []
    for row in matrix:
        column = int(np.flatnonzero(row)[0])
        rows.append(complex(row[column]) * field[column])
    return jnp.stack(rows)
