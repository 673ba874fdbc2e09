"""The gradient flow (Wilson flow) and the scales t_0 and w_0."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.montecarlo.special_unitary import (
    as_matrices,
    as_points,
    exponential,
    multiply,
    reprojected,
)
from slmc.systems.gauge.links import LinkMatrices, Links
from slmc.systems.gauge.observables import energy_density, topological_charge
from slmc.systems.gauge.smearing import stout_algebra


class Flow(NamedTuple):
    """Flow times t in lattice units, t²⟨E⟩ and (in four dimensions) the topological charge along the flow.

    The first entry is that of the field before the flow. ``links`` is where it ended.
    """

    times: Float[Array, " step"]
    energy: Float[Array, " step"]
    charge: Float[Array, " step"]
    links: Links


@partial(jax.jit, static_argnames="n_steps")
def gradient_flow(links: Links, step_size: float | Float[Array, ""] = 0.02, n_steps: int = 100) -> Flow:
    """V̇ = −g² ∂S_Wilson[V] V by the third-order Runge–Kutta scheme of Lüscher, JHEP 08, 071 (2010), eq. (C.2).

    ``energy`` is t² E with E = −Σ_{μ<ν} tr F_μν² by clover leaves, averaged over sites.
    """

    def body(links: Links, _: None) -> tuple[Links, tuple[Array, Array]]:
        moved = _runge_kutta(links, step_size)
        return moved, _measured(moved)

    end, seen = jax.lax.scan(body, links, None, length=n_steps)
    energy, charge = (jnp.concatenate([first[None], rest]) for first, rest in zip(_measured(links), seen, strict=True))
    times = step_size * jnp.arange(n_steps + 1, dtype=jnp.float64)
    return Flow(times, times**2 * energy, charge, end)


def flow_scales(
    times: Float[Array | np.ndarray, " step"], energy: Float[Array | np.ndarray, " step"], level: float = 0.3
) -> tuple[float, float]:
    """t_0 with t²⟨E⟩ = level and w_0² with t d(t²⟨E⟩)/dt = level: Lüscher; Borsányi et al., JHEP 09, 010 (2012).

    ``energy`` is t²⟨E⟩, averaged over configurations. Returns (t_0, w_0), interpolated linearly; NaN for a level that
    the flow did not reach.
    """
    t, e = np.asarray(times), np.asarray(energy)
    t_0 = _crossing(t, e, level)
    return t_0, float(np.sqrt(_crossing(t, t * np.gradient(e, t), level)))


def _crossing(t: np.ndarray, values: np.ndarray, level: float) -> float:
    """Where the values first reach the level."""
    above = np.flatnonzero(values >= level)
    if len(above) == 0 or above[0] == 0:
        return float("nan")
    k = above[0]
    return float(t[k - 1] + (t[k] - t[k - 1]) * (level - values[k - 1]) / (values[k] - values[k - 1]))


def _measured(links: Links) -> tuple[Array, Array]:
    charge = topological_charge(links) if len(links) == 4 else jnp.full((), jnp.nan)
    return energy_density(links), charge


def _runge_kutta(links: Links, step_size: float | Array) -> Links:
    first = _tangent(links, step_size)
    links = _moved(links, first / 4)
    second = _tangent(links, step_size) * (8 / 9) - first * (17 / 36)
    links = _moved(links, second)
    third = _tangent(links, step_size) * (3 / 4) - second
    return _moved(links, third)


def _tangent(links: Links, step_size: float | Array) -> LinkMatrices:
    return jnp.asarray(step_size).astype(jnp.complex128) * stout_algebra(links, ("plaquette",), jnp.ones(1))


def _moved(links: Links, algebra: LinkMatrices) -> Links:
    return as_points(reprojected(multiply(exponential(algebra), as_matrices(links))))
