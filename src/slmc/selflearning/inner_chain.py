"""The inner chain that yields the most effective samples a second, chosen from measured costs and autocorrelations."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo.chains import init_chains, over_chains, run_chains
from slmc.montecarlo.random_keys import inline
from slmc.montecarlo.target import Configuration, Target, evaluate
from slmc.montecarlo.update import State, Update, chain
from slmc.statistics.autocorrelations import autocorrelation_by_chain

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Numbers of inner updates among which the choice is made."""

_N_STEPS = 200
"""Updates in the series from which autocorrelations are taken."""

_N_TOGETHER = 4
"""Updates in one proposal whose time is taken, about as many as are chosen: what a proposal costs whatever its length
is then shared as it is in a run."""

_LONG_ENOUGH = 0.03
"""Seconds that a timed program should run at least: starting it takes a millisecond, as long as many evaluations."""

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

    For one slow mode: a step multiplies correlations by c = 1 − A (1 − ρ), so that 1/(2τ) = (1 − c)/(1 + c). It is
    ``efficiency_of_modes`` with ρ_k = ρ^k.
    """
    kept = max(autocorrelation, 0.0)
    return efficiency_of_modes(acceptance, kept / (1 - kept)) if kept < 1 else 0.0


def efficiency_of_modes(acceptance: float, memory: float) -> float:
    """Effective samples per step of a chain whose proposals are accepted at random, for any number of modes.

    ``memory`` is Σ_{k ≥ 1} ρ_k, the autocorrelations of the observable between the start of a proposal and the end of
    the k-th one after the other, all accepted. Of m steps k are accepted with the probability of a binomial
    distribution, whose sum over m is 1/A for each k, so that the correlations of the chain add up to

        2τ = 1 + 2 Σ_{m ≥ 1} C(m) = (2/A) (1 + Σ_{k ≥ 1} ρ_k) − 1
    """
    return acceptance / (2 * (1 + memory) - acceptance)


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
    programs = [_Program(_evaluate, configurations, target)]
    all_series = []
    for number, update in enumerate(candidates):
        states, series = _inner_series(jax.random.fold_in(key, number), update, configurations, observable)
        all_series.append(series)
        programs.append(_Program(_moved, (keys, states), update))
    (exact, exact_error), *timings = _least_seconds(programs)
    exact /= n_chains
    lines = []
    for number, (series, (seconds, inner_error)) in enumerate(zip(all_series, timings, strict=True)):
        correlations = autocorrelation_by_chain(series)
        for n_updates in LENGTHS:
            remembered, memory_error = memory(correlations, n_updates)
            efficiency = efficiency_of_modes(acceptances[number], remembered)
            lower = efficiency_of_modes(acceptances[number], remembered + memory_error)
            inner = n_updates * seconds / (n_chains * _N_TOGETHER)
            time_error = (inner * inner_error + exact * exact_error) / (inner + exact)
            error = math.hypot(1 - lower / efficiency if efficiency else math.inf, time_error)
            kept = float(correlations[:, n_updates].mean())
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


class _Program(NamedTuple):
    """What is timed: ``function((shared, n_times), chain)`` for all chains, compiled once for any number of times."""

    function: Callable[[tuple[Any, Array], Any], Any]
    chained: Any
    shared: Any

    def seconds(self, n_times: int) -> float:
        """Of one time."""
        started = time.perf_counter()
        shared = self.shared, jnp.asarray(n_times)
        jax.block_until_ready(over_chains(self.function, self.chained, shared))
        return (time.perf_counter() - started) / n_times


def _moved(shared: tuple[Update, Array], inputs: tuple[Key[Array, ""], State]) -> State:
    """Several proposals in a row."""
    update, n_times = shared
    key, start = inputs

    def body(number: Array, state: State) -> State:
        return chain(jax.random.fold_in(inline(key), number), update, state, _N_TOGETHER)

    return jax.lax.fori_loop(0, n_times, body, start)


def memory(correlations: np.ndarray, n_updates: int) -> tuple[float, float]:
    """Σ_k ρ_k over proposals of so many updates, with its error from the differences between chains.

    As far as five times the autocorrelation time of one update: what comes later is noise (Sokal, Monte Carlo methods
    in statistical mechanics, 1997, section 3).
    """
    times = 0.5 + np.cumsum(correlations.mean(axis=0)[1:])
    long_enough = np.flatnonzero(np.arange(1, len(times) + 1) >= 5 * times)
    window = long_enough[0] + 1 if len(long_enough) else len(times)
    by_chain = correlations[:, n_updates : max(window, n_updates) + 1 : n_updates].sum(axis=1)
    error = np.std(by_chain, ddof=1) / np.sqrt(len(by_chain)) if len(by_chain) > 1 else 0.0
    return max(float(by_chain.mean()), 0.0), float(error)


def _evaluate(shared: tuple[Target, Array], configuration: Configuration) -> Configuration:
    """Several evaluations in a row, each with an argument of its own, lest they be computed once."""
    target, n_times = shared

    def body(_: Array, moved: Configuration) -> Configuration:
        log_weight, observables = evaluate(target, moved)
        # Observables are a part of what a step costs, so that they have to enter what is returned.
        seen = sum((jnp.sum(leaf) for leaf in jax.tree.leaves(observables)), start=log_weight)
        almost_one = 1 + 1e-300 * jnp.where(jnp.isfinite(seen), seen, 0.0)
        return jax.tree.map(lambda leaf: (leaf * almost_one).astype(leaf.dtype), moved)

    return jax.lax.fori_loop(0, n_times, body, configuration)


def _least_seconds(programs: Sequence[_Program]) -> list[tuple[float, float]]:
    """The least of several timings of each program, in turns, and by how much of itself the next one is longer."""
    n_times = [_enough_times(program) for program in programs]
    rounds = [[one.seconds(n) for one, n in zip(programs, n_times, strict=True)] for _ in range(_N_REPEATS)]
    return [(least, following / least - 1) for least, following, *_ in map(sorted, zip(*rounds, strict=True))]


def _enough_times(program: _Program) -> int:
    program.seconds(1)  # compiles
    n_times = 1
    while (seconds := n_times * program.seconds(n_times)) < _LONG_ENOUGH:
        n_times *= max(2, min(64, math.ceil(_LONG_ENOUGH / seconds)))
    return n_times
