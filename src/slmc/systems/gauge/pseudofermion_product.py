"""Several determinants, each with a pseudofermion of its own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from slmc.montecarlo.target import LogWeight, Target
from slmc.systems.gauge.dynamical import Dynamical, PseudofermionTarget
from slmc.systems.gauge.fermion_operator import FermionField
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.pseudofermions import PseudofermionAction


class PseudofermionProduct(PseudofermionTarget):
    """Links with several determinants or ratios of them, each a ``PseudofermionAction`` without gauge action.

        log W = −S_g[U] + Σ_k (what the pseudofermion of factor k adds)

    Hasenbusch's preconditioning, Phys. Lett. B 519, 177 (2001), is ``PseudofermionProduct(gauge, light, heavy)`` with
    ``light = PseudofermionAction(none, operator, denominator=heavier)``, ``heavy = PseudofermionAction(none, heavier)``
    and ``none`` a gauge action of β = 0: the same determinant by two fields whose forces are smaller and less singular.
    Flavours of different mass are factors too. Observable: ``"trace_inverse"`` of the first factor. The factors' own
    gauge actions are not read. Raises ``ValueError`` for fewer than one factor, and for those that need rational
    functions, whose spectrum is verified only where they are alone.
    """

    gauge: Target
    factors: tuple[PseudofermionAction, ...]

    def __init__(self, gauge: Target, *factors: PseudofermionAction) -> None:
        if not factors or any(factor.draw_power is not None for factor in factors):
            raise ValueError(
                "a product needs at least one pseudofermion action, and none of them with rational functions: give "
                "flavours in multiples of n_tastes."
            )
        self.gauge, self.factors = gauge, factors

    def log_weight(self, configuration: Dynamical) -> LogWeight:
        """log W of links and pseudofermions."""
        gauge = jax.lax.stop_gradient(self.gauge).log_weight(configuration.links)
        return gauge + self.fermion_log_weight(configuration)

    def fermion_log_weight(self, configuration: Dynamical) -> LogWeight:
        """The sum over factors."""
        terms = [factor.fermion_log_weight(part) for factor, part in self._each(configuration)]
        return sum(terms, jnp.zeros(()))

    def log_weight_and_observables(self, configuration: Dynamical) -> tuple[LogWeight, dict[str, Array]]:
        """log W, and the estimate of tr A⁻¹ of the first factor."""
        first, *others = self._each(configuration)
        log_weight, trace = first[0].fermion_log_weight_and_trace(first[1])
        for factor, part in others:
            log_weight = log_weight + factor.fermion_log_weight(part)
        return self.gauge.log_weight(configuration.links) + log_weight, {"trace_inverse": trace}

    def noise(self, key: Key[Array, ""]) -> tuple[FermionField, ...]:
        keys = jax.random.split(key, len(self.factors))
        return tuple(factor.noise(key) for factor, key in zip(self.factors, keys, strict=True))

    def coloured(self, chi: Sequence[FermionField], links: Links) -> tuple[FermionField, ...]:
        return tuple(factor.coloured(field, links) for factor, field in zip(self.factors, chi, strict=True))

    @property
    def drawn_within(self) -> float | None:
        return None

    def no_pseudofermion(self, *leading: int) -> tuple[FermionField, ...]:
        return tuple(factor.no_pseudofermion(*leading) for factor in self.factors)

    def _each(self, configuration: Dynamical) -> list[tuple[PseudofermionAction, Dynamical]]:
        links, fields = configuration
        return [(factor, Dynamical(links, phi)) for factor, phi in zip(self.factors, fields, strict=True)]
