"""What a chain must not lose: configurations on their manifold, weights that are numbers."""

from typing import Any

import jax
import numpy as np

from slmc.montecarlo.manifolds import Manifold
from slmc.montecarlo.target import Configuration
from slmc.montecarlo.update import State

TOLERANCE = 1e-6
"""How far a configuration may be from its manifold; rounding in double precision is far below, in single just so."""


def manifold_of(update: Any) -> Manifold | None:
    """The manifold on which an update moves; ``None`` if it does not say."""
    if isinstance(manifold := getattr(update, "manifold", None), Manifold):
        return manifold
    parts = (getattr(update, "proposal", None), getattr(update, "update", None), *getattr(update, "updates", ()))
    inside = (manifold_of(part) for part in parts if part is not None)
    return next((manifold for manifold in inside if manifold is not None), None)


def check_on_manifold(manifold: Manifold, configurations: Configuration, tolerance: float = TOLERANCE) -> None:
    """Raises ``ValueError`` for the first of several configurations, one per chain, that is off its manifold.

    Cheap, made by NumPy: for the start of chains, for checkpoints, and while running.
    """
    on_host = jax.tree.map(np.asarray, configurations)
    for chain in range(len(jax.tree.leaves(on_host)[0])):
        away = float(manifold.distance(jax.tree.map(lambda leaf, chain=chain: leaf[chain], on_host)))
        if not away <= tolerance:
            raise ValueError(
                f"the configuration of chain {chain} is not on its manifold, {type(manifold).__name__}, by {away:.1e}; "
                "its weight means nothing. Start from configurations made by Manifold.random, or normalise yours."
            )


def check_chains(update: Any, configurations: Configuration) -> None:
    """``check_on_manifold`` for the manifold that an update tells, if it does, and configurations are arrays."""
    manifold = manifold_of(update)
    if manifold is not None and isinstance(configurations, jax.Array | np.ndarray):
        check_on_manifold(manifold, configurations)


def check_weights(states: State, when: str) -> None:
    """Raises ``FloatingPointError`` for the first chain whose log-weight is NaN or +∞, where no chain gets away from.

    A log-weight of −∞, a configuration of weight zero, is left with the first step that finds another.
    """
    log_weights = np.asarray(states.log_weight)
    for chain in np.flatnonzero(np.isnan(log_weights) | np.isposinf(log_weights)):
        raise FloatingPointError(
            f"the log-weight of chain {chain} is {log_weights[chain]} {when}; a chain stays for ever where it is not a "
            "number or infinite. Check the target and its parameters at this configuration."
        )


def is_known(tree: Any) -> bool:
    """Whether arrays have values, as they have not inside a compiled program."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))
