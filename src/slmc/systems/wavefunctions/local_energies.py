"""Amplitudes and local energies of a NetKet state, evaluating the wave function no more often than needed."""

import functools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import netket as nk
from jaxtyping import Array, Float, Inexact, Int, Num

from slmc.systems.wavefunctions.symmetry import SymmetryProjection

_ROWS = 1024
"""Configurations, at most, whose rows of the Hamiltonian are held at once."""

_FEW_SITES = 20
"""Sites, at most, of a space whose states are sorted into orbits."""


def log_amplitudes(state: Any, spins: Num[Array, "sample site"]) -> Inexact[Array, " sample"]:
    """log ψ, as many at once as the state's ``chunk_size`` says.

    Where a small space has no more orbits of the symmetries of ψ (``SymmetryProjection``, all characters +1) than there
    are configurations, ψ is evaluated for one of each orbit.
    """
    table = _table(state, len(spins))
    return _evaluated(state, spins) if table is None else _looked_up(table, spins)


def _evaluated(state: Any, spins: Num[Array, "sample site"]) -> Inexact[Array, " sample"]:
    size = state.chunk_size or len(spins)
    return jnp.concatenate([state.log_value(spins[at : at + size]) for at in range(0, len(spins), size)])


def local_energies(state: Any, hamiltonian: Any, spins: Num[Array, "sample site"]) -> Inexact[Array, " sample"]:
    """E(σ) = Σ_σ' H_σσ' ψ(σ')/ψ(σ).

    NetKet's local estimators evaluate ψ for as many σ' as a row of H can have at most; of an exchange Hamiltonian about
    half of these have no matrix element. Here ψ is evaluated for those that have one, other than σ' = σ, and where
    there are few orbits of symmetries for one of each (see ``log_amplitudes``).
    """
    size, table = state.chunk_size or _ROWS, _table(state, len(spins))
    parts = []
    for at in range(0, len(spins), _ROWS):
        rows = spins[at : at + _ROWS]
        reached, elements = map(jnp.asarray, hamiltonian.get_conn_padded(rows))
        if table is not None:
            parts.append(_looked_up_energies(table, rows, reached, elements))
            continue
        here = _evaluated(state, rows)
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
    return _weighted(elements, jnp.where(moves, there - here[:, None], 0))


def _weighted(elements: Any, log_ratios: Any) -> Inexact[Array, " sample"]:
    """Σ_σ' H_σσ' ψ(σ')/ψ(σ); ratios without a matrix element may be anything."""
    reaches = elements != 0
    return jnp.sum(elements * jnp.where(reaches, jnp.exp(jnp.where(reaches, log_ratios, 0)), 0), axis=-1)


# --------------------------------------------------------------------------------------------------- orbits


class Orbits(NamedTuple):
    """One configuration of each orbit; the codes of all states in ascending order, with the orbit of each."""

    representatives: Array
    codes: Array
    numbers: Array

    def of(self, spins: Num[Array, "*batch site"]) -> Int[Array, "*batch"]:
        """The orbit of each configuration, −1 outside of the space."""
        codes = _codes(spins)
        place = jnp.searchsorted(self.codes, codes)
        return jnp.where(self.codes[place] == codes, self.numbers[place], -1)


class _Table(NamedTuple):
    """log ψ of each orbit."""

    orbits: Orbits
    values: Inexact[Array, " orbit"]


def few_orbits(state: Any, n_samples: int) -> Orbits | None:
    """The orbits of the symmetries of ψ, if they are known and no more than the samples."""
    model, space = state.model, state.hilbert
    if not (isinstance(model, SymmetryProjection) and isinstance(space, nk.hilbert.Spin)):
        return None
    if space.local_size != 2 or space.size > _FEW_SITES:
        return None
    characters = model.full_group.characters
    if (characters != 1).any() or space.n_states > n_samples * len(characters):
        return None
    orbits = orbits_of(space, model)
    return orbits if len(orbits.representatives) <= n_samples else None


def merged(
    orbits: Orbits,
    spins: Num[Array, "sample site"],
    energies: Inexact[Array, " sample"],
    weights: Float[Array, " sample"],
) -> tuple[Num[Array, "orbit site"], Inexact[Array, " orbit"], Float[Array, " orbit"]]:
    """Samples with those of an orbit made one, of their weight and their mean energy.

    Sums Σ_s w_s f(σ_s) E(σ_s) stay what they are for every f that is the same on all of an orbit. In place of orbits
    without samples, where ψ may vanish, stands a sample, of weight zero.
    """
    numbers, n_orbits = orbits.of(spins), len(orbits.representatives)
    total = jax.ops.segment_sum(weights, numbers, n_orbits)
    energy = jax.ops.segment_sum(weights * energies, numbers, n_orbits) / jnp.where(total > 0, total, 1)
    return jnp.where(total[:, None] > 0, orbits.representatives, spins[:1]), energy, total


@functools.lru_cache(maxsize=16)
def orbits_of(space: Any, model: SymmetryProjection) -> Orbits:
    """All states of a space of spins ±1, sorted. A representative may lie outside of it: images of flipped spins do."""
    states, group = jnp.asarray(space.all_states()), model.full_group
    codes = smallest = _codes(states)
    # Of all images of a configuration the one of the smallest code represents the orbit.
    for permutation, sign in zip(group.permutations, group.signs, strict=True):
        smallest = jnp.minimum(smallest, _codes(states[:, permutation] * int(sign)))
    order = jnp.argsort(codes)
    representatives, numbers = jnp.unique(smallest[order], return_inverse=True)
    up = representatives[:, None] & _bits(states.shape[-1]) != 0
    return Orbits(jnp.where(up, 1, -1).astype(states.dtype), codes[order], numbers)


def _codes(spins: Num[Array, "*batch site"]) -> Int[Array, "*batch"]:
    """A number for each configuration: its spins as bits."""
    return jnp.sum(jnp.where(spins > 0, _bits(spins.shape[-1]), 0), axis=-1)


def _bits(n_sites: int) -> Int[Array, " site"]:
    return 2 ** jnp.arange(n_sites)


def _table(state: Any, n_samples: int) -> _Table | None:
    orbits = few_orbits(state, n_samples)
    return None if orbits is None else _Table(orbits, _evaluated(state, orbits.representatives))


@jax.jit
def _looked_up(table: _Table, spins: Num[Array, "*batch site"]) -> Inexact[Array, "*batch"]:
    numbers = table.orbits.of(spins)
    # Not a number where a Hamiltonian leads out of the space.
    return jnp.where(numbers >= 0, table.values[numbers], jnp.nan)


@jax.jit
def _looked_up_energies(table: _Table, spins: Any, reached: Any, elements: Any) -> Inexact[Array, " sample"]:
    here, there = _looked_up(table, spins), _looked_up(table, reached)
    return _weighted(elements, there - here[:, None])
