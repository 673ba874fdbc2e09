"""Local updates of Ising spins, all sites that do not interact with each other at once."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.lattice import colouring
from slmc.montecarlo.local import random_direction
from slmc.montecarlo.manifolds import Manifold, Signs
from slmc.montecarlo.update import Info, State, Update
from slmc.systems.spins.ising import IsingTarget


class CheckerboardSweep(Update):
    """One Metropolis decision per site, one colour of a checkerboard after the other.

    Sites of a colour do not enter each other's local fields, so their decisions are independent. Colours are visited
    in order or in reverse order, at random, which keeps detailed balance. The checkerboard has as many colours as the
    range of the interactions asks for (two for nearest neighbours, four for plaquettes).
    """

    target: IsingTarget

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Signs()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        colours = colouring(self.target.interacting()).reshape(self.target.shape)
        masks = jnp.asarray(colours[None] == np.arange(colours.max() + 1).reshape(-1, *(1,) * colours.ndim))
        key_order, key_sites = jax.random.split(key)
        # Every site is decided once, so one number a site serves all colours.
        threshold = jnp.log(jax.random.uniform(key_sites, state.configuration.shape, jnp.float64))

        def visit(spins: Float[Array, "..."], colour: Array) -> tuple[Float[Array, "..."], Array]:
            change = -2 * spins * self.target.local_fields(spins)
            accepted = masks[colour] & (threshold < change)
            return jnp.where(accepted, -spins, spins), jnp.sum(accepted)

        spins, accepted = jax.lax.scan(visit, state.configuration, random_direction(key_order, len(masks)))
        after = self.init(spins)
        share = jnp.sum(accepted) / spins.size
        return after, Info(jnp.asarray(share, jnp.float64), after.log_weight - state.log_weight)
