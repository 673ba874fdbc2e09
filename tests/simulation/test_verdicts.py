"""What a run says of its numbers and what it advises."""

import math

from slmc.simulation.summary import _no_ratio, _recommendation, _verdict, with_doubts
from slmc.statistics import Estimate

GOOD = Estimate(1.0, 0.1, 1.0, 400.0)


def test_advice_is_about_what_is_wrong() -> None:
    assert _verdict({"a": GOOD}, "done") == "ok"
    assert _verdict({"a": GOOD}, "measure") == "ok so far, the run is not finished"
    assert _verdict({}, "learn") == "nothing measured yet (phase: learn)"
    few = Estimate(1.0, 0.1, 1.0, 20.0)
    assert _verdict({"a": GOOD, "b": few, "c": few}, "done") == (
        "do not trust yet: b: only 20 effective samples (fewer than 100); and 1 more; "
        "measure longer (measurement.n_steps)"
    )
    frozen = Estimate(1.0, math.nan, None, 0.0)
    assert _verdict({"a": frozen}, "done").endswith("tune or learn longer, for at least one chain never moved")
    assert with_doubts("ok", ("model.eqx is damaged",)) == "ok; but model.eqx is damaged"


def test_efficiencies_are_compared_only_where_both_are_known() -> None:
    stuck = Estimate(1.0, 0.1, 1.98, 5.0)
    assert _no_ratio(GOOD, GOOD) is None
    assert _no_ratio(None, None) is None
    assert _no_ratio(GOOD, stuck) == "of the exact chain: chains disagree (R-hat 1.980 > 1.01)"
    assert _no_ratio(stuck, GOOD) == "of this run: chains disagree (R-hat 1.980 > 1.01)"


def test_exact_updates_are_recommended_where_they_are_faster():
    def said(ours, theirs, no_ratio=None):
        return _recommendation({"ess_per_second": ours}, {"ess_per_second": theirs, "no_ratio": no_ratio})

    assert said(10.0, 25.0) == (
        "the exact chain alone gave 25 effective samples a second, this run 10; "
        "learning.n_rounds = 0 is the faster choice here"
    )
    assert said(25.0, 10.0) is None
    assert said(None, 10.0) is None
    assert said(10.0, None) is None
    assert said(10.0, 25.0, "of this run: chains disagree") is None
