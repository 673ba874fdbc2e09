"""Configurations that are kept in the records, and what is measured of them afterwards.

The group ``configurations`` has the dimensions (chain, draw) of the measurement, and ``draw`` tells which of its draws
were kept. A configuration that is an array is the variable ``configuration``; each part of one that is a pytree has a
variable of its own. Numbers are stored as float64, complex ones with a last axis of real and imaginary part: what they
were comes back to the bit.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jaxtyping import Array

from slmc.montecarlo import Configuration, State, Target, evaluate, over_chains
from slmc.montecarlo.chains import chains_in_a_group
from slmc.simulation.records import KEPT, Records, Variable
from slmc.system import Observable, Problem, UserError

_PORTION = 2**27
"""Bytes of configurations that are measured at once."""


def kept_in(block: int, block_size: int, keep_every: int) -> np.ndarray:
    """Of the steps of a block, counted from 1, those after which configurations are kept; counted from 0 inside it."""
    steps = np.arange((block - 1) * block_size + 1, block * block_size + 1)
    return np.flatnonzero(steps % keep_every == 0)


def variables(configurations: Configuration, draws: np.ndarray, axes: tuple[str, ...]) -> dict[str, Variable]:
    """What is recorded of configurations with leading axes (chain, draw), the draws counted as in the measurement."""
    named: dict[str, Variable] = {
        "draw": Variable(("draw",), draws.astype(float), description="draw of the measurement")
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(configurations):
        name, values = _name(path), np.asarray(leaf)
        n_axes = values.ndim - 2
        of_leaf = axes if len(axes) == n_axes else tuple(f"{name}_axis{axis}" for axis in range(n_axes))
        if np.iscomplexobj(values):
            values, of_leaf = np.stack([values.real, values.imag], axis=-1), (*of_leaf, "real_imaginary")
        named[name] = Variable(("chain", "draw", *of_leaf), values, description="configurations that were kept")
    return named


def _name(path: Any) -> str:
    return "".join(
        ["configuration", *(f".{getattr(key, 'key', getattr(key, 'name', getattr(key, 'idx', key)))}" for key in path)]
    )


def measured_anew(
    records: Records, problem: Problem, about: Observable | Callable[[Configuration], Array], target: Target
) -> xarray.DataArray:
    """An observable, or a function of a configuration, of all configurations that a run has kept.

    Its values have the dimensions (chain, draw) and, where it is an array, those of the array; the coordinate ``draw``
    tells which draws of the measurement they are. They are computed as a run computes them, chains in the same groups,
    and are the same to the bit. Raises ``UserError`` where nothing was kept.
    """
    observable = about if isinstance(about, Observable) else Observable(getattr(about, "__name__", "measured"), about)
    found, draws = [], []
    for configurations, of_draws in _portions(records, problem):
        found.append(np.asarray(_measured(observable, target, configurations)))
        draws.append(of_draws)
    if not found:
        raise UserError(
            f"no configurations were kept in {records.path}: a run keeps those of every so many steps with "
            "measurement.keep_every."
        )
    values = np.concatenate(found, axis=1)
    axes = observable.axes or tuple(f"{observable.name}_axis{axis}" for axis in range(values.ndim - 2))
    coordinates = {"draw": np.concatenate(draws).astype(int), "chain": np.arange(len(values))}
    attributes = {"units": observable.units, "description": observable.description}
    return xarray.DataArray(values, coordinates, ("chain", "draw", *axes), observable.name, attributes)


def _measured(observable: Observable, target: Target, configurations: Configuration) -> Any:
    n_chains = len(jax.tree.leaves(configurations)[0])
    group_size = chains_in_a_group(target, n_chains)
    if observable.of_configuration is not None:
        return over_chains(_of_draws, configurations, (), observable.of_configuration, group_size=group_size)
    name = observable.name if observable.of_weight is None else observable.of_weight
    return over_chains(_of_weights, configurations, target, name, group_size=group_size)


def _of_draws(shared: Any, configurations: Configuration, function: Callable[[Configuration], Array]) -> Array:
    """One chain, draw by draw as a run does it."""
    return jax.lax.map(function, configurations)


def _of_weights(target: Target, configurations: Configuration, name: Any) -> Array:
    def of_weight(configuration: Configuration) -> Array:
        log_weight, observables = evaluate(target, configuration)
        state = State(configuration, log_weight, observables)
        if name == "log_weight":
            return state.log_weight
        return state.observables[name] if isinstance(name, str) else name(state.observables)

    return jax.lax.map(of_weight, configurations)


def _portions(records: Records, problem: Problem) -> Iterator[tuple[Configuration, np.ndarray]]:
    """The configurations as they were, in portions along the draws, with their draws."""
    _, described = records.attributes(KEPT)
    if not described:
        return
    n_chains = records.extents(KEPT, next(name for name in described if name != "draw"))["chain"]
    chains = jax.eval_shape(lambda key: problem.start(key, n_chains), jax.random.key(0))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), chains)
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [_name(path) for path, _ in leaves]
    size = max(1, _PORTION // (kept_bytes(like) * n_chains))
    for stored in records.portions(KEPT, ("draw", *names), size):
        parts = [_restored(stored[name], leaf.dtype) for name, (_, leaf) in zip(names, leaves, strict=True)]
        yield jax.tree_util.tree_unflatten(structure, parts), stored["draw"]


def _restored(values: np.ndarray, dtype: Any) -> Array:
    if np.issubdtype(dtype, np.complexfloating):
        values = values[..., 0] + 1j * values[..., 1]
    return jnp.asarray(values.astype(dtype))


def kept_bytes(configuration: Any) -> int:
    """Bytes that a configuration of one chain takes in the records, from its shapes."""
    leaves: list[Any] = jax.tree.leaves(configuration)
    return sum(8 * (1 + np.issubdtype(leaf.dtype, np.complexfloating)) * int(np.prod(leaf.shape)) for leaf in leaves)
