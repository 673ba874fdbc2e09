"""Impurity models: the single-impurity Anderson model in continuous time, its effective models, their updates.

- ``anderson``: the exact target, CT-AUX; ``vertices``: where its configurations live
- ``poles``: baths and the propagators that they make; ``propagator``: tables of them
- ``rank_one`` (``determinant_kernel``): exact local updates with determinants carried along
- ``levels`` (``levels_kernel``): a small learned bath, its updates window by window, and those of a bath of few levels
- ``pair_model`` (``pair_kernel``): auxiliary spins that interact in pairs
- ``network_model`` (``network_kernel``): a small network of Behler and Parrinello for every vertex
- ``hirsch_fye`` (``slice_kernel``): auxiliary spins at equidistant times, their updates and a network for them
- ``moments``: from what is measured to Green functions and self-energies
- ``measured``, ``settings``, ``problem``: what is measured, what a configuration file may say, what a run needs to know
"""

from slmc.systems.impurity.anderson import Anderson
from slmc.systems.impurity.hirsch_fye import FlipSweep, HirschFye, SliceNetwork, SliceNetworkSweep, fit_slices
from slmc.systems.impurity.levels import BathModel, LevelSweep, WindowSweep, fit_potential
from slmc.systems.impurity.network_model import NetworkModel, NetworkSweep, fit_network
from slmc.systems.impurity.pair_model import PairModel, PairSweep, fit_pairs
from slmc.systems.impurity.poles import Poles, fitted, of_levels, semicircle
from slmc.systems.impurity.rank_one import RankOneSweep
from slmc.systems.impurity.vertices import Circle

__all__ = [
    "Anderson",
    "BathModel",
    "Circle",
    "FlipSweep",
    "HirschFye",
    "LevelSweep",
    "NetworkModel",
    "NetworkSweep",
    "PairModel",
    "PairSweep",
    "Poles",
    "RankOneSweep",
    "SliceNetwork",
    "SliceNetworkSweep",
    "WindowSweep",
    "fit_network",
    "fit_pairs",
    "fit_potential",
    "fit_slices",
    "fitted",
    "of_levels",
    "semicircle",
]
