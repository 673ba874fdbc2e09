"""Learn an effective model and let it propose.

- ``cumulative``: the proposal, a chain of the effective model
- ``linear``: one least-squares solve
- ``training``: AdamW on the variance of the residual plus force matching
- ``gauss_newton``: damped Gauss–Newton steps, for few parameters
- ``on_the_fly``: sample, fit, propose with the new model, repeat, freeze
- ``ladder``: replica exchange of self-learning updates, its temperatures tuned while learning
- ``diagnostics``: residual, expected acceptance, figures of merit
"""

from slmc.selflearning.cumulative import CumulativeUpdate
from slmc.selflearning.diagnostics import MeasuredAcceptance, expected_acceptance, measure_acceptance
from slmc.selflearning.gauss_newton import GaussNewtonSettings, fit_gauss_newton
from slmc.selflearning.ladder import LadderReport, LadderResult, ReplicaLearner, TemperedLearner, learn_ladder
from slmc.selflearning.linear import fit_linear
from slmc.selflearning.on_the_fly import Learner, LearningResult, LearningSettings, RoundReport, learn
from slmc.selflearning.training import FitResult, TrainingSettings, centred, fit, residual

__all__ = [
    "CumulativeUpdate",
    "FitResult",
    "GaussNewtonSettings",
    "LadderReport",
    "LadderResult",
    "Learner",
    "LearningResult",
    "LearningSettings",
    "MeasuredAcceptance",
    "ReplicaLearner",
    "RoundReport",
    "TemperedLearner",
    "TrainingSettings",
    "centred",
    "expected_acceptance",
    "fit",
    "fit_gauss_newton",
    "fit_linear",
    "learn",
    "learn_ladder",
    "measure_acceptance",
    "residual",
]
