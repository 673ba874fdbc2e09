"""Step sizes tuned to a wanted acceptance by dual averaging, while learning; frozen while measuring."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo.chains import run_chains
from slmc.montecarlo.update import Sequence, State, Update, last_info


class DualAveraging(NamedTuple):
    """Nesterov's dual averaging on the logarithm of the step size: Hoffman, Gelman, JMLR 15, 1593 (2014), eq. (6).

    Feed ``updated`` the mean acceptance of each batch of steps; use ``step_size`` for the next batch and
    ``averaged`` in the end.
    """

    anchor: float
    log_step_size: float
    log_averaged: float = 0.0
    mean_error: float = 0.0
    n_batches: int = 0

    @classmethod
    def start(cls, step_size: float) -> "DualAveraging":
        return cls(math.log(step_size), math.log(step_size))

    @property
    def step_size(self) -> float:
        return math.exp(self.log_step_size)

    @property
    def averaged(self) -> float:
        return math.exp(self.log_averaged) if self.n_batches else self.step_size

    def updated(self, acceptance: float, wanted: float) -> "DualAveraging":
        gamma, offset, kappa = 0.05, 10, 0.75
        count = self.n_batches + 1
        weight = 1 / (count + offset)
        mean_error = (1 - weight) * self.mean_error + weight * (wanted - acceptance)
        # Anchored at the first guess: the published anchor, ten times larger, makes the first trials needlessly bold.
        log_step_size = self.anchor - math.sqrt(count) / gamma * mean_error
        decay = count**-kappa
        log_averaged = decay * log_step_size + (1 - decay) * self.log_averaged
        return DualAveraging(self.anchor, log_step_size, log_averaged, mean_error, count)


def _acceptance(state: State, info: Any) -> Float[Array, ""]:
    return last_info(info).accepted


def step_size_of(update: Any) -> Any:
    """The step size of a ``LocalSweep``, or of the trajectory inside a ``MetropolisHastings``; of a ``Sequence`` the
    last one's: what comes before it, a heat bath of auxiliary fields for instance, has none.
    """
    if isinstance(update, Sequence):
        return step_size_of(update.updates[-1])
    return update.proposal.step_size if hasattr(update, "proposal") else update.step_size


def tune_step_size(
    key: Key[Array, ""],
    update: Update,
    states: State,
    where: Callable[[Update], Float[Array, ""]] = step_size_of,
    wanted: float = 0.8,
    n_rounds: int = 30,
    n_steps: int = 5,
) -> tuple[Update, State]:
    """The update with its step size tuned to acceptance ``wanted`` averaged over chains, and the chains' states.

    ``where(update)`` picks the step size. The chains
    move while tuning and are not samples of the target; discard them or thermalise on.
    """
    averaging = DualAveraging.start(float(where(update)))
    for key_round in jax.random.split(key, n_rounds):
        update = with_step_size(update, where, averaging.step_size)
        states, accepted = run_chains(key_round, update, states, n_steps, _acceptance)
        averaging = averaging.updated(float(np.mean(np.asarray(accepted))), wanted)
    return with_step_size(update, where, averaging.averaged), states


def with_step_size(update: Update, where: Callable[[Update], Float[Array, ""]], step_size: float) -> Update:
    """The update with the step size that ``where`` picks replaced; the compiled programs are reused."""
    return eqx.tree_at(where, update, jax.numpy.asarray(step_size, jax.numpy.float64))
