"""Runs from Python: what the command line says, it says with these functions.

    result = slmc.run(NAME, {"target.temperature": 0.1}, out="runs/x")
    result.observables["energy"], result.records, result.model, result.report

``run`` takes the name of a ready-made configuration, a TOML file, or a ``Problem`` built in Python.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slmc import compiled_programs
from slmc.devices import is_confined, why_none
from slmc.failures import told as told_of
from slmc.kept_summary import is_worked_on, keep_summary, kept_summary
from slmc.measured_files import MeasuredFiles, measured_files
from slmc.results import Result, ScanResult
from slmc.simulation import (
    CHECKPOINTS,
    CONFIG,
    FREE,
    Checkpoints,
    Listener,
    Optimisation,
    Point,
    Reporter,
    Sampling,
    Stored,
    begun_points,
    carry_out_points,
    changed_settings,
    check_scan,
    check_size,
    checksum,
    config_of,
    described_tree,
    digest_of,
    holds_run,
    json_lines,
    locked,
    measured_anew,
    new_directory,
    read_toml,
    records_path,
    run_blocks,
    source_of,
    stored_run,
    summarise,
    summarise_optimisation,
    to_toml,
    with_overrides,
    write_whole,
)
from slmc.system import (
    Observable,
    Problem,
    ProblemSettings,
    UserError,
    VariationalSettings,
    as_begun,
    field_about,
    idle_fields_taken,
    kept_files,
    measurement_of,
    observable_named,
    ready_made,
    sentence_of,
    shortened,
    system_named,
    system_names,
    validated,
    value_of,
    with_fields,
    without_idle,
)

if TYPE_CHECKING:
    import xarray

FAILED = "failed"
"""The phase of a point of a scan that failed."""

_NOTHING_KNOWN: Mapping[str, Any] = {"observables": {}, "acceptance": None, "seconds": {}, "warnings": []}
"""The summary of a point of which nothing can be read."""

_PATIENCE = 10.0
"""Seconds for which a point that seems damaged is looked at again while another process works on it."""

_REPORT_PAUSE = 10.0
"""How many times longer than writing the report of a scan took nobody writes it again, until the end."""

PYTHON = "python"
"""The ``system`` of runs whose problem was built in Python."""


class Run(NamedTuple):
    """A run in its directory: its settings, and the problem that they describe (``None`` if only Python knows it)."""

    directory: Path
    settings: Any
    problem: Any

    @property
    def title(self) -> str:
        return self.settings.title or (self.directory.name if self.settings.system == PYTHON else self.settings.system)

    @property
    def is_scan(self) -> bool:
        return bool(getattr(self.settings, "scan", None) and self.settings.scan.fields)


def run(
    what: str | Path | Problem,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    quiet: bool = False,
    overrides: Iterable[str] = (),
    go_on: bool = False,
    log: str | Path | Listener | None = None,
) -> Result | ScanResult:
    """Thermalises, learns, freezes, measures, reports; without a model by exact updates alone.

    ``settings`` are fields by their dotted names, ``{"measurement.n_steps": 2000}``, in place of what the configuration
    says; ``overrides`` are the same as texts ``"section.field=value"``. Results are in ``out``, which must not exist or
    be empty, by default in a new folder of ``runs``. Raises ``UserError`` with one sentence for what is wrong.

    With ``go_on`` a run that is in ``out`` already is continued, and begun if there is none: the same call can be
    repeated until the run is complete, and then returns what it found. ``out`` is by default the folder of ``runs``
    with the name of the configuration. What may change in a run, as how long it is, is taken from the configuration;
    anything else that differs is refused. ``what`` may also be the directory of a run, which is then continued as it
    is.

    ``log`` is a file to which every event is appended as a line of JSON, or a function that is given each as a
    dictionary (see ``slmc.simulation.Listener``), to pass on to whatever logger there is.
    """
    if go_on and not isinstance(what, Problem) and Path(what).is_dir():
        if settings or out is not None or seed is not None or tuple(overrides):
            raise UserError(
                f"{what} is continued with the settings that are in it; give the configuration to change them."
            )
        return resume(what, quiet=quiet, log=log)
    begun = begin(what, settings, out, seed, overrides, go_on)
    if isinstance(begun, Run):
        return _carried_out(begun, quiet, log)
    return resume(begun, what if isinstance(what, Problem) else None, quiet, log)


def begin(
    what: str | Path | Problem,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    overrides: Iterable[str] = (),
    go_on: bool = False,
) -> Run | Path:
    """The directory of a run, made and checked, of which nothing has been carried out yet.

    With ``go_on`` it is the path of one that is there already, with the settings that may change taken over. Arguments
    and errors are those of ``run``.
    """
    _check_devices()
    if isinstance(what, Problem):
        data = with_fields({"system": PYTHON}, {**what.defaults, **({} if what.model is not None else _WITHOUT_MODEL)})
        name = "problem"
    else:
        path = config_path(what)
        data, name = read_toml(path), path.stem
    dotted, overrides = _by_dotted_names(settings or {}), tuple(overrides)
    data = with_overrides(with_fields(data, dotted), overrides)
    if seed is not None:
        data["seed"] = seed
    given = {*dotted, *(text.partition("=")[0].strip() for text in overrides)}
    chosen = settings_of(without_idle(data, _kind(data), given) if given else data)
    out = Path(out) if out is not None else (Path("runs", name) if go_on else None)
    if go_on and out is not None and holds_run(out):
        _take_over(out, chosen)
        return out
    problem = what if isinstance(what, Problem) else _built(chosen, Path())
    _check(chosen, problem)
    directory = new_directory(out, name)
    with locked(directory):
        chosen = _with_files_in(directory, chosen)
        write_whole(directory / CONFIG, _text(chosen))
    return Run(directory, chosen, problem)


def resume(
    directory: str | Path,
    problem: Problem | None = None,
    quiet: bool = False,
    log: str | Path | Listener | None = None,
    skip_failed: bool = False,
) -> Result | ScanResult:
    """Continues a run after any interruption, to the bit; a run of a problem built in Python needs that ``problem``.

    Several processes may resume one scan at once: each takes points that no other is working on. A point that fails is
    put aside, and named in the ``UserError`` that is raised when all others are complete; it is tried again by whoever
    resumes the scan, unless what failed before is to be skipped.
    """
    opened = open_run(directory, problem, to_go_on=True)
    if opened.problem is None and opened.settings.system == PYTHON:
        raise UserError(
            f"{directory} holds a run of a problem that was built in Python; continue it there with "
            "slmc.resume(directory, problem)."
        )
    return _carried_out(opened, quiet, log, skip_failed)


def info(directory: str | Path, problem: Problem | None = None) -> dict[str, Any]:
    """What a run has found so far: the dictionary that ``slmc info --json`` prints."""
    return _summary(open_run(directory, problem))


def report(directory: str | Path, problem: Problem | None = None) -> Path:
    """Writes ``report.html`` anew from the stored records, of every point of a scan too; returns its path."""
    opened = open_run(directory, problem)
    if opened.is_scan:
        for point in begun_points(opened.directory, opened.settings):
            _write_report(_run_of(point))
    return _write_report(opened)


def measure(
    run: str | Path | Result, what: str | Observable | Callable[[Any], Any], problem: Problem | None = None
) -> "xarray.DataArray":
    """Measures something on the configurations that a run has kept (``measurement.keep_every``), finished or not.

    ``run`` is a result or a directory; ``what`` is a function of a configuration written in JAX, an ``Observable``, or
    the name of one that the run or an installed package offers (entry points of the group ``slmc.observables``). A run
    of a problem built in Python needs that ``problem``. Returns the values with dimensions (chain, draw) and the draws
    of the measurement as coordinate: to the bit what a run that measures the same records. For errors give its values
    to ``slmc.statistics.estimate``. Raises ``UserError`` where nothing was kept.
    """
    directory, problem = (run.directory, run.problem) if isinstance(run, Result) else (Path(run), problem)
    opened = open_run(directory, problem)
    if opened.is_scan or not isinstance(opened.problem, Problem):
        words = (
            "a scan; give the directory of one of its points" if opened.is_scan else "no run that keeps configurations"
        )
        if opened.problem is None and opened.settings.system == PYTHON:
            words = "a run of a problem that was built in Python; measure there, with slmc.measure(run, what, problem)"
        raise UserError(f"{directory} holds {words}.")
    if isinstance(what, str):
        known = opened.problem.described.get(what)
        what = known if isinstance(known, Observable) else observable_named(what)
    return measured_anew(_stored(opened).records, opened.problem, what, _frozen_target(opened, what))


def _frozen_target(opened: Run, what: Observable | Callable[[Any], Any]) -> Any:
    """The target that was measured, with what was found while thermalising, where the observable needs it."""
    if opened.problem.sought is None or getattr(what, "of_configuration", what) is not None:
        return opened.problem.target
    job = _job(opened, Reporter(quiet=True))
    stored = job.checkpoints.restore(job.new_state())
    return opened.problem.target if stored is None else stored[0].target


def scan(
    what: str | Path,
    fields: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    points: str = "grid",
    out: str | Path | None = None,
    seed: int | None = None,
    quiet: bool = False,
) -> ScanResult:
    """Runs at every point of ``fields``, ``{"target.temperature": [0.5, 0.3]}``, each point a run of its own.

    ``points`` is ``"grid"`` (every value with every other) or ``"list"`` (the first of each, the second of each, …).
    """
    several = {**(settings or {}), "scan": {"fields": dict(fields), "points": points}}
    result = run(what, several, out, seed, quiet)
    assert isinstance(result, ScanResult)
    return result


def measure_files(
    files: Iterable[str | Path], settings: Mapping[str, Any] | None = None, overrides: Iterable[str] = ()
) -> MeasuredFiles:
    """What a system measures of configurations in files, whoever wrote them: of each, and of all as one chain.

    ``settings`` and ``overrides`` say what to measure, as those of ``run``. The system is the one that knows the first
    file. Raises ``UserError`` for files that cannot be read, naming them.
    """
    _check_devices()
    paths = [Path(file) for file in files]
    if not paths:
        raise UserError("there are no files to measure; name at least one.")
    how = measurement_of(paths[0])
    chosen = validated(with_overrides(with_fields({}, settings or {}), overrides), how.settings)
    found = []
    for number, path in enumerate(paths):
        try:
            found.append(how.measure(path, chosen, number))
        except ValueError as error:
            raise UserError(f"{error}") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None
        except RuntimeError as error:  # conjugate gradients that do not converge
            if (sentence := sentence_of(error)) is None:
                raise
            raise UserError(f"{path}: {sentence}") from None
    return measured_files(paths, found, how)


# ------------------------------------------------------------------------------------------------- opening


def config_path(config: str | Path) -> Path:
    """The TOML file of that path, or the ready-made one of that name. Raises ``UserError`` if there is none."""
    known = ready_made()
    with contextlib.suppress(OSError, ValueError):  # names that no file can have
        if Path(config).is_file():
            return Path(config)
    if str(config) not in known:
        raise UserError(
            f"{shortened(str(config))} is neither a file nor a ready-made configuration; those are "
            f"{', '.join(sorted(known))}."
        )
    return known[str(config)]


def settings_of(data: Mapping[str, Any], begun: bool = False) -> Any:
    """The validated settings that a configuration file holds, that of a run which was ``begun`` or that of a new one.

    Raises ``UserError`` naming what is wrong.
    """
    kind = _kind(data)
    if not begun:
        return validated(dict(data), kind)
    with idle_fields_taken():
        return validated(as_begun(data, kind), kind)


def _kind(data: Mapping[str, Any]) -> Any:
    """The class of the settings of the system that is named."""
    name = data.get("system")
    if name is None:
        raise UserError(f"system is missing: say which one the file is about; there are {', '.join(system_names())}.")
    return ProblemSettings if name == PYTHON else system_named(str(name)).settings


def open_run(directory: str | Path, problem: Problem | None = None, to_go_on: bool = False) -> Run:
    """An existing run. Raises ``UserError`` if the directory holds none, or the settings are not those of the rest.

    Whether it still fits the machine is asked only where it is ``to_go_on``.
    """
    _check_devices()
    directory = Path(directory)
    settings = settings_of(read_toml(config_of(directory)), begun=True)
    _check_identity(Run(directory, settings, None))
    if settings.system != PYTHON:
        problem = _built(settings, directory)
    if problem is not None and to_go_on:
        _check(settings, problem)
    return Run(directory, settings, problem)


def _check_devices() -> None:
    if reason := why_none():
        raise UserError(f"{reason}; set JAX_PLATFORMS=cpu, or install what drives the device.")


def _check_identity(opened: Run) -> None:
    """Raises ``UserError`` for checkpoints, or records of a scan, of other settings than those in config.toml."""
    if opened.is_scan:
        check_scan(opened.directory, opened.settings)
    else:
        _checkpoints(opened).marks()


def _take_over(directory: Path, settings: Any) -> None:
    """Puts those settings that may change into the configuration of a run. Raises ``UserError`` for other changes."""
    stored, copies = settings_of(read_toml(config_of(directory)), begun=True), {}
    for name, kept in kept_files(settings).items():
        file = value_of(settings, name)
        if file is not None and checksum(Path(file)) == checksum(directory / kept):
            copies[name] = kept
    changed = validated(with_fields(settings.model_dump(), copies), type(settings))
    if type(stored) is not type(changed) or changed.identity != stored.identity:
        raise UserError(changed_settings(directory, ", ".join(stored.may_change)))
    with locked(directory):
        write_whole(directory / CONFIG, _text(changed))


def _text(settings: Any) -> str:
    return to_toml(settings, without=getattr(settings, "without_effect", ()))


def _built(settings: Any, directory: Path) -> Any:
    try:
        return system_named(settings.system).build(settings, directory)
    except ValueError as error:  # what the parts of a system say of their parameters
        raise UserError(f"{error}") from None


def _check(settings: Any, problem: Any) -> None:
    """Raises ``UserError`` for settings that do not fit the problem, whoever built it."""
    if not isinstance(problem, Problem):
        return
    if settings.learns and problem.model is None:
        raise UserError(
            "learning.n_rounds > 0 needs a problem with a model; give it one, or set learning.n_rounds = 0."
        )
    n_chains = settings.measurement.n_chains
    if n_chains % problem.n_samples:
        raise UserError(f"measurement.n_chains = {n_chains} must be a multiple of n_samples = {problem.n_samples}.")
    try:
        settings.check_wanted_errors(tuple(observable.name for observable in problem.observables))
    except ValueError as error:
        raise UserError(f"{error}.") from None
    check_size(settings, problem)


_WITHOUT_MODEL = {"learning.n_rounds": 0}


def _by_dotted_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sections given as dictionaries are taken apart, so that the fields which they leave out stay as they are."""
    dotted: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and "." not in name:
            dotted |= {f"{name}.{field}": inside for field, inside in value.items()}
        else:
            dotted[name] = value
    return dotted


def _with_files_in(directory: Path, settings: Any) -> Any:
    """The settings with the files that they name copied to the run's directory: it must not depend on any elsewhere."""
    for field, kept in kept_files(settings).items():
        section, _, name = field.partition(".")
        file = getattr(getattr(settings, section), name)
        if file is not None:
            shutil.copyfile(file, directory / kept)
            changed = getattr(settings, section).model_copy(update={name: kept})
            settings = settings.model_copy(update={section: changed})
    return settings


# ------------------------------------------------------------------------------------------- carrying out


def _carried_out(
    opened: Run, quiet: bool, log: str | Path | Listener | None, skip_failed: bool = False
) -> Result | ScanResult:
    compiled_programs.keep()
    reporter = Reporter(quiet=quiet, listener=json_lines(log) if isinstance(log, str | Path) else log)
    if is_confined():
        reporter.warn(
            "JAX was used before slmc was imported, so chains have one CPU device and records other last bits than "
            "the command line's; import slmc first."
        )
    if opened.is_scan:
        complete = _carry_out_scan(opened, reporter, skip_failed)
        return scan_result(opened, complete)
    reporter.note(f"slmc {_version()}: {opened.title}, results in {opened.directory}")
    with locked(opened.directory):
        complete = _carry_out(opened, reporter)
    return result_of(opened, complete)


def _carry_out(opened: Run, reporter: Reporter) -> bool:
    """One run, to its end or until it is stopped; its report is written in any case but that of damage."""
    try:
        complete = run_blocks(_job(opened, reporter))
        if not complete and opened.settings.system == PYTHON:
            reporter.note(
                "Its problem was built in Python: start the script again, with go_on=True in slmc.run, or call "
                f"slmc.resume({str(opened.directory)!r}, problem)."
            )
    except (UserError, FloatingPointError):
        with contextlib.suppress(UserError):
            if records_path(opened.directory).is_dir():
                _write_report(opened)
        raise
    _write_report(opened)
    return complete


def _job(opened: Run, reporter: Reporter) -> Any:
    directory, settings, problem = opened
    if isinstance(settings, VariationalSettings):
        return Optimisation(directory, settings.optimisation, problem, reporter, settings.identity)  # type: ignore[attr-defined]
    return Sampling(directory, settings, problem, reporter, _identity(opened))


def _identity(opened: Run) -> str:
    """What must be the same when a run is continued or read: the settings, and a problem that they do not describe."""
    identity: str = opened.settings.identity
    if isinstance(opened.settings, VariationalSettings):
        return digest_of(identity)
    is_python = opened.settings.system == PYTHON and opened.problem is not None
    return f"{identity} {opened.problem.identity}" if is_python else identity


def _checkpoints(opened: Run) -> Checkpoints:
    free = FREE if isinstance(opened.settings, VariationalSettings) else ", ".join(opened.settings.may_change)
    return Checkpoints(opened.directory / CHECKPOINTS, _identity(opened), free)


def _stored(opened: Run) -> Stored:
    return stored_run(opened.directory, _checkpoints(opened))


def _run_of(point: Point) -> Run:
    return Run(point.directory, point.settings, _built(point.settings, point.directory))


def _checked(opened: Run) -> Run:
    _check(opened.settings, opened.problem)
    return opened


def _carry_out_scan(opened: Run, reporter: Reporter, skip_failed: bool) -> bool:
    next_report = 0.0

    def told(point: Point, outcome: str) -> None:
        nonlocal next_report
        if outcome == "done":
            _summary_of(point)  # kept beside it, for whoever gathers the points
        started = time.monotonic()
        if started >= next_report:  # of a thousand points it takes as long as many of them
            _write_report(opened)
            now = time.monotonic()
            next_report = now + _REPORT_PAUSE * (now - started)
        if outcome == "stopped":
            reporter.note(f"stopped at {point.words}; continue with: slmc resume {opened.directory}")
        elif outcome == "done":
            reporter.note(f"{point.words}: done")
        else:
            reporter.warn(f"{point.words} failed: {outcome}")

    reporter.note(f"slmc {_version()}: {opened.title}, results in {opened.directory}")
    try:
        return carry_out_points(
            opened.directory, opened.settings, lambda point: _carry_out_point(point, reporter), told, skip_failed
        )
    finally:
        _write_report(opened)


def _carry_out_point(point: Point, reporter: Reporter) -> bool:
    """One point of a scan. Raises ``UserError`` for whatever is wrong with it, so that the others go on.

    What is wrong with the disk is wrong everywhere, and ends the scan.
    """
    try:
        return _carry_out(_checked(_run_of(point)), Reporter(quiet=True, listener=reporter.listener))
    except (OSError, UserError):
        raise
    except Exception as error:
        raise UserError(told_of(error)[0]) from error


def _version() -> str:
    from slmc import __version__

    return __version__


# ------------------------------------------------------------------------------------------------ results


def result_of(opened: Run, complete: bool | None = None) -> Result:
    """What a run has found so far, as an object."""
    summary = _summary(opened)
    return Result(opened.directory, opened.title, summary, opened.problem, _model_builder(opened), complete)


def scan_result(opened: Run, complete: bool | None = None) -> ScanResult:
    """What a scan has found so far, as an object."""
    about = {name: field_about(opened.settings, name) for name in opened.settings.scan.names}
    return ScanResult(opened.directory, opened.title, about, _summaries(opened), complete)


def _summaries(opened: Run) -> list[dict[str, Any]]:
    """Those of all points that have been begun."""
    settings, begun = opened.settings, begun_points(opened.directory, opened.settings)
    by_number = {point.number: point for point in begun}
    summaries = []
    for point in begun:
        is_given = getattr(point.settings, "frozen", False) and not settings.frozen
        source = source_of(settings, point.number) if is_given else None
        summaries.append(_summary_of(point, None if source is None else by_number.get(source)))
    return summaries


def _model_builder(opened: Run) -> Any:
    if opened.settings.system == PYTHON:
        return None if opened.problem is None else lambda _: opened.problem.model
    return system_named(opened.settings.system).build_model


def _summary(opened: Run) -> dict[str, Any]:
    if opened.is_scan:
        return {"points": _summaries(opened)}
    if opened.settings.system == PYTHON:  # which problem it was is not among the files
        return _summary_of_stored(opened, _stored(opened))
    known = kept_summary(opened.directory)
    return _summary_made(opened) if known is None else known


def _summary_made(opened: Run) -> dict[str, Any]:
    """The summary of a run that is described by its files, made from all of them and kept."""
    keep_summary(opened.directory, summary := _summary_of_stored(opened, _stored(opened)))
    return summary


def _summary_of_stored(opened: Run, stored: Stored) -> dict[str, Any]:
    if isinstance(opened.settings, VariationalSettings):
        return summarise_optimisation(stored)
    return summarise(stored, opened.problem)


def _summary_of(point: Point, source: Point | None = None) -> dict[str, Any]:
    """The summary of a point, with its directory and what is scanned there, by the last parts of the names.

    ``source`` is the point whose frozen model proposes. Of one that failed it is what was said, beside what there is.
    """
    fields = {name.rpartition(".")[2]: value for name, value in point.fields.items()}
    if len(fields) < len(point.fields):
        fields = dict(point.fields)
    about = {**fields, "directory": point.directory.name, "point": point.words}
    if source is not None:
        about["model_of"] = source.words
    if not (failure := point.failure):
        known = kept_summary(point.directory)
        return {**about, **(_settled_summary(point) if known is None else known)}
    try:
        known = _summary(_run_of(point))
    except UserError:
        known = dict(_NOTHING_KNOWN)
    return {**about, **known, "phase": FAILED, "verdict": f"failed: {failure}"}


def _settled_summary(point: Point) -> dict[str, Any]:
    """The summary of a point that another process may be working on: what it is about to write is looked at again."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        may_be_unfinished = is_worked_on(point.directory)
        try:
            return _summary_made(_run_of(point))
        except UserError:
            if not may_be_unfinished or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _attributes(opened: Run) -> dict[str, Any]:
    """How the observables of a system are written."""
    described = getattr(opened.problem, "described", {})
    return {name: about.attributes for name, about in described.items()}


def _write_report(opened: Run) -> Path:
    from slmc.report import Scanned, write_optimisation_report, write_report, write_scan_report

    path = opened.directory / "report.html"
    config = (opened.directory / CONFIG).read_text(encoding="utf-8")
    about = {"title": opened.title, "directory": opened.directory.name, "version": _version()}
    if opened.is_scan:
        result = scan_result(opened)
        result.write_table()
        scanned = Scanned(
            result.points, result.keys, dict(zip(result.keys, result.fields.values(), strict=True)), _attributes(opened)
        )
        write_scan_report(scanned, {**about, "n_points": len(opened.settings.scan.all_points)}, config, path)
        return path
    stored = _stored(opened)
    summary = {**_summary_of_stored(opened, stored), **about}
    if isinstance(opened.settings, VariationalSettings):
        write_optimisation_report(stored.records.tree(), summary, config, path)
    else:
        _write_series(opened, stored)
        write_report(described_tree(stored.records, opened.problem), summary, config, path)
    return path


def _write_series(opened: Run, stored: Stored) -> None:
    """The files that a system makes of what was measured."""
    files = getattr(opened.problem, "series_files", {})
    measured = stored.records.tree().children.get("measurement") if files else None
    if measured is None:
        return
    series = {str(name): values.values for name, values in measured.data_vars.items()}
    for name, write in files.items():
        write(opened.directory / name, series)
