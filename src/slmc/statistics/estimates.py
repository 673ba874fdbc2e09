"""Means with errors from correlated series of several chains, shape (chain, draw)."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from jaxtyping import Float

_ROUNDING = 1e-12
"""Relative spread below which a series counts as constant."""

Series = Float[np.ndarray, "chain draw"]


class Estimate(NamedTuple):
    """A mean, its Monte Carlo standard error, R-hat and the number of effective samples.

    ``r_hat`` is ``None`` where it is not defined (a series that never varies). For an average over samples of
    quenched disorder ``error`` is that of both, the finite number of samples and Monte Carlo noise, and
    ``monte_carlo_error`` the part that longer chains would make smaller.
    """

    value: float
    error: float
    r_hat: float | None = None
    ess: float | None = None
    monte_carlo_error: float | None = None

    @property
    def verdict(self) -> str:
        """Empty if the number can be trusted, else what speaks against it."""
        if not math.isfinite(self.value) or not math.isfinite(self.error):
            return "not enough draws for an error"
        if self.r_hat is not None and self.r_hat > 1.01:
            return f"chains disagree (R-hat {self.r_hat:.3f} > 1.01)"
        if self.ess is not None and self.ess < 100:
            return f"only {self.ess:.0f} effective samples (fewer than 100)"
        return ""


def estimate(series: Series, n_samples: int = 1) -> Estimate:
    """Mean over all chains and draws; error and effective samples for the mean; rank-normalised split R-hat.

    Vehtari et al., Bayesian Analysis 16, 667 (2021), as computed by arviz-stats. A series that varies only by
    rounding has error 0 and no R-hat. With ``n_samples`` samples of quenched disorder, among which the chains are
    divided in order, it is their average (see ``disorder_average``).
    """
    if n_samples > 1:
        return disorder_average([estimate(part) for part in samples_of(series, n_samples)])
    series = np.asarray(series, dtype=np.float64)
    value = float(np.mean(series))
    if np.ptp(series) <= _ROUNDING * abs(value):
        return Estimate(value, 0.0, None, float(series.size))
    if series.shape[1] < 4:
        return Estimate(value, math.nan, math.nan, math.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ess = float(array_stats.ess(series, chain_axis=0, draw_axis=1, method="mean"))
        error = float(array_stats.mcse(series, chain_axis=0, draw_axis=1, method="mean"))
        r_hat = float(array_stats.rhat(series, chain_axis=0, draw_axis=1, method="rank"))
    return Estimate(value, error, r_hat, ess)


def samples_of(series: Series, n_samples: int) -> list[np.ndarray]:
    """The chains of each sample of quenched disorder. Raises ``ValueError`` unless samples divide the chains."""
    if n_samples < 1 or len(series) % n_samples:
        raise ValueError(f"{len(series)} chains cannot be divided among {n_samples} samples.")
    return list(np.asarray(series, dtype=np.float64).reshape(n_samples, -1, np.shape(series)[1]))


def disorder_average(samples: Sequence[Estimate]) -> Estimate:
    """The average of a quantity over samples of quenched disorder, each with its own Monte Carlo estimate.

        error² = Σ_s (x_s − x̄)² / (n (n − 1)),   monte_carlo_error² = Σ_s error_s² / n²

    The spread of the samples' estimates holds both kinds of noise, so that ``error`` is the whole error of the
    disorder average. R-hat is the worst of the samples', within which alone chains should agree; effective samples
    add up.
    """
    values = np.array([one.value for one in samples])
    n = len(values)
    error = float(values.std(ddof=1) / n**0.5) if n > 1 else math.nan
    noise = math.sqrt(sum(one.error**2 for one in samples)) / n
    r_hat = max((one.r_hat for one in samples if one.r_hat is not None), default=None)
    known = [one.ess for one in samples if one.ess is not None]
    return Estimate(float(values.mean()), error, r_hat, sum(known) if known else None, noise)


def jackknife(
    function: Callable[[Mapping[str, np.ndarray]], float],
    series: Mapping[str, Series],
    n_blocks: int = 20,
    n_samples: int = 1,
) -> Estimate:
    """``function`` of the pooled series, with the jackknife error over at most ``n_blocks`` blocks per chain.

    For quantities that are no means, such as ratios of moments. Blocks hold at least ten effective samples; R-hat
    and effective samples are the worst of the series. With ``n_samples`` of quenched disorder the function is taken
    in each of them and averaged (see ``disorder_average``).
    """
    if n_samples > 1:
        divided = {name: samples_of(one, n_samples) for name, one in series.items()}
        parts = [{name: one[number] for name, one in divided.items()} for number in range(n_samples)]
        return disorder_average([jackknife(function, part, n_blocks) for part in parts])
    n_draws = min(one.shape[1] for one in series.values())
    inputs = [estimate(one) for one in series.values()]
    r_hat = max((one.r_hat for one in inputs if one.r_hat is not None), default=None)
    ess = min((one.ess for one in inputs if one.ess is not None), default=None)
    if ess is not None and math.isfinite(ess):
        n_blocks = max(2, min(n_blocks, int(ess / len(next(iter(series.values()))) / 10)))
    length = n_draws // n_blocks
    if length < 1:
        return Estimate(function(series), math.nan, r_hat, ess)
    edges = [(chain, block * length) for chain in range(len(next(iter(series.values())))) for block in range(n_blocks)]
    left_out = []
    for chain, start in edges:
        kept = np.ones((len(next(iter(series.values()))), n_blocks * length), dtype=bool)
        kept[chain, start : start + length] = False
        left_out.append(function({name: one[:, : n_blocks * length][kept] for name, one in series.items()}))
    values, n = np.array(left_out), len(left_out)
    error = math.sqrt((n - 1) / n * float(np.sum((values - values.mean()) ** 2)))
    return Estimate(float(function(series)), error, r_hat, ess)


def autocorrelation(series: Series) -> Float[np.ndarray, " lag"]:
    """Normalised autocorrelation function, averaged over chains about the common mean."""
    series = np.asarray(series, dtype=np.float64)
    deviation = series - series.mean()
    n_draws = series.shape[1]
    spectrum = np.abs(np.fft.rfft(deviation, 2 * n_draws, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum, axis=1)[:, :n_draws].mean(0) / np.arange(n_draws, 0, -1)
    if covariance[0] == 0:
        return np.r_[1.0, np.zeros(n_draws - 1)]
    return covariance / covariance[0]


def autocorrelation_time(series: Series) -> float:
    """Integrated autocorrelation time τ = n / (2 ESS), in draws: 1/2 for independent draws."""
    found = estimate(series)
    return math.nan if not found.ess else series.size / (2 * found.ess)


def notation(value: float | None, error: float | None) -> str:
    """A number with its error in the last two digits: 0.5352(13); a dash for a number that is not known."""
    if value is None:
        return "–"
    if error is None or not math.isfinite(error) or not math.isfinite(value):
        return f"{value:.4g}"
    if error == 0:
        return f"{value:.6g}"
    # The exponent after rounding to two digits: 0.0996 is 0.10, not 0.100.
    exponent = int(f"{error:.1e}".partition("e")[2])
    digits = max(0, 1 - exponent)
    return f"{value:.{digits}f}({round(error * 10**digits)})" if digits else f"{value:.0f}({error:.0f})"
