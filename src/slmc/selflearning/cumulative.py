"""The proposal of self-learning Monte Carlo: a chain of the effective model."""

import equinox as eqx
from jaxtyping import Array, Float, Key

from slmc.montecarlo.metropolis import Proposal
from slmc.montecarlo.target import Configuration
from slmc.montecarlo.update import Update, chain
from slmc.numbers import positive_count


class CumulativeUpdate(Proposal):
    """``n_updates`` steps of an update that keeps detailed balance with respect to an effective weight.

        A = min(1, W(x') W_eff(x) / (W(x) W_eff(x'))),   log proposal ratio = log W_eff(x) − log W_eff(x')

    Liu, Qi, Meng, Fu, PRB 95, 041101 (2017), eq. (5); cumulative: Liu, Shen, Qi, Meng, Fu, PRB 95, 241104 (2017).
    The number of inner updates is fixed and never depends on their outcome, and the log-weights in the ratio
    are those that drove the inner chain, to the last bit.

    The inner update may itself be a ``MetropolisHastings`` with a ``CumulativeUpdate`` of a cheaper model
    (nested, or delayed-acceptance, self-learning Monte Carlo).

    Raises ``ValueError`` for an inner update that does not keep detailed balance, since the ratio above would
    then be wrong, and for fewer than one inner update.
    """

    update: Update
    n_updates: int = eqx.field(static=True, default=10)

    def __check_init__(self) -> None:
        if not self.update.reversible:
            raise ValueError(
                "CumulativeUpdate needs an inner update that keeps detailed balance (update.reversible); "
                "make a Sequence palindromic, for instance Sequence((a, b, a))."
            )
        positive_count(self.n_updates, "n_updates")

    def propose(self, key: Key[Array, ""], configuration: Configuration) -> tuple[Configuration, Float[Array, ""]]:
        start = self.update.init(configuration)
        end = chain(key, self.update, start, self.n_updates)
        return end.configuration, start.log_weight - end.log_weight
