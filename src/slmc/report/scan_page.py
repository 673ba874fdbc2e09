"""The HTML page of a run over several temperatures: observables against temperature, each point with its own report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slmc.report.drawing import BLUE, VERMILION, Plot
from slmc.report.notation import concise, duration, plain, symbol
from slmc.report.page import Tile, render, write_atomically
from slmc.report.stored import finite_only

_COSTS = {
    "acceptance": "acceptance",
    "residual": "residual <i>s</i>",
    "ess_per_exact_evaluation": "effective samples / evaluation",
    "ess_per_second": "effective samples / s",
}


class Line(NamedTuple):
    """One temperature in the table."""

    temperature: str
    link: str
    cells: tuple[str, ...]
    verdict: str
    doubtful: bool


def write_scan_report(points: Sequence[dict[str, Any]], about: dict[str, Any], config: str, path: Path) -> None:
    """Writes the report of a scan as one HTML file, beside the directories of its points, to whose reports it links.

    ``points`` are the summaries of the temperatures run so far, in their order, each with ``temperature`` and
    ``directory``; ``about`` has the title, the directory and the version, and ``n_points`` that were asked for.
    """
    points = [finite_only(point) for point in points]
    names = list(dict.fromkeys(name for point in points for name in point["observables"]))
    plots = [observables_plot(points, names), costs_plot(points)]
    warnings = [f"T = {point['temperature']:g}: {text}" for point in points for text in point["warnings"]]
    complete = len(points) == about["n_points"] and all(point["phase"] == "done" for point in points)
    doubtful = [point for point in points if _is_doubtful(point)]
    verdict = "ok" if complete else f"{len(points)} of {about['n_points']} temperatures begun"
    if doubtful:
        verdict = f"T = {doubtful[0]['temperature']:g}: {doubtful[0]['verdict']}"
    costs = {name: heading for name, heading in _COSTS.items() if any(name in point for point in points)}
    page = render(
        "scan.html",
        summary={**about, "verdict": verdict, "warnings": warnings},
        status="caution" if doubtful or warnings else "good" if complete else "unfinished",
        tiles=_tiles(points, about["n_points"]),
        headings=[symbol(name).html or name for name in names] + list(costs.values()),
        lines=[_line(point, names, list(costs)) for point in points],
        plots=plots,
        left_out=[plot for plot in plots if not plot.panels],
        config=config,
    )
    write_atomically(page, path)


def observables_plot(points: Sequence[dict[str, Any]], names: Sequence[str]) -> Plot:
    """One panel an observable, against temperature, with the exact chain's where there is one."""
    plot = Plot("temperature", "Against temperature")
    has_baseline = any(point.get("baseline") for point in points)
    for name in names:
        with plot.panel(symbol(name).mathtext, height=2.7) as axes:
            chains = (("this run", BLUE, "o", lambda point: point), ("exact chain", VERMILION, "s", _baseline))
            for label, colour, marker, chain in chains[: 1 + has_baseline]:
                found = [(point["temperature"], chain(point).get("observables", {}).get(name)) for point in points]
                known = sorted((t, one["value"], one["error"] or 0.0) for t, one in found if one and one["value"])
                if not known:
                    continue
                temperatures, values, errors = zip(*known, strict=True)
                ours = colour == BLUE
                axes.errorbar(
                    temperatures,
                    values,
                    errors,
                    marker=marker,
                    markersize=5 if ours else 8,
                    markerfacecolor=colour if ours else "none",
                    linestyle="-" if ours else "none",
                    color=colour,
                    label=label,
                )
            axes.set_xlabel("$T$")
            if has_baseline and name == names[0]:
                axes.legend()
    plot.caption = "Errors are one standard deviation, most of them smaller than the symbols." + (
        " The exact chain samples without any learned model; both must agree." if has_baseline else ""
    )
    return plot


def costs_plot(points: Sequence[dict[str, Any]]) -> Plot:
    """Acceptance and effective samples against temperature."""
    plot = Plot("costs", "Acceptance and cost")
    wanted = {"acceptance": "acceptance", "ess_per_exact_evaluation": "effective samples / exact evaluation"}
    for name, title in wanted.items():
        known = sorted((point["temperature"], point[name]) for point in points if point.get(name) is not None)
        if known:
            with plot.panel(title, height=2.7) as axes:
                axes.plot(*zip(*known, strict=True), "o-", color=BLUE)
                axes.set(xlabel="$T$", ylim=(0, 1.05))
    plot.caption = (
        "At each temperature a model of its own proposes, learned from that of the temperature before."
        if any("residual" in point for point in points)
        else "At each temperature exact updates alone, their step size tuned there."
    )
    if not plot.panels:
        plot.caption = "Nothing has been measured yet."
    return plot


def _baseline(point: dict[str, Any]) -> dict[str, Any]:
    return point.get("baseline") or {}


def _is_doubtful(point: dict[str, Any]) -> bool:
    return point["phase"] == "done" and point["verdict"] != "ok"


def _tiles(points: Sequence[dict[str, Any]], n_points: int) -> list[Tile]:
    done = sum(point["phase"] == "done" for point in points)
    evaluations = sum(count or 0 for point in points for count in point["exact_evaluations"].values())
    seconds = sum(value or 0.0 for point in points for value in point["seconds"].values())
    accepted = [point["acceptance"] for point in points if point["acceptance"] is not None]
    return [
        Tile("temperatures", f"{done}", f"finished, of {n_points}"),
        Tile("acceptance", plain(min(accepted, default=None), 3), "the lowest of all temperatures"),
        Tile("exact evaluations", plain(evaluations), f"{duration(seconds)} in all"),
    ]


def _line(point: dict[str, Any], names: Sequence[str], costs: Sequence[str]) -> Line:
    found = [point["observables"].get(name) or {} for name in names]
    cells = [concise(one.get("value"), one.get("error")) for one in found]
    cells += [plain(point.get(name), 3) for name in costs]
    link = f"{point['directory']}/report.html"
    return Line(f"{point['temperature']:g}", link, tuple(cells), point["verdict"], _is_doubtful(point))
