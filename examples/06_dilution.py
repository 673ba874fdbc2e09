"""Spins on half of the sites: one effective model learned for all samples of the disorder, its couplings by distance.

Kohshiro, Nagai, J. Phys. Soc. Jpn. 90, 034711 (2021), arXiv:2005.06992. A site without a spin holds a zero vector, so
that target, model and updates are those of the full lattice; the disorder is in the configurations.
"""

import jax
import numpy as np

from slmc import (
    HamiltonianTrajectory,
    Learner,
    MetropolisHastings,
    Sphere,
    learn,
    run_chains,
)
from slmc.lattice import shells
from slmc.selflearning import LearningSettings, TrainingSettings, fit_linear
from slmc.statistics import estimate, notation
from slmc.systems.spins import DoubleExchange, Heisenberg, diluted
from slmc.systems.spins.observables import magnetization_squared

shape, n_chains, n_steps = (6, 6), 16, 400
concentration, n_samples = 0.5, 4
target = DoubleExchange(shape, coupling=1.0, temperature=0.05)
start = Sphere().random(jax.random.key(0), (n_chains, *shape, 3))
start = diluted(jax.random.key(1), start, concentration, n_samples)


def hmc(model):
    return MetropolisHastings(model, HamiltonianTrajectory(model, Sphere(), step_size=0.3, n_steps=5))


def solve(model, labels):
    return fit_linear(model, labels, Sphere())


def observe(state, info):
    return magnetization_squared(state.configuration), info.accepted


settings = LearningSettings(n_rounds=3, n_steps=100, n_updates=10, training=TrainingSettings(n_steps=0))
learner = Learner(target, Sphere(), hmc(target), hmc, start=solve, settings=settings)
learned = learn(jax.random.key(2), learner, Heisenberg(shape, temperature=0.05), start)
distances = np.sqrt(shells(shape).squared_distances[1:])
for distance, coupling in zip(distances, learned.model.couplings, strict=True):
    print(f"J({distance:.2f}) = {coupling:+.5f}")

_, (m2, accepted) = run_chains(jax.random.key(3), learned.update, learned.chains, n_steps, observe)
found = estimate(np.asarray(m2), n_samples)
print(f"acceptance {np.mean(accepted):.2f}")
print(f"m² = {notation(found.value, found.error)}, of the error Monte Carlo noise {found.monte_carlo_error:.1g}")
