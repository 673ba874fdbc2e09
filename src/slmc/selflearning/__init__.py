"""Learn an effective model and let it propose.

- ``cumulative``: the proposal, a chain of the effective model
- ``linear``: one least-squares solve
- ``training``: AdamW on the variance of the residual plus force matching
- ``on_the_fly``: sample, fit, propose with the new model, repeat, freeze
- ``diagnostics``: residual, expected acceptance, figures of merit
"""

from slmc.selflearning.cumulative import CumulativeUpdate
from slmc.selflearning.linear import fit_linear
from slmc.selflearning.training import FitResult, TrainingSettings, fit, residual

__all__ = ["CumulativeUpdate", "FitResult", "TrainingSettings", "fit", "fit_linear", "residual"]
