"""A target of your own whose weight is computed outside JAX: Heisenberg spins with dipolar forces, in plain NumPy.

    H = −J Σ_⟨ij⟩ S_i·S_j + D Σ_{i<j} [S_i·S_j − 3 (S_i·r̂)(S_j·r̂)] / r³        (r: the nearest image on the torus)

The effective model is one of your own, too: exchange and dipolar forces of the first two shells. What JAX sees of the
target is a call of the host for many configurations at once. The run is one like those of the command line, with
records, checkpoints and a report; started again, this script continues it.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import slmc
from slmc import HamiltonianTrajectory, MetropolisHastings, Sphere, Target, fit_linear, testing
from slmc.montecarlo import HostTarget
from slmc.statistics import notation
from slmc.system import Fit, Observable, Problem

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


def start(key, n_chains):
    return Sphere().random(key, (n_chains, *shape, 3))


def in_plane(configuration):
    m = jnp.mean(configuration.reshape(-1, 3), axis=0)
    return jnp.sum(m[:2] ** 2)


target = HostTarget(weights, weights_and_forces)
testing.check_force(jax.random.key(1), target, Sphere(), start(jax.random.key(0), 1)[0])

problem = Problem(
    target=target,
    manifold=Sphere(),
    start=start,
    exact=hmc,
    observables=(
        Observable(
            "in_plane_magnetization_squared",
            in_plane,
            description="m_x² + m_y²",
            words="in-plane magnetization squared",
            mathtext=r"$m_\parallel^2$",
            html="<i>m</i><sub>∥</sub><sup>2</sup>",
            slow=True,
        ),
    ),
    model=ShortRanged(jnp.zeros((2, 2))),
    inner={"trajectories": hmc},
    fit=Fit(solve=solve),
)
settings = {
    "title": "Exchange and dipolar forces on the square lattice",
    "learning": {"n_rounds": 2, "n_steps": 100, "training_steps": 0},
    "inner.n_updates": 5,
    "measurement": {"n_chains": n_chains, "n_steps": n_steps},
    "baseline.n_steps": n_steps,
}
directory = Path("dipolar")
if directory.exists():
    result = slmc.resume(directory, problem, quiet=True)
else:
    result = slmc.run(problem, settings, out=directory, quiet=True)

print("couplings\n", np.round(result.model.couplings, 3))
print(f"acceptance {result.summary['acceptance']:.2f}, verdict {result.verdict}")
for name, summary in (("self-learning", result.summary), ("exact chain", result.summary["baseline"])):
    found = summary["observables"]["in_plane_magnetization_squared"]
    each = summary["ess_per_exact_evaluation"]
    print(
        f"{name:>13}: m² = {notation(found['value'], found['error'])}, {each or 0:.3f} effective samples an evaluation"
    )
