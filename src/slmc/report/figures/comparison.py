"""The figure that holds a run against its exact chain."""

import numpy as np

from slmc.report.drawing import BLUE, MUTED, VERMILION, Plot
from slmc.report.notation import plain
from slmc.report.stored import Stored


def comparison(run: Stored) -> Plot:
    """Every observable against the exact chain's, in combined errors, and what either chain costs."""
    plot = Plot("comparison", "Against the exact chain")
    ours, theirs = run.observables(), run.baseline().get("observables") or {}
    pairs = {
        name: (ours[name], theirs[name])
        for name in ours
        if name in theirs and all(_has_error(estimate) for estimate in (ours[name], theirs[name]))
    }
    if not pairs:
        if run.learns:
            plot.caption = (
                "No exact chain to compare with: ask for one with a <code>[baseline]</code> section in the "
                "configuration."
                if not run.baseline()
                else "The exact chain has no observable with an error in common with this run yet."
            )
        return plot
    with plot.panel("Difference from the exact chain", height=1.1 + 0.34 * len(pairs)) as axes:
        reach = 3.6
        for row, (our, their) in enumerate(pairs.values()):
            sigma = float(np.hypot(our["error"], their["error"]))
            difference = (our["value"] - their["value"]) / sigma
            reach = max(reach, abs(difference) + 1.4)
            axes.errorbar(0, row - 0.16, xerr=their["error"] / sigma, fmt="s", color=VERMILION, markersize=4)
            axes.errorbar(difference, row + 0.16, xerr=our["error"] / sigma, fmt="o", color=BLUE, markersize=5)
        axes.axvspan(-2, 2, color=MUTED, alpha=0.12, linewidth=0)
        axes.set_yticks(range(len(pairs)), [run.symbol(name).mathtext for name in pairs])
        axes.set(xlabel=r"difference / combined error $\sigma$", xlim=(-reach, reach), ylim=(len(pairs) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        # Proxies after the limits: empty error bars would otherwise take part in them.
        axes.plot([], [], "o-", color=BLUE, label="this run")
        axes.plot([], [], "s-", color=VERMILION, label="exact chain")
        axes.figure.legend(loc="outside lower center", ncols=2)
    _efficiency(plot, run)
    plot.caption = (
        "The learned model must not change any result: points scatter about zero, about one in twenty outside the "
        "band of ±2σ. Effective samples are those of the slowest observable; exact evaluations are what is expensive."
    )
    return plot


def _efficiency(plot: Plot, run: Stored) -> None:
    names = {"ess_per_exact_evaluation": "per exact\nevaluation", "ess_per_second": "per second"}
    both = {
        label: (run.summary[name], run.baseline()[name])
        for name, label in names.items()
        if run.summary.get(name) and run.baseline().get(name) and not run.baseline().get("no_ratio")
    }
    if not both:
        return
    with plot.panel("Effective samples") as axes:
        for row, (our, their) in enumerate(both.values()):
            for offset, value, colour, marker in ((-0.13, our, BLUE, "o"), (0.13, their, VERMILION, "s")):
                axes.plot(value, row + offset, marker, color=colour, markersize=7)
                axes.annotate(
                    plain(value, 2), (value, row + offset), (0, 7 if offset < 0 else -7), textcoords="offset points",
                    ha="center", va="bottom" if offset < 0 else "top",
                )  # fmt: skip
            axes.plot([our, their], [row, row], color=MUTED, linewidth=1, zorder=0)
        axes.set_xscale("log")
        ratios = [f"{label}\n× {plain(our / their, 2)}" for label, (our, their) in both.items()]
        axes.set_yticks(range(len(both)), ratios)
        low, high = min(map(min, both.values())), max(map(max, both.values()))
        axes.set(xlabel="effective samples", xlim=(low / 4, high * 4), ylim=(len(both) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        axes.plot([], [], "o", color=BLUE, label="this run")
        axes.plot([], [], "s", color=VERMILION, label="exact chain")
        axes.figure.legend(loc="outside lower center", ncols=2)


def _has_error(estimate: dict[str, float | None]) -> bool:
    return estimate.get("value") is not None and bool(estimate.get("error"))
