"""The command line: ``slmc run | resume | report | info | init | examples``. Options and printing."""

import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slmc import __version__, runs
from slmc.failures import told
from slmc.results import TABLE, Result, ScanResult
from slmc.simulation import make_console, read_toml, to_toml
from slmc.starting import STOPPED, signals_in_a_sentence
from slmc.statistics import notation
from slmc.system import ready_made

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


def _tell_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"slmc {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def run(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG_OR_NAME",
            help="A TOML file, a name from slmc examples, or, to continue it, a run's directory.",
        ),
    ],
    out: Out = None,
    set_: Set = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.")] = None,
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="Continue the run that is there already, begin it if there is none; to be given again until it exits "
            "with 0.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Thermalise, learn, freeze, measure, report; without a model (learning.n_rounds = 0) by exact updates alone."""
    _show(runs.run(config, out=out, seed=seed, quiet=quiet, overrides=set_ or (), go_on=go_on), quiet)


@app.command()
def resume(directory: Directory, quiet: Quiet = False) -> None:
    """Continue a run after any interruption, to the bit; several processes may share the points of a scan."""
    _show(runs.resume(directory, quiet=quiet), quiet)


@app.command()
def report(directory: Directory) -> None:
    """Write DIR/report.html anew from the stored records."""
    typer.echo(f"wrote {runs.report(directory)}")


@app.command()
def info(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a run has found so far."""
    if as_json:
        typer.echo(json.dumps(runs.info(directory), indent=1))
    else:
        opened = runs.open_run(directory)
        _print_result(runs.scan_result(opened) if opened.is_scan else runs.result_of(opened))


@app.command()
def init(name: Annotated[str, typer.Argument(help="A name from slmc examples.")]) -> None:
    """Print a ready-made configuration with every field and its meaning."""
    settings = runs.settings_of(read_toml(runs.config_path(name)))
    typer.echo(to_toml(settings, comments=True, without=getattr(settings, "without_effect", ())), nl=False)


@app.command()
def examples() -> None:
    """List the ready-made configurations."""
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, path in sorted(ready_made().items()):
        # Titles without checking the rest: the system may need an extra that is not installed.
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(str(read_toml(path).get("title", ""))))
    make_console().print(table)


def main() -> None:
    """Entry point: whatever ends a command early is told in one sentence; ``starting`` has the exit codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # signs that a terminal does not have must not end a run
            stream.reconfigure(errors="replace")
    with signals_in_a_sentence():
        try:
            app()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on
        except Exception as error:
            sentence, code = told(error)
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {escape(sentence)}")
            sys.exit(code)


def _show(result: Result | ScanResult, quiet: bool) -> None:
    """Prints the result of a complete run; one that was stopped has said so, and has an exit code of its own."""
    if not result.is_complete:
        raise typer.Exit(STOPPED)
    if not quiet:
        _print_result(result)


def _print_result(result: Result | ScanResult) -> None:
    console = make_console()
    if isinstance(result, ScanResult):
        _print_scan(console, result)
    elif "observables" in result.summary:
        _print_summary(console, result.summary)
    else:
        _print_variational(console, result.summary)
    if result.report.is_file():
        console.print(f"report: {result.report}", soft_wrap=True, markup=False)


def _print_scan(console: Console, result: ScanResult) -> None:
    """A line a point, with as many observables as the width has room for."""
    shown = [point for point in result.points if point.get("observables") or point.get("energy")]
    if not shown:
        console.print("no point has been measured yet")
        return
    columns = {
        about["symbol"]: [f"{point[key]:g}" if isinstance(point[key], float) else str(point[key]) for point in shown]
        for key, about in zip(result.keys, result.fields.values(), strict=True)
    }
    ends = {
        "acceptance": [_number(point.get("acceptance"), ".3f") for point in shown],
        "verdict": [point["verdict"] for point in shown],
    }
    merit = shown[0].get("figure_of_merit")
    n_left_out = 0
    for name in sorted(result.observables, key=lambda name: name != merit):
        figures = [point.get("observables", {}).get(name) or {} for point in shown]
        column = [notation(of_point.get("value"), of_point.get("error")) for of_point in figures]
        if _width({**columns, name: column, **ends}) <= console.width:
            columns[name] = column
        else:
            n_left_out += 1
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in (*columns, "acceptance"):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for row in zip(*columns.values(), *ends.values(), strict=True):
        table.add_row(*map(escape, row))
    console.print(table)
    if n_left_out:
        console.print(f"{n_left_out} more observables: {result.directory / TABLE}", soft_wrap=True, markup=False)


def _width(columns: dict[str, list[str]]) -> int:
    """How wide a table is; verdicts, which may be sentences, wrap where they take more than a third of a line."""
    widest = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    return sum(2 + (min(width, 40) if name == "verdict" else width) for name, width in widest.items())


def _print_summary(console: Console, summary: dict[str, Any]) -> None:
    baseline = summary.get("baseline", {}).get("observables", {})
    has_samples = any(figures["monte_carlo_error"] is not None for figures in summary["observables"].values())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    more = (["of it Monte Carlo"] if has_samples else []) + (["exact chain"] if baseline else [])
    for heading in ("observable", "value", "R-hat", "ESS", *more):
        table.add_column(heading, justify="left" if heading == "observable" else "right", no_wrap=True)
    for name, figures in summary["observables"].items():
        value = notation(figures["value"], figures["error"])
        row = [escape(name), value, _number(figures["r_hat"], ".3f"), _number(figures["ess"], ".0f")]
        if has_samples:
            row.append(_number(figures["monte_carlo_error"], ".2g"))
        if baseline:
            row.append(notation(baseline[name]["value"], baseline[name]["error"]) if name in baseline else "")
        table.add_row(*row)
    if summary["observables"]:
        console.print(table)
    for name, value in summary["found"].items():
        console.print(f"{name} {value:.6g}, found while thermalising, then fixed", markup=False)
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
        markup=False,
    )
    inner = summary.get("inner_chain")
    if inner is not None and inner["share_of_exact_evaluation"] is None:
        console.print(f"trajectory of the model, as chosen: {inner['update']}", markup=False)
    elif inner is not None:
        uncertain = "" if inner["relative_error"] is None else f" ± {100 * inner['relative_error']:.0f} %"
        console.print(
            f"inner chain, as chosen: {inner['n_updates']} × {inner['update']}, "
            f"costing {inner['share_of_exact_evaluation']:.2f} exact evaluations; "
            f"{inner['expected_ess_per_second']:.3g}{uncertain} effective samples a second were expected",
            soft_wrap=True,
            markup=False,
        )
    if advice := summary.get("baseline", {}).get("recommendation"):
        console.print(advice, soft_wrap=True, markup=False)
    console.print(f"phase {summary['phase']}, verdict: {summary['verdict']}", soft_wrap=True, markup=False)


def _print_variational(console: Console, summary: dict[str, Any]) -> None:
    energy, exact = summary["energy"], summary["exact_energy"]
    if energy is not None:
        line = f"energy a site {notation(energy['value'], energy['error'])} {summary['units']}".rstrip()
        if exact is not None:
            line += f", exact {exact:.6f}, relative error {summary['relative_error']:.1e}"
        console.print(line, soft_wrap=True, markup=False)
        console.print(f"V-score {summary['v_score']:.2e}")
    seconds = summary["seconds_per_step"]
    pace = f", {seconds:.2f} s each" if seconds is not None else ""
    console.print(f"{summary['n_parameters']} parameters, {summary['n_steps']} steps{pace}", soft_wrap=True)
    console.print(f"phase {summary['phase']}, verdict: {summary['verdict']}", soft_wrap=True, markup=False)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


if __name__ == "__main__":
    main()
