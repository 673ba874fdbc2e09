"""A harmonic crystal at constant pressure: a guide that is 30 per cent too stiff proposes, averages are exact."""

import jax
import jax.numpy as jnp
import numpy as np

from slmc import HamiltonianTrajectory, MetropolisHastings, run_chains
from slmc.montecarlo import init_chains
from slmc.systems.atoms import ConstantPressure, breathing
from slmc.systems.atoms.pressure import GIGAPASCAL

n_atoms, beta, volume, bulk_modulus, pressure = 6, 4.0, 50.0, 0.05, 1.0
n_chains, n_steps = 32, 150
places = jnp.asarray(np.random.default_rng(0).normal(size=(n_atoms, 3)))


def crystal(stiffness):
    """U = (k/2) sum |r - (V/V0)^(1/3) s0|^2 + B (V - V0)^2 / 2 V0, in eV and Angstrom."""

    def energy(positions, now):
        away = positions - jnp.cbrt(now / volume) * places
        return stiffness / 2 * jnp.sum(away**2) + bulk_modulus * (now - volume) ** 2 / (2 * volume)

    return energy


target, guide = (ConstantPressure(crystal(k), n_atoms, beta, pressure, volume) for k in (1.5, 1.95))
manifold = breathing(np.full(n_atoms, 12.0), beta, rate=0.06)
update = MetropolisHastings(target, HamiltonianTrajectory(guide, manifold, 4.0, 8))


def observe(state, info):
    return state.observables["volume"], info.accepted


start = {"scaled": jnp.tile(places[None], (n_chains, 1, 1)), "log_volume": jnp.zeros(n_chains)}
chains, _ = run_chains(jax.random.key(1), update, init_chains(update, start), n_steps, observe)
_, (volumes, accepted) = run_chains(jax.random.key(2), update, chains, n_steps, observe)
by_chain = np.asarray(volumes).mean(axis=1)

# p(V) is proportional to exp(-beta [P V + B (V - V0)^2 / 2 V0]), whatever N and k are.
grid = np.linspace(1e-3, 6 * volume, 20001)
log_p = -beta * (pressure * GIGAPASCAL * grid + bulk_modulus * (grid - volume) ** 2 / (2 * volume))
p = np.exp(log_p - log_p.max())
error = by_chain.std(ddof=1) / n_chains**0.5
print(f"V = {by_chain.mean():.3f} +- {error:.3f} A^3, exactly {np.sum(p * grid) / p.sum():.3f}")
print(f"acceptance {np.mean(accepted):.2f}")
