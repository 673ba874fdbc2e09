"""Expensive posteriors and Boltzmann weights of vectors: a prior, a costly log-likelihood, and models that learn it.

- ``problem``: ``vector_problem``, which puts all of it together for ``slmc.run``
- ``prior``: how parameters are distributed before, their bounds, and the coordinates in which they are sampled
- ``evaluation``: functions of one configuration or of a batch, in worker processes; ``umbridge``: models on a server
- ``posterior``: the exact target, and steps of its shape (mass matrix)
- ``models``: effective models of log L, polynomials and a network
- ``proposals``: adaptive Metropolis, preconditioned Crank–Nicolson
- ``elliptic``: an inverse problem to try it with; ``settings``: what a configuration file may say
"""

from slmc.systems.vectors.elliptic import Elliptic
from slmc.systems.vectors.evaluation import Evaluations
from slmc.systems.vectors.models import Network, Polynomial
from slmc.systems.vectors.posterior import JaxFunction, Posterior, Shaped
from slmc.systems.vectors.prior import Parameter, Prior, flat, log_normal, normal, positive, uniform
from slmc.systems.vectors.problem import Likelihood, vector_problem
from slmc.systems.vectors.proposals import CrankNicolson, RandomWalk
from slmc.systems.vectors.umbridge import UMBridgeModel

__all__ = [
    "CrankNicolson",
    "Elliptic",
    "Evaluations",
    "JaxFunction",
    "Likelihood",
    "Network",
    "Parameter",
    "Polynomial",
    "Posterior",
    "Prior",
    "RandomWalk",
    "Shaped",
    "UMBridgeModel",
    "flat",
    "log_normal",
    "normal",
    "positive",
    "uniform",
    "vector_problem",
]
