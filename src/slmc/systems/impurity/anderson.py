"""The single-impurity Anderson model in continuous time with auxiliary fields (CT-AUX)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from slmc import compiled_calls
from slmc.montecarlo import MeasuredTarget
from slmc.montecarlo.target import LogWeight
from slmc.numbers import finite, positive
from slmc.systems.impurity.moments import n_moments, to_times, transform
from slmc.systems.impurity.poles import Poles
from slmc.systems.impurity.propagator import Propagator, tabulated

Vertices = Float[Array, "vertex 2"]
"""(τ, s) of each vertex: τ in [0, β), s = ±1; empty slots are (0, 0) and come last."""

N_FREQUENCIES = 16
"""Matsubara frequencies, from the lowest, at which what makes the self-energy is measured."""

N_TIMES = 32
"""g(τ) is measured at 0⁺, β/32, 2β/32, …, β⁻."""


class Anderson(MeasuredTarget):
    """An impurity with interaction U in a bath, as a gas of auxiliary spins on the circle of imaginary time.

        H = x (n_↑ + n_↓) + U (n_↑ n_↓ − (n_↑ + n_↓)/2) + bath,   x = ε_d + U/2 − μ
        1 − βV/K = ½ Σ_s e^{γ s (n_↑ − n_↓)},   cosh γ = 1 + βU/2K
        W = (K/2β)ⁿ/n! Π_σ det N_σ⁻¹,   N_σ⁻¹ = e^{V_σ} − G (e^{V_σ} − 1)

    with e^{V_σ} = diag e^{σ γ s_i}, G_ij = g0(τ_i − τ_j), G_ii = g0(0⁺), g0 the propagator of the impurity without U.
    Gull, Werner, Parcollet, Troyer, EPL 82, 57003 (2008). The weight is a density in the times of n labelled vertices;
    it is positive. log W of a configuration costs O(n³); derivatives are by the times alone, for spins have none.

    With the exact weight come ``numbers``: n, Σ s, and n_↑, n_↓, n_↑ n_↓ at equidistant times; ``moments`` of T(τ), see
    ``slmc.systems.impurity.moments``; ``green``, g_σ(τ) at equidistant times; and ``frequencies``, G0, T and G0 T at
    Matsubara frequencies. ``capacity`` is the number of slots for vertices. Raises ``ValueError`` for parameters that
    are not positive: with U < 0 γ would not be real.
    """

    propagator: Propagator
    constants: Float[Array, " 3"]
    interaction: Float[Array, ""]
    energies: Float[Array, " pole"]
    weights: Float[Array, " pole"]
    to_green: Float[Array, "time moment"]
    capacity: int = eqx.field(static=True)

    def __init__(
        self, poles: Poles, beta: float, interaction: float, expansion: float = 1.0, capacity: int | None = None
    ) -> None:
        beta, interaction = positive(beta, "beta"), positive(interaction, "interaction")
        expansion = positive(expansion, "expansion")
        for values, name in ((poles.energies, "energies"), (poles.weights, "weights")):
            finite(values, name)
        scale = poles.fastest + interaction / 2
        self.propagator = tabulated(lambda times: poles.at_times(beta, times), beta, max(scale, 1 / beta))
        self.constants = jnp.asarray([beta, expansion, math.acosh(1 + beta * interaction / (2 * expansion))])
        self.interaction = jnp.asarray(interaction)
        self.energies, self.weights = jnp.asarray(poles.energies), jnp.asarray(poles.weights)
        self.to_green = jnp.asarray(to_times(poles, beta, n_moments(beta, scale), measured_times(beta)))
        self.capacity = default_capacity(beta, interaction, expansion) if capacity is None else capacity

    @property
    def beta(self) -> Float[Array, ""]:
        return self.constants[0]

    @property
    def expansion(self) -> Float[Array, ""]:
        """K."""
        return self.constants[1]

    @property
    def poles(self) -> Poles:
        """Those of g0."""
        return Poles(np.asarray(self.energies), np.asarray(self.weights))

    def log_weight(self, configuration: Vertices) -> LogWeight:
        return log_weight(self.propagator, self.constants, configuration)

    def log_weight_and_observables(self, configuration: Vertices) -> tuple[LogWeight, dict[str, Array]]:
        _, value, observables, _ = self.updated(configuration, jnp.zeros((), jnp.uint64), jnp.zeros((), jnp.int64))
        return value, observables

    def updated(
        self, vertices: Vertices, seed: UInt[Array, ""], n_updates: Int[Array, ""], flips_alone: bool = False
    ) -> tuple[Vertices, LogWeight, dict[str, Array], Float[Array, ""]]:
        """Vertices after a turn of the circle and local updates (none with 0), log W, observables, accepted share.

        The share is −1 where a vertex was to be inserted into a full array. With ``flips_alone`` times stay, which must
        then be equidistant, and the turn is one of spins.
        """
        from slmc.systems.impurity.determinant_kernel import N_NUMBERS, updates_call

        n_times, n_series = self.to_green.shape
        shapes = (vertices.shape, (), (N_NUMBERS,), (2, n_series), ())
        results = tuple(jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes)
        call = jax.ffi.ffi_call(
            compiled_calls.custom_call("impurity_updates", updates_call), results, vmap_method="expand_dims"
        )
        counts = jnp.stack([n_updates, jnp.asarray(flips_alone, jnp.int64)])
        moved, value, numbers, series, accepted = call(self.propagator.table, self.constants, vertices, seed, counts)
        times = jnp.arange(n_times - 1, dtype=jnp.float64) * (self.beta / (n_times - 1))
        bare = jnp.append(self.propagator(times), jnp.sum(self.propagator.table[-1]))
        observables = {"numbers": numbers, "moments": series, "green": bare[None] + series @ self.to_green.T}
        observables["frequencies"] = self._at_frequencies(jnp.mean(series, axis=0))
        return moved, value, observables, accepted

    def _at_frequencies(self, moments: Float[Array, " moment"]) -> Float[Array, "frequency 6"]:
        """Real and imaginary parts of G0, T and G0 T at the first Matsubara frequencies."""
        frequencies = (2 * jnp.arange(N_FREQUENCIES, dtype=jnp.float64) + 1) * jnp.pi / self.beta
        norm = self.weights[None] / (frequencies[:, None] ** 2 + self.energies[None] ** 2)
        bare = -jnp.sum(norm * self.energies[None], axis=1), -frequencies * jnp.sum(norm, axis=1)
        known = transform(N_FREQUENCIES, len(moments) - 1)
        measured = jnp.asarray(known.real) @ moments, jnp.asarray(known.imag) @ moments
        product = (
            bare[0] * measured[0] - bare[1] * measured[1],
            bare[0] * measured[1] + bare[1] * measured[0],
        )
        return jnp.stack([*bare, *measured, *product], axis=1)


def measured_times(beta: float) -> Float[np.ndarray, " time"]:
    """The times at which g is measured."""
    return np.arange(N_TIMES + 1) * (beta / N_TIMES)


def default_capacity(beta: float, interaction: float, expansion: float) -> int:
    """Slots for vertices: six standard deviations above the largest mean order, K + βU/2, and a few more."""
    mean = expansion + beta * interaction / 2
    return 8 * math.ceil((mean + 6 * math.sqrt(mean) + 8) / 8)


@jax.custom_vjp
def log_weight(propagator: Propagator, constants: Float[Array, " 3"], vertices: Vertices) -> LogWeight:
    """log W: on a CPU in compiled code, elsewhere by ``dense_log_weight``."""
    return jax.lax.platform_dependent(
        propagator, constants, vertices, cpu=compiled_log_weight, default=dense_log_weight
    )


def _forward(propagator: Propagator, constants: Float[Array, " 3"], vertices: Vertices) -> tuple[LogWeight, Vertices]:
    return jax.lax.platform_dependent(
        propagator, constants, vertices, cpu=compiled_log_weight_and_force, default=_dense_log_weight_and_force
    )


def _backward(force: Vertices, cotangent: Float[Array, ""]) -> tuple[None, None, Vertices]:
    return None, None, cotangent * force


log_weight.defvjp(_forward, _backward)


def dense_log_weight(propagator: Propagator, constants: Float[Array, " 3"], vertices: Vertices) -> LogWeight:
    """log W in JAX, at the price of a full array: an empty slot has e^V = 1 and adds a column of the identity."""
    beta, expansion, gamma = constants
    times, spins = vertices[:, 0], vertices[:, 1]
    g = propagator(times[:, None] - times[None, :])
    total = jnp.zeros(())
    for sign in (1.0, -1.0):
        factors = jnp.exp(sign * gamma * spins)
        matrix = jnp.diag(factors) - g * (factors - 1)[None, :]
        total = total + jnp.linalg.slogdet(matrix)[1]
    n = jnp.sum(jnp.abs(spins))
    return total + n * jnp.log(expansion / (2 * beta)) - jax.lax.lgamma(n + 1)


def _dense_log_weight_and_force(
    propagator: Propagator, constants: Float[Array, " 3"], vertices: Vertices
) -> tuple[LogWeight, Vertices]:
    value, slope = jax.value_and_grad(dense_log_weight, argnums=2)(propagator, constants, vertices)
    return value, slope.at[:, 1].set(0)


def compiled_log_weight(propagator: Propagator, constants: Float[Array, " 3"], vertices: Vertices) -> LogWeight:
    """``log_weight`` on a CPU."""
    from slmc.systems.impurity.determinant_kernel import log_weight_call

    name = compiled_calls.custom_call("impurity_log_weight", log_weight_call)
    call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct((), jnp.float64), vmap_method="expand_dims")
    return call(propagator.table, constants, vertices)


def compiled_log_weight_and_force(
    propagator: Propagator, constants: Float[Array, " 3"], vertices: Vertices
) -> tuple[LogWeight, Vertices]:
    """log W and its derivatives on a CPU."""
    from slmc.systems.impurity.determinant_kernel import force_call

    results = jax.ShapeDtypeStruct((), jnp.float64), jax.ShapeDtypeStruct(vertices.shape, jnp.float64)
    name = compiled_calls.custom_call("impurity_force", force_call)
    value, force = jax.ffi.ffi_call(name, results, vmap_method="expand_dims")(propagator.table, constants, vertices)
    return value, force
