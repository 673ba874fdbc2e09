"""What the command line does with ``system = "wavefunction"``: optimise, measure, report."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from rich.console import Console

from slmc import __version__
from slmc.settings import Settings
from slmc.simulation import (
    Optimisation,
    Records,
    Reporter,
    StepSettings,
    UserError,
    config_of,
    load_config,
    locked,
    new_directory,
    summarise_optimisation,
    to_toml,
)
from slmc.statistics import notation

try:
    from slmc.systems.wavefunctions import energy_bound, exact_energy, j1j2, reconfiguration, variational_state
    from slmc.systems.wavefunctions.problem import NetKetProblem
    from slmc.systems.wavefunctions.settings import (
        HamiltonianSettings,
        ModelSettings,
        ReconfigurationSettings,
        SamplingSettings,
        describe,
    )
    from slmc.systems.wavefunctions.wavefunction import token_shape
except ImportError as error:
    raise UserError(f"{error}.") from None


class WaveFunctionConfig(Settings):
    """A Vision-Transformer wave function of the J1-J2 Heisenberg model."""

    system: Literal["wavefunction"] = Field("wavefunction", description="the physical system")
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**31)
    hamiltonian: HamiltonianSettings = HamiltonianSettings()
    model: ModelSettings = ModelSettings()
    sampling: SamplingSettings = SamplingSettings()
    reconfiguration: ReconfigurationSettings = ReconfigurationSettings()
    optimisation: StepSettings = StepSettings()


def build(config: WaveFunctionConfig) -> NetKetProblem:
    """The problem that a configuration describes. Raises ``UserError`` naming the field that is wrong."""
    shape = config.hamiltonian.shape
    try:
        model = config.model.build(shape)
        physics = j1j2(shape, config.hamiltonian.j2, config.hamiltonian.marshall)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    state = variational_state(physics, model, config.sampling, config.seed)
    driver = reconfiguration(physics, state, config.reconfiguration, config.optimisation.n_steps)
    return NetKetProblem(
        driver,
        physics.hamiltonian,
        token_shape(shape, config.model.patch),
        exact_energy(shape, config.hamiltonian.j2),
        describe(config.model, shape),
        energy_bound(physics, config.hamiltonian.j2),
        config.sampling.n_thermalise,
    )


def run(path: Path, out: Path | None, overrides: list[str] | None, seed: int | None, quiet: bool) -> None:
    settings = load_config(path, WaveFunctionConfig, overrides, seed)
    problem = build(settings)
    directory = new_directory(out, path.stem)
    with locked(directory):
        (directory / "config.toml").write_text(to_toml(settings))
        _carry_out(directory, settings, problem, quiet)


def resume(directory: Path, quiet: bool) -> None:
    settings = load_config(config_of(directory), WaveFunctionConfig)
    with locked(directory):
        _carry_out(directory, settings, build(settings), quiet)


def report(directory: Path) -> Path:
    return _write_report(directory, load_config(config_of(directory), WaveFunctionConfig))


def info(directory: Path) -> dict[str, Any]:
    load_config(config_of(directory), WaveFunctionConfig)
    return summarise_optimisation(directory)


def _carry_out(directory: Path, settings: WaveFunctionConfig, problem: NetKetProblem, quiet: bool) -> None:
    reporter = Reporter(quiet=quiet)
    reporter.note(f"slmc {__version__}: {settings.title or settings.system}, results in {directory}")
    try:
        Optimisation(directory, settings.optimisation, problem, reporter, _identity(settings)).run()
    finally:
        _write_report(directory, settings)
    if not quiet:
        print_summary(reporter.console, directory, summarise_optimisation(directory))


def _identity(settings: WaveFunctionConfig) -> str:
    """All settings but those that may change while a run is interrupted: how it goes on."""
    free: Any = {
        "title": True,
        "reconfiguration": True,
        "optimisation": {"n_steps", "measurement_blocks", "measurement_draws", "measurement_sweeps", "wall_time"},
    }
    return settings.model_dump_json(exclude=free)


def _write_report(directory: Path, settings: WaveFunctionConfig) -> Path:
    from slmc.report import write_optimisation_report

    summary = summarise_optimisation(directory)
    about = {**summary, "title": settings.title or settings.system, "directory": directory.name, "version": __version__}
    records = Records(directory / "records.zarr", read_only=True).tree()
    path = directory / "report.html"
    write_optimisation_report(records, about, (directory / "config.toml").read_text(), path)
    return path


def print_summary(console: Console, directory: Path, summary: dict[str, Any]) -> None:
    energy, exact = summary["energy"], summary["exact_energy"]
    if energy is not None:
        line = f"energy a site {notation(energy['value'], energy['error'])} J1"
        if exact is not None:
            line += f", exact {exact:.6f}, relative error {summary['relative_error']:.1e}"
        console.print(line, soft_wrap=True)
        console.print(f"V-score {summary['v_score']:.2e}")
    seconds = summary["seconds_per_step"]
    pace = f", {seconds:.2f} s each" if seconds is not None else ""
    console.print(f"{summary['n_parameters']} parameters, {summary['n_steps']} steps{pace}", soft_wrap=True)
    console.print(f"phase {summary['phase']}, verdict: {summary['verdict']}", soft_wrap=True)
    console.print(f"report: {directory / 'report.html'}", soft_wrap=True)
