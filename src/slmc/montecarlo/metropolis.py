"""Metropolis–Hastings: a proposal that knows its own ratio, and an exact decision."""

import abc
from dataclasses import replace
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo.target import Configuration, Target, log_weight_and_force, of_whole
from slmc.montecarlo.update import Info, Label, State, Update, accept_or_reject


class Proposal(eqx.Module):
    """A way to draw x' from x that knows log q(x|x') − log q(x'|x).

    To write your own: return a configuration of the same structure and the logarithm of the ratio of the
    two proposal densities (0 for a symmetric proposal). A wrong ratio gives wrong results without any
    other sign: check the resulting update with ``slmc.testing.check_invariance``. A proposal with a ``step_size`` that
    can be tuned has a field of that name, and one that evaluates the target itself (a trajectory guided by it) says how
    often in ``evaluations_of(target)``.
    """

    @abc.abstractmethod
    def propose(self, key: Key[Array, ""], configuration: Configuration) -> tuple[Configuration, Float[Array, ""]]:
        """A proposed configuration and its log proposal ratio."""


class MetropolisHastings(Update):
    """One proposal, one exact evaluation of the target, one decision.

    Accepts with probability min(1, W(x') q(x|x') / (W(x) q(x'|x))) — Hastings, Biometrika 57, 97 (1970).
    With ``label_proposals`` each proposed configuration is reported with its exact log-weight and force,
    accepted or not: the training data of self-learning Monte Carlo. The force costs no further evaluation.
    With ``label_proposals = "all"`` so is everything that a trajectory guided by the target evaluates on the way,
    the proposal last, on a leading axis of ``evaluations_per_step``.
    """

    target: Target
    proposal: Proposal
    label_proposals: bool | Literal["all"] = eqx.field(static=True, default=False)

    @property
    def reversible(self) -> bool:
        return True

    @property
    def step_size(self) -> Any:
        """That of the proposal; ``None`` if it has none."""
        return getattr(self.proposal, "step_size", None)

    @property
    def inner_update(self) -> Update | None:
        """The update whose chain makes the proposals, if it is one that does; ``None`` otherwise."""
        return getattr(self.proposal, "update", None)

    @property
    def labelled(self) -> "MetropolisHastings":
        """The same update, which reports the exact labels of its proposals."""
        return replace(self, label_proposals=True)

    @property
    def labelled_throughout(self) -> "MetropolisHastings":
        """The same update, which reports the exact labels of all that it evaluates."""
        evaluates = getattr(self.proposal, "evaluations_of", None)
        inside = evaluates is not None and evaluates(self.target) and hasattr(self.proposal, "propose_labelled")
        return replace(self, label_proposals="all" if inside else True)

    def evaluations_per_step(self, configuration: Configuration) -> int:
        """One for the decision, and those that the proposal makes of the target."""
        count = getattr(self.proposal, "evaluations_of", None)
        return 1 + (0 if count is None else count(self.target))

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_proposal, key_decision = jax.random.split(key)
        on_the_way = None
        if self.label_proposals == "all":
            proposed_with = self.proposal.propose_labelled(key_proposal, state.configuration)  # type: ignore[attr-defined]
            configuration, log_proposal_ratio, guided = proposed_with
            on_the_way = Label(guided.configuration, *jax.vmap(lambda *seen: of_whole(self.target, *seen))(*guided))
        else:
            configuration, log_proposal_ratio = self.proposal.propose(key_proposal, state.configuration)
        if self.label_proposals:
            log_weight, force = log_weight_and_force(self.target, configuration)
            label = Label(configuration, log_weight, force)
            if on_the_way is not None:
                label = jax.tree.map(lambda way, end: jnp.concatenate([way, end[None]]), on_the_way, label)
            # Observables are not measured while learning: those of the state are kept to keep its shape.
            proposed = State(configuration, log_weight, state.observables)
        else:
            label = None
            proposed = self.init(configuration)
        state, accepted, log_ratio = accept_or_reject(key_decision, state, proposed, log_proposal_ratio)
        return state, Info(jnp.asarray(accepted, jnp.float64), log_ratio, label)
