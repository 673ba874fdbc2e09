"""A run that stops at a wanted error prints errors that cover."""

import math

import numpy as np
import pytest
from test_running import correlated

from slmc.statistics import RunningSeries, estimate, is_known_to

BLOCK = 80


def plain_rule(series, wanted):
    """The wrong twin: stop as soon as the error is small enough."""
    found = estimate(series)
    return found.error <= wanted and not found.verdict


def pulls(rule, n_groups, wanted):
    """(value − truth)/error where the rule stops, for |x|³ of independent normal x: low means have small errors."""
    found, truth = [], math.sqrt(8 / math.pi)
    for seed in range(n_groups):
        series = abs(correlated(seed, 1, 40 * BLOCK, 0.0)) ** 3
        stop = next(n for n in range(2 * BLOCK, 40 * BLOCK, BLOCK) if rule(series[:, :n], wanted))
        last = estimate(series[:, :stop])
        found.append((last.value - truth) / last.error)
    return np.array(found)


def test_errors_cover_where_a_run_stops_at_a_wanted_error():
    """Over 300 groups std(z) is 1.02 here, and 1.38 by the plain rule, which finds means too low."""
    right, wrong = pulls(is_known_to, 90, 0.2), pulls(plain_rule, 90, 0.2)
    assert 0.85 < right.std() < 1.15
    assert wrong.std() > 1.25
    assert abs(right.mean()) < abs(wrong.mean())


def test_the_first_half_must_have_known_it():
    """Also from blocks, and for averages over disorder."""
    rng = np.random.default_rng(1)
    series = rng.normal(size=(4, 1000))
    assert is_known_to(series, 0.02)
    assert not is_known_to(series, 0.01)
    assert not is_known_to(series[:, :150], 0.1)
    series[:, :500] *= 3
    assert estimate(series).error < 0.04
    assert not is_known_to(series, 0.04)
    running = RunningSeries(4).extended(rng.normal(size=(4, 20_000)))
    assert running.block_length > 1
    assert is_known_to(running, 0.005)
    assert not is_known_to(running, 0.002)
    disorder = rng.normal(np.repeat([0.0, 1.0, 2.0, 3.0], 2)[:, None], 1.0, (8, 1000))
    assert is_known_to(disorder, 0.8, 4)
    assert not is_known_to(disorder, 0.1, 4)


def test_nothing_unknown_is_known_to_any_error():
    constant = np.ones((4, 2000))
    assert is_known_to(constant, 1e-5, moved=True)
    assert not is_known_to(constant, 1e-5, moved=False)
    assert not is_known_to(constant, 1e-5)
    bad = np.random.default_rng(1).normal(size=(4, 2000))
    bad[0, 0] = math.nan
    assert not is_known_to(bad, 1.0)
    for wanted in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="must be positive and finite"):
            is_known_to(constant, wanted)
