"""The HTML page: numbers and figures put into the template, written in one piece or not at all."""

import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import xarray
from markupsafe import Markup, escape

from slmc.report.figures import FIGURES
from slmc.report.notation import concise, duration, plain
from slmc.report.stored import Stored, finite_only

PHASES = ("thermalise", "learn", "measure", "baseline", "done")
LARGEST_R_HAT = 1.01
LEAST_EFFECTIVE_SAMPLES = 100
LARGEST_DIFFERENCE = 3.0


def write_report(records: xarray.DataTree, summary: dict[str, Any], config: str, path: Path) -> None:
    """Writes the report of a run, finished or not, as one HTML file that needs nothing else.

    ``records`` are the groups of ``records.zarr`` (any may be missing), ``summary`` is what ``slmc info --json``
    prints, ``config`` the text of ``config.toml``. Figures without data are left out, with the reason. A report
    that stood at ``path`` stays whole until the new one is.
    """
    summary = finite_only(summary)
    run = Stored(records, summary)
    plots = [figure(run) for figure in FIGURES]
    phases = [phase for phase in PHASES if run.learns or phase not in ("learn", "baseline")]
    page = render(
        "run.html",
        summary=summary,
        status=_status(summary),
        learns=run.learns,
        phases=phases,
        reached=phases.index(summary["phase"]) if summary.get("phase") in phases else len(phases) - 1,
        tiles=_tiles(run),
        rows=_rows(run),
        has_baseline=bool(run.baseline().get("observables")),
        has_samples=any(estimate.get("monte_carlo_error") is not None for estimate in run.observables().values()),
        plots=plots,
        left_out=[plot for plot in plots if plot.caption and not plot.panels],
        config=config,
        facts=_facts(run),
    )
    write_atomically(page, Path(path))


def render(template: str, **values: Any) -> str:
    """A page of the templates."""
    loader = jinja2.PackageLoader("slmc.report")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # Captions and SVG are ours; everything that comes from the run is escaped.
    environment.filters["ours"] = Markup
    return environment.get_template(template).render(**values)


def write_atomically(text: str, path: Path) -> None:
    # Not a tempfile, which only its owner could read: a report is for sharing.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", errors="replace")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class Fact(NamedTuple):
    """One line about the run as a whole; the text is ours and may have tags."""

    name: str
    text: str


METHOD = (
    "J. Liu, Y. Qi, Z. Y. Meng, L. Fu, Phys. Rev. B <b>95</b>, 041101 (2017); "
    "J. Liu, H. Shen, Y. Qi, Z. Y. Meng, L. Fu, Phys. Rev. B <b>95</b>, 241104 (2017)"
)
"""Self-learning Monte Carlo and the cumulative update."""


def _facts(run: Stored) -> list[Fact]:
    """What is sampled, with what, when and where, and whom to cite; lines of which nothing is stored are left out."""
    summary, measured = run.summary, run.records.children.get("measurement")
    equation = "" if measured is None else str(measured.attrs.get("equation", ""))
    made = summary.get("made") or {}
    versions = ", ".join(f"{name} {number}" for name, number in (made.get("versions") or {}).items())
    facts = [
        Fact("what is sampled", _with_tags(equation)),
        Fact("parameters of the model", plain(summary["n_parameters"]) if summary.get("n_parameters") else ""),
        Fact("seed", str(summary["seed"]) if summary.get("seed") is not None else ""),
        Fact("begun", _escaped(", ".join(str(made[key]) for key in ("date", "machine") if key in made))),
        Fact("with", _escaped(f"Python {made['python']}, {versions}" if versions else "")),
        Fact(
            "please cite",
            f"{METHOD}; and slmc, version {_escaped(str(summary.get('version', '')))}" if run.learns else "",
        ),
    ]
    return [fact for fact in facts if fact.text]


def _escaped(text: str) -> str:
    return str(escape(text))


def _with_tags(text: str) -> str:
    """A text from the records, in which the tags i, b, sub and sup alone are let through."""
    return re.sub(r"&lt;(/?(?:i|b|sub|sup))&gt;", r"<\1>", _escaped(text))


def _status(summary: dict[str, Any]) -> str:
    """How the header looks: ``unfinished``, ``caution`` (warnings, or a verdict that is not ok) or ``good``."""
    if summary.get("phase") != "done":
        return "unfinished"
    doubtful = summary.get("verdict") not in (None, "ok")
    return "caution" if summary.get("warnings") or doubtful else "good"


class Tile(NamedTuple):
    """One key number: its name, the number, and what to hold it against."""

    name: str
    value: str
    note: str


def _tiles(run: Stored) -> list[Tile]:
    summary, baseline = run.summary, run.baseline()
    spent = summary.get("exact_evaluations") or {}
    known = [phase for phase in spent if spent[phase] is not None]
    seconds = sum(value for value in (summary.get("seconds") or {}).values() if value is not None)
    notes = [f"{plain(spent[phase])} {phase}" for phase in known] + ([f"{duration(seconds)} in all"] if seconds else [])
    model = [
        Tile("expected acceptance", plain(summary.get("expected_acceptance"), 3), "erfc(s/2), independent proposals"),
        Tile("residual s", plain(summary.get("residual"), 3), "std of log W − log W_eff, held out"),
    ]
    decided = "of proposals, by the exact weight" if run.learns else "of exact updates"
    return [
        Tile("acceptance", plain(summary.get("acceptance"), 3), decided),
        *(model if run.learns else []),
        Tile(
            "effective samples / exact evaluation",
            plain(summary.get("ess_per_exact_evaluation"), 2),
            _gain(summary, baseline, "ess_per_exact_evaluation") or "at most 1",
        ),
        Tile(
            "effective samples / second",
            plain(summary.get("ess_per_second"), 2),
            _gain(summary, baseline, "ess_per_second") or "of the slowest observable",
        ),
        Tile(
            "exact evaluations",
            plain(sum(spent[phase] for phase in known)) if known else "–",
            ", ".join(notes),
        ),
    ]


def _gain(summary: dict[str, Any], baseline: dict[str, Any], name: str) -> str:
    """How many times that of the exact chain, where both are known well enough to say so."""
    ours, theirs = summary.get(name), baseline.get(name)
    if reason := baseline.get("no_ratio"):
        return f"not compared with the exact chain; {reason}"
    if not ours or not theirs:
        return ""
    is_slower = name == "ess_per_second" and baseline.get("recommendation")
    advice = "; exact updates alone are the faster choice here: learning.n_rounds = 0" if is_slower else ""
    return f"{plain(ours / theirs, 2)} × the exact chain’s {plain(theirs, 2)}{advice}"


class Row(NamedTuple):
    """One observable in the table; ``flags`` names the cells that ask for attention."""

    name: str
    symbol: str
    description: str
    units: str
    value: str
    monte_carlo: str
    exact: str
    difference: str
    r_hat: str
    ess: str
    flags: tuple[str, ...]


def _rows(run: Stored) -> list[Row]:
    theirs = run.baseline().get("observables") or {}
    return [_row(run, name, estimate, theirs.get(name) or {}) for name, estimate in run.observables().items()]


def _row(run: Stored, name: str, estimate: dict[str, Any], exact: dict[str, Any]) -> Row:
    r_hat, ess = estimate.get("r_hat"), estimate.get("ess")
    difference = _difference(estimate, exact)
    flags = {
        "difference": difference is not None and abs(difference) > LARGEST_DIFFERENCE,
        "r_hat": r_hat is not None and not r_hat <= LARGEST_R_HAT,
        "ess": ess is not None and not ess >= LEAST_EFFECTIVE_SAMPLES,
    }
    units = run.attribute(name, "units")
    return Row(
        name=name,
        symbol=run.symbol(name).html,
        description=run.attribute(name, "description") or run.symbol(name).words,
        units=units if units != "1" else "",
        value=concise(estimate.get("value"), estimate.get("error")),
        monte_carlo=plain(estimate.get("monte_carlo_error"), 2),
        exact=concise(exact.get("value"), exact.get("error")),
        difference="–" if difference is None else f"{difference:+.1f} σ".replace("-", "−"),
        r_hat="–" if r_hat is None else f"{r_hat:.3f}",
        ess=plain(None if ess is None else round(ess)),
        flags=tuple(flag for flag, raised in flags.items() if raised),
    )


def _difference(estimate: dict[str, Any], exact: dict[str, Any]) -> float | None:
    """Our value less the exact chain's, in combined errors."""
    numbers = [entry.get(key) for key in ("value", "error") for entry in (estimate, exact)]
    known = [float(number) for number in numbers if number is not None]
    if len(known) < 4 or not any(known[2:]):
        return None
    return (known[0] - known[1]) / math.hypot(*known[2:])
