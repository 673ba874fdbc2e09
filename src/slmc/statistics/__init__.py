"""Series in, estimates out: named wrappers over arviz-stats and pymbar.

- ``estimates``: mean, error, effective samples, R-hat of (chain, draw) arrays; jackknife; averages over
  quenched disorder; autocorrelation
- ``reweighting``: averages at parameters between those sampled
"""

from slmc.statistics.estimates import (
    Estimate,
    autocorrelation,
    autocorrelation_time,
    disorder_average,
    estimate,
    jackknife,
    notation,
    samples_of,
)
from slmc.statistics.reweighting import reweighted

__all__ = [
    "Estimate",
    "autocorrelation",
    "autocorrelation_time",
    "disorder_average",
    "estimate",
    "jackknife",
    "notation",
    "reweighted",
    "samples_of",
]
