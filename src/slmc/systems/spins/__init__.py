"""Classical spins: the double-exchange model, its effective models, their sweeps and observables.

- ``double_exchange``: the exact target; ``hermitian``: eigenvalues only
- ``pole_weight``: its weight without a diagonalisation; ``poles`` (found by ``rational``): sums over levels as sums
over frequencies; ``elimination``: the order of sites; ``pole_kernel`` and ``spin_blocks``: the compiled factorisation
- ``green_sweep`` (``green_kernel``): local sweeps of it from Green's functions
- ``heisenberg``: the linear effective model; ``sweeps``: heat bath and over-relaxation for it
- ``transformer``: the equivariant Transformer
- ``network``: the equivariant network of position-only ``filters``; on CPUs ``compiled_network`` (``network_kernel``)
- ``ising``: two-body and plaquette models of Ising spins; ``checkerboard`` and ``clusters`` (``native``): updates
- ``parameters``: what several models check alike
- ``dilution``: lattices with spins on a share of their sites
- ``observables``: functions of one configuration
"""

from slmc.systems.spins.checkerboard import CheckerboardSweep
from slmc.systems.spins.clusters import SwendsenWangProposal, SwendsenWangUpdate, WolffProposal, WolffUpdate
from slmc.systems.spins.dilution import diluted
from slmc.systems.spins.double_exchange import DoubleExchange
from slmc.systems.spins.green_sweep import GreensFunctionSweep
from slmc.systems.spins.heisenberg import Heisenberg
from slmc.systems.spins.ising import Ising, IsingTarget, PlaquetteIsing
from slmc.systems.spins.network import EquivariantNetwork
from slmc.systems.spins.sweeps import HeatBathSweep, OverRelaxationSweep
from slmc.systems.spins.transformer import EquivariantTransformer

__all__ = [
    "CheckerboardSweep",
    "DoubleExchange",
    "EquivariantNetwork",
    "EquivariantTransformer",
    "GreensFunctionSweep",
    "HeatBathSweep",
    "Heisenberg",
    "Ising",
    "IsingTarget",
    "OverRelaxationSweep",
    "PlaquetteIsing",
    "SwendsenWangProposal",
    "SwendsenWangUpdate",
    "WolffProposal",
    "WolffUpdate",
    "diluted",
]
