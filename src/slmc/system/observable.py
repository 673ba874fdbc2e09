"""What is measured: observables as data, and what is derived from their series."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array

from slmc.montecarlo import State
from slmc.system.errors import UserError, brief

ATTRIBUTES = ("units", "description", "words", "mathtext", "html", "slow", "traced", "shown", "drawn")
"""What the records keep of an observable: the report and ``slmc info`` know nothing else of it."""

RESERVED = ("accepted", "log_ratio", "chain", "draw", "block", "zarr.json")
"""Names that every run uses for its decisions, its axes and its files."""

_LONGEST_NAME = 100


class Observable(NamedTuple):
    """A number, or an array, measured after every step of every chain.

    ``of_configuration(configuration)`` computes it. Otherwise it comes with the exact weight: it is what the target
    returns under ``name``, or ``of_weight(observables)`` of all that the target returns.

    ``description`` is a sentence, ``words`` a name of two or three words, ``mathtext`` and ``html`` its symbol in
    figures (between dollar signs) and in the page (the tags i, b, sub and sup). ``slow`` ones are those whose effective
    samples are quoted: the first of them that is measured, else log W. ``traced`` ones have their series drawn; where
    none is, all may be. What is not ``shown`` is recorded for what is derived from it alone. ``axes`` names the axes of
    an array. ``drawn`` gives it a figure of its own: ``"wave vectors"``, a structure factor over all wave vectors of a
    torus; ``"walkers"``, who is where in replica exchange; ``"imaginary time"``, a function from 0 to β on the last
    axis; ``"curve"``, numbers in equal bins, all such in a figure together; ``"points"``, places in space. What the
    last two need beside the numbers is in ``drawing``: of a curve ``start`` and ``width`` of the bins and a ``label``
    of their axis, of points ``labels``, ``sizes`` and ``colours``, as many as there are points, ``bonds`` (how near two
    bonded points are, as a share of the sum of their sizes) and the rows of the ``cell`` if there is one.
    """

    name: str
    of_configuration: Callable[[Any], Array] | None = None
    of_weight: Callable[[Mapping[str, Array]], Array] | None = None
    units: str = "1"
    description: str = ""
    words: str = ""
    mathtext: str = ""
    html: str = ""
    slow: bool = False
    traced: bool = False
    shown: bool = True
    axes: tuple[str, ...] = ()
    drawn: Literal["", "wave vectors", "walkers", "imaginary time", "curve", "points"] = ""
    drawing: Mapping[str, Any] | None = None

    def measured(self, state: State) -> Array:
        """Its value in a state of one chain."""
        if self.of_configuration is not None:
            return self.of_configuration(state.configuration)
        return state.observables[self.name] if self.of_weight is None else self.of_weight(state.observables)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the records keep of it."""
        drawing = {} if self.drawing is None else {"drawing": dict(self.drawing)}
        return {name: getattr(self, name) for name in ATTRIBUTES} | drawing


LOG_WEIGHT = Observable(
    "log_weight",
    description="exact log-weight",
    words="exact log-weight",
    mathtext=r"$\log W$",
    html="log <i>W</i>",
)
"""The exact log-weight, which every run records."""


class Derived(NamedTuple):
    """A quantity that is no mean: ``function`` of the series of the observables that it ``needs``, by jackknife."""

    name: str
    function: Callable[[Mapping[str, np.ndarray]], float]
    needs: tuple[str, ...]
    units: str = "1"
    description: str = ""
    words: str = ""
    mathtext: str = ""
    html: str = ""

    @property
    def attributes(self) -> dict[str, Any]:
        """What the records keep of it."""
        return {name: getattr(self, name) for name in ("units", "description", "words", "mathtext", "html")}


def chosen_names(wanted: tuple[str, ...] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The observables to measure, all of them by default. Raises ``ValueError`` for none and for unknown ones."""
    names = known if wanted is None else wanted
    if not names:
        raise ValueError(f"measurement.observables must list at least one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ValueError(f"measurement.observables: {brief(name)} is unknown; known are {', '.join(known)}")
    return tuple(names)


def check_names(observables: tuple[Observable | Derived, ...]) -> None:
    """Raises ``UserError`` for names that cannot be told apart or that no record can have."""
    names = [observable.name for observable in observables]
    for name in names:
        too_long = not 0 < len(name.encode()) <= _LONGEST_NAME
        if too_long or not name.isprintable() or set(name) & set("/\\") or name.startswith((".", "__")):
            raise UserError(
                f"an observable cannot be named {name[:_LONGEST_NAME]!r}; a name has 1 to {_LONGEST_NAME} printable "
                "characters, no slash, and does not begin with a dot or two underscores."
            )
        if name in RESERVED:
            raise UserError(f"an observable cannot be named {name!r}, which every run uses itself; choose another.")
        if names.count(name) > 1:
            raise UserError(f"there is more than one observable named {name!r}; give each a name of its own.")
