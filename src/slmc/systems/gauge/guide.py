"""Guides of self-learning hybrid Monte Carlo: a fermion on smeared links, scaled, with gauge couplings of its own."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo.special_unitary import as_matrices
from slmc.montecarlo.target import LogWeight, Target
from slmc.systems.gauge.action_change import ActionChange
from slmc.systems.gauge.dynamical import Dynamical, PseudofermionTarget
from slmc.systems.gauge.fermion_operator import FermionField
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.pseudofermions import PseudofermionAction
from slmc.systems.gauge.smearing import LOOPS, check_loops, loop_sum


class LoopAction(Target):
    """A gauge action with more loops: log W = log W_0 + Σ_k c_k Σ Re tr(loop_k)/N, each loop counted once.

    ``loops`` are any of ``smearing.LOOPS``; ``couplings`` c_k start from zero and are what is trained, the numbers of
    ``base``, log W_0, are kept. Raises ``ValueError`` for a loop that does not exist.
    """

    base: Target
    loops: tuple[str, ...] = eqx.field(static=True)
    couplings: Float[Array, " loop"]

    def __init__(self, base: Target, loops: Sequence[str] = LOOPS, couplings: float | Array | Sequence = 0.0) -> None:
        self.base, self.loops = base, check_loops(loops)
        self.couplings = jnp.broadcast_to(jnp.asarray(couplings, jnp.float64), (len(self.loops),))

    def log_weight(self, links: Links) -> LogWeight:
        """log W of a gauge field."""
        u = as_matrices(links)
        sums = jnp.stack([loop_sum(u, loop) for loop in self.loops])
        return jax.lax.stop_gradient(self.base).log_weight(links) + jnp.sum(self.couplings * sums) / len(u)


class FermionGuide(PseudofermionTarget):
    """log W = log W_gauge[U] + s log W_f[U, φ]: a cheaper fermion on smeared links, scaled, with gauge couplings.

    What is trained, by ``slmc.selflearning.fit`` or ``fit_gauss_newton`` on ``ActionChange(guide)`` with ``where`` =
    ``trained_part``: the couplings of ``gauge``, the scale s, the smearing of ``fermions``. A heavier
    fermion answers to the pseudofermion of a lighter one too weakly and in another way than plaquettes: a scale and
    couplings of its own make up for much of that. Any s > 0 leaves the answer exact, for the guide only drives the
    trajectory.
    """

    gauge: LoopAction
    fermions: PseudofermionAction
    scale: Float[Array, ""]

    def __init__(self, gauge: LoopAction, fermions: PseudofermionAction, scale: float = 1.0) -> None:
        self.gauge, self.fermions, self.scale = gauge, fermions, jnp.asarray(scale, jnp.float64)

    def log_weight(self, configuration: Dynamical) -> LogWeight:
        """log W of links and pseudofermions."""
        return self.gauge.log_weight(configuration.links) + self.fermion_log_weight(configuration)

    def fermion_log_weight(self, configuration: Dynamical) -> LogWeight:
        """s times that of the fermions."""
        return self.scale * self.fermions.fermion_log_weight(configuration)

    def log_weight_and_observables(self, configuration: Dynamical) -> tuple[LogWeight, dict[str, Array]]:
        """log W, and no observables: they would be those of the guide."""
        return self.log_weight(configuration), {}

    def noise(self, key: Key[Array, ""]) -> FermionField:
        return self.fermions.noise(key)

    def coloured(self, chi: FermionField, links: Links) -> FermionField:
        """That of the fermions over √s."""
        return self.fermions.coloured(chi, links) / jnp.sqrt(self.scale).astype(jnp.complex128)

    @property
    def drawn_within(self) -> float | None:
        return self.fermions.drawn_within

    def no_pseudofermion(self, *leading: int) -> FermionField:
        return self.fermions.no_pseudofermion(*leading)


def trained_part(change: ActionChange) -> list[Any]:
    """The leaves of the change of a ``FermionGuide`` that are trained: couplings, scale, smearing if there is one."""
    guide = change.action
    assert isinstance(guide, FermionGuide)
    smearing = guide.fermions.smearing
    weights = [] if smearing is None else [smearing.weights]
    return [guide.gauge.couplings, guide.scale, *weights]
