"""The exact weight of atoms: the energy of a calculator, and what keeps a cluster together."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.montecarlo import HostTarget, MeasuredTarget, Target
from slmc.systems.atoms.pool import CalculatorPool

Coordinates = Float[Array, "atom 3"]
"""Positions in Å; those of periodic atoms are not wrapped."""


class SoftSphere(eqx.Module):
    """U(x) = (stiffness/2) Σ_i max(|x_i| − radius, 0)², in eV and Å: what evaporates from a cluster comes back."""

    radius: float = eqx.field(static=True)
    stiffness: float = eqx.field(static=True, default=1.0)

    def energy(self, positions: Coordinates) -> Float[Array, ""]:
        squared = jnp.sum(positions**2, axis=-1)
        outside = squared > self.radius**2
        # The root has no derivative at the centre, where its value is not used.
        distance = jnp.sqrt(jnp.where(outside, squared, 1.0))
        return self.stiffness / 2 * jnp.sum(jnp.where(outside, distance - self.radius, 0.0) ** 2)


class Confined(MeasuredTarget):
    """log W = −β (U(x) + U_sphere(x)), U given by ``energies``: the canonical distribution of a system of atoms.

    ``energies`` is a target whose log-weight is −β U; ``beta`` in 1/eV. It comes with ``energy``, U + U_sphere in eV.
    """

    energies: Target
    beta: float = eqx.field(static=True)
    sphere: SoftSphere | None = None

    def log_weight(self, configuration: Coordinates) -> Float[Array, ""]:
        log_weight = self.energies.log_weight(configuration)
        return log_weight if self.sphere is None else log_weight - self.beta * self.sphere.energy(configuration)

    def log_weight_and_observables(self, configuration: Coordinates) -> tuple[Float[Array, ""], dict[str, Array]]:
        log_weight = self.log_weight(configuration)
        return log_weight, {"energy": -log_weight / self.beta}


def calculated(pool: CalculatorPool, beta: float) -> HostTarget:
    """log W = −β U with U and forces of a pool of calculators; −∞ where an evaluation fails or atoms are too near."""

    def weights_and_forces(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energies, forces = pool(batch)
        return -beta * energies, beta * forces

    def weights(batch: np.ndarray) -> np.ndarray:
        return weights_and_forces(batch)[0]

    return HostTarget(weights, weights_and_forces, together=True)


class CalculatedInCell(eqx.Module):
    """U(r, V) of a pool of calculators in eV, for atoms in a cell whose volume is ``volume`` where it is described.

    Its derivative by V is that of the calculator's stress, or of one more energy. +∞ where an evaluation fails or atoms
    are too near.
    """

    host: HostTarget
    volume: float = eqx.field(static=True)

    def __init__(self, pool: CalculatorPool, volume: float) -> None:
        self.volume = float(volume)

        def evaluated(packed: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray]:
            """−U and its derivatives by r and ln V at rest, of positions with a row in which ln(V/V_0) is first."""
            positions, scales = np.ascontiguousarray(packed[:, :-1]), np.exp(packed[:, -1, 0] / 3)
            energies, forces, slope = pool.stretched(positions, scales, slopes)
            derivatives = np.zeros_like(packed)
            derivatives[:, :-1] = forces
            # dU/d ln V with the atoms going along is ∂U/∂ln V and a third of Σ r·∂U/∂r.
            derivatives[:, -1, 0] = -slope - np.sum(positions * forces, axis=(1, 2)) / 3
            return -energies, np.where(np.isfinite(energies)[:, None, None], derivatives, 0.0)

        def energies(packed: np.ndarray) -> np.ndarray:
            return evaluated(packed, slopes=False)[0]

        def energies_and_slopes(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return evaluated(packed, slopes=True)

        self.host = HostTarget(energies, energies_and_slopes, together=True)

    def __call__(self, positions: Coordinates, volume: Float[Array, ""]) -> Float[Array, ""]:
        row = jnp.zeros((1, 3)).at[0, 0].set(jnp.log(volume / self.volume))
        return -self.host.log_weight(jnp.concatenate([positions, row]))


class FromEnergy(Target):
    """log W = −β U of a potential energy in eV that is written in JAX."""

    energy: Callable[[Coordinates], Float[Array, ""]]
    beta: float = eqx.field(static=True)

    def log_weight(self, configuration: Coordinates) -> Float[Array, ""]:
        return -self.beta * self.energy(configuration)
