"""An impurity with two bath levels at high temperature: vertices drawn exactly, its updates, and wrong twins."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import reference_impurity as reference
from slmc.montecarlo import Info, LocalSweep, MetropolisHastings, Sequence, Signs, State, Update
from slmc.selflearning import CumulativeUpdate
from slmc.systems.impurity import (
    Anderson,
    BathModel,
    Circle,
    FlipSweep,
    HirschFye,
    LevelSweep,
    NetworkModel,
    NetworkSweep,
    PairModel,
    PairSweep,
    Poles,
    RankOneSweep,
    SliceNetwork,
    SliceNetworkSweep,
    WindowSweep,
    of_levels,
)
from tables import Solvable, Weight

LEVEL, ENERGIES, COUPLINGS = 0.4, np.array([-0.7, 0.5]), np.array([0.6, 0.8])
BETA, INTERACTION, EXPANSION, CAPACITY = 1.5, 2.0, 1.0, 14
N_DRAWS = 16384


@functools.cache
def target():
    poles = of_levels(LEVEL, ENERGIES, COUPLINGS)
    return Anderson(poles, BETA, INTERACTION, EXPANSION, CAPACITY)


@functools.cache
def draws():
    poles = of_levels(LEVEL, ENERGIES, COUPLINGS)
    rng = np.random.default_rng(21)
    return jnp.asarray(reference.draws(rng, *poles, BETA, INTERACTION, EXPANSION, CAPACITY, N_DRAWS))


def distances(vertices):
    difference = jnp.abs(vertices[:, None, 0] - vertices[None, :, 0])
    return jnp.minimum(difference, BETA - difference)


def pairs(vertices, of_distance):
    spins = vertices[:, 1]
    return jnp.sum(of_distance(distances(vertices)) * spins[:, None] * spins[None, :] * (1 - jnp.eye(len(spins))))


STATISTICS = {
    "order": lambda v: jnp.asarray(jnp.sum(jnp.abs(v[:, 1])), jnp.int64),
    "spin squared": lambda v: jnp.asarray(jnp.sum(v[:, 1]) ** 2, jnp.int64),
    "near pairs": lambda v: pairs(v, lambda r: jnp.exp(-4 * r)),
    "far pairs": lambda v: pairs(v, lambda r: r),
    "log W": lambda v: target().log_weight(v),
}


def poor_bath():
    model = BathModel(Poles(np.array([-0.5, 0.9]), np.array([0.3, 0.7])), target().constants)
    return eqx.tree_at(lambda m: m.slope, model, jnp.asarray(0.1))


def poor_pairs(by_order=True):
    model = PairModel(3, target().constants, by_order)
    coefficients = jnp.asarray([[0.4, -0.2, 0.1], [0.2, 0.1, -0.05]])
    return eqx.tree_at(lambda m: (m.coefficients, m.powers), model, (coefficients, jnp.asarray([0.3, -0.1, 0.0, 0.0])))


def poor_network():
    rng = np.random.default_rng(8)
    model = NetworkModel(2, 3, target().constants)
    values = 0.4 * rng.normal(size=4), rng.normal(size=(3, 4)), rng.normal(size=3), 0.3 * rng.normal(size=3)
    values = (*map(jnp.asarray, values), jnp.asarray([0.2, -0.1, 0.0, 0.0]))
    return eqx.tree_at(lambda m: (m.coefficients, m.hidden, m.bias, m.outer, m.powers), model, values)


def slmc(inner, n_updates=2):
    return MetropolisHastings(target(), CumulativeUpdate(inner, n_updates))


class SlowInsertion(Update):
    """One insertion or removal, decided by whole determinants in JAX; ``mistake`` names what is done wrongly."""

    target: Anderson
    mistake: str = eqx.field(static=True, default="")

    @property
    def reversible(self):
        return True

    def log_weight(self, vertices):
        (beta, expansion, gamma), propagator = self.target.constants, self.target.propagator
        times, spins = vertices[:, 0], vertices[:, 1]
        g = propagator(times[:, None] - times[None, :])
        if self.mistake == "g0(0-) on the diagonal":
            g = g - jnp.eye(len(times))
        total = jnp.zeros(())
        for sign in (1.0, 1.0 if self.mistake == "spins not opposite" else -1.0):
            factors = jnp.exp(sign * gamma * spins)
            total = total + _log_determinant(jnp.diag(factors) - g * (factors - 1)[None, :])
        n = jnp.sum(jnp.abs(spins))
        return total + n * jnp.log(expansion / (2 * beta)) - jax.lax.lgamma(n + 1)

    def step(self, key, state):
        keys = jax.random.split(key, 5)
        vertices, n = state.configuration, jnp.asarray(jnp.sum(jnp.abs(state.configuration[:, 1])), jnp.int32)
        slots = jnp.arange(len(vertices), dtype=jnp.int32)
        new = jnp.stack([jax.random.uniform(keys[0]) * BETA, jax.random.rademacher(keys[1], dtype=jnp.float64)])
        longer = jnp.where((slots == n)[:, None], new, vertices)
        k = jax.random.randint(keys[2], (), 0, jnp.maximum(n, 1), jnp.int32)
        shorter = jnp.where((slots == k)[:, None], vertices[n - 1], vertices)
        shorter = jnp.where((slots >= n - 1)[:, None], 0.0, shorter)
        # Of the labelled density: an insertion is proposed with 1/2β, undone by choosing one of n + 1.
        per = jnp.log(2 * BETA)
        grown = self.log_weight(longer) + per
        lessened = self.log_weight(shorter) - per
        if self.mistake == "K/n for K/(n + 1)":
            grown = grown + jnp.log1p(1 / jnp.maximum(jnp.asarray(n, jnp.float64), 1.0))
        inserting = jax.random.bernoulli(keys[3])
        proposed = jnp.where(inserting, longer, shorter)
        log_ratio = jnp.where(inserting, grown, lessened) - self.log_weight(vertices)
        possible = jnp.where(inserting, n < len(vertices), n > 0)
        accepted = possible & (jnp.log(jax.random.uniform(keys[4])) < log_ratio)
        vertices = jnp.where(accepted, proposed, vertices)
        return State(vertices, state.log_weight, state.observables), Info(jnp.asarray(accepted, jnp.float64), log_ratio)

    def init(self, configuration):
        return State(configuration, jnp.zeros(()), {})


def _log_determinant(matrix):
    """By elimination without pivots: leading minors are weights of fewer vertices."""
    total = jnp.zeros(())
    for k in range(len(matrix)):
        total = total + jnp.log(jnp.abs(matrix[k, k]))
        matrix = matrix - matrix[:, k, None] * matrix[None, k] / matrix[k, k]
    return total


def other_target(**changes):
    """The target with wrong constants or propagator, whose exact updates are wrong ones of the right target."""
    return eqx.tree_at(lambda t: t.constants, target(), target().constants * jnp.asarray(changes["factors"]))


UPDATES = {
    "rank one": lambda target: RankOneSweep(target, 3),
    "levels": lambda target: LevelSweep(target, 2, 3),
    "SLMC, bath": lambda target: slmc(WindowSweep(poor_bath(), 2, 3)),
    "SLMC, bath, one window": lambda target: slmc(WindowSweep(poor_bath(), 1, 3), 1),
    "SLMC, pairs": lambda target: slmc(PairSweep(poor_pairs(), 4)),
    "SLMC, pairs not divided by n": lambda target: slmc(PairSweep(poor_pairs(by_order=False), 4)),
    "SLMC, network": lambda target: slmc(NetworkSweep(poor_network(), 4)),
    "slow": lambda target: SlowInsertion(target),
    "mixed": lambda target: Sequence((slmc(PairSweep(poor_pairs(), 2), 1), RankOneSweep(target, 2))),
}
WRONG = {
    "K/n for K/(n + 1)": lambda target: SlowInsertion(target, "K/n for K/(n + 1)"),
    "g0(0-) on the diagonal": lambda target: SlowInsertion(target, "g0(0-) on the diagonal"),
    "spins not opposite": lambda target: SlowInsertion(target, "spins not opposite"),
    "another K": lambda target: RankOneSweep(other_target(factors=[1.0, 1.3, 1.0]), 3),
    "another γ": lambda target: LevelSweep(other_target(factors=[1.0, 1.0, 1.1]), 2, 3),
    "a model alone, bath": lambda target: WindowSweep(poor_bath(), 2, 3),
    "a model alone, pairs": lambda target: PairSweep(poor_pairs(), 4),
    "a model alone, network": lambda target: NetworkSweep(poor_network(), 4),
}


def turned(vertices):
    occupied = vertices[:, 1] != 0
    return jnp.stack([jnp.where(occupied, (vertices[:, 0] + 0.4) % BETA, 0.0), vertices[:, 1]], 1)


def mirrored(vertices):
    occupied = vertices[:, 1] != 0
    return jnp.stack([jnp.where(occupied, BETA - vertices[:, 0], 0.0), vertices[:, 1]], 1)


def flipped(vertices):
    return vertices * jnp.asarray([[1.0, -1.0]])


def relabelled(vertices):
    return vertices.at[:3].set(vertices[jnp.asarray([2, 0, 1])])


SYMMETRIES = (turned, mirrored, flipped, relabelled)


def configuration():
    rng = np.random.default_rng(5)
    vertices = np.zeros((8, 2))
    vertices[:6] = np.stack([rng.uniform(0, BETA, 6), rng.choice([-1.0, 1.0], 6)], 1)
    return jnp.asarray(vertices)


def weight(make):
    return lambda: Weight(make(), Circle(jnp.asarray(BETA)), configuration(), SYMMETRIES)


N_SLICES = 8
SLICES = jnp.asarray(2.0 * ((np.arange(2**N_SLICES)[:, None] >> np.arange(N_SLICES)) & 1) - 1)
"""All states of as many spins."""


@functools.cache
def slices(interaction=3.0):
    return HirschFye(of_levels(LEVEL, ENERGIES, COUPLINGS), 3.0, interaction, N_SLICES)


@functools.cache
def draws_of_slices():
    log_weights = np.asarray(jax.vmap(slices().log_weight)(SLICES))
    weights = np.exp(log_weights - log_weights.max())
    return SLICES[np.random.default_rng(7).choice(len(weights), N_DRAWS, p=weights / weights.sum())]


def poor_slices():
    rng = np.random.default_rng(9)
    model = SliceNetwork(N_SLICES, 2, 3)
    values = 0.2 * rng.normal(size=5), 0.4 * rng.normal(size=(2, 5)), rng.normal(size=(3, 2))
    values = (*map(jnp.asarray, values), jnp.asarray(rng.normal(size=3)), jnp.asarray(0.5 * rng.normal(size=3)))
    return eqx.tree_at(lambda m: (m.pairs, m.kernels, m.mixing, m.bias, m.outer), model, values)


OF_SLICES = {
    "spin squared": lambda s: jnp.asarray(jnp.sum(s) ** 2, jnp.int64),
    "neighbours": lambda s: jnp.asarray(jnp.sum(s * jnp.roll(s, 1)), jnp.int64),
    "next neighbours": lambda s: jnp.asarray(jnp.sum(s * jnp.roll(s, 2)), jnp.int64),
    "first spins": lambda s: jnp.asarray(s[0] + 2 * s[1] + 4 * s[4], jnp.int64),
}
UPDATES_OF_SLICES = {
    "flips": lambda target: FlipSweep(target, 3),
    "flips, whole weights": lambda target: LocalSweep(target, Signs(), 1.0),
    "SLMC, network of slices": lambda target: MetropolisHastings(
        target, CumulativeUpdate(SliceNetworkSweep(poor_slices(), 4), 2)
    ),
}
WRONG_OF_SLICES = {
    "another λ": lambda target: FlipSweep(slices(2.0), 3),
    "a model alone, slices": lambda target: SliceNetworkSweep(poor_slices(), 4),
}

SOLVABLE = {
    "impurity": Solvable(target, draws, STATISTICS, UPDATES, WRONG),
    "Hirsch–Fye": Solvable(slices, draws_of_slices, OF_SLICES, UPDATES_OF_SLICES, WRONG_OF_SLICES),
}
WEIGHTS = {
    "Anderson": weight(target),
    "bath model": weight(poor_bath),
    "pair model": weight(poor_pairs),
    "network model": weight(poor_network),
}
