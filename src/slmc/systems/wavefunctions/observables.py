"""What is read off a wave function beside its energy: V-score, attention maps, their dependence on the input."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from slmc.lattice import Shape, n_sites
from slmc.systems.wavefunctions.attention import WEIGHTS, displacement_numbers

AttentionWeights = Float[Array, "layer sample head token token"]


def v_score(energy: float, variance: float, n_sites: int) -> float:
    """N Var(H) / E², for traceless H: zero for an eigenstate, and comparable between models.

    ``energy`` and ``variance`` are those of the whole lattice. Wu et al., Science 386, 296 (2024), arXiv:2302.04919.
    """
    return n_sites * variance / energy**2


def attention_weights(model: Any, variables: Any, spins: Num[Array, "sample site"]) -> AttentionWeights | None:
    """Attention weights α^μ_ij of every layer for every configuration; ``None`` for a model without attention.

    For a projected wave function, those of the configurations as they are, not of their images.
    """
    bare, variables = _without_projection(model, variables)
    by_layer = _collect(_sown(bare, variables, spins))
    return jnp.stack(by_layer) if by_layer else None


def input_dependence(weights: AttentionWeights) -> Float[Array, "layer head"]:
    """Relative spread of the weights over configurations: √( Σ_ij Var_σ α_ij / Σ_ij ⟨α_ij⟩² ) per layer and head.

    Zero for factored attention, whose weights do not see the configuration σ.
    """
    # From the first sample: the mean of equal numbers is rounded, their differences are zero.
    variance = (weights - weights[:, :1]).var(axis=1)
    return jnp.sqrt(variance.sum(axis=(-1, -2)) / jnp.square(weights.mean(axis=1)).sum(axis=(-1, -2)))


def attention_map(weights: AttentionWeights, token_shape: Shape) -> Float[np.ndarray, "layer head displacement"]:
    """Mean weight by displacement j − i on the torus of tokens, over configurations and tokens i."""
    numbers = displacement_numbers(token_shape)
    mean = np.asarray(weights.mean(axis=1))
    sums = np.zeros((*mean.shape[:2], n_sites(token_shape)))
    for i, reached in enumerate(numbers):
        sums[..., reached] += mean[..., i, :]
    return sums / len(numbers)


@functools.partial(jax.jit, static_argnums=0)
def _sown(model: Any, variables: Any, spins: Any) -> Any:
    _, stored = model.apply(variables, spins, mutable=["intermediates"])
    return stored.get("intermediates", {})


def _without_projection(model: Any, variables: Any) -> tuple[Any, Any]:
    inner = getattr(model, "wave_function", None)
    if inner is None:
        return model, variables
    return inner, {"params": variables["params"]["wave_function"]}


def _collect(stored: Any) -> list[Any]:
    """The sown weights, in the order of the layers."""
    weights: list[Any] = []
    for name in sorted(stored, key=lambda name: (len(name), name)):  # block10 after block9
        part = stored[name]
        if name == WEIGHTS:
            weights.extend(part)
        elif hasattr(part, "items"):
            weights.extend(_collect(part))
    return weights
