"""An Anderson impurity: a small learned bath proposes, the exact weight of continuous time decides."""

import jax
import jax.numpy as jnp

from slmc import MetropolisHastings
from slmc.montecarlo import init_chains, run_chains
from slmc.selflearning import CumulativeUpdate
from slmc.systems.impurity import Anderson, BathModel, RankOneSweep, WindowSweep, fitted, of_levels, semicircle

beta, interaction = 10.0, 4.0
n_chains, n_steps = 4, 200
bath = of_levels(0.0, *semicircle(2.0, 1.0, beta))
target = Anderson(bath, beta, interaction)

# Four levels, fitted to the propagator of the bath: nothing has to be learned from samples.
levels = fitted(lambda times: bath.at_times(beta, times), beta, 4, symmetric=True)
model = BathModel(levels, target.constants)
learned = MetropolisHastings(target, CumulativeUpdate(WindowSweep(model, model.n_windows), 2))
exact = RankOneSweep(target, 200)


def observe(state, info):
    order, spins, _, _, double = state.observables["numbers"]
    return order, spins**2, double, info.accepted


states = init_chains(exact, jnp.zeros((n_chains, target.capacity, 2)))
states, _ = run_chains(jax.random.key(0), exact, states, n_steps, observe)
for name, update in (("exact updates", exact), ("learned bath", learned)):
    states = init_chains(update, states.configuration)
    states, (order, squared, double, accepted) = run_chains(jax.random.key(1), update, states, n_steps, observe)
    by_chain = double.mean(axis=1)
    print(
        f"{name}: <n> = {order.mean():.2f}, D = {by_chain.mean():.4f} +- {by_chain.std() / (n_chains - 1) ** 0.5:.4f}"
    )
    print(f"  acceptance {accepted.mean():.3f}")
