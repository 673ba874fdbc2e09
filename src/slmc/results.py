"""What ``slmc.run`` and ``slmc.scan`` return: results to look at, and to go on working with."""

import csv
import html
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from slmc.simulation import WAVE_FUNCTION, Records, described_tree, records_path
from slmc.statistics import Estimate, notation
from slmc.system import Problem, UserError, load_model

TABLE = "table.csv"


@dataclass(frozen=True, repr=False)
class Result:
    """A run in its directory.

    ``observables`` are estimates by name, ``records`` everything recorded (an xarray ``DataTree``), ``model`` the
    frozen effective model, ``report`` the path of the report, ``summary`` all figures (what ``slmc info --json``
    prints). ``is_complete`` is false for a run that was stopped early: go on with ``slmc.resume``.
    """

    directory: Path
    title: str
    summary: dict[str, Any]
    problem: Any
    build_model: Callable[[dict[str, Any]], Any] | None
    complete: bool | None = None

    @property
    def is_complete(self) -> bool:
        return bool(self.summary["phase"] == "done" if self.complete is None else self.complete)

    @property
    def verdict(self) -> str:
        return str(self.summary["verdict"])

    @property
    def report(self) -> Path:
        return self.directory / "report.html"

    @property
    def observables(self) -> dict[str, Estimate]:
        """Estimates by name; of a variational run, the energy a site."""
        known = self.summary.get("observables", {"energy": self.summary.get("energy")})
        return {name: Estimate(**_with_nan(figures)) for name, figures in known.items() if figures is not None}

    @cached_property
    def records(self) -> xarray.DataTree:
        """Everything recorded, with units and descriptions as attributes."""
        return described_tree(Records(records_path(self.directory), read_only=True), self.problem_of_records)

    @property
    def problem_of_records(self) -> Problem | None:
        return self.problem if isinstance(self.problem, Problem) else None

    @cached_property
    def model(self) -> Any:
        """The frozen model. Raises ``UserError`` where there is none, or none yet."""
        path = next((p for p in (self.directory / "model.eqx", self.directory / WAVE_FUNCTION) if p.is_file()), None)
        if path is None or self.build_model is None:
            raise UserError(f"{self.directory} holds no model: the run has none, or has not learned it yet.")
        return load_model(path, self.build_model)

    def __getattr__(self, name: str) -> Any:
        """What the system makes of the frozen model: ``result.calculator()`` of atoms, for one."""
        offers = getattr(self.__dict__.get("problem"), "offers", {})
        if name not in offers:
            raise AttributeError(f"a result has no attribute {name!r}")
        return lambda: offers[name](self.model)

    def __repr__(self) -> str:
        lines = [f"{self.title}: {self.verdict}", f"in {self.directory}"]
        width = max(map(len, self.observables), default=0)
        lines += [f"  {name:<{width}}  {notation(e.value, e.error)}" for name, e in self.observables.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{notation(e.value, e.error)}</td><td>{_number(e.r_hat, '.3f')}</td>"
            f"<td>{_number(e.ess, '.0f')}</td></tr>"
            for name, e in self.observables.items()
        )
        head = "<tr><th>observable</th><th>value</th><th>R̂</th><th>effective samples</th></tr>"
        return (
            f"<p><b>{html.escape(self.title)}</b><br>{html.escape(self.verdict)}<br>"
            f"<code>{html.escape(str(self.directory))}</code></p><table>{head}{rows}</table>"
        )


@dataclass(frozen=True, repr=False)
class ScanResult:
    """Runs at several points. ``fields`` are symbols and units of what is scanned, ``points`` the summary of each."""

    directory: Path
    title: str
    fields: dict[str, dict[str, str]]
    points: list[dict[str, Any]]
    complete: bool | None = None

    @property
    def is_complete(self) -> bool:
        return bool(all(point["phase"] == "done" for point in self.points) if self.complete is None else self.complete)

    @property
    def report(self) -> Path:
        return self.directory / "report.html"

    @property
    def keys(self) -> list[str]:
        """Under which names the summaries of the points tell what is scanned there."""
        short = [name.rpartition(".")[2] for name in self.fields]
        return short if len(set(short)) == len(short) else list(self.fields)

    @property
    def observables(self) -> list[str]:
        """Names of all that was measured at some point."""
        return list(dict.fromkeys(name for point in self.points for name in _observables(point)))

    @cached_property
    def table(self) -> xarray.Dataset:
        """Values and errors (``name`` and ``name_error``) of all observables by point, fields as coordinates."""
        columns: dict[str, Any] = {}
        for name in self.observables:
            for suffix, figure in (("", "value"), ("_error", "error")):
                numbers = [(_observables(point).get(name) or {}).get(figure) for point in self.points]
                columns[name + suffix] = ("point", np.array(numbers, float))
        for name in ("acceptance", "residual", "ess_per_exact_evaluation", "ess_per_second"):
            columns[name] = ("point", np.array([point.get(name) for point in self.points], float))
        columns["verdict"] = ("point", [str(point["verdict"]) for point in self.points])
        fields = {key: ("point", [point[key] for point in self.points]) for key in self.keys}
        return xarray.Dataset(columns, coords=fields)

    def write_table(self) -> Path:
        """Writes the table as ``table.csv`` into the directory, in one piece; returns its path."""
        text = io.StringIO()
        writer = csv.writer(text)
        names = [*self.keys, *map(str, self.table.data_vars)]
        writer.writerow(names)
        for number in range(len(self.points)):
            cells = [self.table[name].values[number] for name in names]
            writer.writerow(["" if isinstance(cell, float) and np.isnan(cell) else cell for cell in cells])
        path = self.directory / TABLE
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(text.getvalue(), encoding="utf-8", errors="replace")
        os.replace(unfinished, path)
        return path

    def __repr__(self) -> str:
        lines = [f"{self.title}: {len(self.points)} points in {self.directory}"]
        lines += [f"  {point['point']}: {point['verdict']}" for point in self.points]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(self.title)}</b></p>{self.table.to_dataframe().to_html()}"


def _observables(point: dict[str, Any]) -> dict[str, Any]:
    return point.get("observables", {"energy": point.get("energy")})


def _with_nan(figures: dict[str, Any]) -> dict[str, Any]:
    """Value and error are numbers in an ``Estimate``, also where JSON says that they are not known."""
    known = {name: figures[name] for name in ("value", "error")}
    return {**figures, **{name: float("nan") if value is None else value for name, value in known.items()}}


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
