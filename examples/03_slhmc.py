"""HMC and self-learning HMC: one argument differs, the guide of the trajectory."""

import jax

from slmc import HamiltonianTrajectory, MetropolisHastings, Sphere, fit_linear, init_chains, run_chains, tune_step_size
from slmc.systems.spins import DoubleExchange, Heisenberg
from slmc.systems.spins.observables import staggered_magnetization_squared

shape, n_chains, n_steps = (6, 6), 8, 200
target = DoubleExchange(shape, coupling=1.0, temperature=0.1)


def guided(guide):
    trajectory = HamiltonianTrajectory(guide, Sphere(), step_size=0.2, n_steps=5)
    return MetropolisHastings(target, trajectory, label_proposals=True)


def observe(state, info):
    return staggered_magnetization_squared(state.configuration), info.accepted, info.label


hmc = guided(target)
start = Sphere().random(jax.random.key(0), (n_chains, *shape, 3))
hmc, chains = tune_step_size(
    jax.random.key(1), hmc, init_chains(hmc, start), lambda update: update.proposal.step_size, wanted=0.8
)
chains, (m_st, accepted, labels) = run_chains(jax.random.key(2), hmc, chains, n_steps, observe)
print(f"HMC:   <m_st^2> = {m_st.mean():.4f}, acceptance {accepted.mean():.2f}")

labels = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), labels)
effective = fit_linear(Heisenberg(shape, temperature=0.1), labels, Sphere())
slhmc = guided(effective)
_, (m_st, accepted, _) = run_chains(jax.random.key(3), slhmc, chains, n_steps, observe)
print(f"SLHMC: <m_st^2> = {m_st.mean():.4f}, acceptance {accepted.mean():.2f}")
