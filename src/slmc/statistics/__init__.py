"""Series in, estimates out: named wrappers over arviz-stats and pymbar.

- ``quantities``: a mean with error, effective samples and R-hat; its verdict; how it is written
- ``estimates``: those of (chain, draw) arrays; whether chains moved
- ``running``: series that grow without end, in constant memory
- ``precision``: when a run that stops at a wanted error may stop
- ``jackknife``: errors of quantities that are no means
- ``disorder``: averages over quenched disorder
- ``autocorrelations``: how long a series remembers
- ``reweighting``: averages at parameters between those sampled
"""

from slmc.statistics.autocorrelations import autocorrelation, autocorrelation_time
from slmc.statistics.disorder import disorder_average, samples_of
from slmc.statistics.estimates import estimate, has_moved
from slmc.statistics.jackknife import jackknife
from slmc.statistics.precision import is_known_to
from slmc.statistics.quantities import Estimate, notation
from slmc.statistics.reweighting import reweighted
from slmc.statistics.running import RunningSeries

__all__ = [
    "Estimate",
    "RunningSeries",
    "autocorrelation",
    "autocorrelation_time",
    "disorder_average",
    "estimate",
    "has_moved",
    "is_known_to",
    "jackknife",
    "notation",
    "reweighted",
    "samples_of",
]
