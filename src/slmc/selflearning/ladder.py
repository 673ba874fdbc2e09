"""Replica exchange of self-learning updates: a model for every temperature, and the ladder tuned while learning."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo.chains import init_chains, run_chains
from slmc.montecarlo.target import Target
from slmc.montecarlo.tempering import ReplicaExchange, ReplicaInfo, round_trips, stacked, tuned_ladder
from slmc.montecarlo.update import State
from slmc.numbers import positive, positive_count
from slmc.selflearning.on_the_fly import Learner, learn


class LadderReport(NamedTuple):
    """One round: its temperatures, the mean swap acceptance of each pair, the held-out residual of each model.

    ``round_trips`` counts trips of all walkers of all chains from one end of the ladder to the other and back.
    """

    temperatures: Float[np.ndarray, " replica"]
    swap_acceptance: Float[np.ndarray, " pair"]
    residuals: Float[np.ndarray, " replica"]
    round_trips: int
    exact_evaluations: int


class LadderResult(NamedTuple):
    """The frozen update of all replicas, the chains where learning left them, and what each round found.

    ``models`` are the effective models, in the order of ``temperatures``.
    """

    temperatures: Float[np.ndarray, " replica"]
    models: tuple[Target, ...]
    update: ReplicaExchange
    chains: State
    reports: tuple[LadderReport, ...]


def learn_ladder(
    key: Key[Array, ""],
    learner_at: Callable[[float], Learner],
    model: Target,
    temperatures: Sequence[float],
    configurations: Float[Array, "chain replica ..."],
    n_rounds: int = 3,
    n_steps: int = 200,
    report: Callable[[LadderReport], None] | None = None,
) -> LadderResult:
    """Learns an effective model at every temperature and moves the temperatures until all pairs swap equally often.

    A round learns at each temperature, in the given order, each model starting from that of the temperature before
    (in later rounds from its own), then runs ``n_steps`` of replica exchange; their swap acceptance gives the ladder
    of the next round (``tuned_ladder``, which keeps both ends). The last round does not move it: what is returned is
    frozen, and samples count from there on.

    ``learner_at(temperature)`` gives what ``learn`` needs; ``Learner``s must differ in the values of their arrays
    alone, so build them from functions defined once, and fix ``settings.n_updates``. The model's own ``temperature``
    is not changed; its reduced couplings are what is learned. Raises ``ValueError`` for fewer than two temperatures,
    and if ``settings.n_updates`` is ``None``.
    """
    n_rounds, n_steps = positive_count(n_rounds, "n_rounds"), positive_count(n_steps, "n_steps")
    found = np.asarray(positive(temperatures, "temperatures"), float)
    if len(found) < 2:
        raise ValueError(f"replica exchange needs at least 2 temperatures; got {len(found)}.")
    if learner_at(float(found[0])).settings.n_updates is None:
        raise ValueError("all replicas share the length of the inner chain; give settings.n_updates a number.")
    models: list[Any] = [None] * len(found)
    reports: list[LadderReport] = []
    for round_ in range(n_rounds):
        updates, residuals, evaluations = [], [], 0
        for number, temperature in enumerate(found):
            start = models[number] if round_ else (models[number - 1] if number else model)
            key_learn = jax.random.fold_in(jax.random.fold_in(key, round_), number)
            learned = learn(key_learn, learner_at(float(temperature)), start, configurations[:, number])
            models[number] = learned.model
            configurations = configurations.at[:, number].set(learned.chains.configuration)
            updates.append(learned.update)
            residuals.append(learned.reports[-1].residual)
            evaluations += learned.reports[-1].exact_evaluations
        exchange = ReplicaExchange(update=stacked(updates))  # type: ignore[call-arg]
        chains = init_chains(exchange, configurations)
        key_swap = jax.random.fold_in(jax.random.fold_in(key, round_), len(found))
        chains, seen = run_chains(key_swap, exchange, chains, n_steps, _swaps)
        tried, swapped, acceptance = jax.device_get(seen)
        configurations = chains.configuration
        by_pair = np.sum(acceptance, (0, 1)) / np.maximum(np.sum(tried, (0, 1)), 1)
        trips = sum(round_trips(one).n_round_trips for one in swapped)
        # A step evaluates every replica twice: its own update, and the configuration it may swap for.
        evaluations += 2 * n_steps * len(found) * len(configurations)
        reports.append(LadderReport(found, by_pair, np.array(residuals), trips, evaluations))
        if report is not None:
            report(reports[-1])
        if round_ < n_rounds - 1:
            found = tuned_ladder(found, by_pair)
    return LadderResult(found, tuple(models), exchange, chains, tuple(reports))


def _swaps(state: State, info: ReplicaInfo) -> tuple[Array, Array, Array]:
    return info.tried, info.swapped, info.acceptance
