"""Multiple time scales: cheap forces integrated with finer steps inside the drifts of dear ones."""

import equinox as eqx

from slmc.montecarlo.integrators import LEAPFROG, Integrator, integrate
from slmc.montecarlo.manifolds import Manifold, impulse
from slmc.montecarlo.target import Target
from slmc.numbers import positive_count


class DrivenManifold(Manifold):
    """A manifold on which free motion is replaced by motion in the potential of a guide: −log W_guide.

    A trajectory of another guide on it is the nested integrator of Sexton, Weingarten, Nucl. Phys. B 380, 665 (1992):
    every drift is ``n_steps`` steps of ``integrator``. Nest it for more than two scales. Reversible and volume
    preserving because those steps are. Everything else is that of the manifold. Raises ``ValueError`` for fewer than
    one step.
    """

    manifold: Manifold
    guide: Target
    n_steps: int = eqx.field(static=True, default=4)
    integrator: Integrator = eqx.field(static=True, default=LEAPFROG)

    def __check_init__(self) -> None:
        positive_count(self.n_steps, "n_steps")

    def project(self, position, vector):
        return self.manifold.project(position, vector)

    def impulse(self, position, force):
        return impulse(self.manifold, position, force)

    def move(self, position, momentum, time):
        step = time / self.n_steps
        return integrate(self.integrator, self.guide, self.manifold, position, momentum, step, self.n_steps)

    def perturb(self, key, position, step_size):
        return self.manifold.perturb(key, position, step_size)

    def random(self, key, shape):
        return self.manifold.random(key, shape)

    def draw_momentum(self, key, position):
        return self.manifold.draw_momentum(key, position)

    def dimension(self, position):
        return self.manifold.dimension(position)

    def n_points(self, configuration):
        return self.manifold.n_points(configuration)

    def perturb_point(self, key, position, point, step_size):
        return self.manifold.perturb_point(key, position, point, step_size)

    @property
    def largest_step(self):
        return self.manifold.largest_step

    def distance(self, position):
        return self.manifold.distance(position)
