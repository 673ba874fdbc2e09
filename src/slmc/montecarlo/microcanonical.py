"""Microcanonical trajectories: motion at constant speed, adjusted by a Metropolis decision."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo.integrators import LEAPFROG, Integrator, follow
from slmc.montecarlo.manifolds import Manifold, squared_norm
from slmc.montecarlo.metropolis import Proposal
from slmc.montecarlo.target import Configuration, Target
from slmc.montecarlo.update import same
from slmc.numbers import positive, positive_count


class MicrocanonicalTrajectory(Proposal):
    """Moves at constant speed in a direction that turns towards the force of a guide; the direction is drawn afresh.

    With u a unit tangent vector, g = ∇ log W_guide and d the dimension of the manifold,

        dx/dt = √d u,      du/dt = √d (1 − u uᵀ) g / (d − 1),
        log proposal ratio = −(d − 1) Σ_kicks log(cosh δ + u·e sinh δ),      e = g/|g|,  δ = √d |g| time/(d − 1),

    which is what the kicks, each solved exactly, do to the volume of directions. Robnik, De Luca, Silverstein, Seljak,
    J. Mach. Learn. Res. 24, 311 (2023); with a decision: Robnik, Cohn-Gordon, Seljak, arXiv:2503.01707. On curved
    manifolds free motion is along geodesics, which keep |u| and volume. Reversible for any guide and any step size.

    ``step_size`` is in the units of a ``HamiltonianTrajectory``, whose momenta have the mean square √d² = d. Raises
    ``ValueError`` for fewer than one step and a step size that is not positive. Needs two dimensions or more: in one
    there are no directions, and every proposal is rejected.
    """

    guide: Target
    manifold: Manifold
    step_size: Float[Array, ""] = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float64))
    n_steps: int = eqx.field(static=True, default=5)
    integrator: Integrator = eqx.field(static=True, default=LEAPFROG)

    def __check_init__(self) -> None:
        positive(self.step_size, "step_size")
        positive_count(self.n_steps, "n_steps")

    def propose(self, key: Key[Array, ""], configuration: Configuration) -> tuple[Configuration, Float[Array, ""]]:
        momentum = self.manifold.draw_momentum(key, configuration)
        speed = jnp.sqrt(jnp.asarray(self.manifold.dimension(configuration), jnp.float64))
        start = configuration, (_scaled(momentum, speed / jnp.sqrt(squared_norm(momentum))), jnp.zeros(()))
        position, (_, growth) = follow(self.integrator, self._kick, self._move, start, self.step_size, self.n_steps)
        return position, -growth

    def _move(
        self, position: Configuration, carried: tuple[Configuration, Array], time: Float[Array, ""]
    ) -> tuple[Configuration, tuple[Configuration, Array]]:
        velocity, growth = carried
        position, velocity = self.manifold.move(position, velocity, time)
        return position, (velocity, growth)

    def _kick(
        self, position: Configuration, carried: tuple[Configuration, Array], time: Float[Array, ""]
    ) -> tuple[Configuration, Array]:
        """The velocity √d u after a kick, and the sum of what kicks did to volume."""
        velocity, growth = carried
        dimension = jnp.asarray(self.manifold.dimension(position), jnp.float64)
        speed = jnp.sqrt(dimension)
        force = self.manifold.project(position, jax.grad(self.guide.log_weight)(position))
        strength = jnp.sqrt(squared_norm(force))
        # Against the force for a negative time, which some integrators have.
        towards = _scaled(force, jnp.where(time < 0, -1.0, 1.0) / jnp.where(strength > 0, strength, 1.0))
        cosine = jnp.clip(_product(towards, velocity) / speed, -1.0, 1.0)
        delta = speed * strength * jnp.abs(time) / (dimension - 1)
        # All hyperbolic functions times exp(−δ), lest they overflow.
        decayed, twice = jnp.exp(-delta), jnp.exp(-2 * delta)
        scale = jnp.maximum((1 + twice) / 2 + cosine * (1 - twice) / 2, jnp.finfo(jnp.float64).tiny)
        along = speed * ((1 - twice) / 2 + cosine * ((1 + twice) / 2 - decayed))
        turned = jax.tree.map(lambda u, e: u * decayed + e * along, velocity, towards)
        turned = _scaled(turned, speed / jnp.sqrt(squared_norm(turned)))
        return turned, growth + (dimension - 1) * (delta + jnp.log(scale))

    @property
    def n_forces(self) -> int:
        """Forces of the guide that one trajectory evaluates."""
        return self.n_steps * len(self.integrator.kicks)

    def evaluations_of(self, target: Target) -> int:
        """Evaluations of a target that one trajectory makes: its forces if the target is the guide."""
        return self.n_forces if same(self.guide, target) else 0


def _scaled(vector: Configuration, factor: Array) -> Configuration:
    return jax.tree.map(lambda leaf: factor * leaf, vector)


def _product(one: Configuration, other: Configuration) -> Float[Array, ""]:
    first, *others = (jnp.sum(a * b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    return sum(others, first)
