"""What the figures share: chains drawn, axes from zero, logarithms in plain numbers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from slmc.report.drawing import CHAINS
from slmc.report.stored import Stored, thinned

N_CHAINS_SHOWN = 4
N_POINTS_SHOWN = 300
LEAST_DRAWS = 16
DECADES_APART = 50.0


def draw_chains(axes: Axes, series: np.ndarray) -> None:
    steps, values = thinned(series[:N_CHAINS_SHOWN], N_POINTS_SHOWN)
    for chain, colour in zip(values, CHAINS, strict=False):
        axes.plot(steps + 1, chain, color=colour, linewidth=0.8, alpha=0.85)
    axes.set_xlim(1, max(series.shape[1], 2))


def chains_shown(series: np.ndarray) -> str:
    return f"Shown are {N_CHAINS_SHOWN} of {len(series)} chains. " if len(series) > N_CHAINS_SHOWN else ""


def with_units(run: Stored, name: str) -> str:
    units = run.attribute(name, "units")
    return run.symbol(name).mathtext + (f" [{units}]" if units not in ("", "1") else "")


def from_zero(axes: Axes, room: float = 1.0) -> None:
    axes.set_ylim(0, max(room * axes.get_ylim()[1], 1e-12))


def logarithmic(axes: Axes, values: np.ndarray) -> None:
    axes.set_yscale("log")
    if values.max() < DECADES_APART * values.min():
        plain_logs(axes)


def plain_logs(axes: Axes) -> None:
    """Labels such as 0.02 instead of 2 × 10⁻², at 1, 2, 5 where few decades are shown."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < DECADES_APART * low else (1,)))
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: "")
