"""When a run ends before its last step: what may be asked of its results, and the wall time."""

from collections.abc import Mapping

from pydantic import Field, PositiveFloat

from slmc.statistics import RunningSeries, is_known_to
from slmc.statistics.running import Series
from slmc.system.errors import brief
from slmc.system.settings import Settings


class StoppingRules(Settings):
    """The part of [measurement] that says when a run is done; a new rule is a field here and a line in ``are_met``."""

    wanted_error: dict[str, PositiveFloat] = Field({}, description="stop when these observables are known this well")
    wall_time: PositiveFloat | None = Field(None, description="seconds after which to stop and leave a checkpoint")

    def are_met(self, series: Mapping[str, Series | RunningSeries], n_samples: int, moved: bool | None) -> bool:
        """Whether what was measured is enough; ``n_samples`` and ``moved`` are those of ``estimate``."""
        if not self.wanted_error:
            return False
        return all(is_known_to(series[name], error, n_samples, moved) for name, error in self.wanted_error.items())

    def check_names(self, measured: tuple[str, ...]) -> None:
        """Raises ``ValueError`` for something asked of an observable that is not measured."""
        for name in self.wanted_error:
            if name not in measured:
                raise ValueError(
                    f"measurement.wanted_error: {brief(name)} is not measured; measured are {', '.join(measured)}"
                )
