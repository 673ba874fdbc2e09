"""What is sampled: a target is an object with a log-weight."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Configuration = Any
"""An array, or a pytree of arrays."""

LogWeight = Float[Array, ""]


class Target(eqx.Module):
    """A distribution known up to a constant factor, p(x) ∝ W(x) = exp(log_weight(x)).

    An effective model is nothing else: a target with trainable parameters (the floating-point leaves of
    the object).

    To write your own: subclass, hold parameters as array fields, return log W as a float64 scalar built
    with ``jax.numpy``. Inverse temperature is part of log W; an additive constant is free. If ``jax.grad``
    of it works, Hamiltonian updates and force matching work too. Check it with ``slmc.testing``.
    """

    @abc.abstractmethod
    def log_weight(self, configuration: Configuration) -> LogWeight:
        """log W of one configuration, without a leading axis of chains."""


class MeasuredTarget(Target):
    """A target whose exact evaluation yields observables at no further cost (the spectrum behind a determinant).

    To write your own: as for ``Target``, and return the observables as a dictionary of arrays.
    """

    @abc.abstractmethod
    def log_weight_and_observables(self, configuration: Configuration) -> tuple[LogWeight, dict[str, Array]]:
        """log W and the observables that come with it."""


def evaluate(target: Target, configuration: Configuration) -> tuple[LogWeight, dict[str, Array]]:
    """One exact evaluation: log W, and the observables the target offers with it (none in general)."""
    if isinstance(target, MeasuredTarget):
        return target.log_weight_and_observables(configuration)
    return target.log_weight(configuration), {}


def log_weight_and_force(target: Target, configuration: Configuration) -> tuple[LogWeight, Configuration]:
    """log W and its gradient ∂ log W/∂x in the embedding coordinates of the configuration."""
    return jax.value_and_grad(target.log_weight)(configuration)


def driving_part(target: Target) -> Target:
    """The part of a target whose force drives a trajectory: all of it, unless a target says otherwise.

    Where a manifold's free motion has a part of log W in it (the springs of a ring polymer), the target has a property
    ``driving_part``, a target with the rest, and a method ``free_log_weight(configuration)`` for that part.
    """
    part: Target | None = getattr(target, "driving_part", None)
    return target if part is None else part


def of_whole(
    target: Target, configuration: Configuration, log_weight: LogWeight, force: Configuration
) -> tuple[LogWeight, Configuration]:
    """log W and force of a target from those of its ``driving_part``."""
    rest = getattr(target, "free_log_weight", None)
    if rest is None:
        return log_weight, force
    of_rest, slope = jax.value_and_grad(rest)(configuration)
    return log_weight + of_rest, jax.tree.map(jnp.add, force, slope)


class SinglePrecision(Target):
    """A model evaluated in float32, its log-weight returned in float64.

    For the guide of a ``HamiltonianTrajectory``, whose positions and momenta stay in float64: a kick by any function
    of the position is reversible and keeps volume, so a rounded force costs acceptance and never correctness. And for
    training. What a decision reads should be the model itself.
    """

    model: Target

    def log_weight(self, configuration: Configuration) -> LogWeight:
        model, rounded = jax.tree.map(_in_single_precision, (self.model, configuration))
        return model.log_weight(rounded).astype(jnp.float64)


def _in_single_precision(leaf: Any) -> Any:
    return leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf
