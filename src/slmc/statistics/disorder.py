"""Averages over samples of quenched disorder."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from slmc.statistics.quantities import Estimate
from slmc.statistics.running import Series


def samples_of(series: Series, n_samples: int) -> list[np.ndarray]:
    """The chains of each sample of quenched disorder. Raises ``ValueError`` unless samples divide the chains."""
    if n_samples < 1 or len(series) % n_samples:
        raise ValueError(f"{len(series)} chains cannot be divided among {n_samples} samples.")
    return list(np.asarray(series, dtype=np.float64).reshape(n_samples, -1, np.shape(series)[1]))


def disorder_average(samples: Sequence[Estimate]) -> Estimate:
    """The average of a quantity over samples of quenched disorder, each with its own Monte Carlo estimate.

        error² = Σ_s (x_s − x̄)² / (n (n − 1)),   monte_carlo_error² = Σ_s error_s² / n²

    The spread of the samples' estimates holds both kinds of noise, so that ``error`` is the whole error of the
    disorder average. R-hat is the worst of the samples', within which alone chains should agree: unknown where one of
    them is, infinite where a sample never varies and another does. Effective samples add up, to 0 where nothing moved
    in a sample. Raises ``ValueError`` without samples.
    """
    if not samples:
        raise ValueError("an average over disorder needs at least one sample; got none.")
    values = np.array([sample.value for sample in samples])
    n = len(values)
    error = float(values.std(ddof=1) / n**0.5) if n > 1 else math.nan
    noise = math.sqrt(sum(sample.error**2 for sample in samples)) / n
    r_hats = [sample.r_hat for sample in samples]
    stuck = None in r_hats and any(r_hat is not None for r_hat in r_hats)
    known = [sample.ess for sample in samples if sample.ess is not None]
    ess = 0.0 if 0 in known else (sum(known) if known else None)
    return Estimate(float(values.mean()), error, math.inf if stuck else worst(r_hats), ess, noise)


def worst(r_hats: Iterable[float | None]) -> float | None:
    """The largest R-hat of those that are defined, NaN if one of them is not known; ``None`` if none is defined."""
    defined = [r_hat for r_hat in r_hats if r_hat is not None]
    return float(np.max(defined)) if defined else None
