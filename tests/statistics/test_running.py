"""Series without end: what is kept gives what all draws give, at a size that does not grow."""

import math

import numpy as np
import pytest

from slmc.statistics import RunningSeries, estimate
from slmc.statistics.estimates import LONG, _of_draws
from slmc.statistics.running import N_BLOCKS


def correlated(seed, n_chains, n_draws, kept=0.8):
    """An AR(1) process of variance 1: ESS = draws · (1 − kept)/(1 + kept)."""
    from scipy.signal import lfilter

    noise = np.random.default_rng(seed).normal(size=(n_chains, n_draws)) * math.sqrt(1 - kept**2)
    noise[:, 0] /= math.sqrt(1 - kept**2)
    return lfilter([1], [1, -kept], noise, axis=1)


def in_portions(series, size):
    running = RunningSeries(len(series))
    for start in range(0, series.shape[1], size):
        running.extended(series[:, start : start + size])
    return running


def test_few_draws_are_kept_as_they_are():
    series = correlated(1, 4, 1000)
    assert estimate(in_portions(series, 30)) == estimate(series)
    assert estimate(in_portions(series, 30), 2) == estimate(series, 2)


def test_blocks_tell_what_all_draws_tell():
    series = 5 + correlated(2, 4, 30_000)
    kept, draws = estimate(in_portions(series, 700)), _of_draws(series, None)
    assert kept.value == pytest.approx(draws.value, abs=draws.error / 50)
    assert kept.error == pytest.approx(draws.error, rel=0.1)
    assert kept.ess == pytest.approx(series.size / 9, rel=0.2)
    assert kept.r_hat == pytest.approx(1, abs=0.003)
    assert series.shape[1] > LONG
    assert estimate(series) == kept


def test_what_is_kept_does_not_depend_on_the_portions_nor_grow():
    series = correlated(3, 2, 9 * N_BLOCKS + 5)
    first, second = in_portions(series, 50), in_portions(series, 4999)
    assert first.means.shape[1] < N_BLOCKS
    assert first.block_length == 16
    assert first.n_draws == series.shape[1]
    for name in ("means", "deviations", "first_draws"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    whole = series[:, : first.means.size // 2 * 16].reshape(2, -1, 16)
    np.testing.assert_allclose(first.means, whole.mean(2), atol=1e-14)
    np.testing.assert_allclose(first.deviations, whole.var(2) * 16, atol=1e-12)
    np.testing.assert_array_equal(first.first_draws, whole[..., 0])


def test_what_speaks_against_a_long_series():
    series = correlated(4, 2, LONG + 1)
    assert "chains disagree" in estimate(series + np.array([[0.0], [1.0]])).verdict
    assert "chains disagree" in estimate(series + np.linspace(0, 1, LONG + 1), 2).verdict
    stuck = np.concatenate([series, np.full((1, LONG + 1), 0.3)])
    assert estimate(stuck).verdict == "a chain never moves while others do"
    assert estimate(stuck[2:], moved=False).verdict.startswith("nothing moved")
    assert estimate(stuck[2:], moved=True).error == 0
    for bad in (math.nan, math.inf):
        series[1, -2000] = bad
        assert estimate(series).verdict == "not finite"


def test_chains_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 chains cannot go on with 3"):
        RunningSeries(2).extended(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="2 chains cannot be divided among 3"):
        estimate(RunningSeries(2), 3)
