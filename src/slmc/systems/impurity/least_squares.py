"""Nonlinear least squares of log-weights with a Gaussian prior, after Levenberg and Marquardt."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

_N_ITERATIONS = 60
_LEAST_GAIN = 1e-3
"""Of the logarithm of the mean squared residual in ten iterations, below which a fit has ended."""


def most_likely(
    predicted: Callable[[Array, Any], Array],
    start: Float[np.ndarray, " parameter"],
    data: Any,
    wanted: Float[np.ndarray, " sample"],
    prior: Float[np.ndarray, " parameter"],
) -> Float[np.ndarray, " parameter"]:
    """Parameters θ with the least Σ (wanted − predicted)²/noise + Σ prior θ²; the noise is the mean squared residual.

    ``predicted(θ, sample)`` of one sample, samples on the leading axis of ``data``; ``prior`` holds inverse variances.
    """
    values = jax.jit(jax.vmap(predicted, (None, 0)))
    slopes = jax.jit(jax.vmap(jax.grad(predicted), (None, 0)))
    parameters, damping = start, 1e-2
    residual = wanted - np.asarray(values(parameters, data))
    noise, history = residual.var(), [np.log(residual.var())]
    for _ in range(_N_ITERATIONS):
        jacobian = np.asarray(slopes(parameters, data))
        matrix = jacobian.T @ jacobian / noise + np.diag(prior)
        right = jacobian.T @ residual / noise - prior * parameters
        best = residual @ residual / noise + prior @ parameters**2
        while damping < 1e8:
            proposed = parameters + np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), right)
            new = wanted - np.asarray(values(proposed, data))
            if new @ new / noise + prior @ proposed**2 < best:
                break
            damping *= 5
        else:
            break
        parameters, residual, damping = proposed, new, max(damping / 5, 1e-9)
        noise = max(residual.var(), 1e-12)
        history.append(np.log(noise))
        if len(history) > 10 and history[-11] - history[-1] < _LEAST_GAIN:
            break
    return parameters
