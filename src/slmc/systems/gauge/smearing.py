"""Trainable smearing of links, and stout smearing."""

import abc
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.montecarlo.special_unitary import (
    antihermitian,
    as_matrices,
    as_points,
    dagger,
    exponential_of_small,
    multiply,
    trace,
)
from slmc.numbers import finite, positive_count
from slmc.systems.gauge.links import LinkMatrices, Links, planes, polyakov_lines, rectangle

LOOPS = ("plaquette", "rectangle", "spatial Polyakov", "temporal Polyakov")


class Smearing(eqx.Module):
    """A gauge-covariant, differentiable map of a gauge field to a smoother one, with trainable numbers.

    To write your own: ``smeared`` must commute with gauge transformations and with the symmetries of the lattice that
    the fermions have, or the guide has a preferred direction and learns less. ``weights`` are the numbers to train.
    """

    weights: eqx.AbstractVar[Array]

    @abc.abstractmethod
    def smeared(self, links: Links) -> Links:
        """The links after smearing."""


class StoutSmearing(Smearing):
    """Layers of stout smearing with trainable weights of several loops: Morningstar, Peardon, PRD 69, 054501 (2004).

        U'_μ(x) = exp(Q_μ(x)) U_μ(x),   Q = Σ_loops ρ_loop · antihermitian traceless part of ∂ Σ Re tr(loop)/∂U U†

    The derivative of a sum of loops is the sum of their staples, so that with plaquettes alone this is the published
    smearing, eqs. (1)–(3). Polyakov lines in spatial and temporal directions are the other loops of SLHMC, Nagai,
    Tomiya, arXiv:2103.11965. All ρ zero leaves the field as it is. ``weights`` has a line for each layer and a column
    for each of ``loops`` (any of ``LOOPS``). Gauge covariant; the derivative is exact. Weights so large that |Q| > 8
    make SU(3) links NaN: smearing is not meant to turn links around several times.

    Raises ``ValueError`` for a loop that is not in ``LOOPS`` and for fewer than one layer.
    """

    loops: tuple[str, ...] = eqx.field(static=True)
    weights: Float[Array, "layer loop"]

    def __init__(
        self, n_layers: int = 2, loops: Sequence[str] = ("plaquette",), weights: float | Array | Sequence = 0.0
    ) -> None:
        self.loops = check_loops(loops)
        n_layers = positive_count(n_layers, "n_layers")
        self.weights = jnp.broadcast_to(
            jnp.asarray(finite(weights, "weights"), jnp.float64), (n_layers, len(self.loops))
        )

    def smeared(self, links: Links) -> Links:
        """The links after all layers."""
        for layer in range(len(self.weights)):
            links = stout_step(links, self.loops, self.weights[layer])
        return links


def check_loops(loops: Sequence[str]) -> tuple[str, ...]:
    """Raises ``ValueError`` unless all are in ``LOOPS``."""
    unknown = [loop for loop in loops if loop not in LOOPS]
    if unknown or not loops:
        raise ValueError(f"loops must be some of {', '.join(LOOPS)}; got {', '.join(unknown) or 'none'}.")
    return tuple(loops)


def check_layers(n_layers: int) -> None:
    """Raises ``ValueError`` for fewer than one layer."""
    if n_layers < 1:
        raise ValueError(f"smearing needs at least one layer; got {n_layers}.")


def stout_algebra(links: Links, loops: tuple[str, ...], weights: Float[Array, " loop"]) -> LinkMatrices:
    """Q of one layer: the tangent of the flow that makes the weighted loops larger."""
    return algebra(staple_sum(links, loops, weights), links)


def staple_sum(links: Links, loops: tuple[str, ...], weights: Float[Array, " loop"]) -> LinkMatrices:
    """Σ_loops weight · C_μ(x), the derivative of the weighted loops by the links: staples that run along the link."""
    return as_matrices(jax.grad(_weighted_loops)(links, loops, weights))


def algebra(staples: LinkMatrices, links: Links) -> LinkMatrices:
    """The antihermitian traceless part of C U†."""
    return antihermitian(multiply(staples, dagger(as_matrices(links))))


def stout_step(links: Links, loops: tuple[str, ...], weights: Float[Array, " loop"]) -> Links:
    """One layer: exp(Q) U."""
    return turned(stout_algebra(links, loops, weights), links)


def turned(algebra: LinkMatrices, links: Links) -> Links:
    """exp(X) U."""
    return as_points(multiply(exponential_of_small(algebra), as_matrices(links)))


def _weighted_loops(links: Links, loops: tuple[str, ...], weights: Float[Array, " loop"]) -> Float[Array, ""]:
    u = as_matrices(links)
    return sum((weights[k] * loop_sum(u, loop) for k, loop in enumerate(loops)), jnp.zeros((), u.real.dtype))


def loop_sum(u: LinkMatrices, loop: str) -> Float[Array, ""]:
    """Σ Re tr of all loops of a kind, each once."""
    dimension = u.shape[2]
    zero = jnp.zeros((), u.real.dtype)
    if loop == "plaquette":
        return sum((jnp.sum(rectangle(u, mu, nu)) for mu, nu in planes(dimension)), zero)
    if loop == "rectangle":
        pairs = [(mu, nu) for pair in planes(dimension) for mu, nu in (pair, pair[::-1])]
        return sum((jnp.sum(rectangle(u, mu, nu, (2, 1))) for mu, nu in pairs), zero)
    directions = range(dimension - 1) if loop == "spatial Polyakov" else [dimension - 1]
    return sum((jnp.sum(trace(polyakov_lines(u, mu)).real) for mu in directions), zero)
