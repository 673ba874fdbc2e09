"""The effective models compared, how they are trained, and what is measured of them."""

import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
from exact_labels import SPHERE, TEMPERATURE, ExactData, hamiltonian_chain, tuned

from slmc.lattice import shells
from slmc.montecarlo import Target
from slmc.selflearning import (
    CumulativeUpdate,
    TrainingSettings,
    expected_acceptance,
    fit,
    fit_linear,
    measure_acceptance,
    residual,
)
from slmc.systems.spins import EquivariantTransformer, Heisenberg
from slmc.systems.spins.observables import staggered_magnetization_squared

FORCE_WEIGHT = 3.0
"""Weight of the forces in the loss."""


class Family(NamedTuple):
    """Transformers that differ in their number of layers only; ``None`` shells: all of the torus.

    ``initial_scale`` and ``learning_rate`` are what trains the family well.
    """

    n_heads: int = 1
    n_shells: int | None = None
    head_shells: int | None = None
    initial_scale: float = 0.03
    learning_rate: float = 1e-2
    full_rate_layers: int = 1

    def model(self, shape: tuple[int, int], n_layers: int, seed: int) -> EquivariantTransformer:
        """An untrained member."""
        available = shells(shape).n_shells
        n_shells, head_shells = (None if n is None else min(n, available) for n in (self.n_shells, self.head_shells))
        return EquivariantTransformer(
            shape,
            n_layers,
            self.n_heads,
            n_shells,
            head_shells,
            temperature=TEMPERATURE,
            initial_scale=self.initial_scale,
            key=jax.random.key(seed),
        )

    def deepened(self, model: EquivariantTransformer, seed: int) -> EquivariantTransformer:
        """A trained member with one more layer, close to the identity, between its layers and its head."""
        n_layers = len(model.layers)
        new = self.model(model.shape, n_layers + 1, seed)
        return eqx.tree_at(lambda new: (*new.layers[:n_layers], new.head), new, (*model.layers, model.head))

    def learning_rate_at(self, n_layers: int) -> float:
        """Full up to ``full_rate_layers``, then falling as 1/L: deeper models diverge or die at the full rate."""
        return self.learning_rate * min(1.0, self.full_rate_layers / max(n_layers, 1))


PAPER = Family(1, 6, 1, learning_rate=2e-2, full_rate_layers=3)
PAPER_LONG_HEAD = Family(1, 6, 6)
ALL_SHELLS = Family(1)
FOUR_HEADS = Family(4, initial_scale=0.1, learning_rate=3e-3)


def linear_model(data: ExactData, shape: tuple[int, int], n_shells: int) -> Heisenberg:
    """The Heisenberg model by one least-squares solve."""
    model = Heisenberg(shape, min(n_shells, shells(shape).n_shells), temperature=TEMPERATURE)
    return fit_linear(model, data.training, SPHERE)


def training(family: Family, n_steps: int, force_weight: float = FORCE_WEIGHT, n_layers: int = 1) -> TrainingSettings:
    """``n_steps`` of AdamW without early stop at the family's learning rate for a number of layers."""
    return TrainingSettings(
        n_steps=n_steps,
        learning_rate=family.learning_rate_at(n_layers),
        force_weight=force_weight,
        evaluate_every=min(100, n_steps),
        patience=n_steps,
    )


def trained(
    seed: int, model: EquivariantTransformer, data: ExactData, settings: TrainingSettings
) -> EquivariantTransformer:
    """The model after a least-squares solve of its head, AdamW on all of it, and the head solved again."""
    model = with_solved_head(model, data, settings.force_weight)
    if model.layers:
        model = fit(jax.random.key(seed), model, data.training, data.held_out, SPHERE, settings).model
        solved = with_solved_head(model, data, settings.force_weight)
        model = min((model, solved), key=lambda candidate: residual(candidate, data.training))
    return model


def with_solved_head(model: EquivariantTransformer, data: ExactData, force_weight: float) -> EquivariantTransformer:
    return fit_linear(model, data.training, SPHERE, force_weight, where=head_of)


def head_of(model: EquivariantTransformer) -> Heisenberg:
    return model.head


def n_parameters(model: Target) -> int:
    """Trainable numbers, the constant left out: it enters no acceptance."""
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    return sum(leaf.size for leaf in leaves) - 1


def described(model: Target, data: ExactData) -> dict[str, Any]:
    """Parameters, held-out residual with its error over held-out chains, and the acceptance it leads to expect."""
    s = residual(model, data.held_out)
    return {
        "n_parameters": n_parameters(model),
        "residual": s,
        "training_residual": residual(model, data.training),
        "expected_acceptance": expected_acceptance(s),
    }


def accepted(
    seed: int, target: Target, model: Target, data: ExactData, n_updates: dict[int, int], n_chains: int = 8
) -> dict[str, Any]:
    """Measured acceptance and proposal autocorrelation of m_st² for each inner length.

    ``n_updates`` maps the inner length, in Hamiltonian trajectories of the model, to the exact steps of each chain.
    """
    key = jax.random.key(seed)
    starts = data.starts[-n_chains:]
    inner = tuned(key, hamiltonian_chain(model), starts)
    found = {"inner_step_size": float(inner.proposal.step_size), "acceptance": {}}
    for length, n_steps in n_updates.items():
        started = time.perf_counter()
        proposal = CumulativeUpdate(inner, length)
        measured = measure_acceptance(
            jax.random.fold_in(key, length), target, proposal, starts, staggered_magnetization_squared, n_steps
        )
        found["acceptance"][str(length)] = {
            "value": measured.acceptance,
            "error": measured.error,
            "proposal_autocorrelation": measured.proposal_autocorrelation,
            "exact_evaluations": n_steps * n_chains,
            "seconds": time.perf_counter() - started,
        }
    return found
