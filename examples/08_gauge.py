"""SU(2) gauge theory with four staggered flavours: HMC, then self-learning Monte Carlo with an effective action."""

import jax

from slmc import HamiltonianTrajectory, Learner, MetropolisHastings, init_chains, learn, run_chains
from slmc.montecarlo import OMELYAN, SpecialUnitary
from slmc.selflearning import LearningSettings, TrainingSettings, fit_linear
from slmc.systems.gauge import EffectiveAction, FermionDeterminant, GaugeAction, Staggered, random_links
from slmc.systems.gauge.observables import plaquette, polyakov_loop, staggered_condensate

shape, n_chains, n_steps = (4, 4, 4, 4), 4, 100
operator = Staggered(shape, n_colours=2, mass=0.5)
target = FermionDeterminant(GaugeAction(shape, n_colours=2, beta=2.7), operator, n_flavours=4)


def hmc(guide):
    return MetropolisHastings(guide, HamiltonianTrajectory(guide, SpecialUnitary(), 0.15, 5, OMELYAN))


def solved(model, labels):
    return fit_linear(model, labels, SpecialUnitary())


def observe(state, info):
    condensate = staggered_condensate(operator, state.observables["trace_inverse"])
    return plaquette(state.configuration), polyakov_loop(state.configuration).real, condensate, info.accepted


def show(name, observed):
    by_chain = [series.mean(axis=1) for series in observed]
    means = ", ".join(f"{one.mean():.4f} +- {one.std(ddof=1) / n_chains**0.5:.4f}" for one in by_chain[:3])
    print(f"{name}: plaquette, Polyakov loop, condensate {means}; acceptance {by_chain[3].mean():.2f}")


start = random_links(jax.random.key(0), shape, 2, n_chains)
exact = hmc(target)
states, _ = run_chains(jax.random.key(1), exact, init_chains(exact, start), 20, observe)
states, observed = run_chains(jax.random.key(2), exact, states, n_steps, observe)
show("HMC", observed)

settings = LearningSettings(n_rounds=2, n_steps=30, n_updates=5, training=TrainingSettings(n_steps=0))
learner = Learner(target, SpecialUnitary(), exact, hmc, start=solved, settings=settings)
model = EffectiveAction(shape, n_colours=2, beta=2.7, rectangles=True, polyakov_loops=True)
learned = learn(jax.random.key(3), learner, model, states.configuration, n_thermalise=2)
print(f"beta_plaq {learned.model.plaquette:.3f}, beta_rect {learned.model.rectangle:.4f}, residual", end=" ")
print(f"{learned.reports[-1].residual:.2f}")
_, observed = run_chains(jax.random.key(4), learned.update, learned.chains, n_steps, observe)
show("SLMC", observed)
