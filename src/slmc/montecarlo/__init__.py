"""Markov chain Monte Carlo with no physics in it.

- ``target``: what is sampled, ``log_weight``
- ``update``: a Markov step; its state, its info, ``Sequence``, ``run``
- ``metropolis``: proposals and the exact decision
- ``host``: targets computed outside JAX
- ``local``: sweeps of one-site decisions
- ``manifolds``, ``integrators``, ``hamiltonian``: Hamiltonian trajectories (HMC, SLHMC)
- ``microcanonical``: trajectories at constant speed
- ``special_unitary``: SU(N) matrices and the manifold they form
- ``chains``: many chains on many devices
- ``tempering``: replica exchange
- ``tuning``: step sizes by dual averaging
- ``soundness``: configurations on their manifold, weights that are numbers
"""

from slmc.montecarlo.chains import init_chains, over_chains, run_chains
from slmc.montecarlo.hamiltonian import HamiltonianTrajectory, TwoTimeScaleTrajectory
from slmc.montecarlo.host import HostTarget, wants_all_together
from slmc.montecarlo.integrators import FOURTH_ORDER, INTEGRATORS, LEAPFROG, OMELYAN, Integrator
from slmc.montecarlo.local import LocalSweep
from slmc.montecarlo.manifolds import Flat, Manifold, Product, Signs, SiteManifold, Sphere
from slmc.montecarlo.metropolis import MetropolisHastings, Proposal
from slmc.montecarlo.microcanonical import MicrocanonicalTrajectory
from slmc.montecarlo.soundness import check_chains, check_on_manifold, check_weights, manifold_of
from slmc.montecarlo.special_unitary import SpecialUnitary
from slmc.montecarlo.target import (
    Configuration,
    MeasuredTarget,
    SinglePrecision,
    Target,
    driving_part,
    evaluate,
    log_weight_and_force,
)
from slmc.montecarlo.tempering import (
    ReplicaExchange,
    ReplicaInfo,
    ReplicaTarget,
    Tempered,
    round_trips,
    stacked,
    tuned_ladder,
)
from slmc.montecarlo.tuning import DualAveraging, Tuning, tune, tune_step_size, with_step_size
from slmc.montecarlo.update import (
    Info,
    Label,
    Repeated,
    Sequence,
    State,
    Update,
    accept_or_reject,
    decision_of,
    evaluations_per_step,
    run,
    step_size,
)

__all__ = [
    "FOURTH_ORDER",
    "INTEGRATORS",
    "LEAPFROG",
    "OMELYAN",
    "Configuration",
    "DualAveraging",
    "Flat",
    "HamiltonianTrajectory",
    "HostTarget",
    "Info",
    "Integrator",
    "Label",
    "LocalSweep",
    "Manifold",
    "MeasuredTarget",
    "MetropolisHastings",
    "MicrocanonicalTrajectory",
    "Product",
    "Proposal",
    "Repeated",
    "ReplicaExchange",
    "ReplicaInfo",
    "ReplicaTarget",
    "Sequence",
    "Signs",
    "SinglePrecision",
    "SiteManifold",
    "SpecialUnitary",
    "Sphere",
    "State",
    "Target",
    "Tempered",
    "Tuning",
    "TwoTimeScaleTrajectory",
    "Update",
    "accept_or_reject",
    "check_chains",
    "check_on_manifold",
    "check_weights",
    "decision_of",
    "driving_part",
    "evaluate",
    "evaluations_per_step",
    "init_chains",
    "log_weight_and_force",
    "manifold_of",
    "over_chains",
    "round_trips",
    "run",
    "run_chains",
    "stacked",
    "step_size",
    "tune",
    "tune_step_size",
    "tuned_ladder",
    "wants_all_together",
    "with_step_size",
]
