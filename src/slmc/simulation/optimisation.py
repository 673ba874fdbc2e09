"""One variational run from start to end: optimise a wave function, then measure with it."""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.clock import Clock, read_progress
from slmc.simulation.directory import CHECKPOINTS, PROGRESS
from slmc.simulation.loop import Files, Phase, following
from slmc.simulation.marks import Marks
from slmc.simulation.progress import Reporter
from slmc.simulation.records import Variable
from slmc.simulation.stopping import Stopper
from slmc.simulation.summary import with_doubts
from slmc.simulation.verification import Stored, opened_records
from slmc.statistics import estimate
from slmc.system import StepSettings, Variational, save_model

OPTIMISE, MEASURE, DONE = (Phase(name, number) for number, name in enumerate(("optimise", "measure", "done")))

FREE = (
    "[reconfiguration], optimisation.n_steps (until the measurement begins), measurement_blocks, measurement_draws, "
    "measurement_sweeps and wall_time"
)

WAVE_FUNCTION = "wavefunction.eqx"
"""Name of the file of the optimised parameters in a run's directory."""


class VariationalState(NamedTuple):
    """Everything needed to go on: the phase, blocks done in it and in all, and the problem's own state."""

    phase: Any
    block: Any
    number: Any
    problem: Any


class Optimisation:
    """A variational run, as the loop sees it.

    ``identity`` are the settings that must not change when it is resumed, by default what ``problem`` says of itself.
    Its blocks raise ``FloatingPointError`` with a sentence if the energy is not finite or diverges. While the last step
    was a bad one no checkpoint is written and no request to stop is followed, so that the last checkpoint is from
    before that; it stays, and so do its records.
    """

    def __init__(
        self,
        directory: Path,
        settings: StepSettings,
        problem: Variational,
        reporter: Reporter,
        identity: str | None = None,
    ) -> None:
        self.directory, self.settings, self.problem, self.reporter = directory, settings, problem, reporter
        other = (
            f"{directory} holds a run of another model, Hamiltonian, sampler or driver; "
            "restore what it was made with, or choose an empty directory."
        )
        self.checkpoints = Checkpoints(
            directory / CHECKPOINTS,
            digest_of(problem.identity if identity is None else identity),
            FREE,
            other if identity is None else None,
        )
        self.records = opened_records(directory, self.checkpoints)
        self.clock = Clock(directory / PROGRESS)
        self._n_kept = 0  # steps before the last checkpoint

    @property
    def other_files(self) -> tuple[str, ...]:
        return (WAVE_FUNCTION,)

    @property
    def files(self) -> Files:
        return Files(self.directory, self.records, self.checkpoints, self.clock, self.reporter)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (OPTIMISE, MEASURE, DONE)

    @property
    def wall_time(self) -> float | None:
        return self.settings.wall_time

    def new_state(self) -> VariationalState:
        return VariationalState(np.asarray(OPTIMISE.number), np.asarray(0), np.asarray(0), self.problem.state())

    def begin(self, state: VariationalState) -> VariationalState:
        with self.clock.lap("other"):
            self.problem.start()
        return state._replace(problem=self.problem.state())

    def rewound(self, state: VariationalState, marks: Marks) -> int | None:
        return None

    def kept(self, state: VariationalState) -> tuple[int, ...]:
        return ()

    def is_final(self, state: VariationalState) -> bool:
        return True

    def go_on(self, state: VariationalState, marks: Marks) -> VariationalState:
        """Goes on; a complete run whose settings ask for more blocks of the measurement has them."""
        self.problem.restore(state.problem)
        self._n_kept = marks.lengths.get("optimisation/energy", 0)
        if int(state.phase) != OPTIMISE.number and self.settings.n_steps > self._n_kept:
            self.reporter.note(
                f"optimisation.n_steps = {self.settings.n_steps} has no effect any more: the optimisation ended after "
                f"{self._n_kept} steps and its result is being measured; for more steps start a new run"
            )
        if int(state.phase) != OPTIMISE.number:
            self._save_parameters()
        n_blocks = marks.lengths.get("measurement/energy", 0) // self.settings.measurement_draws
        if int(state.phase) == DONE.number and n_blocks < self.settings.measurement_blocks:
            return state._replace(phase=np.asarray(MEASURE.number), block=np.asarray(n_blocks))
        return state

    def is_sound(self, state: VariationalState) -> bool:
        self.clock.warnings.clear()  # what failed once has been cured
        sound = not (int(state.phase) == OPTIMISE.number and self.problem.diverging)
        if sound:
            self._n_kept = self.records.lengths().get("optimisation/energy", 0)
        return sound

    def about(self, state: VariationalState | None) -> dict[str, Any]:
        return {name: getattr(self.problem, name) for name in ("n_sites", "n_parameters", "exact_energy")}

    def n_blocks(self, state: VariationalState) -> int:
        if int(state.phase) != OPTIMISE.number:
            return self.settings.measurement_blocks
        return math.ceil(self.settings.n_steps / self.settings.block_size)

    def advance(self, state: VariationalState, stopper: Stopper) -> VariationalState:
        block, optimising = int(state.block), int(state.phase) == OPTIMISE.number
        (self._optimise if optimising else self._measure)(block)
        state = state._replace(block=np.asarray(block + 1), problem=self.problem.state())
        if block + 1 < self.n_blocks(state):
            return state
        if optimising:
            self._save_parameters()
        return following(self, state)

    def _save_parameters(self) -> None:
        save_model(self.directory / WAVE_FUNCTION, self.problem.parameters, self.problem.describe_model())

    def _optimise(self, block: int) -> None:
        n_steps = min(self.settings.block_size, self.settings.n_steps - block * self.settings.block_size)
        if n_steps <= 0:
            return  # fewer steps are asked for than were done before an interruption
        if block == 0:
            self._observe(0)
        with self._kept(), self.clock.lap("optimise"):
            steps = _as_variables(self.problem.advance(n_steps))
        self.records.append("optimisation", steps)
        self._observe(block * self.settings.block_size + n_steps)
        energy, score = (float(np.mean(steps[name].values)) for name in ("energy", "v_score"))
        self.reporter.advance(block + 1, energy_per_site=f"{energy:.6f}", v_score=score)

    def _observe(self, n_steps: int) -> None:
        with self.clock.lap("other"):
            observed = _as_variables(self.problem.observe())
        if observed:
            step = Variable(("evaluation",), np.array([n_steps]), "", "steps before the observation")
            self.records.append("attention", {"step": step, **observed})

    def _measure(self, block: int) -> None:
        with self.clock.lap("measure"):
            measured = _as_variables(
                self.problem.measure(self.settings.measurement_draws, self.settings.measurement_sweeps)
            )
        self.records.append("measurement", measured)
        self.reporter.advance(block + 1, energy_per_site=f"{float(np.mean(measured['energy'].values)):.6f}")

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Says where the last good state is when the optimisation fails."""
        try:
            yield
        except FloatingPointError as error:
            n_kept = self._n_kept
            kept = f"the state after step {n_kept} is kept in {self.directory}" if n_kept else "no state is kept"
            text = f"{error}; {kept}; lower reconfiguration.learning_rate or max_change, or raise its diag_shift"
            self.clock.warnings[:] = [text]
            self.clock.save(phase=OPTIMISE.name, **self.about(None))
            advice = f"in config.toml, then: slmc resume {self.directory}" if n_kept else "and start again"
            raise FloatingPointError(f"{text} {advice}.") from None


def digest_of(identity: str) -> str:
    """What checkpoints keep of an identity."""
    return hashlib.sha256(identity.encode()).hexdigest()


def summarise_optimisation(run: Stored) -> dict[str, Any]:
    """What a variational run found, from its records: the dictionary that ``slmc info --json`` prints."""
    stored, records = read_progress(run.directory / PROGRESS), run.records
    steps, measured = records.read("optimisation"), records.read("measurement")
    exact, n_sites, phase = stored.get("exact_energy"), stored.get("n_sites", 0), run.phase or "optimise"
    energy = estimate(measured["energy"]) if measured else None
    n_steps = len(steps.get("energy", ()))
    trend = _trend(steps["energy"], steps["energy_error"]) if n_steps else 0.0
    units = records.attributes("measurement")[1].get("energy", {}).get("units", "")
    result: dict[str, Any] = {
        "n_sites": n_sites,
        "units": units,
        "n_parameters": stored.get("n_parameters"),
        "n_steps": n_steps,
        "exact_energy": exact,
        "energy": None if energy is None else {name: _finite(figure) for name, figure in energy._asdict().items()},
        "relative_error": None if energy is None or exact is None else (energy.value - exact) / abs(exact),
        "variance": None if not measured else _variance(measured) * n_sites**2,
        "last_step_energy": float(steps["energy"][-1]) if n_steps else None,
        "trend": trend,
        "seconds": stored.get("laps", {}),
        "seconds_per_step": stored.get("laps", {}).get("optimise", 0.0) / n_steps if n_steps else None,
        "phase": phase,
        "warnings": stored.get("warnings", []),
    }
    variance = result["variance"]
    result["v_score"] = None if energy is None or not n_sites else variance / energy.value**2 / n_sites
    verdict = _verdict(energy.verdict if energy is not None else None, phase, trend)
    result["verdict"] = with_doubts(verdict, run.doubts)
    return result


def _as_variables(recorded: Mapping[str, Any]) -> dict[str, Variable]:
    return {name: Variable(*variable) for name, variable in recorded.items()}


def _variance(measured: Mapping[str, np.ndarray]) -> float:
    """Var(H) from local energies a site, whose imaginary part has mean zero but a spread of its own."""
    return float(measured["energy"].var() + np.square(measured["energy_imaginary"]).mean())


def _trend(energies: np.ndarray, errors: np.ndarray) -> float:
    """Change of the mean energy from the third to the last quarter of the steps; 0 unless it is significant.

    That is more than 5 error bars, taking steps as independent, and more than 2e-4 of the energy.
    """
    size = len(energies) // 4
    if not size:
        return 0.0
    before, last = energies[-2 * size : -size].mean(), energies[-size:].mean()
    error = math.sqrt(float(np.nansum(np.square(errors[-2 * size :])))) / size
    change = float(last - before)
    return change if abs(change) > max(5 * error, 2e-4 * abs(last)) else 0.0


def _verdict(doubt: str | None, phase: str, trend: float) -> str:
    """What the measured energies are worth as an estimate, and whether the optimisation had come to rest."""
    if doubt is None:
        return f"nothing measured yet (phase: {phase})"
    if doubt:
        return f"do not trust yet: energy: {doubt}; measure longer (optimisation.measurement_blocks)"
    if phase != "done":
        return "ok so far, the run is not finished"
    if trend < 0:
        return (
            f"well measured, but still falling by {-trend:.1e} a site in the last quarter of the steps: take more steps"
        )
    if trend > 0:
        return f"well measured, but rising by {trend:.1e} a site in the last quarter of the steps: learn more slowly"
    return "ok"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
