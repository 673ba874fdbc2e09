"""Series in, estimates out: named wrappers over arviz-stats.

- ``estimates``: mean, error, effective samples, R-hat of (chain, draw) arrays; jackknife; autocorrelation
"""

from slmc.statistics.estimates import Estimate, autocorrelation, autocorrelation_time, estimate, jackknife, notation

__all__ = ["Estimate", "autocorrelation", "autocorrelation_time", "estimate", "jackknife", "notation"]
