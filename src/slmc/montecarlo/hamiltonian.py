"""Hamiltonian trajectories: one class for hybrid (Hamiltonian) and self-learning hybrid Monte Carlo."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo.integrators import LEAPFROG, Integrator, follow, integrate, integrate_labelled, kicks
from slmc.montecarlo.manifolds import Manifold, squared_norm
from slmc.montecarlo.metropolis import Proposal
from slmc.montecarlo.target import Configuration, Target, driving_part
from slmc.montecarlo.update import Label, same
from slmc.numbers import positive, positive_count


class HamiltonianTrajectory(Proposal):
    """Follows H = p²/2 − log W_guide(x) from a fresh Gaussian momentum; log proposal ratio K(p) − K(p').

    ``MetropolisHastings(target, HamiltonianTrajectory(guide=target, …))`` is HMC (Duane et al., Phys. Lett.
    B 195, 216 (1987)); with ``guide=effective`` it is SLHMC (Nagai, Okumura, Kobayashi, Shiga,
    arXiv:1909.02255): only the guide differs, the decision stays with the target. Reversible and volume
    preserving for any guide and any step size.

    Raises ``ValueError`` for fewer than one step and a step size that is not positive.

    ``step_size`` is in units of time of the Hamiltonian above (mass one); a trajectory costs ``n_steps`` times
    the integrator's kicks in forces of the guide.
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
        position, arrived = integrate(
            self.integrator, self.guide, self.manifold, configuration, momentum, self.step_size, self.n_steps
        )
        return position, (squared_norm(momentum) - squared_norm(arrived)) / 2

    def propose_labelled(
        self, key: Key[Array, ""], configuration: Configuration
    ) -> tuple[Configuration, Float[Array, ""], Label]:
        """``propose``, with the labels of the guide on the way, ``n_forces`` of them."""
        momentum = self.manifold.draw_momentum(key, configuration)
        start = self.integrator, self.guide, self.manifold, configuration, momentum
        position, arrived, seen = integrate_labelled(*start, self.step_size, self.n_steps)
        log_proposal_ratio = (squared_norm(momentum) - squared_norm(arrived)) / 2
        return position, log_proposal_ratio, Label(*seen)

    @property
    def n_forces(self) -> int:
        """Forces of the guide that one trajectory evaluates."""
        return self.n_steps * len(self.integrator.kicks)

    def evaluations_of(self, target: Target) -> int:
        """Evaluations of a target that one trajectory makes: its forces if the target, or what drives it, is the
        guide."""
        return self.n_forces if same(self.guide, target) or same(self.guide, driving_part(target)) else 0


class TwoTimeScaleTrajectory(Proposal):
    """Follows H = p²/2 − log W(x) with the cheap part of the force on a finer time scale.

    The force of a ``guide`` acts ``n_fine`` times in each free motion of the outer integrator, whose kicks are the
    rest, the force of ``target`` less that of the guide: Sexton, Weingarten, Nucl. Phys. B 380, 665 (1992). Where the
    guide is close the rest is weak, and steps can be as long as it allows, not as the whole force does. Any guide is
    exact: the map is reversible and preserves volume whatever it is, and the decision is the target's.

    ``target`` is the target that decides. ``step_size`` is that of the outer steps. A trajectory costs ``n_steps``
    times the outer integrator's kicks in forces of the target.
    """

    target: Target
    guide: Target
    manifold: Manifold
    step_size: Float[Array, ""] = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float64))
    n_steps: int = eqx.field(static=True, default=5)
    n_fine: int = eqx.field(static=True, default=4)
    integrator: Integrator = eqx.field(static=True, default=LEAPFROG)

    def propose(self, key: Key[Array, ""], configuration: Configuration) -> tuple[Configuration, Float[Array, ""]]:
        momentum = self.manifold.draw_momentum(key, configuration)
        position, arrived = follow(
            self.integrator,
            kicks(self._rest, self.manifold),
            self._fine,
            (configuration, momentum),
            self.step_size,
            self.n_steps,
        )
        return position, (squared_norm(momentum) - squared_norm(arrived)) / 2

    def _rest(self, position: Configuration) -> Configuration:
        """The force that the guide lacks."""
        return jax.grad(lambda x: self.target.log_weight(x) - self.guide.log_weight(x))(position)

    def _fine(
        self, position: Configuration, momentum: Configuration, time: Float[Array, ""]
    ) -> tuple[Configuration, Configuration]:
        """Motion in the guide's force alone."""
        return integrate(LEAPFROG, self.guide, self.manifold, position, momentum, time / self.n_fine, self.n_fine)

    @property
    def n_forces(self) -> int:
        """Forces of the target that one trajectory evaluates."""
        return self.n_steps * len(self.integrator.kicks)

    def evaluations_of(self, target: Target) -> int:
        """Evaluations of a target that one trajectory makes: its forces if it is the target that decides."""
        return self.n_forces if same(self.target, target) else 0
