"""The equivariant Transformer of self-learning Monte Carlo.

Nagai, Tomiya, J. Phys. Soc. Jpn. 93, 114007 (2024), arXiv:2306.11527; Tomiya, Nagai, arXiv:2310.13222.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.lattice import Shape, check_shape, n_sites, resolve_n_shells
from slmc.montecarlo.manifolds import occupied
from slmc.montecarlo.target import LogWeight, Target
from slmc.numbers import count, not_negative, positive_count
from slmc.systems.spins.heisenberg import Heisenberg, carry_over, filter_matrix
from slmc.systems.spins.observables import Spins

Attention = Literal["dot-product", "factored"]


class AttentionLayer(eqx.Module):
    """S → 𝒩(S + Σ_heads M S^V), 𝒩 normalising each site's vector.

    ``filters`` are the weights by shell (0, the site itself, first) of Q, K, V, per head. With
    ``attention="dot-product"`` M_ij = ReLU((1/√3) S^Q_i·S^K_j), S^α = W̄^α S; with ``"factored"``
    M_ij depends on the position alone, through ``scores`` by shell, and Q and K do not exist. No softmax in
    either case. All weights zero: the identity. Sites without a spin (zero vectors) stay without one.
    """

    filters: Float[Array, "role head shell"]
    scores: Float[Array, "head shell"] | None

    def __call__(self, shape: Shape, spins: Float[Array, "site 3"]) -> Float[Array, "site 3"]:
        matrices = filter_matrix(shape, self.filters, on_site=True)
        filtered = jnp.einsum("ahij,jc->ahic", matrices, spins)
        if self.scores is None:
            queries, keys, values = filtered
            attention = jax.nn.relu(jnp.einsum("hic,hjc->hij", queries, keys) / jnp.sqrt(3.0))
        else:
            (values,) = filtered
            attention = filter_matrix(shape, self.scores, on_site=True)
        moved = spins + jnp.einsum("hij,hjc->ic", attention, values)
        is_spin = occupied(spins)
        # The square root must not see a zero, not even where its value is dropped: its derivative would be NaN.
        squared = jnp.where(is_spin, jnp.sum(moved**2, axis=-1, keepdims=True), 1.0)
        return jnp.where(is_spin, moved / jnp.sqrt(squared), 0.0)


class EquivariantTransformer(Target):
    """H_eff = −Σ_n J_n Σ_⟨ij⟩_n S^(L)_i·S^(L)_j + E_0 of effective spins S^(L) made by attention layers.

    ``n_shells`` neighbour shells enter queries, keys and values beside the site itself, ``head_shells`` the
    Heisenberg model ``head`` of the effective spins (``None``: all shells of the torus). A layer of dot-product
    attention has 3 · n_heads · (n_shells + 1) parameters, of factored attention 2 · n_heads · (n_shells + 1); the
    head has head_shells + 1. log W_eff = −H_eff / temperature. Effective spins turn with the spins and move with
    the lattice; log W_eff is invariant. Zero attention weights: the linear model.

    ``key`` draws the initial weights, of standard deviation ``initial_scale`` / √N: all zero weights have no
    gradient, and M S^V is a sum over all N sites, so that large ones wreck a fit. Raises ``ValueError`` for
    numbers of shells, layers or heads that are not allowed.
    """

    shape: Shape = eqx.field(static=True)
    layers: tuple[AttentionLayer, ...]
    head: Heisenberg

    def __init__(
        self,
        shape: Shape = (6, 6),
        n_layers: int = 2,
        n_heads: int = 1,
        n_shells: int | None = None,
        head_shells: int | None = None,
        attention: Attention = "dot-product",
        temperature: float = 1.0,
        initial_scale: float = 0.1,
        *,
        key: Key[Array, ""],
    ) -> None:
        self.shape = check_shape(shape)
        n_layers, n_heads = count(n_layers, "n_layers"), positive_count(n_heads, "n_heads")
        not_negative(initial_scale, "initial_scale")
        if attention not in ("dot-product", "factored"):
            raise ValueError(f"attention must be 'dot-product' or 'factored'; got {attention!r}.")
        n_weights = resolve_n_shells(self.shape, n_shells) + 1
        roles = 3 if attention == "dot-product" else 1
        scale = initial_scale / n_sites(self.shape) ** 0.5

        def layer(key: Key[Array, ""]) -> AttentionLayer:
            key_filters, key_scores = jax.random.split(key)
            filters = scale * jax.random.normal(key_filters, (roles, n_heads, n_weights), jnp.float64)
            scores = scale * jax.random.normal(key_scores, (n_heads, n_weights), jnp.float64)
            return AttentionLayer(filters, scores if attention == "factored" else None)

        self.layers = tuple(layer(subkey) for subkey in jax.random.split(key, n_layers))
        resolve_n_shells(self.shape, head_shells, "head_shells")
        self.head = Heisenberg(self.shape, head_shells, temperature=temperature)

    @property
    def temperature(self) -> float:
        return self.head.temperature

    def effective_spins(self, spins: Spins) -> Spins:
        """S^(L), unit vectors of the shape of ``spins``."""
        flat = spins.reshape(-1, 3)
        for layer in self.layers:
            flat = layer(self.shape, flat)
        return flat.reshape(spins.shape)

    def log_weight(self, spins: Spins) -> LogWeight:
        """−H_eff / T of a configuration."""
        return self.head.log_weight(self.effective_spins(spins))

    def on_lattice(self, shape: Shape, temperature: float | None = None) -> "EquivariantTransformer":
        """The same weights by distance on another lattice (and at another temperature); unknown shells get zero."""
        moved = EquivariantTransformer(shape, 0, key=jax.random.key(0))

        def carried(layer: AttentionLayer) -> AttentionLayer:
            scores = None if layer.scores is None else carry_over(layer.scores, self.shape, shape, on_site=True)
            return AttentionLayer(carry_over(layer.filters, self.shape, shape, on_site=True), scores)

        parts = (tuple(carried(layer) for layer in self.layers), self.head.on_lattice(shape, temperature))
        return eqx.tree_at(lambda model: (model.layers, model.head), moved, parts)
