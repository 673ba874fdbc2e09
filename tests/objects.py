"""The tables of objects under test: a new object is tested by adding a line.

Everything is called as a function without arguments, so that importing the tables costs nothing. Ising models, gauge
fields and configurations that are dictionaries have files of their own, whose lines are joined to the tables here.
"""

import functools
from importlib import util

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import exact_draws
import objects_ising
import objects_product
from slmc.montecarlo import (
    INTEGRATORS,
    OMELYAN,
    Flat,
    HamiltonianTrajectory,
    Info,
    Label,
    LocalSweep,
    MetropolisHastings,
    MicrocanonicalTrajectory,
    Repeated,
    Sequence,
    Signs,
    SinglePrecision,
    SpecialUnitary,
    Sphere,
    Target,
    TwoTimeScaleTrajectory,
    Update,
    log_weight_and_force,
)
from slmc.montecarlo.update import chain
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import (
    DoubleExchange,
    EquivariantNetwork,
    EquivariantTransformer,
    GreensFunctionSweep,
    HeatBathSweep,
    Heisenberg,
    OverRelaxationSweep,
)
from tables import Solvable

SPHERE = Sphere()
MANIFOLDS = {
    "flat": (Flat(), (5,)),
    "sphere": (SPHERE, (3, 2, 3)),
    "SU(3)": (SpecialUnitary(), (4, 2, 3, 3)),
    "product": (objects_product.MANIFOLD, {"positions": (4,), "spins": (3, 3)}),
}


class Gaussian(Target):
    """log W = −x·A x/2."""

    precision: Array

    def log_weight(self, x):
        return -jnp.sum(x * (self.precision @ x)) / 2


class Ising(Target):
    """log W = K Σ s_i s_{i+1} + Σ h_i s_i on a ring; spins are ±1."""

    coupling: Array
    field: Array

    def log_weight(self, spins):
        return self.coupling * jnp.sum(spins * jnp.roll(spins, 1)) + jnp.sum(self.field * spins)


def random_spins(seed, *shape):
    return jnp.asarray(exact_draws.unit_vectors(np.random.default_rng(seed), *shape))


def labels_of(target, configurations):
    return Label(configurations, *jax.vmap(lambda x: log_weight_and_force(target, x))(configurations))


# --- targets and effective models with all parameters random -------------------------------------------------------

LATTICES = [(4, 4), (6, 4), (3, 4), (4, 4, 4)]


def double_exchange_parameters(seed, n_shells):
    rng = np.random.default_rng(seed)
    return {
        "hopping": list(rng.uniform(-1.5, 1.5, n_shells)),
        "coupling": rng.uniform(-4, 4),
        "chemical_potential": rng.uniform(-3, 3),
        "temperature": rng.uniform(0.05, 0.5),
    }


def random_heisenberg(shape, n_shells=None, seed=0, scale=0.3):
    zero = Heisenberg(shape, n_shells)
    couplings = scale * np.random.default_rng(seed).normal(size=len(zero.reduced_couplings))
    return Heisenberg(shape, couplings=jnp.asarray(couplings), constant=0.7, temperature=0.4)


def random_transformer(shape, attention, n_heads=1, n_layers=2, seed=0, scale=1.0, n_shells=None, head_shells=None):
    model = EquivariantTransformer(
        shape, n_layers, n_heads, n_shells, head_shells, attention, 0.4, scale, key=jax.random.key(seed)
    )
    return replaced_head(model, random_heisenberg(shape, head_shells, seed))


def replaced_head(model, head):
    return eqx.tree_at(lambda model: model.head, model, head)


def random_network(shape, n_layers=2, n_channels=4, n_hidden=5, reach=None, seed=0, temperature=0.4):
    """All weights random, the readouts, which start from zero, among them."""
    model = EquivariantNetwork(shape, n_layers, n_channels, n_hidden, reach, temperature, key=jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.05 * rng.normal(size=leaf.shape), model)


MODELS = {
    "linear, all shells": lambda shape: random_heisenberg(shape),
    "linear, 1 shell": lambda shape: random_heisenberg(shape, 1),
    "Transformer, dot-product": lambda shape: random_transformer(shape, "dot-product"),
    "Transformer, dot-product, 3 heads": lambda shape: random_transformer(shape, "dot-product", 3, 1),
    "Transformer, factored": lambda shape: random_transformer(shape, "factored", n_shells=2, head_shells=1),
    "Transformer, factored, 2 heads": lambda shape: random_transformer(shape, "factored", 2),
    "network": lambda shape: random_network(shape),
    "network, 3 layers, short filters": lambda shape: random_network(shape, n_layers=3, reach=1),
}

TARGETS = {
    "double exchange": lambda shape: DoubleExchange(shape, **double_exchange_parameters(1, 1)),
    "double exchange, 3 hoppings": lambda shape: DoubleExchange(shape, **double_exchange_parameters(2, 3)),
    **MODELS,
}

# --- solvable targets with exact draws -----------------------------------------------------------------------------

DOUBLE_EXCHANGE_PAIR = {"hopping": 0.5, "coupling": 2.5, "mu": -0.4, "temperature": 0.2}


def double_exchange_pair():
    p = DOUBLE_EXCHANGE_PAIR
    return DoubleExchange((2,), p["hopping"], p["coupling"], p["mu"], p["temperature"])


# Wrong on purpose: what a model lacks must be made good by the decision.
def linear_pair(coupling=-0.8):
    return Heisenberg((2,), couplings=[coupling])


def transformer_pair(attention, n_heads, n_layers=1):
    model = EquivariantTransformer(
        (2,), n_layers, n_heads, attention=attention, initial_scale=1.0, key=jax.random.key(3)
    )
    return replaced_head(model, linear_pair(0.7))


def hmc(target, step_size, n_steps=4, integrator="leapfrog", guide=None):
    guide = target if guide is None else guide
    return MetropolisHastings(target, HamiltonianTrajectory(guide, SPHERE, step_size, n_steps, INTEGRATORS[integrator]))


def two_time_scales(target, guide, manifold, step_size, n_steps=2, n_fine=2, integrator="leapfrog"):
    integrator = INTEGRATORS[integrator]
    return MetropolisHastings(
        target, TwoTimeScaleTrajectory(target, guide, manifold, step_size, n_steps, n_fine, integrator)
    )


def microcanonical(target, manifold, step_size, n_steps=3, integrator="leapfrog", guide=None):
    guide = target if guide is None else guide
    return MetropolisHastings(
        target, MicrocanonicalTrajectory(guide, manifold, step_size, n_steps, INTEGRATORS[integrator])
    )


def slmc(target, inner, n_updates=3):
    return MetropolisHastings(target, CumulativeUpdate(inner, n_updates))


def palindrome(model):
    reflect = OverRelaxationSweep(model)
    return Sequence((reflect, HeatBathSweep(model), reflect))


def nested(target):
    """A cheap linear model proposes to a Transformer, whose chain proposes to the target."""
    better = transformer_pair("dot-product", 2)
    return slmc(target, slmc(better, HeatBathSweep(linear_pair()), 2), 3)


def network_pair():
    return random_network((2,), 2, 3, 4, seed=4)


PAIR_UPDATES = {
    "local": lambda target: LocalSweep(target, SPHERE, 0.8),
    "local, from Green's functions": lambda target: GreensFunctionSweep(target, 0.8, 2),
    "HMC, leapfrog": lambda target: hmc(target, 0.4),
    "HMC, Omelyan": lambda target: hmc(target, 0.7, 3, "omelyan"),
    "HMC, fourth order": lambda target: hmc(target, 0.7, 3, "fourth-order"),
    "HMC, two time scales": lambda target: two_time_scales(target, linear_pair(), SPHERE, 0.6, 2, 3),
    "microcanonical": lambda target: microcanonical(target, SPHERE, 0.5),
    "microcanonical, linear guide": lambda target: microcanonical(target, SPHERE, 0.7, 2, guide=linear_pair()),
    "SLMC, linear, heat bath": lambda target: slmc(target, HeatBathSweep(linear_pair())),
    "SLMC, linear, palindrome": lambda target: slmc(target, palindrome(linear_pair()), 2),
    "SLMC, linear, HMC": lambda target: slmc(target, hmc(linear_pair(), 0.6)),
    "SLMC, linear, local": lambda target: slmc(target, LocalSweep(linear_pair(), SPHERE, 1.0)),
    "SLMC, dot-product Transformer, HMC": lambda target: slmc(target, hmc(transformer_pair("dot-product", 3), 0.6)),
    "SLMC, factored Transformer, HMC": lambda target: slmc(target, hmc(transformer_pair("factored", 2, 2), 0.6, 3)),
    "SLHMC, linear": lambda target: hmc(target, 0.5, guide=linear_pair()),
    "SLHMC, Transformer": lambda target: hmc(target, 0.5, 3, "omelyan", guide=transformer_pair("dot-product", 2)),
    "SLMC, network, HMC in single precision": lambda target: slmc(
        target, hmc(network_pair(), 0.6, 3, guide=SinglePrecision(network_pair()))
    ),
    "nested SLMC": nested,
    "nested SLMC, linear in a network": lambda target: slmc(
        target, slmc(network_pair(), hmc(linear_pair(), 0.6, 3), 2), 2
    ),
    "Sequence": lambda target: Sequence((LocalSweep(target, SPHERE, 0.5), slmc(target, HeatBathSweep(linear_pair())))),
    "Repeated": lambda target: Repeated(hmc(target, 0.4), 2),
    "SLMC, labelled": lambda target: MetropolisHastings(
        target, CumulativeUpdate(HeatBathSweep(linear_pair()), 2), label_proposals=True
    ),
}

RING = (0.35, -0.25)
"""Couplings of a ring of four Heisenberg spins, weak enough to be drawn by rejection."""


def ring():
    return Heisenberg((4,), couplings=list(RING))


def other_ring():
    return Heisenberg((4,), couplings=[-0.3, 0.4])


def hot_transformer():
    return replaced_head(EquivariantTransformer((4,), 1, 2, initial_scale=1.0, key=jax.random.key(5)), other_ring())


class InOneCall(Update):
    """Several steps of an update as a ``CumulativeUpdate`` makes them, as one step."""

    update: Update
    n_steps: int = eqx.field(static=True, default=3)

    @property
    def target(self):
        return self.update.target

    @property
    def reversible(self):
        return self.update.reversible

    def step(self, key, state):
        moved = chain(key, self.update, state, self.n_steps)
        return moved, Info(jnp.ones(()), moved.log_weight - state.log_weight)


RING_UPDATES = {
    "heat bath": HeatBathSweep,
    "heat bath, three in one call": lambda target: InOneCall(HeatBathSweep(target)),
    "palindrome": palindrome,
    "over-relaxation then heat bath": lambda target: Sequence((OverRelaxationSweep(target), HeatBathSweep(target))),
    "local": lambda target: LocalSweep(target, SPHERE, 1.0),
    "HMC": lambda target: hmc(target, 0.9, 3, "omelyan"),
    "microcanonical": lambda target: microcanonical(target, SPHERE, 0.8),
    "SLMC, linear": lambda target: slmc(target, HeatBathSweep(other_ring()), 1),
    "SLMC, palindrome": lambda target: slmc(target, palindrome(other_ring()), 1),
    "SLMC, Transformer": lambda target: slmc(target, hmc(hot_transformer(), 0.6), 2),
    "SLHMC, Transformer": lambda target: hmc(target, 0.6, guide=hot_transformer()),
}

PRECISION = np.array([[2.0, 1.6], [1.6, 2.0]])


def gaussian():
    return Gaussian(jnp.asarray(PRECISION))


def other_gaussian():
    return Gaussian(jnp.asarray([[1.0, -0.4], [-0.4, 1.5]]))


def flat_hmc(target, step_size, n_steps=3, integrator=OMELYAN, guide=None):
    guide = target if guide is None else guide
    return MetropolisHastings(target, HamiltonianTrajectory(guide, Flat(), step_size, n_steps, integrator))


GAUSSIAN_UPDATES = {
    "local": lambda target: LocalSweep(target, Flat(), 1.0),
    "HMC": lambda target: flat_hmc(target, 0.8),
    "SLHMC": lambda target: flat_hmc(target, 0.8, guide=other_gaussian()),
    "HMC, two time scales": lambda target: two_time_scales(target, other_gaussian(), Flat(), 0.8, 2, 2, "omelyan"),
    "microcanonical": lambda target: microcanonical(target, Flat(), 0.8, 3, "fourth-order"),
    "SLMC, local": lambda target: slmc(target, LocalSweep(other_gaussian(), Flat(), 1.0), 3),
}


def ising():
    return Ising(jnp.asarray(0.4), jnp.asarray([0.3, -0.2, 0.1, 0.5]))


def other_ising():
    return Ising(jnp.asarray(-0.3), jnp.asarray([0.0, 0.4, 0.0, -0.2]))


ISING_UPDATES = {
    "local": lambda target: LocalSweep(target, Signs(), 1.0),
    "SLMC": lambda target: slmc(target, LocalSweep(other_ising(), Signs(), 1.0), 2),
    "nested SLMC": lambda target: slmc(target, slmc(other_ising(), LocalSweep(ising(), Signs(), 1.0), 1), 2),
}


# --- solvable targets that one step from exact draws must not change ------------------------------------------------

N_DRAWS = 16384


def cosine(i, j):
    return lambda spins: jnp.sum(spins[i] * spins[j])


RING_STATISTICS = {
    "S1·S2": cosine(0, 1),
    "S2·S3": cosine(1, 2),
    "S4·S1": cosine(3, 0),
    "S1·S3": cosine(0, 2),
    "S1·(S2×S3)": lambda spins: jnp.sum(spins[0] * jnp.cross(spins[1], spins[2])),
    "S4z": lambda spins: spins[3, 2],
}
GAUSSIAN_STATISTICS = {"x1": lambda x: x[0], "x2": lambda x: x[1], "x1 + x2": jnp.sum, "x1 - x2": lambda x: x[0] - x[1]}
STATE = {"state": lambda spins: jnp.sum(jnp.asarray(spins > 0, jnp.int64) * 2 ** jnp.arange(4))}


@functools.cache
def ring_draws():
    log_weights, bound = exact_draws.ring_of_four(RING)
    return jnp.asarray(exact_draws.by_rejection(np.random.default_rng(12), log_weights, bound, (4,), N_DRAWS))


@functools.cache
def gaussian_draws():
    return jnp.asarray(exact_draws.correlated_gaussian(np.random.default_rng(13), PRECISION, N_DRAWS))


@functools.cache
def ising_draws():
    target = ising()
    coupling, field = float(target.coupling), np.asarray(target.field)
    return jnp.asarray(exact_draws.ising_chain(np.random.default_rng(14), coupling, field, 4, N_DRAWS))


SOLVABLE = {
    "ring of four spins": Solvable(ring, ring_draws, RING_STATISTICS, RING_UPDATES),
    "Gaussian": Solvable(gaussian, gaussian_draws, GAUSSIAN_STATISTICS, GAUSSIAN_UPDATES),
    "Ising chain": Solvable(ising, ising_draws, STATE, ISING_UPDATES),
    **objects_ising.SOLVABLE,
    **objects_product.SOLVABLE,
}
WEIGHTS = {**objects_ising.WEIGHTS, **objects_product.WEIGHTS}

# The general part is tested without gauge theory where that is taken out.
if util.find_spec("slmc.systems.gauge"):
    import objects_gauge

    SOLVABLE |= objects_gauge.SOLVABLE
    WEIGHTS |= objects_gauge.WEIGHTS
if util.find_spec("slmc.systems.impurity"):
    import objects_impurity

    SOLVABLE |= objects_impurity.SOLVABLE
    WEIGHTS |= objects_impurity.WEIGHTS
