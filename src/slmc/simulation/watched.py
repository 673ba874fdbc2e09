"""What a run keeps in mind of what it measures, in constant memory: for figures, warnings and stopping rules."""

from collections.abc import Iterable, Mapping

import numpy as np

from slmc.statistics import RunningSeries


class Watched:
    """Series of some observables since the beginning, the mean acceptance, and whether the chains have moved."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.n_draws = 0
        self.series: dict[str, RunningSeries] = {}
        self._accepted = 0.0
        self._least = self._largest = self._moved = np.zeros(0)

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of what ``extend`` wants."""
        return tuple(dict.fromkeys((*self.names, "log_weight", "accepted")))

    @property
    def acceptance(self) -> float:
        return self._accepted / self.n_draws

    @property
    def has_moved(self) -> bool:
        """Whether the log-weight of every chain has varied and every chain has accepted something."""
        return bool(self.n_draws and np.all((self._largest > self._least) & (self._moved > 0)))

    def extend(self, scalars: Mapping[str, np.ndarray]) -> None:
        """Adds what was measured, (chain, draw) each."""
        log_weight, accepted = scalars["log_weight"], scalars["accepted"]
        if not self.n_draws:
            self.series = {name: RunningSeries(len(log_weight)) for name in self.names}
            self._least, self._largest = log_weight.min(1), log_weight.max(1)
            self._moved = np.zeros(len(log_weight))
        for name, series in self.series.items():
            series.extended(scalars[name])
        self.n_draws += log_weight.shape[1]
        self._accepted += float(accepted.mean(0).sum())
        self._least = np.minimum(self._least, log_weight.min(1))
        self._largest = np.maximum(self._largest, log_weight.max(1))
        self._moved = self._moved + accepted.sum(1)
