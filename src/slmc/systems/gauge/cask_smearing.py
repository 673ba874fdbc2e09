"""CASK: gauge-covariant attention as a smearing of links."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.montecarlo.special_unitary import Matrices, as_matrices, dagger, multiply
from slmc.systems.gauge.links import LinkMatrices, Links, shifted
from slmc.systems.gauge.smearing import (
    Smearing,
    algebra,
    check_layers,
    check_loops,
    staple_sum,
    stout_step,
    turned,
)

SCORES = ("links", "upper links", "positions")
"""What the scores of attention may be functions of."""

OUTPUT, QUERY, KEY, VALUE = range(4)
"""The lines of a layer's weights."""


class CaskSmearing(Smearing):
    """Layers of attention between a link and its staples: Nagai, Ohno, Tomiya, PoS LATTICE2024 030, arXiv:2501.16955.

    With U^Q, U^K, U^V one step of stout smearing of U each, and C^ν_μ(x) the six staples (in four dimensions) that run
    along U_μ(x), above and below,

        a^ν_μ(x) = f(Re tr U^Q_μ C^ν_μ[U^K]† − Re tr U_μ C^ν_μ[U]†),   f(a) = tan(πa/4(N + 0.01)),
        U^A = exp(P[Σ_ν a^ν C^ν[U^V] U†]) U,   U′ = exp(P[Σ_loops ρ C[U^A] U†]) U,

    P the antihermitian traceless part. ``weights`` has for each layer four lines, ρ, ρ_Q, ρ_K, ρ_V, with a column for
    each of ``loops`` (any of ``smearing.LOOPS``). ρ_Q = ρ_K = 0 makes all scores zero, and the layer that of
    ``StoutSmearing`` to the bit. Gauge covariant, and equivariant under all rotations and reflections of the lattice.

    ``scores`` = "upper links" is the form of the authors' public code (Gaugefields.jl), for comparison: the score of
    the staple above is also that of the one below, and U^V, U^A stand for the last U†; it is not equivariant under
    reflections. "positions" has no queries and keys: ρ_Q of each loop is its score, the same everywhere, and ρ_K is
    not used.

    Raises ``ValueError`` for a loop or scores that do not exist and for fewer than one layer.
    """

    loops: tuple[str, ...] = eqx.field(static=True)
    scores: str = eqx.field(static=True)
    weights: Float[Array, "layer line loop"]

    def __init__(
        self,
        n_layers: int = 2,
        loops: Sequence[str] = ("plaquette",),
        weights: float | Array | Sequence = 0.0,
        scores: str = "links",
    ) -> None:
        self.loops = check_loops(loops)
        check_layers(n_layers)
        if scores not in SCORES:
            raise ValueError(f"scores must be one of {', '.join(SCORES)}; got {scores!r}.")
        self.scores = scores
        self.weights = jnp.broadcast_to(jnp.asarray(weights, jnp.float64), (n_layers, 4, len(self.loops)))

    def smeared(self, links: Links) -> Links:
        """The links after all layers."""
        for layer in range(len(self.weights)):
            links = self._layer(links, self.weights[layer])
        return links

    def _layer(self, links: Links, weights: Float[Array, "line loop"]) -> Links:
        value = stout_step(links, self.loops, weights[VALUE])
        if self.scores == "positions":
            attended = turned(algebra(staple_sum(value, self.loops, weights[QUERY]), links), links)
        else:
            query, key = (stout_step(links, self.loops, weights[line]) for line in (QUERY, KEY))
            by = value if self.scores == "upper links" else links
            attended = turned(algebra(self._attended_staples(links, query, key, value), by), links)
        by = attended if self.scores == "upper links" else links
        return turned(algebra(staple_sum(attended, self.loops, weights[OUTPUT]), by), links)

    def _attended_staples(self, links: Links, query: Links, key: Links, value: Links) -> LinkMatrices:
        """Σ_ν a^ν C^ν[U^V] of every link."""
        u, u_query, u_key, u_value = (as_matrices(field) for field in (links, query, key, value))
        dimension, sums = len(links), []
        for mu in range(dimension):
            total = jnp.zeros_like(u[:, :, mu])
            for nu in range(dimension):
                if nu == mu:
                    continue
                plain, of_key, of_value = (two_staples(matrices, mu, nu) for matrices in (u, u_key, u_value))
                scores = [
                    _score(u[:, :, mu], u_query[:, :, mu], *staples) for staples in zip(plain, of_key, strict=True)
                ]
                if self.scores == "upper links":
                    scores = [scores[0], scores[0]]
                for score, staple in zip(scores, of_value, strict=True):
                    total = total + score.astype(total.dtype)[None, None] * staple
            sums.append(total)
        return jnp.stack(sums, axis=2)


def _score(link: Matrices, query: Matrices, plain: Matrices, key: Matrices) -> Float[Array, "*lattice"]:
    """a of one staple of every link."""
    difference = _overlap(query, key) - _overlap(link, plain)
    return jnp.tan(jnp.pi / 4 / (len(link) + 0.01) * difference)


def _overlap(first: Matrices, second: Matrices) -> Float[Array, "*lattice"]:
    """Re tr A B†."""
    return jnp.sum(first.real * second.real + first.imag * second.imag, axis=(0, 1))


def two_staples(u: LinkMatrices, direction: int, other: int) -> tuple[Matrices, Matrices]:
    """The staples that run along U_μ(x) from x to x + μ, on the side of x + ν and on that of x − ν."""
    dimension = u.shape[2]
    here, side = u[:, :, direction], u[:, :, other]
    far_side = shifted(side, direction, 1, dimension)
    above = multiply(multiply(side, shifted(here, other, 1, dimension)), dagger(far_side))
    below = multiply(multiply(dagger(side), here), far_side)
    return above, shifted(below, other, -1, dimension)
