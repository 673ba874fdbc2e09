"""The change of an action between two gauge fields: what a guide of self-learning hybrid Monte Carlo learns from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from slmc.montecarlo.target import LogWeight, Target
from slmc.systems.gauge.dynamical import Dynamical, PseudofermionField, PseudofermionTarget
from slmc.systems.gauge.links import Links


class TrajectoryEnds(NamedTuple):
    """Two gauge fields with one pseudofermion field: where a trajectory starts and where it ends."""

    start: Links
    end: Links
    pseudofermion: PseudofermionField


class ActionChange(Target):
    """log W(end, φ) − log W(start, φ) of an action, as ``slmc.selflearning.fit`` wants it to train a guide.

    What is trained is the smearing, ``fit(…, where=lambda change: change.action.smearing)``: the other numbers of the
    action have no gradient, and weight decay alone would move them.

    A trajectory holds φ fixed, so that a guide which is wrong by a function of φ alone is a perfect one, and SLHMC
    accepts with erfc(s/√8) where s is the standard deviation of the guide's error in this change. Over independent
    pairs (U, φ) most of the variance of that error is the function of φ, which is noise to a training and no loss to
    the sampler.
    """

    action: PseudofermionTarget

    def log_weight(self, ends: TrajectoryEnds) -> LogWeight:
        """The change of log W between the two ends."""
        both = jnp.stack([ends.start, ends.end])
        start, end = jax.vmap(lambda links: self.action.log_weight(Dynamical(links, ends.pseudofermion)))(both)
        return end - start
