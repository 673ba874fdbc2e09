"""Local Metropolis sweeps for any target."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo.manifolds import Manifold
from slmc.montecarlo.target import Configuration, Target
from slmc.montecarlo.update import Info, State, Update, accept_or_reject
from slmc.numbers import positive


class LocalSweep(Update):
    """One Metropolis decision per site, each with a full evaluation of the target.

    The sites are visited in order or in reverse order, chosen at random for each sweep: a sweep in one fixed
    order leaves the target invariant but breaks detailed balance, which a ``CumulativeUpdate`` needs.
    ``step_size`` is that of ``Manifold.perturb``. What it is not: fast. A system whose one-site changes are
    cheap writes its own sweep (see ``systems.spins.HeatBathSweep``). Raises ``ValueError`` for a step size that is not
    positive.
    """

    target: Target
    manifold: Manifold
    step_size: Float[Array, ""] = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float64))

    def __check_init__(self) -> None:
        positive(self.step_size, "step_size")

    @property
    def reversible(self) -> bool:
        return True

    def evaluations_per_step(self, configuration: Configuration) -> int:
        return self.manifold.n_points(configuration)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_order, key_sites = jax.random.split(key)

        def visit(state: State, inputs) -> tuple[State, tuple[Float[Array, ""], Float[Array, ""]]]:
            site, key = inputs
            key_point, key_decision = jax.random.split(key)
            moved = self.manifold.perturb_point(key_point, state.configuration, site, self.step_size)
            proposed = self.init(moved)
            state, accepted, log_ratio = accept_or_reject(key_decision, state, proposed, jnp.zeros(()))
            return state, (jnp.asarray(accepted, jnp.float64), log_ratio)

        n_sites = self.manifold.n_points(state.configuration)
        sites = random_direction(key_order, n_sites)
        state, (accepted, log_ratios) = jax.lax.scan(visit, state, (sites, jax.random.split(key_sites, n_sites)))
        return state, Info(jnp.mean(accepted), log_ratios[-1])


def random_direction(key: Key[Array, ""], n_sites: int) -> Array:
    """Site numbers in ascending or descending order, each with probability one half."""
    ascending = jnp.arange(n_sites)
    return jnp.where(jax.random.bernoulli(key), ascending, ascending[::-1])
