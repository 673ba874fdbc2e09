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

_SERIES = ("chain", "draw")


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

    @cached_property
    def configurations(self) -> xarray.Dataset:
        """The configurations that were kept (``measurement.keep_every``), their draws of the measurement as coordinate.

        Empty where none were.
        """
        return Records(records_path(self.directory), read_only=True).kept()

    def to_datatree(self) -> xarray.DataTree:
        """What was measured, as ArviZ takes it: ``posterior`` with everything by (chain, draw), and ``sample_stats``.

        ``sample_stats`` has the log-weight as ``lp``, ``accepted`` and ``log_ratio``. Attributes tell the settings.
        """
        measured = self.records.children.get("measurement")
        if measured is None:
            raise UserError(f"{self.directory} has no measurement yet.")
        series = {str(name): values for name, values in measured.data_vars.items() if values.dims[:2] == _SERIES}
        about: dict[str, Any] = {
            name: series.pop(name) for name in ("log_weight", "accepted", "log_ratio") if name in series
        }
        groups: dict[str, dict[str, Any]] = {
            "posterior": series,
            "sample_stats": {"lp": about.pop("log_weight"), **about},
        }
        counted = {name: np.arange(about["accepted"].sizes[name]) for name in _SERIES}
        sets: dict[str, Any] = {group: xarray.Dataset(members, coords=counted) for group, members in groups.items()}
        tree: xarray.DataTree = xarray.DataTree.from_dict(sets)
        tree.attrs = {"title": self.title, "inference_library": "slmc", **self.records.attrs}
        return tree

    def plot(self, name: str = "traces", axes: Any = None) -> np.ndarray:
        """A figure of the report on matplotlib axes, those given or new ones; returns the axes, one for each panel.

        ``name`` is that of a function in ``slmc.report.figures``: ``"traces"``, ``"autocorrelations"``,
        ``"acceptance"``, ``"comparison"``, ``"parity"``, ``"learning"``, ``"inner_chain"``, ``"thermalisation"``,
        ``"structure"``, ``"ladder"``, ``"time_spent"``. Raises ``UserError`` for others, and where nothing is stored
        for a figure.
        """
        from slmc.report.on_axes import draw

        return draw(self.records, self.summary, name, axes)

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
        """Values and errors (``name`` and ``name_error``) of all observables by point, fields as coordinates.

        ``model_of`` names the point whose frozen model proposed, where that was another one.
        """
        columns: dict[str, Any] = {}
        for name in self.observables:
            for suffix, figure in (("", "value"), ("_error", "error")):
                numbers = [(_observables(point).get(name) or {}).get(figure) for point in self.points]
                columns[name + suffix] = ("point", np.array(numbers, float))
        for name in ("acceptance", "residual", "ess_per_exact_evaluation", "ess_per_second"):
            columns[name] = ("point", np.array([point.get(name) for point in self.points], float))
        columns["verdict"] = ("point", [str(point["verdict"]) for point in self.points])
        if any("model_of" in point for point in self.points):
            columns["model_of"] = ("point", [point.get("model_of", "") for point in self.points])
        fields = {key: ("point", [point[key] for point in self.points]) for key in self.keys}
        return xarray.Dataset(columns, coords=fields)

    @property
    def as_csv(self) -> str:
        """The table as comma-separated values; what is not known is empty."""
        text = io.StringIO()
        writer = csv.writer(text)
        names = [*self.keys, *map(str, self.table.data_vars)]
        writer.writerow(names)
        for number in range(len(self.points)):
            cells = [self.table[name].values[number] for name in names]
            writer.writerow(["" if isinstance(cell, float) and np.isnan(cell) else cell for cell in cells])
        return text.getvalue()

    def save_table(self, path: Path) -> None:
        """Writes the table as the end of the name says: ``.csv``, ``.parquet`` or ``.nc`` (NetCDF).

        Raises ``UserError`` for other names, and where the package for such files is missing.
        """
        ways: dict[str, Callable[[], Any]] = {
            ".csv": lambda: path.write_text(self.as_csv, encoding="utf-8", errors="replace"),
            ".parquet": lambda: self.table.to_dataframe().reset_index().to_parquet(path),
            ".nc": lambda: self.table.to_netcdf(path),
        }
        if path.suffix not in ways:
            raise UserError(f"{path} must end with {', '.join(ways)}, which say how the table is written.")
        try:
            ways[path.suffix]()
        except (ImportError, ValueError) as error:
            words = " ".join(str(error).split())[:200].rstrip(".")
            raise UserError(f"{path} cannot be written: {words}; install what is missing, or take .csv.") from None

    def write_table(self) -> Path:
        """Writes the table as ``table.csv`` into the directory, in one piece; returns its path."""
        path = self.directory / TABLE
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(self.as_csv, encoding="utf-8", errors="replace")
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
