"""The look of every figure: inline SVG panels whose colours follow the page's light or dark scheme."""

import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, RULE = "#1d2127", "#69727d", "#dfe2e6"
# Okabe and Ito's palette, told apart with every kind of colour blindness.
BLUE, VERMILION, GREEN, AMBER, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"
CHAINS = (BLUE, AMBER, GREEN, PURPLE, VERMILION, SKY)
# The page names these colours again for the dark scheme.
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    BLUE: "blue",
    VERMILION: "vermilion",
    GREEN: "green",
    AMBER: "amber",
    PURPLE: "purple",
    SKY: "sky",
}

STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 11.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 9.0,
    "axes.titlecolor": INK,
    "axes.labelsize": 11.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "errorbar.capsize": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "legend.handlelength": 1.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "slmc",
}


_canvas: ContextVar[tuple[Iterator[Axes], list[Axes]] | None] = ContextVar("axes to draw on instead", default=None)


@contextmanager
def drawn_on(axes: Sequence[Axes]) -> Iterator[list[Axes]]:
    """Within it panels are drawn on these axes, in order, and not made into SVG; yields the list of those in use."""
    used: list[Axes] = []
    before = _canvas.set((iter(axes), used))
    try:
        yield used
    finally:
        _canvas.reset(before)


@dataclass
class Plot:
    """One figure of the report. Without panels it is left out and ``caption`` says why."""

    name: str
    title: str
    caption: str = ""
    panels: list[str] = field(default_factory=list)

    @contextmanager
    def panel(self, title: str, height: float = 3.0) -> Iterator[Axes]:
        """One set of axes to draw in; the panel is added when the block ends."""
        if (canvas := _canvas.get()) is not None:
            given = next(canvas[0], None)
            if given is not None:
                canvas[1].append(given)
            axes = given if given is not None else Figure().add_subplot()
            axes.set_title(title)
            yield axes
            return
        with matplotlib.rc_context(STYLE):
            figure = Figure(figsize=(4.3, height), layout="constrained")
            axes = figure.add_subplot()
            axes.set_title(title)
            yield axes
            self.panels.append(_svg(figure, f"{self.name}-{len(self.panels)}", title))


def _svg(figure: Figure, prefix: str, title: str) -> str:
    """The figure as an SVG element that can stand in a page beside others."""
    stream = io.StringIO()
    nothing: dict[str, None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, dpi=150, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    # Identifiers must be unique in a page of many figures.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    for colour, name in VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    label = html.escape(re.sub(r"[$\\{}]|mathrm", "", title))
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
