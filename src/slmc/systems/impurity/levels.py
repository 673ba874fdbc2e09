"""A small learned bath: the CT-AUX weight of an impurity with few levels, and its updates."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt

from slmc import compiled_calls
from slmc.montecarlo import Info, Label, Manifold, State, Target, Update, evaluate, over_chains
from slmc.montecarlo.target import LogWeight
from slmc.numbers import positive, positive_count
from slmc.systems.impurity.anderson import Anderson, Vertices
from slmc.systems.impurity.poles import Poles
from slmc.systems.impurity.vertices import Circle, by_platform

VERTICES_IN_A_WINDOW = 4
"""For which windows are made; fewer cost more for their edges, more for their determinants."""

_LARGEST_PHASE = 8.0
"""Windows are so short that e^{2ε length} is at most e^8 for the largest energy ε: what rounding is magnified by."""


class BathModel(Target):
    """log W of an impurity with r levels, and a potential of the number of vertices.

        log W_eff = log [(K/2β)ⁿ/n! Π_σ det N_σ⁻¹] + c_1 n + c_2 n² + c_0,   g0(τ) = Σ_l a_l e^{−ε_l τ}/(1 + e^{−βε_l})

    ``energies`` are ε_l and ``impurity`` √a_l, with Σ a_l = 1. Three to five levels fitted to the propagator of a
    continuous bath come so near to its weight that almost every proposal is accepted; what is left depends on n, and
    ``slope`` and ``curvature`` are learned from labels. A product of r × r matrices, O(n r³), on a CPU; elsewhere, and
    for derivatives, a determinant in JAX. Derivatives are by all parameters and by the times of vertices.

    Raises ``ValueError`` for fewer than two levels.
    """

    energies: Float[Array, " level"]
    impurity: Float[Array, " level"]
    constants: Float[Array, " 3"]
    slope: Float[Array, ""]
    curvature: Float[Array, ""]
    constant: Float[Array, ""]

    def __init__(self, poles: Poles, constants: Float[Array | np.ndarray, " 3"]) -> None:
        if len(poles.energies) < 2:
            raise ValueError(f"a bath model needs at least 2 levels; got {len(poles.energies)}.")
        self.energies, self.constants = jnp.asarray(poles.energies), jnp.asarray(constants)
        self.impurity = jnp.sqrt(jnp.asarray(positive(poles.weights, "weights of levels")))
        self.slope = self.curvature = self.constant = jnp.zeros(())

    def potential(self, capacity: int) -> Float[Array, " order"]:
        """f(n) for n = 0 … ``capacity``."""
        n = jnp.arange(capacity + 1, dtype=jnp.float64)
        return self.slope * n + self.curvature * n**2 + self.constant

    def log_weight(self, configuration: Vertices) -> LogWeight:
        parameters = self.energies, self.impurity, self.constants, self.potential(len(configuration))
        return log_weight(parameters, configuration)

    @property
    def n_windows(self) -> int:
        """Windows in a sweep; known outside of compiled programs alone."""
        beta, expansion, gamma = (float(value) for value in self.constants)
        return n_windows(np.asarray(self.energies), beta, expansion, gamma)


def n_windows(energies: np.ndarray, beta: float, expansion: float, gamma: float) -> int:
    """Windows of imaginary time short enough for rounding and for small determinants."""
    interaction = 2 * expansion * (math.cosh(gamma) - 1) / beta
    mean = expansion + beta * interaction / 2
    by_rounding = beta * 2 * float(np.max(np.abs(energies))) / _LARGEST_PHASE
    return max(1, math.ceil(by_rounding), math.ceil(mean / VERTICES_IN_A_WINDOW))


Parameters = tuple[Float[Array, " level"], Float[Array, " level"], Float[Array, " 3"], Float[Array, " order"]]
"""Energies, the impurity among the levels, (β, K, γ), and the potential of n."""


def dense_log_weight(parameters: Parameters, vertices: Vertices) -> LogWeight:
    """log W_eff by determinants of all vertices, in JAX."""
    energies, impurity, constants, potential = parameters
    beta, expansion, gamma = constants
    times, spins = vertices[:, 0], vertices[:, 1]
    difference = times[:, None] - times[None, :]
    inside = jnp.where(difference < 0, difference + beta, difference)
    g = jnp.zeros_like(inside)
    for level in range(len(energies)):
        energy = energies[level]
        exponent = jnp.where(energy > 0, -inside, beta - inside) * energy
        g = g + impurity[level] ** 2 * jnp.exp(exponent - jnp.log1p(jnp.exp(-beta * jnp.abs(energy))))
    g = jnp.where(difference < 0, -g, g)
    total = jnp.zeros(())
    for sign in (1.0, -1.0):
        factors = jnp.exp(sign * gamma * spins)
        total = total + jnp.linalg.slogdet(jnp.diag(factors) - g * (factors - 1)[None, :])[1]
    occupied = jnp.sum(jnp.abs(spins))
    measure = occupied * jnp.log(expansion / (2 * beta)) - jax.lax.lgamma(occupied + 1)
    return total + measure + potential[jnp.asarray(occupied, jnp.int32)]


def compiled_log_weight(parameters: Parameters, vertices: Vertices) -> LogWeight:
    """``log_weight`` on a CPU."""
    return _called(parameters, vertices, jnp.zeros((), jnp.uint64), jnp.zeros(3, jnp.int64))[2]


log_weight = by_platform(compiled_log_weight, dense_log_weight)
"""log W_eff of parameters and vertices."""


def swept(
    key: Key[Array, ""], parameters: Parameters, vertices: Vertices, counts: Int[Array, " 3"]
) -> tuple[Vertices, Float[Array, ""], LogWeight]:
    """Vertices after ``counts`` = (sweeps, windows in each, updates in a window), the accepted share, log W_eff."""
    return _called(parameters, vertices, jax.random.bits(key, (), jnp.uint64), counts)


def _called(
    parameters: Parameters, vertices: Vertices, seed: UInt[Array, ""], counts: Int[Array, " 3"]
) -> tuple[Vertices, Float[Array, ""], LogWeight]:
    from slmc.systems.impurity.levels_kernel import sweeps_call

    shapes = vertices.shape, (), ()
    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes)
    name = compiled_calls.custom_call("impurity_levels", sweeps_call)
    call = jax.ffi.ffi_call(name, results, vmap_method="expand_dims")
    moved, accepted, value = call(*parameters, vertices, seed, counts)
    return moved, accepted, value


class WindowSweep(Update):
    """Local updates of a bath model, window of imaginary time by window.

    In every one of ``n_windows`` windows ``n_updates`` insertions, removals and flips, at the cost of the vertices in
    the window, not of all of them. A sweep begins at a random angle of the circle, goes round it in a random direction,
    and flips all spins with probability one half; the weight does not change under these. In a random direction it
    keeps detailed balance. A vertex that is to be inserted into a full array is refused, which is the end of the space
    of proposals; the exact weight has no end there, and exact updates tell if it is ever reached.

    Raises ``ValueError`` for numbers that are not positive.
    """

    target: BathModel
    n_windows: int = eqx.field(static=True)
    n_updates: int = eqx.field(static=True, default=40)

    def __check_init__(self) -> None:
        positive_count(self.n_windows, "n_windows")
        positive_count(self.n_updates, "n_updates")

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Circle(self.target.constants[0])

    @property
    def reversible(self) -> bool:
        return True

    def _moved(self, key: Key[Array, ""], state: State, n_sweeps: int) -> tuple[Vertices, Float[Array, ""], LogWeight]:
        model = self.target
        parameters = model.energies, model.impurity, model.constants, model.potential(len(state.configuration))
        counts = jnp.asarray([n_sweeps, self.n_windows, self.n_updates], jnp.int64)
        return swept(key, parameters, state.configuration, counts)

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        vertices, accepted, log_weight = self._moved(key, state, 1)
        return State(vertices, log_weight, {}), Info(accepted, log_weight - state.log_weight)

    def chain(self, key: Key[Array, ""], state: State, n_steps: int) -> State:
        """The state after many sweeps, one compiled call."""
        vertices, _, log_weight = self._moved(key, state, n_steps)
        return State(vertices, log_weight, {})


class LevelSweep(Update):
    """``WindowSweep`` of the exact weight itself, for a bath of few levels: no model, the same cost.

    Iazzi, Troyer, PRB 91, 241118 (2015), by windows. Raises ``ValueError`` for a target whose propagator has weights
    that are not positive, or one level alone.
    """

    target: Anderson
    n_windows: int = eqx.field(static=True)
    n_updates: int = eqx.field(static=True, default=40)

    def __check_init__(self) -> None:
        positive_count(self.n_windows, "n_windows")
        positive_count(self.n_updates, "n_updates")
        positive(self.target.weights, "weights of levels")
        if len(self.target.energies) < 2:
            raise ValueError("updates by levels need at least one level in the bath.")

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Circle(self.target.beta)

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        target = self.target
        flat = jnp.zeros(len(state.configuration) + 1)
        parameters = target.energies, jnp.sqrt(target.weights), target.constants, flat
        counts = jnp.asarray([1, self.n_windows, self.n_updates], jnp.int64)
        vertices, accepted, _ = swept(key, parameters, state.configuration, counts)
        log_weight, observables = evaluate(target, vertices)
        accepted = _not_filled(accepted, vertices)
        return State(vertices, log_weight, observables), Info(accepted, log_weight - state.log_weight)


def _not_filled(accepted: Float[Array, ""], vertices: Vertices) -> Float[Array, ""]:
    return eqx.error_if(
        accepted,
        vertices[-1, 1] != 0,
        f"the array of {len(vertices)} vertices is full; raise target.capacity, or lower target.expansion.",
    )


def fit_potential(model: BathModel, labels: Label) -> BathModel:
    """The model with the slope and curvature in n that minimise the mean squared residual of log-weights."""
    order = np.sum(np.abs(np.asarray(labels.configuration)[..., 1]), axis=1)
    bare = eqx.tree_at(lambda m: (m.slope, m.curvature, m.constant), model, (jnp.zeros(()),) * 3)
    predicted = np.asarray(over_chains(_log_weight, jnp.asarray(labels.configuration), bare, group_size=32))
    degree = min(2, len(np.unique(order)) - 1)
    coefficients = np.zeros(3)
    if degree > 0:
        centre = order.mean()
        fitted = np.polynomial.Polynomial.fit(order - centre, np.asarray(labels.log_weight) - predicted, degree)
        coefficients[: degree + 1] = fitted.convert().coef
        c0, c1, c2 = coefficients
        coefficients = np.array([c0 - c1 * centre + c2 * centre**2, c1 - 2 * c2 * centre, c2])
    values = tuple(jnp.asarray(value) for value in coefficients)
    return eqx.tree_at(lambda m: (m.constant, m.slope, m.curvature), model, values)


def _log_weight(model: BathModel, vertices: Vertices) -> LogWeight:
    return model.log_weight(vertices)
