"""A variational job from start to end: optimise a wave function, then measure with it. Resumable to the bit.

As in ``runner``, the job is a sequence of blocks: after each, records are appended and a checkpoint is written, so that
whatever a crash leaves behind is computed again.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from slmc.settings import Settings
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.clock import Clock, read_progress
from slmc.simulation.model_file import save_model
from slmc.simulation.progress import Reporter
from slmc.simulation.records import Records, Variable
from slmc.simulation.stopping import Stopper
from slmc.statistics import estimate

PHASES = ("optimise", "measure", "done")

_FREE = (
    "[reconfiguration], optimisation.n_steps (until the measurement begins), measurement_blocks, measurement_draws, "
    "measurement_sweeps and wall_time"
)

WAVE_FUNCTION = "wavefunction.eqx"
"""Name of the file of the optimised parameters in a run's directory."""


class StepSettings(Settings):
    """Steps of the optimisation and draws of the measurement; what does not depend on the wave function."""

    n_steps: PositiveInt = Field(400, description="steps of the optimisation")
    block_size: PositiveInt = Field(25, description="steps between writing records and a checkpoint")
    measurement_blocks: PositiveInt = Field(8, description="blocks measured with the final parameters")
    measurement_draws: int = Field(16, ge=4, description="draws of every chain in such a block")
    measurement_sweeps: PositiveInt = Field(4, description="sweeps of every chain from one measured draw to the next")
    wall_time: PositiveFloat | None = Field(None, description="seconds after which to stop and leave a checkpoint")


@runtime_checkable
class Variational(Protocol):
    """What a run needs to know of a wave function; ``systems.wavefunctions.NetKetProblem`` is one."""

    @property
    def n_sites(self) -> int: ...
    @property
    def n_parameters(self) -> int: ...
    @property
    def exact_energy(self) -> float | None: ...
    @property
    def parameters(self) -> Any: ...
    @property
    def identity(self) -> str: ...
    @property
    def diverging(self) -> bool: ...
    def start(self) -> None: ...
    def describe_model(self) -> dict[str, Any]: ...
    def state(self) -> Any: ...
    def restore(self, state: Any) -> None: ...
    def advance(self, n_steps: int) -> Mapping[str, Any]: ...
    def observe(self) -> Mapping[str, Any]: ...
    def measure(self, n_draws: int, n_sweeps: int) -> Mapping[str, Any]: ...


class VariationalState(NamedTuple):
    """Everything needed to go on: the phase, blocks done in it and in all, and the problem's own state."""

    phase: Any
    block: Any
    number: Any
    problem: Any


class Optimisation:
    """A variational run in its directory.

    ``run()`` goes on from the last checkpoint (or starts) and returns whether the run is complete. ``identity`` are the
    settings that must not change when it is resumed, by default what ``problem`` says of itself. Raises
    ``FloatingPointError`` with a sentence if the energy is not finite or diverges. While the last step was a bad one no
    checkpoint is written and no request to stop is followed, so that the last checkpoint is from before that; it stays,
    and so do its records. Raises ``UserError`` if the directory holds a run of another identity.
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
        self.records = Records(directory / "records.zarr")
        digest = hashlib.sha256((problem.identity if identity is None else identity).encode()).hexdigest()
        other = (
            f"{directory} holds a run of another model, Hamiltonian, sampler or driver; "
            "restore what it was made with, or choose an empty directory."
        )
        self.checkpoints = Checkpoints(directory / "checkpoints", digest, _FREE, other if identity is None else None)
        self.clock = Clock(directory / "progress.json")
        self._n_kept = 0  # steps before the last checkpoint

    def run(self) -> bool:
        state = self._begin()
        self._announce(state)
        with contextlib.closing(self.reporter), Stopper(self.settings.wall_time) as stopper:
            while self._phase(state) != "done":
                before = self._phase(state)
                state = self._advance(state)
                self.clock.warnings.clear()  # what failed once has been cured
                doubtful = self._phase(state) == "optimise" and self.problem.diverging
                if not doubtful:
                    self._keep(state)
                self._save_progress(self._phase(state))
                if self._phase(state) not in (before, "done"):
                    self._announce(state)
                if stopper.requested and not doubtful:
                    break
        if self._phase(state) != "done":
            self.reporter.note(f"stopped by {stopper.reason}; continue with: slmc resume {self.directory}")
        return self._phase(state) == "done"

    def _begin(self) -> VariationalState:
        """The state of the last checkpoint, or a new one."""
        new = VariationalState(np.asarray(0), np.asarray(0), np.asarray(0), self.problem.state())
        found = self.checkpoints.restore(new)
        self.records.truncate(found[1] if found else {})
        if found is None:
            with self.clock.lap("other"):
                self.problem.start()
            return new._replace(problem=self.problem.state())
        state, lengths = found
        self.problem.restore(state.problem)
        self._n_kept = lengths.get("optimisation/energy", 0)
        if self._phase(state) != "optimise" and self.settings.n_steps > self._n_kept:
            self.reporter.note(
                f"optimisation.n_steps = {self.settings.n_steps} has no effect any more: the optimisation ended after "
                f"{self._n_kept} steps and its result is being measured; for more steps start a new run"
            )
        return state

    def _keep(self, state: VariationalState) -> None:
        lengths = self.records.lengths()
        self.checkpoints.save(int(state.number), state, lengths)
        self._n_kept = lengths.get("optimisation/energy", 0)

    def _announce(self, state: VariationalState) -> None:
        self._save_progress(self._phase(state))
        if self._phase(state) != "done":
            self.reporter.phase(self._phase(state), self._n_blocks(state), int(state.block))

    def _phase(self, state: VariationalState) -> str:
        return PHASES[int(state.phase)]

    def _n_blocks(self, state: VariationalState) -> int:
        settings = self.settings
        steps = math.ceil(settings.n_steps / settings.block_size)
        return steps if self._phase(state) == "optimise" else settings.measurement_blocks

    def _save_progress(self, phase: str) -> None:
        problem = self.problem
        about = {name: getattr(problem, name) for name in ("n_sites", "n_parameters", "exact_energy")}
        self.clock.save(phase=phase, **about)

    def _advance(self, state: VariationalState) -> VariationalState:
        phase, block = self._phase(state), int(state.block)
        (self._optimise if phase == "optimise" else self._measure)(block)
        state = state._replace(
            block=np.asarray(block + 1), number=np.asarray(int(state.number) + 1), problem=self.problem.state()
        )
        if block + 1 < self._n_blocks(state):
            return state
        if phase == "optimise":
            save_model(self.directory / WAVE_FUNCTION, self.problem.parameters, self.problem.describe_model())
        return state._replace(phase=np.asarray(int(state.phase) + 1), block=np.asarray(0))

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
            self._save_progress("optimise")
            advice = f"in config.toml, then: slmc resume {self.directory}" if n_kept else "and start again"
            raise FloatingPointError(f"{text} {advice}.") from None


def summarise_optimisation(directory: Path) -> dict[str, Any]:
    """What a variational run found, from its records: the dictionary that ``slmc info --json`` prints."""
    stored = read_progress(directory / "progress.json")
    records = Records(directory / "records.zarr", read_only=True)
    steps, measured = records.read("optimisation"), records.read("measurement")
    exact, n_sites, phase = stored.get("exact_energy"), stored.get("n_sites", 0), stored.get("phase", "optimise")
    energy = estimate(measured["energy"]) if measured else None
    n_steps = len(steps.get("energy", ()))
    trend = _trend(steps["energy"], steps["energy_error"]) if n_steps else 0.0
    result: dict[str, Any] = {
        "n_sites": n_sites,
        "n_parameters": stored.get("n_parameters"),
        "n_steps": n_steps,
        "exact_energy": exact,
        "energy": None if energy is None else {name: _finite(one) for name, one in energy._asdict().items()},
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
    result["v_score"] = None if energy is None else variance / energy.value**2 / n_sites
    result["verdict"] = _verdict(energy.verdict if energy is not None else None, phase, trend)
    return result


def _as_variables(found: Mapping[str, Any]) -> dict[str, Variable]:
    return {name: Variable(*one) for name, one in found.items()}


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
