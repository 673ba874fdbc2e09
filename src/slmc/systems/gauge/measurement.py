"""What is measured on links that somebody else made: everything at once, as numbers and arrays with their names."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo.special_unitary import as_matrices
from slmc.systems.gauge.fermion_operator import FermionOperator
from slmc.systems.gauge.gradient_flow import flow_scales, gradient_flow
from slmc.systems.gauge.links import Links, rectangle
from slmc.systems.gauge.observables import noisy_condensate, pion_correlator, plaquette, polyakov_loop, wilson_loop
from slmc.systems.gauge.solvers import STANDARD_SOLVER, Solver

DESCRIPTIONS: dict[str, str] = {
    "plaquette": "Re tr U_μν/N, average over sites and planes",
    "rectangle": "Re tr R_μν/N of 1×2 loops, average over sites and planes",
    "polyakov_loop": "tr Pol/N in time, average over space, complex",
    "wilson_loops": "Re tr W/N, R links in space (row) by T in time (column), average over sites and directions",
    "flow_time": "t of the gradient flow, lattice units",
    "flow_energy": "t²E along the flow, E by clover leaves",
    "flow_charge": "topological charge along the flow, by clover leaves",
    "topological_charge": "topological charge at the end of the flow",
    "t_0": "where t²E = 0.3, lattice units; of one configuration, for averages use flow_energy",
    "w_0": "√t where t d(t²E)/dt = 0.3, lattice units; of one configuration, for averages use flow_energy",
    "condensate": "Re tr M⁻¹/V, estimated from Gaussian sources",
    "residual_mass": "m_res of domain walls, estimated from Gaussian sources",
    "pion_correlator": "Σ_x tr |M⁻¹(x, t; 0)|² of a point source at the origin, by t",
}
"""Names of what is measured and what they mean."""


class LinkMeasurement(NamedTuple):
    """What to measure besides plaquette, rectangle and Polyakov loop.

    Wilson loops up to ``largest_loop`` links in space and in time (0: none); the gradient flow to ``flow_time`` (0:
    none) in steps of ``flow_step``; condensate, from ``n_sources``, and pion correlator of ``operator``, if any.
    """

    largest_loop: tuple[int, int] = (0, 0)
    flow_time: float = 0.0
    flow_step: float = 0.02
    operator: FermionOperator | None = None
    n_sources: int = 4
    solver: Solver = STANDARD_SOLVER


LOOPS_ALONE = LinkMeasurement()


def measured_links(
    links: Links, what: LinkMeasurement = LOOPS_ALONE, key: Key[Array, ""] | None = None
) -> dict[str, float | complex | np.ndarray]:
    """The observables of one gauge field by their names in ``DESCRIPTIONS``.

    ``key`` draws the sources of the condensate. Raises ``ValueError`` where they are asked for without one, for a flow
    without steps, and for loops longer than the lattice.
    """
    measured: dict[str, float | complex | np.ndarray] = {
        "plaquette": float(plaquette(links)),
        "rectangle": float(wilson_loop(links, 1, 2)),
        "polyakov_loop": complex(polyakov_loop(links)),
    }
    if min(what.largest_loop) > 0:
        measured["wilson_loops"] = np.asarray(wilson_loops(links, *what.largest_loop))
    if what.flow_time:
        measured |= _flowed(links, what.flow_time, what.flow_step)
    if what.operator is not None:
        if key is None:
            raise ValueError("the condensate is estimated from random sources; give the key that draws them.")
        measured["condensate"] = float(noisy_condensate(key, what.operator, links, what.n_sources, what.solver))
        measured["pion_correlator"] = np.asarray(pion_correlator(what.operator, links, what.solver))
    return measured


@partial(jax.jit, static_argnums=(1, 2))
def wilson_loops(links: Links, largest_distance: int, largest_time: int) -> Float[Array, "distance time"]:
    """Re tr W/N of all loops of up to so many links in space and in time: ``static_loop`` for each.

    The static potential is V(R) = −log W(R, T+1)/W(R, T) at large T. Raises ``ValueError`` for loops longer than the
    lattice, which would wind around it.
    """
    shape = links.shape[1:-3]
    if largest_distance > min(shape[:-1]) or largest_time > shape[-1]:
        raise ValueError(f"loops of {largest_distance}×{largest_time} links do not fit on a lattice of {list(shape)}.")
    u, last = as_matrices(links), len(links) - 1

    def loop(distance: int, time: int) -> Array:
        values = [jnp.mean(rectangle(u, mu, last, (distance, time))) for mu in range(last)]
        return sum(values[1:], values[0]) / (last * len(u))

    rows = [[loop(r, t) for t in range(1, largest_time + 1)] for r in range(1, largest_distance + 1)]
    return jnp.asarray(rows)


def _flowed(links: Links, time: float, step: float) -> dict[str, float | complex | np.ndarray]:
    if not 0 < step <= time < math.inf:
        raise ValueError(f"a flow to time {time:g} in steps of {step:g} has no steps; give 0 < step ≤ time.")
    flow = gradient_flow(links, step, round(time / step))
    t_0, w_0 = flow_scales(flow.times, flow.energy)
    return {
        "flow_time": np.asarray(flow.times),
        "flow_energy": np.asarray(flow.energy),
        "flow_charge": np.asarray(flow.charge),
        "topological_charge": float(flow.charge[-1]),
        "t_0": t_0,
        "w_0": w_0,
    }
