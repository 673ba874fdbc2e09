"""What a configuration file may say about the double-exchange model."""

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.lattice import MOST_PAIRED_SITES, n_sites, shells_of_origin
from slmc.montecarlo.integrators import INTEGRATORS
from slmc.system import PROPOSAL_WORDS, InnerProposal, RunSettings, Settings, TrainingSection
from slmc.systems.spins.double_exchange import DoubleExchange
from slmc.systems.spins.idle import refuse_idle_spins
from slmc.systems.spins.measured import scalar_names
from slmc.systems.spins.models import ModelSettings

LOCAL_DECISIONS: Any = Field(
    "Green's functions",
    description='how exact local sweeps decide where the weight is by poles; "weights": as earlier versions, slower',
)


def check_electrons(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Raises ``ValueError`` for a lattice on which no electron can hop, or larger than any that can be sampled."""
    if not 2 <= n_sites(shape) <= MOST_PAIRED_SITES:
        raise ValueError(
            f"the lattice must have 2 to {MOST_PAIRED_SITES} sites, for instance [6, 6]; got {n_sites(shape)}"
        )
    return shape


class DoubleExchangeSettings(Settings):
    """The double-exchange model."""

    shape: tuple[PositiveInt, ...] = Field((6, 6), description="extents of the periodic lattice")
    hopping: float | tuple[float, ...] = Field(1.0, description="t, the unit of energy, or one for each shell")
    coupling: float = Field(
        1.0, description="J, between spins and electrons", json_schema_extra={"symbol": "J", "units": "t"}
    )
    chemical_potential: float = Field(0.0, json_schema_extra={"symbol": "μ", "units": "t"})
    temperature: PositiveFloat = Field(
        0.05, description="in units of the hopping, k_B = 1", json_schema_extra={"symbol": "T", "units": "t"}
    )
    filling: float | None = Field(
        None, gt=0, lt=2, description="electrons per site; the chemical potential is then found while thermalising"
    )
    concentration: float = Field(1.0, gt=0, le=1, description="share of the sites that hold a spin")
    weight: Literal["auto", "poles", "diagonalisation"] = Field(
        "auto", description='how the exact weight is computed: "diagonalisation", "poles", or "auto": the cheaper'
    )
    local_decisions: Literal["Green's functions", "weights"] = LOCAL_DECISIONS
    n_samples: PositiveInt = Field(1, description="samples of such a diluted lattice, among which chains are divided")

    @field_validator("shape")
    @classmethod
    def _for_electrons(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        return check_electrons(shape)

    @model_validator(mode="after")
    def _consistent(self) -> "DoubleExchangeSettings":
        hoppings = self.hopping if isinstance(self.hopping, tuple) else (self.hopping,)
        available = shells_of_origin(self.shape).n_shells
        if not 1 <= len(hoppings) <= available:
            raise ValueError(f"hopping must list 1 to {available} values on this lattice; got {len(hoppings)}")
        if self.filling is not None and self.chemical_potential != 0:
            raise ValueError("chemical_potential and filling exclude each other; leave one of them out")
        if self.concentration == 1 and self.n_samples > 1:
            raise ValueError("n_samples > 1 needs concentration < 1; without dilution all samples are the same")
        if self.weight == "poles":
            self.build()
        return self

    def build(self, observables: bool = True) -> DoubleExchange:
        """The target; without ``observables`` those of the electrons are not computed where they cost something."""
        parameters = self.hopping, self.coupling, self.chemical_potential, self.temperature
        return DoubleExchange(self.shape, *parameters, self.weight, observables)


class InnerSettings(Settings):
    """The chain of the effective model that makes a proposal."""

    update: Literal["hmc", "local", "heat-bath"] = Field(
        "hmc", description='"hmc", "local", or "heat-bath" (of the linear model)'
    )
    proposal: InnerProposal = Field("chain", description=PROPOSAL_WORDS)
    n_updates: PositiveInt | Literal["auto"] = Field(
        10, description='updates in one proposal; "auto": for the most effective samples a second, as measured'
    )
    nested: Literal["no", "linear"] = Field(
        "no", description='"linear": each update of the model proposes with a chain of a fitted linear model'
    )
    n_guide_updates: PositiveInt = Field(4, description="updates of the linear model in each update (nested)")
    n_steps: PositiveInt = Field(5, description="integrator steps of a trajectory (hmc)")
    integrator: Literal["leapfrog", "omelyan", "fourth-order"] = "leapfrog"
    precision: Literal["double", "single"] = Field(
        "double", description="of the forces along a trajectory (hmc); decisions are always double"
    )
    acceptance: float = Field(0.8, gt=0, lt=1, description="acceptance to which the step size is tuned while learning")
    sweeps: Literal["in one call", "one by one"] = Field(
        "in one call", description='"one by one": with the random numbers of earlier versions, slower (heat-bath)'
    )


assert set(INTEGRATORS) == set(InnerSettings.model_fields["integrator"].annotation.__args__)  # type: ignore[union-attr]


class DoubleExchangeRun(RunSettings):
    """A run of the double-exchange model."""

    system: Literal["double_exchange"] = Field("double_exchange", description="the physical system")
    target: DoubleExchangeSettings = DoubleExchangeSettings()
    model: ModelSettings = ModelSettings()
    inner: InnerSettings = InnerSettings()
    learning: TrainingSection = TrainingSection()

    files: ClassVar[dict[str, str]] = {"model.file": "start.eqx"}
    came_later: ClassVar[dict[str, Any]] = {
        "target.weight": "diagonalisation",
        "target.local_decisions": "weights",
        "inner.sweeps": "one by one",
        "model.evaluation": "arrays",
    }

    @model_validator(mode="after")
    def _consistent(self) -> "DoubleExchangeRun":
        self.check_wanted_errors(scalar_names(self.measurement.observables, self.target.shape))
        linear_guide = self.inner.nested == "linear"
        if (
            self.inner.update == "heat-bath"
            and not linear_guide
            and self.model.name != "linear"
            and not self.model.file
        ):
            raise ValueError(
                f'inner.update = "heat-bath" needs model.name = "linear" or inner.nested = "linear"; use "hmc" for a '
                f"{self.model.name}"
            )
        if self.learning.training_steps == 0 and self.model.name != "linear" and self.model.file is None:
            raise ValueError(
                f'learning.training_steps = 0 needs model.name = "linear"; a {self.model.name} must be trained'
            )
        if linear_guide and self.model.name == "linear" and self.model.file is None:
            raise ValueError('inner.nested = "linear" needs a better model than a linear one outside; use "network"')
        n_chains = self.measurement.n_chains
        if n_chains % self.target.n_samples:
            raise ValueError(
                f"measurement.n_chains = {n_chains} must be a multiple of target.n_samples = {self.target.n_samples}"
            )
        refuse_idle_spins(self)
        return self
