"""Means with errors from correlated series of several chains, shape (chain, draw)."""

import math
import warnings
from typing import Any

import numpy as np

from slmc.statistics.disorder import disorder_average, samples_of
from slmc.statistics.quantities import NOT_FINITE, Estimate
from slmc.statistics.running import RunningSeries, Series

_ROUNDING = 1e-12
"""Relative spread below which a series counts as constant."""

LONG = 16384
"""Draws of a chain beyond which estimates are made from blocks, lest cost and memory grow with the draws."""


def estimate(series: Series | RunningSeries, n_samples: int = 1, moved: bool | None = None) -> Estimate:
    """Mean over all chains and draws; error and effective samples for the mean; rank-normalised split R-hat.

    Vehtari et al., Bayesian Analysis 16, 667 (2021), as computed by arviz-stats; of a single chain R-hat compares its
    halves. With ``n_samples`` samples of quenched disorder, among which the chains are divided in order, it is their
    average (see ``disorder_average``). Series of more than 16,384 draws a chain are estimated from blocks
    (``RunningSeries``): the error is that of the series of block means, ESS = variance of the draws / error², and R-hat
    is that of the first draws of the blocks.

    A series that varies only by rounding has error 0 and no R-hat, as a quantity fixed by symmetry should.
    ``moved`` tells whether the chains moved at all (``has_moved``): if not, such a series is no result, has no error
    and no effective sample; if nothing is said, no effective samples are claimed. A series with a number that is not
    finite has no estimate.
    """
    if not isinstance(series, RunningSeries):
        series = np.asarray(series, dtype=np.float64)
        if series.shape[1] > LONG:
            series = RunningSeries(len(series)).extended(series)
    if n_samples > 1:
        parts = series.divided(n_samples) if isinstance(series, RunningSeries) else samples_of(series, n_samples)
        return disorder_average([estimate(part, 1, moved) for part in parts])
    if not isinstance(series, RunningSeries):
        return _of_draws(series, moved)
    return _of_draws(series.means, moved) if series.block_length == 1 else _of_blocks(series, moved)


def _diagnostics() -> Any:
    """Those of arviz-stats, whose import takes as long as all the rest of the package."""
    from arviz_stats.base import array_stats

    return array_stats


def _of_draws(series: Series, moved: bool | None) -> Estimate:
    if series.size == 0:
        return Estimate(math.nan, math.nan, None, 0.0)
    if not np.all(np.isfinite(series)):
        return NOT_FINITE
    value = float(np.mean(series))
    if np.ptp(series) <= _ROUNDING * abs(value):
        return _constant(value, series.size, moved)
    if series.shape[1] < 4:
        return Estimate(value, math.nan, math.nan, math.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ess = float(_diagnostics().ess(series, chain_axis=0, draw_axis=1, method="mean"))
        error = float(_diagnostics().mcse(series, chain_axis=0, draw_axis=1, method="mean"))
    return Estimate(value, error, split_r_hat(series), ess)


def _of_blocks(series: RunningSeries, moved: bool | None) -> Estimate:
    means, length = series.means, series.block_length
    if not np.all(np.isfinite(series.deviations)):
        return NOT_FINITE
    value, n_draws = float(np.mean(means)), means.size * length
    variance = float(np.sum(series.deviations) + length * np.sum((means - value) ** 2)) / (n_draws - 1)
    if variance <= (_ROUNDING * value) ** 2:
        return _constant(value, n_draws, moved)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        error = float(_diagnostics().mcse(means, chain_axis=0, draw_axis=1, method="mean"))
    return Estimate(value, error, split_r_hat(series.first_draws), variance / error**2)


def _constant(value: float, n_draws: int, moved: bool | None) -> Estimate:
    """The estimate of a series that never varies."""
    if moved is False:
        return Estimate(value, math.nan, None, 0.0)
    return Estimate(value, 0.0, None, float(n_draws) if moved else None)


def split_r_hat(series: Series) -> float:
    """Rank-normalised split R-hat; of a single chain that of its halves; infinite where a chain never moves."""
    if len(series) == 1:
        half = series.shape[1] // 2
        series = series[:, : 2 * half].reshape(2, half)
        if half < 4:
            return math.nan
    elif np.any(np.ptp(series, axis=1) <= _ROUNDING * np.abs(series.mean(axis=1))):
        return math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(_diagnostics().rhat(series, chain_axis=0, draw_axis=1, method="rank"))


def has_moved(log_weight: Series, accepted: Series | None = None) -> bool:
    """Whether every chain moved: its log-weight varies, and it accepted something, if it is told what."""
    log_weight = np.asarray(log_weight, dtype=np.float64)
    if log_weight.size == 0:
        return False
    moved = np.ptp(log_weight, axis=1) > 0
    if accepted is not None:
        moved &= np.any(np.asarray(accepted) > 0, axis=1)
    return bool(np.all(moved))
