"""Replica exchange (parallel tempering): copies of a system at several temperatures that swap configurations."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from slmc.montecarlo.target import Configuration, LogWeight, MeasuredTarget, Target, evaluate
from slmc.montecarlo.update import Info, State, Update, decision_of, evaluations_per_step, step_size

Module = TypeVar("Module", bound=eqx.Module)

LOG_WEIGHTS = "log_weights"
"""The observable that holds the log-weight of every replica."""

WALKERS = "walkers"
"""The observable that tells which walker, a configuration on its way through the ladder, is at every replica."""


UNTEMPERED = "untempered"
"""The observable of a ``Tempered`` target that holds its log-weight at the temperature at which it is computed."""


class ReplicaInfo(NamedTuple):
    """What a step reports: what each replica's update reported, and the swaps between neighbours.

    ``tried`` and ``swapped`` have an entry for each pair (k, k + 1) of neighbouring replicas. ``acceptance`` is
    min(1, r) of the tried pairs, 0 elsewhere, whose mean over tries has less noise than that of ``swapped``.
    """

    infos: PyTree
    tried: Bool[Array, " pair"]
    swapped: Bool[Array, " pair"]
    acceptance: Float[Array, " pair"]


class ReplicaTarget(MeasuredTarget):
    """Independent replicas, W(x_1, x_2, …) = Π_k W_k(x_k): a configuration has a leading axis of replicas.

    ``replicas`` is one target whose arrays have a leading axis of replicas too (``stacked``). The observable
    ``"log_weights"`` lists log W_k(x_k), ``"walkers"`` numbers the walkers; those of the replicas come along with a
    leading axis.
    """

    replicas: Target

    def log_weight(self, configuration: Configuration) -> LogWeight:
        return jnp.sum(_over_replicas(_log_weight, self.replicas)(configuration))

    def log_weight_and_observables(self, configuration: Configuration) -> tuple[LogWeight, dict[str, Array]]:
        log_weights, observables = _over_replicas(evaluate, self.replicas)(configuration)
        return jnp.sum(log_weights), observables | {LOG_WEIGHTS: log_weights, WALKERS: jnp.arange(len(log_weights))}


class Tempered(MeasuredTarget):
    """W(x) = W_0(x)^factor: a target at another temperature, factor = β/β_0.

    Its weight follows from that at β_0, and so at any other temperature, without another evaluation: log W_0 comes
    with it as ``"untempered"``, beside what comes with W_0.
    """

    target: Target
    factor: Float[Array, ""]

    def log_weight(self, configuration: Configuration) -> LogWeight:
        # A factor is no parameter of a model that is trained.
        return jax.lax.stop_gradient(self.factor) * self.target.log_weight(configuration)

    def log_weight_and_observables(self, configuration: Configuration) -> tuple[LogWeight, dict[str, Array]]:
        untempered, observables = evaluate(self.target, configuration)
        return self.factor * untempered, observables | {UNTEMPERED: untempered}

    def log_weight_of(self, observables: Mapping[str, Array]) -> LogWeight:
        """log W of a configuration that was evaluated at another temperature, from what came with that."""
        return self.factor * observables[UNTEMPERED]


class ReplicaExchange(Update):
    """One update of every replica, then swaps of neighbours: Hukushima, Nemoto, JPSJ 65, 1604 (1996).

    Pairs (k, k + 1) with k even or with k odd, at random, exchange configurations with probability min(1, r),

        log r = log W_k(x_{k+1}) + log W_{k+1}(x_k) − log W_k(x_k) − log W_{k+1}(x_{k+1}),

    for which every replica's weight is evaluated once more, unless the replicas are ``Tempered``, whose weights at
    other temperatures are known. ``update`` is an update of one replica whose arrays have a leading axis of replicas:
    ``ReplicaExchange(stacked([update_1, update_2, …]))``.
    """

    update: Update

    @property  # type: ignore[misc]
    def target(self) -> ReplicaTarget:  # type: ignore[override]
        return ReplicaTarget(self.update.target)

    @property
    def reversible(self) -> bool:
        return False

    @property
    def step_size(self) -> Any:
        """Those of the replicas, on an axis of their own; ``None`` if their updates have none."""
        return step_size(self.update)

    def evaluations_per_step(self, configuration: Configuration) -> int:
        """Those of every replica's update, and one of each, unless it is known, for what it may be given."""
        n_replicas = jax.tree.leaves(configuration)[0].shape[0]
        one_replica = jax.tree.map(lambda leaf: leaf[0], configuration)
        to_swap = 0 if isinstance(self.update.target, Tempered) else 1
        return n_replicas * (evaluations_per_step(self.update, one_replica) + to_swap)

    def decision(self, info: ReplicaInfo) -> Info:
        """The decisions of all replicas, on an axis of their own."""
        return decision_of(self.update)(info.infos)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, ReplicaInfo]:
        key_update, key_parity, key_swap = jax.random.split(key, 3)
        observables = dict(state.observables)
        walkers = observables.pop(WALKERS)
        replicas = State(state.configuration, observables.pop(LOG_WEIGHTS), observables)
        n_replicas = len(replicas.log_weight)
        replicas, infos = _over_replicas(_step, self.update)(jax.random.split(key_update, n_replicas), replicas)
        replicas, walkers, swaps = self._swap(key_swap, jax.random.bernoulli(key_parity), replicas, walkers)
        total, carried = jnp.sum(replicas.log_weight), {LOG_WEIGHTS: replicas.log_weight, WALKERS: walkers}
        state = State(replicas.configuration, total, replicas.observables | carried)
        return state, ReplicaInfo(infos, *swaps)

    def _swap(
        self, key: Key[Array, ""], odd: Bool[Array, ""], replicas: State, walkers: Int[Array, " replica"]
    ) -> tuple[State, Int[Array, " replica"], tuple[Array, ...]]:
        n_replicas = len(replicas.log_weight)
        place = jnp.arange(n_replicas)
        lower = place[:-1] % 2 == jnp.asarray(odd, place.dtype)
        # Of each pair the lower one looks up and the upper one down; a replica without partner meets itself.
        up = jnp.concatenate([lower, jnp.zeros(1, bool)])
        down = jnp.concatenate([jnp.zeros(1, bool), lower])
        partner = place + jnp.asarray(up, place.dtype) - jnp.asarray(down, place.dtype)
        there = jax.tree.map(lambda leaf: leaf[partner], replicas.configuration)
        if isinstance(self.update.target, Tempered):
            known = {name: values[partner] for name, values in replicas.observables.items()}
            exchanged = State(there, _over_replicas(_log_weight_of, self.update.target)(known), known)
        else:
            exchanged = State(there, *_over_replicas(evaluate, self.update.target)(there))
        gain = exchanged.log_weight - replicas.log_weight
        log_ratio = gain[:-1] + gain[1:]
        accepted = jnp.log(jax.random.uniform(key, (n_replicas - 1,), jnp.float64)) < log_ratio
        swapped = accepted & lower
        moved = jnp.concatenate([swapped, jnp.zeros(1, bool)]) | jnp.concatenate([jnp.zeros(1, bool), swapped])

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(moved.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        acceptance = jnp.where(lower, jnp.exp(jnp.minimum(log_ratio, 0.0)), 0.0)
        walkers = chosen(walkers[partner], walkers)
        return jax.tree.map(chosen, exchanged, replicas), walkers, (lower, swapped, acceptance)


def stacked(replicas: Sequence[Module]) -> Module:
    """One object whose arrays are those of all, stacked on a new leading axis.

    What is one array in every replica stays one, by which a guide is known to be the target. Raises ``ValueError``
    unless the objects differ in nothing but the values of their arrays.
    """
    if not replicas:
        raise ValueError("at least one replica is needed.")
    arrays, rest = zip(*(eqx.partition(part, eqx.is_array) for part in replicas), strict=True)
    if len({jax.tree.structure(part) for part in arrays}) > 1 or any(
        not eqx.tree_equal(part, rest[0]) for part in rest
    ):
        raise ValueError("replicas must have the same structure and differ in the values of their arrays alone.")
    together: dict[tuple[int, ...], Array] = {}

    def stack(*leaves: Array) -> Array:
        same = tuple(map(id, leaves))
        if same not in together:
            together[same] = jnp.stack(leaves)
        return together[same]

    return eqx.combine(jax.tree.map(stack, *arrays), rest[0])


def replica(stack: Module, number: int) -> Module:
    """One of the objects of a stack; what is one array in the stack stays one."""
    taken: dict[int, Array] = {}

    def take(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        if id(leaf) not in taken:
            taken[id(leaf)] = leaf[number]
        return taken[id(leaf)]

    return jax.tree.map(take, stack)


class RoundTrips(NamedTuple):
    """Where walkers went: the number of trips from one end of the ladder to the other and back, and who is where.

    ``n_round_trips`` is summed over walkers; ``walkers[t, k]`` is the walker at replica k after step t.
    """

    n_round_trips: int
    walkers: np.ndarray


def round_trips(swapped: Bool[Array | np.ndarray, "step pair"]) -> RoundTrips:
    """Follows the walkers of one chain through its recorded swaps; no pairs, no trips.

    Raises ``ValueError`` for anything but a table (step, pair).
    """
    if np.ndim(swapped) != 2:
        raise ValueError(f"swaps must be those of one chain, (step, pair); got the shape {np.shape(swapped)}.")
    n_steps, n_pairs = np.shape(swapped)
    if not n_pairs:
        return RoundTrips(0, np.zeros((n_steps, 1), int))
    walkers = np.arange(n_pairs + 1)
    # The end of the ladder that a walker saw last: 0 none, −1 the first replica, +1 the last.
    last_seen = np.array([-1, *np.zeros(n_pairs - 1, int), 1])
    half_trips = np.zeros(n_pairs + 1, int)
    history = np.empty((n_steps, n_pairs + 1), int)
    for step, pairs in enumerate(np.asarray(swapped)):
        for pair in np.flatnonzero(pairs):
            walkers[[pair, pair + 1]] = walkers[[pair + 1, pair]]
        for walker, end in ((walkers[0], -1), (walkers[-1], 1)):
            half_trips[walker] += last_seen[walker] == -end
            last_seen[walker] = end
        history[step] = walkers
    return RoundTrips(int(np.sum(half_trips // 2)), history)


def tuned_ladder(
    temperatures: Sequence[float] | Float[np.ndarray, " replica"],
    acceptance: Sequence[float] | Float[Array | np.ndarray, " pair"],
) -> Float[np.ndarray, " replica"]:
    """As many temperatures between the same ends, at which all pairs should swap equally often.

    ``acceptance`` is the mean swap acceptance of each pair while learning. Rejection rates add up to the barrier
    Λ(T) between the ends; the new ladder divides it equally (Syed, Bouchard-Côté, Deligiannidis, Doucet, JRSS B 84,
    321 (2022), section 5). Interpolated monotonically in log T; ends stay as they are. A ladder of one temperature is
    returned as it is. Raises ``ValueError`` for temperatures that are not positive and ascending or descending, and for
    acceptances that are not as many as there are pairs, or do not lie between 0 and 1.
    """
    from scipy.interpolate import PchipInterpolator  # slow to import

    temperatures, acceptance = _checked_ladder(temperatures, acceptance)
    if len(temperatures) == 1:
        return temperatures
    rejection = np.clip(1 - np.asarray(acceptance), 1e-3, 1.0)
    barrier = np.concatenate([[0.0], np.cumsum(rejection)])
    wanted = np.linspace(0, barrier[-1], len(temperatures))
    tuned = np.exp(PchipInterpolator(barrier, np.log(temperatures))(wanted))
    tuned[[0, -1]] = temperatures[0], temperatures[-1]
    return tuned


def _checked_ladder(temperatures: Any, acceptance: Any) -> tuple[np.ndarray, np.ndarray]:
    temperatures, acceptance = (np.asarray(values, dtype=np.float64) for values in (temperatures, acceptance))
    steps = np.diff(temperatures)
    if temperatures.ndim != 1 or not len(temperatures) or not np.all((temperatures > 0) & (temperatures < np.inf)):
        raise ValueError(f"a ladder is a list of positive temperatures; got {temperatures.tolist()}.")
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise ValueError(f"the temperatures of a ladder must ascend, or descend; got {temperatures.tolist()}.")
    if acceptance.shape != steps.shape or not np.all((acceptance >= 0) & (acceptance <= 1)):
        raise ValueError(
            f"{len(temperatures)} temperatures have {len(steps)} pairs, each with an acceptance between 0 and 1; got "
            f"{acceptance.tolist()}."
        )
    return temperatures, acceptance


def _over_replicas(function: Any, stack: eqx.Module) -> Any:
    """``function(one, …)`` over the replicas of a stack and the leading axes of the other arguments."""

    def call(*arguments: Any) -> Any:
        return eqx.filter_vmap(function, in_axes=(eqx.if_array(0), *(0 for _ in arguments)))(stack, *arguments)

    return call


def _log_weight(target: Target, configuration: Configuration) -> LogWeight:
    return target.log_weight(configuration)


def _log_weight_of(target: Tempered, observables: dict[str, Array]) -> LogWeight:
    return target.log_weight_of(observables)


def _step(update: Update, key: Key[Array, ""], state: State) -> tuple[State, Any]:
    return update.step(key, state)
