"""What a line of the tables says of an object under test, and the wrong twin that every proposal has."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from slmc.montecarlo import Manifold, Proposal, Target, Update


class Weight(NamedTuple):
    """A target with random parameters, a configuration of it, and transformations under which log W stays.

    ``manifold`` is where its force is compared with differences and trajectories run.
    """

    target: Target
    manifold: Manifold
    configuration: Any
    symmetries: tuple[Callable[[Any], Any], ...]


class Solvable(NamedTuple):
    """A target with independent exact draws: updates that leave it invariant, and wrong twins that do not.

    ``draws()`` has them on the leading axis, as many as are compared; ``statistics`` are those of ``check_invariance``.
    """

    target: Callable[[], Target]
    draws: Callable[[], Any]
    statistics: dict[str, Callable[[Any], Any]]
    updates: dict[str, Callable[[Any], Update]]
    wrong: dict[str, Callable[[Any], Update]] = {}  # noqa: RUF012


class WithoutRatio(Proposal):
    """Wrong: forgets the proposal ratio."""

    proposal: Proposal

    def propose(self, key, configuration):
        return self.proposal.propose(key, configuration)[0], jnp.zeros(())
