"""Atoms and molecules: the energy of any ASE calculator as the exact weight, a learned potential to propose with.

- ``structure``: atoms from any file, and frames to one; ``cell``: elements, periodic images, least distances
- ``worker``: a process with one calculator; ``pool``: several of them; ``calculated``: their energy as a target
- ``simple``: Lennard-Jones atoms and harmonic crystals in JAX
- ``potential``: the learned potential; ``repulsion``: what it has at short distances; ``calculator``: it as ASE's
- ``masses``: atoms with masses, in Å and femtoseconds
- ``pressure``: atoms whose volume fluctuates; ``path_integral``: quantum nuclei; ``ensembles``: either in a run
- ``measured``, ``pressure_measured``, ``beads_measured``: what is measured
- ``guide``: a calculator in the model's place; ``models``: either of them in a run
- ``updates``, ``labels``: trajectories, and files of what they evaluated; ``ladder``: several temperatures
- ``settings``, ``problem``: what a configuration file may say, and what a run needs to know
"""

from slmc.systems.atoms.calculated import CalculatedInCell, Confined, FromEnergy, SoftSphere, calculated
from slmc.systems.atoms.cell import Cell
from slmc.systems.atoms.masses import Massive
from slmc.systems.atoms.path_integral import BeadPotential, PathIntegral, RingPolymer
from slmc.systems.atoms.pool import CalculatorPool, CalculatorSettings
from slmc.systems.atoms.potential import MomentPotential
from slmc.systems.atoms.pressure import ConstantPressure, LogVolume, breathing
from slmc.systems.atoms.simple import HarmonicCrystal, LennardJones
from slmc.systems.atoms.structure import Structure, read_atoms, structure_of, write_frames

__all__ = [
    "BeadPotential",
    "CalculatedInCell",
    "CalculatorPool",
    "CalculatorSettings",
    "Cell",
    "Confined",
    "ConstantPressure",
    "FromEnergy",
    "HarmonicCrystal",
    "LennardJones",
    "LogVolume",
    "Massive",
    "MomentPotential",
    "PathIntegral",
    "RingPolymer",
    "SoftSphere",
    "Structure",
    "breathing",
    "calculated",
    "read_atoms",
    "structure_of",
    "write_frames",
]
