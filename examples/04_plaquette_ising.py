"""Self-learning Monte Carlo as it was first published: clusters of a learned two-body model for plaquette interactions.

Liu, Qi, Meng, Fu, PRB 95, 041101 (2017), arXiv:1610.03137. The couplings are learned from high temperature downwards.
"""

import jax
import numpy as np

from slmc import Learner, learn, run_chains
from slmc.montecarlo import Signs
from slmc.selflearning import LearningSettings, TrainingSettings, fit_linear
from slmc.systems.spins import CheckerboardSweep, Ising, PlaquetteIsing, WolffUpdate

shape, n_chains, n_steps = (16, 16), 8, 2000
configurations = Signs().random(jax.random.key(0), (n_chains, *shape))
model = Ising(shape, n_shells=1)


def solve(model, labels):
    return fit_linear(model, labels, Signs())


def observe(state, info):
    return abs(state.configuration.mean()), info.accepted


settings = LearningSettings(n_rounds=3, n_steps=200, n_updates=5, training=TrainingSettings(n_steps=0))
for temperature in (5.0, 3.5, 2.493):
    target = PlaquetteIsing(shape, coupling=1.0, plaquette_coupling=0.2, temperature=temperature)
    learner = Learner(target, Signs(), CheckerboardSweep(target), WolffUpdate, start=solve, settings=settings)
    learned = learn(jax.random.key(1), learner, model.on_lattice(shape, temperature), configurations)
    model, configurations = learned.model, learned.chains.configuration
    print(f"T = {temperature}: J_1 = {model.couplings[0]:.3f}, acceptance {learned.reports[-1].acceptance:.2f}")

_, (magnetisation, accepted) = run_chains(jax.random.key(2), learned.update, learned.chains, n_steps, observe)
by_chain = np.mean(magnetisation, axis=1)
print(f"|m| = {by_chain.mean():.4f} +- {by_chain.std(ddof=1) / n_chains**0.5:.4f}")
print(f"acceptance {np.mean(accepted):.2f}")
