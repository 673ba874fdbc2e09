"""The figure of where the time went."""

from slmc.report.drawing import BLUE, GREEN, MUTED, SKY, VERMILION, Plot
from slmc.report.notation import duration, plain
from slmc.report.stored import Stored

PARTS_OF_TIME = {
    "exact_weight": ("exact weight", VERMILION),
    "inner": ("inner chain", BLUE),
    "training": ("training", GREEN),
    "other": ("other", MUTED),
}


def time_spent(run: Stored) -> Plot:
    """Seconds by what they were spent on, and by round of learning."""
    plot = Plot("time", "Where the time went")
    seconds = {
        name: float(value)
        for name, value in (run.summary.get("seconds") or {}).items()
        if value is not None and value > 0
    }
    if not seconds:
        plot.caption = "No times are stored yet."
        return plot
    total, left = sum(seconds.values()), 0.0
    with plot.panel(f"{duration(total)} in all", height=2.3) as axes:
        for name, value in seconds.items():
            words, colour = PARTS_OF_TIME.get(name, (name.replace("_", " "), SKY))
            label = f"{words}: {plain(value)} s ({100 * value / total:.0f} %)"
            axes.barh(0, value, left=left, color=colour, height=0.6, label=label)
            left += value
        axes.set(xlabel="seconds", yticks=[], ylim=(-0.45, 0.45), xlim=(0, total))
        axes.spines["left"].set_visible(False)
        axes.figure.legend(loc="outside lower left", ncols=2, columnspacing=1.0, handlelength=0.9)
    plot.caption = (
        "Exact evaluations should dominate: then every effective sample saved is time saved. If the inner chain does, "
        "shorten it or use a cheaper model; if training does, train fewer steps a round."
        if run.learns
        else "Exact evaluations should dominate. The rest is compiling, observables and writing records."
    )
    return plot
