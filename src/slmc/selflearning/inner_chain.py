"""The inner chain that yields the most effective samples a second, chosen from measured costs and autocorrelations."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo.chains import init_chains, over_chains, run_chains
from slmc.montecarlo.target import Configuration, Target, evaluate
from slmc.montecarlo.update import State, Update, chain

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of inner updates among which the choice is made."""

_N_STEPS = 200

_N_EVALUATIONS = 10
"""Exact evaluations of a chain that are timed together: one alone is short beside the start of a program."""


class InnerLine(NamedTuple):
    """One inner chain that was weighed: which, how many updates, and what was measured or follows.

    ``autocorrelation`` is that of the observable between start and end of a proposal, measured on the inner chain
    alone; ``seconds`` are those of one step of one chain, inner chain and exact evaluation, on this machine with all
    chains running; ``efficiency`` is the expected number of effective samples per step.
    """

    candidate: int
    n_updates: int
    autocorrelation: float
    inner_seconds: float
    exact_seconds: float
    efficiency: float

    @property
    def samples_a_second(self) -> float:
        return self.efficiency / (self.inner_seconds + self.exact_seconds)


def expected_efficiency(acceptance: float, autocorrelation: float) -> float:
    """Effective samples per step of a chain whose proposals keep ``autocorrelation`` and are accepted at random.

    A step multiplies correlations by c = 1 − A (1 − ρ), so that 1/(2τ) = (1 − c)/(1 + c). Derived for one slow mode.
    """
    kept = 1 - acceptance * (1 - max(autocorrelation, 0.0))
    return (1 - kept) / (1 + kept)


def weigh_inner_chains(
    key: Key[Array, ""],
    target: Target,
    candidates: tuple[Update, ...],
    configurations: Configuration,
    observable: Callable[[Configuration], Array],
    acceptance: float,
) -> tuple[InnerLine, ...]:
    """Every candidate at every length, the best first.

    ``acceptance`` is the acceptance expected of independent proposals; choose as ``observable`` (a scalar of one
    configuration) the slowest that matters. The timing of the exact evaluation spends some, which
    are no samples and are not counted.
    """
    n_chains = len(jax.tree.leaves(configurations)[0])
    exact = _seconds(lambda: over_chains(_evaluate, configurations, target, _N_EVALUATIONS)) / (
        n_chains * _N_EVALUATIONS
    )
    lines = []
    for number, update in enumerate(candidates):
        series, seconds = _inner_series(jax.random.fold_in(key, number), update, configurations, observable)
        for n_updates in LENGTHS:
            kept = _autocorrelation(series, n_updates)
            efficiency = expected_efficiency(acceptance, kept)
            lines.append(InnerLine(number, n_updates, kept, n_updates * seconds / n_chains, exact, efficiency))
    return tuple(sorted(lines, key=lambda line: -line.samples_a_second))


def innermost(update: Any) -> Any:
    """The update at the bottom of a nested chain: that of the cheapest model."""
    inner = getattr(update, "inner_update", None)
    return update if inner is None else innermost(inner)


def _inner_series(
    key: Key[Array, ""], update: Update, configurations: Configuration, observable: Callable[[Configuration], Array]
) -> tuple[np.ndarray, float]:
    """The observable along the inner chains, and the seconds of one update of all of them in a chain of many."""

    def observe(state: State, info: Any) -> Array:
        return observable(state.configuration)

    states = init_chains(update, configurations)
    states, _ = run_chains(key, update, states, _N_STEPS, observe)
    _, series = run_chains(jax.random.fold_in(key, 1), update, states, _N_STEPS, observe)
    keys = jax.random.split(key, len(states.log_weight))
    seconds = _seconds(lambda: over_chains(_moved, (keys, states), update, _N_STEPS))
    return np.asarray(series), seconds / _N_STEPS


def _moved(update: Update, inputs: tuple[Key[Array, ""], State], n_steps: int) -> State:
    key, state = inputs
    return chain(key, update, state, n_steps)


def _autocorrelation(series: np.ndarray, lag: int) -> float:
    centred = series - series.mean()
    return float(np.mean(centred[:, lag:] * centred[:, :-lag]) / np.mean(centred**2))


def _evaluate(target: Target, configuration: Configuration, n_times: int) -> Any:
    """Several evaluations in a row, each with an argument of its own, lest they be computed once."""

    def body(moved: Configuration, _: Any) -> tuple[Configuration, Any]:
        log_weight, _ = evaluate(target, moved)
        return jax.tree.map(lambda leaf: leaf * (1 + 1e-300 * log_weight), moved), log_weight

    return jax.lax.scan(body, configuration, length=n_times)


def _seconds(function: Callable[[], Any], n_times: int = 3) -> float:
    """The least of several timings, after one call to compile."""
    jax.block_until_ready(function())
    return min(_timed(function) for _ in range(n_times))


def _timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - started
