"""Formulas of the pages, set while the site is built: the reader's browser needs no script, no font and no server.

Formulas between dollars are LaTeX and become MathML. In running text, that of docstrings too, indices written as in
``W_eff`` and exponents as in ``e^{−x}`` are lowered and raised.
"""

import html
import re
from typing import Any

from math_core import LatexToMathML

CONVERTER = LatexToMathML(fancy_error=False)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
UNTOUCHED = re.compile(
    r"((?:<(?:code|pre|math|script|style|svg)\b.*?</(?:code|pre|math|script|style|svg)>)"
    r'|<span class="doc[^>]*>[^<]*</span>|<[^>]*>)',
    re.DOTALL,
)
NAME = r"[^\W_⁰¹²³⁴-⁹½¼]"
INDEX = re.compile(
    rf"((?<![A-Za-z_.])d?[A-Za-z]|(?![\x00-\x7f]){NAME}|[)\]⟩>])([†′']?)_"
    rf"(\{{[^{{}}]*\}}|⟨\w+⟩(?:_{NAME})?|{NAME}{{1,6}}(?:,{NAME}(?![A-Za-z]))?|[±+−])(?![A-Za-z0-9_={{])"
)
EXPONENT = re.compile(rf"(?<=[\w)\]⟩†|])\^(\{{[^{{}}]*\}}|\([^()]*\)|[0-9]+\.[0-9]+|{NAME}+)")
COUNT = re.compile(r"n_[a-z]{4,}")
"""Names of numbers, as ``n_steps``, have no indices."""


def mathml(found: re.Match[str]) -> str:
    """One formula. What is no LaTeX ends the build."""
    block = found[1] == "div"
    formula = CONVERTER.convert_with_local_state(html.unescape(found[2]).strip(), displaystyle=block)
    return f'<div class="formula">{formula}</div>' if block else formula


def lowered(found: re.Match[str]) -> str:
    if COUNT.fullmatch(found[0]):
        return found[0]
    return f"{found[1]}{found[2]}<sub>{with_indices(found[3].strip('{}'))}</sub>"


def with_indices(text: str) -> str:
    """Running text with indices and exponents."""
    text = EXPONENT.sub(lambda found: f"<sup>{found[1].strip('{}')}</sup>", text)
    return INDEX.sub(lowered, text)


def on_page_content(content: str, **_: Any) -> str:
    """MkDocs calls this with the HTML of each page."""
    pieces = UNTOUCHED.split(FORMULA.sub(mathml, content))
    return "".join(with_indices(piece) if k % 2 == 0 else piece for k, piece in enumerate(pieces))
