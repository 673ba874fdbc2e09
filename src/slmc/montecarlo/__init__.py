"""Markov chain Monte Carlo with no physics in it.

- ``target``: what is sampled, ``log_weight``
- ``update``: a Markov step; its state, its info, ``Sequence``, ``run``
- ``metropolis``: proposals and the exact decision
- ``local``: sweeps of one-site decisions
- ``manifolds``, ``integrators``, ``hamiltonian``: Hamiltonian trajectories (HMC, SLHMC)
- ``chains``: many chains on many devices
- ``tuning``: step sizes by dual averaging
"""

from slmc.montecarlo.chains import init_chains, over_chains, run_chains
from slmc.montecarlo.hamiltonian import HamiltonianTrajectory
from slmc.montecarlo.integrators import FOURTH_ORDER, INTEGRATORS, LEAPFROG, OMELYAN, Integrator
from slmc.montecarlo.local import LocalSweep
from slmc.montecarlo.manifolds import Flat, Manifold, Sphere
from slmc.montecarlo.metropolis import MetropolisHastings, Proposal
from slmc.montecarlo.target import (
    Configuration,
    MeasuredTarget,
    SinglePrecision,
    Target,
    evaluate,
    log_weight_and_force,
)
from slmc.montecarlo.tuning import DualAveraging, tune_step_size, with_step_size
from slmc.montecarlo.update import Info, Label, Repeated, Sequence, State, Update, accept_or_reject, run

__all__ = [
    "FOURTH_ORDER",
    "INTEGRATORS",
    "LEAPFROG",
    "OMELYAN",
    "Configuration",
    "DualAveraging",
    "Flat",
    "HamiltonianTrajectory",
    "Info",
    "Integrator",
    "Label",
    "LocalSweep",
    "Manifold",
    "MeasuredTarget",
    "MetropolisHastings",
    "Proposal",
    "Repeated",
    "Sequence",
    "SinglePrecision",
    "Sphere",
    "State",
    "Target",
    "Update",
    "accept_or_reject",
    "evaluate",
    "init_chains",
    "log_weight_and_force",
    "over_chains",
    "run",
    "run_chains",
    "tune_step_size",
    "with_step_size",
]
