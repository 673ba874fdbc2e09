"""The command line: options and printing; ``slmc --help`` lists the commands."""

import io
import json
import math
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slmc import __version__
from slmc.console import make_console
from slmc.kept_summary import kept_summary
from slmc.notation import notation
from slmc.starting import STOPPED, refuse, signals_in_a_sentence

if TYPE_CHECKING:
    from slmc.results import Result, ScanResult

app = typer.Typer(
    help="Self-learning Monte Carlo: a learned model proposes, the exact weight accepts or rejects.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path | None, typer.Option("--out", help="Directory of the run; must not exist or be empty.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a field: section.field=value. Repeatable.")]
Log = Annotated[Path | None, typer.Option("--log", help="Append what happens to this file, a line of JSON each.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a run.")]


def _part(name: str) -> Any:
    """A part of the package, imported when a command needs it: help and errors of options don't wait for JAX."""
    try:
        return import_module(f"slmc.{name}")
    except Exception as error:
        refuse(error)


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
    log: Log = None,
    quiet: Quiet = False,
) -> None:
    """Thermalise, learn, freeze, measure, report; without a model (learning.n_rounds = 0) by exact updates alone."""
    _show(_part("runs").run(config, out=out, seed=seed, quiet=quiet, overrides=set_ or (), go_on=go_on, log=log), quiet)


@app.command()
def resume(
    directory: Directory,
    log: Log = None,
    quiet: Quiet = False,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Leave points of a scan alone that have failed already.")
    ] = False,
) -> None:
    """Continue a run after any interruption, to the bit; several processes may share the points of a scan."""
    _show(_part("runs").resume(directory, quiet=quiet, log=log, skip_failed=skip_failed), quiet)


@app.command()
def report(directory: Directory) -> None:
    """Write DIR/report.html anew from the stored records."""
    typer.echo(f"wrote {_part('runs').report(directory)}")


@app.command()
def info(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a run has found so far."""
    known = kept_summary(directory)
    if as_json:
        typer.echo(json.dumps(_part("runs").info(directory) if known is None else known, indent=1))
    elif known is not None:
        _print_figures(known, directory / "report.html")
    else:
        runs = _part("runs")
        opened = runs.open_run(directory)
        _print_result(runs.scan_result(opened) if opened.is_scan else runs.result_of(opened))


@app.command()
def measure(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE… | DIR OBSERVABLE…",
            help="Files with configurations, whoever wrote them; or a run, and what to measure on those it has kept.",
        ),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="What to measure of files: field=value. Repeatable; see --fields.")
    ] = None,
    fields: Annotated[bool, typer.Option("--fields", help="Print what may be set for such a file, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured of files as JSON.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write all values of a run into this file, npz.")] = None,
) -> None:
    """Measure configurations: those in files, several being one chain, or those that a run has kept."""
    is_run = Path(what[0]).is_dir()
    refused = {"--set": set_, "--fields": fields, "--json": as_json} if is_run else {"--out": out}
    for option, given in refused.items():
        if given:
            kinds = ("files", "a run") if is_run else ("a run", "files")
            raise _part("system").UserError(f"{option} is for {kinds[0]}, and {what[0]} is {kinds[1]}; leave it out.")
    if is_run:
        _measure_run(what[0], what[1:], out)
    else:
        _measure_files([Path(name) for name in what], set_ or [], fields, as_json)


def _measure_run(directory: str, names: list[str], out: Path | None) -> None:
    runs, simulation, statistics = _part("runs"), _part("simulation"), _part("statistics")
    if not names:
        raise _part("system").UserError(
            f"name what to measure after {directory}, for instance slmc measure {directory} energy."
        )
    found = {name: runs.measure(directory, name) for name in names}
    if out is not None:
        simulation.write_arrays(out, found)
        typer.echo(f"wrote {out}")
    table = _table(("observable", "value", "R-hat", "ESS"))
    for name, values in found.items():
        if values.ndim == 2:
            known = statistics.estimate(values.values)
            row = (
                notation(known.value, known.error),
                _number(known.r_hat, ".3f"),
                _number(known.ess, ".0f"),
            )
            table.add_row(escape(name), *row)
        else:
            table.add_row(escape(name), f"an array {' × '.join(map(str, values.shape[2:]))}, see --out", "", "")
    make_console().print(table)


def _measure_files(files: list[Path], set_: list[str], fields: bool, as_json: bool) -> None:
    runs, simulation, system = _part("runs"), _part("simulation"), _part("system")
    if fields:
        typer.echo(simulation.to_toml(system.measurement_of(files[0]).settings(), comments=True), nl=False)
        return
    found = runs.measure_files(files, overrides=set_)
    if as_json:
        typer.echo(json.dumps(found.as_dict, indent=1))
        return
    console = make_console()
    for note in found.notes:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[yellow]note:[/yellow] {escape(note)}")
    for heading, rows in found.tables:
        table = _table(heading)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)


def _table(heading: Sequence[str]) -> Table:
    """The first column is words, the others are numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(heading):
        table.add_column(escape(name), justify="right" if place else "left", no_wrap=True)
    return table


@app.command()
def table(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a scan.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write: .csv, .parquet or .nc; by default CSV is printed.")
    ] = None,
) -> None:
    """All points of a scan as one table: fields, values and errors of all observables, verdicts."""
    runs = _part("runs")
    opened = runs.open_run(directory)
    if not opened.is_scan:
        raise _part("system").UserError(f"{directory} holds no scan; slmc info {directory} shows what it has found.")
    result = runs.scan_result(opened)
    if out is None:
        typer.echo(result.as_csv.replace("\r\n", "\n"), nl=False)
    else:
        result.save_table(out)
        typer.echo(f"wrote {out}")


@app.command()
def submit(
    config: Annotated[str, typer.Argument(metavar="CONFIG_OR_DIR", help="As for slmc run; a scan, mostly.")],
    on: Annotated[str, typer.Option("--on", help="local: processes here; slurm: a job array.")] = "slurm",
    jobs: Annotated[int, typer.Option(min=1, help="Tasks that share the points.")] = 4,
    time: Annotated[str, typer.Option(help="Time limit of a task, as Slurm writes it.")] = "24:00:00",
    cores: Annotated[int, typer.Option(min=1, help="Cores of a task.")] = 2,
    sbatch: Annotated[list[str] | None, typer.Option(help="A line for sbatch, --partition=long. Repeatable.")] = None,
    dry: Annotated[bool, typer.Option("--print", help="Write and print the job script, submit nothing.")] = False,
    out: Out = None,
    set_: Set = None,
) -> None:
    """Share the points of a scan among processes here or among the tasks of a Slurm job array."""
    if on not in ("local", "slurm"):
        raise _part("system").UserError(f"--on {on} is not allowed: it must be local or slurm.")
    runs, submission, simulation = _part("runs"), _part("submission"), _part("simulation")
    submission.check_time(time)
    is_there = Path(config).is_dir()
    opened = runs.open_run(config) if is_there else runs.begin(config, out=out, overrides=set_ or ())
    directory = opened.directory
    if opened.is_scan and not dry:  # tasks leave points alone that have failed
        simulation.forget_failures(simulation.points_of(directory, opened.settings))
    if on == "local":
        code = submission.carried_out_here(directory, jobs)
        if code:
            raise typer.Exit(code)
        runs.report(directory)
        typer.echo(f"done, results in {directory}")
        return
    script = directory / submission.SCRIPT
    script.write_text(submission.slurm_script(directory, jobs, time, cores, tuple(sbatch or ())), encoding="utf-8")
    if dry:
        typer.echo(script.read_text(encoding="utf-8"), nl=False)
    else:
        typer.echo(submission.sent_to_slurm(script))


@app.command()
def init(name: Annotated[str, typer.Argument(help="A name from slmc examples.")]) -> None:
    """Print a ready-made configuration with every field and its meaning."""
    runs, simulation = _part("runs"), _part("simulation")
    settings = runs.settings_of(simulation.read_toml(runs.config_path(name)))
    typer.echo(simulation.to_toml(settings, comments=True, without=getattr(settings, "without_effect", ())), nl=False)


@app.command()
def examples() -> None:
    """List the ready-made configurations."""
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    simulation = _part("simulation")
    for name, path in sorted(_part("system").ready_made().items()):
        # Titles without checking the rest: the system may need an extra that is not installed.
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(str(simulation.read_toml(path).get("title", ""))))
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
            sentence, code = _part("failures").told(error)
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {escape(sentence)}")
            sys.exit(code)


def _show(result: "Result | ScanResult", quiet: bool) -> None:
    """Prints the result of a complete run; one that was stopped has said so, and has an exit code of its own."""
    if not result.is_complete:
        raise typer.Exit(STOPPED)
    if not quiet:
        _print_result(result)


def _print_result(result: "Result | ScanResult") -> None:
    if hasattr(result, "summary"):
        _print_figures(result.summary, result.report)
        return
    console = make_console()
    _print_scan(console, result)
    _print_path(console, result.report)


def _print_figures(summary: dict[str, Any], report: Path) -> None:
    """The summary of a run, and where its report is."""
    console = make_console()
    (_print_summary if "observables" in summary else _print_variational)(console, summary)
    _print_path(console, report)


def _print_path(console: Console, report: Path) -> None:
    if report.is_file():
        console.print(f"report: {report}", soft_wrap=True, markup=False)


def _print_scan(console: Console, result: Any) -> None:
    """A line a point, with as many observables as the width has room for."""
    shown = [p for p in result.points if p.get("observables") or p.get("energy") or p["phase"] == "failed"]
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
        path = result.directory / _part("results").TABLE
        console.print(f"{n_left_out} more observables: {path}", soft_wrap=True, markup=False)


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
    for stage in summary.get("stages", ()):
        console.print(
            f"guide with {stage['n_parameters']} numbers fitted: residual s {_number(stage['residual'], '.3f')}, "
            f"expected acceptance {_number(stage['expected_acceptance'], '.3f')}",
            markup=False,
        )
    if summary.get("force_cost") is not None:
        console.print(f"a force of the guide costs {summary['force_cost']:.2f} of an exact one", markup=False)
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
