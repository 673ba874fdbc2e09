"""The inner chain that yields the most effective samples a second, chosen from measured costs and autocorrelations."""

import functools
import math
import time
from collections.abc import Callable, Sequence
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
"""Updates in the series from which autocorrelations are taken."""

_N_TIMED = 64
"""Updates, of a chain, that are timed together."""

_N_EVALUATIONS = 32
"""Exact evaluations of a chain that are timed together: one alone is short beside the start of a program."""

_N_REPEATS = 7
"""Timings of each program, all in turns; what else a machine does only makes them longer, so the least counts."""


class InnerLine(NamedTuple):
    """One inner chain that was weighed: which, how many updates, and what was measured or follows.

    ``autocorrelation`` is that of the observable between start and end of a proposal, measured on the inner chain
    alone; ``seconds`` are those of one step of one chain, inner chain and exact evaluation, on this machine with all
    chains running; ``efficiency`` is the expected number of effective samples per step, at the ``acceptance`` that the
    residual of the model which proposes lets expect. ``error`` is the relative error of effective samples a second,
    from how autocorrelations differ between chains and from how timings repeat.
    """

    candidate: int
    n_updates: int
    autocorrelation: float
    inner_seconds: float
    exact_seconds: float
    efficiency: float
    acceptance: float = math.nan
    error: float = math.nan

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
    acceptances: Sequence[float],
) -> tuple[InnerLine, ...]:
    """Every candidate at every length, the best first.

    ``acceptances`` are those expected of independent proposals of each candidate; choose as ``observable`` (a scalar of
    one configuration) the slowest that matters. The timing of the exact evaluation spends some, which are no samples
    and are not counted.
    """
    n_chains = len(jax.tree.leaves(configurations)[0])
    keys = jax.random.split(key, n_chains)
    programs = [functools.partial(over_chains, _evaluate, configurations, target, _N_EVALUATIONS)]
    all_series = []
    for number, update in enumerate(candidates):
        states, series = _inner_series(jax.random.fold_in(key, number), update, configurations, observable)
        all_series.append(series)
        programs.append(functools.partial(over_chains, _moved, (keys, states), update, _N_TIMED))
    (exact, exact_error), *timings = _least_seconds(programs)
    exact /= n_chains * _N_EVALUATIONS
    lines = []
    for number, (series, (seconds, inner_error)) in enumerate(zip(all_series, timings, strict=True)):
        for n_updates in LENGTHS:
            kept, kept_error = _autocorrelation(series, n_updates)
            efficiency = expected_efficiency(acceptances[number], kept)
            lower = expected_efficiency(acceptances[number], min(kept + kept_error, 1.0))
            inner = n_updates * seconds / (n_chains * _N_TIMED)
            time_error = (inner * inner_error + exact * exact_error) / (inner + exact)
            error = math.hypot(1 - lower / efficiency if efficiency else math.inf, time_error)
            lines.append(InnerLine(number, n_updates, kept, inner, exact, efficiency, acceptances[number], error))
    return tuple(sorted(lines, key=lambda line: -line.samples_a_second))


def innermost(update: Any) -> Any:
    """The update at the bottom of a nested chain: that of the cheapest model."""
    inner = getattr(update, "inner_update", None)
    return update if inner is None else innermost(inner)


def _inner_series(
    key: Key[Array, ""], update: Update, configurations: Configuration, observable: Callable[[Configuration], Array]
) -> tuple[State, np.ndarray]:
    """Where inner chains are after some updates, and the observable along as many again."""
    observe = _observing(observable)
    states = init_chains(update, configurations)
    states, _ = run_chains(key, update, states, _N_STEPS, observe)
    states, series = run_chains(jax.random.fold_in(key, 1), update, states, _N_STEPS, observe)
    return states, np.asarray(series)


@functools.lru_cache(maxsize=64)
def _observing(observable: Callable[[Configuration], Array]) -> Callable[[State, Any], Array]:
    """One and the same function for an observable, so that it is compiled once and not in every round."""

    def observe(state: State, info: Any) -> Array:
        return observable(state.configuration)

    return observe


def _moved(update: Update, inputs: tuple[Key[Array, ""], State], n_steps: int) -> State:
    key, state = inputs
    return chain(key, update, state, n_steps)


def _autocorrelation(series: np.ndarray, lag: int) -> tuple[float, float]:
    """Between values a lag apart, with its error from the differences between chains."""
    centred = series - series.mean()
    by_chain = np.mean(centred[:, lag:] * centred[:, :-lag], axis=1) / np.mean(centred**2)
    error = np.std(by_chain, ddof=1) / np.sqrt(len(by_chain)) if len(by_chain) > 1 else 0.0
    return float(by_chain.mean()), float(error)


def _evaluate(target: Target, configuration: Configuration, n_times: int) -> Any:
    """Several evaluations in a row, each with an argument of its own, lest they be computed once."""

    def body(moved: Configuration, _: Any) -> tuple[Configuration, Any]:
        log_weight, _ = evaluate(target, moved)
        return jax.tree.map(lambda leaf: leaf * (1 + 1e-300 * log_weight), moved), log_weight

    return jax.lax.scan(body, configuration, length=n_times)


def _least_seconds(programs: Sequence[Callable[[], Any]]) -> list[tuple[float, float]]:
    """The least of several timings of each program, in turns, and by how much of itself the next one is longer."""
    for program in programs:
        jax.block_until_ready(program())
    rounds = [[_timed(program) for program in programs] for _ in range(_N_REPEATS)]
    return [(least, following / least - 1) for least, following, *_ in map(sorted, zip(*rounds, strict=True))]


def _timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - started
