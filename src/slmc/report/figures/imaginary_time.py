"""The figure of a Green function in imaginary time."""

import numpy as np

from slmc.report.drawing import BLUE, Plot
from slmc.report.stored import Stored


def imaginary_time(run: Stored) -> Plot:
    """A field over the circle of imaginary time, mean of all but its last axis; nothing where there is none."""
    plot = Plot("imaginary_time", "Imaginary time")
    name = run.drawn_as("imaginary time")
    values = None if name is None else run.values("measurement", name)
    if name is None or values is None or values.ndim < 3:
        return plot
    blocks = values.reshape(*values.shape[:2], -1, values.shape[-1]).mean(2)
    by_chain = np.stack(
        [chain[np.isfinite(chain).all(1)].mean(0) for chain in blocks if np.isfinite(chain).all(1).any()]
    )
    symbol, places = run.symbol(name), np.linspace(0, 1, values.shape[-1])
    mean = by_chain.mean(0)
    errors = by_chain.std(0, ddof=1) / np.sqrt(len(by_chain)) if len(by_chain) > 1 else None
    with plot.panel(f"{symbol.words[:1].upper()}{symbol.words[1:]} {symbol.mathtext}") as axes:
        axes.errorbar(places, mean, errors, fmt="o-", color=BLUE, markersize=3, linewidth=0.9)
        axes.set(xlabel=r"$\tau / \beta$")
        if np.all(mean > 0):
            axes.set_yscale("log")
    plot.caption = (
        f"{symbol.html} from 0 to β, averaged over spins; error bars are from the scatter of the chains. Values far "
        "below those at the ends come from rare configurations: compare runs of several seeds before you believe their "
        "errors."
    )
    return plot
