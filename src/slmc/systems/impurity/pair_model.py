"""The pair model: auxiliary spins that interact in pairs, the first effective model of continuous time."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc import compiled_calls
from slmc.montecarlo import Info, Label, Manifold, State, Target, Update, over_chains
from slmc.montecarlo.target import LogWeight
from slmc.numbers import positive_count
from slmc.systems.impurity.anderson import Vertices
from slmc.systems.impurity.vertices import Circle, by_platform

N_POWERS = 4
"""Of the polynomial f(n), without its constant."""

_FARTHEST = 4.5
"""Standard deviations of n up to which f(n) is a polynomial; beyond it is a straight line."""


class PairModel(Target):
    """log W_eff = log [(K/2β)ⁿ/n!] + (1/n) Σ_{i<j} [J(τ_i − τ_j) s_i s_j + L(τ_i − τ_j)] + f(n)

    with J and L in even Chebyshev polynomials of 2|τ|/β − 1, since the weight is the same under τ → β − τ, and f a
    polynomial of degree four in (n − ⟨n⟩)/σ_n. Without ``by_order`` the sum is not divided by n. Nagai, Shen, Qi, Liu,
    Fu, PRB 96, 161102 (2017), arXiv:1705.06724 (where i and j are both free and the sign is that of an energy). Linear
    in its parameters: ``fit_pairs``.
    """

    coefficients: Float[Array, "2 polynomial"]
    powers: Float[Array, " power"]
    centre: Float[Array, " 2"]
    constants: Float[Array, " 3"]
    constant: Float[Array, ""]
    by_order: bool = eqx.field(static=True, default=True)

    def __init__(self, n_polynomials: int, constants: Float[Array | np.ndarray, " 3"], by_order: bool = True) -> None:
        self.coefficients = jnp.zeros((2, positive_count(n_polynomials, "n_polynomials")))
        self.constants, self.by_order = jnp.asarray(constants), by_order
        _, expansion, gamma = (float(value) for value in constants)
        mean = expansion * math.cosh(gamma)
        self.powers = jnp.zeros(N_POWERS)
        self.centre = jnp.asarray([mean, math.sqrt(mean)])
        self.constant = jnp.zeros(())

    def potential(self, capacity: int) -> Float[Array, " order"]:
        """f(n) for n = 0 … ``capacity``."""
        return monomials(self.centre, jnp.arange(capacity + 1, dtype=jnp.float64)) @ self.powers + self.constant

    def log_weight(self, configuration: Vertices) -> LogWeight:
        return log_weight(self, configuration)

    def features(self, vertices: Vertices) -> Float[Array, " parameter"]:
        """∂ log W_eff/∂ of J, L and f."""
        times, spins = vertices[:, 0], vertices[:, 1]
        n = jnp.sum(jnp.abs(spins))
        x = 2 * jnp.abs(times[:, None] - times[None, :]) / self.constants[0] - 1
        y, m = 2 * x * x - 1, self.coefficients.shape[1]
        both = jnp.abs(spins[:, None] * spins[None, :]) * (1 - jnp.eye(len(spins))) / 2
        scale = 1 / jnp.maximum(n, 1.0) if self.by_order else jnp.ones(())
        before, now, sums = jnp.ones_like(y), y, []
        for _ in range(m):
            sums.append(jnp.stack([jnp.sum(before * both * spins[:, None] * spins[None, :]), jnp.sum(before * both)]))
            before, now = now, 2 * y * now - before
        pairs = jnp.stack(sums, axis=1) * scale
        return jnp.concatenate([pairs.ravel(), monomials(self.centre, n)])


def monomials(centre: Float[Array, " 2"], n: Float[Array, "*any"]) -> Float[Array, "*any power"]:
    """z, z², …, z⁴ of z = (n − ⟨n⟩)/σ, continued as straight lines."""
    z = (n - centre[0]) / centre[1]
    inside = jnp.clip(z, -_FARTHEST, _FARTHEST)
    powers = jnp.stack([inside**degree for degree in range(1, N_POWERS + 1)], axis=-1)
    slopes = jnp.stack([degree * inside ** (degree - 1) for degree in range(1, N_POWERS + 1)], axis=-1)
    return powers + slopes * (z - inside)[..., None]


def dense_log_weight(model: PairModel, vertices: Vertices) -> LogWeight:
    """log W_eff in JAX, over all pairs of slots."""
    beta, expansion, _ = model.constants
    n = jnp.sum(jnp.abs(vertices[:, 1]))
    parameters = jnp.concatenate([model.coefficients.ravel(), model.powers])
    measure = n * jnp.log(expansion / (2 * beta)) - jax.lax.lgamma(n + 1)
    return jnp.sum(model.features(vertices) * parameters) + measure + model.constant


def compiled_log_weight(model: PairModel, vertices: Vertices) -> LogWeight:
    """``log_weight`` on a CPU."""
    return _called(model, vertices, jnp.zeros((), jnp.uint64), jnp.zeros((), jnp.int64))[2]


log_weight = by_platform(compiled_log_weight, dense_log_weight)
"""log W_eff of parameters and vertices."""


def _called(model: PairModel, vertices: Vertices, seed: Array, n_updates: Array) -> tuple[Vertices, Array, LogWeight]:
    from slmc.systems.impurity.pair_kernel import pair_call

    constants = jnp.append(model.constants, float(model.by_order))
    shapes = vertices.shape, (), ()
    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes)
    name = compiled_calls.custom_call("impurity_pairs", pair_call)
    call = jax.ffi.ffi_call(name, results, vmap_method="expand_dims")
    parameters = model.coefficients, constants, model.potential(len(vertices))
    moved, accepted, value = call(*parameters, vertices, seed, n_updates)
    return moved, accepted, value


class PairSweep(Update):
    """``n_updates`` insertions, removals and flips of the pair model, each O(n), in one compiled call.

    A sweep begins with a turn of the circle by a random angle and, with probability one half, a flip of all spins, as
    ``RankOneSweep``; it keeps detailed balance.
    """

    target: PairModel
    n_updates: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        positive_count(self.n_updates, "n_updates")

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Circle(self.target.constants[0])

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        vertices, accepted, log_weight = self._moved(key, state, 1)
        return State(vertices, log_weight, {}), Info(accepted, log_weight - state.log_weight)

    def chain(self, key: Key[Array, ""], state: State, n_steps: int) -> State:
        """The state after many sweeps, one compiled call."""
        vertices, _, log_weight = self._moved(key, state, n_steps)
        return State(vertices, log_weight, {})

    def _moved(self, key: Key[Array, ""], state: State, n_sweeps: int) -> tuple[Vertices, Array, LogWeight]:
        seed, n_updates = jax.random.bits(key, (), jnp.uint64), jnp.asarray(n_sweeps * self.n_updates, jnp.int64)
        return _called(self.target, state.configuration, seed, n_updates)


def fit_pairs(model: PairModel, labels: Label, ridge: float = 1e-9) -> PairModel:
    """The parameters that minimise the mean squared residual of log-weights, by least squares of scaled features."""
    configurations = np.asarray(labels.configuration)
    order = np.abs(configurations[..., 1]).sum(1)
    centre = jnp.asarray([order.mean(), max(order.std(), 1.0)])
    model = eqx.tree_at(lambda m: m.centre, model, centre)
    rows = np.asarray(over_chains(_features, jnp.asarray(configurations), model, group_size=32))
    beta, expansion, _ = (float(value) for value in model.constants)
    measure = order * math.log(expansion / (2 * beta)) - np.array([math.lgamma(n + 1) for n in order])
    wanted = np.asarray(labels.log_weight) - measure
    scale = rows.std(0) + 1e-12
    centred = (rows - rows.mean(0)) / scale
    normal = centred.T @ centred + ridge * len(rows) * np.eye(rows.shape[1])
    parameters = np.linalg.solve(normal, centred.T @ (wanted - wanted.mean())) / scale
    n_pairs = model.coefficients.size
    values = (
        jnp.asarray(parameters[:n_pairs]).reshape(model.coefficients.shape),
        jnp.asarray(parameters[n_pairs:]),
        jnp.asarray(wanted.mean() - rows.mean(0) @ parameters),
    )
    return eqx.tree_at(lambda m: (m.coefficients, m.powers, m.constant), model, values)


def _features(model: PairModel, vertices: Vertices) -> Float[Array, " parameter"]:
    return model.features(vertices)
