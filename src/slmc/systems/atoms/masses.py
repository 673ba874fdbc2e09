"""Atoms with masses: free motion of Hamilton's equations in Å and femtoseconds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.montecarlo import SiteManifold

ANGSTROM_PER_FS = 9.822694788464063e-02
"""√(eV/u) in Å/fs: velocities of atoms of one mass unit with energies of one eV."""


class Massive(SiteManifold):
    """Positions of atoms with masses: momenta p = P √(β/m) of unit variance, times in femtoseconds.

        dx/dt = v p,   dp/dt = v ∂ log W/∂x,   v = 1/√(β m)

    is Hamilton's motion of P²/2m + U. Averages don't depend on the masses; heavy hydrogen allows longer steps.
    ``beta`` in 1/eV, ``masses`` in atomic mass units. With ``holds_centre`` no momentum moves the centre of mass: the
    flow stays in the 3N − 3 dimensions in which it does not move, as periodic atoms want it, whose energy does not
    depend on it. Raises ``ValueError`` for masses that are not positive.
    """

    speeds: Float[Array, "atom 1"]
    holds_centre: bool = eqx.field(static=True, default=False)
    point_ndim = 1

    def __init__(self, masses: Any, beta: float, holds_centre: bool = False) -> None:
        masses = np.asarray(masses, np.float64)
        if not (np.all(masses > 0) and np.all(np.isfinite(masses)) and beta > 0):
            raise ValueError("masses and beta must be positive.")
        self.speeds = jnp.asarray(ANGSTROM_PER_FS / np.sqrt(beta * masses))[:, None]
        self.holds_centre = holds_centre

    def project(self, position, vector):
        return vector

    def impulse(self, position, force):
        """How a force ∂ log W/∂x changes the momentum in a femtosecond."""
        return self._at_rest(self.speeds * force)

    def move(self, position, momentum, time):
        return position + time * self.speeds * momentum, momentum

    def draw_momentum(self, key, position):
        return self._at_rest(jax.random.normal(key, position.shape, position.dtype))

    def perturb(self, key, position, step_size):
        return position + step_size * jax.random.normal(key, position.shape, position.dtype)

    def random(self, key, shape):
        return jax.random.normal(key, shape, jnp.float64)

    def dimension(self, position):
        return position.size - (3 if self.holds_centre else 0)

    def distance(self, position):
        return abs(0 * position).max(initial=0.0)

    def _at_rest(self, momentum: Float[Array, "atom 3"]) -> Float[Array, "atom 3"]:
        """Without the part that moves the centre of mass: Σ √m p = 0."""
        if not self.holds_centre:
            return momentum
        roots = 1 / self.speeds
        roots = roots / jnp.sqrt(jnp.sum(roots**2))
        return momentum - roots * jnp.sum(roots * momentum, axis=0, keepdims=True)
