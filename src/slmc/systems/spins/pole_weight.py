"""The double-exchange weight from determinants at a few fixed frequencies, in place of a diagonalisation.

    log W = N (2 log 2 + μ/T) + Σ_p w_p 2 log |det(1 − i(H − μ)/(o_p T))|

with the frequencies o_p and weights w_p of ``poles``, chosen by the reach (Σ_n |t_n| z_n + |J|/2 + |μ|)/T of the
levels. On a CPU the determinants come from the factorisation of ``pole_kernel``, the force from the same factors. The
error is at most 2N times that of the poles (``error_bound``) and rounding.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.compiled_calls import custom_call
from slmc.lattice import Shape, n_sites, neighbours
from slmc.montecarlo.target import LogWeight
from slmc.systems.spins.elimination import elimination
from slmc.systems.spins.poles import MAX_LANES, pole_table

LONGEST_SPIN = 1.05
"""The reach allows for spins a little longer than 1, as finite differences off the sphere make them."""


class Electrons(NamedTuple):
    """What the electrons of one configuration depend on: (J/2) S_i, t_n, |J|/2, T and μ."""

    fields: Float[Array, "site 3"]
    hopping: Float[Array, " shell"]
    half_coupling: Float[Array, ""]
    temperature: Float[Array, ""]
    chemical_potential: Float[Array, ""]


def reach(shape: Shape, hopping: np.ndarray, coupling: float, mu: float, temperature: float) -> float:
    """The largest |E − μ|/T that a level can have."""
    band = float(np.sum(np.abs(hopping) * _coordination(shape, len(hopping))))
    return (band + LONGEST_SPIN * abs(coupling) / 2 + abs(mu)) / temperature


def is_cheaper(shape: Shape, n_shells: int, real: bool) -> bool:
    """Whether a factorisation costs less than a diagonalisation, by counts of operations.

    ``real``: at μ = 0 and with hopping between sublattices alone, quaternions do, at half the cost. Measured on one
    core, a product of blocks in 16 lanes takes as long as 20 of the (2N)³ operations of a diagonalisation.
    """
    plan = elimination(shape, n_shells)
    kinds = 1 if real and plan.bipartite else 2
    return 20 * kinds * plan.n_products < (2 * n_sites(shape)) ** 3 + 20_000


def log_weight(shape: Shape, electrons: Electrons) -> LogWeight:
    """log W on a CPU."""
    return _called(shape, electrons, 0, 0)[0]


def log_weight_and_force(shape: Shape, electrons: Electrons) -> tuple[LogWeight, Float[Array, "site 3"]]:
    """log W, to the bit that of ``log_weight``, and ∂ log W/∂fields."""
    log_w, _, _, force = _called(shape, electrons, 0, n_sites(shape))
    return log_w, force


def log_weight_and_observables(shape: Shape, electrons: Electrons) -> tuple[LogWeight, dict[str, Array]]:
    """log W, to the bit that of ``log_weight``, and the sums over levels of ``DoubleExchange``."""
    log_w, logarithms, angles, _ = _called(shape, electrons, MAX_LANES, 0)
    table, row, sites = pole_table(), _row(shape, electrons), n_sites(shape)
    temperature, mu = electrons.temperature, electrons.chemical_potential
    density = sites + jnp.asarray(table.occupation)[row] @ angles
    grand_energy = -sites * mu - 2 * temperature * (jnp.asarray(table.energy)[row] @ logarithms)
    return log_w, {
        "energy": (grand_energy + mu * density) / sites,
        "density": density / sites,
        "grand_energy": grand_energy,
        "energy_variance": 2 * temperature**2 * (jnp.asarray(table.variance)[row] @ logarithms),
    }


def _numbers(shape: Shape, electrons: Electrons) -> Float[Array, " number"]:
    """What the compiled loops read: see ``pole_kernel``.

    They also multiply by the temperature: XLA rounds the same product differently in different programs.
    """
    table, row = pole_table(), _row(shape, electrons)
    _, shell, multiplicity = neighbours(shape, len(electrons.hopping))
    hops = -electrons.hopping[shell - 1] * jnp.asarray(multiplicity, jnp.float64)
    longest = LONGEST_SPIN * electrons.half_coupling
    within = _reach(shape, electrons) <= table.reach[-1]
    scalars = (
        electrons.temperature,
        electrons.chemical_potential,
        jnp.where(within, longest, jnp.nan),
        jnp.asarray(table.n_frequencies, jnp.float64)[row],
    )
    frequencies = jnp.asarray(table.frequencies)[row]
    weights = jnp.asarray(table.log_cosh)[row]
    return jnp.concatenate([jnp.stack(scalars), hops, electrons.fields.ravel(), frequencies, weights])


def _reach(shape: Shape, electrons: Electrons) -> Float[Array, ""]:
    band = jnp.sum(jnp.abs(electrons.hopping) * _coordination(shape, len(electrons.hopping)))
    largest = band + LONGEST_SPIN * electrons.half_coupling + jnp.abs(electrons.chemical_potential)
    return largest / electrons.temperature


def _row(shape: Shape, electrons: Electrons) -> Array:
    reaches = pole_table().reach
    row = jnp.searchsorted(jnp.asarray(reaches), _reach(shape, electrons))
    return jnp.minimum(row, len(reaches) - 1)


@functools.lru_cache(maxsize=64)
def _coordination(shape: Shape, n_shells: int) -> np.ndarray:
    """Neighbours in each shell."""
    _, shell, multiplicity = neighbours(shape, n_shells)
    return np.bincount(shell - 1, multiplicity, n_shells)


def _called(shape: Shape, electrons: Electrons, n_frequencies: int, n_forces: int) -> Sequence[Array]:
    """The compiled loops with room for determinants and forces, or none."""
    from slmc.systems.spins import pole_kernel

    results = [
        jax.ShapeDtypeStruct(one, jnp.float64) for one in ((), (n_frequencies,), (n_frequencies,), (n_forces, 3))
    ]
    call = jax.ffi.ffi_call(custom_call("poles", pole_kernel.call), results, vmap_method="expand_dims")
    tables = jnp.asarray(elimination(shape, len(electrons.hopping)).tables)
    return call(tables, _numbers(shape, electrons))
