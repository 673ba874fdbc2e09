"""The Vision-Transformer wave function of spins 1/2 on a periodic lattice.

Viteritti, Rende, Becca, Phys. Rev. Lett. 130, 236401 (2023), arXiv:2211.05504; Viteritti, Rende, Parola, Goldt, Becca,
arXiv:2311.16889.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Complex, Float, Num

from slmc.lattice import Shape, n_sites
from slmc.systems.wavefunctions.attention import ATTENTIONS, Tokens, dense

Spins = Num[Array | np.ndarray, "*batch site"]
"""Spins ±1 (twice S^z), sites in row-major order; what NetKet's ``Spin`` space holds."""

LogAmplitude = Complex[Array, "*batch"]
"""log ψ, real part the modulus, imaginary part the phase."""


class VisionTransformer(nn.Module):
    """log ψ(σ) = Σ_a log cosh( u_a(z) + i v_a(z) ),  z = Σ_i y_i.

    The lattice is cut in patches of ``patch`` sites in each direction. Each patch is a token: its spins, mapped to
    ``n_features`` numbers. ``n_layers`` encoder blocks x → x + attention(norm x) → x + MLP(norm x), of hidden width
    4 n_features with GELU, turn tokens into y_i; their sum z goes through two normalised affine maps u and v, real
    and imaginary part of the argument of a complex log cosh. All parameters are real.

    ψ is invariant under translations by whole patches, and under no other symmetry; ``SymmetryProjection`` brings
    the rest. No sign structure is built in. u and v are normalised to ``initial_scale`` before the first step: where
    it is small, log ψ ≈ Σ (u_a + i v_a)² / 2 is nearly the same for all configurations.

    ``single_precision`` computes embedding and encoder in float32, parameters and head in float64: half the memory to
    move, which is what limits GPUs; log ψ is then off by about 1e-5.

    Raises ``ValueError`` when first evaluated if patches don't tile the lattice, heads don't divide the features, or
    the kind of attention is not known.
    """

    shape: Shape
    n_layers: int = 2
    n_features: int = 32
    n_heads: int = 4
    attention: str = "factored"
    patch: int = 2
    initial_scale: float = 1.0
    single_precision: bool = False

    @nn.compact
    def __call__(self, spins: Spins) -> LogAmplitude:
        self._check()
        dtype = jnp.float32 if self.single_precision else jnp.float64
        tokens = dense(self.n_features, "embedding", dtype)(patches(spins, self.shape, self.patch))
        torus = token_shape(self.shape, self.patch)
        for number in range(self.n_layers):
            tokens = EncoderBlock(torus, self.n_heads, self.attention, dtype, name=f"block{number}")(tokens)
        return LogCoshHead(self.n_features, self.initial_scale, name="head")(tokens).reshape(spins.shape[:-1])

    def _check(self) -> None:
        if any(extent % self.patch for extent in self.shape):
            raise ValueError(f"patches of {self.patch} sites a side do not tile the lattice {self.shape}.")
        if self.n_features % self.n_heads:
            raise ValueError(f"n_features must be a multiple of n_heads; got {self.n_features} and {self.n_heads}.")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}; got {self.attention!r}.")


class EncoderBlock(nn.Module):
    """Attention, then a perceptron on each token, each after a layer norm and added to what was there."""

    token_shape: Shape
    n_heads: int
    attention: str
    dtype: Any = jnp.float64

    @nn.compact
    def __call__(self, tokens: Tokens) -> Tokens:
        n_features = tokens.shape[-1]
        attend = ATTENTIONS[self.attention](self.token_shape, self.n_heads, self.dtype, name="attention")
        tokens = tokens + attend(_norm("norm1", dtype=self.dtype)(tokens))
        hidden = nn.gelu(dense(4 * n_features, "hidden", self.dtype)(_norm("norm2", dtype=self.dtype)(tokens)))
        return tokens + dense(n_features, "perceptron", self.dtype)(hidden)


class LogCoshHead(nn.Module):
    """The sum of all tokens to one complex number."""

    n_features: int
    scale: float

    @nn.compact
    def __call__(self, tokens: Tokens) -> Complex[Array, " batch"]:
        hidden = _norm("norm")(tokens.astype(jnp.float64).sum(axis=1))
        real = _norm("norm_real", self.scale)(dense(self.n_features, "real")(hidden))
        imaginary = _norm("norm_imaginary", self.scale)(dense(self.n_features, "imaginary")(hidden))
        return sum_log_cosh(jax.lax.complex(real, imaginary))


def sum_log_cosh(z: Complex[Array, "batch feature"]) -> Complex[Array, " batch"]:
    """Σ_a log cosh z_a for complex z, up to 1,000 of them, without overflow; modulo 2πi.

    As Σ_a (±z_a − log 2) + log Π_a (1 + exp(∓2 z_a)), signs such that no factor is larger than 2: one complex logarithm
    instead of one for every a. Its only poles are where a cosh z_a = 0, z_a = i (n + ½) π.
    """
    z = jnp.where(z.real < 0, -z, z)
    factors = 1.0 + jnp.exp(-2.0 * z)
    return z.sum(axis=-1) - z.shape[-1] * math.log(2.0) + jnp.log(_product(factors))


def _product(factors: Complex[Array, "batch feature"]) -> Complex[Array, " batch"]:
    """Over the last axis, by halves: the derivative of ``jnp.prod`` costs much more."""
    while (n := factors.shape[-1]) > 1:
        half = n // 2
        pairs = factors[..., :half] * factors[..., half : 2 * half]
        factors = jnp.concatenate([pairs, factors[..., 2 * half :]], axis=-1) if n % 2 else pairs
    return factors[..., 0]


def token_shape(shape: Shape, patch: int) -> Shape:
    """The torus of patches."""
    return tuple(extent // patch for extent in shape)


def patches(spins: Spins, shape: Shape, patch: int) -> Float[Array, "batch token spin"]:
    """Spins of each patch, patches in row-major order, batch dimensions made one."""
    tokens = token_shape(shape, patch)
    split = [size for extent in tokens for size in (extent, patch)]
    cut = jnp.asarray(spins, jnp.float64).reshape(-1, *split)
    outer, inner = range(1, 2 * len(shape), 2), range(2, 2 * len(shape) + 1, 2)
    return cut.transpose(0, *outer, *inner).reshape(len(cut), n_sites(tokens), -1)


def _norm(name: str, scale: float = 1.0, dtype: Any = jnp.float64) -> Any:
    initial = nn.initializers.constant(scale)
    return nn.LayerNorm(dtype=dtype, param_dtype=jnp.float64, use_fast_variance=False, scale_init=initial, name=name)
