"""What a configuration file may say about atoms and molecules."""

import itertools
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.montecarlo import INTEGRATORS
from slmc.selflearning import LearningSettings, TrainingSettings
from slmc.system import (
    PROPOSAL_WORDS,
    Idle,
    InnerProposal,
    Rounds,
    RunSettings,
    Settings,
    TrainingSection,
    chosen_names,
    refuse_idle,
)
from slmc.system.run_settings import ExactSettings, ThermalisationSettings

LENGTHS = (4, 8, 16, 32, 64, 128, 256)
"""Integrator steps of a trajectory among which ``inner.n_steps = "auto"`` chooses."""

CLUSTER = ("energy", "radius_of_gyration")
CRYSTAL = ("energy", "displacement")
"""Names of what is measured of atoms in a sphere, and of periodic ones; distances and angles by name come beside."""

BREATHING = ("energy", "volume", "density", "displacement")
"""At constant pressure."""

QUANTUM = ("energy", "potential", "kinetic")
"""Of quantum nuclei beside what is measured of classical ones; the spread of each element comes with them."""

_DEPTH = 100.0
"""In kT: labels with an energy as much higher than that of any sample of their round are not trained on."""

Position = tuple[float, float, float]


class AtomsSettings(Settings):
    """Atoms, and the calculator whose energy is exact."""

    structure: str | None = Field(None, description="a file with the atoms, anything that ASE reads")
    symbols: tuple[str, ...] | None = Field(None, description="or the elements, one for each atom")
    positions: tuple[Position, ...] | None = Field(None, description="in Å, with symbols")
    cell: tuple[Position, ...] | None = Field(None, description="rows in Å if periodic, with symbols")
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((1, 1, 1), description="cells to take together")
    temperature: PositiveFloat = Field(300.0, description="in K", json_schema_extra={"symbol": "T", "units": "K"})
    temperatures: tuple[PositiveFloat, ...] | None = Field(
        None, description="or several, in K, from high to low, whose chains exchange configurations"
    )
    ensemble: Literal["nvt", "npt"] = Field(
        "nvt", description='"nvt": constant volume; "npt": constant pressure, the shape of the cell kept'
    )
    pressure: float | None = Field(
        None, allow_inf_nan=False, description="in GPa, of the npt ensemble", json_schema_extra={"units": "GPa"}
    )
    volume_time: float = Field(
        50.0, ge=1, le=1e6, description="fs in which the volume goes through about its spread, which moves no average"
    )
    n_beads: int | None = Field(
        None,
        le=1024,
        description="beads of each atom, two or more, for quantum nuclei by path integrals; left out: classical",
    )
    calculator: str = Field("tblite", description="by the name that ASE or an installed package gives it")
    parameters: dict[str, Any] = Field({}, description="of the calculator")
    restart: Literal["fresh", "warm"] = Field(
        "fresh", description='"fresh": each energy anew, to the bit; "warm": from where the last ended, faster'
    )
    workers: PositiveInt | None = Field(None, description="processes with a calculator each; left out: one a core")
    timeout: PositiveFloat = Field(600.0, description="seconds after which an evaluation has failed")
    max_failures: float = Field(0.02, ge=0, le=1, description="share of failed evaluations that ends the run")
    least_distance: float = Field(
        0.5, ge=0, le=1, description="atoms nearer than this times their covalent radii have weight zero"
    )
    sphere_radius: PositiveFloat | None = Field(
        None, description="in Å; a soft sphere that keeps a cluster together", json_schema_extra={"symbol": "R"}
    )
    sphere_stiffness: PositiveFloat = Field(1.0, description="of the sphere, in eV/Å²")
    hydrogen_mass: PositiveFloat | Literal["physical"] = Field(
        12.0, description='in u, or "physical"; averages don\'t depend on masses, steps do'
    )

    @property
    def coldest(self) -> float:
        """The lowest temperature that there is, in K."""
        return self.temperature if self.temperatures is None else self.temperatures[-1]

    @model_validator(mode="after")
    def _consistent(self) -> "AtomsSettings":
        listed = self.symbols is not None
        if listed == (self.structure is not None):
            raise ValueError('give the atoms either by structure, a file, for instance "POSCAR", or by symbols')
        if not listed:
            for name in ("positions", "cell"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect with a structure from a file; leave it out")
        if self.symbols is not None and len(self.positions or ()) != len(self.symbols):
            raise ValueError(f"positions must list as many as symbols, {len(self.symbols)}")
        if self.cell is not None and len(self.cell) != 3:
            raise ValueError(f"cell must have 3 rows; got {len(self.cell)}")
        if self.temperatures is not None:
            if len(self.temperatures) < 2 or any(a <= b for a, b in itertools.pairwise(self.temperatures)):
                raise ValueError(f"temperatures lists two or more, from high to low; got {list(self.temperatures)}")
            if self.temperature != 300.0:
                raise ValueError("temperature has no effect with temperatures; leave it out")
        self._check_ensemble()
        if self.sphere_radius is None and self.sphere_stiffness != 1.0:
            raise ValueError("sphere_stiffness has no effect without sphere_radius; leave it out")
        return self

    def _check_ensemble(self) -> None:
        if self.ensemble == "npt" and self.pressure is None:
            raise ValueError('ensemble = "npt" needs a pressure in GPa, for instance pressure = 0.0')
        if self.ensemble == "nvt":
            if self.pressure is not None:
                raise ValueError('pressure has no effect at constant volume; set ensemble = "npt", or leave it out')
            if self.volume_time != 50.0:
                raise ValueError('volume_time has no effect at constant volume; set ensemble = "npt", or leave it out')
        elif self.symbols is not None and self.cell is None:
            raise ValueError(
                'ensemble = "npt" needs a periodic structure, whose volume can change; give a cell, or leave ensemble '
                "and pressure out"
            )
        if self.n_beads is not None and self.n_beads < 2:
            raise ValueError(f"n_beads must be 2 or more; got {self.n_beads}. Leave it out for classical nuclei")
        if self.n_beads is not None and self.ensemble == "npt":
            raise ValueError('n_beads is not possible with ensemble = "npt"; leave one of them out')
        if self.temperatures is not None and (self.n_beads is not None or self.ensemble == "npt"):
            raise ValueError('temperatures are not possible with n_beads or ensemble = "npt"; give one temperature')


class PotentialSettings(Settings):
    """The learned potential, or a calculator in its place."""

    guide: str | None = Field(
        None, description="a calculator, by the name that ASE or a package gives it, in place of the learned potential"
    )
    parameters: dict[str, Any] = Field({}, description="of that calculator")
    reach: PositiveFloat = Field(5.0, description="cut-off in Å")
    n_radial: PositiveInt = Field(10, description="radial functions, of which channels are made")
    n_channels: PositiveInt = Field(8, description="channels of moments")
    n_hidden: PositiveInt = Field(32, description="units in each of two layers")
    file: str | None = Field(
        None, description="a stored model.eqx to start from as it is; it replaces the fields above"
    )


class AtomsInnerSettings(Settings):
    """The trajectory of the learned potential that makes a proposal."""

    proposal: InnerProposal = Field("trajectory", description=PROPOSAL_WORDS)
    n_updates: PositiveInt = Field(1, description='updates in one proposal (with proposal = "chain")')
    n_steps: PositiveInt | Literal["auto"] = Field(
        "auto", description='integrator steps of a trajectory; "auto": for the most effective samples an evaluation'
    )
    integrator: Literal["leapfrog", "omelyan", "fourth-order"] = Field("leapfrog", description="of a trajectory")
    precision: Literal["double", "single"] = Field(
        "single", description="of the forces along a trajectory; decisions are always double"
    )
    acceptance: float = Field(0.95, gt=0, lt=1, description="by the model itself, to which the step size is tuned")


assert set(INTEGRATORS) == set(AtomsInnerSettings.model_fields["integrator"].annotation.__args__)  # type: ignore[union-attr]


class AtomsLearning(TrainingSection):
    """Rounds of sampling and training; every exact evaluation is training data."""

    n_rounds: int = Field(5, ge=0, description="rounds at most; 0: exact trajectories alone")
    n_steps: PositiveInt | Rounds = Field(
        (12, 25, 40), description="steps per chain and round, or a list; the first are exact trajectories"
    )
    force_weight: float = Field(3.0, ge=0, description="weight of the force residual, in Å²; 0: log-weights alone")
    training_steps: NonNegativeInt | Rounds = Field(1000, description="optimiser steps in a round, or a list")
    labels: str | None = Field(
        None, description="a file of energies and forces by the same calculator to train on too, for instance extxyz"
    )
    batch_size: int = Field(32, ge=32, description="configurations in a step, a multiple of 32")
    weight_decay: float = Field(0.0, ge=0)
    single_precision: bool = Field(True, description="evaluate the model in float32 while training; decisions never")

    @property
    def training(self) -> TrainingSettings:
        """How a round trains: to the end of the cosine, before which a potential is worse than it was."""
        return replace(super().training, keep_last=True)


class AtomsExact(ExactSettings):
    """Trajectories with the exact force: they begin the run, and are its baseline."""

    tuning_steps: PositiveInt = Field(12, description="updates per chain in which the step size is tuned")


class GeometrySettings(Settings):
    """Distances and angles to measure, by name; atoms are counted from 0."""

    distances: dict[str, tuple[NonNegativeInt, NonNegativeInt]] = Field({}, description="between two atoms, in Å")
    angles: dict[str, tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]] = Field(
        {}, description="between three atoms, the middle one in the middle, in degrees"
    )
    pair_distances: bool = Field(True, description="how often pairs of elements are how far apart")

    @field_validator("distances", "angles")
    @classmethod
    def _different_atoms(cls, named: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        for name, atoms in named.items():
            if len(set(atoms)) < len(atoms):
                raise ValueError(f"{name} must name different atoms; got {list(atoms)}")
        return named


class AtomsRun(RunSettings):
    """A run of atoms or molecules."""

    system: Literal["atoms"] = Field("atoms", description="the physical system")
    target: AtomsSettings
    model: PotentialSettings = PotentialSettings()
    inner: AtomsInnerSettings = AtomsInnerSettings()
    exact: AtomsExact = AtomsExact()
    thermalisation: ThermalisationSettings = ThermalisationSettings(n_steps=10)
    learning: AtomsLearning = AtomsLearning()
    geometry: GeometrySettings = GeometrySettings()

    may_change: ClassVar[tuple[str, ...]] = (
        *RunSettings.may_change,
        "target.workers",
        "target.timeout",
        "target.max_failures",
    )
    files: ClassVar[dict[str, str]] = {
        "model.file": "start.eqx",
        "target.structure": "start-*",
        "learning.labels": "labels-*",
    }

    @property
    def learning_settings(self) -> LearningSettings:
        chooses = self.inner.proposal == "trajectory" and self.inner.n_steps == "auto"
        given = super().learning_settings
        if self.target.n_beads is not None:
            given = replace(given, training=_of_rings(given.training, self.target.n_beads))
        given = replace(given, n_updates=None if chooses else given.n_updates)
        given = replace(given, label_trajectories=True, label_depth=_DEPTH)
        if self.model.guide is None:
            return given
        # Nothing is trained; rounds still choose the trajectory, and measure how far the guide is off.
        return replace(given, training=replace(given.training, n_steps=0), training_steps=None)

    def _check_classical(self) -> None:
        """What is there for classical atoms in a volume alone."""
        breathes, n_beads = self.target.ensemble == "npt", self.target.n_beads
        if not breathes and n_beads is None:
            return
        given = 'target.ensemble = "npt"' if breathes else "target.n_beads"
        if self.exact.update == "local":
            raise ValueError(f'exact.update = "local" is not possible with {given}; use "hmc"')
        if self.learning.labels is not None:
            raise ValueError(f"learning.labels is not possible with {given}; leave it out")
        if breathes and self.model.guide is not None:
            raise ValueError(f"model.guide is not possible with {given}; leave it out")

    def _check_ladder(self) -> None:
        if self.learning.n_rounds and self.inner.n_steps == "auto":
            raise ValueError(
                'inner.n_steps = "auto" is not possible with target.temperatures, for which one length must do; give a '
                "number"
            )
        if self.exact.update == "local":
            raise ValueError('exact.update = "local" is not possible with target.temperatures; use "hmc"')
        if self.exact.every:
            raise ValueError("exact.every is not possible with target.temperatures; leave it out")
        if self.model.guide is not None or self.learning.labels is not None:
            raise ValueError(
                "model.guide and learning.labels are not possible with target.temperatures; leave them out"
            )

    @model_validator(mode="after")
    def _consistent(self) -> "AtomsRun":
        if self.inner.proposal == "chain" and self.inner.n_steps == "auto":
            raise ValueError('inner.n_steps = "auto" needs inner.proposal = "trajectory"; give a number')
        if self.target.temperatures is not None:
            self._check_ladder()
        self._check_classical()
        self.check_wanted_errors(observable_names(self, periodic=None))
        form = tuple(f"model.{name}" for name in ("reach", "n_radial", "n_channels", "n_hidden"))
        local = ("exact.n_steps", "exact.integrator")
        if self.model.guide is not None and self.model.file is not None:
            raise ValueError("model.guide takes the place of a learned potential, and model.file is one; give either")
        trained = tuple(
            f"learning.{name}"
            for name in ("labels", *TrainingSection.model_fields)
            if name not in ("n_rounds", "n_steps", "held_out_share")
        )
        refuse_idle(
            self,
            Idle(self.model.guide is None, ("model.parameters",), "without model.guide, whose parameters they are"),
            Idle(self.model.guide is not None, (*form, "inner.precision", *trained), "with a model.guide"),
            Idle(self.model.file is not None, form, "with a model.file, which has them"),
            Idle(self.exact.update == "local", local, 'with exact.update = "local"'),
        )
        return self


def _of_rings(given: TrainingSettings, n_beads: int) -> TrainingSettings:
    """Batches of about as many copies of the atoms, and the weight of forces as on beads, whose modes have a P-th."""
    rings = max(4, given.batch_size // n_beads)
    return replace(given, batch_size=rings, force_weight=given.force_weight * n_beads**2)


def observable_names(
    config: AtomsRun, periodic: bool | None, symbols: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """The scalars to measure; where it is not known yet whether atoms are periodic, and which, all that might be.

    With several temperatures each of them at each, counted from 1 at the highest.

    Raises ``ValueError`` for names that there are not.
    """
    rungs, measurement = config.target.temperatures, config.measurement
    by_kind = {True: CRYSTAL, False: CLUSTER, None: tuple(dict.fromkeys((*CLUSTER, *CRYSTAL)))}[periodic]
    if config.target.ensemble == "npt":
        by_kind = BREATHING
    elif config.target.n_beads is not None:
        asked = (*(measurement.observables or ()), *measurement.wanted_error) if symbols is None else ()
        rings = (*ring_names(symbols or ()), *(name for name in asked if name.startswith(RING)))
        by_kind = tuple(dict.fromkeys((*QUANTUM, *by_kind, *rings)))
    names = chosen_names(measurement.observables, (*by_kind, *config.geometry.distances, *config.geometry.angles))
    if rungs is None:
        return names
    return tuple(f"{name}_{rung + 1}" for rung in range(len(rungs)) for name in names)


RING = "ring_"


def ring_names(symbols: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the spreads of rings of beads, one for each element."""
    return tuple(f"{RING}{symbol}" for symbol in dict.fromkeys(symbols))
