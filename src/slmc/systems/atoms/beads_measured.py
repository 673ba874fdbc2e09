"""What is measured of quantum nuclei, whose configurations are normal modes of rings of beads."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from slmc.system import Observable
from slmc.systems.atoms.calculated import Coordinates
from slmc.systems.atoms.measured import pair_observables, positions_of
from slmc.systems.atoms.path_integral import Modes, positions_of_beads
from slmc.systems.atoms.settings import ring_names
from slmc.systems.atoms.structure import Structure

_MOST_DRAWN = 1000
"""Beads of all atoms, above which their places are not recorded: a picture would show a cloud."""

_BEAD_SIZE = 0.25
"""Of the atom's radius."""

_WITH_THE_WEIGHT = (
    ("energy", "energy with quantum nuclei, potential and kinetic", "total energy", "E"),
    ("potential", "potential energy, the mean over beads; that of the sphere included", "potential energy", "U"),
    ("kinetic", "kinetic energy of quantum nuclei, by the centroid virial estimator", "kinetic energy", "K"),
)


def over_beads(modes: Modes, function: Callable[[Coordinates], Array]) -> Array:
    """The mean over beads of a function of the positions of classical atoms."""
    return jnp.mean(jax.vmap(function)(positions_of_beads(modes)), axis=0)


def ring_radius(modes: Modes, atoms: tuple[int, ...]) -> Array:
    """√((1/NP) Σ_j |x_j − x_c|²) over the rings of N atoms: how far nuclei are spread, in Å."""
    return jnp.sqrt(jnp.sum(modes[1:, np.array(atoms)] ** 2) / (len(modes) * len(atoms)))


def centroids(modes: Modes) -> Coordinates:
    """x_c = y_0/√P."""
    return modes[0] / jnp.sqrt(jnp.asarray(len(modes), modes.dtype))


def _places_of_beads(modes: Modes) -> Array:
    return positions_of_beads(modes).reshape(-1, 3)


def scalars_of_beads(structure: Structure, classical: Mapping[str, Observable]) -> dict[str, Observable]:
    """All scalars by name, from those of classical atoms, of which each is a mean over beads."""
    known = {}
    for name, description, words, letter in _WITH_THE_WEIGHT:
        known[name] = Observable(
            name,
            units="eV",
            description=description,
            words=words,
            mathtext=f"${letter}$",
            html=f"<i>{letter}</i>",
            traced=name != "energy",
        )
    for symbol, name in zip(dict.fromkeys(structure.symbols), ring_names(structure.symbols), strict=True):
        atoms = tuple(place for place, other in enumerate(structure.symbols) if other == symbol)
        known[name] = Observable(
            name,
            partial(ring_radius, atoms=atoms),
            units="Å",
            description=f"radius of gyration of the rings of {symbol}: how far its nuclei are spread",
            words=f"spread of {symbol}",
            mathtext=f"$r_{{\\mathrm{{{symbol}}}}}$",
            html=f"<i>r</i><sub>{symbol}</sub>",
        )
    for name, about in classical.items():
        if about.of_configuration is not None:
            known[name] = about._replace(
                of_configuration=partial(over_beads, function=about.of_configuration),
                description=f"{about.description}, the mean over beads",
            )
    return known


def recorded_of_beads(
    structure: Structure, n_beads: int, shown: Mapping[str, Observable], reach: float | None
) -> tuple[tuple[Observable, ...], tuple[Observable, ...]]:
    """Scalars, centroids and, unless they are too many, all beads; distances of pairs as fields up to a reach."""
    positions = positions_of(structure)._replace(
        of_configuration=centroids, description="positions of all centroids; periodic ones are not wrapped"
    )
    recorded: tuple[Observable, ...] = (positions,)
    if n_beads * len(structure.symbols) <= _MOST_DRAWN:
        recorded = (positions._replace(drawn="", drawing=None), _drawn(positions, n_beads))
    fields = () if reach is None else pair_observables(structure, reach, lambda of: partial(over_beads, function=of))
    return (*shown.values(), *recorded), fields


def _drawn(positions: Observable, n_beads: int) -> Observable:
    drawing: Any = dict(positions.drawing or {})
    several = {name: list(drawing[name]) * n_beads for name in ("labels", "colours")}
    sizes = [_BEAD_SIZE * size for size in drawing["sizes"]] * n_beads
    return Observable(
        "beads",
        _places_of_beads,
        units="Å",
        description="positions of all beads, those of all atoms in turn; periodic ones are not wrapped",
        words="beads",
        shown=False,
        axes=("bead", "component"),
        drawn="points",
        drawing={**drawing, **several, "sizes": sizes, "bonds": 0.0},
    )
