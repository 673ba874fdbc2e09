"""What held-out samples say of a model: its residual with an error, and whether a change of it means anything."""

import math

import numpy as np
from jaxtyping import Float

from slmc.statistics import autocorrelation_time

_N_RESAMPLED = 200


def bootstrap_error(differences: Float[np.ndarray, "chain draw"], seed: int = 0) -> float:
    """The error of s, the standard deviation of log W − log W_eff, from samples that are correlated along chains.

    A moving-block bootstrap: chains made of blocks of four autocorrelation times of the squared deviation, at most a
    quarter of a chain, drawn with replacement from all chains (Künsch, Ann. Stat. 17, 1217 (1989)). NaN for fewer than
    eight draws a chain.
    """
    n_chains, n_draws = differences.shape
    if n_draws < 8 or not np.all(np.isfinite(differences)):
        return math.nan
    time = autocorrelation_time((differences - differences.mean()) ** 2)
    length = int(np.clip(math.ceil(4 * time) if math.isfinite(time) else n_draws, 1, n_draws // 4))
    n_blocks = math.ceil(n_chains * n_draws / length)
    rng = np.random.default_rng(seed)
    chain = rng.integers(n_chains, size=(_N_RESAMPLED, n_blocks, 1))
    start = rng.integers(n_draws - length + 1, size=(_N_RESAMPLED, n_blocks, 1))
    resampled = differences[chain, start + np.arange(length)].reshape(_N_RESAMPLED, -1)
    return float(np.std(np.std(resampled, axis=1), ddof=1))


def change_of_residual(residuals: Float[np.ndarray, " round"], error: float, old_model: float) -> str:
    """A sentence if the residual of the last round is above the least before it by more than chance; else empty.

    What costs less than 0.02 of the acceptance to expect, erfc(s/2), is not worth a word. Each round is measured on its
    own samples; ``error`` is that of the last. ``old_model`` is the residual of the model of the round before on the
    samples of the last, which a fit never makes larger.
    """
    *before, now = residuals
    best = int(np.nanargmin(before))
    if not now - before[best] > math.sqrt(2) * error or math.erfc(before[best] / 2) - math.erfc(now / 2) < 0.02:
        return ""
    return (
        f"the held-out residual rose to {now:.3f} ± {error:.3f} from {before[best]:.3f} in round {best + 1}. The new "
        f"model is kept: on the samples of this round the one before has {old_model:.3f}. Earlier samples did not "
        "represent the target, or are few; thermalise longer, or learn for more rounds."
    )


def uncertainty_of_residual(s: float, error: float) -> str:
    """A sentence if the held-out samples are too few to tell the residual to a fifth; else empty."""
    if error <= 0.2 * s or s < 1e-6:
        return ""
    return (
        f"the held-out residual {s:.3f} is known to ± {error:.3f} only; hold out more samples "
        "(learning.held_out_share, learning.n_steps)."
    )
