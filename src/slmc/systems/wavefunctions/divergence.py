"""Telling an optimisation that diverges from one that is noisy."""

import math
from typing import NamedTuple

import numpy as np

PATIENCE = 20
"""Bad steps in a row after which an optimisation counts as diverged; also good steps over which a level is taken."""

_FEWEST = 5
"""Good steps without which there is no level yet."""

_N_ERRORS = 10.0


class EnergyWatch(NamedTuple):
    """What the steps so far say about the energy.

    The level is the median energy of the last 20 good steps. A step is bad if its energy is beyond what the Hamiltonian
    allows, or has lost half of what was gained and that is no noise:

        E > E_best + max( (E_start − E_best) / 2, 10 min(error, error_start) ),

    E_best the lowest level so far, E_start and error_start the first level and the median error bar there. The error
    of the step is limited by the latter since error bars explode with a state that diverges. The energy has diverged
    after 20 bad steps in a row: noise about a stationary level, however strong, does not do that, and an energy that
    goes back to where it began does.
    """

    recent: np.ndarray
    """Energies and error bars of the last good steps, latest first, NaN where there are none yet."""
    start: float = math.nan
    start_error: float = math.nan
    best: float = math.inf
    n_bad: int = 0

    @classmethod
    def new(cls) -> "EnergyWatch":
        return cls(np.full((2, PATIENCE), math.nan))

    def see(self, energy: float, error: float, bound: float = math.inf) -> "EnergyWatch":
        """With one step more; ``bound`` is the largest |energy| that the Hamiltonian allows."""
        if abs(energy) > bound or energy > self._limit(error):
            return self._replace(n_bad=self.n_bad + 1)
        recent = np.column_stack([[energy, error], self.recent[:, :-1]])
        seen = recent[:, ~np.isnan(recent[0])]
        if seen.shape[1] < _FEWEST:
            return self._replace(recent=recent, n_bad=0)
        level, noise = map(float, np.median(seen, axis=1))
        watch = self._replace(recent=recent, best=min(self.best, level), n_bad=0)
        return watch if math.isfinite(self.start) else watch._replace(start=level, start_error=noise)

    def _limit(self, error: float) -> float:
        if not math.isfinite(self.best):
            return math.inf
        noise = float(np.fmin(error, self.start_error))
        return self.best + max((self.start - self.best) / 2, math.inf if math.isnan(noise) else _N_ERRORS * noise)

    # ------------------------------------------------------------ continuing

    def as_array(self) -> np.ndarray:
        return np.array([self.start, self.start_error, self.best, self.n_bad, *self.recent.ravel()])

    @classmethod
    def from_array(cls, values: np.ndarray) -> "EnergyWatch":
        start, start_error, best, n_bad = map(float, values[:4])
        return cls(np.reshape(values[4:], (2, PATIENCE)), start, start_error, best, int(n_bad))
