"""Sweeps of the Heisenberg model from local fields: heat bath and over-relaxation.

    log W(S_i | rest) = h_i·S_i + …,   h_i = (1/T) Σ_n J_n Σ_{j in shell n of i} S_j

Only the field of the visited site is needed, so a sweep costs O(N · neighbours), and one evaluation of the whole
log-weight at its end. Either sweep runs through the sites in order or in reverse order, at random, which keeps
detailed balance.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.lattice import neighbours
from slmc.montecarlo.local import random_direction
from slmc.montecarlo.manifolds import occupied
from slmc.montecarlo.update import Info, State, Update
from slmc.systems.spins.heisenberg import Heisenberg


class HeatBathSweep(Update):
    """Each spin in turn is drawn afresh from its conditional distribution exp(h_i·S_i).

    Creutz, PRD 21, 2308 (1980); for classical spins Miyatake et al., J. Phys. C 19, 2539 (1986). Always accepted.
    """

    target: Heisenberg

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        return _sweep(key, self.target, state, draw_along)


class OverRelaxationSweep(Update):
    """Each spin in turn is reflected about its local field, S → 2 (S·h) h/|h|² − S; the weight does not change.

    Creutz, PRD 36, 515 (1987). Alone it does not explore: combine it with heat-bath or Hamiltonian updates,
    palindromically, ``Sequence((reflect, heat_bath, reflect))``, to keep detailed balance.
    """

    target: Heisenberg

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        return _sweep(key, self.target, state, _reflect)


def _sweep(key: Key[Array, ""], target: Heisenberg, state: State, renew) -> tuple[State, Info]:
    sites, shell, multiplicity = neighbours(target.shape, len(target.reduced_couplings))
    strength = target.reduced_couplings[shell - 1] * jnp.asarray(multiplicity, jnp.float64)
    table = jnp.asarray(sites)
    key_order, key_sites = jax.random.split(key)
    order = random_direction(key_order, len(sites))

    def visit(spins: Float[Array, "site 3"], inputs) -> tuple[Float[Array, "site 3"], None]:
        site, key = inputs
        field, spin = strength @ spins[table[site]], spins[site]
        # A zero vector is a site without a spin, and stays one.
        renewed = jnp.where(occupied(spin), renew(key, field, spin), spin)
        return spins.at[site].set(renewed), None

    flat = state.configuration.reshape(-1, 3)
    flat, _ = jax.lax.scan(visit, flat, (order, jax.random.split(key_sites, len(sites))))
    spins = flat.reshape(state.configuration.shape)
    log_weight = target.log_weight(spins)
    return State(spins, log_weight, state.observables), Info(jnp.ones(()), log_weight - state.log_weight)


def draw_along(key: Key[Array, ""], field: Float[Array, " 3"], spin: Float[Array, " 3"]) -> Float[Array, " 3"]:
    """A unit vector from exp(h·S): cosine to the field by inversion, azimuth uniform."""
    key_cosine, key_azimuth = jax.random.split(key)
    strength = jnp.sqrt(jnp.sum(field**2))
    u = jax.random.uniform(key_cosine, dtype=jnp.float64)
    small = strength < 1e-6
    h = jnp.where(small, 1.0, strength)
    # cosine = 1 + log(u + (1−u) e^{−2h}) / h; uniform in [−1, 1] for a vanishing field, to first order in h.
    cosine = jnp.where(small, 2 * u - 1, 1 + jnp.log(u + (1 - u) * jnp.exp(-2 * h)) / h)
    cosine = jnp.clip(cosine, -1.0, 1.0)
    axis = jnp.where(small, jnp.array([0.0, 0.0, 1.0]), field / h)
    azimuth = 2 * jnp.pi * jax.random.uniform(key_azimuth, dtype=jnp.float64)
    # A vector perpendicular to the axis: the coordinate direction least along it, made orthogonal.
    least = jnp.eye(3)[jnp.argmin(jnp.abs(axis))]
    first = least - jnp.dot(least, axis) * axis
    first = first / jnp.sqrt(jnp.sum(first**2))
    second = jnp.cross(axis, first)
    sine = jnp.sqrt(1 - cosine**2)
    drawn = cosine * axis + sine * (jnp.cos(azimuth) * first + jnp.sin(azimuth) * second)
    return drawn / jnp.sqrt(jnp.sum(drawn**2))


def _reflect(key: Key[Array, ""], field: Float[Array, " 3"], spin: Float[Array, " 3"]) -> Float[Array, " 3"]:
    squared = jnp.sum(field**2)
    reflected = 2 * jnp.dot(spin, field) / jnp.where(squared > 0, squared, 1.0) * field - spin
    reflected = reflected / jnp.sqrt(jnp.sum(reflected**2))
    return jnp.where(squared > 0, reflected, spin)
