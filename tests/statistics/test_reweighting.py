"""Averages over quenched disorder and multi-histogram reweighting, against what was put in."""

import jax
import numpy as np
import pytest

from slmc.statistics import disorder_average, estimate, jackknife, reweighted


@pytest.fixture(autouse=True)
def jax_as_it_comes():
    """pymbar calls JAX in its own way, not with the strict settings of the other tests."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_disorder_and_monte_carlo_noise_are_told_apart():
    """The error is that of samples and noise together; many draws leave the disorder."""
    rng = np.random.default_rng(1)
    n_samples, pulls = 8, []
    for _ in range(200):
        means = 2.0 + 0.5 * rng.normal(size=n_samples)
        series = rng.normal(np.repeat(means, 2)[:, None], 1.0, (2 * n_samples, 50))
        found = estimate(series, n_samples)
        pulls.append((found.value - 2.0) / found.error)
    assert found.monte_carlo_error == pytest.approx(1 / (100 * n_samples) ** 0.5, rel=0.2)
    assert found.error > 3 * found.monte_carlo_error
    # Student's t with 7 degrees of freedom has variance 7/5.
    assert np.var(pulls) == pytest.approx(7 / 5, rel=0.35)
    assert found.r_hat < 1.05


def test_chains_are_compared_within_samples_alone():
    """Without telling samples apart R-hat would complain; with a chain that disagrees in its sample it does."""
    rng = np.random.default_rng(2)
    series = rng.normal(np.repeat([0.0, 5.0], 2)[:, None], 1.0, (4, 400))
    assert estimate(series).r_hat > 1.5
    assert estimate(series, 2).r_hat < 1.02
    series[3] += 3
    assert estimate(series, 2).r_hat > 1.2


def test_functions_are_averaged_over_samples():
    rng = np.random.default_rng(3)
    series = {"x": rng.normal(np.repeat([1.0, 3.0], 2)[:, None], 0.1, (4, 1000))}
    found = jackknife(lambda one: float(np.mean(one["x"]) ** 2), series, n_samples=2)
    assert found.value == pytest.approx((1 + 9) / 2, abs=0.05)
    assert found.error == pytest.approx(4, rel=0.05)
    assert found.monte_carlo_error < 0.05


def test_samples_that_do_not_divide_the_chains_are_refused():
    with pytest.raises(ValueError, match="4 chains cannot be divided among 3 samples"):
        estimate(np.zeros((4, 10)), 3)
    assert np.isnan(disorder_average([estimate(np.random.default_rng(0).normal(size=(2, 50)))]).error)


def oscillators(seed, betas, n_draws=800):
    """⟨x²⟩ = 1/β from log W = −β x²/2 + a constant of its own at every β; correlated in pairs."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.normal(0, beta**-0.5, (4, n_draws // 2)).repeat(2, axis=1) for beta in betas])
    return x**2, lambda at: -np.asarray(at)[:, None, None, None] * x[None] ** 2 / 2 + 1e4


def test_reweighting_finds_averages_in_between_with_honest_errors():
    betas, wanted = [1.0, 2.0, 4.0], [1.4, 3.0, 0.9]
    pulls = []
    for seed in range(12):
        series, log_weights = oscillators(seed, betas)
        found = reweighted(series, log_weights(betas), log_weights(wanted))
        pulls.append([(one.value - 1 / beta) / one.error for one, beta in zip(found, wanted, strict=True)])
        assert all(one.error < 0.1 / beta for one, beta in zip(found, wanted, strict=True))
    assert np.abs(np.mean(pulls, axis=0)).max() < 4 / 12**0.5
    assert 0.3 < np.mean(np.square(pulls)) < 2.5


def test_weights_of_another_state_are_noticed_in_the_result():
    """The wrong twin: the log-weights of the wanted state taken for those of another."""
    series, log_weights = oscillators(0, [1.0, 4.0])
    (found,) = reweighted(series, log_weights([1.0, 4.0]), log_weights([2.2]))
    assert abs(found.value - 1 / 2.0) > 4 * found.error


def test_far_states_show_few_samples():
    series, log_weights = oscillators(0, [1.0, 1.2])
    near, far = reweighted(series, log_weights([1.0, 1.2]), log_weights([1.1, 1e4]))
    assert near.ess > 1000
    assert far.ess < 100


def test_shapes_that_do_not_fit_are_told():
    series, log_weights = oscillators(0, [1.0, 4.0])
    with pytest.raises(ValueError, match=r"log_weights must have \(2, 2, 4, 800\)"):
        reweighted(series, log_weights([1.0]), log_weights([2.0]))
