"""What a run found, from its stored records: the dictionary that ``slmc info --json`` prints."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from slmc.selflearning.diagnostics import expected_acceptance
from slmc.selflearning.inner_chain import InnerLine
from slmc.simulation.clock import read_progress, time_split
from slmc.simulation.described import measured
from slmc.simulation.directory import PROGRESS
from slmc.simulation.records import Records
from slmc.simulation.verification import Stored
from slmc.statistics import Estimate
from slmc.system import Problem


def summarise(run: Stored, problem: Problem | None = None) -> dict[str, Any]:
    """Observables with errors, acceptance, residual, cost, phase and verdict; ``None`` for what is not known yet.

    Without the ``problem`` the records are all there is to go by, and what is derived from observables is left out.

    A run without a model has no entries about learning, residual and inner chain; exact evaluations before those that
    count are then those of ``thermalisation``.
    """
    stored, records = read_progress(run.directory / PROGRESS), run.records
    series, learning = records.read("measurement"), records.read("learning")
    phase = run.phase or "thermalise"
    about = measured(records, problem)
    estimates = about.estimates(series)
    evaluations = stored.get("evaluations", {})
    learns = bool(stored.get("learns", problem is not None and problem.model is not None))
    residual = float(learning["residual"][-1]) if len(learning.get("residual", ())) else None
    merit = about.figure_of_merit
    of_merit = about.estimate_of_merit(series) if estimates else None
    result: dict[str, Any] = {
        "observables": {name: _as_dict(known) for name, known in estimates.items()},
        "acceptance": float(series["accepted"].mean()) if series else None,
        "exact_evaluations": {
            "learning" if learns else "thermalisation": evaluations.get("learning", 0),
            "measurement": evaluations.get("measurement", 0),
        },
        "figure_of_merit": merit,
        "ess_per_exact_evaluation": _rate(of_merit, evaluations.get("measurement", 0)),
        "ess_per_second": _rate(of_merit, stored.get("laps", {}).get("measure", 0.0)),
        "seconds": time_split(stored, learns),
        "found": stored.get("found", {}),
        "phase": phase,
        "verdict": with_doubts(_verdict(estimates, phase), run.doubts),
        "warnings": stored.get("warnings", []),
        **{name: stored[name] for name in ("made", "seed", "n_parameters") if name in stored},
    }
    if learns:
        result["residual"] = residual
        result["expected_acceptance"] = None if residual is None else expected_acceptance(residual)
        chosen = result["inner_chain"] = _inner_chain(records)
        if chosen is not None and chosen["expected_acceptance"] is not None:
            result["expected_acceptance"] = chosen["expected_acceptance"]
        result |= _about_guide(records)
    baseline = records.read("baseline")
    if baseline:
        compared = about.estimates(baseline)
        reference = about.estimate_of_merit(baseline) if compared else None
        result["baseline"] = {
            "observables": {name: _as_dict(known) for name, known in compared.items()},
            "acceptance": float(baseline["accepted"].mean()),
            "exact_evaluations": evaluations.get("baseline", 0),
            "ess_per_exact_evaluation": _rate(reference, evaluations.get("baseline", 0)),
            "ess_per_second": _rate(reference, stored.get("laps", {}).get("baseline", 0.0)),
            "no_ratio": _no_ratio(of_merit, reference),
        }
        result["baseline"]["recommendation"] = _recommendation(result, result["baseline"])
    return result


def _recommendation(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """What to do where the exact chain alone gave more effective samples a second; ``None`` where it did not."""
    rates = ours["ess_per_second"], theirs["ess_per_second"]
    if theirs["no_ratio"] or None in rates or rates[0] >= rates[1]:
        return None
    return (
        f"the exact chain alone gave {rates[1]:.3g} effective samples a second, this run {rates[0]:.3g}; "
        "learning.n_rounds = 0 is the faster choice here"
    )


def _no_ratio(ours: Estimate | None, theirs: Estimate | None) -> str | None:
    """Why effective samples of this run and of the exact chain cannot be compared; ``None`` if they can."""
    for known, whose in ((theirs, "of the exact chain"), (ours, "of this run")):
        if known is not None and known.verdict:
            return f"{whose}: {known.verdict}"
    return None


def _inner_chain(records: Records) -> dict[str, Any] | None:
    """The inner chain that the run chose by measurement, ``None`` where nothing was to be chosen."""
    group = records.tree().children.get("inner_chain")
    if group is None or "weighed" not in group.data_vars:
        return None
    lines = group.data_vars["weighed"]
    best = InnerLine(*lines.values[0])
    return {
        "update": str(lines.attrs["description"]).split("; ")[int(best.candidate)],
        "n_updates": int(best.n_updates),
        "autocorrelation": best.autocorrelation,
        "share_of_exact_evaluation": _finite(best.inner_seconds / best.exact_seconds),
        "expected_acceptance": _finite(best.acceptance),
        "expected_ess_per_second": _finite(best.samples_a_second),
        "relative_error": _finite(best.error),
    }


def _about_guide(records: Records) -> dict[str, Any]:
    """What each part of a model that drives trajectories is worth, and what its force costs; nothing for others."""
    told: dict[str, Any] = {}
    groups = records.tree().children
    stages = groups["learning"].data_vars.get("stages") if "learning" in groups else None
    if stages is not None:
        told["stages"] = [
            {"n_parameters": int(n), "residual": _finite(s), "expected_acceptance": _finite(expected_acceptance(s))}
            for n, s in stages.values.tolist()
        ]
    seconds = groups["inner_chain"].data_vars.get("force_seconds") if "inner_chain" in groups else None
    if seconds is not None:
        model, exact = seconds.values.tolist()
        told["force_cost"] = _finite(model / exact)
    return told


def _as_dict(known: Estimate) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in known._asdict().items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _rate(known: Estimate | None, cost: float) -> float | None:
    if known is None or not known.ess or not math.isfinite(known.ess) or not cost:
        return None
    return known.ess / cost


def with_doubts(verdict: str, doubts: Sequence[str]) -> str:
    """A verdict, and what is to be said of files beside the records."""
    return "; but ".join((verdict, "; ".join(doubts))) if doubts else verdict


def _verdict(estimates: Mapping[str, Estimate], phase: str) -> str:
    """``ok``, or what speaks against the first observable that cannot be trusted, and what to do about it."""
    if not estimates:
        return f"nothing measured yet (phase: {phase})"
    doubts = [f"{name}: {known.verdict}" for name, known in estimates.items() if known.verdict]
    if doubts:
        more = f"; and {len(doubts) - 1} more" if len(doubts) > 1 else ""
        frozen = any(known.ess == 0 for known in estimates.values())
        advice = (
            "tune or learn longer, for at least one chain never moved"
            if frozen
            else "measure longer (measurement.n_steps)"
        )
        return f"do not trust yet: {doubts[0]}{more}; {advice}"
    return "ok" if phase == "done" else "ok so far, the run is not finished"
