"""Pictures of a configuration of points in space, such as atoms."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from slmc.report.drawing import CHAINS, MUTED, RULE, Plot
from slmc.report.stored import Stored

_TILT = np.radians((-66.0, -20.0))
"""Turns about the first axis, from straight above, and about the last."""

_EXTENT = 3.0
"""Inches across which the points are drawn."""


def points(run: Stored) -> Plot:
    """Where the first chain was at the beginning and at the end; nothing, not even a caption, where there is none."""
    plot = Plot("points", "Configurations")
    name = run.drawn_as("points")
    variable = None if name is None else run.variable("measurement", name)
    about = {} if name is None else run.attributes(name).get("drawing") or {}
    if variable is None or variable.ndim != 4 or not variable.size or not {"labels", "sizes"} <= set(about):
        return plot
    # Of a long run only what is drawn is read.
    for title, draw in (("First chain, at the beginning", 0), ("First chain, at the end", -1)):
        places = np.asarray(variable[0, draw].values, float)
        if np.isfinite(places).all():
            with plot.panel(title, height=3.6) as axes:
                _draw(axes, _wrapped(places, about), about)
    if plot.panels:
        kinds = dict.fromkeys(about["labels"])
        plot.caption = (
            f"Where the first chain was when the measurement began and where it ended ({', '.join(kinds)}), seen at an "
            "angle from above. Lines join neighbours"
            + (", not across the cell, whose edges are drawn; all are shown inside it." if about.get("cell") else ".")
        )
    return plot


def _wrapped(places: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Inside the cell, or about their centre where there is none."""
    if not about.get("cell"):
        return np.asarray(places - places.mean(0))
    rows = np.array(about["cell"], float)
    fractional = places @ np.linalg.inv(rows)
    return np.asarray((fractional - np.floor(fractional + 1e-9)) @ rows)


def _draw(axes: Axes, places: np.ndarray, about: dict[str, Any]) -> None:
    """Circles from back to front, each over the bonds that are behind it."""
    turned, sizes = places @ _turn().T, np.array(about["sizes"], float)
    edges = _edges(about)
    corners = turned if edges is None else np.concatenate([turned, edges.reshape(-1, 3) @ _turn().T])
    low, high = corners[:, :2].min(0) - 0.6 * sizes.max(), corners[:, :2].max(0) + 0.6 * sizes.max()
    span = float(max(high - low))
    middle = (low + high) / 2
    kinds = list(dict.fromkeys(about["labels"]))
    colours = about.get("colours") or [CHAINS[kinds.index(label) % len(CHAINS)] for label in about["labels"]]
    per_unit = 72 * _EXTENT / span
    if edges is not None:
        axes.add_collection(LineCollection((edges @ _turn().T)[:, :, :2], colors=RULE, linewidths=0.9, zorder=0))
    order = np.argsort(turned[:, 2])
    depth = np.empty(len(order))
    depth[order] = 2 + np.arange(len(order))
    for first, second in _bonds(places, sizes, about.get("bonds", 0.0)):
        ends = turned[[first, second], :2]
        below = min(depth[first], depth[second]) - 0.5
        axes.plot(ends[:, 0], ends[:, 1], color=MUTED, linewidth=2.4, solid_capstyle="round", zorder=below)
    for place, size, colour, front in zip(turned, sizes, colours, depth, strict=True):
        axes.plot(
            place[0], place[1], "o", markersize=max(3.0, 1.0 * size * per_unit), markerfacecolor=colour,
            markeredgecolor=MUTED, markeredgewidth=0.7, zorder=front,
        )  # fmt: skip
    axes.set(xlim=middle[0] + span / 2 * np.array([-1, 1]), ylim=middle[1] + span / 2 * np.array([-1, 1]))
    axes.set_aspect("equal")
    axes.set_axis_off()


def _turn() -> np.ndarray:
    """From the axes of space to right, up, and towards who looks."""
    (sine, cosine), (sine_z, cosine_z) = ((np.sin(angle), np.cos(angle)) for angle in _TILT)
    about_x = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return np.asarray(about_x @ np.array([[cosine_z, -sine_z, 0], [sine_z, cosine_z, 0], [0, 0, 1]]))


def _bonds(places: np.ndarray, sizes: np.ndarray, share: float) -> np.ndarray:
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    near = distance < share * (sizes[:, None] + sizes[None])
    return np.argwhere(np.triu(near, 1))


def _edges(about: dict[str, Any]) -> np.ndarray | None:
    """The twelve edges of the cell, ends first."""
    if not about.get("cell"):
        return None
    rows = np.array(about["cell"], float)
    edges = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        for first in (0, 1):
            for second in (0, 1):
                start = first * rows[others[0]] + second * rows[others[1]]
                edges.append([start, start + rows[axis]])
    return np.array(edges)
