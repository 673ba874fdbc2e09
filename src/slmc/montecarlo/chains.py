"""Many chains at once: a leading axis of configurations, spread over devices.

Chains are advanced in groups of a fixed size, whatever the number of devices: one group is one vectorised
program, so the arithmetic of a chain, and with it every bit of its history, does not depend on how many
devices, two or more, share the groups. (On a single device XLA rounds the last bit differently; ``slmc run`` uses at
least two.) Devices never talk to each other inside a program.
"""

import contextlib
import os
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key, PyTree

from slmc.montecarlo.host import wants_all_together
from slmc.montecarlo.random_keys import inline
from slmc.montecarlo.soundness import check_chains, check_weights, is_known
from slmc.montecarlo.target import Configuration
from slmc.montecarlo.update import State, Update
from slmc.numbers import count

GROUP_SIZE = 4
"""Chains in one vectorised program at most; fewer where that makes their groups come out even."""

_AXIS = "chains"

_PORTIONS = 20
"""Of a call that tells its progress, about."""


def over_chains(
    function: Callable[..., Any], chained: PyTree, shared: PyTree, *options: Hashable, group_size: int = GROUP_SIZE
) -> Any:
    """``function(shared, one, *options)`` for every ``one`` on the leading axis of ``chained``, compiled once.

    Raises ``ValueError`` where there is nothing on the leading axis, or where parts disagree about its length.
    ``shared`` is the same for all (its arrays are arguments of the compiled program, not constants of it);
    ``options`` are static. Groups are shared out over as many devices as divide their number.
    """
    length = _length(chained)
    group_size = count(group_size, "group_size", 1)
    group_size = _group_size(length, group_size)
    mesh = Mesh(np.array(_devices()[: _n_devices(length // group_size)]), (_AXIS,))
    dynamic, static = eqx.partition(shared, eqx.is_array)
    dynamic = jax.device_put(dynamic, NamedSharding(mesh, PartitionSpec()))
    chained = jax.device_put(chained, NamedSharding(mesh, PartitionSpec(_AXIS)))
    # Other libraries in the same process, NetKet for one, set a mesh of their own. Without one ours is not set either,
    # since host callbacks do not work under a mesh.
    foreign = not jax.sharding.get_abstract_mesh().empty
    with jax.set_mesh(mesh) if foreign else contextlib.nullcontext():
        return _mapped(function, mesh, group_size, options, dynamic, static, chained)


def _length(chained: PyTree) -> int:
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(chained)}
    if len(lengths) != 1 or () in lengths or (0,) in lengths:
        seen = ", ".join(str(length[0]) if length else "none" for length in sorted(lengths)) or "none"
        raise ValueError(f"arrays of chains need one leading axis, of at least one chain; its lengths are {seen}.")
    return int(lengths.pop()[0])


def _group_size(length: int, at_most: int) -> int:
    """The largest size that gives an even number of groups, so that they can always be shared; else the largest."""
    sizes = [size for size in range(min(at_most, length), 0, -1) if length % size == 0]
    return next((size for size in sizes if length // size % 2 == 0), sizes[0])


def _n_devices(n_groups: int) -> int:
    """Devices among which the groups come out even; one for an odd number of groups.

    XLA rounds programs for one device differently from programs for several. With an even number of groups and at
    least two devices it is always several, and with an odd number always one.
    """
    if n_groups % 2:
        return 1
    return next(number for number in range(len(_devices()), 0, -1) if n_groups % number == 0)


def _devices() -> list[jax.Device]:
    """All devices; of CPUs not more than half of XLA's threads, lest batched LAPACK calls block every one of them."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return devices
    return devices[: max(1, int(os.environ["PJRT_NPROC"]) // 2)]


@eqx.filter_jit
def _mapped(
    function: Callable[..., Any],
    mesh: Mesh,
    group_size: int,
    options: tuple[Hashable, ...],
    dynamic: PyTree,
    static: PyTree,
    chained: PyTree,
) -> Any:
    def local(dynamic: PyTree, chained: PyTree) -> Any:
        shared = eqx.combine(dynamic, static)
        return _map(lambda chain: function(shared, chain, *options), chained, group_size)

    split, whole = PartitionSpec(_AXIS), PartitionSpec()
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False)
    return mapped(dynamic, chained)


def _map(function: Callable[[Any], Any], chained: PyTree, group_size: int) -> Any:
    """``jax.lax.map`` in groups, which cannot do results without elements: those are put back afterwards."""
    seen: dict[str, Any] = {}

    def with_elements(chain: Any) -> list[Array]:
        leaves, seen["structure"] = jax.tree.flatten(function(chain))
        seen["empty"] = {place: leaf for place, leaf in enumerate(map(jnp.asarray, leaves)) if not leaf.size}
        return [leaf for place, leaf in enumerate(leaves) if place not in seen["empty"]]

    results = iter(jax.lax.map(with_elements, chained, batch_size=group_size))
    length = len(jax.tree.leaves(chained)[0])
    leaves = [
        jnp.zeros((length, *seen["empty"][place].shape), seen["empty"][place].dtype)
        if place in seen["empty"]
        else next(results)
        for place in range(seen["structure"].num_leaves)
    ]
    return jax.tree.unflatten(seen["structure"], leaves)


def init_chains(update: Update, configurations: Configuration) -> State:
    """States of chains that start at ``configurations``, one per entry of the leading axis.

    Raises ``ValueError`` for configurations off the manifold on which the update moves (spins of another length than 1,
    links that are not in the group), ``FloatingPointError`` for a log-weight that is NaN or +∞.
    """
    if is_known(configurations):
        check_chains(update, configurations)
    states = unchecked_states(update, configurations)
    if is_known(states):
        check_weights(states, "where it starts")
    return states


def unchecked_states(update: Update, configurations: Configuration) -> State:
    """The compiled part of ``init_chains``: one exact evaluation for every configuration."""
    group_size = chains_in_a_group(update, _length(configurations))
    return over_chains(_init, configurations, update, group_size=group_size)


def run_chains(
    key: Key[Array, ""],
    update: Update,
    states: State,
    n_steps: int,
    observe: Callable[[State, Any], PyTree] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[State, PyTree]:
    """``n_steps`` of every chain. Returns the last states and what ``observe(state, info)`` gave after each step.

    The result has leading axes (chain, step). Without ``observe`` the infos themselves are returned. Chain c uses
    random numbers of its own, derived from ``key`` and c. Pass the same function ``observe`` each time: a new one is
    compiled anew. No steps give empty results. ``progress(done, n_steps)`` is called some twenty times on the way, with
    the same results to the bit.

    Raises ``ValueError`` for a number of steps that is none, ``FloatingPointError`` where a chain has come to a
    log-weight that is NaN or +∞, which it would never leave.
    """
    n_steps, n_chains = count(n_steps, "n_steps"), _length(states)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(n_chains))
    group_size = chains_in_a_group(update, n_chains)
    if progress is None or n_steps < 2:
        states, observed = over_chains(_advance, (keys, states), update, n_steps, observe, group_size=group_size)
    else:
        steps = jax.vmap(lambda key: jax.random.split(key, n_steps))(keys)
        portion, parts = max(1, n_steps // _PORTIONS), []
        for done in range(0, n_steps, portion):
            of_portion = steps[:, done : done + portion]
            states, part = over_chains(_follow, (of_portion, states), update, observe, group_size=group_size)
            parts.append(jax.device_get(part))
            progress(min(done + portion, n_steps), n_steps)
        observed = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
    if is_known(states):
        check_weights(states, "after some steps")
    return states, observed


def chains_in_a_group(update: Any, n_chains: int) -> int:
    """Chains in one vectorised program of an update, or of anything else that holds its target.

    Half of them where a target on the host wants all chains together; two groups are what two devices share."""
    if not wants_all_together(update):
        return GROUP_SIZE
    return n_chains if n_chains % 2 else n_chains // 2


def _init(update: Update, configuration: Configuration) -> State:
    return update.init(configuration)


def _advance(
    update: Update,
    inputs: tuple[Key[Array, ""], State],
    n_steps: int,
    observe: Callable[[State, Any], PyTree] | None,
) -> tuple[State, PyTree]:
    key, state = inputs
    return _follow(update, (jax.random.split(key, n_steps), state), observe)


def _follow(
    update: Update, inputs: tuple[Key[Array, " step"], State], observe: Callable[[State, Any], PyTree] | None
) -> tuple[State, PyTree]:
    """A step for each key."""

    def body(state: State, key: Key[Array, ""]) -> tuple[State, PyTree]:
        state, info = update.step(key, state)
        return state, info if observe is None else observe(state, info)

    keys, state = inputs
    return jax.lax.scan(body, state, inline(keys))
