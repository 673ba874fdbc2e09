"""Potentials with known answers, written in JAX: Lennard-Jones atoms, a harmonic crystal."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.systems.atoms.calculated import Coordinates


class LennardJones(eqx.Module):
    """U = Σ_{i<j} 4ε [(σ/r)^12 − (σ/r)^6] of atoms that are not periodic, without a cut-off."""

    epsilon: float = eqx.field(static=True, default=1.0)
    sigma: float = eqx.field(static=True, default=1.0)

    def __call__(self, positions: Coordinates) -> Float[Array, ""]:
        first, second = jnp.triu_indices(len(positions), 1)
        squared = jnp.sum((positions[first] - positions[second]) ** 2, axis=-1)
        sixth = (self.sigma**2 / squared) ** 3
        return 4 * self.epsilon * jnp.sum(sixth**2 - sixth)


class HarmonicCrystal(eqx.Module):
    """U = (stiffness/2) Σ_i |x_i − s_i|²: atoms bound to their places, ⟨U⟩ = 3N kT/2."""

    places: Float[Array, "atom 3"]
    stiffness: Float[Array, ""]

    def __call__(self, positions: Coordinates) -> Float[Array, ""]:
        return self.stiffness / 2 * jnp.sum((positions - self.places) ** 2)
