"""The HTML page of a scan: observables against what is scanned, each point with a report of its own."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from slmc.report.drawing import BLUE, CHAINS, VERMILION, Plot
from slmc.report.notation import Symbol, concise, duration, plain, symbol_of
from slmc.report.page import Tile, render, write_atomically
from slmc.report.stored import finite_only

_COSTS = {
    "acceptance": "acceptance",
    "residual": "residual <i>s</i>",
    "ess_per_exact_evaluation": "effective samples / evaluation",
    "ess_per_second": "effective samples / s",
}


class Scanned(NamedTuple):
    """Summaries of the points begun, in their order, and how fields and observables are written.

    Each point has its fields under ``keys``, its ``directory`` and, in ``point``, what is scanned there in words.
    ``fields`` tells symbol and units of each key, ``observables`` the attributes of each observable.
    """

    points: Sequence[dict[str, Any]]
    keys: Sequence[str]
    fields: Mapping[str, Mapping[str, str]]
    observables: Mapping[str, Mapping[str, Any]]

    @property
    def names(self) -> list[str]:
        """All observables measured somewhere."""
        return list(dict.fromkeys(name for point in self.points for name in point.get("observables", {})))

    def symbol(self, name: str) -> Symbol:
        """How an observable is written."""
        return symbol_of(name, self.observables.get(name, {}))

    @property
    def along(self) -> str | None:
        """The field along which points are drawn: of those with numbers the one with most values."""
        numbers = [key for key in self.keys if all(isinstance(point[key], float | int) for point in self.points)]
        return max(numbers, key=lambda key: len({point[key] for point in self.points}), default=None)

    @property
    def label(self) -> str:
        """The name of that field on an axis."""
        if self.along is None:
            return "point"
        about = self.fields[self.along]
        units = f" [{about['units']}]" if about.get("units") else ""
        return f"${about['symbol']}${units}" if len(about["symbol"]) == 1 else f"{about['symbol']}{units}"

    def lines(self) -> dict[str, list[tuple[float, dict[str, Any]]]]:
        """Points with the same other fields, by what these are in words, sorted along the field that is drawn."""
        by_words: dict[str, list[tuple[float, dict[str, Any]]]] = {}
        for number, point in enumerate(self.points):
            others = ", ".join(f"{self.fields[key]['symbol']} = {point[key]}" for key in self.keys if key != self.along)
            place = float(number + 1 if self.along is None else point[self.along])
            by_words.setdefault("" if self.along is None else others, []).append((place, point))
        return {words: sorted(line, key=lambda entry: entry[0]) for words, line in by_words.items()}


class Line(NamedTuple):
    """One point in the table."""

    point: str
    link: str
    cells: tuple[str, ...]
    verdict: str
    doubtful: bool


def write_scan_report(scanned: Scanned, about: dict[str, Any], config: str, path: Path) -> None:
    """Writes the report of a scan as one HTML file, beside the directories of its points, to whose reports it links.

    ``about`` has the title, the directory and the version, and ``n_points`` that were asked for.
    """
    points = [finite_only(point) for point in scanned.points]
    scanned = scanned._replace(points=points)
    names = scanned.names
    plots = [observables_plot(scanned), costs_plot(scanned)]
    warnings = [f"{point['point']}: {text}" for point in points for text in point["warnings"]]
    complete = len(points) == about["n_points"] and all(point["phase"] == "done" for point in points)
    doubtful = [point for point in points if _is_doubtful(point)]
    verdict = "ok" if complete else f"{len(points)} of {about['n_points']} points begun"
    if doubtful:
        verdict = f"{doubtful[0]['point']}: {doubtful[0]['verdict']}"
    costs = {name: heading for name, heading in _COSTS.items() if any(name in point for point in points)}
    page = render(
        "scan.html",
        summary={**about, "verdict": verdict, "warnings": warnings},
        status="caution" if doubtful or warnings else "good" if complete else "unfinished",
        tiles=_tiles(points, about["n_points"]),
        headings=[scanned.symbol(name).html or escape(scanned.symbol(name).words) for name in names],
        costs=list(costs.values()),
        lines=[_line(point, names, list(costs)) for point in points],
        plots=plots,
        left_out=[plot for plot in plots if not plot.panels],
        config=config,
    )
    write_atomically(page, path)


def observables_plot(scanned: Scanned) -> Plot:
    """One panel an observable, against the field that is scanned, with the exact chain's where there is one."""
    plot = Plot("scan", "Along the scan")
    has_baseline = any(point.get("baseline") for point in scanned.points)
    lines = scanned.lines()
    for name in scanned.names:
        with plot.panel(scanned.symbol(name).mathtext, height=2.7) as axes:
            for (words, line), colour in zip(lines.items(), _colours(len(lines)), strict=True):
                for ours in (True, False)[: 1 + has_baseline]:
                    known = _known(line, name, ours)
                    if not known:
                        continue
                    places, values, errors = zip(*known, strict=True)
                    axes.errorbar(
                        places,
                        values,
                        errors,
                        marker="o" if ours else "s",
                        markersize=5 if ours else 8,
                        markerfacecolor=colour if ours else "none",
                        linestyle="-" if ours else "none",
                        color=colour if ours or len(lines) > 1 else VERMILION,
                        label=(words or "this run")
                        if ours
                        else "exact chain"
                        if line is next(iter(lines.values()))
                        else None,
                    )
            axes.set_xlabel(scanned.label)
            if (has_baseline or len(lines) > 1) and name == scanned.names[0]:
                axes.legend()
    plot.caption = "Errors are one standard deviation, most of them smaller than the symbols." + (
        " The exact chain samples without any learned model; both must agree." if has_baseline else ""
    )
    if not plot.panels:
        plot.caption = "Nothing has been measured yet."
    return plot


def _known(line: list[tuple[float, dict[str, Any]]], name: str, ours: bool) -> list[tuple[float, float, float]]:
    """Places, values and errors of an observable along a line, of this run or of the exact chain."""
    estimates = [(x, (point if ours else _baseline(point)).get("observables", {}).get(name)) for x, point in line]
    return [(x, e["value"], e["error"] or 0.0) for x, e in estimates if e and e["value"] is not None]


def _colours(n_lines: int) -> list[str]:
    return [BLUE] if n_lines == 1 else [CHAINS[number % len(CHAINS)] for number in range(n_lines)]


def costs_plot(scanned: Scanned) -> Plot:
    """Acceptance and effective samples against the field that is scanned."""
    plot = Plot("costs", "Acceptance and cost")
    wanted = {"acceptance": "acceptance", "ess_per_exact_evaluation": "effective samples / exact evaluation"}
    lines = scanned.lines()
    for name, title in wanted.items():
        known = {
            words: [(x, point[name]) for x, point in line if point.get(name) is not None]
            for words, line in lines.items()
        }
        if any(known.values()):
            with plot.panel(title, height=2.7) as axes:
                for (words, line), colour in zip(known.items(), _colours(len(lines)), strict=True):
                    if line:
                        axes.plot(*zip(*line, strict=True), "o-", color=colour, label=words)
                axes.set(xlabel=scanned.label, ylim=(0, 1.05))
    plot.caption = _who_proposes(scanned.points)
    if not plot.panels:
        plot.caption = "Nothing has been measured yet."
    return plot


def _who_proposes(points: Sequence[dict[str, Any]]) -> str:
    if any("model_of" in point for point in points):
        return "Where a model was learned it proposes; elsewhere the frozen model of the nearest such point does."
    if any("residual" in point for point in points):
        return "At each point a model of its own proposes, learned from that of a point beside."
    return "At each point exact updates alone, their step size tuned there."


def _baseline(point: dict[str, Any]) -> dict[str, Any]:
    return point.get("baseline") or {}


def _is_doubtful(point: dict[str, Any]) -> bool:
    return point["phase"] == "done" and point["verdict"] != "ok"


def _tiles(points: Sequence[dict[str, Any]], n_points: int) -> list[Tile]:
    done = sum(point["phase"] == "done" for point in points)
    evaluations = sum(count or 0 for point in points for count in point.get("exact_evaluations", {}).values())
    seconds = sum(value or 0.0 for point in points for value in point["seconds"].values())
    accepted = [point["acceptance"] for point in points if point.get("acceptance") is not None]
    return [
        Tile("points", f"{done}", f"finished, of {n_points}"),
        Tile("acceptance", plain(min(accepted, default=None), 3), "the lowest of all points"),
        Tile("exact evaluations", plain(evaluations), f"{duration(seconds)} in all"),
    ]


def _line(point: dict[str, Any], names: Sequence[str], costs: Sequence[str]) -> Line:
    estimates = [point.get("observables", {}).get(name) or {} for name in names]
    cells = [concise(figures.get("value"), figures.get("error")) for figures in estimates]
    cells += [plain(point.get(name), 3) for name in costs]
    link = f"{point['directory']}/report.html"
    return Line(point["point"], link, tuple(cells), point["verdict"], _is_doubtful(point))
