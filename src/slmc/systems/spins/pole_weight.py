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
from slmc.systems.spins.poles import LONGEST_SPIN, pole_table


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
    log_w, _, force = _called(shape, electrons, 0, n_sites(shape))
    return log_w, force


def log_weight_and_observables(shape: Shape, electrons: Electrons) -> tuple[LogWeight, dict[str, Array]]:
    """log W, to the bit that of ``log_weight``, and the sums over levels of ``DoubleExchange``."""
    log_w, sums, _ = _called(shape, electrons, 3, 0)
    density, grand_energy, variance = sums
    return log_w, {
        "energy": (grand_energy + electrons.chemical_potential * density) / n_sites(shape),
        "density": density / n_sites(shape),
        "grand_energy": grand_energy,
        "energy_variance": variance,
    }


@functools.lru_cache(maxsize=64)
def _coordination(shape: Shape, n_shells: int) -> np.ndarray:
    """Neighbours in each shell."""
    _, shell, multiplicity = neighbours(shape, n_shells)
    return np.bincount(shell - 1, multiplicity, n_shells)


def _called(shape: Shape, electrons: Electrons, n_observables: int, n_forces: int) -> Sequence[Array]:
    """The compiled loops with room for observables and forces, or none.

    All arithmetic is theirs: XLA rounds the same product differently in different programs.
    """
    from slmc.systems.spins import pole_kernel

    _, shell, multiplicity = neighbours(shape, len(electrons.hopping))
    hops = -electrons.hopping[shell - 1] * jnp.asarray(multiplicity, jnp.float64)
    scalars = jnp.stack([electrons.temperature, electrons.chemical_potential, electrons.half_coupling])
    numbers = jnp.concatenate([scalars, hops, electrons.fields.ravel()])
    results = [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in ((), (n_observables,), (n_forces, 3))]
    call = jax.ffi.ffi_call(custom_call("poles", pole_kernel.call), results, vmap_method="expand_dims")
    tables = jnp.asarray(elimination(shape, len(electrons.hopping)).tables)
    return call(tables, jnp.asarray(pole_table().packed()), numbers)
