"""Verdicts: nothing that is not known, and nothing that never moved, passes as ok."""

import itertools
import math

import numpy as np
import pytest

from slmc.statistics import (
    Estimate,
    autocorrelation,
    autocorrelation_time,
    disorder_average,
    estimate,
    has_moved,
    jackknife,
)
from slmc.statistics.disorder import worst


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def square_of_mean(series):
    return float(np.mean(series["x"]) ** 2)


def test_an_estimate_is_written_with_what_is_to_be_said_of_it():
    assert str(Estimate(0.53523, 0.0013, 1.001, 870.4)) == "0.5352(13), 870 effective samples"
    assert str(Estimate(0.5, 0.1, 1.2, 40.0)).endswith("do not trust yet: chains disagree (R-hat 1.200 > 1.01)")
    assert Estimate(1.0, 0.1, 1.2)._repr_html_() == (
        "<span>1.00(10); do not trust yet: chains disagree (R-hat 1.200 &gt; 1.01)</span>"
    )


# --- R-hat ------------------------------------------------------------------------------------------------------------


def test_a_sample_that_never_moves_is_noticed():
    x = normal(0, 4, 400)
    x[2] = 3
    found = estimate(x, n_samples=4)
    assert found.r_hat == math.inf
    assert found.verdict == "a chain never moves while others do"
    # In one sample R-hat alone may not tell: a chain that is stuck at the mean agrees with the others.
    x[2] = x[[0, 1, 3]].mean()
    assert estimate(x).verdict == "a chain never moves while others do"


def test_a_single_chain_is_compared_with_itself():
    """Halves of a chain: a drift of one standard deviation is noticed in every sample, noise is not taken for one."""
    right = [estimate(normal(seed, 8, 1000), 8).verdict for seed in range(10)]
    drift = [estimate(normal(seed, 8, 1000) + np.linspace(0, 1, 1000), 8).verdict for seed in range(10)]
    assert right.count("") >= 9
    assert all("chains disagree" in verdict for verdict in drift)
    assert "chains disagree" in estimate(normal(1, 1, 1000) + np.linspace(0, 1, 1000)).verdict


def test_an_r_hat_that_is_not_known_is_no_consent():
    assert "R-hat is not known" in estimate(normal(0, 1, 6)).verdict
    assert "R-hat is not known" in Estimate(1.0, 0.1, math.nan, 1e3).verdict
    unknown, bad = Estimate(1.0, 0.1, math.nan, 1e3), Estimate(1.0, 0.1, 1.73, 1e3)
    for samples in ([unknown, bad], [bad, unknown]):
        assert math.isnan(disorder_average(samples).r_hat)
    assert worst([1.0, None, 1.73]) == 1.73
    assert worst([None]) is None
    assert "fewer than 100" in Estimate(1.0, 0.1, 1.0, math.nan).verdict


# --- what never varies ------------------------------------------------------------------------------------------------


def test_a_constant_is_a_result_only_if_something_moved():
    frozen, moving = np.ones((4, 200)), normal(1, 4, 200)
    kept = estimate(frozen, moved=True)
    assert (kept.verdict, kept.error, kept.ess) == ("", 0.0, 800)
    found = estimate(frozen, moved=False)
    assert found.verdict == "nothing moved: there is no effective sample"
    assert (found.ess, found.r_hat) == (0.0, None)
    assert math.isnan(found.error)
    assert estimate(frozen).ess is None
    assert estimate(frozen, 2, moved=False).verdict.startswith("nothing moved")
    assert jackknife(square_of_mean, {"x": frozen}, moved=False).verdict.startswith("nothing moved")
    assert estimate(moving, moved=False) == estimate(moving)


def test_every_block_is_left_out_once():
    """Against copies of the series without a block."""
    series = {"x": normal(5, 3, 207), "y": normal(6, 3, 207)}

    def ratio(of):
        return float(np.mean(of["x"] ** 2) / np.mean(of["y"] ** 2))

    found, n_blocks = jackknife(ratio, series, 10), 10
    assert 3 * n_blocks * 10 < found.ess
    left_out = []
    for chain, block in itertools.product(range(3), range(n_blocks)):
        kept = np.ones((3, 200), bool)
        kept[chain, 20 * block : 20 * block + 20] = False
        left_out.append(ratio({name: one[:, :200][kept] for name, one in series.items()}))
    n = len(left_out)
    assert found.error == pytest.approx(math.sqrt((n - 1) ** 2 / n * np.var(left_out, ddof=1)))
    assert found.value == pytest.approx(ratio(series))


def test_moving_is_accepting_and_changing_the_weight_in_every_chain():
    weight, accepted = normal(2, 4, 50), np.ones((4, 50))
    assert has_moved(weight, accepted)
    assert not has_moved(weight, 0 * accepted)
    assert not has_moved(np.zeros((4, 50)), accepted)
    weight[1] = 0.3
    assert not has_moved(weight)
    assert not has_moved(np.zeros((4, 0)))


# --- numbers that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_named(bad):
    x = normal(3, 4, 400)
    x[1, 7] = bad
    for found in (estimate(x), estimate(x, 2), jackknife(square_of_mean, {"x": x})):
        assert found.verdict == "not finite"
        assert math.isnan(found.error)
    assert math.isnan(autocorrelation_time(x))


def test_nothing_measured_has_an_estimate():
    for shape in ((4, 0), (0, 10), (0, 0)):
        assert estimate(np.zeros(shape)).verdict == "nothing moved: there is no effective sample"
    assert "effective" in jackknife(square_of_mean, {"x": np.zeros((4, 0))}).verdict
    with pytest.raises(ValueError, match="at least one series"):
        jackknife(square_of_mean, {})
    with pytest.raises(ValueError, match="at least one sample"):
        disorder_average([])
    assert estimate(normal(1, 4, 3)).verdict == "not enough draws for an error"


def test_antithetic_draws_are_worth_more_than_one():
    """x_t = −0.5 x_{t−1} + …: (1 + 0.5)/(1 − 0.5) = 3 effective samples a draw, and the error says the same."""
    rng, pulls = np.random.default_rng(4), []
    for _ in range(100):
        x = rng.normal(size=(4, 500))
        for step in range(1, 500):
            x[:, step] = -0.5 * x[:, step - 1] + math.sqrt(0.75) * x[:, step]
        found = estimate(x)
        pulls.append(found.value / found.error)
    assert found.ess == pytest.approx(3 * x.size, rel=0.25)
    assert np.std(pulls) == pytest.approx(1, abs=0.2)


def test_the_autocorrelation_is_the_mean_of_as_many_products_as_there_are():
    series = normal(5, 3, 12)
    deviation = series - series.mean()
    expected = [np.mean(deviation[:, : 12 - lag] * deviation[:, lag:]) for lag in range(12)]
    np.testing.assert_allclose(autocorrelation(series), np.array(expected) / expected[0], atol=1e-13)
