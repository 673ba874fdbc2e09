"""Learning the guide of self-learning hybrid Monte Carlo while it makes trajectories."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import (
    Info,
    Label,
    MetropolisHastings,
    Sequence,
    State,
    Update,
    accept_or_reject,
    evaluations_per_step,
    init_chains,
    run_chains,
    step_size,
    tune,
)
from slmc.selflearning import (
    GaussNewtonSettings,
    LearningSettings,
    RoundReport,
    expected_acceptance,
    fit_gauss_newton,
    residual,
)
from slmc.selflearning.on_the_fly import n_held_out
from slmc.selflearning.training import differences
from slmc.systems.gauge.action_change import ActionChange, TrajectoryEnds
from slmc.systems.gauge.dynamical import Dynamical, GivenPseudofermion, PseudofermionTarget
from slmc.systems.gauge.guide import FermionGuide
from slmc.systems.gauge.pseudofermions import PseudofermionTrajectory, RefreshPseudofermions

PER_END = 1 / math.sqrt(2)
"""The change along a trajectory has two ends: its error, of variance 2s², makes the acceptance erfc(s/2)."""


class RecordedTrajectories(Update):
    """Refreshed pseudofermions and one trajectory with a decision, as SLHMC and HMC step, which reports the trajectory.

    The label of an info has the ``TrajectoryEnds``, accepted or not, and the change of log W between them, which the
    decision needs anyway; there are no forces.
    """

    target: PseudofermionTarget
    proposal: PseudofermionTrajectory

    @property
    def reversible(self) -> bool:
        return False

    @property
    def step_size(self) -> Any:
        return self.proposal.step_size

    def evaluations_per_step(self, configuration: Dynamical) -> int:
        return 2 + self.proposal.evaluations_of(self.target)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_field, key_trajectory, key_decision = jax.random.split(key, 3)
        state, _ = RefreshPseudofermions(self.target).step(key_field, state)
        end, log_proposal_ratio = self.proposal.propose(key_trajectory, state.configuration)
        proposed = self.init(end)
        following, accepted, log_ratio = accept_or_reject(key_decision, state, proposed, log_proposal_ratio)
        ends = TrajectoryEnds(state.configuration.links, end.links, end.pseudofermion)
        label = Label(ends, proposed.log_weight - state.log_weight, jnp.zeros(()))
        return following, Info(jnp.asarray(accepted, jnp.float64), log_ratio, label)


@dataclass(frozen=True)
class TrainedParts:
    """Which numbers of a guide are trained, as ``where`` of a fit of ``ActionChange(guide)``."""

    smearing: bool = True
    scale: bool = True
    couplings: bool = True

    def __call__(self, change: ActionChange) -> list[Any]:
        guide = change.action
        assert isinstance(guide, FermionGuide)
        smearing = guide.fermions.smearing
        parts = [smearing.weights] if self.smearing and smearing is not None else []
        return [*parts, *([guide.scale] if self.scale else []), *([guide.gauge.couplings] if self.couplings else [])]

    def n_parameters(self, guide: FermionGuide) -> int:
        """How many numbers these are."""
        return sum(int(np.size(leaf)) for leaf in self(ActionChange(guide)))


class GuideState(NamedTuple):
    """Where learning stands: chains, guide, its step size, and the trajectories so far, for training and held out.

    Both buffers have room for all rounds, of which ``n_labels`` and ``n_held_out`` lines are filled.
    """

    chains: State
    model: FermionGuide
    inner_step_size: Array | np.ndarray
    labels: Label
    held_out: Label
    n_labels: Array | np.ndarray
    n_held_out: Array | np.ndarray
    n_rounds: Array | np.ndarray
    residuals: Array | np.ndarray
    exact_evaluations: Array | np.ndarray


class GuideLearner(eqx.Module):
    """What learns the guide that drives trajectories: SLHMC of Nagai, Tomiya, arXiv:2103.11965, on the fly.

    A round makes trajectories, the first by ``exact`` HMC, later ones by the guide; their ends with the change of log W
    are the data, those of some chains held out. Gauss–Newton steps fit the guide's change of log W to them
    (``trained`` says which of its numbers), and the step size is tuned on the guide's own HMC. The residual is s with
    2s² the variance of the error of the change, held out, so that erfc(s/2) is the acceptance to expect of an exact
    integrator.
    """

    target: PseudofermionTarget
    exact: Update
    trajectory: PseudofermionTrajectory
    trained: TrainedParts = eqx.field(static=True)
    settings: LearningSettings = eqx.field(static=True)

    def begin(self, model: FermionGuide, chains: State) -> GuideState:
        """The state before the first round."""
        n_chains, settings = len(chains.log_weight), self.settings
        n_steps = sum(settings.steps_in(round_) for round_ in range(settings.n_rounds))
        n_held = n_held_out(n_chains, settings.held_out_share)
        links, field = chains.configuration
        return GuideState(
            chains,
            model,
            np.asarray(self.trajectory.step_size),
            _room(links, field, n_steps * (n_chains - n_held)),
            _room(links, field, n_steps * n_held),
            np.asarray(0),
            np.asarray(0),
            np.asarray(0),
            np.full(settings.n_rounds, np.nan),
            np.asarray(0),
        )

    def with_chains(self, state: GuideState, chains: State) -> GuideState:
        """The state with its chains replaced."""
        return state._replace(chains=chains)

    def round(
        self,
        key: Key[Array, ""],
        state: GuideState,
        report: Callable[[int, float, float], None] | None = None,
    ) -> tuple[GuideState, RoundReport]:
        """Makes trajectories, fits the guide to all of them so far, tunes the step size."""
        key_sample, key_tune = jax.random.split(key)
        round_, started = int(state.n_rounds), time.perf_counter()
        update = self._recorded(state)
        n_steps, n_chains = self.settings.steps_in(round_), len(state.chains.log_weight)
        chains, (accepted, new) = run_chains(key_sample, update, state.chains, n_steps, _observe)
        acceptance, sampled = float(np.mean(np.asarray(accepted))), time.perf_counter()
        one = jax.tree.map(lambda leaf: leaf[0], chains.configuration)
        evaluations = n_steps * n_chains * evaluations_per_step(update, one)
        state = self._with_data(state._replace(chains=chains), jax.device_get(new))
        training, held_out = _filled_part(state.labels, state.n_labels), _filled_part(state.held_out, state.n_held_out)
        before = _residual(state.model, held_out)
        stages, history, model, training_residual = self._fitted(state.model, training, held_out, round_ == 0, report)
        now, last = _residual(model, held_out), float(state.residuals[round_ - 1]) if round_ else math.nan
        state = state._replace(
            model=model,
            n_rounds=np.asarray(round_ + 1),
            residuals=np.where(np.arange(len(state.residuals)) == round_, now, state.residuals),
            exact_evaluations=np.asarray(int(state.exact_evaluations) + evaluations),
        )
        state, words = self._tuned(key_tune, state)
        if round_ and acceptance < 0.5 * expected_acceptance(last):
            words = (
                *words,
                f"the measured acceptance {acceptance:.2f} is far below the {expected_acceptance(last):.2f} expected "
                "from the residual: steps are too long for the integrator (raise inner.acceptance), or there are too "
                "few trajectories to learn from (learning.n_steps).",
            )
        predicted = np.asarray(held_out.log_weight) - differences(ActionChange(model), held_out)
        return state, RoundReport(
            round=round_ + 1,
            residual=now,
            training_residual=training_residual,
            expected_acceptance=expected_acceptance(now),
            acceptance=acceptance if round_ else math.nan,
            inner_step_size=float(state.inner_step_size),
            n_labels=int(state.n_labels),
            exact_evaluations=int(state.exact_evaluations),
            predicted=predicted,
            exact=np.asarray(held_out.log_weight),
            history=history,
            inner=np.zeros((0, 0)),
            seconds_sampling=sampled - started,
            seconds_training=time.perf_counter() - sampled,
            warnings=words,
            residual_error=now / math.sqrt(2 * max(1, len(held_out.log_weight) - 1)),
            residual_before=before,
            share_of_weight_zero=0.0,
            by_replica={},
            errors={},
            stages=stages,
            force_seconds=self._force_seconds(model, one),
        )

    def is_finished(self, state: GuideState) -> bool:
        """Whether all rounds are done: each is cheap, and makes the data of the next."""
        return int(state.n_rounds) >= self.settings.n_rounds

    def frozen(self, state: GuideState, finished: Callable[[Any, Label], Any]) -> GuideState:
        """The state with the guide as it is stored, and without trajectories."""
        nothing = [jax.tree.map(lambda leaf: np.asarray(leaf)[:0], labels) for labels in (state.labels, state.held_out)]
        return state._replace(model=finished(state.model, nothing[0]), labels=nothing[0], held_out=nothing[1])

    def update(self, state: GuideState) -> Sequence:
        """The exact update whose trajectories the guide drives."""
        trajectory = self._driven_by(state.model, state.inner_step_size)
        return Sequence((RefreshPseudofermions(self.target), MetropolisHastings(self.target, trajectory)))

    def _driven_by(self, guide: PseudofermionTarget, size: Any) -> PseudofermionTrajectory:
        parts = self.trajectory
        return PseudofermionTrajectory(guide, size, parts.n_steps, parts.integrator, parts.n_gauge_steps)

    def _recorded(self, state: GuideState) -> RecordedTrajectories:
        """The update of a round: exact HMC in the first, then the guide's trajectories."""
        if int(state.n_rounds):
            return RecordedTrajectories(self.target, self._driven_by(state.model, state.inner_step_size))
        exact: Any = self.exact
        return RecordedTrajectories(self.target, exact.updates[-1].proposal)

    def _with_data(self, state: GuideState, new: Label) -> GuideState:
        """The state with the trajectories of a round, those left out whose change is no number."""
        n_held = n_held_out(len(new.log_weight), self.settings.held_out_share)
        parts = []
        for chosen in (slice(n_held, None), slice(None, n_held)):
            several = jax.tree.map(lambda leaf, part=chosen: leaf[part].reshape(-1, *leaf.shape[2:]), new)
            usable = np.isfinite(several.log_weight)
            parts.append(jax.tree.map(lambda leaf, usable=usable: leaf[usable], several))
        starts = int(state.n_labels), int(state.n_held_out)
        rooms = [
            jax.tree.map(lambda room, lines, start=start: _with_lines(room, lines, start), old, part)
            for old, part, start in zip((state.labels, state.held_out), parts, starts, strict=True)
        ]
        numbers = [np.asarray(start + len(part.log_weight)) for start, part in zip(starts, parts, strict=True)]
        return state._replace(labels=rooms[0], held_out=rooms[1], n_labels=numbers[0], n_held_out=numbers[1])

    def _fitted(
        self, guide: FermionGuide, training: Label, held_out: Label, first: bool, report: Any
    ) -> tuple[np.ndarray, np.ndarray, FermionGuide, float]:
        """Numbers of parameters with the residual that each stage reaches, the history, the guide, how well it fits.

        The first round goes in stages, untrained, smearing alone, everything, which tells what each part is worth.
        """

        def told(step: int, loss: float, now: float) -> None:
            if report is not None:
                report(step, loss * PER_END**2, now * PER_END)

        alone = TrainedParts(scale=False, couplings=False)
        parts = [alone] if first and self.trained != alone and alone.n_parameters(guide) else []
        stages = [(0.0, _residual(guide, held_out))] if first else []
        history, step, reached = [], 0.0, math.nan
        for where in (*parts, self.trained):
            found = fit_gauss_newton(ActionChange(guide), training, held_out, _STEPS, where, told)
            guide, reached = found.model.action, found.training_residual * PER_END
            stages.append((float(where.n_parameters(guide)), found.residual * PER_END))
            lines = found.history * np.array([1.0, PER_END**2, PER_END])
            lines[:, 0] += step
            history.append(lines)
            step = lines[-1, 0] + 1
        table = np.array(stages) if first else np.zeros((0, 2))
        return table, np.concatenate(history), guide, reached

    def _tuned(self, key: Key[Array, ""], state: GuideState) -> tuple[GuideState, tuple[str, ...]]:
        """The state with the step size that the guide's own HMC accepts as wanted; what is to be said of it."""
        guide, wanted = state.model, self.settings.inner_acceptance
        trajectory = self._driven_by(guide, state.inner_step_size)
        own = Sequence((RefreshPseudofermions(guide), MetropolisHastings(guide, trajectory)))
        tuning = tune(key, own, init_chains(own, state.chains.configuration), wanted=wanted)
        words = (
            (f"trajectories of the guide: {tuning.verdict}",) if tuning.verdict and tuning.acceptance < wanted else ()
        )
        return state._replace(inner_step_size=np.asarray(step_size(tuning.update))), words

    def _force_seconds(self, guide: FermionGuide, configuration: Dynamical) -> np.ndarray:
        """Seconds of a force of the guide, and of one of the target."""
        links, field = configuration
        return np.array([_least_seconds(_force, action, links, field) for action in (guide, self.target)])


_STEPS = GaussNewtonSettings()


def _observe(state: State, info: Info) -> tuple[Array, Label | None]:
    return info.accepted, info.label


def _room(links: Array, field: Any, n_lines: int) -> Label:
    """A buffer for the ends of trajectories, the chains on the leading axis of what is given."""

    def room(leaf: Array) -> Any:
        return np.zeros((n_lines, *leaf.shape[1:]), leaf.dtype)

    return Label(
        TrajectoryEnds(room(links), room(links), jax.tree.map(room, field)), np.zeros(n_lines), np.zeros(n_lines)
    )


def _with_lines(room: np.ndarray, lines: np.ndarray, start: int) -> np.ndarray:
    room = np.array(room)
    room[start : start + len(lines)] = lines
    return room


def _filled_part(labels: Label, n_lines: Any) -> Label:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: int(n_lines)], labels)


def _residual(guide: FermionGuide, labels: Label) -> float:
    return residual(ActionChange(guide), labels) * PER_END


@eqx.filter_jit
def _force(action: PseudofermionTarget, links: Array, field: Any) -> Array:
    return jax.grad(GivenPseudofermion(action, field).log_weight)(links)


def _least_seconds(function: Callable[..., Any], *arguments: Any) -> float:
    jax.block_until_ready(function(*arguments))
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        best = min(best, time.perf_counter() - started)
    return best
