"""The command line: ``slmc run | resume | report | info | init | examples``."""

import errno
import json
import math
import shutil
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeGuard

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slmc import __version__, cli_double_exchange, cli_gauge
from slmc.cli_double_exchange import DoubleExchangeConfig
from slmc.cli_gauge import GaugeConfig
from slmc.settings import Settings
from slmc.simulation import (
    Problem,
    Records,
    Reporter,
    RunSettings,
    ScanSettings,
    Simulation,
    UserError,
    config_of,
    load_config,
    locked,
    make_console,
    new_directory,
    point_directory,
    records_path,
    summarise,
    system_of,
    to_toml,
    use_all_cores,
)
from slmc.simulation.directory import RECORDS
from slmc.statistics import notation
from slmc.systems.spins.problem import SCALARS

app = typer.Typer(
    help="Self-learning Monte Carlo: a learned model proposes, the exact weight accepts or rejects.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path | None, typer.Option("--out", help="Directory of the run; must not exist or be empty.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a field: section.field=value. Repeatable.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a run.")]


class System(NamedTuple):
    """A system that ``Simulation`` runs: its settings, and the problem that they describe.

    ``build(settings, directory)`` takes the files that settings name relative to ``directory``; it raises
    ``UserError`` naming the field that is wrong.
    """

    config: type[RunSettings]
    build: Callable[[Any, Path], Problem]


SYSTEMS = {
    "double_exchange": System(DoubleExchangeConfig, cli_double_exchange.build),
    "gauge": System(GaugeConfig, cli_gauge.build),
}
WAVE_FUNCTION = "wavefunction"

KEPT_FILES = {"model": "start.eqx", "target": "start.links"}
"""Under which names a run keeps the files that the sections of its configuration name as ``file``."""


@app.command()
def run(
    config: Annotated[str, typer.Argument(metavar="CONFIG_OR_NAME", help="A TOML file, or a name from slmc examples.")],
    out: Out = None,
    set_: Set = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.")] = None,
    quiet: Quiet = False,
) -> None:
    """Thermalise, learn, freeze, measure, report; without a model (learning.n_rounds = 0) by exact updates alone."""
    path = _config_path(config)
    if system_of(path) == WAVE_FUNCTION:
        _wavefunctions().run(path, out, set_, seed, quiet)
        return
    system = _system(path)
    settings = load_config(path, system.config, set_, seed)
    use_all_cores()
    problem = system.build(settings, Path())
    directory = new_directory(out, path.stem)
    with locked(directory):
        settings = _with_files_in(directory, settings)
        (directory / "config.toml").write_text(to_toml(settings, without=settings.without_effect))
        _carry_out(directory, settings, problem, quiet)


@app.command()
def resume(directory: Directory, quiet: Quiet = False) -> None:
    """Continue a run after any interruption, to the bit."""
    if system_of(config_of(directory)) == WAVE_FUNCTION:
        _wavefunctions().resume(directory, quiet)
        return
    settings, problem = _opened(directory)
    with locked(directory):
        _carry_out(directory, settings, problem, quiet)


@app.command()
def report(directory: Directory) -> None:
    """Write DIR/report.html anew from the stored records."""
    if system_of(config_of(directory)) == WAVE_FUNCTION:
        typer.echo(f"wrote {_wavefunctions().report(directory)}")
        return
    settings, problem = _opened(directory)
    if _is_scan(settings):
        for number, place in _begun(directory, settings):
            point = _point(settings, number)
            _write_report(place, summarise(place, cli_double_exchange.build(point, place)), point)
        path = _write_scan_report(directory, settings, _summaries(directory, settings))
    else:
        path = _write_report(directory, summarise(directory, problem), settings)
    typer.echo(f"wrote {path}")


@app.command()
def info(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a run has found so far."""
    if system_of(config_of(directory)) == WAVE_FUNCTION:
        found = _wavefunctions().info(directory)
        if as_json:
            typer.echo(json.dumps(found, indent=1))
        else:
            _wavefunctions().print_summary(make_console(), directory, found)
        return
    settings, problem = _opened(directory)
    if _is_scan(settings):
        points = _summaries(directory, settings)
        if as_json:
            typer.echo(json.dumps({"points": points}, indent=1))
        else:
            _print_scan(make_console(), directory, points)
        return
    summary = summarise(directory, problem)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        _print_summary(make_console(), directory, summary)


@app.command()
def init(name: Annotated[str, typer.Argument(help="A name from slmc examples.")]) -> None:
    """Print a ready-made configuration with every field and its meaning."""
    path = _config_path(name)
    settings = load_config(path, config_kind(path))
    without = settings.without_effect if isinstance(settings, RunSettings) else ()
    typer.echo(to_toml(settings, comments=True, without=without), nl=False)


@app.command()
def examples() -> None:
    """List the ready-made configurations."""
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, path in sorted(_ready_made().items()):
        # Titles without checking the rest: the system may need an extra that is not installed.
        table.add_row(f"[bold]{name}[/bold]", tomllib.loads(path.read_text()).get("title", ""))
    make_console().print(table)


def main() -> None:
    """Entry point: user errors become one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except FloatingPointError as error:
        _fail(f"{error}")
    except Exception as error:
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in str(error):
            _fail("the disk is full; free some space and continue with slmc resume DIR (what was measured is kept).")
        raise


def _wavefunctions() -> Any:
    """The commands for wave functions, loaded when asked for: they need the extra of that name."""
    from slmc import cli_wavefunctions

    return cli_wavefunctions


def config_kind(path: Path) -> type[Settings]:
    """The settings that a file should hold, by the system it names. Raises ``UserError`` for one that is not known."""
    return _wavefunctions().WaveFunctionConfig if system_of(path) == WAVE_FUNCTION else _system(path).config


def _system(path: Path) -> System:
    """The system that a file names; double exchange where it names none."""
    name = system_of(path) or "double_exchange"
    if name not in SYSTEMS:
        known = ", ".join((*SYSTEMS, WAVE_FUNCTION))
        raise UserError(f"system = {name!r} is not allowed: it must be one of {known}.")
    return SYSTEMS[name]


def _opened(directory: Path) -> tuple[RunSettings, Problem]:
    """The settings of an existing run and the problem that they describe."""
    system = _system(config_of(directory))
    settings = load_config(config_of(directory), system.config)
    use_all_cores()
    return settings, system.build(settings, directory)


def _with_files_in(directory: Path, settings: RunSettings) -> RunSettings:
    """The settings with the files that they name copied to the run's directory: it must not depend on any elsewhere."""
    for name, kept in KEPT_FILES.items():
        section = getattr(settings, name)
        file = getattr(section, "file", None)
        if file is not None:
            shutil.copyfile(file, directory / kept)
            settings = settings.model_copy(update={name: section.model_copy(update={"file": kept})})
    return settings


def _is_scan(settings: RunSettings) -> TypeGuard[DoubleExchangeConfig]:
    return isinstance(settings, DoubleExchangeConfig) and bool(settings.scan.temperatures)


def _fail(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {escape(sentence)}")
    sys.exit(2)


def _ready_made() -> dict[str, Path]:
    return {
        Path(str(entry)).stem: Path(str(entry))
        for entry in files("slmc.configs").iterdir()
        if entry.name.endswith(".toml")
    }


def _config_path(config: str) -> Path:
    if Path(config).is_file():
        return Path(config)
    ready_made = _ready_made()
    if config not in ready_made:
        raise UserError(
            f"{config} is neither a file nor a ready-made configuration; those are {', '.join(sorted(ready_made))}."
        )
    return ready_made[config]


def _carry_out(directory: Path, settings: RunSettings, problem: Problem, quiet: bool) -> bool:
    """Runs or continues one run, or a scan; whether it is complete."""
    if _is_scan(settings):
        return _carry_out_scan(directory, settings, quiet)
    reporter = Reporter(quiet=quiet)
    reporter.note(f"slmc {__version__}: {settings.title or settings.system}, results in {directory}")
    complete = Simulation(directory, settings, problem, reporter).run()
    summary = summarise(directory, problem)
    _write_report(directory, summary, settings)
    if not quiet and complete:
        _print_summary(reporter.console, directory, summary)
    return complete


def _carry_out_scan(directory: Path, settings: DoubleExchangeConfig, quiet: bool) -> bool:
    """One temperature after the other; those that are complete are passed over."""
    Records(directory / RECORDS)
    started, before = time.monotonic(), directory / "start.eqx"
    for number, temperature in enumerate(settings.scan.temperatures):
        place = point_directory(directory, temperature)
        place.mkdir(exist_ok=True)
        start = place / "start.eqx"
        if before.is_file() and not start.is_file():
            shutil.copyfile(before, start.with_suffix(".part"))
            start.with_suffix(".part").rename(start)
        point = _point(settings, number)
        (place / "config.toml").write_text(to_toml(point, without=point.without_effect))
        limit = settings.measurement.wall_time
        if limit is not None:
            left = max(1e-3, limit - (time.monotonic() - started))
            point = point.model_copy(update={"measurement": point.measurement.model_copy(update={"wall_time": left})})
        complete = _carry_out(place, point, cli_double_exchange.build(point, place), quiet=True)
        points = _summaries(directory, settings)
        _write_scan_report(directory, settings, points)
        if not complete:
            Reporter(quiet=quiet).note(f"stopped at T = {temperature:g}; continue with: slmc resume {directory}")
            return False
        if not quiet:
            _print_scan(make_console(), directory, points)
        before = place / "model.eqx"
    return True


def _point(settings: DoubleExchangeConfig, number: int) -> DoubleExchangeConfig:
    """The settings of one temperature of a scan: an ordinary run; the model of the one before, if any, starts it."""
    temperature = settings.scan.temperatures[number]
    has_start = settings.learns and (number > 0 or settings.model.file is not None)
    return settings.model_copy(
        update={
            "title": f"{settings.title or settings.system}, T = {temperature:g}",
            "seed": settings.seed + number,
            "target": settings.target.model_copy(update={"temperature": temperature}),
            "model": settings.model.model_copy(update={"file": "start.eqx" if has_start else None}),
            "scan": ScanSettings(),
        }
    )


def _begun(directory: Path, settings: DoubleExchangeConfig) -> list[tuple[int, Path]]:
    """The temperatures of a scan that have been begun: their number and directory."""
    places = [point_directory(directory, temperature) for temperature in settings.scan.temperatures]
    return [(number, place) for number, place in enumerate(places) if (place / "config.toml").is_file()]


def _summaries(directory: Path, settings: DoubleExchangeConfig) -> list[dict[str, Any]]:
    found = []
    for number, place in _begun(directory, settings):
        summary = summarise(place, cli_double_exchange.build(_point(settings, number), place))
        about = {"temperature": settings.scan.temperatures[number], "directory": place.name}
        found.append(about | summary)
    return found


def _write_scan_report(directory: Path, settings: DoubleExchangeConfig, points: list[dict[str, Any]]) -> Path:
    from slmc.report import write_scan_report

    about = {
        "title": settings.title or settings.system,
        "directory": directory.name,
        "version": __version__,
        "n_points": len(settings.scan.temperatures),
    }
    path = directory / "report.html"
    write_scan_report(points, about, (directory / "config.toml").read_text(), path)
    return path


def _print_scan(console: Console, directory: Path, points: list[dict[str, Any]]) -> None:
    shown = [point for point in points if point["observables"]]
    if not shown:
        console.print("no temperature has been measured yet")
        return
    names = [name for name in shown[0]["observables"] if name in SCALARS or name == "energy"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("T", *names, "acceptance", "verdict"):
        table.add_column(heading, justify="left" if heading == "verdict" else "right", overflow="fold")
    for point in shown:
        found = [point["observables"].get(name) or {} for name in names]
        values = [notation(one.get("value"), one.get("error")) for one in found]
        table.add_row(f"{point['temperature']:g}", *values, _number(point["acceptance"], ".3f"), point["verdict"])
    console.print(table)
    if (directory / "report.html").is_file():
        console.print(f"report: {directory / 'report.html'}", soft_wrap=True)


def _write_report(directory: Path, summary: dict[str, Any], settings: RunSettings) -> Path:
    from slmc.report import write_report

    about = {**summary, "title": settings.title or settings.system, "directory": directory.name, "version": __version__}
    records = Records(records_path(directory), read_only=True).tree()
    write_report(records, about, (directory / "config.toml").read_text(), directory / "report.html")
    return directory / "report.html"


def _print_summary(console: Console, directory: Path, summary: dict[str, Any]) -> None:
    baseline = summary.get("baseline", {}).get("observables", {})
    diluted = any(one["monte_carlo_error"] is not None for one in summary["observables"].values())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    more = (["of it Monte Carlo"] if diluted else []) + (["exact chain"] if baseline else [])
    for heading in ("observable", "value", "R-hat", "ESS", *more):
        table.add_column(heading, justify="left" if heading == "observable" else "right", no_wrap=True)
    for name, one in summary["observables"].items():
        row = [name, notation(one["value"], one["error"]), _number(one["r_hat"], ".3f"), _number(one["ess"], ".0f")]
        if diluted:
            row.append(_number(one["monte_carlo_error"], ".2g"))
        if baseline:
            row.append(notation(baseline[name]["value"], baseline[name]["error"]) if name in baseline else "")
        table.add_row(*row)
    if summary["observables"]:
        console.print(table)
    for name, value in summary["found"].items():
        console.print(f"{name} {value:.6g}, found while thermalising, then fixed")
    figures = [f"acceptance {_number(summary['acceptance'], '.3f')}"]
    if "residual" in summary:
        figures.append(f"residual s {_number(summary['residual'], '.3f')}")
        figures.append(f"expected erfc(s/2) {_number(summary['expected_acceptance'], '.3f')}")
    console.print("  ".join(figures))
    console.print(
        f"effective samples of {summary['figure_of_merit']}: "
        f"{_number(summary['ess_per_exact_evaluation'], '.3f')} per exact evaluation, "
        f"{_number(summary['ess_per_second'], '.1f')} per second",
        soft_wrap=True,
    )
    inner = summary.get("inner_chain")
    if inner is not None:
        console.print(
            f"inner chain, as chosen: {inner['n_updates']} × {inner['update']}, "
            f"costing {inner['share_of_exact_evaluation']:.2f} exact evaluations",
            soft_wrap=True,
        )
    console.print(f"phase {summary['phase']}, verdict: {summary['verdict']}", soft_wrap=True)
    if (directory / "report.html").is_file():
        console.print(f"report: {directory / 'report.html'}", soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


if __name__ == "__main__":
    main()
