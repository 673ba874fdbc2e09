"""Symplectic integrators as tables of coefficients.

One step moves along geodesics for ``drifts[0]``, kicks for ``kicks[0]``, moves for ``drifts[1]``, …, and ends
with ``drifts[-1]``, all in units of the step size. Beginning with a drift needs one force per kick and none
to start from. Palindromic tables are time reversible.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.montecarlo.manifolds import Manifold, impulse
from slmc.montecarlo.target import Configuration, Target, log_weight_and_force


class Integrator(NamedTuple):
    """Coefficients of one step; its energy error over a trajectory is O(step_size**order)."""

    drifts: tuple[float, ...]
    kicks: tuple[float, ...]
    order: int


LEAPFROG = Integrator((0.5, 0.5), (1.0,), 2)

_LAMBDA = 0.1931833275037836
"""Omelyan, Mryglod, Folk, Comput. Phys. Commun. 151, 272 (2003), eq. (31): the least error at second order."""
OMELYAN = Integrator((_LAMBDA, 1 - 2 * _LAMBDA, _LAMBDA), (0.5, 0.5), 2)

_XI, _L, _CHI = 0.1786178958448091, -0.2123418310626054, -0.06626458266981849
"""Omelyan, Mryglod, Folk, Comput. Phys. Commun. 146, 188 (2002): position-extended Forest–Ruth-like scheme."""
FOURTH_ORDER = Integrator((_XI, _CHI, 1 - 2 * (_CHI + _XI), _CHI, _XI), ((1 - 2 * _L) / 2, _L, _L, (1 - 2 * _L) / 2), 4)

INTEGRATORS = {"leapfrog": LEAPFROG, "omelyan": OMELYAN, "fourth-order": FOURTH_ORDER}


def integrate(
    integrator: Integrator,
    guide: Target,
    manifold: Manifold,
    position: Configuration,
    momentum: Configuration,
    step_size: Float[Array, ""],
    n_steps: int,
) -> tuple[Configuration, Configuration]:
    """Hamilton's equations of H = p²/2 − log W_guide(x) for ``n_steps`` steps."""
    kick = kicks(jax.grad(guide.log_weight), manifold)
    return follow(integrator, kick, manifold.move, (position, momentum), step_size, n_steps)


Kick = Callable[[Configuration, Any, Float[Array, ""]], Any]
"""A momentum, or whatever is carried along with the position, after a force has acted on it for a time."""


def kicks(force: Callable[[Configuration], Configuration], manifold: Manifold) -> Kick:
    """p → p + time · force, of the tangent part of a force (or what the ``impulse`` of the manifold makes of it)."""

    def kick(position: Configuration, momentum: Configuration, time: Float[Array, ""]) -> Configuration:
        change = impulse(manifold, position, force(position))
        return jax.tree.map(lambda p, f: p + time * f, momentum, change)

    return kick


def follow(
    integrator: Integrator,
    kick: Kick,
    move: Callable[..., tuple[Configuration, Any]],
    start: tuple[Configuration, Any],
    step_size: Float[Array, ""],
    n_steps: int,
) -> tuple[Configuration, Any]:
    """``n_steps`` steps of motion by ``move``, free or not, and of ``kick``, from a position and a momentum.

    The drift that ends a step and the one that begins the next are one move. A compiled program contains the force
    once, however many kicks a step has.
    """
    first, *between, last = integrator.drifts
    kick_shares = jnp.tile(jnp.asarray(integrator.kicks), n_steps)
    drift_shares = jnp.tile(jnp.asarray((*between, last + first)), n_steps).at[-1].set(last)

    def kick_and_drift(carry, shares):
        (position, momentum), (kick_share, drift_share) = carry, shares
        momentum = kick(position, momentum, kick_share * step_size)
        return move(position, momentum, drift_share * step_size), None

    carry = move(*start, first * step_size)
    (position, momentum), _ = jax.lax.scan(kick_and_drift, carry, (kick_shares, drift_shares))
    return position, jax.tree.map(jnp.asarray, momentum)


def integrate_labelled(
    integrator: Integrator,
    guide: Target,
    manifold: Manifold,
    position: Configuration,
    momentum: Configuration,
    step_size: Float[Array, ""],
    n_steps: int,
) -> tuple[Configuration, Configuration, tuple[Configuration, Float[Array, " kick"], Configuration]]:
    """``integrate``, and where the guide was evaluated on the way: configurations, log-weights and forces."""
    n_kicks = n_steps * len(integrator.kicks)

    def kick(position: Configuration, carried: Any, time: Float[Array, ""]) -> Any:
        momentum, place, seen = carried
        log_weight, force = log_weight_and_force(guide, position)
        seen = jax.tree.map(lambda room, new: room.at[place].set(new), seen, (position, log_weight, force))
        change = impulse(manifold, position, force)
        return jax.tree.map(lambda p, f: p + time * f, momentum, change), place + 1, seen

    def move(position: Configuration, carried: Any, time: Float[Array, ""]) -> tuple[Configuration, Any]:
        momentum, *rest = carried
        position, momentum = manifold.move(position, momentum, time)
        return position, (momentum, *rest)

    like = jax.tree.map(lambda leaf: jnp.zeros((n_kicks, *leaf.shape), leaf.dtype), position)
    start = (position, (momentum, jnp.zeros((), jnp.int64), (like, jnp.zeros(n_kicks), like)))
    position, (momentum, _, seen) = follow(integrator, kick, move, start, step_size, n_steps)
    return position, momentum, seen
