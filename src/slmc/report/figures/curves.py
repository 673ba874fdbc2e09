"""The figure of fields in equal bins, such as how often atoms are how far apart: a curve for each."""

import numpy as np

from slmc.report.drawing import BLUE, MUTED, SKY, VERMILION, Plot
from slmc.report.figures.axes import from_zero
from slmc.report.stored import Stored


def curves(run: Stored) -> Plot:
    """Mean and error of every field that is drawn as a curve, beside the exact chain's; nothing where there is none."""
    plot = Plot("curves", "Distributions")
    has_baseline = False
    for name in run.all_drawn_as("curve"):
        blocks = _blocks(run, "measurement", name)
        about = run.attributes(name).get("drawing") or {}
        if blocks is None or not {"start", "width", "label"} <= set(about):
            continue
        place = about["start"] + about["width"] * (np.arange(blocks.shape[1]) + 0.5)
        mean, error = blocks.mean(0), _error(blocks)
        units = run.attribute(name, "units")
        with plot.panel(run.symbol(name).words) as axes:
            axes.fill_between(place, mean - error, mean + error, color=SKY, alpha=0.5, linewidth=0)
            axes.plot(place, mean, color=BLUE, linewidth=1.3)
            exact = _blocks(run, "baseline", name)
            if exact is not None:
                has_baseline = True
                axes.plot(place, exact.mean(0), "--", color=VERMILION, linewidth=1.0)
            if units in ("", "1"):
                axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=":")
            axes.set(
                xlabel=about["label"], ylabel=about.get("value", "") + ("" if units in ("", "1") else f" [{units}]")
            )
            axes.set_xlim(float(place[0]), float(place[-1]))
            from_zero(axes)
    if plot.panels:
        plot.caption = "Means over all chains and blocks; the band is an error, from the means of chains." + (
            " Dashed: the exact chain of this run." if has_baseline else ""
        )
    return plot


def _blocks(run: Stored, group: str, name: str) -> np.ndarray | None:
    """The means over blocks of every chain, (chain, bin)."""
    values = run.values(group, name)
    if values is None or values.ndim != 3:
        return None
    known = np.isfinite(values).all(axis=(0, 2))
    return values[:, known].mean(1) if known.any() else None


def _error(chains: np.ndarray) -> np.ndarray:
    if len(chains) < 2:
        return np.zeros(chains.shape[1])
    return np.asarray(chains.std(0, ddof=1) / np.sqrt(len(chains)))
