"""Proposals that need no gradient."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo.manifolds import Manifold
from slmc.montecarlo.metropolis import Proposal
from slmc.numbers import positive
from slmc.systems.vectors.prior import Vector


def _as_float(value: float | Array) -> Array:
    return jnp.asarray(value, jnp.float64)


class RandomWalk(Proposal):
    """x' = x + a Gaussian step on a manifold; symmetric. With the shape of the target it is adaptive Metropolis.

    Haario, Saksman, Tamminen, Bernoulli 7, 223 (2001); here the shape is adapted while thermalising alone, and what
    counts is a Markov chain.
    """

    manifold: Manifold
    step_size: Float[Array, ""] = eqx.field(converter=_as_float)

    def __check_init__(self) -> None:
        positive(self.step_size, "step_size")

    def propose(self, key: Key[Array, ""], configuration: Vector) -> tuple[Vector, Float[Array, ""]]:
        return self.manifold.perturb(key, configuration, self.step_size), jnp.zeros(())


class CrankNicolson(Proposal):
    """z' = cos(ε) z + sin(ε) ξ with ξ standard normal: reversible for the standard normal prior at any dimension.

    Log proposal ratio (|z'|² − |z|²)/2, so that the decision is about the likelihood alone: the preconditioned
    Crank–Nicolson proposal, Cotter, Roberts, Stuart, White, Stat. Sci. 28, 424 (2013), eq. (4.8) with β = sin ε.
    """

    step_size: Float[Array, ""] = eqx.field(converter=_as_float)

    def __check_init__(self) -> None:
        positive(self.step_size, "step_size")

    def propose(self, key: Key[Array, ""], configuration: Vector) -> tuple[Vector, Float[Array, ""]]:
        # Beyond a quarter turn steps only go round.
        angle = jnp.minimum(self.step_size, jnp.pi / 2)
        fresh = jax.random.normal(key, configuration.shape, configuration.dtype)
        proposed = jnp.cos(angle) * configuration + jnp.sin(angle) * fresh
        return proposed, (jnp.sum(proposed**2) - jnp.sum(configuration**2)) / 2
