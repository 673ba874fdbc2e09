"""Fitting models of few parameters by Gauss–Newton steps: every label in every step."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from slmc.montecarlo.target import Configuration, Target
from slmc.montecarlo.update import Label
from slmc.selflearning.training import FitResult, residual

Model = TypeVar("Model", bound=Target)

_CHUNK = 16
"""Labels whose derivatives are computed by one call of the compiled program."""


class GaussNewtonSettings(NamedTuple):
    """How ``fit_gauss_newton`` steps.

    At most ``n_steps`` steps are tried, from a ``damping`` relative to the diagonal of the normal matrix, which is
    divided by ten after a step that lowers the loss and multiplied by ten after one that does not. It stops where a
    step lowers the loss by less than a share ``tolerance``.
    """

    n_steps: int = 20
    damping: float = 1e-3
    tolerance: float = 1e-4


def _whole(model: Any) -> Any:
    return model


STANDARD_SETTINGS = GaussNewtonSettings()


def fit_gauss_newton(
    model: Model,
    labels: Label,
    held_out: Label,
    settings: GaussNewtonSettings = STANDARD_SETTINGS,
    where: Callable[[Model], Any] = _whole,
    report: Callable[[int, float, float], None] | None = None,
) -> FitResult:
    """The parameters that minimise var(log W − log W_θ), by Levenberg's and Marquardt's damped Gauss–Newton steps.

        (JᵀJ + λ diag JᵀJ) δθ = Jᵀr,   r the centred residuals, J = ∂ log W_θ/∂θ, centred likewise

    For models of up to some hundred parameters, whose derivatives over all labels fit in memory: a few steps do what
    thousands of a stochastic optimiser do, and no learning rate is to be found. Forces are not fitted. The best model
    on the held-out labels is kept, ``history`` has a line for each step that was taken. ``where`` and ``report`` as
    ``fit`` has them. Raises ``ValueError`` for fewer labels than parameters, ``FloatingPointError`` where the loss is
    not finite to begin with.
    """
    start, unravel = ravel_pytree(_parameters(model, where))
    if len(labels.log_weight) <= start.size:
        raise ValueError(f"{start.size} parameters need more labels than {len(labels.log_weight)}.")

    def made(theta: np.ndarray) -> Model:
        static = eqx.partition(where(model), eqx.is_inexact_array)[1]
        return eqx.tree_at(where, model, eqx.combine(unravel(jnp.asarray(theta)), static))

    theta = np.asarray(start)
    loss, jacobian, differences = _linearised(made(theta), labels, where)
    if not math.isfinite(loss):
        raise FloatingPointError("the loss is not finite; check that the target's log-weights are, and the model's.")
    best, damping = made(theta), settings.damping
    best_residual = residual(best, held_out)
    history = [(0.0, loss, best_residual)]
    for step in range(1, settings.n_steps + 1):
        trial = theta + _step(jacobian, differences, damping)
        trial_loss, *linearised = _linearised(made(trial), labels, where)
        if not trial_loss < loss:
            damping *= 10
            continue
        gained, theta, loss, damping = 1 - trial_loss / loss, trial, trial_loss, damping / 10
        jacobian, differences = linearised
        now = residual(made(theta), held_out)
        history.append((float(step), loss, now))
        if report is not None:
            report(step, loss, now)
        if now < best_residual:
            best, best_residual = made(theta), now
        if gained < settings.tolerance:
            break
    return FitResult(best, np.array(history), best_residual, residual(best, labels), ())


def _parameters(model: Any, where: Callable[[Any], Any]) -> Any:
    return eqx.filter(where(model), eqx.is_inexact_array)


def _step(jacobian: np.ndarray, differences: np.ndarray, damping: float) -> np.ndarray:
    normal = jacobian.T @ jacobian
    diagonal = np.diagonal(normal)
    # A parameter without effect, as a value that no score reads, stays where it is.
    damped = normal + np.diag(damping * diagonal + np.where(diagonal > 0, 0.0, 1.0))
    return np.linalg.solve(damped, jacobian.T @ differences)


def _linearised(model: Any, labels: Label, where: Callable[[Any], Any]) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss, ∂ log W_θ/∂θ of every label, and the residuals, both centred."""
    n_labels, values, rows = len(labels.log_weight), [], []
    for start in range(0, n_labels, _CHUNK):
        # The last chunk is filled up by repetition, so that all of them are one compiled program.
        members = np.minimum(np.arange(start, start + _CHUNK), n_labels - 1)
        chunk = jax.tree.map(lambda leaf, chosen=members: np.asarray(leaf)[chosen], labels.configuration)
        value, row = jax.device_get(_values_and_derivatives(model, chunk, where))
        values.append(value)
        rows.append(row)
    predicted, jacobian = np.concatenate(values)[:n_labels], np.concatenate(rows)[:n_labels]
    differences = np.asarray(labels.log_weight) - predicted
    differences = differences - np.mean(differences)
    with np.errstate(invalid="ignore"):
        return float(np.var(differences, ddof=1)), jacobian - np.mean(jacobian, axis=0), differences


@eqx.filter_jit
def _values_and_derivatives(
    model: Any, configurations: Configuration, where: Callable[[Any], Any]
) -> tuple[Float[Array, " label"], Float[Array, "label parameter"]]:
    parameters, static = eqx.partition(where(model), eqx.is_inexact_array)
    theta, unravel = ravel_pytree(parameters)

    def log_weight(theta: Array, configuration: Configuration) -> Array:
        return eqx.tree_at(where, model, eqx.combine(unravel(theta), static)).log_weight(configuration)

    return jax.lax.map(lambda configuration: jax.value_and_grad(log_weight)(theta, configuration), configurations)
