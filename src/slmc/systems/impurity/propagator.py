"""Propagators in imaginary time: g(τ) = ⟨d(τ) d†(0)⟩ > 0 on (0, β), antiperiodic, as tables of polynomials."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DEGREE = 5
_INTERVALS_PER_TIME = 10.0
"""Intervals per 1/ε of the fastest decay e^{−ετ}: the table is then right to 1e-13."""

_LEAST, _MOST = 64, 2**16


class Propagator(eqx.Module):
    """g(τ) on [0, β] by polynomials of degree five on equal intervals; g(−τ) = −g(β − τ).

    The usual Green function is G(τ) = −g(τ). The compiled loops and the JAX code read the same table, so that both have
    the same weight to rounding.
    """

    beta: Float[Array, ""]
    table: Float[Array, "interval 6"]

    def __call__(self, time: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """g at time differences between −β and β; g(0) is g(0⁺)."""
        n = len(self.table)
        negative = time < 0
        x = jnp.where(negative, time + self.beta, time) * (n / self.beta)
        interval = jnp.clip(jnp.asarray(x, jnp.int32), 0, n - 1)
        u = x - jnp.asarray(interval, jnp.float64)
        value = jnp.zeros_like(u)
        for power in range(DEGREE, -1, -1):
            value = value * u + self.table[interval, power]
        return jnp.where(negative, -value, value)


def tabulated(function: Callable[[np.ndarray], np.ndarray], beta: float, fastest: float) -> Propagator:
    """The propagator of a function of τ in [0, β] that varies over times of 1/``fastest``, or more slowly."""
    n = int(np.clip(math.ceil(beta * fastest * _INTERVALS_PER_TIME), _LEAST, _MOST))
    nodes = (1 - np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))) / 2
    # The ends are nodes too, so that neighbouring polynomials meet.
    nodes = (nodes - nodes[0]) / (nodes[-1] - nodes[0])
    times = (np.arange(n)[:, None] + nodes[None]) * (beta / n)
    values = np.asarray(function(times.ravel())).reshape(times.shape)
    powers = np.linalg.inv(np.vander(nodes, DEGREE + 1, increasing=True))
    return Propagator(jnp.asarray(float(beta)), jnp.asarray(values @ powers.T))
