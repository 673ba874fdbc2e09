"""What a configuration file may say about replica exchange of the double-exchange model."""

import itertools
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.system import RunSettings, Settings, TrainingSection
from slmc.systems.spins.double_exchange import DoubleExchange
from slmc.systems.spins.idle import refuse_idle_spins
from slmc.systems.spins.measured import ALL_OBSERVABLES, scalar_names
from slmc.systems.spins.models import ModelSettings
from slmc.systems.spins.settings import LOCAL_DECISIONS, DoubleExchangeRun, InnerSettings, check_electrons


class LadderSettings(Settings):
    """The double-exchange model at several temperatures, whose chains exchange configurations."""

    shape: tuple[PositiveInt, ...] = Field((6, 6), description="extents of the periodic lattice")
    hopping: float | tuple[float, ...] = Field(1.0, description="t, the unit of energy, or one for each shell")
    coupling: float = Field(
        1.0, description="J, between spins and electrons", json_schema_extra={"symbol": "J", "units": "t"}
    )
    chemical_potential: float = Field(0.0, json_schema_extra={"symbol": "μ", "units": "t"})
    temperatures: tuple[PositiveFloat, ...] = Field(
        (0.2, 0.1, 0.05), description="rungs of the ladder, from high to low, in units of the hopping"
    )
    tuned: bool = Field(
        True, description="move the rungs between both ends while thermalising, until all pairs swap equally often"
    )

    weight: Literal["auto", "poles", "diagonalisation"] = Field(
        "auto", description='how the exact weight is computed: "diagonalisation", "poles", or "auto": the cheaper'
    )

    local_decisions: Literal["Green's functions", "weights"] = LOCAL_DECISIONS

    @field_validator("shape")
    @classmethod
    def _for_electrons(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        return check_electrons(shape)

    @field_validator("temperatures")
    @classmethod
    def _descending(cls, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        if len(temperatures) < 2 or any(a <= b for a, b in itertools.pairwise(temperatures)):
            raise ValueError(f"list two temperatures or more, from high to low; got {list(temperatures)}")
        return temperatures

    def build(self) -> tuple[DoubleExchange, ...]:
        """The target of every rung; all compute their weight alike, as replicas must."""
        parameters = self.shape, self.hopping, self.coupling, self.chemical_potential
        rungs = tuple(DoubleExchange(*parameters, temperature, self.weight) for temperature in self.temperatures)
        if len({rung.weight for rung in rungs}) == 1:
            return rungs
        return tuple(DoubleExchange(*parameters, temperature, "diagonalisation") for temperature in self.temperatures)


class ReplicaExchangeRun(RunSettings):
    """A run of replica exchange, with an effective model for every temperature."""

    system: Literal["replica_exchange"] = Field("replica_exchange", description="the physical system")
    target: LadderSettings = LadderSettings()
    model: ModelSettings = ModelSettings(name="linear")
    inner: InnerSettings = InnerSettings()
    learning: TrainingSection = TrainingSection(training_steps=0)

    came_later: ClassVar[dict[str, Any]] = DoubleExchangeRun.came_later

    @model_validator(mode="after")
    def _consistent(self) -> "ReplicaExchangeRun":
        self.check_wanted_errors(rung_names(self.measurement.observables, self.target))
        if self.model.file is not None:
            raise ValueError("model.file has no effect in replica exchange, where every temperature learns its own")
        if self.inner.n_updates == "auto":
            raise ValueError('inner.n_updates = "auto" is not possible: all replicas share one length; give a number')
        if self.inner.nested != "no":
            raise ValueError('inner.nested must be "no" in replica exchange')
        if self.inner.update == "heat-bath" and self.model.name != "linear":
            raise ValueError('inner.update = "heat-bath" needs model.name = "linear"; use "hmc"')
        if self.learning.training_steps == 0 and self.model.name != "linear":
            raise ValueError(
                f'learning.training_steps = 0 needs model.name = "linear"; a {self.model.name} must be trained'
            )
        refuse_idle_spins(self)
        return self


def shown_names(wanted: tuple[str, ...] | None, target: LadderSettings) -> tuple[str, ...]:
    """The observables to measure at each rung, checked; what serves derived quantities alone is left out."""
    return tuple(name for name in scalar_names(wanted, target.shape) if ALL_OBSERVABLES[name].shown)


def rung_names(wanted: tuple[str, ...] | None, target: LadderSettings) -> tuple[str, ...]:
    """Names of the observables at each rung, counted from 1 at the highest temperature."""
    names = shown_names(wanted, target)
    return tuple(f"{name}_{rung + 1}" for rung in range(len(target.temperatures)) for name in names)
