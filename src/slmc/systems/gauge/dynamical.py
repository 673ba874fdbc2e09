"""Links and pseudofermions together: what is sampled, and what a trajectory of the links sees of it."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Key

from slmc.montecarlo.target import LogWeight, MeasuredTarget, Target
from slmc.systems.gauge.fermion_operator import FermionField
from slmc.systems.gauge.links import Links

PseudofermionField = FermionField | tuple[FermionField, ...]
"""φ, several fields of one operator on a leading axis, or a field for each factor of a ``PseudofermionProduct``."""


class Dynamical(NamedTuple):
    """A configuration with dynamical fermions: links and the pseudofermion field φ, or several."""

    links: Links
    pseudofermion: PseudofermionField


class PseudofermionTarget(MeasuredTarget):
    """Links and pseudofermions together: log W = −S_g[U] + a function of both.

    To write your own: ``fermion_log_weight`` is what the pseudofermions add to the weight of the links, and
    ``coloured`` makes them of noise, drawn exactly from their distribution given the links.
    """

    gauge: eqx.AbstractVar[Target]

    @abc.abstractmethod
    def fermion_log_weight(self, configuration: Dynamical) -> LogWeight:
        """log W without that of the gauge action."""

    @abc.abstractmethod
    def noise(self, key: Key[Array, ""]) -> PseudofermionField:
        """χ with density exp(−χ†χ), for ``coloured``."""

    @abc.abstractmethod
    def coloured(self, chi: Any, links: Links) -> PseudofermionField:
        """φ from its distribution given the links, of χ."""

    @property
    @abc.abstractmethod
    def drawn_within(self) -> float | None:
        """The relative error within which −log W of a drawn φ is χ†χ; ``None`` where it need not be."""

    @abc.abstractmethod
    def no_pseudofermion(self, *leading: int) -> PseudofermionField:
        """Zeros of the shape of φ, of several chains behind ``leading`` axes: where a run starts, to be drawn anew."""


class GivenPseudofermion(Target):
    """The distribution of the links for one pseudofermion field, with the gauge action or without."""

    action: PseudofermionTarget
    pseudofermion: PseudofermionField
    with_gauge: bool = eqx.field(static=True, default=True)

    def log_weight(self, links: Links) -> LogWeight:
        configuration = Dynamical(links, self.pseudofermion)
        if self.with_gauge:
            return self.action.log_weight(configuration)
        return self.action.fermion_log_weight(configuration)
