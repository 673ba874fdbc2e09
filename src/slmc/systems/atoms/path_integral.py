"""Quantum nuclei: a ring polymer of P beads, its springs moved exactly."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.montecarlo import MeasuredTarget, SiteManifold, Target
from slmc.numbers import positive

HBAR_SQUARED = 4.180159276e-3
"""ħ² in u Å² eV."""

Modes = Float[Array, "mode atom coordinate"]
"""y_k, the normal modes of the P beads of every atom; the first is √P times the centroid."""


@functools.cache
def normal_modes(n_beads: int) -> Float[np.ndarray, "bead mode"]:
    """The orthogonal C of x_j = Σ_k C_jk y_k: 1/√P, cosines and sines of 2π j k/P."""
    bead, columns = np.arange(n_beads), [np.full(n_beads, 1 / math.sqrt(n_beads))]
    for mode in range(1, n_beads):
        wave = 2 * np.pi * bead * mode / n_beads
        if 2 * mode == n_beads:
            columns.append(np.cos(np.pi * bead) / math.sqrt(n_beads))
        else:
            columns.append(math.sqrt(2 / n_beads) * (np.cos(wave) if 2 * mode < n_beads else np.sin(wave)))
    return np.stack(columns, axis=1)


def spring_constants(
    masses: Any, beta: float, n_beads: int, hbar_squared: float = HBAR_SQUARED
) -> Float[np.ndarray, "mode atom 1"]:
    """a_k = 4 m P sin²(πk/P)/(β ħ²), of ½ a_k y_k² in −log W. Raises ``ValueError`` for fewer than two beads."""
    if n_beads < 2:
        raise ValueError(f"a path integral needs at least 2 beads; got {n_beads}.")
    masses = np.asarray(positive(masses, "masses"), float)
    sines = np.sin(np.pi * np.arange(n_beads) / n_beads) ** 2
    return 4 * n_beads * sines[:, None, None] * masses[None, :, None] / (positive(beta, "beta") * hbar_squared)


def positions_of_beads(modes: Modes) -> Float[Array, "bead atom coordinate"]:
    """x_j = Σ_k C_jk y_k."""
    return jnp.einsum("jk,kac->jac", jnp.asarray(normal_modes(len(modes)), modes.dtype), modes)


class BeadPotential(Target):
    """log W = (1/P) Σ_j log W_1(x_j): the potential part of a path integral, W_1 that of one classical copy at β.

    It is the guide of a trajectory on a ``RingPolymer``, whose free motion has the springs in it.
    """

    classical: Target

    def log_weight(self, configuration: Modes) -> Float[Array, ""]:
        return jnp.mean(jax.vmap(self.classical.log_weight)(positions_of_beads(configuration)))


class PathIntegral(MeasuredTarget):
    """P beads of distinguishable particles in normal modes:

        log W(y) = −½ Σ_k a_k y_k² + (1/P) Σ_j log W_1(x_j),   x_j = Σ_k C_jk y_k

    with log W_1 = −β U. It comes with ``potential``, (1/P) Σ_j U(x_j); ``kinetic``, the centroid virial estimator
    d N/(2β) + (1/2P) Σ_j (x_j − x_c)·∂U/∂x_j with the centroid x_c and d components a particle; ``energy``, their sum;
    and ``spread``, the mean over particles of (1/P) Σ_j |x_j − x_c|², the squared radius of gyration. All beads of all
    chains are one batch for a target on the host. ``beta`` in the inverse unit of U. Tuckerman, Statistical Mechanics,
    ch. 12. What a model has to learn is in ``classical`` alone.
    """

    classical: Target
    masses: tuple[float, ...] = eqx.field(static=True)
    beta: float = eqx.field(static=True)
    n_beads: int = eqx.field(static=True)
    hbar_squared: float = eqx.field(static=True, default=HBAR_SQUARED)

    def __init__(
        self, classical: Target, masses: Any, beta: float, n_beads: int, hbar_squared: float = HBAR_SQUARED
    ) -> None:
        self.classical, self.masses = classical, tuple(float(mass) for mass in masses)
        self.beta, self.n_beads, self.hbar_squared = float(beta), int(n_beads), float(hbar_squared)
        spring_constants(self.masses, beta, n_beads, hbar_squared)  # which refuses what makes no sense

    @property
    def springs(self) -> Float[np.ndarray, "mode atom 1"]:
        """a_k."""
        return spring_constants(self.masses, self.beta, self.n_beads, self.hbar_squared)

    @property
    def driving_part(self) -> BeadPotential:
        """What kicks: springs belong to the free motion on a ``RingPolymer``."""
        return BeadPotential(self.classical)

    def free_log_weight(self, configuration: Modes) -> Float[Array, ""]:
        """−½ Σ_k a_k y_k²."""
        return -jnp.sum(jnp.asarray(self.springs, configuration.dtype) * configuration**2) / 2

    def log_weight(self, configuration: Modes) -> Float[Array, ""]:
        return self.driving_part.log_weight(configuration) + self.free_log_weight(configuration)

    def log_weight_and_observables(self, configuration: Modes) -> tuple[Float[Array, ""], dict[str, Array]]:
        log_weight, slope = jax.value_and_grad(self.driving_part.log_weight)(configuration)
        # In modes (1/P) Σ_j (x_j − x_c)·∂U/∂x_j is a sum over all but the centroid, and |x − x_c|² too.
        virial = -jnp.sum(configuration[1:] * slope[1:]) / self.beta
        n_beads, n_atoms, n_components = configuration.shape
        potential = -log_weight / self.beta
        kinetic = n_atoms * n_components / (2 * self.beta) + virial / 2
        observables = {
            "potential": potential,
            "kinetic": kinetic,
            "energy": potential + kinetic,
            "spread": jnp.sum(configuration[1:] ** 2) / (n_beads * n_atoms),
        }
        return log_weight + self.free_log_weight(configuration), observables


class RingPolymer(SiteManifold):
    """Normal modes of free ring polymers, their springs part of the free motion, which is exact:

        y(t) = y cos ωt + p sin ωt/√a,   p(t) = p cos ωt − √a y sin ωt

    for the modes with a spring, all of which turn with one ω, and y(t) = y + v p t, p(t) = p for the centroid. It keeps
    Σ a y² + p², so a trajectory guided by the ``BeadPotential`` alone errs only by the potential, however many beads
    there are. ``speeds`` are v, for the centroid 1/√(β m) in the unit of its step, and ω/√a for the others: how much a
    force ∂ log W/∂y changes p in a unit of time. Averages depend neither on them nor on ``frequency``, ω.
    """

    roots: Float[Array, "mode atom 1"]
    speeds: Float[Array, "mode atom 1"]
    frequency: float = eqx.field(static=True)
    point_ndim = 1

    def __init__(self, target: PathIntegral, centroid_speeds: Any, frequency: float) -> None:
        springs = np.asarray(target.springs)
        speeds = np.asarray(positive(centroid_speeds, "centroid_speeds"), float)
        self.frequency = float(positive(frequency, "frequency"))
        roots = np.sqrt(springs)
        rest = self.frequency / np.where(roots > 0, roots, 1.0)
        is_centroid = np.arange(len(springs))[:, None, None] == 0
        self.roots = jnp.asarray(roots)
        self.speeds = jnp.asarray(np.where(is_centroid, speeds[None, :, None], rest))

    def project(self, position, vector):
        return vector

    def impulse(self, position, force):
        """How a force ∂ log W/∂y of the guide changes the momentum in a unit of time."""
        return self.speeds * force

    def move(self, position, momentum, time):
        cosine, sine = jnp.cos(self.frequency * time), jnp.sin(self.frequency * time)
        y, p, roots = position[1:], momentum[1:], self.roots[1:]
        centroid = position[:1] + time * self.speeds[:1] * momentum[:1]
        turned = y * cosine + p * sine / roots, p * cosine - roots * y * sine
        return jnp.concatenate([centroid, turned[0]]), jnp.concatenate([momentum[:1], turned[1]])

    def perturb(self, key, position, step_size):
        return position + step_size * jax.random.normal(key, position.shape, position.dtype)

    def random(self, key, shape):
        return jax.random.normal(key, shape, jnp.float64)

    def dimension(self, position):
        return position.size

    def distance(self, position):
        return abs(0 * position).max(initial=0.0)
