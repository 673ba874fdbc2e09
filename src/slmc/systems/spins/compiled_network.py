"""The equivariant network on a CPU, by the compiled loops of ``network_kernel``: tables and lists that they read."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.compiled_calls import custom_call
from slmc.lattice import Shape, displacements, n_sites, rows_ahead
from slmc.montecarlo.target import LogWeight

if TYPE_CHECKING:
    from slmc.systems.spins.network import EquivariantNetwork

_N_LANES = 8


def log_weight(network: "EquivariantNetwork", spins: Float[Array, "site 3"]) -> LogWeight:
    """log W_eff of a configuration."""
    from slmc.systems.spins import network_kernel

    n_hidden, n_channels = len(network.perceptrons[0].bias), len(network.filters)
    tables = tables_of(network.shape, network.reach, (n_channels, n_hidden, len(network.perceptrons)))
    couplings = jnp.concatenate([jnp.zeros(1, jnp.float64), network.linear.couplings])
    filters = jnp.concatenate([network.filters, couplings[None]])
    perceptrons = [leaf for layer in network.perceptrons for leaf in (layer.weights, layer.bias, layer.readout)]
    messages = [leaf for layer in network.messages for leaf in (layer.gates, layer.filters, layer.mixing)]
    call = jax.ffi.ffi_call(
        custom_call("network", network_kernel.call), jax.ShapeDtypeStruct((), jnp.float64), vmap_method="expand_dims"
    )
    lists = _list([filters]), _list(perceptrons), _list(messages or [jnp.zeros(1, jnp.float64)])
    return call(jnp.asarray(tables), *lists, spins) + network.linear.constant


def _list(leaves: Sequence[Array]) -> Float[Array, " number"]:
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


@functools.lru_cache(maxsize=64)
def tables_of(shape: Shape, reach: int | None, sizes: tuple[int, int, int]) -> np.ndarray:
    """A header with the places of four parts, and the parts, as one array of int32.

    The extent along the last axis, rows, blocks of a row, channels, hidden values, layers, classes, room for a row; for
    every displacement along the leading axes where it takes each block; where the members of each class of
    displacements begin; the members, each by the number of its leading displacement, its distance along the last axis
    and by how many displacements around the torus it is reached.
    """
    extent, n_rows = shape[-1], n_sites(shape) // shape[-1]
    n_blocks = -(-extent // _N_LANES)
    room = _N_LANES * -(-(extent + _N_LANES * n_blocks) // _N_LANES)
    half = np.s_[:, : extent // 2 + 1]
    classes = _classes(shape, reach).reshape(n_rows, extent)[half]
    multiplicity = displacements(shape).multiplicity[0].reshape(n_rows, extent)[half]
    n_classes = int(classes.max()) + 1
    members = [np.argwhere(classes == number) for number in range(n_classes)]
    members = [np.column_stack([places, multiplicity[tuple(places.T)]]) for places in members]
    parts = [
        np.array([extent, n_rows, n_blocks, *sizes, n_classes, room]),
        (rows_ahead(shape)[:, :, None] * n_blocks + np.arange(n_blocks)).ravel(),
        np.cumsum([0, *map(len, members)]),
        np.concatenate(members).ravel(),
    ]
    header = len(parts) + 1 + np.cumsum([0, *map(len, parts)])
    return np.concatenate([header, *parts]).astype(np.int32)


def _classes(shape: Shape, reach: int | None) -> np.ndarray:
    """The filter's number for the displacement of each site from the first; −1 beyond reach."""
    torus = displacements(shape)
    within = np.full(len(torus.vectors), True) if reach is None else torus.vectors.max(-1) <= reach
    return np.where(within, np.cumsum(within) - 1, -1)[torus.number[0]]
