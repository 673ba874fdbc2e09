"""Exact updates of CT-AUX with determinants carried along: insertion, removal and spin flip of one vertex."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo import Info, Manifold, State, Update
from slmc.numbers import positive_count
from slmc.systems.impurity.anderson import Anderson
from slmc.systems.impurity.vertices import Circle


class RankOneSweep(Update):
    """``n_updates`` local updates, each O(n²), in one compiled call.

    Insertion is accepted with min(1, K/(n + 1) Π_σ ratio), removal with min(1, (n/K) Π_σ N_σ,kk), a flip of one spin by
    the Sherman–Morrison formula. The matrices N_σ are made anew from the vertices at the beginning of every sweep, so
    that rounding never adds up from one sweep to the next, and are carried through it. A sweep begins with a turn of
    the circle by a random angle and, with probability one half, with a flip of all spins: W does not change under
    either, and without the second a local moment hardly ever turns. Both commute with the local updates, so that the
    sweep keeps detailed balance.

    A vertex that is to be inserted into a full array ends the program with one sentence (``equinox.error_if``).
    """

    target: Anderson
    n_updates: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        positive_count(self.n_updates, "n_updates")

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Circle(self.target.beta)

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        seed, n_updates = jax.random.bits(key, (), jnp.uint64), jnp.asarray(self.n_updates, jnp.int64)
        vertices, log_weight, observables, accepted = self.target.updated(state.configuration, seed, n_updates)
        accepted = not_full(accepted, self.target.capacity)
        return State(vertices, log_weight, observables), Info(accepted, log_weight - state.log_weight)


def not_full(accepted: Float[Array, ""], capacity: int) -> Float[Array, ""]:
    """The share of accepted updates, unless it says that the array of vertices was full."""
    return eqx.error_if(
        accepted,
        accepted < 0,
        f"the array of {capacity} vertices is full; raise target.capacity, or lower target.expansion.",
    )
