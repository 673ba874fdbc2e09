"""Models that are linear in their parameters, fitted by one least-squares solve."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from slmc.montecarlo.manifolds import Manifold
from slmc.montecarlo.target import Configuration, Target
from slmc.montecarlo.update import Label
from slmc.numbers import not_negative

Model = TypeVar("Model", bound=Target)

_CHUNK = 128
"""Configurations whose features are computed by one call of the compiled program."""


def _whole(model: Any) -> Any:
    return model


def fit_linear(
    model: Model,
    labels: Label,
    manifold: Manifold,
    force_weight: float = 1.0,
    ridge: float = 1e-10,
    where: Callable[[Model], Any] = _whole,
) -> Model:
    """The parameters that minimise the mean squared residual of log-weights and forces, in one solve.

        min_θ  var(log W − log W_θ) + (force_weight / n_sites) ⟨Σ_i |F_i − F_θ,i|²⟩,   log W_θ = θ·φ(x) + constant

    ``where(model)`` picks the part of the model in whose parameters log W_θ is linear (all of it by default). The
    constant is free in every use of a weight; a parameter that only shifts log W_θ comes out as zero. Forces
    are compared along ``manifold``. ``ridge``, relative to the largest eigenvalue of the normal matrix, keeps
    combinations of features that never vary at zero. Raises ``ValueError`` for labels without finite forces unless
    ``force_weight`` is 0, without labels, and for a negative ``force_weight`` or ``ridge``.
    """
    not_negative(force_weight, "force_weight")
    not_negative(ridge, "ridge")
    if not len(labels.log_weight):
        raise ValueError("fit_linear needs at least one labelled configuration; got none.")
    parameters, static = eqx.partition(where(model), eqx.is_inexact_array)
    theta, unravel = ravel_pytree(parameters)
    features, remainder = _features(model, where, labels.configuration, manifold)
    log_weights = np.asarray(labels.log_weight) - remainder.log_weight
    centred = features.log_weight - features.log_weight.mean(0)
    normal = centred.T @ centred
    right = centred.T @ (log_weights - log_weights.mean())
    if force_weight > 0:
        projected = jax.vmap(lambda x, force: _flat(manifold.project(x, force)))(labels.configuration, labels.force)
        forces = np.asarray(projected) - remainder.force
        if not np.all(np.isfinite(forces)):
            raise ValueError("the labels hold forces that are not finite; give force_weight=0 to fit without them.")
        scale = force_weight / manifold.n_points(jax.tree.map(lambda leaf: leaf[0], labels.configuration))
        normal += scale * np.einsum("bip,biq->pq", features.force, features.force)
        right += scale * np.einsum("bip,bi->p", features.force, forces)
    values, vectors = np.linalg.eigh(normal)
    # The smallest normal number keeps a model without any feature that varies (a constant alone) at zero.
    solution = vectors @ ((vectors.T @ right) / (values + ridge * values[-1] + np.finfo(float).tiny))
    return eqx.tree_at(where, model, eqx.combine(unravel(jnp.asarray(solution, theta.dtype)), static))


def _flat(force: Configuration) -> Array:
    return ravel_pytree(force)[0]


@eqx.filter_jit
def _traced_features(model: Any, where: Callable[[Any], Any], configurations: Any, manifold: Manifold) -> Any:
    parameters, static = eqx.partition(where(model), eqx.is_inexact_array)
    theta, unravel = ravel_pytree(parameters)

    def log_weight(theta: Array, configuration: Configuration) -> Array:
        return eqx.tree_at(where, model, eqx.combine(unravel(theta), static)).log_weight(configuration)

    def force(theta: Array, configuration: Configuration) -> Array:
        return _flat(manifold.project(configuration, jax.grad(log_weight, argnums=1)(theta, configuration)))

    def row(configuration: Configuration) -> Any:
        # log W_θ is linear in θ, so its derivatives do not depend on where they are taken.
        zero = jnp.zeros_like(theta)
        energies = jax.grad(log_weight)(zero, configuration)
        forces = jax.jacfwd(force)(zero, configuration)
        return energies, forces, log_weight(zero, configuration), force(zero, configuration)

    return jax.lax.map(row, configurations, batch_size=32)


def _features(
    model: Any, where: Callable[[Any], Any], configurations: Configuration, manifold: Manifold
) -> tuple[Label, Label]:
    """Derivatives of log-weight and force by the linear parameters, and their values where those vanish."""
    n_configurations = len(jax.tree.leaves(configurations)[0])
    chunks = []
    for start in range(0, n_configurations, _CHUNK):
        # The last chunk is filled up by repetition, so that data that grow reuse the compiled program.
        members = np.minimum(np.arange(start, start + _CHUNK), n_configurations - 1)
        chunk = jax.tree.map(lambda leaf, members=members: np.asarray(leaf)[members], configurations)
        chunks.append(jax.device_get(_traced_features(model, where, chunk, manifold)))
    energies, forces, remainder, remainder_force = (
        np.concatenate(parts)[:n_configurations] for parts in zip(*chunks, strict=True)
    )
    return Label(configurations, energies, forces), Label(configurations, remainder, remainder_force)
