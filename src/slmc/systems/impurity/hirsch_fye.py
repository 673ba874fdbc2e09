"""The impurity on equidistant times, after Hirsch and Fye: configurations of a fixed shape, with a Trotter error."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc import compiled_calls
from slmc.montecarlo import Info, Label, Manifold, MeasuredTarget, Signs, State, Target, Update
from slmc.montecarlo.target import LogWeight
from slmc.numbers import positive, positive_count
from slmc.systems.impurity.anderson import Anderson, Vertices
from slmc.systems.impurity.least_squares import most_likely
from slmc.systems.impurity.poles import Poles
from slmc.systems.impurity.vertices import by_platform

Slices = Float[Array, " slice"]
"""An auxiliary spin ±1 at each of the times 0, Δτ, …, β − Δτ."""


class HirschFye(MeasuredTarget):
    """An impurity with an auxiliary spin at each of L times Δτ = β/L apart.

        e^{−Δτ V} = ½ Σ_s e^{λ s (n_↑ − n_↓)},   cosh λ = e^{Δτ U/2},   V = U (n_↑ n_↓ − (n_↑ + n_↓)/2)
        W(s) = Π_σ det [e^{V_σ} − G (e^{V_σ} − 1)],   e^{V_σ} = diag e^{σ λ s_l},   G_lm = g0(τ_l − τ_m), G_ll = g0(0⁺)

    This is the weight of CT-AUX (``Anderson``, which it is computed by) with n = L vertices at fixed times and the K
    that makes γ = λ, K = βU/(2 (e^{Δτ U/2} − 1)). It is exact for the Trotter product Π_l e^{−Δτ H_0} e^{−Δτ V}, whose
    error is O(Δτ²). What comes with the weight is as for ``Anderson``. Hirsch, Fye, Phys. Rev. Lett. 56, 2521 (1986).
    Raises ``ValueError`` for parameters that are not positive, and where L is not a multiple of 8, the number of times
    at which densities are measured.
    """

    continuous: Anderson

    def __init__(self, poles: Poles, beta: float, interaction: float, n_slices: int) -> None:
        beta, interaction = positive(beta, "beta"), positive(interaction, "interaction")
        if positive_count(n_slices, "n_slices") % 8:
            raise ValueError(f"n_slices must be a multiple of 8; got {n_slices}.")
        expansion = beta * interaction / (2 * math.expm1(beta * interaction / (2 * n_slices)))
        self.continuous = Anderson(poles, beta, interaction, expansion, n_slices)

    @property
    def n_slices(self) -> int:
        """L."""
        return self.continuous.capacity

    def vertices(self, configuration: Slices) -> Vertices:
        """The spins with their times."""
        times = jnp.arange(self.n_slices, dtype=jnp.float64) * (self.continuous.beta / self.n_slices)
        return jnp.stack([times, configuration], axis=-1)

    def log_weight(self, configuration: Slices) -> LogWeight:
        return self.continuous.log_weight(self.vertices(configuration))

    def log_weight_and_observables(self, configuration: Slices) -> tuple[LogWeight, dict[str, Array]]:
        return self.continuous.log_weight_and_observables(self.vertices(configuration))


class FlipSweep(Update):
    """``n_updates`` flips of one spin, each O(L) to decide and O(L²) to make, in one compiled call.

    A sweep begins with a random turn of the spins round the circle of times and, with probability one half, a flip of
    all of them, under which W does not change. Both commute with single flips: detailed balance holds.
    """

    target: HirschFye
    n_updates: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        positive_count(self.n_updates, "n_updates")

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Signs()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        seed, n_updates = jax.random.bits(key, (), jnp.uint64), jnp.asarray(self.n_updates, jnp.int64)
        vertices = self.target.vertices(state.configuration)
        moved, log_weight, observables, accepted = self.target.continuous.updated(vertices, seed, n_updates, True)
        return State(moved[:, 1], log_weight, observables), Info(accepted, log_weight - state.log_weight)


class SliceNetwork(Target):
    """log W_eff = Σ_{l<m} J_{|l−m|} s_l s_m + Σ_l w·tanh(B h_l + b) + c,   h_cl = log cosh Σ_m K_{c,|l−m|} s_m

    A network of two layers, the first a convolution round the circle of L times, with kernels as long as the circle and
    even, the second the same at every time: it is invariant under turns, τ → β − τ and s → −s, as the weight is. A flip
    changes every output of the convolution by one number of a kernel, so that it costs O(L), not O(L²) as the exact
    update nor O(L log L) as a convolution made anew. Networks for Hirsch and Fye's auxiliary spins: Shen, Liu, Fu,
    arXiv:1801.01127. Raises ``ValueError`` for numbers that are not positive.
    """

    pairs: Float[Array, " distance"]
    kernels: Float[Array, "channel distance"]
    mixing: Float[Array, "unit channel"]
    bias: Float[Array, " unit"]
    outer: Float[Array, " unit"]
    constant: Float[Array, ""]

    def __init__(self, n_slices: int, n_channels: int, n_units: int) -> None:
        n_distances = positive_count(n_slices, "n_slices") // 2 + 1
        n_channels, n_units = positive_count(n_channels, "n_channels"), positive_count(n_units, "n_units")
        self.pairs, self.kernels = jnp.zeros(n_distances), jnp.zeros((n_channels, n_distances))
        self.mixing, self.bias = jnp.zeros((n_units, n_channels)), jnp.zeros(n_units)
        self.outer, self.constant = jnp.zeros(n_units), jnp.zeros(())

    def log_weight(self, configuration: Slices) -> LogWeight:
        return slice_log_weight(self, configuration)


def dense_log_weight(model: SliceNetwork, spins: Slices) -> LogWeight:
    """log W_eff in JAX."""
    n_slices = len(spins)
    distance = jnp.abs(jnp.arange(n_slices)[:, None] - jnp.arange(n_slices)[None, :])
    distance = jnp.minimum(distance, n_slices - distance)
    pairs = spins @ (model.pairs[distance] * (1 - jnp.eye(n_slices))) @ spins / 2
    seen = model.kernels[:, distance] @ spins
    size = jnp.abs(seen)
    hidden = size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)
    units = model.outer @ jnp.tanh(model.mixing @ hidden + model.bias[:, None])
    return pairs + jnp.sum(units) + model.constant


def compiled_log_weight(model: SliceNetwork, spins: Slices) -> LogWeight:
    """``log_weight`` on a CPU."""
    return _slices_called(model, spins, jnp.zeros((), jnp.uint64), jnp.zeros((), jnp.int64))[2]


slice_log_weight = by_platform(compiled_log_weight, dense_log_weight)
"""log W_eff of parameters and spins."""


def _slices_called(
    model: SliceNetwork, spins: Slices, seed: Array, n_updates: Array
) -> tuple[Slices, Float[Array, ""], LogWeight]:
    from slmc.systems.impurity.slice_kernel import slices_call

    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float64) for shape in (spins.shape, (), ()))
    name = compiled_calls.custom_call("impurity_slices", slices_call)
    call = jax.ffi.ffi_call(name, results, vmap_method="expand_dims")
    weights = model.pairs, model.kernels, model.mixing, model.bias, model.outer
    moved, accepted, value = call(*weights, spins, seed, n_updates)
    return moved, accepted, value + model.constant


class SliceNetworkSweep(Update):
    """``n_updates`` flips of one spin of the network model, each O(L), in one compiled call.

    It begins with a random turn and, with probability one half, a flip of all spins, as ``FlipSweep`` does.
    """

    target: SliceNetwork
    n_updates: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        positive_count(self.n_updates, "n_updates")

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Signs()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        spins, accepted, log_weight = self._moved(key, state, 1)
        return State(spins, log_weight, {}), Info(accepted, log_weight - state.log_weight)

    def chain(self, key: Key[Array, ""], state: State, n_steps: int) -> State:
        """The state after many sweeps, one compiled call."""
        spins, _, log_weight = self._moved(key, state, n_steps)
        return State(spins, log_weight, {})

    def _moved(self, key: Key[Array, ""], state: State, n_sweeps: int) -> tuple[Slices, Array, LogWeight]:
        seed, n_updates = jax.random.bits(key, (), jnp.uint64), jnp.asarray(n_sweeps * self.n_updates, jnp.int64)
        return _slices_called(self.target, state.configuration, seed, n_updates)


def fit_slices(model: SliceNetwork, labels: Label, seed: int = 0) -> SliceNetwork:
    """The network with the least mean squared residual of log-weights, given that its weights are moderate.

    By Levenberg and Marquardt from random weights, with a Gaussian prior: of unit width for mixing, biases and outer
    weights, of 1/√L for kernels, and wide for pairs.
    """
    rng, spins = np.random.default_rng(seed), np.asarray(labels.configuration)
    n_slices, wanted = spins.shape[-1], np.asarray(labels.log_weight)
    start = eqx.tree_at(
        _free,
        model,
        (
            jnp.zeros_like(model.pairs),
            jnp.asarray(wanted.mean()),
            jnp.asarray(rng.normal(size=model.kernels.shape) / math.sqrt(n_slices)),
            jnp.asarray(rng.normal(size=model.mixing.shape)),
            jnp.asarray(rng.normal(size=model.bias.shape)),
            jnp.asarray(0.1 * rng.normal(size=model.outer.shape)),
        ),
    )
    flat, restore = jax.flatten_util.ravel_pytree(_free(start))

    def predicted(parameters: Array, spins: Array) -> Array:
        return dense_log_weight(eqx.tree_at(_free, model, restore(parameters)), spins)

    n_pairs = model.pairs.size + 1
    prior = np.ones(flat.size)
    prior[:n_pairs], prior[n_pairs : n_pairs + model.kernels.size] = 1e-6, n_slices
    found = most_likely(predicted, np.asarray(flat), jnp.asarray(spins), wanted, prior)
    return eqx.tree_at(_free, model, restore(jnp.asarray(found)))


def _free(model: SliceNetwork) -> Any:
    return model.pairs, model.constant, model.kernels, model.mixing, model.bias, model.outer
