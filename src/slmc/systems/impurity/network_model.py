"""The network model: every vertex sees the others through a small network, the second effective model of the field."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc import compiled_calls
from slmc.montecarlo import Info, Label, Manifold, State, Target, Update, over_chains
from slmc.montecarlo.target import LogWeight
from slmc.numbers import positive_count
from slmc.systems.impurity.anderson import Vertices
from slmc.systems.impurity.least_squares import most_likely
from slmc.systems.impurity.pair_model import N_POWERS, PairModel, fit_pairs, monomials
from slmc.systems.impurity.vertices import Circle, by_platform


class NetworkModel(Target):
    """log W_eff = log [(K/2β)ⁿ/n!] + Σ_i [½ c·φ_i + w·tanh(A φ_i + b)] + f(n)

        φ_i = (1/n) Σ_{j≠i} T_2k(2|τ_i − τ_j|/β − 1) (s_i s_j, 1),   k = 0 … m − 1

    The φ are the symmetry functions of a Behler–Parrinello network (one network for every vertex, a sum over them),
    with the Chebyshev polynomials of the pair model, which is the first term alone. f is a polynomial of degree four in
    (n − ⟨n⟩)/σ_n. It is invariant under what the weight is invariant under: turns of the circle, τ → β − τ, s → −s,
    relabelling. Nagai, Okumura, Tanaka, arXiv:1807.04955 (networks of Behler and Parrinello in continuous time).
    Raises ``ValueError`` for numbers that are not positive.
    """

    coefficients: Float[Array, " feature"]
    hidden: Float[Array, "unit feature"]
    bias: Float[Array, " unit"]
    outer: Float[Array, " unit"]
    powers: Float[Array, " power"]
    centre: Float[Array, " 2"]
    constants: Float[Array, " 3"]
    constant: Float[Array, ""]

    def __init__(self, n_polynomials: int, n_hidden: int, constants: Float[Array | np.ndarray, " 3"]) -> None:
        n_features = 2 * positive_count(n_polynomials, "n_polynomials")
        positive_count(n_hidden, "n_hidden")
        pairs = PairModel(n_polynomials, constants)
        self.coefficients, self.powers = jnp.zeros(n_features), jnp.zeros(N_POWERS)
        self.hidden, self.bias, self.outer = jnp.zeros((n_hidden, n_features)), jnp.zeros(n_hidden), jnp.zeros(n_hidden)
        self.centre, self.constants, self.constant = pairs.centre, pairs.constants, pairs.constant

    def potential(self, capacity: int) -> Float[Array, " order"]:
        """f(n) for n = 0 … ``capacity``."""
        return monomials(self.centre, jnp.arange(capacity + 1, dtype=jnp.float64)) @ self.powers + self.constant

    def log_weight(self, configuration: Vertices) -> LogWeight:
        return log_weight(self, configuration)


def symmetry_functions(n_polynomials: int, beta: Float[Array, ""], vertices: Vertices) -> Float[Array, "slot feature"]:
    """φ of every slot, 0 for an empty one."""
    times, spins = vertices[:, 0], vertices[:, 1]
    x = 2 * jnp.abs(times[:, None] - times[None, :]) / beta - 1
    y = 2 * x * x - 1
    both = jnp.abs(spins[:, None] * spins[None, :]) * (1 - jnp.eye(len(spins)))
    products = spins[:, None] * spins[None, :] * (1 - jnp.eye(len(spins)))
    before, now, signed, plain = jnp.ones_like(y), y, [], []
    for _ in range(n_polynomials):
        signed.append(jnp.sum(before * products, axis=1))
        plain.append(jnp.sum(before * both, axis=1))
        before, now = now, 2 * y * now - before
    return jnp.stack(signed + plain, axis=1) / jnp.maximum(jnp.sum(jnp.abs(spins)), 1.0)


def dense_log_weight(model: NetworkModel, vertices: Vertices) -> LogWeight:
    """log W_eff in JAX, over all pairs of slots."""
    beta, expansion, _ = model.constants
    occupied = jnp.abs(vertices[:, 1])
    n = jnp.sum(occupied)
    phi = symmetry_functions(len(model.coefficients) // 2, beta, vertices)
    measure = n * jnp.log(expansion / (2 * beta)) - jax.lax.lgamma(n + 1)
    return measure + _of_features(model, phi, occupied, n)


def _of_features(
    model: NetworkModel, phi: Float[Array, "slot feature"], occupied: Float[Array, " slot"], n: Float[Array, ""]
) -> Float[Array, ""]:
    """log W_eff without the measure."""
    units = jnp.tanh(phi @ model.hidden.T + model.bias[None]) @ model.outer
    pairs = jnp.sum(phi, axis=0) @ model.coefficients / 2
    return pairs + jnp.sum(occupied * units) + monomials(model.centre, n) @ model.powers + model.constant


def compiled_log_weight(model: NetworkModel, vertices: Vertices) -> LogWeight:
    """``log_weight`` on a CPU."""
    return _called(model, vertices, jnp.zeros((), jnp.uint64), jnp.zeros((), jnp.int64))[2]


log_weight = by_platform(compiled_log_weight, dense_log_weight)
"""log W_eff of parameters and vertices."""


def _called(
    model: NetworkModel, vertices: Vertices, seed: Array, n_updates: Array
) -> tuple[Vertices, Float[Array, ""], LogWeight]:
    from slmc.systems.impurity.network_kernel import network_call

    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float64) for shape in (vertices.shape, (), ()))
    name = compiled_calls.custom_call("impurity_network", network_call)
    call = jax.ffi.ffi_call(name, results, vmap_method="expand_dims")
    weights = model.coefficients, model.hidden, model.bias, model.outer
    moved, accepted, value = call(*weights, model.constants, model.potential(len(vertices)), vertices, seed, n_updates)
    return moved, accepted, value


class NetworkSweep(Update):
    """``n_updates`` insertions, removals and flips of the network model, each O(n), in one compiled call.

    A sweep begins with a turn of the circle by a random angle and, with probability one half, a flip of all spins, as
    ``RankOneSweep``; it keeps detailed balance.
    """

    target: NetworkModel
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


def fit_network(model: NetworkModel, labels: Label, seed: int = 0) -> NetworkModel:
    """The parameters with the least mean squared residual of log-weights, given that weights of units are moderate.

    Pairs and f(n) by least squares first (``fit_pairs``); then all together by Levenberg and Marquardt, from random
    units, with a Gaussian prior of unit width for what units see of scaled φ and for their outer weights in units of
    the residual. The noise that the prior is weighed against is the residual itself.
    """
    vertices = jnp.asarray(labels.configuration)
    n_polynomials, n_hidden = len(model.coefficients) // 2, len(model.outer)
    pairs = fit_pairs(PairModel(n_polynomials, np.asarray(model.constants)), labels)
    beta, expansion, _ = (float(value) for value in model.constants)
    phi = np.asarray(over_chains(_phi, vertices, (model.constants[0], n_polynomials), group_size=32))
    occupied = np.abs(np.asarray(vertices)[..., 1])
    order = occupied.sum(1)
    measure = order * math.log(expansion / (2 * beta)) - np.array([math.lgamma(n + 1) for n in order])
    wanted = np.asarray(labels.log_weight) - measure
    rows = phi[occupied > 0]
    shift, scale = rows.mean(0), rows.std(0) + 1e-9
    rng = np.random.default_rng(seed)
    start = eqx.tree_at(
        lambda m: (m.coefficients, m.powers, m.constant, m.centre, m.hidden, m.bias, m.outer),
        model,
        (
            jnp.ravel(pairs.coefficients),
            pairs.powers,
            pairs.constant,
            pairs.centre,
            jnp.asarray(rng.normal(size=(n_hidden, 2 * n_polynomials)) / math.sqrt(2 * n_polynomials)),
            jnp.asarray(rng.normal(size=n_hidden)),
            jnp.asarray(0.01 * rng.normal(size=n_hidden)),
        ),
    )
    data = jnp.asarray((phi - shift) / scale * (occupied > 0)[..., None]), jnp.asarray(occupied)
    return _unscaled(_optimised(_scaled(start, scale), data, wanted, shift / scale), shift, scale)


def _phi(shared: tuple[Float[Array, ""], int], vertices: Vertices) -> Float[Array, "slot feature"]:
    beta, n_polynomials = shared
    return symmetry_functions(n_polynomials, beta, vertices)


def _scaled(model: NetworkModel, scale: np.ndarray) -> NetworkModel:
    """Coefficients for scaled φ; those of units are for scaled and shifted φ from the start."""
    return eqx.tree_at(lambda m: m.coefficients, model, model.coefficients * jnp.asarray(scale))


def _unscaled(model: NetworkModel, shift: np.ndarray, scale: np.ndarray) -> NetworkModel:
    hidden = model.hidden / jnp.asarray(scale)[None]
    values = model.coefficients / jnp.asarray(scale), hidden, model.bias - hidden @ jnp.asarray(shift)
    return eqx.tree_at(lambda m: (m.coefficients, m.hidden, m.bias), model, values)


def _optimised(model: NetworkModel, data: tuple[Array, Array], wanted: np.ndarray, offset: np.ndarray) -> NetworkModel:
    """All parameters but those that are fixed, for scaled φ less ``offset``."""
    flat, restore = jax.flatten_util.ravel_pytree(_free(model))
    at = jnp.asarray(offset)

    def predicted(parameters: Array, sample: tuple[Array, Array]) -> Array:
        phi, occupied = sample
        whole, n = eqx.tree_at(_free, model, restore(parameters)), jnp.sum(occupied)
        # The pair term is of φ itself, the sum of which over vertices is n ``offset`` more than that of shifted ones.
        return _of_features(whole, phi, occupied, n) + n * (at @ whole.coefficients) / 2

    n_linear = model.coefficients.size + model.powers.size + 1
    prior = np.concatenate([np.full(n_linear, 1e-6), np.ones(flat.size - n_linear)])
    found = most_likely(predicted, np.asarray(flat), data, wanted, prior)
    return eqx.tree_at(_free, model, restore(jnp.asarray(found)))


def _free(model: NetworkModel) -> Any:
    return model.coefficients, model.powers, model.constant, model.hidden, model.bias, model.outer
