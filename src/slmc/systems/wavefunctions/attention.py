"""Multi-head attention between patches of a periodic lattice: three kinds, one interface.

Each maps tokens x_i to A_i = W ⊕_μ Σ_j α^μ_ij V^μ x_j, with one matrix of attention weights α^μ for every head μ, which
it also stores (``sow``) under ``WEIGHTS``. They differ in what α may look at:

    dot-product   α_ij = softmax_j( q_i·k_j / √d_h + p_(j−i) ),   q = Q x, k = K x
    decoupled     α_ij = softmax_j( q_i·k_j / √d_h ) + p_(j−i)
    factored      α_ij = p_(j−i)

p is a free number for every displacement on the torus of tokens, one set a head, so that all three are translation
invariant. Factored attention has neither queries nor keys: its weights do not depend on the input. Rende, Viteritti,
Mach. Learn.: Sci. Technol. 6, 010501 (2025), arXiv:2405.18874; factored attention: Rende, Gerace, Laio, Goldt,
Phys. Rev. Res. 6, 023057 (2024). The position term of dot-product attention is that of T5 (arXiv:1910.10683).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from slmc.lattice import Shape, coordinates, n_sites

_FEW_TOKENS = 4
"""Up to here a loop is several times as fast on CPUs as a product of that many tiny matrices."""

Tokens = Float[Array, "batch token feature"]
Weights = Float[Array, "batch head token token"]

WEIGHTS = "attention_weights"
"""Name under which attention modules sow their weights, in the collection ``intermediates``."""

_PRECISION = jax.lax.Precision.HIGHEST
"""Of products of matrices: by default GPUs round float32 factors to ten bits."""


class DotProductAttention(nn.Module):
    """Softmax of query·key plus a relative position term; ``token_shape`` is the torus of tokens."""

    token_shape: Shape
    n_heads: int
    dtype: Any = jnp.float64

    @nn.compact
    def __call__(self, tokens: Tokens) -> Tokens:
        scores = _query_key(tokens, self.n_heads, self.dtype) + _positions(self, nn.initializers.zeros_init())
        return _attend(self, jax.nn.softmax(scores, axis=-1), tokens)


class DecoupledAttention(nn.Module):
    """Softmax of query·key, and the position term added outside of it."""

    token_shape: Shape
    n_heads: int
    dtype: Any = jnp.float64

    @nn.compact
    def __call__(self, tokens: Tokens) -> Tokens:
        content = jax.nn.softmax(_query_key(tokens, self.n_heads, self.dtype), axis=-1)
        return _attend(self, content + _positions(self, nn.initializers.xavier_uniform()), tokens)


class FactoredAttention(nn.Module):
    """The position term alone: no queries, no keys, no softmax."""

    token_shape: Shape
    n_heads: int
    dtype: Any = jnp.float64

    @nn.compact
    def __call__(self, tokens: Tokens) -> Tokens:
        return _attend(self, _positions(self, nn.initializers.xavier_uniform()), tokens)


ATTENTIONS: dict[str, type[nn.Module]] = {
    "dot-product": DotProductAttention,
    "decoupled": DecoupledAttention,
    "factored": FactoredAttention,
}


def dense(n_features: int, name: str | None = None, dtype: Any = jnp.float64) -> nn.Dense:
    """An affine map computed in ``dtype``, its parameters in float64, Glorot-uniform."""
    return nn.Dense(
        n_features,
        dtype=dtype,
        param_dtype=jnp.float64,
        precision=_PRECISION,
        kernel_init=nn.initializers.xavier_uniform(),
        name=name,
    )


@functools.lru_cache(maxsize=64)
def displacement_numbers(shape: Shape) -> np.ndarray:
    """``[i, j]``: the displacement from site i to site j on the torus, as the number of the site it reaches from 0."""
    places = coordinates(shape)
    difference = (places[None, :, :] - places[:, None, :]) % np.array(shape)
    return np.ravel_multi_index(tuple(np.moveaxis(difference, -1, 0)), shape)


def _query_key(tokens: Tokens, n_heads: int, dtype: Any) -> Weights:
    queries, keys = (_by_head(dense(tokens.shape[-1], name, dtype)(tokens), n_heads) for name in ("query", "key"))
    scores = jnp.einsum("bihf,bjhf->bhij", queries, keys, precision=_PRECISION)
    return scores / math.sqrt(queries.shape[-1])


def _positions(module: Any, init: Any) -> Float[Array, "1 head token token"]:
    parameters = module.param("position", init, (module.n_heads, n_sites(module.token_shape)), jnp.float64)
    return parameters.astype(module.dtype)[None, :, displacement_numbers(module.token_shape)]


def _attend(module: Any, weights: Float[Array, "some head token token"], tokens: Tokens) -> Tokens:
    """Values mixed by weights, which may be the same for the whole batch, and the heads brought together."""
    module.sow("intermediates", WEIGHTS, jnp.broadcast_to(weights, (len(tokens), *weights.shape[1:])))
    n_features, n_heads = tokens.shape[-1], weights.shape[1]
    values = _by_head(dense(n_features, "value", module.dtype)(tokens), n_heads)
    if len(weights) == 1:
        mixed = jnp.einsum("hij,bjhf->bihf", weights[0], values, precision=_PRECISION)
    else:
        mixed = _mixed(weights, values)
    return dense(n_features, "output", module.dtype)(mixed.reshape(tokens.shape))


def _mixed(weights: Weights, values: Float[Array, "batch token head part"]) -> Float[Array, "batch token head part"]:
    """Σ_j α_ij v_j for every head and configuration."""
    n_tokens = values.shape[1]
    if n_tokens > _FEW_TOKENS:
        return jnp.einsum("bhij,bjhf->bihf", weights, values, precision=_PRECISION)
    by_token = weights.transpose(0, 3, 2, 1)
    return functools.reduce(jnp.add, (by_token[:, j, :, :, None] * values[:, j, None] for j in range(n_tokens)))


def _by_head(features: Tokens, n_heads: int) -> Float[Array, "batch token head part"]:
    return features.reshape(*features.shape[:-1], n_heads, -1)
