"""Multi-histogram reweighting: averages at parameters that were not sampled, from chains at those that were."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from slmc.statistics.estimates import estimate
from slmc.statistics.quantities import Estimate


def reweighted(
    series: Float[np.ndarray, "state chain draw"], log_weights: np.ndarray, wanted: np.ndarray
) -> list[Estimate]:
    """Averages of an observable in each of the ``wanted`` states, from samples of several states together.

    ``series[k]`` is the observable on samples of state k (a temperature), ``log_weights[l, k]``, of shape (state,
    state, chain, draw), log W_l of the same samples in every sampled state l, ``wanted[n, k]``, of shape (any, state,
    chain, draw), in each new one; constants in log W are free. For a classical
    model log W = −H/T, so that all of them follow from the recorded energies; otherwise the target has to be evaluated
    again. Samples are thinned to independent ones, by the slower of the observable and the log-weight, before the
    multistate Bennett acceptance ratio combines them (Shirts, Chodera, J. Chem. Phys. 129, 124105 (2008), by pymbar,
    whose estimate of the error is returned). ``ess`` is the number of samples that a new state really draws on,
    (Σ w)²/Σ w²: a handful says that the states are too far away.

    Raises ``ValueError`` for arrays whose shapes do not fit, ``ImportError`` without pymbar (the extra
    ``reweighting``).
    """
    try:
        import pymbar
    except ImportError:
        raise ImportError('reweighting needs pymbar; install it: pip install "pymbar>=4.0.3"') from None
    n_states = len(series)
    if log_weights.shape != (n_states, *series.shape) or wanted.shape[1:] != series.shape:
        raise ValueError(
            f"series has shape {series.shape}, so log_weights must have {(n_states, *series.shape)} and wanted "
            f"(any, {', '.join(map(str, series.shape))}); got {log_weights.shape} and {wanted.shape}."
        )
    kept = [_independent([series[k], log_weights[k, k]]) for k in range(n_states)]
    counts = np.array([len(members) for members in kept])

    def pooled(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(*values.shape[:-2], -1)
        return np.concatenate([flat[..., k, members] for k, members in enumerate(kept)], axis=-1)

    observable, sampled, new = pooled(series), pooled(log_weights), pooled(wanted)
    # An additive constant of the observable or of log W is free; large ones cost digits.
    shift = observable.min() - 1.0
    sampled = sampled - sampled.max(axis=1, keepdims=True)
    bar = pymbar.MBAR(-sampled, counts, solver_protocol="robust")
    result = bar.compute_expectations(observable - shift, u_kn=-(new - new.max(axis=1, keepdims=True)))
    mixture = np.log(counts)[:, None] + np.asarray(bar.f_k)[:, None] + sampled
    log_share = new - np.logaddexp.reduce(mixture, axis=0)
    share = np.exp(log_share - log_share.max(axis=1, keepdims=True))
    sizes = share.sum(1) ** 2 / (share**2).sum(1)
    return [
        Estimate(float(mu + shift), float(sigma), None, float(size))
        for mu, sigma, size in zip(result["mu"], result["sigma"], sizes, strict=True)
    ]


def _independent(several: Sequence[np.ndarray]) -> np.ndarray:
    """Positions in the flattened series that are about two autocorrelation times apart."""
    sizes = [
        estimated.ess or 1.0
        for estimated in map(estimate, several)
        if estimated.ess is None or math.isfinite(estimated.ess)
    ]
    n_chains, n_draws = several[0].shape
    stride = max(1, math.ceil(several[0].size / max(1.0, min(sizes, default=1.0))))
    return (np.arange(n_chains)[:, None] * n_draws + np.arange(0, n_draws, stride)[None]).ravel()
