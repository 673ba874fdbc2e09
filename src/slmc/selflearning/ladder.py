"""Replica exchange of self-learning updates: a model for every temperature, and the ladder tuned while learning."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo.chains import init_chains, run_chains
from slmc.montecarlo.target import Target
from slmc.montecarlo.tempering import ReplicaExchange, ReplicaInfo, Tempered, round_trips, stacked, tuned_ladder
from slmc.montecarlo.update import Label, State
from slmc.numbers import positive, positive_count
from slmc.selflearning.on_the_fly import N_LAST, Learner, LearningSettings, LearningState, RoundReport, learn


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


class ReplicaLearningState(NamedTuple):
    """Where learning stands at every temperature, the chains of all of them together, and the exact evaluations."""

    chains: State
    states: tuple[LearningState, ...]
    model: tuple[Any, ...]
    exact_evaluations: Array | np.ndarray


class ReplicaLearner(eqx.Module):
    """What takes part in learning a model for every replica: a ``Learner`` for each, and their common target.

    Replicas do not swap while they learn. All share the length of the inner chain, and stop together, when the budget
    is spent or the held-out residual has stopped improving for all. Raises ``ValueError`` if ``settings.n_updates`` is
    ``None``.
    """

    learners: tuple[Learner, ...]

    def __check_init__(self) -> None:
        if self.settings.n_updates is None:
            raise ValueError("all replicas share the length of the inner chain; give settings.n_updates a number.")

    @property
    def settings(self) -> LearningSettings:
        return self.learners[0].settings

    def begin(self, model: tuple[Any, ...], chains: State) -> ReplicaLearningState:
        """The state before the first round; a model for every replica."""
        parts = _parts(chains.configuration, len(self.learners))
        states = tuple(
            learner.begin(start, init_chains(learner.exact, part))
            for learner, start, part in zip(self.learners, model, parts, strict=True)
        )
        return ReplicaLearningState(chains, states, tuple(model), np.asarray(0))

    def with_chains(self, state: ReplicaLearningState, chains: State) -> ReplicaLearningState:
        """The state with its chains replaced."""
        parts = _parts(chains.configuration, len(self.learners))
        states = tuple(
            learner.with_chains(old, init_chains(learner.exact, part))
            for learner, old, part in zip(self.learners, state.states, parts, strict=True)
        )
        return state._replace(chains=chains, states=states)

    def round(
        self,
        key: Key[Array, ""],
        state: ReplicaLearningState,
        report: Callable[[int, float, float], None] | None = None,
    ) -> tuple[ReplicaLearningState, RoundReport]:
        """One round of every replica; what is reported is that of the worst, with the figures of each beside it."""
        states, reports = [], []
        for number, (learner, state_of) in enumerate(zip(self.learners, state.states, strict=True)):
            state_of, report_of = learner.round(jax.random.fold_in(key, number), state_of, report)
            states.append(state_of)
            reports.append(report_of)
        together = jax.tree.map(
            lambda *leaves: np.stack(leaves, axis=1), *(replica.chains.configuration for replica in states)
        )
        evaluations = sum(each.exact_evaluations for each in reports)
        chains = state.chains._replace(configuration=together)
        models = tuple(replica.model for replica in states)
        return ReplicaLearningState(chains, tuple(states), models, np.asarray(evaluations)), _of_all(reports)

    def is_finished(self, state: ReplicaLearningState) -> bool:
        """Whether every replica has finished."""
        return all(learner.is_finished(replica) for learner, replica in zip(self.learners, state.states, strict=True))

    def frozen(self, state: ReplicaLearningState, finished: Callable[[Any, Label], Any]) -> ReplicaLearningState:
        """The state with the models as they are stored, and without training data."""
        states = tuple(
            learner.frozen(replica, finished) for learner, replica in zip(self.learners, state.states, strict=True)
        )
        return state._replace(states=states, model=tuple(replica.model for replica in states))

    def update(self, state: ReplicaLearningState) -> ReplicaExchange:
        """Replica exchange of the exact updates that propose with the models as they stand."""
        updates = [learner.update(replica) for learner, replica in zip(self.learners, state.states, strict=True)]
        return ReplicaExchange(update=stacked(updates))  # type: ignore[call-arg]


class TemperedLearningState(NamedTuple):
    """Where learning stands at every temperature; model and labels, common to all, are those at factor 1."""

    chains: State
    states: tuple[LearningState, ...]
    model: Any
    labels: Label
    n_labels: Array | np.ndarray
    exact_evaluations: Array | np.ndarray


class TemperedLearner(eqx.Module):
    """What takes part in learning one model for a ladder of ``Tempered`` targets of one and the same W_0.

    A label at one temperature is one at every other. So all replicas train one model, in turn, on the labels of all,
    and take it at their own factor; ``learners`` are for models ``Tempered(model, factor)``. Only the first prepares a
    model for its first fit. Replicas do not swap while they learn. Raises ``ValueError`` if ``settings.n_updates`` is
    ``None``.
    """

    learners: tuple[Learner, ...]
    factors: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.settings.n_updates is None:
            raise ValueError("all replicas share the length of the inner chain; give settings.n_updates a number.")

    @property
    def settings(self) -> LearningSettings:
        return self.learners[0].settings

    def begin(self, model: Any, chains: State) -> TemperedLearningState:
        """The state before the first round."""
        parts = _parts(chains.configuration, len(self.learners))
        states = [
            learner.begin(Tempered(model, jnp.asarray(factor)), init_chains(learner.exact, part))
            for learner, factor, part in zip(self.learners, self.factors, parts, strict=True)
        ]
        # One buffer for all, with room for what every replica adds.
        room = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(state.labels for state in states))
        nothing = tuple(state._replace(labels=_none_of(state.labels)) for state in states)
        return TemperedLearningState(chains, nothing, model, room, np.asarray(0), np.asarray(0))

    def with_chains(self, state: TemperedLearningState, chains: State) -> TemperedLearningState:
        """The state with its chains replaced."""
        parts = _parts(chains.configuration, len(self.learners))
        states = tuple(
            learner.with_chains(old, init_chains(learner.exact, part))
            for learner, old, part in zip(self.learners, state.states, parts, strict=True)
        )
        return state._replace(chains=chains, states=states)

    def round(
        self,
        key: Key[Array, ""],
        state: TemperedLearningState,
        report: Callable[[int, float, float], None] | None = None,
    ) -> tuple[TemperedLearningState, RoundReport]:
        """One round of every replica; what is reported is that of the worst, with the figures of each beside it."""
        states, reports = [], []
        model, labels, n_labels = state.model, state.labels, state.n_labels
        for number, (learner, factor) in enumerate(zip(self.learners, self.factors, strict=True)):
            at_factor = state.states[number]._replace(
                model=Tempered(model, jnp.asarray(factor)), labels=_scaled(labels, factor), n_labels=n_labels
            )
            at_factor, report_of = learner.round(jax.random.fold_in(key, number), at_factor, report)
            model, n_labels = at_factor.model.target, at_factor.n_labels  # type: ignore[attr-defined]
            labels = _scaled(at_factor.labels, 1 / factor)
            states.append(at_factor._replace(labels=_none_of(labels)))
            reports.append(report_of)
        together = jax.tree.map(
            lambda *leaves: np.stack(leaves, axis=1), *(replica.chains.configuration for replica in states)
        )
        chains = state.chains._replace(configuration=together)
        evaluations = np.asarray(sum(each.exact_evaluations for each in reports))
        new = TemperedLearningState(chains, tuple(states), model, labels, n_labels, evaluations)
        return new, _of_all(reports)._replace(n_labels=int(n_labels))

    def is_finished(self, state: TemperedLearningState) -> bool:
        """Whether every replica has finished."""
        return all(learner.is_finished(replica) for learner, replica in zip(self.learners, state.states, strict=True))

    def frozen(self, state: TemperedLearningState, finished: Callable[[Any, Label], Any]) -> TemperedLearningState:
        """The state with the model as it is stored, and without training data."""
        last = slice(max(0, int(state.n_labels) - N_LAST), int(state.n_labels))
        model = finished(state.model, jax.tree.map(lambda leaf: np.asarray(leaf)[last], state.labels))
        return state._replace(model=model, labels=_none_of(state.labels))

    def update(self, state: TemperedLearningState) -> ReplicaExchange:
        """Replica exchange of the exact updates that propose with the model as it stands."""
        updates = [
            learner.update(replica._replace(model=Tempered(state.model, jnp.asarray(factor))))
            for learner, factor, replica in zip(self.learners, self.factors, state.states, strict=True)
        ]
        return ReplicaExchange(update=stacked(updates))  # type: ignore[call-arg]


def _parts(configurations: Any, n_replicas: int) -> list[Any]:
    """The configurations of each replica."""
    return [jax.tree.map(lambda leaf, number=number: leaf[:, number], configurations) for number in range(n_replicas)]


def _scaled(labels: Label, factor: float) -> Label:
    """Labels at another temperature."""
    forces = jax.tree.map(lambda leaf: factor * np.asarray(leaf), labels.force)
    return Label(labels.configuration, factor * np.asarray(labels.log_weight), forces)


def _none_of(labels: Label) -> Label:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:0], labels)


def _of_all(reports: list[RoundReport]) -> RoundReport:
    """The round of the replica with the largest residual, with the counts and predictions of all."""
    worst = max(reports, key=lambda each: each.residual)
    centred = [each.predicted - each.predicted.mean() + each.exact.mean() for each in reports]
    by_replica = {name: np.array([getattr(each, name) for each in reports]) for name in ("residual", "acceptance")}
    return worst._replace(
        n_labels=sum(each.n_labels for each in reports),
        exact_evaluations=sum(each.exact_evaluations for each in reports),
        predicted=np.concatenate(centred),
        exact=np.concatenate([each.exact for each in reports]),
        seconds_sampling=sum(each.seconds_sampling for each in reports),
        seconds_training=sum(each.seconds_training for each in reports),
        warnings=tuple(dict.fromkeys(text for each in reports for text in each.warnings)),
        by_replica=by_replica,
    )


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
    ladder = np.asarray(positive(temperatures, "temperatures"), float)
    if len(ladder) < 2:
        raise ValueError(f"replica exchange needs at least 2 temperatures; got {len(ladder)}.")
    if learner_at(float(ladder[0])).settings.n_updates is None:
        raise ValueError("all replicas share the length of the inner chain; give settings.n_updates a number.")
    models: list[Any] = [None] * len(ladder)
    reports: list[LadderReport] = []
    for round_ in range(n_rounds):
        updates, residuals, evaluations = [], [], 0
        for number, temperature in enumerate(ladder):
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
        key_swap = jax.random.fold_in(jax.random.fold_in(key, round_), len(ladder))
        chains, seen = run_chains(key_swap, exchange, chains, n_steps, _swaps)
        tried, swapped, acceptance = jax.device_get(seen)
        configurations = chains.configuration
        by_pair = np.sum(acceptance, (0, 1)) / np.maximum(np.sum(tried, (0, 1)), 1)
        trips = sum(round_trips(row).n_round_trips for row in swapped)
        # A step evaluates every replica twice: its own update, and the configuration it may swap for.
        evaluations += 2 * n_steps * len(ladder) * len(configurations)
        reports.append(LadderReport(ladder, by_pair, np.array(residuals), trips, evaluations))
        if report is not None:
            report(reports[-1])
        if round_ < n_rounds - 1:
            ladder = tuned_ladder(ladder, by_pair)
    return LadderResult(ladder, tuple(models), exchange, chains, tuple(reports))


def _swaps(state: State, info: ReplicaInfo) -> tuple[Array, Array, Array]:
    return info.tried, info.swapped, info.acceptance
