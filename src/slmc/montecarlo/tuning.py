"""Step sizes tuned to a wanted acceptance by dual averaging, while learning; frozen while measuring."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo.chains import run_chains
from slmc.montecarlo.update import Info, State, Update, decision_of, step_size


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


@functools.lru_cache(maxsize=256)
def _acceptance_by(decision: Callable[[Any], Info]) -> Callable[[State, Any], Float[Array, "..."]]:
    """What to observe of updates with this ``decision_of``; one function for each, so that it is compiled once."""

    def accepted(state: State, info: Any) -> Float[Array, "..."]:
        return decision(info).accepted

    return accepted


def tune_step_size(
    key: Key[Array, ""],
    update: Update,
    states: State,
    where: Callable[[Update], Any] = step_size,
    wanted: float = 0.8,
    n_rounds: int = 30,
    n_steps: int = 5,
) -> tuple[Update, State]:
    """The update with its step size tuned to acceptance ``wanted`` averaged over chains, and the chains' states.

    ``where(update)`` picks the step size, by default the update's own (``slmc.montecarlo.step_size``); where replicas
    have one each, each is tuned to its own acceptance. An update without a step size is returned as it is, its chains
    too. The chains move while tuning and are not samples of the target; discard them or thermalise on.
    """
    start = where(update)
    if start is None:
        return update, states
    shape = np.shape(start)
    averaging = [DualAveraging.start(float(size)) for size in np.ravel(start)]
    accepted_by = _acceptance_by(decision_of(update))
    for key_round in jax.random.split(key, n_rounds):
        update = with_step_size(update, where, np.reshape([one.step_size for one in averaging], shape))
        states, accepted = run_chains(key_round, update, states, n_steps, accepted_by)
        acceptances = _by_size(np.asarray(accepted), len(averaging))
        averaging = [one.updated(share, wanted) for one, share in zip(averaging, acceptances, strict=True)]
    return with_step_size(update, where, np.reshape([one.averaged for one in averaging], shape)), states


def _by_size(accepted: np.ndarray, n_sizes: int) -> list[float]:
    """The mean acceptance belonging to each step size, whose axis, if there are several, is the last."""
    if n_sizes == 1:
        return [float(np.mean(accepted))]
    return [float(share) for share in np.mean(accepted.reshape(-1, n_sizes), axis=0)]


def with_step_size(update: Update, where: Callable[[Update], Any], step_size: Any) -> Update:
    """The update with the step size that ``where`` picks replaced; the compiled programs are reused."""
    return eqx.tree_at(where, update, jax.numpy.asarray(step_size, jax.numpy.float64))
