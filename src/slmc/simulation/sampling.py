"""One run that samples, from start to end: thermalise, learn, freeze, measure, compare."""

import functools
import math
import time
from collections.abc import Callable, Mapping
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
    check_chains,
    decision_of,
    evaluations_per_step,
    init_chains,
    over_chains,
    run_chains,
    step_size,
    tune,
    wants_all_together,
    with_step_size,
)
from slmc.montecarlo.chains import unchecked_states
from slmc.selflearning import RoundReport
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.clock import Clock, read_progress
from slmc.simulation.configuration_files import missing_configurations, write_configurations
from slmc.simulation.described import describe
from slmc.simulation.directory import CHECKPOINTS, PROGRESS
from slmc.simulation.kept import kept_in, variables
from slmc.simulation.loop import Files, Phase, following, phase_of
from slmc.simulation.marks import Marks
from slmc.simulation.progress import Reporter
from slmc.simulation.provenance import made_with
from slmc.simulation.records import KEPT, Variable
from slmc.simulation.stopping import Stopped, Stopper
from slmc.simulation.verification import opened_records
from slmc.simulation.watched import Watched
from slmc.statistics import Estimate, estimate
from slmc.system import Problem, RunSettings, UserError, kept_files, save_model

THERMALISE, LEARN, MEASURE, BASELINE, DONE = (
    Phase(name, number) for number, name in enumerate(("thermalise", "learn", "measure", "baseline", "done"))
)
_START = Phase("start", 99)
MODEL = "model.eqx"
"""Name of the file of the frozen model in a run's directory."""

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
        identity = identity or settings.identity
        self.checkpoints = Checkpoints(directory / CHECKPOINTS, identity, ", ".join(settings.may_change))
        self.records = opened_records(directory, self.checkpoints, settings.model_dump_json())
        self.clock = Clock(directory / PROGRESS)
        self._key = jax.random.key(settings.seed)
        self._warned: set[str] = set()
        self._remarks: tuple[str, ...] = ()
        self._described: set[tuple[str, str]] = set()
        self._watched = {group: self._nothing_watched() for group in ("measurement", "baseline")}
        self._next_look = 0.0
        self._kept: tuple[int, ...] = ()
        self._made = read_progress(directory / PROGRESS).get("made") or made_with()

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

    @property
    def other_files(self) -> tuple[str, ...]:
        return (MODEL, *kept_files(self.settings).values())

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
            learner = self._learner_of(self.problem.target, exact)
            if self.settings.frozen and not hasattr(learner, "adopted"):
                raise UserError("frozen = true is for runs in which one model proposes; here it is several together.")
            learning = learner.begin(self.problem.model, chains)
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

    def rewound(self, state: RunState, marks: Marks) -> int | None:
        self._read_watched()
        is_later = int(state.phase) in (BASELINE.number, DONE.number)
        if not (is_later and self._watched["baseline"].n_draws and self._is_to_be_longer("measurement")):
            return None
        if not marks.kept:
            self.reporter.note(
                "the measurement cannot be made longer, since the version of slmc that made it kept no checkpoint of "
                "its end; for more steps start a new run"
            )
            return None
        return marks.kept[0]

    def go_on(self, state: RunState, marks: Marks) -> RunState:
        self._read_watched()
        self._kept = marks.kept
        self._check_chains(state, jax.device_get(state.chains.configuration))
        if state.learning is not None and self.is_final(state):
            self._save_model(state.learning)
        self._look_for_configurations()
        return self._longer(state)

    def _look_for_configurations(self) -> None:
        files, n_draws = self.problem.configuration_files, self._watched["measurement"].n_draws
        if files is None:
            return
        missing = missing_configurations(self.directory, files, self.settings.measurement.n_chains, n_draws)
        if missing:
            self.reporter.warn(
                f"{len(missing)} configurations that were written are not there any more, {missing[0]} among them; "
                "they are not written again."
            )

    def _longer(self, state: RunState) -> RunState:
        """The state from which a phase goes on that has ended and is to have more steps than it was to have."""
        phase, n_baseline = int(state.phase), self._n_recorded("baseline")
        is_over = phase in (BASELINE.number, DONE.number)
        if is_over and not n_baseline and self._is_to_be_longer("measurement"):
            return _at(state, MEASURE, self._n_recorded("measurement") + 1)
        if phase == DONE.number and self._is_to_be_longer("baseline"):
            return _at(state, BASELINE, n_baseline + 1 if n_baseline else 0)
        return state

    def _is_to_be_longer(self, group: str) -> bool:
        n_steps, block_size = getattr(self.settings, group).n_steps, self.settings.measurement.block_size
        if self._n_recorded(group) >= -(-n_steps // block_size):
            return False
        return group == "baseline" or not self._is_enough()

    def _n_recorded(self, group: str) -> int:
        """Blocks of a phase in the records."""
        return self._watched[group].n_draws // self.settings.measurement.block_size

    def _nothing_watched(self) -> Watched:
        return Watched((self.problem.figure_of_merit.name, *self.settings.measurement.wanted_error))

    def _read_watched(self) -> None:
        for group in self._watched:
            self._watched[group] = self._nothing_watched()
            for portion in self.records.portions(group, self._watched[group].needed):
                self._watched[group].extend(portion)

    def is_final(self, state: RunState) -> bool:
        return int(state.phase) not in (THERMALISE.number, LEARN.number)

    def kept(self, state: RunState) -> tuple[int, ...]:
        """The end of the measurement, from which it can be made longer when the baseline has been run too."""
        phase, block = int(state.phase), int(state.block)
        if phase == BASELINE.number and block == 0:
            self._kept = (int(state.number),)
        elif phase == MEASURE.number:
            self._kept = ()
        return self._kept

    def is_sound(self, state: RunState) -> bool:
        return True

    def about(self, state: RunState) -> dict[str, Any]:
        sought = self.problem.sought
        about = {
            "evaluations": self._evaluations(state),
            "found": {} if sought is None else sought.values(state.target),
            "learns": self.settings.learns,
            "made": self._made,
            "seed": self.settings.seed,
        }
        if state.learning is not None:
            leaves = jax.tree.leaves(getattr(state.learning, "model", None))
            about["n_parameters"] = sum(
                leaf.size for leaf in leaves if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
            )
        return about

    def n_blocks(self, state: RunState) -> int:
        """Blocks of the phase; thermalise, measure and baseline begin with one that is not recorded."""
        if int(state.phase) == LEARN.number:
            return self.settings.learning_settings.n_rounds
        n_steps = {
            THERMALISE.number: self.settings.thermalisation.n_steps,
            MEASURE.number: self.settings.measurement.n_steps,
            BASELINE.number: self.settings.baseline.n_steps,
        }.get(int(state.phase), 0)
        return -(-n_steps // self.settings.measurement.block_size) + 1 if n_steps else 0

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
        state = self._advanced(state, stopper)
        self._remark()
        return state

    def _advanced(self, state: RunState, stopper: Stopper) -> RunState:
        phase, block = int(state.phase), int(state.block)
        if phase == LEARN.number:
            return self._adopt(state) if self.settings.frozen else self._learn(state, stopper)
        blocks = {
            THERMALISE.number: self._thermalise,
            MEASURE.number: self._measure,
            BASELINE.number: self._baseline,
        }
        state = blocks[phase](state)._replace(block=np.asarray(block + 1))
        is_last = block + 1 >= self.n_blocks(state) or (phase == MEASURE.number and self._is_enough())
        if block and phase in (MEASURE.number, BASELINE.number):
            self._tell(state, "measurement" if phase == MEASURE.number else "baseline", is_last)
        configurations = jax.device_get(state.chains.configuration)
        self._check_chains(state, jax.tree.map(lambda leaf: leaf[block % len(leaf)][None], configurations))
        return following(self, state) if is_last else state

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
            if sought.retunes and block == self.n_blocks(state) // 2:
                state = self._with_tuned_step(state, self._exact(state))
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
        # Blocks that are recorded have the key of their number for their steps.
        key = self._key_of(THERMALISE, int(state.block))
        key = jax.random.fold_in(key, 1) if int(state.block) else key
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

    @property
    def _observe_thermalisation(self) -> Callable[[State, Any], tuple[Array, Array, Any]]:
        sought = self.problem.sought
        decision = decision_of(self.problem.exact(self.problem.target))
        return _thermalising_observer(decision, None if sought is None else sought.watch)

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

    def _adopt(self, state: RunState) -> RunState:
        """In place of learning where the model is frozen: only the step size of its chain is tuned."""
        learner = self._learner(state)
        with self.clock.lap("learn"):
            learning, words = learner.adopted(self._key_of(LEARN, 0), learner.with_chains(state.learning, state.chains))
        for text in words:
            self._warn(text, text)
        return self._measuring_with(state, learner, learning)

    def _freeze(self, state: RunState, learner: Any) -> RunState:
        """Stores the training data where a system wants them, and drops them."""
        n_labels = int(getattr(state.learning, "n_labels", 0))
        labels = jax.tree.map(lambda leaf: np.asarray(leaf)[:n_labels], getattr(state.learning, "labels", None))
        for name, write in self.problem.label_files.items():
            write(self.directory / name, labels)
        return self._measuring_with(state, learner, learner.frozen(state.learning, self.problem.finished))

    def _measuring_with(self, state: RunState, learner: Any, learning: Any) -> RunState:
        """Stores the frozen model, and starts the chains of the measurement."""
        self._save_model(learning)
        update = learner.update(learning)
        state = state._replace(learning=learning, chains=init_chains(update, state.chains.configuration))
        self._time_parts(state, update)
        return following(self, state)

    def _save_model(self, learning: Any) -> None:
        describe = self.problem.fit.describe
        save_model(self.directory / MODEL, learning.model, describe(learning.model) if describe else {})

    def _measure(self, state: RunState) -> RunState:
        settings, block = self.settings.measurement, int(state.block)
        update = self._measurement_update(state)
        n_steps = settings.block_size if block else settings.n_thermalise
        if not n_steps:
            return state
        with self.clock.lap("measure" if block else "other"):
            state = self._sample(state, update, n_steps, "measurement" if block else None)
            files = self.problem.configuration_files
            if files is not None:
                write_configurations(self.directory, files, state.chains.configuration, block * settings.block_size)
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
        key = self._key_of(phase_of(self, state), int(state.block))
        kept = self._kept_draws(int(state.block)) if group == "measurement" else np.zeros(0, int)
        # What is kept at the end of a block is there already.
        on_the_way = bool(np.any(kept < n_steps - 1))
        chains, observed = run_chains(key, update, state.chains, n_steps, self._observer(update, on_the_way))
        (scalars, fields), configurations = jax.device_get(observed) if on_the_way else (jax.device_get(observed), None)
        if group is not None:
            self._append(group, scalars)
            self._watched[group].extend(scalars)
            means = {name: values.mean(1, keepdims=True) for name, values in fields.items()}
            self._append(group, means, "block")
            if len(kept):
                self._keep(int(state.block), kept, configurations, chains.configuration)
            self._check_finite(scalars["log_weight"])
            self._acceptance = float(scalars["accepted"].mean())
        return state._replace(chains=chains)

    def _tell(self, state: RunState, group: str, is_last: bool) -> None:
        """Figures and warnings after a block: estimates only where they take less than a hundredth of the time."""
        figures, started = {"acceptance": self._acceptance}, time.monotonic()
        if is_last or started >= self._next_look:
            slowest = estimate(self._watched[group].series[self.problem.figure_of_merit.name], self.problem.n_samples)
            self._check_measurement(group, slowest)
            seconds = self.clock.seconds("measure")
            if group == "measurement" and slowest.ess and seconds > 0:
                figures["effective_samples_a_second"] = slowest.ess / seconds
            now = time.monotonic()
            self._next_look = now + 100 * (now - started)
        self.reporter.advance(int(state.block), **figures)

    def _kept_draws(self, block: int) -> np.ndarray:
        settings = self.settings.measurement
        if not settings.keep_every:
            return np.zeros(0, int)
        return kept_in(block, settings.block_size, settings.keep_every)

    def _keep(self, block: int, kept: np.ndarray, on_the_way: Configuration | None, last: Configuration) -> None:
        """Records configurations of a block: those after some of its steps, or the last ones."""
        if on_the_way is None:
            chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], last)
        else:
            chosen = jax.tree.map(lambda leaf: leaf[:, kept], on_the_way)
        draws = (block - 1) * self.settings.measurement.block_size + kept
        self.records.append(KEPT, variables(chosen, draws, self.problem.axes))

    def _observer(self, update: Update, with_configurations: bool = False) -> Callable[[State, Any], Any]:
        """What is recorded of a step; one and the same function for a phase, so that it is compiled once."""
        observer = _observer_of(decision_of(update), self.problem.observe)
        return _with_configurations(observer) if with_configurations else observer

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
        for name, about in self.problem.fit.described_errors.items():
            value = np.array([report.errors.get(name, math.nan)])
            lines[name] = Variable(("round",), value, about.units, about.description)
        history = np.column_stack([np.full(len(report.history), report.round), report.history])
        lines["history"] = Variable(("evaluation", "history_column"), history)
        self.records.append("learning", lines)
        parity = {"predicted": report.predicted, "exact": report.exact}
        self.records.replace("learning", {name: Variable(("sample",), values) for name, values in parity.items()})
        if len(report.stages):
            words = "number of parameters trained; held-out residual"
            stages = Variable(("stage", "stage_column"), report.stages, description=words)
            self.records.replace("learning", {"stages": stages})
        if len(report.force_seconds):
            words = "seconds of a force of the model; of an exact one"
            timed = Variable(("force",), report.force_seconds, units="s", description=words)
            self.records.replace("inner_chain", {"force_seconds": timed})
        if len(report.inner):
            # Times, and the choice made from them, do not repeat from run to run.
            words = "; ".join(self.problem.inner)
            weighed = Variable(("line", "column"), report.inner, description=words)
            self.records.replace("inner_chain", {"weighed": weighed})

    # --------------------------------------------------------------- checks

    def _is_enough(self) -> bool:
        """Whether the stopping rules are met; looked at after each of the first hundred blocks, then less often."""
        rules, watched, n_blocks = (
            self.settings.measurement,
            self._watched["measurement"],
            self._n_recorded("measurement"),
        )
        if n_blocks < 2 or n_blocks % max(1, n_blocks // 100):
            return False
        return rules.are_met(watched.series, self.problem.n_samples, watched.has_moved)

    def _check_chains(self, state: RunState, configurations: Configuration) -> None:
        """Raises ``UserError`` for a chain that has left its manifold."""
        try:
            check_chains(self.problem.exact(state.target), configurations)
        except ValueError as error:
            raise UserError(f"{error}") from None

    def _check_finite(self, log_weight: np.ndarray) -> None:
        if not np.all(np.isfinite(log_weight)):
            self._warn("nan", "log-weights are not finite; check the target's parameters (a very low temperature?).")

    def _check_measurement(self, group: str, slowest: Estimate) -> None:
        n_draws, acceptance = self._watched[group].n_draws, self._watched[group].acceptance
        n_chains = self.settings.measurement.n_chains
        proposes = group == "measurement" and self.settings.learns
        if acceptance < 0.02:
            self._warn(f"low {group}", f"acceptance is {acceptance:.3f}: {_OTHER_MODEL if proposes else _OTHER_STEPS}")
        if acceptance > 0.999 and n_draws > 200 and not proposes:
            self._warn("high", "acceptance is 1: steps are too small; lower exact.acceptance.")
        if n_draws < 4 * self.settings.measurement.block_size:
            return
        merit = self.problem.figure_of_merit.name
        if slowest.r_hat is not None and slowest.r_hat > 1.1:
            self._warn(
                f"chains {group}",
                f"chains disagree on {merit} (R-hat {slowest.r_hat:.2f}) after {n_draws} draws; "
                f"{'mix exact updates in with exact.every' if proposes else f'raise {group}.n_steps'}, or thermalise "
                "longer.",
            )
        if slowest.ess is not None and slowest.ess < 5 * n_chains:
            self._warn(
                f"slow {group}",
                f"the autocorrelation time of {merit} is about "
                f"{n_draws * n_chains / 2 / slowest.ess:.0f} draws, too long for {n_draws} draws a chain; raise "
                f"{group}.n_steps{' or inner.n_updates' if proposes else ''}.",
            )

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned and text not in self.clock.warnings:
            self._warned.add(kind)
            self.clock.warnings.append(text)
            self.reporter.warn(text)

    def _remark(self) -> None:
        """Passes on what the system has to say; a sentence that is said anew replaces the one before."""
        remarks = self.problem.remarks() if self.problem.remarks is not None else ()
        if remarks == self._remarks:
            return
        kept = [text for text in self.clock.warnings if text not in self._remarks]
        self.clock.warnings[:] = kept
        for text in remarks:
            self._warn(text, text)
        self._remarks = remarks

    def _time_parts(self, state: RunState, update: Update) -> None:
        """Times the exact evaluation and the inner chain alone, to split the time of steps that do both."""
        proposal = getattr(update, "proposal", None)
        if proposal is None or wants_all_together(update):
            return  # evaluations of a program outside are too dear to be only timed
        keys = jax.random.split(self._key_of(_START, 1), len(state.chains.log_weight))
        configurations = state.chains.configuration
        # By the program that has just made the states of these chains.
        exact = _seconds(lambda: unchecked_states(update, configurations))
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


@functools.lru_cache(maxsize=64)
def _thermalising_observer(
    decision: Callable[[Any], Info], watch: Callable[[State, Any], Any] | None
) -> Callable[[State, Any], tuple[Array, Array, Any]]:
    def observe(state: State, info: Any) -> tuple[Array, Array, Any]:
        seen = None if watch is None else watch(state, info)
        return jnp.mean(decision(info).accepted), state.log_weight, seen

    return observe


@functools.lru_cache(maxsize=64)
def _with_configurations(observer: Callable[[State, Any], Any]) -> Callable[[State, Any], Any]:
    def observe(state: State, info: Any) -> Any:
        return observer(state, info), state.configuration

    return observe


def _at(state: RunState, phase: Phase, block: int) -> RunState:
    return state._replace(phase=np.asarray(phase.number), block=np.asarray(block))


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
