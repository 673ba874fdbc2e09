"""One run that samples, from start to end: thermalise, learn, freeze, measure, compare."""

import functools
import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import (
    Configuration,
    Info,
    Proposal,
    Repeated,
    Sequence,
    State,
    Target,
    Update,
    decision_of,
    evaluate,
    evaluations_per_step,
    init_chains,
    over_chains,
    run_chains,
    step_size,
    tune,
    with_step_size,
)
from slmc.selflearning import RoundReport
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.clock import Clock
from slmc.simulation.described import describe
from slmc.simulation.directory import records_path
from slmc.simulation.loop import Files, Phase, following, phase_of
from slmc.simulation.progress import Reporter
from slmc.simulation.records import Records, Variable
from slmc.simulation.stopping import Stopped, Stopper
from slmc.statistics import estimate, has_moved
from slmc.system import Problem, RunSettings, UserError, save_model

THERMALISE, LEARN, MEASURE, BASELINE, DONE = (
    Phase(name, number) for number, name in enumerate(("thermalise", "learn", "measure", "baseline", "done"))
)
_START = Phase("start", 99)
_N_COUNTS = 5
"""Exact evaluations are counted by the numbers of the phases."""

_ROUND_FIGURES = (
    "residual",
    "training_residual",
    "expected_acceptance",
    "acceptance",
    "inner_step_size",
    "n_labels",
    "exact_evaluations",
)
"""Figures of a round of learning that are recorded; its times are not, for records repeat to the bit."""

_TUNING_ROUNDS = 30
"""Batches of steps, at most, after each of which the step size changes."""


class RunState(NamedTuple):
    """Everything needed to go on. ``evaluations`` counts exact evaluations by phase; without a model nothing learns."""

    phase: Any
    block: Any
    number: Any
    target: Target
    exact_step_size: Any
    chains: State
    learning: Any
    evaluations: Any


class Sampling:
    """A run that samples, as the loop sees it: thermalise, learn, freeze, measure, compare.

    Random numbers follow from the seed, the phase and the number of the block. ``identity`` is that of the settings,
    and of the problem where no settings describe it.
    """

    def __init__(
        self, directory: Path, settings: RunSettings, problem: Problem, reporter: Reporter, identity: str | None = None
    ) -> None:
        self.directory, self.settings, self.problem, self.reporter = directory, settings, problem, reporter
        self.records = Records(records_path(directory))
        free = ", ".join(settings.may_change)
        self.checkpoints = Checkpoints(directory / "checkpoints", identity or settings.identity, free)
        self.clock = Clock(directory / "progress.json")
        self._key = jax.random.key(settings.seed)
        self._warned: set[str] = set()
        self._described: set[tuple[str, str]] = set()
        self._series: dict[str, dict[str, np.ndarray]] = {"measurement": {}, "baseline": {}}

    @property
    def files(self) -> Files:
        return Files(self.directory, self.records, self.checkpoints, self.clock, self.reporter)

    @property
    def phases(self) -> tuple[Phase, ...]:
        left_out = () if self.settings.learns else (LEARN,)
        if not self.settings.baseline.n_steps:
            left_out = (*left_out, BASELINE)
        return tuple(phase for phase in (THERMALISE, LEARN, MEASURE, BASELINE, DONE) if phase not in left_out)

    @property
    def wall_time(self) -> float | None:
        return self.settings.measurement.wall_time

    # ---------------------------------------------------------------- state

    def new_state(self) -> RunState:
        n_chains = self.settings.measurement.n_chains
        configurations = self.problem.start(self._key_of(_START, 0), n_chains)
        check_start(configurations, n_chains)
        exact = self.problem.exact(self.problem.target)
        try:
            chains = init_chains(exact, configurations)
        except ValueError as error:
            raise UserError(f"{error}") from None
        learning = None
        if self.settings.learns:
            learning = self._learner_of(self.problem.target, exact).begin(self.problem.model, chains)
        size = step_size(exact)
        return RunState(
            phase=np.asarray(THERMALISE.number),
            block=np.asarray(0),
            number=np.asarray(0),
            target=self.problem.target,
            exact_step_size=np.asarray(math.nan if size is None else size),
            chains=chains,
            learning=learning,
            evaluations=np.zeros(_N_COUNTS, np.int64),
        )

    def begin(self, state: RunState) -> RunState:
        return state

    def go_on(self, state: RunState, lengths: dict[str, int]) -> RunState:
        self._series = {group: self.records.read(group) for group in self._series}
        return state

    def is_sound(self, state: RunState) -> bool:
        return True

    def about(self, state: RunState) -> dict[str, Any]:
        sought = self.problem.sought
        sought_values = {} if sought is None else sought.values(state.target)
        return {"evaluations": self._evaluations(state), "found": sought_values, "learns": self.settings.learns}

    def n_blocks(self, state: RunState) -> int:
        """Blocks of the phase; thermalise, measure and baseline begin with one that is not recorded."""
        if int(state.phase) == LEARN.number:
            return self.settings.learning.n_rounds
        n_steps = {
            THERMALISE.number: self.settings.thermalisation.n_steps,
            MEASURE.number: self.settings.measurement.n_steps,
            BASELINE.number: self.settings.baseline.n_steps,
        }.get(int(state.phase), 0)
        return math.ceil(n_steps / self.settings.measurement.block_size) + 1 if n_steps else 0

    def _key_of(self, phase: Phase, block: int) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.fold_in(self._key, phase.number), block)

    def _evaluations(self, state: RunState) -> dict[str, int]:
        counts = [int(count) for count in np.asarray(state.evaluations)]
        return {"learning": counts[0] + counts[1], "measurement": counts[2], "baseline": counts[3]}

    def _exact(self, state: RunState) -> Update:
        update = self.problem.exact(state.target)
        return update if step_size(update) is None else with_step_size(update, step_size, state.exact_step_size)

    def _learner(self, state: RunState) -> Any:
        return self._learner_of(state.target, self._exact(state))

    def _learner_of(self, target: Target, exact: Update) -> Any:
        return self.problem.learner_of(target, exact, self.settings.learning_settings)

    def _counted(self, state: RunState, update: Update, n_steps: int) -> np.ndarray:
        counts = np.array(state.evaluations)
        configuration = jax.tree.map(lambda leaf: leaf[0], state.chains.configuration)
        counts[int(state.phase) if int(state.block) else 0] += (
            n_steps * self.settings.measurement.n_chains * evaluations_per_step(update, configuration)
        )
        return counts

    # --------------------------------------------------------------- phases

    def advance(self, state: RunState, stopper: Stopper) -> RunState:
        phase, block = int(state.phase), int(state.block)
        if phase == LEARN.number:
            return self._learn(state, stopper)
        blocks = {
            THERMALISE.number: self._thermalise,
            MEASURE.number: self._measure,
            BASELINE.number: self._baseline,
        }
        state = blocks[phase](state)._replace(block=np.asarray(block + 1))
        if block + 1 >= self.n_blocks(state) or (phase == MEASURE.number and self._is_precise_enough()):
            state = following(self, state)
        return state

    def _thermalise(self, state: RunState) -> RunState:
        if not int(state.block):
            return self._tune(state)
        block, sought = int(state.block), self.problem.sought
        n_steps = min(self.settings.measurement.block_size, self.settings.thermalisation.n_steps)
        with self.clock.lap("thermalise"):
            update, key = self._exact(state), self._key_of(THERMALISE, block)
            chains, observed = run_chains(key, update, state.chains, n_steps, self._observe_thermalisation)
            accepted, log_weight, seen = jax.device_get(observed)
        self._append("thermalisation", {"log_weight": log_weight, "accepted": accepted})
        state = state._replace(chains=chains, evaluations=self._counted(state, update, n_steps))
        if sought is not None and block <= self.n_blocks(state) // 2:
            # Shares of 1/2, 1/3, … average what the blocks ask for.
            state = self._with_target(state, sought.adjusted(state.target, chains.configuration, seen, 1 / (block + 1)))
        self._check_finite(log_weight)
        self.reporter.advance(block + 1, acceptance=accepted.mean(), log_weight=log_weight.mean())
        return state

    def _tune(self, state: RunState) -> RunState:
        """The block before the first that is recorded: the step size is tuned, parameters are sought for a start."""
        update, target = self._exact(state), state.target
        with self.clock.lap("thermalise"):
            if step_size(update) is not None:
                state = self._with_tuned_step(state, update)
            if self.problem.sought is not None:
                target = self.problem.sought.adjusted(target, state.chains.configuration, None, 1.0)
            chains = init_chains(self.problem.exact(target), state.chains.configuration)
        return state._replace(chains=chains, target=target)

    def _with_tuned_step(self, state: RunState, update: Update) -> RunState:
        exact = self.settings.exact
        n_rounds = min(_TUNING_ROUNDS, exact.tuning_steps)
        each = math.ceil(exact.tuning_steps / n_rounds)
        key = self._key_of(THERMALISE, 0)
        tuning = tune(key, update, state.chains, wanted=exact.acceptance, n_rounds=n_rounds, n_steps=each)
        tuned, chains = tuning.update, tuning.states
        if tuning.verdict:
            self._warn("tuning", f"exact update: {tuning.verdict}")
        counted = self._counted(state, tuned, n_rounds * each)
        return state._replace(exact_step_size=np.asarray(step_size(tuned)), chains=chains, evaluations=counted)

    def _with_target(self, state: RunState, target: Target) -> RunState:
        if target is state.target:
            return state
        chains = init_chains(self.problem.exact(target), state.chains.configuration)
        return state._replace(target=target, chains=chains)

    @cached_property
    def _observe_thermalisation(self) -> Callable[[State, Any], tuple[Array, Array, Any]]:
        decision, sought = decision_of(self.problem.exact(self.problem.target)), self.problem.sought
        watch = None if sought is None else sought.watch

        def observe(state: State, info: Any) -> tuple[Array, Array, Any]:
            seen = None if watch is None else watch(state, info)
            return jnp.mean(decision(info).accepted), state.log_weight, seen

        return observe

    def _learn(self, state: RunState, stopper: Stopper) -> RunState:
        learner, learning, round_ = self._learner(state), state.learning, int(state.block)
        if round_ == 0:
            learning = learner.with_chains(learning, state.chains)

        def watch(step: int, loss: float, residual: float) -> None:
            if stopper.requested:
                raise Stopped
            done = round_ + step / max(1, learner.settings.training_in(round_).n_steps)
            self.reporter.advance(min(done, round_ + 0.99), residual=residual)

        before = self.clock.seconds("learn")
        with self.clock.lap("learn"):
            learning, report = learner.round(self._key_of(LEARN, round_), learning, watch)
        # The report's times include compiling, the clock's do not: only their proportion is taken.
        training = report.seconds_training / (report.seconds_sampling + report.seconds_training)
        self.clock.move("learn", "training", training * (self.clock.seconds("learn") - before))
        self._record_round(report)
        for text in report.warnings:
            self._warn(text, text)
        self.reporter.advance(round_ + 1, residual=report.residual, acceptance=report.acceptance)
        counts = np.array(state.evaluations)
        counts[1] = int(learning.exact_evaluations)
        state = state._replace(
            chains=learning.chains, learning=learning, evaluations=counts, block=np.asarray(round_ + 1)
        )
        return self._freeze(state, learner) if learner.is_finished(learning) else state

    def _freeze(self, state: RunState, learner: Any) -> RunState:
        """Stores the model, drops the training data, and starts the chains of the measurement."""
        learning = learner.frozen(state.learning, self.problem.finished)
        describe = self.problem.fit.describe
        save_model(self.directory / "model.eqx", learning.model, describe(learning.model) if describe else {})
        update = learner.update(learning)
        state = state._replace(learning=learning, chains=init_chains(update, state.chains.configuration))
        self._time_parts(state, update)
        return following(self, state)

    def _measure(self, state: RunState) -> RunState:
        settings, block = self.settings.measurement, int(state.block)
        update = self._measurement_update(state)
        n_steps = settings.block_size if block else settings.n_thermalise
        if not n_steps:
            return state
        with self.clock.lap("measure" if block else "other"):
            state = self._sample(state, update, n_steps, "measurement" if block else None)
        return state._replace(evaluations=self._counted(state, update, n_steps))

    def _baseline(self, state: RunState) -> RunState:
        settings, block = self.settings.measurement, int(state.block)
        update = self._exact(state)
        n_steps = settings.block_size
        with self.clock.lap("baseline" if block else "other"):
            if not block:
                state = state._replace(chains=init_chains(update, state.chains.configuration))
            state = self._sample(state, update, n_steps, "baseline" if block else None)
        return state._replace(evaluations=self._counted(state, update, n_steps)) if block else state

    def _measurement_update(self, state: RunState) -> Update:
        if state.learning is None:
            return self._exact(state)
        update: Update = self._learner(state).update(state.learning)
        every = self.settings.exact.every
        return Sequence((Repeated(update, every), self._exact(state)), decisive=0) if every else update

    # -------------------------------------------------------------- records

    def _sample(self, state: RunState, update: Update, n_steps: int, group: str | None) -> RunState:
        block, key = int(state.block), self._key_of(phase_of(self, state), int(state.block))
        chains, observed = run_chains(key, update, state.chains, n_steps, self._observer(update))
        scalars, fields = jax.device_get(observed)
        if group is not None:
            self._append(group, scalars)
            self._extend_series(group, scalars)
            means = {name: values.mean(1, keepdims=True) for name, values in fields.items()}
            self._append(group, means, "block")
            self._check_finite(scalars["log_weight"])
            self._check_measurement(group)
            figures = {"acceptance": scalars["accepted"].mean()}
            if group == "measurement":
                figures["effective_samples_a_second"] = self._samples_a_second()
            self.reporter.advance(block + 1, **figures)
        return state._replace(chains=chains)

    def _observer(self, update: Update) -> Callable[[State, Any], tuple[dict[str, Array], dict[str, Array]]]:
        """What is recorded of a step; one and the same function for a phase, so that it is compiled once."""
        return _observer_of(decision_of(update), self.problem.observe)

    def _extend_series(self, group: str, scalars: Mapping[str, np.ndarray]) -> None:
        """Keeps the scalars measured so far in memory, for the figures shown while running."""
        old = self._series[group]
        self._series[group] = {
            name: np.concatenate([old[name], values], axis=1) if name in old else values
            for name, values in scalars.items()
        }

    def _append(self, group: str, values: Mapping[str, np.ndarray], growing: str = "draw") -> None:
        variables = {}
        for name, value in values.items():
            about = self.problem.described.get(name)
            axes = getattr(about, "axes", ()) or tuple(f"{name}_axis{axis}" for axis in range(np.ndim(value) - 2))
            words = ("", "") if about is None else (about.units, about.description)
            variables[name] = Variable(("chain", growing, *axes), np.asarray(value), *words)
        self.records.append(group, variables)
        if (group, growing) not in self._described:
            self._described.add((group, growing))
            describe(self.records, group, self.problem)

    def _record_round(self, report: RoundReport) -> None:
        lines = {name: Variable(("round",), np.array([getattr(report, name)])) for name in _ROUND_FIGURES}
        lines |= {
            f"{name}_by_replica": Variable(("round", "replica"), values[None])
            for name, values in report.by_replica.items()
        }
        history = np.column_stack([np.full(len(report.history), report.round), report.history])
        lines["history"] = Variable(("evaluation", "history_column"), history)
        self.records.append("learning", lines)
        parity = {"predicted": report.predicted, "exact": report.exact}
        self.records.replace("learning", {name: Variable(("sample",), values) for name, values in parity.items()})
        if len(report.inner):
            # Times, and the choice made from them, do not repeat from run to run.
            words = "; ".join(self.problem.inner)
            weighed = Variable(("line", "column"), report.inner, description=words)
            self.records.replace("inner_chain", {"weighed": weighed})

    # --------------------------------------------------------------- checks

    def _is_precise_enough(self) -> bool:
        series = self._series["measurement"]
        if not series or series["log_weight"].shape[1] < 2 * self.settings.measurement.block_size:
            return False
        moved = has_moved(series["log_weight"], series["accepted"])
        return self.settings.measurement.are_met(series, self.problem.n_samples, moved)

    def _samples_a_second(self) -> float:
        series, seconds = self._series["measurement"], self.clock.seconds("measure")
        ess = estimate(series[self.problem.figure_of_merit.name], self.problem.n_samples).ess
        return ess / seconds if ess and seconds > 0 else math.nan

    def _check_finite(self, log_weight: np.ndarray) -> None:
        if not np.all(np.isfinite(log_weight)):
            self._warn("nan", "log-weights are not finite; check the target's parameters (a very low temperature?).")

    def _check_measurement(self, group: str) -> None:
        series = self._series[group]
        n_draws = series["log_weight"].shape[1]
        acceptance = series["accepted"].mean()
        proposes = group == "measurement" and self.settings.learns
        if acceptance < 0.02:
            self._warn(f"low {group}", f"acceptance is {acceptance:.3f}: {_OTHER_MODEL if proposes else _OTHER_STEPS}")
        if acceptance > 0.999 and n_draws > 200 and not proposes:
            self._warn("high", "acceptance is 1: steps are too small; lower exact.acceptance.")
        if n_draws < 4 * self.settings.measurement.block_size:
            return
        merit = self.problem.figure_of_merit.name
        slowest = estimate(series[merit], self.problem.n_samples)
        if slowest.r_hat is not None and slowest.r_hat > 1.1:
            self._warn(
                f"chains {group}",
                f"chains disagree on {merit} (R-hat {slowest.r_hat:.2f}) after {n_draws} draws; "
                f"{'mix exact updates in with exact.every' if proposes else f'raise {group}.n_steps'}, or thermalise "
                "longer.",
            )
        if slowest.ess is not None and slowest.ess < 5 * len(series["log_weight"]):
            self._warn(
                f"slow {group}",
                f"the autocorrelation time of {merit} is about "
                f"{series['log_weight'].size / 2 / slowest.ess:.0f} draws, too long for {n_draws} draws a chain; raise "
                f"{group}.n_steps{' or inner.n_updates' if proposes else ''}.",
            )

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned and text not in self.clock.warnings:
            self._warned.add(kind)
            self.clock.warnings.append(text)
            self.reporter.warn(text)

    def _time_parts(self, state: RunState, update: Update) -> None:
        """Times the exact evaluation and the inner chain alone, to split the time of steps that do both."""
        proposal = getattr(update, "proposal", None)
        if proposal is None:
            return
        keys = jax.random.split(self._key_of(_START, 1), len(state.chains.log_weight))
        configurations = state.chains.configuration
        exact = _seconds(lambda: over_chains(_evaluate, configurations, state.target))
        inner = _seconds(lambda: over_chains(_propose, (keys, configurations), proposal))
        self.clock.inner_share = inner / (inner + exact)


@functools.lru_cache(maxsize=64)
def _observer_of(
    decision: Callable[[Any], Info], measure: Callable[[State], tuple[dict[str, Array], dict[str, Array]]]
) -> Callable[[State, Any], tuple[dict[str, Array], dict[str, Array]]]:
    def observe(state: State, info: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        decided, (scalars, fields) = decision(info), measure(state)
        about_decision = {
            "log_weight": state.log_weight,
            "accepted": decided.accepted.mean(),
            "log_ratio": decided.log_ratio.reshape(-1)[-1],
        }
        return {**about_decision, **scalars}, fields

    return observe


def check_start(configurations: Any, n_chains: int) -> None:
    """Raises ``UserError`` unless there are as many starting configurations as chains, all of them finite numbers."""
    for leaf in jax.tree.leaves(configurations):
        if np.ndim(leaf) == 0 or len(leaf) != n_chains:
            raise UserError(
                f"start(key, n_chains) must return arrays with a leading axis of n_chains = {n_chains} chains; got one "
                f"of shape {np.shape(leaf)}."
            )
        if not np.all(np.isfinite(leaf)):
            raise UserError("start(key, n_chains) returned numbers that are not finite; chains cannot start there.")


_OTHER_MODEL = (
    "the model does not describe the target; learn more (learning.n_rounds), use a richer model, or a shorter inner "
    "chain (inner.n_updates)."
)
_OTHER_STEPS = "the step size does not fit; thermalise longer so that it is tuned where it is used."


def _evaluate(target: Target, configuration: Configuration) -> Any:
    return evaluate(target, configuration)


def _propose(proposal: Proposal, inputs: Any) -> Any:
    return proposal.propose(*inputs)


def _seconds(function: Any) -> float:
    """The least of several timings, after one call to compile."""
    jax.block_until_ready(function())
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(function())
        best = min(best, time.perf_counter() - started)
    return best
