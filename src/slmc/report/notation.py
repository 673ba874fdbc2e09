"""How numbers and observables are written: 0.5352(13), |m_st|²."""

import html
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.mathtext import MathTextParser

from slmc.statistics import notation

_TAGS = ("i", "b", "sub", "sup")
"""The tags that a symbol in HTML may have."""


class Symbol(NamedTuple):
    """An observable as it is written in figures (mathtext), in the page (HTML), and in words."""

    mathtext: str
    html: str
    words: str


def symbol_of(name: str, attributes: Mapping[str, Any]) -> Symbol:
    """The symbol that the records give an observable; its own name where they give none, or none that can be drawn."""
    words = str(attributes.get("words") or name.replace("_", " "))
    mathtext = str(attributes.get("mathtext") or "")
    if not _can_be_drawn(mathtext):
        mathtext = name.replace("_", " ").replace("\\", "/").replace("$", r"\$")
    return Symbol(mathtext, _harmless(str(attributes.get("html") or "")), words)


def _can_be_drawn(mathtext: str) -> bool:
    try:
        MathTextParser("path").parse(mathtext)
    except (ValueError, RuntimeError):
        return False
    return bool(mathtext)


def _harmless(text: str) -> str:
    """HTML with nothing in it but the tags of symbols: records may come from anybody."""
    tags = "|".join(_TAGS)
    return re.sub(rf"&lt;(/?(?:{tags}))&gt;", r"<\1>", html.escape(text))


def concise(value: float | int | None, error: float | int | None = None) -> str:
    """A value with its error in the last two digits, 0.5352(13), or a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return notation(float(value), None if error is None else float(error)).replace("-", "−")


def plain(value: float | int | None, digits: int = 3) -> str:
    """A number to a few digits, large ones whole with thin spaces: 0.0421, 14 000."""
    if value is None or not math.isfinite(value):
        return "–"
    if 1e7 > abs(value) >= 10**digits:
        value = value if abs(value) >= 1000 else float(f"{value:.{digits}g}")
        return f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def duration(seconds: float | int) -> str:
    """Wall time as one would say it: 8.2 s, 14 min, 3.1 h."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
