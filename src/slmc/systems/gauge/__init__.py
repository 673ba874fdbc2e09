"""Lattice gauge theory: SU(N) links, actions, fermions, updates, observables, files.

- ``links``: the gauge field, loops, staples
- ``gauge_action``: plaquette and rectangle actions, the effective action
- ``heat_bath``: heat bath and over-relaxation by checkerboard
- ``staggered_fermion``, ``wilson_fermion``, ``domain_wall``: Dirac operators; ``even_odd``: packing by parity
- ``determinant``: the exact fermion determinant; ``pseudofermions``: its Gaussian integral, HMC and RHMC;
  ``pseudofermion_product``: several of them; ``dynamical``: what they have in common
- ``guide``: what drives trajectories of self-learning hybrid Monte Carlo; ``action_change``: what trains it
- ``solvers``: conjugate gradients; ``rational``: rational approximations
- ``multiple_scales``: nested integrators; ``smearing``, ``cask_smearing``: trainable smearing
- ``observables``, ``gradient_flow``: what is measured; ``measurement``: all of it on given links
- ``configuration_files``: links from any file; ``ildg`` (in ``lime`` records) and ``nersc``: from and to other codes;
  ``stored_links``: what is verified
- ``settings``, ``problem``: what a configuration file may say, and what a run needs to know
"""

from slmc.systems.gauge.action_change import ActionChange, TrajectoryEnds
from slmc.systems.gauge.cask_smearing import CaskSmearing
from slmc.systems.gauge.configuration_files import read_links
from slmc.systems.gauge.determinant import FermionDeterminant
from slmc.systems.gauge.domain_wall import DomainWall
from slmc.systems.gauge.dynamical import Dynamical, PseudofermionTarget
from slmc.systems.gauge.gauge_action import EffectiveAction, GaugeAction
from slmc.systems.gauge.gradient_flow import flow_scales, gradient_flow
from slmc.systems.gauge.guide import FermionGuide, LoopAction
from slmc.systems.gauge.heat_bath import GaugeHeatBath
from slmc.systems.gauge.ildg import read_ildg, write_ildg
from slmc.systems.gauge.links import Links, random_links, transformed, unit_links
from slmc.systems.gauge.measurement import LinkMeasurement, measured_links, wilson_loops
from slmc.systems.gauge.multiple_scales import DrivenManifold
from slmc.systems.gauge.nersc import read_nersc, write_nersc
from slmc.systems.gauge.pseudofermion_product import PseudofermionProduct
from slmc.systems.gauge.pseudofermions import PseudofermionAction, PseudofermionTrajectory, RefreshPseudofermions
from slmc.systems.gauge.smearing import Smearing, StoutSmearing
from slmc.systems.gauge.solvers import Solver
from slmc.systems.gauge.staggered_fermion import Staggered
from slmc.systems.gauge.stored_links import BrokenConfigurationError, StoredLinks, UnverifiedLinksWarning
from slmc.systems.gauge.wilson_fermion import Wilson

__all__ = [
    "ActionChange",
    "BrokenConfigurationError",
    "CaskSmearing",
    "DomainWall",
    "DrivenManifold",
    "Dynamical",
    "EffectiveAction",
    "FermionDeterminant",
    "FermionGuide",
    "GaugeAction",
    "GaugeHeatBath",
    "LinkMeasurement",
    "Links",
    "LoopAction",
    "PseudofermionAction",
    "PseudofermionProduct",
    "PseudofermionTarget",
    "PseudofermionTrajectory",
    "RefreshPseudofermions",
    "Smearing",
    "Solver",
    "Staggered",
    "StoredLinks",
    "StoutSmearing",
    "TrajectoryEnds",
    "UnverifiedLinksWarning",
    "Wilson",
    "flow_scales",
    "gradient_flow",
    "measured_links",
    "random_links",
    "read_ildg",
    "read_links",
    "read_nersc",
    "transformed",
    "unit_links",
    "wilson_loops",
    "write_ildg",
    "write_nersc",
]
