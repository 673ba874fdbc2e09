"""How a chain moves: updates, what they carry, what they report."""

import abc
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from slmc.montecarlo.target import Configuration, LogWeight, Target, evaluate
from slmc.numbers import positive_count


class State(NamedTuple):
    """What the next step needs: the configuration and the exact evaluation that belongs to it."""

    configuration: Configuration
    log_weight: LogWeight
    observables: dict[str, Array]


class Label(NamedTuple):
    """A configuration with its exact log-weight and force: one line of training data."""

    configuration: Configuration
    log_weight: Float[Array | np.ndarray, "*batch"]
    force: Configuration


class Info(NamedTuple):
    """What a step reports.

    ``accepted`` is 0 or 1 for a single decision and the accepted share for a sweep. ``log_ratio`` is the
    logarithm of the Metropolis–Hastings ratio of the (last) decision. ``label`` is the exact label of the
    proposed configuration, whether accepted or not, where the update was asked for it.
    """

    accepted: Float[Array, ""]
    log_ratio: Float[Array, ""]
    label: Label | None = None


class Update(eqx.Module):
    """A Markov step that leaves the distribution of ``self.target`` invariant.

    To write your own: give it a field ``target``, say in ``reversible`` whether it keeps detailed balance
    (needed inside a ``CumulativeUpdate``), and write ``step``. Check it with
    ``slmc.testing.check_invariance`` against exact draws.

    What else an update may say of itself, read by the functions of the same names below; none of it is needed:

    - a field or property ``step_size``, a float64 array, if it has one that can be tuned;
    - ``evaluations_per_step(configuration)``, the exact evaluations of ``target`` that a step costs, if not one;
    - ``decision(info)``, the ``Info`` of its decisive part, if ``step`` reports anything but an ``Info``.
    """

    target: eqx.AbstractVar[Target]

    @property
    @abc.abstractmethod
    def reversible(self) -> bool:
        """Whether the step keeps detailed balance, W(x) P(x → x') = W(x') P(x' → x)."""

    @abc.abstractmethod
    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Any]:
        """One step; returns the new state and what it reports (``Info``, or a tuple of them)."""

    def init(self, configuration: Configuration) -> State:
        """The state of a chain that starts at a configuration: one exact evaluation."""
        return State(configuration, *evaluate(self.target, configuration))


class Sequence(Update):
    """Updates of one target, one after the other.

    A product of reversible steps is invariant but reversible only if it reads the same backwards, as in
    ``Sequence((a, b, a))`` with the same object ``a`` at both ends. ``decisive`` is the index of the update whose
    decision is reported as that of the whole: by default the last, for what comes before it may be a heat bath of
    auxiliary fields. Raises ``ValueError`` without updates, and for updates of different targets: their product has
    neither as its distribution.
    """

    updates: tuple[Update, ...]
    decisive: int = eqx.field(static=True)

    def __init__(self, updates: Iterable[Update], decisive: int = -1) -> None:
        self.updates, self.decisive = tuple(updates), decisive
        if not self.updates:
            raise ValueError("a Sequence needs at least one update; got none.")
        if not self._has_one_target:
            raise ValueError(
                "the updates of a Sequence have different targets, so that together they sample neither; give all of "
                "them the same target."
            )

    @property  # type: ignore[misc]
    def target(self) -> Target:  # type: ignore[override]
        return self.updates[0].target

    @property
    def reversible(self) -> bool:
        palindrome = all(same(a, b) for a, b in zip(self.updates, reversed(self.updates), strict=True))
        return palindrome and self._has_one_target and all(update.reversible for update in self.updates)

    @property
    def _has_one_target(self) -> bool:
        """Looked at again by ``reversible``, since operations on trees replace parts without building anew."""
        return all(same_target(update.target, self.target) for update in self.updates[1:])

    @property
    def step_size(self) -> Any:
        """That of the last update that has one."""
        sizes = [step_size(update) for update in self.updates]
        return next((size for size in reversed(sizes) if size is not None), None)

    def evaluations_per_step(self, configuration: Configuration) -> int:
        return sum(evaluations_per_step(update, configuration) for update in self.updates)

    def decision(self, info: tuple[Any, ...]) -> Info:
        return _decided(self.updates[self.decisive], info[self.decisive])

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, tuple[Any, ...]]:
        infos = []
        for update, subkey in zip(self.updates, jax.random.split(key, len(self.updates)), strict=True):
            state, info = update.step(subkey, state)
            infos.append(info)
        return state, tuple(infos)


def same(a: eqx.Module, b: eqx.Module) -> bool:
    """Whether two objects hold the very same arrays: copies made by tree operations count, equal values do not."""
    leaves, others = jax.tree.leaves(a), jax.tree.leaves(b)
    alike = bool(jax.tree.structure(a) == jax.tree.structure(b))  # type: ignore[operator]
    return alike and all(x is y for x, y in zip(leaves, others, strict=True))


def same_target(first: Target, second: Target) -> bool:
    """Whether two targets are one: of the same structure, with the same arrays or arrays of equal values.

    Inside a compiled program arrays have no values yet; there arrays of equal shapes and types pass.
    """
    leaves, others = jax.tree.leaves(first), jax.tree.leaves(second)
    alike = bool(jax.tree.structure(first) == jax.tree.structure(second))  # type: ignore[operator]
    return alike and all(_equal(x, y) for x, y in zip(leaves, others, strict=True))


def _equal(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if not (eqx.is_array_like(x) and eqx.is_array_like(y)):
        return bool(x == y)
    if jnp.shape(x) != jnp.shape(y) or jnp.result_type(x) != jnp.result_type(y):
        return False
    is_traced = isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer)
    return is_traced or np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True)


class Repeated(Update):
    """``n_steps`` of an update as one step, which reports the infos of all of them.

    Raises ``ValueError`` for fewer than one step.
    """

    update: Update
    n_steps: int = eqx.field(static=True)

    def __init__(self, update: Update, n_steps: int) -> None:
        self.update, self.n_steps = update, positive_count(n_steps, "n_steps")

    @property  # type: ignore[misc]
    def target(self) -> Target:  # type: ignore[override]
        return self.update.target

    @property
    def reversible(self) -> bool:
        return self.update.reversible

    @property
    def step_size(self) -> Any:
        return step_size(self.update)

    def evaluations_per_step(self, configuration: Configuration) -> int:
        return self.n_steps * evaluations_per_step(self.update, configuration)

    def decision(self, info: Any) -> Info:
        """All decisions, on a leading axis."""
        return _decided(self.update, info)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Any]:
        return run(key, self.update, state, self.n_steps)


def step_size(update: Update) -> Any:
    """The step size of an update; ``None`` if it has none."""
    return getattr(update, "step_size", None)


def evaluations_per_step(update: Update, configuration: Configuration) -> int:
    """Exact evaluations of its target that one step of an update costs, at a configuration of one chain."""
    count = getattr(update, "evaluations_per_step", None)
    return 1 if count is None else int(count(configuration))


def decision_of(update: Update) -> Callable[[Any], Info]:
    """The function that picks, of what a step reports, the ``Info`` of the decisive part.

    One and the same function for all updates that differ in nothing but the values of their arrays, so that what is
    compiled with it is compiled once.
    """
    return _decision(jax.tree.structure(update))


@functools.lru_cache(maxsize=256)
def _decision(structure: Any) -> Callable[[Any], Info]:
    update = jax.tree.unflatten(structure, [None] * structure.num_leaves)
    return functools.partial(_decided, update)


def _decided(update: Update, info: Any) -> Info:
    decision = getattr(update, "decision", None)
    return info if decision is None else decision(info)


def accept_or_reject(
    key: Key[Array, ""], state: State, proposed: State, log_proposal_ratio: Float[Array, ""]
) -> tuple[State, Bool[Array, ""], Float[Array, ""]]:
    """The Metropolis–Hastings decision: accept with probability min(1, r).

        log r = log W(x') − log W(x) + log q(x|x') − log q(x'|x)

    A ratio that is not a number is a rejection. A log-weight of +∞ is accepted and never left, which ``run_chains``
    notices. Returns the next state, the decision and log r.
    """
    log_ratio = proposed.log_weight - state.log_weight + log_proposal_ratio
    accepted = jnp.log(jax.random.uniform(key, dtype=jnp.float64)) < log_ratio
    following = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposed, state)
    return following, accepted, log_ratio


def run(key: Key[Array, ""], update: Update, state: State, n_steps: int) -> tuple[State, PyTree]:
    """``n_steps`` of one chain as one ``lax.scan``; returns the last state and the stacked infos."""

    def body(state: State, key: Key[Array, ""]) -> tuple[State, PyTree]:
        return update.step(key, state)

    return jax.lax.scan(body, state, jax.random.split(key, n_steps))


def chain(key: Key[Array, ""], update: Update, state: State, n_steps: int) -> State:
    """The state after ``n_steps`` of one chain: by the update's own ``chain``, if it has a faster way than steps."""
    of_its_own = getattr(update, "chain", None)
    if of_its_own is not None:
        return of_its_own(key, state, n_steps)
    return run(key, update, state, n_steps)[0]
