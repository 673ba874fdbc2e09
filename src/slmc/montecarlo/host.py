"""Targets that live outside JAX: a weight computed by Python, Fortran or another program on the host."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.montecarlo.target import LogWeight, Target

Batch = Float[np.ndarray, "configuration ..."]


class HostTarget(Target):
    """A target whose log-weight a function of the host computes, for all chains of a group in one call.

    ``weights(batch)`` takes a NumPy array of configurations, the first axis counting them, and returns as many
    log-weights. ``weights_and_forces(batch)`` returns those and ∂ log W/∂x, of the shape of the batch. It is needed
    for Hamiltonian updates of the target and for force matching only; without it derivatives of the target are NaN:
    use ``LocalSweep`` as the exact update, and learn with ``force_weight = 0``. Parameters belong in the functions,
    which may be called from several threads at once. With ``together`` all chains come in two calls, half of them each,
    that are made at the same time where there are two devices: for functions that have many workers to feed.

    Raises an error that names the shapes, while sampling, if a function returns arrays of other shapes.
    """

    weights: Callable[[Batch], np.ndarray] = eqx.field(static=True)
    weights_and_forces: Callable[[Batch], tuple[np.ndarray, np.ndarray]] | None = eqx.field(static=True, default=None)
    together: bool = eqx.field(static=True, default=False)

    def log_weight(self, configuration: Float[Array, "..."]) -> LogWeight:
        """log W of one configuration."""
        return _log_weight(self.weights, self.weights_and_forces, configuration)


def wants_all_together(tree: Any) -> bool:
    """Whether a target somewhere in an update wants all chains in as few calls as there can be."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, HostTarget))
    return any(isinstance(node, HostTarget) and node.together for node in nodes)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _log_weight(weights: Any, weights_and_forces: Any, configuration: Array) -> Array:
    (log_weight,) = _on_host(lambda batch: (weights(batch),), configuration, ((),))
    return log_weight


@_log_weight.defjvp
def _log_weight_jvp(
    weights: Any, weights_and_forces: Any, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (configuration,), (tangent,) = primals, tangents
    if weights_and_forces is None:
        return _log_weight(weights, None, configuration), jnp.sum(jnp.nan * tangent)
    log_weight, force = _on_host(weights_and_forces, configuration, ((), configuration.shape))
    return log_weight, jnp.sum(force * tangent)


def _on_host(function: Any, configuration: Array, shapes: tuple[tuple[int, ...], ...]) -> tuple[Array, ...]:
    """The results of ``function(batch)``, whose shapes for one configuration are given."""
    n_axes = configuration.ndim

    def call(configurations: Any) -> tuple[np.ndarray, ...]:
        configurations = np.asarray(configurations)
        leading = configurations.shape[: configurations.ndim - n_axes]
        batch = configurations.reshape(-1, *configurations.shape[len(leading) :])
        results = [np.asarray(result, dtype=np.float64) for result in function(batch)]
        wanted = [(len(batch), *shape) for shape in shapes]
        if [result.shape for result in results] != wanted:
            raise ValueError(
                f"a function of a HostTarget returned arrays of shapes {[result.shape for result in results]} for "
                f"{len(batch)} configurations; they must be {wanted}."
            )
        return tuple(result.reshape((*leading, *shape)) for result, shape in zip(results, shapes, strict=True))

    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes)
    return jax.pure_callback(call, results, configuration, vmap_method="broadcast_all")
