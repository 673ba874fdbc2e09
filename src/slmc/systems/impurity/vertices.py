"""Where configurations of vertices live, and how effective models compute their weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo import SiteManifold
from slmc.montecarlo.target import LogWeight


def by_platform(compiled: Callable[..., LogWeight], dense: Callable[..., LogWeight]) -> Callable[..., LogWeight]:
    """log W(parameters, vertices), on a CPU in compiled code, elsewhere and for derivatives by ``dense`` in JAX.

    Spins, which are ±1 or empty slots, have no derivatives; without times, (slot), there are none but by parameters.
    """

    @jax.custom_vjp
    def log_weight(parameters: Any, vertices: Float[Array, "slot *pair"]) -> LogWeight:
        return jax.lax.platform_dependent(parameters, vertices, cpu=compiled, default=dense)

    def forward(parameters: Any, vertices: Float[Array, "slot *pair"]) -> tuple[LogWeight, tuple[Any, Array]]:
        return log_weight(parameters, vertices), (parameters, vertices)

    def backward(saved: tuple[Any, Array], cotangent: Float[Array, ""]) -> tuple[Any, Array]:
        parameters, vertices = jax.vjp(dense, *saved)[1](cotangent)
        return parameters, vertices.at[..., -1].set(0) if vertices.ndim > 1 else jnp.zeros_like(vertices)

    log_weight.defvjp(forward, backward)
    return log_weight


class Circle(SiteManifold):
    """Vertices (τ, s) on the circle of imaginary time; times move, spins stay. Empty slots, (0, 0), come last.

    A variable number of vertices in an array of fixed size: the number is changed by updates that insert and remove.
    """

    beta: Float[Array, ""]
    point_ndim = 1

    def project(self, position: Any, vector: Any) -> Any:
        return vector * _along(position)

    def move(self, position: Any, momentum: Any, time: Float[Array, ""]) -> tuple[Any, Any]:
        return self._closed(position + time * momentum, position), momentum

    def perturb(self, key: Key[Array, ""], position: Any, step_size: Float[Array, ""]) -> Any:
        step = step_size * jax.random.normal(key, position.shape, jnp.float64)
        return self._closed(position + self.project(position, step), position)

    def random(self, key: Key[Array, ""], shape: Any) -> Any:
        """Half of the slots filled, anywhere."""
        n_slots = shape[-2]
        key_times, key_spins = jax.random.split(key)
        times = jax.random.uniform(key_times, shape[:-1], jnp.float64) * self.beta
        spins = jax.random.rademacher(key_spins, shape[:-1], jnp.float64)
        occupied = jnp.arange(n_slots) < n_slots // 2
        return jnp.where(occupied[:, None], jnp.stack([times, spins], -1), 0.0)

    def dimension(self, position: Any) -> Any:
        """The number of vertices."""
        return jnp.sum(position[..., 1] != 0)

    def distance(self, position: Any) -> Any:
        """How far times are outside of the circle, or spins from ±1 and, in empty slots, from 0."""
        numbers = np if isinstance(position, np.ndarray) else jnp
        times, spins = position[..., 0], position[..., 1]
        sizes = numbers.abs(spins)
        off = numbers.minimum(sizes, numbers.abs(sizes - 1))
        beta = float(self.beta) if numbers is np else self.beta
        outside = numbers.maximum(numbers.maximum(-times, times - beta), 0.0)
        left_over = numbers.where(sizes < 0.5, numbers.abs(times), 0.0)
        gaps = numbers.maximum(sizes[..., 1:] - sizes[..., :-1], 0.0)
        worst = [numbers.max(part) for part in (off, outside, left_over)]
        worst += [numbers.max(gaps)] if gaps.shape[-1] else []
        return numbers.max(numbers.stack(worst))

    def _closed(self, moved: Any, before: Any) -> Any:
        """Times brought back into [0, β); spins and empty slots as they were."""
        times = moved[..., 0] % self.beta
        times = jnp.where(times >= self.beta, 0.0, times)
        occupied = before[..., 1] != 0
        return jnp.stack([jnp.where(occupied, times, 0.0), before[..., 1]], -1)


def _along(position: Any) -> Any:
    """1 for the times of vertices, 0 for all else."""
    occupied = position[..., 1] != 0
    return jnp.stack([jnp.asarray(occupied, jnp.float64), jnp.zeros(occupied.shape)], -1)
