"""One job from start to end: thermalise, learn, freeze, measure, compare. Resumable to the bit.

The run is a sequence of blocks. A block is a function of the state before it, its random numbers follow from the seed
and its number; after each block records are appended, then a checkpoint is written. Whatever a crash leaves behind
the last checkpoint is cut off on resuming and computed again, with the same bits.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import (
    Info,
    Proposal,
    Repeated,
    Sequence,
    State,
    Target,
    Update,
    init_chains,
    run_chains,
    tune_step_size,
)
from slmc.montecarlo.chains import over_chains
from slmc.montecarlo.target import Configuration, evaluate
from slmc.montecarlo.tuning import step_size_of, with_step_size
from slmc.montecarlo.update import Label, last_info
from slmc.selflearning.diagnostics import evaluations_per_step
from slmc.selflearning.on_the_fly import (
    Learner,
    LearningState,
    RoundReport,
    is_finished,
    learning_round,
    self_learning_update,
    start_learning,
)
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.clock import Clock
from slmc.simulation.config import RunSettings
from slmc.simulation.devices import forget_failed_programs
from slmc.simulation.directory import records_path
from slmc.simulation.errors import Stopped, UserError, sentence_of
from slmc.simulation.model_file import save_model
from slmc.simulation.progress import Reporter
from slmc.simulation.records import Records, Variable
from slmc.simulation.stopping import Stopper
from slmc.statistics import Estimate, estimate

PHASES = ("thermalise", "learn", "measure", "baseline", "done")

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


@runtime_checkable
class Problem(Protocol):
    """What a run needs to know of a system; ``SpinProblem`` and ``GaugeProblem`` of ``systems`` are two.

    ``model`` is the effective model to start learning from; ``None`` in a run without one, which never asks for what
    belongs to it (``learner``, ``finished``, ``describe_model``, ``inner_names``) and may have configurations that
    are no arrays.

    ``names`` are the scalars that are measured, in the order in which they are shown. ``n_points`` counts the points
    that a local sweep visits. ``adjusted(target, configurations, share)`` is the target with parameters that the run
    has to find, a chemical potential for instance, moved by ``share`` of the way to where these configurations want
    them; the very same object where there is nothing to find.
    """

    @property
    def target(self) -> Target: ...
    @property
    def model(self) -> Target | None: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def n_points(self) -> int: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def figure_of_merit(self) -> str: ...
    @property
    def inner_names(self) -> tuple[str, ...]: ...
    def random_configurations(self, key: Key[Array, ""], n_chains: int) -> Configuration: ...
    def exact(self, target: Target, step_size: Any = ...) -> Update: ...
    def learner(self, target: Target, exact: Update) -> Learner: ...
    def finished(self, model: Any, labels: Label) -> Any: ...
    def found(self, target: Target) -> dict[str, float]: ...
    def describe_model(self, model: Any) -> dict[str, Any]: ...
    def adjusted(self, target: Target, configurations: Configuration, share: float) -> Target: ...
    def observe(self, state: State) -> dict[str, Array]: ...
    def observe_fields(self, state: State) -> dict[str, Array]: ...
    def describe_variable(self, name: str) -> tuple[str, str]: ...
    def derived(self, series: Mapping[str, np.ndarray]) -> dict[str, Estimate]: ...


class RunState(NamedTuple):
    """Everything needed to go on. ``evaluations`` counts exact evaluations by phase; without a model nothing learns."""

    phase: Any
    block: Any
    number: Any
    target: Target
    exact_step_size: Any
    chains: State
    learning: LearningState | None
    evaluations: Any


class Simulation:
    """A run in its directory.

    ``run()`` goes on from the last checkpoint (or starts) and returns whether the run is complete; it returns early if
    told to stop by a signal or the wall time, with a checkpoint written. Raises ``UserError`` for a damaged checkpoint,
    and where a compiled program gives up (conjugate gradients that do not converge); the last checkpoint then stands.
    """

    def __init__(self, directory: Path, settings: RunSettings, problem: Problem, reporter: Reporter) -> None:
        self.directory, self.settings, self.problem, self.reporter = directory, settings, problem, reporter
        self.records = Records(records_path(directory))
        self.checkpoints = Checkpoints(directory / "checkpoints", settings.identity, ", ".join(settings.may_change))
        self.clock = Clock(directory / "progress.json")
        self._key = jax.random.key(settings.seed)
        self._warned: set[str] = set()
        self._series: dict[str, dict[str, np.ndarray]] = {}

    def run(self) -> bool:
        try:
            return self._run()
        except RuntimeError as error:
            sentence = sentence_of(error)
            if sentence is None:
                raise
            forget_failed_programs()
            raise UserError(
                f"{sentence.rstrip('.')}; what was recorded is kept, and slmc resume {self.directory} goes on from the "
                "last checkpoint."
            ) from None

    def _run(self) -> bool:
        start = self._start()
        state, lengths = self.checkpoints.restore(start) or (start, {})
        self.records.truncate(lengths)
        self._series = {group: self.records.read(group) for group in ("measurement", "baseline")}
        self._save_progress(state)
        self.reporter.phase(self._phase(state), *self._extent(state))
        with contextlib.closing(self.reporter), Stopper(self.settings.measurement.wall_time) as stopper:
            while self._phase(state) != "done":
                before = self._phase(state)
                try:
                    state = self._advance(state, stopper)
                except Stopped:
                    break
                state = state._replace(number=np.asarray(int(state.number) + 1))
                self.checkpoints.save(int(state.number), state, self.records.lengths())
                self._save_progress(state)
                if self._phase(state) not in (before, "done"):
                    self.reporter.phase(self._phase(state), *self._extent(state))
                if stopper.requested:
                    break
        if self._phase(state) != "done":
            self.reporter.note(f"stopped by {stopper.reason}; continue with: slmc resume {self.directory}")
        return self._phase(state) == "done"

    def _save_progress(self, state: RunState) -> None:
        found = self.problem.found(state.target)
        self.clock.save(phase=self._phase(state), evaluations=self._evaluations(state), found=found)

    # ---------------------------------------------------------------- state

    def _start(self) -> RunState:
        n_chains = self.settings.measurement.n_chains
        configurations = self.problem.random_configurations(self._key_of("start", 0), n_chains)
        exact = self.problem.exact(self.problem.target)
        chains = init_chains(exact, configurations)
        learning = None
        if self.settings.learns:
            assert self.problem.model is not None
            learner = self.problem.learner(self.problem.target, exact)
            learning = start_learning(learner, self.problem.model, chains)
        return RunState(
            phase=np.asarray(0),
            block=np.asarray(0),
            number=np.asarray(0),
            target=self.problem.target,
            exact_step_size=np.asarray(step_size_of(exact)),
            chains=chains,
            learning=learning,
            evaluations=np.zeros(len(PHASES), np.int64),
        )

    def _phase(self, state: RunState) -> str:
        return PHASES[int(state.phase)]

    def _extent(self, state: RunState) -> tuple[int, int]:
        """Blocks of the phase, and those done."""
        phase = self._phase(state)
        total = self.settings.learning.n_rounds if phase == "learn" else self._n_blocks(phase)
        return total, int(state.block)

    def _n_blocks(self, phase: str) -> int:
        """Blocks of a phase; thermalise, measure and baseline begin with one that is not recorded."""
        n_steps = {
            "thermalise": self.settings.thermalisation.n_steps,
            "measure": self.settings.measurement.n_steps,
            "baseline": self.settings.baseline.n_steps,
        }.get(phase, 0)
        return math.ceil(n_steps / self.settings.measurement.block_size) + 1 if n_steps else 0

    def _key_of(self, phase: str, block: int) -> Key[Array, ""]:
        number = 99 if phase == "start" else PHASES.index(phase)
        return jax.random.fold_in(jax.random.fold_in(self._key, number), block)

    def _evaluations(self, state: RunState) -> dict[str, int]:
        counts = [int(count) for count in np.asarray(state.evaluations)]
        return {"learning": counts[0] + counts[1], "measurement": counts[2], "baseline": counts[3]}

    def _exact(self, state: RunState) -> Update:
        update = self.problem.exact(state.target)
        return with_step_size(update, step_size_of, float(state.exact_step_size))

    def _learner(self, state: RunState) -> Learner:
        return self.problem.learner(state.target, self._exact(state))

    def _next_phase(self, state: RunState) -> RunState:
        left_out = set()
        if not self.settings.learns:
            left_out.add("learn")
        if not self.settings.baseline.n_steps:
            left_out.add("baseline")
        phase = next(number for number in range(int(state.phase) + 1, len(PHASES)) if PHASES[number] not in left_out)
        return state._replace(phase=np.asarray(phase), block=np.asarray(0))

    def _counted(self, state: RunState, update: Update, n_steps: int) -> np.ndarray:
        counts = np.array(state.evaluations)
        counts[int(state.phase) if int(state.block) else 0] += (
            n_steps * self.settings.measurement.n_chains * evaluations_per_step(update, self.problem.n_points)
        )
        return counts

    # --------------------------------------------------------------- phases

    def _advance(self, state: RunState, stopper: Stopper) -> RunState:
        phase, block = self._phase(state), int(state.block)
        if phase == "learn":
            return self._learn(state, stopper)
        state = {"thermalise": self._thermalise, "measure": self._measure, "baseline": self._baseline}[phase](state)
        state = state._replace(block=np.asarray(block + 1))
        if block + 1 >= self._n_blocks(phase) or (phase == "measure" and self._is_precise_enough()):
            state = self._next_phase(state)
        return state

    def _thermalise(self, state: RunState) -> RunState:
        block = int(state.block)
        n_steps = min(self.settings.measurement.block_size, self.settings.thermalisation.n_steps)
        key = self._key_of("thermalise", block)
        with self.clock.lap("thermalise"):
            update = self._exact(state)
            if block == 0:
                wanted = self.settings.exact.acceptance
                n_rounds = min(_TUNING_ROUNDS, self.settings.exact.tuning_steps)
                each = math.ceil(self.settings.exact.tuning_steps / n_rounds)
                update, chains = tune_step_size(
                    key, update, state.chains, wanted=wanted, n_rounds=n_rounds, n_steps=each
                )
                counted = self._counted(state, update, n_rounds * each)
                target = self.problem.adjusted(state.target, chains.configuration, 1.0)
                chains = init_chains(self.problem.exact(target), chains.configuration)
                step_size = np.asarray(step_size_of(update))
                return state._replace(chains=chains, target=target, exact_step_size=step_size, evaluations=counted)
            chains, observed = run_chains(key, update, state.chains, n_steps, _observe_thermalisation)
            accepted, log_weight = (np.asarray(one) for one in observed)
        self._append("thermalisation", {"log_weight": log_weight, "accepted": accepted})
        state = state._replace(chains=chains, evaluations=self._counted(state, update, n_steps))
        if block <= self._n_blocks("thermalise") // 2:
            # Shares of 1/2, 1/3, … average what the blocks ask for.
            target = self.problem.adjusted(state.target, chains.configuration, 1 / (block + 1))
            if target is not state.target:
                chains = init_chains(self.problem.exact(target), chains.configuration)
                state = state._replace(target=target, chains=chains)
        self._check_finite(log_weight)
        self.reporter.advance(block + 1, acceptance=accepted.mean(), log_weight=log_weight.mean())
        return state

    def _learn(self, state: RunState, stopper: Stopper) -> RunState:
        learner, learning, round_ = self._learner(state), state.learning, int(state.block)
        assert learning is not None
        if round_ == 0:
            learning = learning._replace(chains=state.chains)

        def watch(step: int, loss: float, residual: float) -> None:
            if stopper.requested:
                raise Stopped
            done = round_ + step / max(1, learner.settings.training_in(round_).n_steps)
            self.reporter.advance(min(done, round_ + 0.99), residual=residual)

        before = self.clock.seconds("learn")
        with self.clock.lap("learn"):
            learning, found = learning_round(self._key_of("learn", round_), learner, learning, watch)
        # The report's times include compiling, the clock's do not: only their proportion is taken.
        training = found.seconds_training / (found.seconds_sampling + found.seconds_training)
        self.clock.move("learn", "training", training * (self.clock.seconds("learn") - before))
        self._record_round(found)
        for text in found.warnings:
            self._warn(text, text)
        self.reporter.advance(round_ + 1, residual=found.residual, acceptance=found.acceptance)
        counts = np.array(state.evaluations)
        counts[1] = int(learning.exact_evaluations)
        state = state._replace(
            chains=learning.chains, learning=learning, evaluations=counts, block=np.asarray(round_ + 1)
        )
        return self._freeze(state, learner) if is_finished(learner, learning) else state

    def _freeze(self, state: RunState, learner: Learner) -> RunState:
        """Stores the model, drops the training data, and starts the chains of the measurement."""
        learning = state.learning
        assert learning is not None
        used = jax.tree.map(lambda leaf: np.asarray(leaf)[-256:], _filled_part(learning))
        model = self.problem.finished(learning.model, used)
        save_model(self.directory / "model.eqx", model, self.problem.describe_model(model))
        nothing = jax.tree.map(lambda leaf: np.asarray(leaf)[:0], learning.labels)
        learning = learning._replace(model=model, labels=nothing)
        state = state._replace(learning=learning)
        update = self_learning_update(learner, learning)
        state = state._replace(chains=init_chains(update, state.chains.configuration))
        self._time_parts(state, update.proposal)
        return self._next_phase(state)

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
        update: Update = self_learning_update(self._learner(state), state.learning)
        every = self.settings.exact.every
        return Sequence((Repeated(update, every), self._exact(state))) if every else update

    # -------------------------------------------------------------- records

    def _sample(self, state: RunState, update: Update, n_steps: int, group: str | None) -> RunState:
        phase, block = self._phase(state), int(state.block)
        chains, observed = run_chains(self._key_of(phase, block), update, state.chains, n_steps, self._observe)
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

    @cached_property
    def _observe(self) -> Callable[[State, Any], tuple[dict[str, Array], dict[str, Array]]]:
        """What is recorded of a step; one and the same function for the whole run, so that it is compiled once."""

        is_mixed = self.settings.exact.every > 0

        def observe(state: State, info: Any) -> tuple[dict[str, Array], dict[str, Array]]:
            # With exact updates mixed in, the first of two infos is that of the self-learning updates.
            decided = info[0] if is_mixed and not isinstance(info, Info) else last_info(info)
            scalars = {
                "log_weight": state.log_weight,
                "accepted": decided.accepted.mean(),
                "log_ratio": decided.log_ratio.reshape(-1)[-1],
                **self.problem.observe(state),
            }
            return scalars, self.problem.observe_fields(state)

        return observe

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
            rest = tuple(f"q{axis}" for axis in range(np.ndim(value) - 2))
            variables[name] = Variable(
                ("chain", growing, *rest), np.asarray(value), *self.problem.describe_variable(name)
            )
        self.records.append(group, variables)

    def _record_round(self, found: RoundReport) -> None:
        lines = {name: Variable(("round",), np.array([getattr(found, name)])) for name in _ROUND_FIGURES}
        history = np.column_stack([np.full(len(found.history), found.round), found.history])
        lines["history"] = Variable(("evaluation", "history_column"), history)
        self.records.append("learning", lines)
        parity = {"predicted": found.predicted, "exact": found.exact}
        self.records.replace("learning", {name: Variable(("sample",), one) for name, one in parity.items()})
        if len(found.inner):
            # Times, and the choice made from them, do not repeat from run to run.
            words = "; ".join(self.problem.inner_names)
            weighed = Variable(("line", "column"), found.inner, description=words)
            self.records.replace("inner_chain", {"weighed": weighed})

    # --------------------------------------------------------------- checks

    def _is_precise_enough(self) -> bool:
        wanted = self.settings.measurement.wanted_error
        if not wanted:
            return False
        series = self._series["measurement"]
        if not series or series["log_weight"].shape[1] < 2 * self.settings.measurement.block_size:
            return False
        found = {name: estimate(series[name], self.problem.n_samples) for name in wanted}
        return all(one.error <= wanted[name] and not one.verdict for name, one in found.items())

    def _samples_a_second(self) -> float:
        series, seconds = self._series["measurement"], self.clock.seconds("measure")
        ess = estimate(series[self.problem.figure_of_merit], self.problem.n_samples).ess
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
        found = estimate(series[self.problem.figure_of_merit], self.problem.n_samples)
        if found.r_hat is not None and found.r_hat > 1.1:
            self._warn(
                f"chains {group}",
                f"chains disagree on {self.problem.figure_of_merit} (R-hat {found.r_hat:.2f}) after {n_draws} draws; "
                f"{'mix exact updates in with exact.every' if proposes else f'raise {group}.n_steps'}, or thermalise "
                "longer.",
            )
        if found.ess is not None and found.ess < 5 * len(series["log_weight"]):
            self._warn(
                f"slow {group}",
                f"the autocorrelation time of {self.problem.figure_of_merit} is about "
                f"{series['log_weight'].size / 2 / found.ess:.0f} draws, too long for {n_draws} draws a chain; raise "
                f"{group}.n_steps{' or inner.n_updates' if proposes else ''}.",
            )

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._warned and text not in self.clock.warnings:
            self._warned.add(kind)
            self.clock.warnings.append(text)
            self.reporter.warn(text)

    def _time_parts(self, state: RunState, proposal: Proposal) -> None:
        """Times the exact evaluation and the inner chain alone, to split the time of steps that do both."""
        keys = jax.random.split(self._key_of("start", 1), len(state.chains.log_weight))
        configurations = state.chains.configuration
        exact = _seconds(lambda: over_chains(_evaluate, configurations, state.target))
        inner = _seconds(lambda: over_chains(_propose, (keys, configurations), proposal))
        self.clock.inner_share = inner / (inner + exact)


_OTHER_MODEL = (
    "the model does not describe the target; learn more (learning.n_rounds), use a richer model, or a shorter inner "
    "chain (inner.n_updates)."
)
_OTHER_STEPS = "the step size does not fit; thermalise longer so that it is tuned where it is used."


def _observe_thermalisation(state: State, info: Any) -> tuple[Array, Array]:
    return last_info(info).accepted, state.log_weight


def _evaluate(target: Target, configuration: Array) -> Any:
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


def _filled_part(learning: LearningState) -> Label:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: int(learning.n_labels)], learning.labels)
