"""Self-learning hybrid Monte Carlo of a copper cell: an effective-medium energy decides, a learned potential moves."""

import jax
import numpy as np
from ase.build import bulk

from slmc import HamiltonianTrajectory, Learner, MetropolisHastings, learn, run_chains
from slmc.montecarlo import SinglePrecision
from slmc.selflearning import LearningSettings, TrainingSettings
from slmc.systems.atoms import (
    CalculatorPool,
    CalculatorSettings,
    Confined,
    Massive,
    MomentPotential,
    calculated,
    structure_of,
)

temperature, n_chains, n_steps = 600.0, 4, 100
beta = 1 / (8.617333e-5 * temperature)
structure = structure_of(bulk("Cu", cubic=True))
pool = CalculatorPool(structure.cell, CalculatorSettings("emt", n_workers=2))
target = Confined(calculated(pool, beta), beta)
manifold = Massive(structure.masses, beta, holds_centre=True)
model = MomentPotential(structure.cell, beta, reach=4.5, n_radial=6, n_channels=4, n_hidden=16, key=jax.random.key(0))


def trajectories(guide, n_steps=20):
    return MetropolisHastings(guide, HamiltonianTrajectory(SinglePrecision(guide), manifold, 4.0, n_steps))


training = TrainingSettings(n_steps=150, batch_size=32, weight_decay=0.0)
settings = LearningSettings(
    n_rounds=3, n_steps=(12, 25), n_updates=1, proposal="trajectory", label_trajectories=True, training=training
)
exact = MetropolisHastings(target, HamiltonianTrajectory(target, manifold, 8.0, 5))


def ready(model, labels):
    return model.standardised(labels.configuration)


learner = Learner(target, manifold, exact, trajectories, ready, settings)
start = structure.positions + 0.05 * np.random.default_rng(1).normal(size=(n_chains, *structure.positions.shape))
learned = learn(jax.random.key(2), learner, model, jax.numpy.asarray(start), n_thermalise=5)


def observe(state, info):
    return state.observables["energy"], info.accepted


_, (energy, accepted) = run_chains(jax.random.key(3), learned.update, learned.chains, n_steps, observe)
by_chain = np.asarray(energy).mean(axis=1)
print(f"U = {by_chain.mean():.4f} +- {by_chain.std(ddof=1) / n_chains**0.5:.4f} eV")
print(f"acceptance {np.mean(accepted):.2f}, residual {learned.reports[-1].residual:.2f}")
print(f"{pool.counts['evaluations']} exact evaluations")
