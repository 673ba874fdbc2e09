"""A target of your own whose weight is computed outside JAX: Heisenberg spins with dipolar forces, in plain NumPy.

    H = −J Σ_⟨ij⟩ S_i·S_j + D Σ_{i<j} [S_i·S_j − 3 (S_i·r̂)(S_j·r̂)] / r³        (r: the nearest image on the torus)

The effective model is one of your own, too: exchange and dipolar forces of the first two shells. What JAX sees of the
target is a call of the host for many configurations at once.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc import Learner, LocalSweep, MetropolisHastings, Target, init_chains, learn, run_chains, testing
from slmc.montecarlo import HamiltonianTrajectory, HostTarget, Sphere
from slmc.selflearning import LearningSettings, TrainingSettings, fit_linear
from slmc.statistics import estimate, notation

shape, n_chains, n_steps = (8, 8), 8, 400
exchange, dipole, temperature = 1.0, 0.5, 0.8


def interactions() -> np.ndarray:
    """The matrix A with H = S·A S/2, over sites and components."""
    sites = np.indices(shape).reshape(2, -1).T
    away = (sites[None] - sites[:, None] + np.array(shape) // 2) % np.array(shape) - np.array(shape) // 2
    distance = np.sqrt((away**2).sum(-1)) + np.eye(len(sites))
    unit = np.concatenate([away / distance[..., None], np.zeros((*distance.shape, 1))], axis=-1)
    tensor = np.eye(3) - 3 * unit[..., :, None] * unit[..., None, :]
    tensor = dipole * tensor / distance[..., None, None] ** 3 - exchange * np.eye(3) * (distance == 1)[..., None, None]
    tensor[np.arange(len(sites)), np.arange(len(sites))] = 0
    tensor = (tensor + tensor.transpose(1, 0, 3, 2)) / 2  # the image at half an extent may lie on either side
    return tensor.transpose(0, 2, 1, 3).reshape(3 * len(sites), -1)


matrix = interactions()


def weights_and_forces(batch):
    flat = batch.reshape(len(batch), -1)
    fields = -flat @ matrix / temperature
    return (flat * fields).sum(1) / 2, fields.reshape(batch.shape)


def weights(batch):
    return weights_and_forces(batch)[0]


class ShortRanged(Target):
    """log W_eff: couplings of spins and of their components along the bond, for the first two shells."""

    couplings: Float[Array, "shell 2"]

    def log_weight(self, configuration):
        total = jnp.zeros(())
        for shell, displacements in enumerate(([(1, 0), (0, 1)], [(1, 1), (1, -1)])):
            for dx, dy in displacements:
                there = jnp.roll(configuration, (-dx, -dy), (0, 1))
                unit = jnp.array([dx, dy, 0.0]) / (dx**2 + dy**2) ** 0.5
                along = jnp.sum((configuration @ unit) * (there @ unit))
                total = total + self.couplings[shell, 0] * jnp.sum(configuration * there)
                total = total + self.couplings[shell, 1] * along
        return total


def hmc(model):
    return MetropolisHastings(model, HamiltonianTrajectory(model, Sphere(), step_size=0.2, n_steps=5))


def solve(model, labels):
    return fit_linear(model, labels, Sphere())


def observe(state, info):
    m = jnp.mean(state.configuration.reshape(-1, 3), axis=0)
    return jnp.sum(m[:2] ** 2), info.accepted


target = HostTarget(weights, weights_and_forces)
start = Sphere().random(jax.random.key(0), (n_chains, *shape, 3))
testing.check_force(jax.random.key(1), target, Sphere(), start[0])

settings = LearningSettings(n_rounds=2, n_steps=100, n_updates=5, training=TrainingSettings(n_steps=0))
learner = Learner(target, Sphere(), hmc(target), hmc, start=solve, settings=settings)
learned = learn(jax.random.key(2), learner, ShortRanged(jnp.zeros((2, 2))), start)
print("couplings\n", np.round(learned.model.couplings, 3))

_, (ours, accepted) = run_chains(jax.random.key(3), learned.update, learned.chains, n_steps, observe)
print(f"acceptance {np.mean(accepted):.2f}")
local = LocalSweep(target, Sphere(), 0.7)
chains, _ = run_chains(jax.random.key(4), local, init_chains(local, learned.chains.configuration), n_steps // 20)
_, (theirs, _) = run_chains(jax.random.key(5), local, chains, n_steps // 4, observe)
for name, series in (("self-learning", ours), ("local sweeps", theirs)):
    found = estimate(np.asarray(series))
    print(f"{name:>13}: in-plane m² = {notation(found.value, found.error)}")
