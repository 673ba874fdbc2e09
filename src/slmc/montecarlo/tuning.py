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
from slmc.montecarlo.soundness import manifold_of
from slmc.montecarlo.update import Info, State, Update, decision_of, step_size
from slmc.numbers import positive_count

_FARTHEST = 200.0
"""Bound of the logarithm of any step size: what lies beyond overflows where it is squared."""

_FAR = 0.15
"""Difference between the acceptance that was reached and that which was wanted, above which tuning says so."""


class DualAveraging(NamedTuple):
    """Nesterov's dual averaging on the logarithm of the step size: Hoffman, Gelman, JMLR 15, 1593 (2014), eq. (6).

    Feed ``updated`` the mean acceptance of each batch of steps; use ``step_size`` for the next batch and
    ``averaged`` in the end. No step is larger than ``exp(log_largest)``: where acceptance stays above the wanted one at
    any step size, nothing else would hold it. ``start`` raises ``ValueError`` unless the first step size and the
    largest are positive, ``updated`` for what is no acceptance.
    """

    anchor: float
    log_step_size: float
    log_averaged: float = 0.0
    mean_error: float = 0.0
    n_batches: int = 0
    log_largest: float = _FARTHEST

    @classmethod
    def start(cls, step_size: float, largest: float = math.inf) -> "DualAveraging":
        if not (0 < step_size < math.inf and largest > 0):
            raise ValueError(f"a step size must be positive and finite; got {step_size}, at most {largest}.")
        log_largest = min(math.log(largest), _FARTHEST)
        return cls(math.log(step_size), min(math.log(step_size), log_largest), log_largest=log_largest)

    @property
    def step_size(self) -> float:
        return math.exp(self.log_step_size)

    @property
    def averaged(self) -> float:
        return math.exp(self.log_averaged) if self.n_batches else self.step_size

    def updated(self, acceptance: float, wanted: float) -> "DualAveraging":
        if not 0 <= acceptance <= 1:
            raise ValueError(f"an acceptance must lie between 0 and 1; got {acceptance}.")
        gamma, offset, kappa = 0.05, 10, 0.75
        count = self.n_batches + 1
        weight = 1 / (count + offset)
        mean_error = (1 - weight) * self.mean_error + weight * (wanted - acceptance)
        # Anchored at the first guess: the published anchor, ten times larger, makes the first trials needlessly bold.
        log_step_size = self.anchor - math.sqrt(count) / gamma * mean_error
        log_step_size = max(-_FARTHEST, min(log_step_size, self.log_largest))
        decay = count**-kappa
        log_averaged = decay * log_step_size + (1 - decay) * self.log_averaged
        return DualAveraging(self.anchor, log_step_size, log_averaged, mean_error, count, self.log_largest)


class Tuning(NamedTuple):
    """The tuned update, where tuning left the chains, the acceptance of its second half and what is to be said of it.

    ``verdict`` is empty if the acceptance came near the wanted one.
    """

    update: Update
    states: State
    acceptance: float
    verdict: str


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
    too. The chains move while tuning and are not samples of the target; discard them or thermalise on. ``tune`` is the
    same and tells how it went.
    """
    return tune(key, update, states, where, wanted, n_rounds, n_steps)[:2]


def tune(
    key: Key[Array, ""],
    update: Update,
    states: State,
    where: Callable[[Update], Any] = step_size,
    wanted: float = 0.8,
    n_rounds: int = 30,
    n_steps: int = 5,
) -> Tuning:
    """``tune_step_size`` with the acceptance that was reached, and a sentence if it is far from the wanted one.

    Steps are no larger than ``largest_step`` of the manifold on which the update moves. Of several step sizes the one
    farthest off is told of. Raises ``ValueError`` unless 0 < ``wanted`` < 1, and for fewer than one round or step.
    """
    if not 0 < wanted < 1:
        raise ValueError(f"the wanted acceptance must lie between 0 and 1; got {wanted}.")
    n_rounds, n_steps = positive_count(n_rounds, "n_rounds"), positive_count(n_steps, "n_steps")
    start, manifold = where(update), manifold_of(update)
    if start is None:
        return Tuning(update, states, math.nan, "")
    largest = math.inf if manifold is None else manifold.largest_step
    shape, accepted_by = np.shape(start), _acceptance_by(decision_of(update))
    averaging = [DualAveraging.start(float(size), largest) for size in np.ravel(start)]
    history = []
    for key_round in jax.random.split(key, n_rounds):
        update = with_step_size(update, where, np.reshape([tuned.step_size for tuned in averaging], shape))
        states, accepted = run_chains(key_round, update, states, n_steps, accepted_by)
        history.append(_by_size(np.asarray(accepted), len(averaging)))
        averaging = [tuned.updated(share, wanted) for tuned, share in zip(averaging, history[-1], strict=True)]
    late = np.array(history[len(history) // 2 :])
    reached, n_decisions = late.mean(0), late.shape[0] * np.asarray(accepted).size // len(averaging)
    worst = int(np.argmax(np.abs(reached - wanted)))
    verdict = _verdict(float(reached[worst]), wanted, averaging[worst], n_decisions)
    update = with_step_size(update, where, np.reshape([tuned.averaged for tuned in averaging], shape))
    return Tuning(update, states, float(reached[worst]), verdict)


def _verdict(reached: float, wanted: float, averaging: DualAveraging, n_decisions: int) -> str:
    if abs(reached - wanted) <= max(_FAR, 3 * math.sqrt(wanted * (1 - wanted) / n_decisions)):
        return ""
    if reached > wanted and averaging.log_step_size >= averaging.log_largest:
        return (
            f"acceptance is {reached:.2f} at the largest step size that makes sense, {averaging.step_size:.3g}, where "
            f"{wanted:.2f} was wanted: any step is accepted, and the step size stays there."
        )
    return (
        f"tuning ended at acceptance {reached:.2f}, far from the {wanted:.2f} that was wanted, with step size "
        f"{averaging.averaged:.3g}; tune for more steps, or start from another step size."
    )


def _by_size(accepted: np.ndarray, n_sizes: int) -> list[float]:
    """The mean acceptance belonging to each step size, whose axis, if there are several, is the last."""
    if n_sizes == 1:
        return [float(np.mean(accepted))]
    return [float(share) for share in np.mean(accepted.reshape(-1, n_sizes), axis=0)]


def with_step_size(update: Update, where: Callable[[Update], Any], step_size: Any) -> Update:
    """The update with the step size that ``where`` picks replaced; the compiled programs are reused."""
    return eqx.tree_at(where, update, jax.numpy.asarray(step_size, jax.numpy.float64))
