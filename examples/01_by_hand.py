import jax

from slmc import HamiltonianTrajectory, Learner, MetropolisHastings, Sphere, learn, run_chains
from slmc.selflearning import LearningSettings
from slmc.systems.spins import DoubleExchange, EquivariantTransformer
from slmc.systems.spins.observables import staggered_magnetization

shape, n_chains, n_steps = (6, 6), 8, 500
target = DoubleExchange(shape, coupling=1.0, chemical_potential=0.0, temperature=0.05)
model = EquivariantTransformer(shape, n_layers=2, n_heads=4, temperature=0.05, key=jax.random.key(0))


def hmc(guide):
    return MetropolisHastings(guide, HamiltonianTrajectory(guide, Sphere(), step_size=0.1, n_steps=5))


def observe(state, info):
    return staggered_magnetization(state.configuration), info.accepted


settings = LearningSettings(n_rounds=4, n_steps=100, n_updates=50)
learner = Learner(target, Sphere(), hmc(target), hmc, settings=settings)
start = Sphere().random(jax.random.key(1), (n_chains, *shape, 3))
learned = learn(jax.random.key(2), learner, model, start)
_, (m_st, accepted) = run_chains(jax.random.key(3), learned.update, learned.chains, n_steps, observe)
by_chain = m_st.mean(axis=1)
print(f"|m_st| = {by_chain.mean():.4f} +- {by_chain.std(ddof=1) / n_chains**0.5:.4f}")
print(f"acceptance {accepted.mean():.2f}, residual {learned.reports[-1].residual:.2f}")
