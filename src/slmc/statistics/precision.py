"""When a run that stops at a wanted error may stop."""

import math

from slmc.statistics.estimates import estimate
from slmc.statistics.running import RunningSeries, Series

LEAST_ESS_OF_HALF = 400
"""Effective samples that the first half of the draws needs."""


def is_known_to(series: Series | RunningSeries, wanted: float, n_samples: int = 1, moved: bool | None = None) -> bool:
    """Whether a run that looks after every block may stop, because the mean is known to the ``wanted`` error.

    Stopping as soon as the error looks small enough stops where it is too small by chance, and where the mean is too
    low if low means have small errors, as squares have. So the draws must say it, and their first half must have said
    it before the second was drawn:

        error ≤ wanted,   error of the first half / √2 ≤ wanted,   at least 400 effective samples in the first half,

    with no verdict against either (the errors of means over quenched disorder, which longer chains do not make smaller,
    are compared as they are). This is a fixed-width rule with a least effort, as in Glynn, Whitt, Ann. Appl. Probab. 2,
    180 (1992); what its errors cover is measured by ``benchmarks/error_coverage.py``. ``n_samples`` and ``moved`` are
    those of ``estimate``; a series that never varies is known only if ``moved`` is true.

    Raises ``ValueError`` unless the wanted error is positive and finite.
    """
    if not 0 < wanted < math.inf:
        raise ValueError(f"a wanted error must be positive and finite; got {wanted}.")
    current = estimate(series, n_samples, moved)
    if current.verdict or current.ess is None or not current.error <= wanted:
        return False
    if current.error == 0:
        return True
    first = series.first_half() if isinstance(series, RunningSeries) else series[:, : series.shape[1] // 2]
    half = estimate(first, n_samples, moved)
    shrinks = math.sqrt(2) if n_samples == 1 else 1.0
    return (
        not half.verdict and half.ess is not None and half.ess >= LEAST_ESS_OF_HALF and half.error <= shrinks * wanted
    )
