"""Figures of the report on matplotlib axes: those that are given, or new ones."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slmc.report.drawing import drawn_on
from slmc.report.figures import FIGURES
from slmc.report.stored import Stored, finite_only
from slmc.system import UserError

NAMES = tuple(figure.__name__ for figure in FIGURES)
"""What the figures are called."""


def draw(records: Any, summary: dict[str, Any], name: str, axes: Any = None) -> np.ndarray:
    """The axes with the panels of one figure, one axes for each panel.

    ``axes``, one or several or an array of them, are drawn into, as many as there are; panels beyond are left out. By
    default there is a new figure with a row of panels, shown in a notebook. Raises ``UserError`` for a figure that
    there is not, and for one for which nothing is stored, with the reason.
    """
    figure = next((figure for figure in FIGURES if figure.__name__ == name), None)
    if figure is None:
        raise UserError(f"there is no figure {name!r:.60}; there are {', '.join(NAMES)}.")
    run = Stored(records, finite_only(summary))
    if axes is None:
        blank = [Figure().add_subplot() for _ in range(_MOST_PANELS)]
        with drawn_on(blank) as n_drawn:
            plot = figure(run)
        if not n_drawn:
            raise UserError(f"there is nothing to draw for {name!r}: {plot.caption or 'the run has none of it'}")
        axes = _new_axes(len(n_drawn))
    chosen = [axes] if isinstance(axes, Axes) else list(np.ravel(np.asarray(axes, object)))
    with drawn_on(chosen) as used:
        plot = figure(run)
    if not used:
        raise UserError(f"there is nothing to draw for {name!r}: {plot.caption or 'the run has none of it'}")
    return np.array(used, object)


_MOST_PANELS = 16


def _new_axes(n_panels: int) -> list[Axes]:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, n_panels, figsize=(4.3 * n_panels, 3.0), layout="constrained", squeeze=False)
    return list(axes[0])
