"""Learning while sampling: sample, fit, propose with the new model, repeat, freeze."""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo.chains import init_chains, over_chains, run_chains
from slmc.montecarlo.hamiltonian import HamiltonianTrajectory
from slmc.montecarlo.manifolds import Manifold
from slmc.montecarlo.metropolis import MetropolisHastings, Proposal
from slmc.montecarlo.target import Configuration, Target, log_weight_and_force
from slmc.montecarlo.tuning import tune, with_step_size
from slmc.montecarlo.update import (
    Info,
    Label,
    State,
    Update,
    decision_of,
    evaluations_per_step,
    same_target,
    step_size,
)
from slmc.numbers import count, not_negative, positive_count, share
from slmc.selflearning.cumulative import CumulativeUpdate
from slmc.selflearning.diagnostics import expected_acceptance
from slmc.selflearning.held_out import bootstrap_error, change_of_residual, uncertainty_of_residual
from slmc.selflearning.inner_chain import InnerLine, innermost, weigh_inner_chains
from slmc.selflearning.training import TrainingSettings, fit, learned_by_heart, residual
from slmc.selflearning.trajectory_length import longest_allowed, weigh_trajectories
from slmc.selflearning.usable_labels import usable

N_LAST = 256
"""Labels, at most, by which the constant of a model is set."""


@dataclass(frozen=True)
class LearningSettings:
    """How much to learn.

    Each round adds ``n_steps`` exact evaluations per chain to the data and trains on all of them; a tuple gives a
    number for each round, the last of which holds for all further rounds, so that early rounds, whose models are
    poor, can be short. So does ``training_steps``, which replaces ``training.n_steps`` unless ``None``. Learning ends
    after ``n_rounds``, or earlier when the held-out residual has not fallen by ``least_improvement`` (relative) for
    two rounds, but not before every number of a tuple was used: short rounds hold out too little to judge by. Where the
    length of trajectories is chosen, which changes what residuals are measured on, it is always ``n_rounds``.
    ``n_updates`` inner updates make one proposal; ``None`` chooses number and kind for the most effective samples a
    second, from measured costs (which differ from run to run). Their step size is tuned to ``inner_acceptance``.
    ``held_out_share`` of the chains never enter the training data. With ``proposal = "trajectory"`` a proposal is one
    trajectory of the model without a decision of the model's own (SLHMC; inner updates must be trajectories), and
    ``n_updates = None`` chooses among them for the most effective samples an exact evaluation. With
    ``label_trajectories`` all that exact trajectories of the first round evaluate on their way is training data too.
    Labels whose log-weight is lower than the least of a round's samples by more than ``label_depth`` are not: what a
    poor model proposes can be so improbable that a few of them are all that training sees.
    Raises ``ValueError`` for numbers that make no sense.
    """

    n_rounds: int = 5
    n_steps: int | tuple[int, ...] = 100
    n_updates: int | None = 10
    training_steps: tuple[int, ...] | None = None
    inner_acceptance: float = 0.8
    least_improvement: float = 0.02
    held_out_share: float = 0.25
    training: TrainingSettings = field(default_factory=TrainingSettings)
    proposal: Literal["chain", "trajectory"] = "chain"
    label_trajectories: bool = False
    label_depth: float | None = None

    def __post_init__(self) -> None:
        positive_count(self.n_rounds, "n_rounds")
        for number in self.n_steps if isinstance(self.n_steps, tuple) else (self.n_steps,):
            positive_count(number, "n_steps")
        for number in self.training_steps or ():
            count(number, "training_steps")
        if self.n_steps == () or self.training_steps == ():
            raise ValueError("n_steps and training_steps must list at least one number where they are lists.")
        if self.n_updates is not None:
            positive_count(self.n_updates, "n_updates")
        if self.proposal not in ("chain", "trajectory"):
            raise ValueError(f"proposal must be 'chain' or 'trajectory'; got {self.proposal!r}.")
        share(self.inner_acceptance, "inner_acceptance")
        not_negative(self.least_improvement, "least_improvement")
        not_negative(self.label_depth or 0.0, "label_depth")
        share(self.held_out_share, "held_out_share")

    def steps_in(self, round_: int) -> int:
        """Steps per chain in a round, counted from 0."""
        return self.n_steps if isinstance(self.n_steps, int) else self.n_steps[min(round_, len(self.n_steps) - 1)]

    def training_in(self, round_: int) -> TrainingSettings:
        """How a round, counted from 0, trains."""
        if self.training_steps is None:
            return self.training
        return replace(self.training, n_steps=self.training_steps[min(round_, len(self.training_steps) - 1)])


class Learner(eqx.Module):
    """What takes part in learning: the target, an exact update to start with, the inner update of a model.

    ``inner(model)`` gives the update that drives the inner chain, or there are several among which
    ``settings.n_updates = None`` chooses for ``observable``, a scalar of one configuration. The step size of the
    innermost update, if it has one, is tuned. ``start(model, labels)``
    prepares a model for its first fit (for instance by a least-squares solve of its linear part); with
    ``training.n_steps = 0`` it is the whole fit, in every round.

    With ``guide``, a cheaper model and the function ``fit_guide(guide, labels)`` that fits it in every round, inner
    chains are nested: ``inner(model, guide)`` gives an update of the model that proposes with a chain of the guide.

    ``errors(model, labels)``, if given, are figures of a model, by name, on labels with forces that are samples of the
    target: of chains that take no part in training. ``labels`` are training data that are there from the start.
    """

    target: Target
    manifold: Manifold
    exact: Update
    inner: Callable[..., Update] | tuple[Callable[..., Update], ...]
    start: Callable[[Any, Label], Any] | None = None
    settings: LearningSettings = eqx.field(static=True, default=LearningSettings())
    guide: Target | None = None
    fit_guide: Callable[[Any, Label], Any] | None = None
    observable: Callable[[Configuration], Array] | None = None
    errors: Callable[[Any, Label], dict[str, float]] | None = None
    labels: Label | None = None

    def __check_init__(self) -> None:
        if self.settings.n_updates is None and self.observable is None:
            raise ValueError("choosing the inner chain (n_updates = None) needs an observable; give the slowest one.")
        if (self.guide is None) != (self.fit_guide is None):
            raise ValueError("guide and fit_guide belong together; give both or neither.")
        if not same_target(self.exact.target, self.target):
            raise ValueError("the exact update of a Learner must have the Learner's target; its own is another one.")

    @property
    def candidates(self) -> tuple[Callable[..., Update], ...]:
        return self.inner if isinstance(self.inner, tuple) else (self.inner,)

    def begin(self, model: Target, chains: State) -> "LearningState":
        """The state before the first round."""
        return start_learning(self, model, chains)

    def round(
        self,
        key: Key[Array, ""],
        state: "LearningState",
        report: Callable[[int, float, float], None] | None = None,
    ) -> "tuple[LearningState, RoundReport]":
        """One round (see ``learning_round``)."""
        return learning_round(key, self, state, report)

    def with_chains(self, state: "LearningState", chains: State) -> "LearningState":
        """The state with its chains replaced."""
        return state._replace(chains=chains)

    def frozen(self, state: "LearningState", finished: Callable[[Any, Label], Any]) -> "LearningState":
        """The state with the model as it is stored, ``finished(model, labels)``, and without its training data."""
        last = slice(max(0, int(state.n_labels) - N_LAST), int(state.n_labels))
        used = jax.tree.map(lambda leaf: np.asarray(leaf)[last], state.labels)
        nothing = jax.tree.map(lambda leaf: np.asarray(leaf)[:0], state.labels)
        return state._replace(model=finished(state.model, used), labels=nothing)

    def adopted(self, key: Key[Array, ""], state: "LearningState") -> "tuple[LearningState, tuple[str, ...]]":
        """The state with the model that it began with, frozen, and the step size of its inner chain tuned; warnings.

        Nothing is evaluated but the model.
        """
        inner, words = _tuned(key, self, _untuned(self, state, int(state.inner[0])), state.chains.configuration)
        size = _inner_step_size(inner)
        nothing = jax.tree.map(lambda leaf: np.asarray(leaf)[:0], state.labels)
        state = state._replace(labels=nothing, n_labels=np.asarray(0))
        return (state if size is None else state._replace(inner_step_size=np.asarray(size))), words

    def is_finished(self, state: "LearningState") -> bool:
        """Whether the budget is spent or the held-out residual has stopped improving."""
        return is_finished(self, state)

    def update(self, state: "LearningState") -> MetropolisHastings:
        """The exact update that proposes with the model as it stands."""
        return self_learning_update(self, state)


class LearningState(NamedTuple):
    """Everything learning needs to go on: chains, model, data so far. All leaves are arrays.

    ``labels`` is a buffer with room for all rounds, of which ``n_labels`` lines are filled; it has one for training and
    one for held-out chains, whose lines are samples of the target. ``inner`` is the chosen candidate and its number of
    updates.
    """

    chains: State
    model: Target
    guide: Target | None
    inner: Array | np.ndarray
    inner_step_size: Array | np.ndarray
    labels: Label
    n_labels: Array | np.ndarray
    n_rounds: Array | np.ndarray
    residuals: Array | np.ndarray
    exact_evaluations: Array | np.ndarray


class RoundReport(NamedTuple):
    """What one round found. Rates are over all chains; seconds are wall time.

    ``inner`` has the fields of ``InnerLine`` as columns, one line for each inner chain weighed, the chosen one first;
    none if nothing was to be chosen. ``residual_error`` is the block-bootstrap error of the residual,
    ``residual_before`` the residual of the model with which training began on the samples of this round, and
    ``share_of_weight_zero`` that of labels of weight zero, which stay out of the fit.
    ``by_replica`` has figures of every replica of a ``ReplicaLearner``, ``errors`` those of ``Learner.errors``.
    ``stages`` has lines of a number of parameters and the held-out residual with no more than these trained, where a
    round goes in stages; ``force_seconds`` the time of a force of the model and of an exact one, where that is what a
    proposal costs.
    """

    round: int
    residual: float
    training_residual: float
    expected_acceptance: float
    acceptance: float
    inner_step_size: float
    n_labels: int
    exact_evaluations: int
    predicted: np.ndarray
    exact: np.ndarray
    history: np.ndarray
    inner: np.ndarray
    seconds_sampling: float
    seconds_training: float
    warnings: tuple[str, ...]
    residual_error: float
    residual_before: float
    share_of_weight_zero: float
    by_replica: dict[str, np.ndarray]
    errors: dict[str, float]
    stages: np.ndarray = np.zeros((0, 2))
    force_seconds: np.ndarray = np.zeros(0)


def n_held_out(n_chains: int, share: float) -> int:
    """Chains kept out of the training data: at least one, and at least one chain left to train on."""
    return min(max(1, round(share * n_chains)), n_chains - 1)


def start_learning(learner: Learner, model: Target, chains: State) -> LearningState:
    """The state before the first round. Raises ``ValueError`` for fewer than two chains."""
    n_chains = len(chains.log_weight)
    if n_chains < 2:
        raise ValueError(f"learning needs at least 2 chains, one of them held out; got {n_chains}.")
    settings = learner.settings
    by_round = [settings.steps_in(round_) for round_ in range(settings.n_rounds)]
    by_round[0] *= _labels_per_step(learner, chains)
    n_steps = sum(by_round)
    given = learner.labels
    n_given = 0 if given is None else len(given.log_weight)
    capacity = n_given + n_steps * (n_chains - n_held_out(n_chains, settings.held_out_share))
    room = jax.tree.map(lambda leaf: np.zeros((capacity, *leaf.shape[1:]), leaf.dtype), chains.configuration)
    labels = Label(room, np.zeros(capacity), jax.tree.map(np.copy, room))
    if given is not None:
        labels = jax.tree.map(lambda room, lines: _filled(room, lines, 0), labels, given)
    state = LearningState(
        chains,
        model,
        learner.guide,
        np.array([0, settings.n_updates or 1]),
        np.asarray(math.nan),
        labels,
        np.asarray(n_given),
        np.asarray(0),
        np.full(settings.n_rounds, np.nan),
        np.asarray(0),
    )
    size = _inner_step_size(_untuned(learner, state, 0))
    return state if size is None else state._replace(inner_step_size=size)


def _labels_per_step(learner: Learner, chains: State) -> int:
    """Labels that a step of the first round gives."""
    labelled = getattr(learner.exact, "labelled_throughout", None) if learner.settings.label_trajectories else None
    if getattr(labelled, "label_proposals", None) != "all":
        return 1
    return evaluations_per_step(learner.exact, jax.tree.map(lambda leaf: leaf[0], chains.configuration))


def is_finished(learner: Learner, state: LearningState) -> bool:
    """Whether the budget is spent or the held-out residual has stopped improving."""
    n_rounds, settings = int(state.n_rounds), learner.settings
    if n_rounds >= settings.n_rounds:
        return True
    if _chooses_length(settings):
        # Trajectories of other lengths go elsewhere: the residuals of two rounds are not to be compared.
        return False
    listed = (numbers for numbers in (settings.n_steps, settings.training_steps) if isinstance(numbers, tuple))
    if n_rounds < max([3, *map(len, listed)]):
        return False
    residuals = np.asarray(state.residuals)[:n_rounds]
    return bool(np.min(residuals[-2:]) > (1 - settings.least_improvement) * np.min(residuals[:-2]))


def _chooses_length(settings: LearningSettings) -> bool:
    """Whether every round chooses how long trajectories are."""
    return settings.n_updates is None and settings.proposal == "trajectory"


def inner_update(learner: Learner, state: LearningState) -> Update:
    """The inner update of the model as it stands, with its tuned step size."""
    return _with_step_size(_untuned(learner, state, int(state.inner[0])), state.inner_step_size)


def self_learning_update(learner: Learner, state: LearningState) -> MetropolisHastings:
    """The exact update that proposes with the model as it stands."""
    inner = inner_update(learner, state)
    if learner.settings.proposal == "trajectory":
        return MetropolisHastings(learner.target, _trajectory(inner))
    return MetropolisHastings(learner.target, CumulativeUpdate(inner, int(state.inner[1])))


def _trajectory(inner: Any) -> Proposal:
    """The trajectory by which an inner update proposes. Raises ``ValueError`` for an update of another kind."""
    proposal = getattr(inner, "proposal", None)
    if not isinstance(proposal, HamiltonianTrajectory):
        raise ValueError(
            'proposal = "trajectory" needs inner updates that are trajectories of the model alone (hmc, not nested); '
            f"got {type(inner).__name__}."
        )
    return proposal


def _untuned(learner: Learner, state: LearningState, candidate: int) -> Update:
    models = (state.model,) if state.guide is None else (state.model, state.guide)
    return learner.candidates[candidate](*models)


def _inner_step_size(update: Update) -> Any:
    return step_size(innermost(update))


def _with_step_size(update: Update, size: Any) -> Update:
    """The update with the step size of its innermost part replaced, where it has one."""
    return update if _inner_step_size(update) is None else with_step_size(update, _inner_step_size, size)


def _tuned(
    key: Key[Array, ""], learner: Learner, update: Update, configurations: Configuration
) -> tuple[Update, tuple[str, ...]]:
    """The inner update with the step size of its innermost part tuned; what is to be said of too low an acceptance."""
    inner = innermost(update)
    if step_size(inner) is None:
        return update, ()
    chains = init_chains(inner, configurations)
    wanted = learner.settings.inner_acceptance
    tuning = tune(key, inner, chains, wanted=wanted)
    words = (f"inner chain: {tuning.verdict}",) if tuning.verdict and tuning.acceptance < wanted else ()
    return _with_step_size(update, step_size(tuning.update)), words


def _tune(
    key: Key[Array, ""],
    learner: Learner,
    state: LearningState,
    held_out: Label,
    training: Label,
    residual_of_model: float,
    acceptance: float,
) -> tuple[LearningState, np.ndarray, tuple[str, ...]]:
    """The state with its inner chain tuned and, if that is asked for, chosen; the lines of the choice; warnings.

    A candidate may leave the model out and let a cheaper one propose, whose own residual says what it can expect: the
    larger one of that on the held-out labels and of ``_residual_across``.
    """
    configurations = state.chains.configuration
    choosing = learner.settings.n_updates is None
    if choosing and learner.settings.proposal == "trajectory":
        return _choose_trajectory(key, learner, state, residual_of_model, acceptance)
    numbers = range(len(learner.candidates)) if choosing else [int(state.inner[0])]
    tuned = [
        _tuned(jax.random.fold_in(key, number), learner, _untuned(learner, state, number), configurations)
        for number in numbers
    ]
    updates = [update for update, _ in tuned]
    lines, place = np.zeros((0, len(InnerLine._fields))), 0
    if choosing:
        assert learner.observable is not None
        acceptances = [
            expected_acceptance(
                residual_of_model
                if same_target(update.target, state.model)
                else max(residual(update.target, held_out), _residual_across(learner, state.guide, training))
            )
            for update in updates
        ]
        weighed = weigh_inner_chains(
            key, learner.target, tuple(updates), configurations, learner.observable, acceptances
        )
        state = state._replace(inner=np.array([weighed[0].candidate, weighed[0].n_updates]))
        lines, place = np.array(weighed, dtype=float), weighed[0].candidate
    chosen, words = tuned[place]
    size = _inner_step_size(chosen)
    return state if size is None else state._replace(inner_step_size=np.asarray(size)), lines, words


def _residual_across(learner: Learner, guide: Target | None, training: Label) -> float:
    """s of cheaper models fitted to one half of the chains of a round, on the other half; 0 where there is none.

    Held-out chains are few. While chains have hardly moved any model seems to be good on one of them, and a linear one
    has parameters enough to be good on all those that it was fitted to.
    """
    middle = len(training.log_weight) // 2
    halves = [
        usable(_flatten(training, part), forces_matter=False).labels for part in (slice(middle), slice(middle, None))
    ]
    if guide is None or learner.fit_guide is None or not all(len(half.log_weight) for half in halves):
        return 0.0
    squares = [residual(learner.fit_guide(guide, one), other) ** 2 for one, other in (halves, halves[::-1])]
    return math.sqrt(np.mean(squares))


def _choose_trajectory(
    key: Key[Array, ""], learner: Learner, state: LearningState, residual_of_model: float, acceptance: float
) -> tuple[LearningState, np.ndarray, tuple[str, ...]]:
    """``_tune`` for trajectories: the step size is tuned where they are shortest, then the length is chosen."""
    assert learner.observable is not None
    configurations = state.chains.configuration
    updates = [_untuned(learner, state, number) for number in range(len(learner.candidates))]
    shortest = min(updates, key=lambda update: _trajectory(update).n_steps)  # type: ignore[attr-defined]
    tuned, words = _tuned(key, learner, shortest, configurations)
    size = step_size(tuned)
    updates = [with_step_size(update, step_size, size) for update in updates]
    used = shortest if math.isnan(acceptance) else updates[int(state.inner[0])]
    longest = longest_allowed(_trajectory(used).n_steps, acceptance)  # type: ignore[attr-defined]
    lines = weigh_trajectories(
        jax.random.fold_in(key, 1), tuple(updates), configurations, learner.observable, residual_of_model, longest
    )
    state = state._replace(inner=np.array([lines[0].candidate, 1]), inner_step_size=np.asarray(size))
    return state, np.array(lines, dtype=float), words


def learning_round(
    key: Key[Array, ""],
    learner: Learner,
    state: LearningState,
    report: Callable[[int, float, float], None] | None = None,
) -> tuple[LearningState, RoundReport]:
    """Samples ``settings.n_steps`` per chain, trains on all labels so far, tunes the inner chain.

    The first round samples with the exact update, later ones with the model. Proposed configurations are kept as
    training data whether accepted or not.
    """
    key_sample, key_fit, key_tune = jax.random.split(key, 3)
    settings, round_ = learner.settings, int(state.n_rounds)
    first, training_settings = round_ == 0, learner.settings.training_in(round_)
    started = time.perf_counter()
    chains, new, samples, acceptance, evaluations, taken = _sample(key_sample, learner, state)
    sampled = time.perf_counter()

    n_held = n_held_out(len(chains.log_weight), settings.held_out_share)
    forces_matter = training_settings.force_weight > 0
    held_out = usable(_flatten(samples, slice(None, n_held)), forces_matter=False).labels
    accepted = jax.tree.map(lambda leaf: leaf[taken[:n_held].ravel()], _flatten(new, slice(None, n_held)))
    lowest = np.min(samples.log_weight, initial=np.inf, where=np.isfinite(samples.log_weight))
    least = -math.inf if settings.label_depth is None else float(lowest) - settings.label_depth
    training, share_of_weight_zero = usable(_flatten(new, slice(n_held, None)), forces_matter, least)
    residual_before_round = math.nan if first else _residual_of_proposing(learner, state, held_out)
    n_old = int(state.n_labels)
    n_labels = n_old + len(training.log_weight)
    labels = jax.tree.map(lambda room, lines: _filled(room, lines, n_old), state.labels, training)
    model, guide = state.model, state.guide
    filled = jax.tree.map(lambda leaf: leaf[:n_labels], labels)
    if learner.start is not None and (first or training_settings.n_steps == 0):
        model = learner.start(model, filled)
    if learner.fit_guide is not None:
        guide = learner.fit_guide(guide, filled)
    result = fit(key_fit, model, labels, held_out, learner.manifold, training_settings, n_labels, report)
    state = state._replace(
        chains=chains,
        model=result.model,
        guide=guide,
        labels=labels,
        n_labels=np.asarray(n_labels),
        residuals=_filled(np.asarray(state.residuals), np.array([result.residual]), int(state.n_rounds)),
        n_rounds=np.asarray(int(state.n_rounds) + 1),
        exact_evaluations=np.asarray(int(state.exact_evaluations) + evaluations),
    )
    acceptance = math.nan if first else acceptance
    by_chain = jax.tree.map(lambda leaf: leaf[n_held:], new)
    state, inner, words = _tune(key_tune, learner, state, held_out, by_chain, result.residual, acceptance)

    expected = math.nan if first else expected_acceptance(residual_before_round)
    by_heart = learned_by_heart(result.residual, result.training_residual)
    # With little data at first it is so with every model; more is to come.
    warnings = tuple(said for said in result.warnings if said != by_heart or is_finished(learner, state))
    warnings = (*warnings, *words)
    # While trajectories grow, samples go where none were before: of that only the last round has to tell.
    is_settled = not _chooses_length(settings) or is_finished(learner, state)
    if not first and is_settled and acceptance < 0.5 * expected:
        warnings = (
            *warnings,
            f"the measured acceptance {acceptance:.2f} is far below the {expected:.2f} expected from the residual: the "
            "samples it was measured on do not represent the target; thermalise longer or add learning rounds.",
        )
    predicted = np.asarray(over_chains(_log_weight, held_out.configuration, result.model, group_size=32))
    error, before = _error_of_residual(np.asarray(held_out.log_weight) - predicted, n_held), float(result.history[0, 2])
    rose = "" if first else change_of_residual(np.asarray(state.residuals)[: round_ + 1], error, before)
    if is_settled:
        warnings = (*warnings, *filter(None, (rose, uncertainty_of_residual(result.residual, error))))
    return state, RoundReport(
        round=int(state.n_rounds),
        residual=result.residual,
        training_residual=result.training_residual,
        expected_acceptance=InnerLine(*inner[0]).acceptance if len(inner) else expected_acceptance(result.residual),
        acceptance=acceptance,
        inner_step_size=float(state.inner_step_size),
        n_labels=n_labels,
        exact_evaluations=int(state.exact_evaluations),
        predicted=predicted,
        exact=np.asarray(held_out.log_weight),
        history=result.history,
        inner=inner,
        seconds_sampling=sampled - started,
        seconds_training=time.perf_counter() - sampled,
        warnings=warnings,
        residual_error=error,
        residual_before=before,
        share_of_weight_zero=share_of_weight_zero,
        by_replica={},
        errors=_errors(learner, result.model, usable(accepted, forces_matter=False).labels),
    )


def _errors(learner: Learner, model: Target, labels: Label) -> dict[str, float]:
    """Figures of the model on samples with forces; none where nothing was accepted."""
    if learner.errors is None or not len(labels.log_weight):
        return {}
    return learner.errors(model, labels)


def _residual_of_proposing(learner: Learner, state: LearningState, held_out: Label) -> float:
    """That of the model as the round before left it, or of a cheaper one, if that proposed without the model."""
    proposing = inner_update(learner, state).target
    if same_target(proposing, state.model):
        return float(np.asarray(state.residuals)[int(state.n_rounds) - 1])
    return residual(proposing, held_out)


def _error_of_residual(differences: np.ndarray, n_chains: int) -> float:
    """The error of the residual by chains; NaN where samples of weight zero were left out of some."""
    return math.nan if len(differences) % n_chains else bootstrap_error(differences.reshape(n_chains, -1))


class LearningResult(NamedTuple):
    """The frozen model, the exact update that proposes with it, the chains where learning left them, the reports."""

    model: Target
    update: MetropolisHastings
    chains: State
    reports: tuple[RoundReport, ...]


def learn(
    key: Key[Array, ""],
    learner: Learner,
    model: Target,
    configurations: Configuration,
    n_thermalise: int = 100,
    report: Callable[[RoundReport], None] | None = None,
) -> LearningResult:
    """Thermalises with the exact update, learns until the budget is spent or nothing improves, freezes the model.

    ``configurations`` start the chains, one per entry of the leading axis. Learning breaks stationarity: samples
    count only from the frozen ``update`` on.
    """
    key_thermalise, key = jax.random.split(key)
    chains = init_chains(learner.exact, configurations)
    chains, _ = run_chains(key_thermalise, learner.exact, chains, n_thermalise, _nothing)
    state = start_learning(learner, model, chains)
    reports = []
    while not is_finished(learner, state):
        state, report_ = learning_round(jax.random.fold_in(key, int(state.n_rounds)), learner, state)
        reports.append(report_)
        if report is not None:
            report(report_)
    update = self_learning_update(learner, state)
    return LearningResult(state.model, update, init_chains(update, state.chains.configuration), tuple(reports))


def _sample(
    key: Key[Array, ""], learner: Learner, state: LearningState
) -> tuple[State, Label, Label, float, int, np.ndarray]:
    """New chains, labels of the proposals, samples of the target (their forces left out), acceptance, evaluations.

    Last, of which labels the proposal was accepted: (chain, label).
    """
    n_steps = learner.settings.steps_in(int(state.n_rounds))
    n_chains = len(state.chains.log_weight)
    update: Update = learner.exact
    if int(state.n_rounds) > 0:
        update = self_learning_update(learner, state)
    configuration = jax.tree.map(lambda leaf: leaf[0], state.chains.configuration)
    evaluations = n_chains * n_steps * evaluations_per_step(update, configuration)
    kind = "labelled_throughout" if learner.settings.label_trajectories else "labelled"
    labelled: Update | None = getattr(update, kind, None)
    if labelled is not None:
        chains, (accepted, labels, configurations, log_weights) = run_chains(
            key, labelled, state.chains, n_steps, _observe_labels
        )
        if labels.log_weight.ndim == 3:
            labels = jax.tree.map(lambda leaf: leaf.reshape(n_chains, -1, *leaf.shape[3:]), labels)
    else:
        observe = _observe_configurations(decision_of(update))
        chains, (accepted, configurations) = run_chains(key, update, state.chains, n_steps, observe)
        flat = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), configurations)
        log_weights, forces = over_chains(_log_weight_and_force, flat, learner.target, group_size=32)
        log_weights = np.asarray(log_weights).reshape(n_chains, n_steps)
        shaped = jax.tree.map(lambda force, leaf: np.asarray(force).reshape(leaf.shape), forces, configurations)
        labels = Label(configurations, log_weights, shaped)
        evaluations += n_chains * n_steps
    samples = Label(configurations, log_weights, jax.tree.map(np.zeros_like, configurations))
    accepted = np.asarray(accepted)
    acceptance = float(np.mean(accepted))
    # Without labels of proposals these are states of the chains themselves.
    shown = accepted > 0 if labelled is not None else np.ones((n_chains, n_steps), bool)
    taken = np.repeat(shown, labels.log_weight.shape[1] // n_steps, axis=1)
    return chains, jax.device_get(labels), jax.device_get(samples), acceptance, evaluations, taken


def _observe_labels(state: State, info: Info) -> tuple[Array, Label | None, Configuration, Array]:
    return info.accepted, info.label, state.configuration, state.log_weight


@functools.lru_cache(maxsize=64)
def _observe_configurations(decision: Callable[[Any], Info]) -> Callable[[State, Any], tuple[Array, Configuration]]:
    def observe(state: State, info: Any) -> tuple[Array, Configuration]:
        return decision(info).accepted, state.configuration

    return observe


def _nothing(state: State, info: Any) -> None:
    return None


def _log_weight(target: Target, configuration: Configuration) -> Array:
    return target.log_weight(configuration)


def _log_weight_and_force(target: Target, configuration: Configuration) -> tuple[Array, Configuration]:
    return log_weight_and_force(target, configuration)


def _flatten(labels: Label, chains: slice) -> Label:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[chains].reshape(-1, *leaf.shape[2:]), labels)


def _filled(room: np.ndarray, lines: np.ndarray, start: int) -> np.ndarray:
    room = np.array(room)
    room[start : start + len(lines)] = lines
    return room
