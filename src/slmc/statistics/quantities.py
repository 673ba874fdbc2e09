"""A number with its error, what speaks against it, and how it is written."""

import html
import math
from typing import NamedTuple

from slmc.notation import notation as notation

LARGEST_R_HAT = 1.01
"""Vehtari et al., Bayesian Analysis 16, 667 (2021), section 4."""

LEAST_ESS = 100


class Estimate(NamedTuple):
    """A mean, its Monte Carlo standard error, R-hat and the number of effective samples.

    ``r_hat`` is ``None`` where it is not defined (a series that never varies), infinite where a chain, or a sample of
    quenched disorder, never moves while others do, and NaN where it could not be computed. ``ess`` is 0 for chains of
    which it is known that nothing moved. It may exceed the number of draws: successive draws that lie on opposite sides
    of the mean more often than not (antithetic ones) average better than independent ones, and it is not capped. For an
    average over samples of quenched disorder ``error`` is that of both, the finite number of samples and Monte Carlo
    noise, and ``monte_carlo_error`` the part that longer chains would make smaller.
    """

    value: float
    error: float
    r_hat: float | None = None
    ess: float | None = None
    monte_carlo_error: float | None = None

    @property
    def verdict(self) -> str:
        """Empty if the number can be trusted, else what speaks against it. What is not known speaks against it too."""
        if self.ess == 0:
            return "nothing moved: there is no effective sample"
        if not math.isfinite(self.value):
            return "not finite"
        if not math.isfinite(self.error):
            return "not enough draws for an error"
        if self.r_hat is not None and not self.r_hat <= LARGEST_R_HAT:
            return _disagreement(self.r_hat)
        if self.ess is not None and not self.ess >= LEAST_ESS:
            return f"only {self.ess:.0f} effective samples (fewer than {LEAST_ESS})"
        return ""

    def __str__(self) -> str:
        """The number as it is written, and what is to be said of it: ``0.5352(13), 870 effective samples``."""
        samples = "" if self.ess is None or not math.isfinite(self.ess) else f", {self.ess:.0f} effective samples"
        doubt = f"; do not trust yet: {self.verdict}" if self.verdict else ""
        return f"{notation(self.value, self.error)}{samples}{doubt}"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<span>{html.escape(str(self))}</span>"


NOT_FINITE = Estimate(math.nan, math.nan, math.nan, math.nan)
"""The estimate of a series that holds a number that is not finite."""


def _disagreement(r_hat: float) -> str:
    if math.isnan(r_hat):
        return "R-hat is not known: too few draws to compare parts of a chain"
    if math.isinf(r_hat):
        return "a chain never moves while others do"
    return f"chains disagree (R-hat {r_hat:.3f} > {LARGEST_R_HAT})"
