"""Symplectic integrators as tables of coefficients.

One step moves along geodesics for ``drifts[0]``, kicks for ``kicks[0]``, moves for ``drifts[1]``, …, and ends
with ``drifts[-1]``, all in units of the step size. Beginning with a drift needs one force per kick and none
to start from. Palindromic tables are time reversible.
"""

import functools
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
    force, kick = jax.grad(guide.log_weight), functools.partial(impulse, manifold)
    return follow(integrator, force, kick, manifold.move, (position, momentum), step_size, n_steps)


def follow(
    integrator: Integrator,
    force: Callable[..., Configuration],
    project: Callable[..., Configuration],
    move: Callable[..., tuple[Configuration, Configuration]],
    start: tuple[Configuration, Configuration],
    step_size: Float[Array, ""],
    n_steps: int,
) -> tuple[Configuration, Configuration]:
    """``n_steps`` steps of motion by ``move``, free or not, and kicks by ``force``, from a position and a momentum.

    The drift that ends a step and the one that begins the next are one move.
    """
    moved, _ = _followed(integrator, lambda x: (force(x), None), project, move, start, step_size, n_steps)
    return moved


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

    def force(position: Configuration) -> tuple[Configuration, Any]:
        log_weight, force = log_weight_and_force(guide, position)
        return force, (position, log_weight, force)

    kick = functools.partial(impulse, manifold)
    start = (position, momentum)
    moved, seen = _followed(integrator, force, kick, manifold.move, start, step_size, n_steps)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *seen)
    return *moved, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stacked)


def _followed(
    integrator: Integrator,
    force: Callable[..., tuple[Configuration, Any]],
    project: Callable[..., Configuration],
    move: Callable[..., tuple[Configuration, Configuration]],
    start: tuple[Configuration, Configuration],
    step_size: Float[Array, ""],
    n_steps: int,
) -> tuple[tuple[Configuration, Configuration], Any]:
    first, *between, last = integrator.drifts
    last_drifts = jnp.full(n_steps, last + first).at[-1].set(last)

    def step(carry, last_drift):
        (position, momentum), all_seen = carry, []
        for drift, kick in zip((*between, last_drift), integrator.kicks, strict=True):
            pull, seen = force(position)
            all_seen.append(seen)
            change = project(position, pull)
            momentum = jax.tree.map(lambda p, f, kick=kick: p + kick * step_size * f, momentum, change)
            position, momentum = move(position, momentum, drift * step_size)
        return (position, momentum), all_seen

    (position, momentum), seen = jax.lax.scan(step, move(*start, first * step_size), last_drifts)
    return (position, jax.tree.map(jnp.asarray, momentum)), seen
