"""An anharmonic oscillator by path integrals: free rings move exactly, so steps need not be shorter with many beads."""

import jax
import jax.numpy as jnp
import numpy as np

from slmc import HamiltonianTrajectory, MetropolisHastings, run_chains
from slmc.montecarlo import Target, init_chains
from slmc.systems.atoms import PathIntegral, RingPolymer

beta, n_chains, n_steps = 8.0, 64, 150
# <x^2> with as many beads, by products of matrices; m = hbar = 1
exact = {8: 0.260075, 16: 0.291095, 32: 0.301826, 64: 0.304795}


class Oscillator(Target):
    """log W = -beta (x^2 + x^4)/2."""

    def log_weight(self, x):
        return -beta * jnp.sum(x**2 + x**4) / 2


def observe(state, info):
    return jnp.sum(state.configuration**2) / len(state.configuration), info.accepted


for n_beads in exact:
    target = PathIntegral(Oscillator(), [1.0], beta, n_beads, hbar_squared=1.0)
    manifold = RingPolymer(target, [1 / np.sqrt(beta)], frequency=1.5)
    update = MetropolisHastings(target, HamiltonianTrajectory(target.driving_part, manifold, 0.3, 5))
    start = 0.3 * jax.random.normal(jax.random.key(0), (n_chains, n_beads, 1, 1))
    chains, _ = run_chains(jax.random.key(1), update, init_chains(update, start), n_steps, observe)
    _, (squares, accepted) = run_chains(jax.random.key(2), update, chains, n_steps, observe)
    by_chain = np.asarray(squares).mean(axis=1)
    error = by_chain.std(ddof=1) / n_chains**0.5
    result = f"<x^2> = {by_chain.mean():.4f} +- {error:.4f}, exactly {exact[n_beads]:.4f}"
    print(f"{n_beads} beads: {result}; acceptance {np.mean(accepted):.3f}")
