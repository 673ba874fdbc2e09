"""What a configuration file may say about the double-exchange model."""

from typing import Any, ClassVar, Literal

import jax
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.lattice import n_sites, shells
from slmc.montecarlo.integrators import INTEGRATORS
from slmc.system import RunSettings, Settings, TrainingSection
from slmc.systems.spins.double_exchange import DoubleExchange
from slmc.systems.spins.heisenberg import Heisenberg
from slmc.systems.spins.measured import scalar_names
from slmc.systems.spins.network import EquivariantNetwork
from slmc.systems.spins.transformer import EquivariantTransformer

AllOrNumber = Literal["all"] | int
EffectiveModel = Heisenberg | EquivariantTransformer | EquivariantNetwork


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
        "diagonalisation",
        description='how the exact weight is computed: "diagonalisation", "poles" or, where they are cheaper, "auto"',
    )
    n_samples: PositiveInt = Field(1, description="samples of such a diluted lattice, among which chains are divided")

    @field_validator("shape")
    @classmethod
    def _at_least_two_sites(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if n_sites(shape) < 2:
            raise ValueError(f"the lattice must have at least 2 sites, for instance [6, 6]; got {list(shape)}")
        return shape

    @model_validator(mode="after")
    def _consistent(self) -> "DoubleExchangeSettings":
        hoppings = self.hopping if isinstance(self.hopping, tuple) else (self.hopping,)
        available = shells(self.shape).n_shells
        if not 1 <= len(hoppings) <= available:
            raise ValueError(f"hopping must list 1 to {available} values on this lattice; got {len(hoppings)}")
        if self.filling is not None and self.chemical_potential != 0:
            raise ValueError("chemical_potential and filling exclude each other; leave one of them out")
        if self.concentration == 1 and self.n_samples > 1:
            raise ValueError("n_samples > 1 needs concentration < 1; without dilution all samples are the same")
        if self.weight == "poles":
            self.build()
        return self

    def build(self) -> DoubleExchange:
        return DoubleExchange(
            self.shape, self.hopping, self.coupling, self.chemical_potential, self.temperature, self.weight
        )


class ModelSettings(Settings):
    """The effective model."""

    name: Literal["transformer", "network", "linear"] = Field(
        "transformer", description='"transformer", "network" or "linear"'
    )
    n_layers: int = Field(2, ge=0, description="attention layers (transformer); layers, 1 or more (network)")
    n_channels: PositiveInt = Field(12, description="vectors per site (network)")
    n_hidden: PositiveInt = Field(32, description="hidden values per site (network)")
    reach: AllOrNumber = Field("all", description='largest displacement component in a filter (network), or "all"')
    n_heads: PositiveInt = Field(4, description="heads in each layer (transformer)")
    n_shells: AllOrNumber = Field("all", description='neighbour shells in Q, K, V; of the linear model: in H; or "all"')
    head_shells: AllOrNumber = Field("all", description='shells of the Heisenberg head (transformer), or "all"')
    attention: Literal["dot-product", "factored"] = Field("dot-product", description='or "factored" (transformer)')
    initial_scale: PositiveFloat = Field(0.1, description="initial attention weights times sqrt(N) (transformer)")
    file: str | None = Field(None, description="a stored model.eqx to start from; its form replaces the fields above")

    @field_validator("n_shells", "head_shells", "reach")
    @classmethod
    def _not_negative(cls, value: AllOrNumber) -> AllOrNumber:
        if value != "all" and value < 0:
            raise ValueError('must be "all" or a number, 0 or more')
        return value

    def build(self, shape: tuple[int, ...], temperature: float, key: jax.Array) -> EffectiveModel:
        """A model to start learning from. Raises ``ValueError`` for more shells than the torus has."""
        n_shells = None if self.n_shells == "all" else self.n_shells
        if self.name == "linear":
            return Heisenberg(shape, n_shells, temperature=temperature)
        if self.name == "network":
            reach = None if self.reach == "all" else self.reach
            return EquivariantNetwork(shape, self.n_layers, self.n_channels, self.n_hidden, reach, temperature, key=key)
        head_shells = None if self.head_shells == "all" else self.head_shells
        return EquivariantTransformer(
            shape,
            self.n_layers,
            self.n_heads,
            n_shells,
            head_shells,
            self.attention,
            temperature,
            self.initial_scale,
            key=key,
        )


class InnerSettings(Settings):
    """The chain of the effective model that makes a proposal."""

    update: Literal["hmc", "local", "heat-bath"] = Field(
        "hmc", description='"hmc", "local", or "heat-bath" (of the linear model)'
    )
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


assert set(INTEGRATORS) == set(InnerSettings.model_fields["integrator"].annotation.__args__)  # type: ignore[union-attr]


class DoubleExchangeRun(RunSettings):
    """A run of the double-exchange model."""

    system: Literal["double_exchange"] = Field("double_exchange", description="the physical system")
    target: DoubleExchangeSettings = DoubleExchangeSettings()
    model: ModelSettings = ModelSettings()
    inner: InnerSettings = InnerSettings()
    learning: TrainingSection = TrainingSection()

    files: ClassVar[dict[str, str]] = {"model.file": "start.eqx"}
    came_later: ClassVar[tuple[str, ...]] = ("target.weight",)

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
        return self


def describe(model: EffectiveModel) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    if isinstance(model, Heisenberg):
        return {
            "name": "linear",
            "shape": model.shape,
            "temperature": model.temperature,
            "n_shells": len(model.reduced_couplings),
        }
    if isinstance(model, EquivariantNetwork):
        return {
            "name": "network",
            "shape": model.shape,
            "temperature": model.temperature,
            "n_layers": len(model.perceptrons),
            "n_channels": len(model.filters),
            "n_hidden": len(model.perceptrons[0].bias),
            "reach": "all" if model.reach is None else model.reach,
        }
    layers = model.layers
    return {
        "name": "transformer",
        "shape": model.shape,
        "temperature": model.temperature,
        "n_layers": len(layers),
        "n_heads": layers[0].filters.shape[1] if layers else 1,
        "n_shells": layers[0].filters.shape[2] - 1 if layers else 0,
        "head_shells": len(model.head.reduced_couplings),
        "attention": "factored" if layers and layers[0].scores is not None else "dot-product",
    }


def build_like(description: dict[str, Any]) -> EffectiveModel:
    """A model of the structure that ``describe`` found, with numbers to be replaced."""
    form = dict(description)
    shape, temperature = tuple(form.pop("shape")), form.pop("temperature")
    return ModelSettings(**form).build(shape, temperature, jax.random.key(0))
