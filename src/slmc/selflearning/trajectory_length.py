"""The length of a trajectory of the model that yields the most effective samples for each exact evaluation.

Self-learning hybrid Monte Carlo makes a proposal of one trajectory of the model, without a decision of the model's own.
Longer ones forget more, and are accepted less where the model is wrong.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo.chains import over_chains
from slmc.montecarlo.integrators import integrate
from slmc.montecarlo.manifolds import squared_norm
from slmc.montecarlo.target import Configuration
from slmc.selflearning.diagnostics import expected_acceptance
from slmc.selflearning.inner_chain import InnerLine, expected_efficiency

N_TRAJECTORIES = 12
"""Trajectories of the model, of each chain, along which is measured what they forget. They cost no exact evaluation."""

_GOOD_ENOUGH = 0.95
"""Of the best efficiency: the shortest trajectory that has it is taken."""


_FIRST, _GROWTH = 2, 4
"""Times the length of the round before, at most: what a model has not seen its residual does not tell of. The first
trajectories of a model go on from where exact ones have just been."""

_WELL, _BADLY = 0.3, 0.1
"""Acceptance from which trajectories may become longer, and below which they become shorter."""


def longest_allowed(before: int, acceptance: float) -> int:
    """Integrator steps that a trajectory may have, after a round whose trajectories had ``before`` of them.

    Held-out samples of early rounds are all near where chains started, and a longer trajectory goes beyond them.
    So lengths grow while measured acceptance says that they may. It is NaN in a round that had no model.
    """
    if math.isnan(acceptance):
        return _FIRST * before
    if acceptance >= _WELL:
        return _GROWTH * before
    return before if acceptance >= _BADLY else max(1, before // _GROWTH)


def weigh_trajectories(
    key: Key[Array, ""],
    candidates: tuple[Any, ...],
    configurations: Configuration,
    observable: Callable[[Configuration], Array],
    residual: float,
    longest: int,
) -> tuple[InnerLine, ...]:
    """Every candidate of at most ``longest`` steps, or the shortest; the one to take is first.

    A candidate is an update of the model by trajectories.

    A trajectory along which an observable keeps the correlation ρ and the residual of the model, of standard deviation
    s on samples of the target, the correlation ρ_r, changes log W − log W_eff by a Gaussian of variance 2 s² (1 − ρ_r)
    and is accepted with probability

        A = erfc(s √(1 − ρ_r)/2)

    of which erfc(s/2) is the limit of independent proposals. ρ_r is not known without exact evaluations; log W_eff,
    which the same modes move, lends it its own, measured along trajectories of the model as ρ is. A and ρ give the
    effective samples of a step (``expected_efficiency``). Derived for one slow mode, as that is. A short trajectory
    is accepted whatever s is, so that a poor model begins with short ones. A trajectory that explodes yields nothing.
    ``InnerLine.n_updates`` is the number of integrator steps, and times, which don't enter, are NaN.
    """
    lengths = [update.proposal.n_steps for update in candidates]
    order = [int(place) for place in np.argsort(lengths)]
    order = [place for place in order if lengths[place] <= longest] or order[:1]
    n_chains = len(jax.tree.leaves(configurations)[0])
    keys = jax.random.split(key, n_chains)
    ends = tuple(lengths[place] for place in order)
    seen = over_chains(_along, (keys, configurations), candidates[order[-1]], ends, observable)
    start, path = (np.asarray(leaf) for leaf in seen)
    lines = []
    for column, place in enumerate(order):
        kept, kept_of_residual = (_correlation(start[..., i], path[..., column, i]) for i in (0, 1))
        acceptance = expected_acceptance(residual * math.sqrt(1 - max(0.0, kept_of_residual)))
        efficiency = expected_efficiency(acceptance, kept)
        lines.append(InnerLine(place, ends[column], kept, math.nan, math.nan, efficiency, acceptance))
    best = max(line.efficiency for line in lines)
    taken = next(line for line in lines if line.efficiency >= _GOOD_ENOUGH * best)
    others = sorted((line for line in lines if line is not taken), key=lambda line: -line.efficiency)
    return (taken, *others)


def _along(update: Any, inputs: Any, ends: tuple[int, ...], observable: Callable[[Any], Array]) -> tuple[Array, Array]:
    """Observable and log W_eff at the start of every trajectory and at all ``ends``, trajectories of a chain in turn.

    The model decides whether the next begins where one ended.
    """
    key, configuration = inputs
    model, trajectory = update.target, update.proposal

    def watched(position: Configuration) -> Array:
        return jnp.stack([jnp.asarray(observable(position), jnp.float64), model.log_weight(position)])

    # All lengths are whole numbers of one stretch, so that the program holds the trajectory once.
    stretch = math.gcd(*ends)
    step = trajectory.integrator, trajectory.guide, trajectory.manifold

    def onward(moving: tuple[Configuration, Configuration], _: None) -> tuple[Any, Array]:
        moved = integrate(*step, *moving, trajectory.step_size, stretch)
        return moved, watched(moved[0])

    def body(configuration: Configuration, key: Key[Array, ""]) -> tuple[Configuration, tuple[Array, Array]]:
        key_momentum, key_decision = jax.random.split(key)
        first = trajectory.manifold.draw_momentum(key_momentum, configuration)
        begun = (configuration, first)
        (position, momentum), path = jax.lax.scan(onward, begun, None, length=ends[-1] // stretch)
        start = watched(configuration)
        log_ratio = path[-1, 1] - start[1] + (squared_norm(first) - squared_norm(momentum)) / 2
        accepted = jnp.log(jax.random.uniform(key_decision, dtype=jnp.float64)) < log_ratio
        following = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), position, configuration)
        return following, (start, path[np.array(ends) // stretch - 1])

    _, seen = jax.lax.scan(body, configuration, jax.random.split(key, N_TRAJECTORIES))
    return seen


def _correlation(start: np.ndarray, end: np.ndarray) -> float:
    """Between start and end over all trajectories; 1 where some end nowhere, and nothing can be said for them."""
    if not (np.all(np.isfinite(start)) and np.all(np.isfinite(end))):
        return 1.0
    mean = (start.mean() + end.mean()) / 2
    norm = math.sqrt(float(np.mean((start - mean) ** 2) * np.mean((end - mean) ** 2)))
    return float(np.mean((start - mean) * (end - mean))) / norm if norm > 0 else 1.0
