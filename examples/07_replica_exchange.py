"""Replica exchange of self-learning updates: a model for every temperature, and the ladder tuned while learning."""

import jax
import numpy as np

from slmc import HamiltonianTrajectory, Learner, MetropolisHastings, Sphere, run_chains
from slmc.montecarlo import round_trips
from slmc.selflearning import LearningSettings, TrainingSettings, fit_linear, learn_ladder
from slmc.statistics import estimate, notation
from slmc.systems.spins import DoubleExchange, Heisenberg
from slmc.systems.spins.observables import staggered_magnetization_squared

shape, n_chains, n_steps = (4, 4), 4, 500
temperatures = (0.4, 0.2, 0.1, 0.05)


def hmc(model):
    return MetropolisHastings(model, HamiltonianTrajectory(model, Sphere(), step_size=0.3, n_steps=5))


def solve(model, labels):
    return fit_linear(model, labels, Sphere())


settings = LearningSettings(n_rounds=2, n_steps=50, n_updates=10, training=TrainingSettings(n_steps=0))


def learner_at(temperature):
    target = DoubleExchange(shape, coupling=2.0, temperature=temperature)
    return Learner(target, Sphere(), hmc(target), hmc, start=solve, settings=settings)


def observe(state, info):
    ordered = jax.vmap(staggered_magnetization_squared)(state.configuration)
    return ordered, info.infos.accepted, info.swapped


start = Sphere().random(jax.random.key(0), (n_chains, len(temperatures), *shape, 3))
learned = learn_ladder(jax.random.key(1), learner_at, Heisenberg(shape), temperatures, start, n_rounds=3)
for report in learned.reports:
    print("ladder", report.temperatures.round(3), "swaps", report.swap_acceptance.round(2))

_, (m2, accepted, swapped) = run_chains(jax.random.key(2), learned.update, learned.chains, n_steps, observe)
for replica, temperature in enumerate(learned.temperatures):
    found = estimate(np.asarray(m2)[:, :, replica])
    acceptance = np.mean(np.asarray(accepted)[:, :, replica])
    print(f"T = {temperature:.3f}: m_st² = {notation(found.value, found.error)}, acceptance {acceptance:.2f}")
trips = sum(round_trips(one).n_round_trips for one in np.asarray(swapped))
print(f"{trips} round trips of {n_chains * len(temperatures)} walkers in {n_steps} steps")
