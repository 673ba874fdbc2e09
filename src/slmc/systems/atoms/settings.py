"""What a configuration file may say about atoms and molecules."""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.montecarlo import INTEGRATORS
from slmc.selflearning import LearningSettings
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

Position = tuple[float, float, float]


class AtomsSettings(Settings):
    """Atoms, and the calculator whose energy is exact."""

    structure: str | None = Field(None, description="a file with the atoms, anything that ASE reads")
    symbols: tuple[str, ...] | None = Field(None, description="or the elements, one for each atom")
    positions: tuple[Position, ...] | None = Field(None, description="in Å, with symbols")
    cell: tuple[Position, ...] | None = Field(None, description="rows in Å if periodic, with symbols")
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((1, 1, 1), description="cells to take together")
    temperature: PositiveFloat = Field(300.0, description="in K", json_schema_extra={"symbol": "T", "units": "K"})
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
        if self.sphere_radius is None and self.sphere_stiffness != 1.0:
            raise ValueError("sphere_stiffness has no effect without sphere_radius; leave it out")
        return self


class PotentialSettings(Settings):
    """The learned potential."""

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
    batch_size: int = Field(32, ge=32, description="configurations in a step, a multiple of 32")
    weight_decay: float = Field(0.0, ge=0)
    single_precision: bool = Field(True, description="evaluate the model in float32 while training; decisions never")


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
    files: ClassVar[dict[str, str]] = {"model.file": "start.eqx", "target.structure": "start-*"}

    @property
    def learning_settings(self) -> LearningSettings:
        from dataclasses import replace

        chooses = self.inner.proposal == "trajectory" and self.inner.n_steps == "auto"
        given = super().learning_settings
        return replace(given, n_updates=None if chooses else given.n_updates, label_trajectories=True)

    @model_validator(mode="after")
    def _consistent(self) -> "AtomsRun":
        if self.inner.proposal == "chain" and self.inner.n_steps == "auto":
            raise ValueError('inner.n_steps = "auto" needs inner.proposal = "trajectory"; give a number')
        self.check_wanted_errors(observable_names(self, periodic=None))
        form = tuple(f"model.{name}" for name in ("reach", "n_radial", "n_channels", "n_hidden"))
        local = ("exact.n_steps", "exact.integrator")
        refuse_idle(
            self,
            Idle(self.model.file is not None, form, "with a model.file, which has them"),
            Idle(self.exact.update == "local", local, 'with exact.update = "local"'),
        )
        return self


def observable_names(config: AtomsRun, periodic: bool | None) -> tuple[str, ...]:
    """The scalars to measure; where it is not known yet whether atoms are periodic, all that there might be.

    Raises ``ValueError`` for names that there are not.
    """
    by_kind = {True: CRYSTAL, False: CLUSTER, None: tuple(dict.fromkeys((*CLUSTER, *CRYSTAL)))}[periodic]
    names = (*by_kind, *config.geometry.distances, *config.geometry.angles)
    return chosen_names(config.measurement.observables, names)
