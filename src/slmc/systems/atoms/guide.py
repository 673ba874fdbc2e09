"""A calculator of the user's as the guide, in place of the learned potential."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.montecarlo import HostTarget, Target
from slmc.systems.atoms.calculated import Coordinates, SoftSphere, calculated
from slmc.systems.atoms.pool import CalculatorPool


class CalculatorGuide(Target):
    """log W = −β (U + constant + U_sphere), U and its forces those of a pool of calculators: a model with one number.

    Of what other programs have learned, MACE or NequIP for instance, or of a cheaper method of quantum chemistry. The
    constant enters no decision. Where an evaluation fails log W is −∞ and no force acts; as a guide it may.
    """

    energies: HostTarget
    constant: Float[Array, ""]
    beta: float = eqx.field(static=True)
    sphere: SoftSphere | None = None

    def __init__(self, pool: CalculatorPool, beta: float, sphere: SoftSphere | None = None) -> None:
        self.energies, self.constant = calculated(pool, beta), jnp.zeros(())
        self.beta, self.sphere = float(beta), sphere

    def log_weight(self, configuration: Coordinates) -> Float[Array, ""]:
        energy = self.constant
        if self.sphere is not None:
            energy = energy + self.sphere.energy(configuration)
        return self.energies.log_weight(configuration) - self.beta * energy
