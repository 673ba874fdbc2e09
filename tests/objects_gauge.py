"""Gauge fields on a 2×2 torus, drawn by rejection from the Haar measure: actions, determinants, their updates."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import reference_gauge as reference
from slmc.montecarlo import OMELYAN, HamiltonianTrajectory, MetropolisHastings, Sequence, SpecialUnitary
from slmc.montecarlo.special_unitary import as_matrices
from slmc.selflearning import CumulativeUpdate
from slmc.systems.gauge import (
    EffectiveAction,
    FermionDeterminant,
    GaugeAction,
    GaugeHeatBath,
    Staggered,
    StoutSmearing,
    Wilson,
    random_links,
    transformed,
)
from slmc.systems.gauge.links import rectangle
from tables import Solvable, Weight, WithoutRatio

TORUS, BETA, MASS, FLAVOURS = (2, 2), 1.2, 0.4, 3.0
MANIFOLD = SpecialUnitary()
N_DRAWS = 8192


def loops(links):
    return rectangle(as_matrices(links), 0, 1).reshape(-1)


def long_loop(links):
    return rectangle(as_matrices(links), 0, 1, (2, 1))[0, 0]


def polyakov(direction):
    def value(links):
        u = links[direction]
        a = jax.lax.complex(u[..., 0, :, :], u[..., 1, :, :])
        first, second = (a[0, 0], a[1, 0]) if direction == 0 else (a[0, 0], a[0, 1])
        return jnp.trace(first @ second).real

    return value


STATISTICS = {
    "plaquette 1": lambda links: loops(links)[0],
    "plaquette 4": lambda links: loops(links)[3],
    "sum": lambda links: jnp.sum(loops(links)),
    "rectangle": long_loop,
    "Polyakov 0": polyakov(0),
    "Polyakov 1": polyakov(1),
    "link": lambda links: links[1, 0, 1, 0, 0, 0],
}


def _drawn(seed, n_draws):
    return reference.weighted_draws(
        np.random.default_rng(seed),
        lambda u: BETA * np.sum(reference.torus_plaquettes(u), (1, 2)),
        4 * BETA,
        TORUS,
        2,
        n_draws,
    )


@functools.cache
def gauge_draws():
    return jnp.asarray(reference.stored(_drawn(1, N_DRAWS)))


@functools.cache
def many_draws():
    """Twice as many, as complex matrices, of which determinants keep a part."""
    return _drawn(2, 2 * N_DRAWS)


def kept_by_determinant(u, mass, n_flavours):
    """Draws of the gauge action, kept with a probability proportional to their determinant."""
    return kept_by(u, n_flavours / 4 * np.linalg.slogdet(reference.staggered_matrices(u, mass))[1])


def kept_by(u, log_weights):
    """Draws kept with a probability proportional to their weight."""
    log_uniform = np.log(np.random.default_rng(3).uniform(size=len(u)))
    return jnp.asarray(reference.stored(u[log_uniform < log_weights - log_weights.max()]))


@functools.cache
def fermion_draws():
    return kept_by_determinant(many_draws(), MASS, FLAVOURS)


def hmc(target, step_size=0.35, n_steps=4, guide=None):
    guide = target if guide is None else guide
    return MetropolisHastings(target, HamiltonianTrajectory(guide, MANIFOLD, step_size, n_steps, OMELYAN))


def heat_bath(target):
    reflect = GaugeHeatBath(target, over_relaxation=True)
    return Sequence((reflect, GaugeHeatBath(target), reflect))


def effective():
    """Wrong on purpose: what it lacks must be made good by the decision."""
    return EffectiveAction(TORUS, 2, 0.7)


def effective_loops():
    """With every term that an effective action can have, none of them right."""
    model = EffectiveAction(TORUS, 2, 0.7, rectangles=True, polyakov_loops=True)
    return eqx.tree_at(lambda m: (m.rectangle, m.polyakov), model, (jnp.asarray(0.1), jnp.asarray([0.2, -0.3])))


def gauge_target():
    return GaugeAction(TORUS, 2, BETA)


def fermion_target(smearing=None):
    return FermionDeterminant(gauge_target(), Staggered(TORUS, 2, MASS), FLAVOURS, smearing)


def smeared_guide():
    return fermion_target(StoutSmearing(1, ("plaquette",), [[0.2]]))


def slmc(target, inner, n_updates=1):
    return MetropolisHastings(target, CumulativeUpdate(inner, n_updates))


class HalfStrength(GaugeHeatBath):
    """Wrong: the factor 2 of Re tr = 2 a_0 forgotten."""

    def _renewed(self, key, link, field, pairs, strength):
        return GaugeHeatBath._renewed(self, key, link, field, pairs, strength / 2)


SOLVABLE = {
    "gauge action": Solvable(
        gauge_target,
        gauge_draws,
        STATISTICS,
        {
            "heat bath": GaugeHeatBath,
            "over-relaxation": lambda target: Sequence((GaugeHeatBath(target, True), GaugeHeatBath(target))),
            "HMC": hmc,
            "SLMC, heat bath": lambda target: slmc(target, heat_bath(effective())),
        },
        {
            "heat bath of half the strength": HalfStrength,
            "SLMC without its ratio": lambda target: MetropolisHastings(
                target, WithoutRatio(CumulativeUpdate(heat_bath(effective()), 1))
            ),
        },
    ),
    "fermion determinant": Solvable(
        fermion_target,
        fermion_draws,
        STATISTICS,
        {
            "HMC": hmc,
            "SLMC, heat bath": lambda target: slmc(target, heat_bath(effective())),
            "SLMC, HMC": lambda target: slmc(target, hmc(effective_loops(), 0.5, 3), 2),
            "SLHMC, smeared": lambda target: hmc(target, guide=smeared_guide()),
        },
        {
            "SLMC without the fermions in its decision": lambda target: slmc(gauge_target(), heat_bath(effective())),
        },
    ),
}


def effective_action(shape, n_colours):
    """All terms, with random coefficients."""
    model = EffectiveAction(shape, n_colours, 2.1, rectangles=True, polyakov_loops=True)
    coefficients = jnp.asarray(-0.3), jnp.asarray(np.linspace(-0.5, 0.7, len(shape))), jnp.asarray(5.0)
    return eqx.tree_at(lambda m: (m.rectangle, m.polyakov, m.constant), model, coefficients)


def weight(target, shape, n_colours):
    links = random_links(jax.random.key(4), shape, n_colours)
    g = MANIFOLD.random(jax.random.key(6), (*shape, 2, n_colours, n_colours))
    return Weight(target, MANIFOLD, links, (lambda u: transformed(u, g),))


WEIGHTS = {
    "gauge action, SU(4)": lambda: weight(GaugeAction((2, 3), 4, 2.3), (2, 3), 4),
    "gauge action, Iwasaki": lambda: weight(GaugeAction((3, 4), 2, 2.3, "Iwasaki"), (3, 4), 2),
    "effective action": lambda: weight(effective_action((2, 3, 2, 2), 2), (2, 3, 2, 2), 2),
    "staggered determinant": lambda: weight(fermion_target(), TORUS, 2),
    "Wilson determinant": lambda: weight(
        FermionDeterminant(GaugeAction(TORUS, 3, 2.3), Wilson(TORUS, 3, 0.15), 2.0), TORUS, 3
    ),
}
