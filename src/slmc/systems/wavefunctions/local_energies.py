"""Amplitudes and local energies of a NetKet state, evaluating the wave function no more often than needed."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Num

_ROWS = 1024
"""Configurations, at most, whose rows of the Hamiltonian are held at once."""


def log_amplitudes(state: Any, spins: Num[Array, "sample site"]) -> Inexact[Array, " sample"]:
    """log ψ, as many at once as the state's ``chunk_size`` says."""
    size = state.chunk_size or len(spins)
    return jnp.concatenate([state.log_value(spins[at : at + size]) for at in range(0, len(spins), size)])


def local_energies(state: Any, hamiltonian: Any, spins: Num[Array, "sample site"]) -> Inexact[Array, " sample"]:
    """E(σ) = Σ_σ' H_σσ' ψ(σ')/ψ(σ).

    NetKet's local estimators evaluate ψ for as many σ' as a row of H can have at most; of an exchange Hamiltonian about
    half of these have no matrix element. Here ψ is evaluated for those that have one, other than σ' = σ.
    """
    size = state.chunk_size or _ROWS
    parts = []
    for at in range(0, len(spins), _ROWS):
        rows = spins[at : at + _ROWS]
        reached, elements = (jnp.asarray(one) for one in hamiltonian.get_conn_padded(rows))
        here = log_amplitudes(state, rows)
        parts.append(_rows_of_energies(state._apply_fun, size, state.variables, rows, reached, elements, here))
    return jnp.concatenate(parts)


@partial(jax.jit, static_argnums=(0, 1))
def _rows_of_energies(
    log_psi: Any, size: int, variables: Any, spins: Any, reached: Any, elements: Any, here: Any
) -> Inexact[Array, " sample"]:
    stays = (reached == spins[:, None]).all(axis=-1)
    moves = (elements != 0) & ~stays
    reached = reached.reshape(-1, reached.shape[-1])
    # Those wanted first, then enough others to fill the last block. Values are kept in this order, for GPUs write
    # complex numbers to scattered places one after the other.
    order = jnp.pad(jnp.argsort(~moves.ravel(), stable=True), (0, size), mode="edge")
    place = jnp.cumsum(moves.ravel()).reshape(moves.shape) - 1

    def block(number: Any, values: Any) -> Any:
        chosen = jax.lax.dynamic_slice(order, (number * size,), (size,))
        return jax.lax.dynamic_update_slice(values, log_psi(variables, reached[chosen]), (number * size,))

    n_blocks = (moves.sum() + size - 1) // size
    there = jax.lax.fori_loop(0, n_blocks, block, jnp.zeros(len(order), here.dtype))[place]
    ratios = jnp.where(moves, jnp.exp(jnp.where(moves, there - here[:, None], 0)), stays)
    return jnp.sum(elements * ratios, axis=-1)
