"""What a configuration file may say about the plaquette Ising model."""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.lattice import n_sites
from slmc.selflearning import TrainingSettings
from slmc.system import Rounds, RunSettings, Settings, changed_fields, no_effect
from slmc.systems.spins.ising import Ising, PlaquetteIsing
from slmc.systems.spins.ising_measured import scalar_names


class PlaquetteIsingSettings(Settings):
    """Ising spins that interact in pairs and around elementary squares."""

    shape: tuple[PositiveInt, ...] = Field((20, 20), description="extents of the periodic lattice")
    coupling: float = Field(1.0, description="J, of nearest neighbours", json_schema_extra={"symbol": "J"})
    plaquette_coupling: float = Field(
        0.2, description="K, of elementary squares", json_schema_extra={"symbol": "K", "units": "J"}
    )
    temperature: PositiveFloat = Field(
        2.493,
        description="2.493 J is critical on the square lattice at K = J/5",
        json_schema_extra={"symbol": "T", "units": "J"},
    )

    @field_validator("shape")
    @classmethod
    def _at_least_two_sites(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if n_sites(shape) < 2:
            raise ValueError(f"the lattice must have at least 2 sites, for instance [20, 20]; got {list(shape)}")
        return shape

    def build(self) -> PlaquetteIsing:
        return PlaquetteIsing(self.shape, self.coupling, self.plaquette_coupling, self.temperature)


class IsingModelSettings(Settings):
    """The effective model: pairs of spins, by neighbour shell."""

    n_shells: PositiveInt = Field(1, description="neighbour shells; clusters grow with the coupling of the first")
    file: str | None = Field(None, description="a stored model.eqx to start from; its form replaces the field above")

    def build(self, shape: tuple[int, ...], temperature: float) -> Ising:
        """A model to start learning from. Raises ``ValueError`` for more shells than the torus has."""
        return Ising(shape, self.n_shells, temperature=temperature)


class SweepSettings(Settings):
    """The update that needs no model, sweeps of the checkerboard: it thermalises and runs the baseline."""

    every: int = Field(0, ge=0, description="mix one exact sweep in after every this many outer steps; 0: never")


class IsingInnerSettings(Settings):
    """The chain of the effective model that makes a proposal."""

    update: Literal["wolff", "checkerboard"] = Field("wolff", description='clusters ("wolff") or sweeps')
    n_updates: PositiveInt | Literal["auto"] = Field(
        5, description='updates in one proposal; "auto": for the most effective samples a second, as measured'
    )
    radius: PositiveFloat | None = Field(
        None, description="clusters stay within this distance of the site they begin at (wolff); left out: anywhere"
    )

    @model_validator(mode="after")
    def _radius_of_clusters(self) -> "IsingInnerSettings":
        if self.update != "wolff" and self.radius is not None:
            raise ValueError(no_effect(changed_fields("inner", self)[-1:], 'with inner.update = "checkerboard"'))
        return self


class IsingLearningSettings(Settings):
    """Rounds of sampling and fitting by least squares."""

    n_rounds: int = Field(
        3, ge=0, description="rounds at most; fewer if the held-out residual stops improving; 0: exact updates alone"
    )
    n_steps: PositiveInt | Rounds = Field(
        200, description="steps per chain and round, all of them training data; or a list, one for each round"
    )
    held_out_share: float = Field(0.25, gt=0, lt=1, description="share of the chains kept out of the training data")

    @property
    def training(self) -> TrainingSettings:
        """No gradient steps: one solve is the whole fit."""
        return TrainingSettings(n_steps=0)


class PlaquetteIsingRun(RunSettings):
    """A run of the plaquette Ising model."""

    system: Literal["plaquette_ising"] = Field("plaquette_ising", description="the physical system")
    target: PlaquetteIsingSettings = PlaquetteIsingSettings()
    exact: SweepSettings = SweepSettings()  # type: ignore[assignment]
    model: IsingModelSettings = IsingModelSettings()
    inner: IsingInnerSettings = IsingInnerSettings()
    learning: IsingLearningSettings = IsingLearningSettings()  # type: ignore[assignment]

    files: ClassVar[dict[str, str]] = {"model.file": "start.eqx"}

    @model_validator(mode="after")
    def _consistent(self) -> "PlaquetteIsingRun":
        self.check_wanted_errors(scalar_names(self.measurement.observables))
        return self


def describe(model: Ising) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    return {
        "name": "ising",
        "shape": model.shape,
        "temperature": model.temperature,
        "n_shells": len(model.reduced_couplings),
    }


def build_like(description: dict[str, Any]) -> Ising:
    """A model of the structure that ``describe`` tells, with numbers to be replaced."""
    return Ising(tuple(description["shape"]), description["n_shells"], temperature=description["temperature"])
