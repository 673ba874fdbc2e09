"""How good an effective model is: residual, expected and measured acceptance, figures of merit."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key
from scipy.special import erfc

from slmc.montecarlo.chains import init_chains, run_chains
from slmc.montecarlo.metropolis import MetropolisHastings, Proposal
from slmc.montecarlo.target import Configuration, Target
from slmc.montecarlo.update import Info, State


def expected_acceptance(residual: float) -> float:
    """erfc(s/2): the mean acceptance of independent proposals whose log-weight residual has standard deviation s.

    Derived for a Gaussian residual; accurate for s² < 1.5, optimistic above. A short inner chain accepts more,
    because it proposes something close to where it started.
    """
    return float(erfc(residual / 2))


class MeasuredAcceptance(NamedTuple):
    """Acceptance of a proposal with its error (of the mean over chains), and how far the proposal goes.

    ``proposal_autocorrelation`` is the correlation between an observable of the proposed configuration and that of
    the configuration it started from: near 0 for independent proposals.
    """

    acceptance: float
    error: float
    proposal_autocorrelation: float


def measure_acceptance(
    key: Key[Array, ""],
    target: Target,
    proposal: Proposal,
    configurations: Configuration,
    observable: Callable[[Configuration], Array],
    n_steps: int = 100,
) -> MeasuredAcceptance:
    """Runs ``n_steps`` of every chain from equilibrated configurations and measures what a proposal achieves.

    Choose as ``observable`` (a scalar of one configuration) the slowest that matters.
    """
    update = MetropolisHastings(target, proposal, label_proposals=True)

    def observe(state: State, info: Info) -> tuple[Array, Array, Array]:
        assert info.label is not None
        return info.accepted, observable(state.configuration), observable(info.label.configuration)

    start = np.asarray(jax.vmap(observable)(configurations))
    _, observed = run_chains(key, update, init_chains(update, configurations), n_steps, observe)
    accepted, after, proposed = (np.asarray(series) for series in observed)
    before = np.concatenate([start[:, None], after[:, :-1]], axis=1)
    by_chain = accepted.mean(1)
    error = float(np.std(by_chain, ddof=1) / np.sqrt(len(by_chain))) if len(by_chain) > 1 else math.nan
    correlation = float(np.corrcoef(before.ravel(), proposed.ravel())[0, 1])
    return MeasuredAcceptance(float(accepted.mean()), error, correlation)
