"""What a variational run needs to know: of its settings, and of what is optimised."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import Field, PositiveFloat, PositiveInt

from slmc.system.run_settings import nested
from slmc.system.settings import Settings


class StepSettings(Settings):
    """Steps of the optimisation and draws of the measurement; what does not depend on the wave function."""

    n_steps: PositiveInt = Field(400, description="steps of the optimisation")
    block_size: PositiveInt = Field(25, description="steps between writing records and a checkpoint")
    measurement_blocks: PositiveInt = Field(8, description="blocks measured with the final parameters")
    measurement_draws: int = Field(16, ge=4, description="draws of every chain in such a block")
    measurement_sweeps: PositiveInt = Field(4, description="sweeps of every chain from one measured draw to the next")
    wall_time: PositiveFloat | None = Field(None, description="seconds after which to stop and leave a checkpoint")


class VariationalSettings(Settings):
    """What every variational run has; a system adds its name and its sections, ``optimisation: StepSettings`` last.

    ``may_change`` may be changed while a run is interrupted. They do not enter its identity.
    """

    may_change: ClassVar[tuple[str, ...]] = (
        "title",
        "optimisation.n_steps",
        "optimisation.measurement_blocks",
        "optimisation.measurement_draws",
        "optimisation.measurement_sweeps",
        "optimisation.wall_time",
    )

    system: str
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**31)

    @property
    def identity(self) -> str:
        """All settings but those that may change while a run is interrupted."""
        return self.model_dump_json(exclude=nested(self.may_change))


@runtime_checkable
class Variational(Protocol):
    """What a run needs to know of a wave function; see ``Optimisation`` of ``slmc.simulation``."""

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
