"""How long a series remembers."""

import math

import numpy as np
from jaxtyping import Float

from slmc.statistics.estimates import estimate
from slmc.statistics.running import Series


def autocorrelation(series: Series) -> Float[np.ndarray, " lag"]:
    """Normalised autocorrelation function, averaged over chains about the common mean."""
    return autocorrelation_by_chain(series).mean(0)


def autocorrelation_by_chain(series: Series) -> Float[np.ndarray, "chain lag"]:
    """That of each chain, about the mean of all of them and in units of their common variance."""
    series = np.asarray(series, dtype=np.float64)
    deviation = series - series.mean()
    n_chains, n_draws = series.shape
    spectrum = np.abs(np.fft.rfft(deviation, 2 * n_draws, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum, axis=1)[:, :n_draws] / np.arange(n_draws, 0, -1)
    variance = covariance[:, 0].mean()
    if variance == 0:
        return np.tile(np.r_[1.0, np.zeros(n_draws - 1)], (n_chains, 1))
    return covariance / variance


def autocorrelation_time(series: Series) -> float:
    """Integrated autocorrelation time τ = n / (2 ESS), in draws: 1/2 for independent draws."""
    estimated = estimate(series)
    return math.nan if not estimated.ess else series.size / (2 * estimated.ess)
