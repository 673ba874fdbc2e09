"""What runs of atoms measure: observables with words and symbols, and what is derived from them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.montecarlo.tempering import WALKERS
from slmc.system import Derived, Observable
from slmc.systems.atoms.calculated import Coordinates
from slmc.systems.atoms.cell import SMALLEST_SCALE, Cell
from slmc.systems.atoms.structure import Structure

BOLTZMANN = 8.617330337217213e-05
"""In eV/K, with the digits that ASE has."""

N_BINS = 100

_BONDED = 1.25
"""Of the sum of covalent radii: atoms that are nearer are drawn bonded."""

ENERGY = Observable(
    "energy",
    units="eV",
    description="potential energy, that of the sphere included",
    words="potential energy",
    mathtext="$U$",
    html="<i>U</i>",
    traced=True,
)
"""It comes with the exact weight."""


def _as_they_are(positions: Coordinates) -> Coordinates:
    return positions


def _of_replica(positions: Float[Array, "replica atom 3"], rung: int) -> Coordinates:
    return positions[rung]


WALKERS_AT = Observable(
    WALKERS, description="which walker is at each temperature", words="walkers", shown=False, axes=("rung",),
    drawn="walkers",
)  # fmt: skip
"""Recorded to see who went where."""


def positions_of(structure: Structure, rung: int | None = None) -> Observable:
    """The positions of all atoms, recorded for the trajectory and for pictures; of several replicas those of one."""
    from ase.data.colors import jmol_colors

    cell = structure.cell
    shades = np.rint(255 * jmol_colors[list(cell.numbers)]).astype(int)
    drawing = {
        "labels": list(structure.symbols),
        "sizes": list(cell.radii),
        "colours": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in shades],
        "bonds": _BONDED,
        "cell": cell.vectors.tolist() if cell.is_periodic else [],
    }
    return Observable(
        "positions",
        _as_they_are if rung is None else partial(_of_replica, rung=rung),
        units="Å",
        description="positions of all atoms; periodic ones are not wrapped",
        words="positions",
        shown=False,
        axes=("atom", "component"),
        drawn="points",
        drawing=drawing,
    )


def radius_of_gyration(positions: Coordinates, masses: Float[Array, " atom"]) -> Array:
    """√(Σ m |x − x_c|²/Σ m), x_c the centre of mass, in Å."""
    share = (masses / jnp.sum(masses))[:, None]
    centred = positions - jnp.sum(share * positions, axis=0, keepdims=True)
    return jnp.sqrt(jnp.sum(share * centred**2))


def displacement(positions: Coordinates, places: Coordinates) -> Array:
    """(1/N) Σ |x_i − s_i|², s the starting structure, their mean taken out, in Å²."""
    moved = positions - places
    moved = moved - jnp.mean(moved, axis=0, keepdims=True)
    return jnp.mean(jnp.sum(moved**2, axis=-1))


def nearest_difference(cell: Cell, difference: Float[Array, " 3"]) -> Float[Array, " 3"]:
    """The shortest of a difference and its periodic images."""
    if not cell.is_periodic:
        return difference
    rows = jnp.asarray(cell.vectors)
    fractional = difference @ jnp.asarray(np.linalg.inv(cell.vectors))
    near = np.array([[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)], float)
    shifts = ((fractional - jnp.round(fractional))[None] + jnp.asarray(near)) @ rows
    return shifts[jnp.argmin(jnp.sum(shifts**2, axis=-1))]


def distance(positions: Coordinates, cell: Cell, atoms: tuple[int, int]) -> Array:
    """Between two atoms, in Å."""
    first, second = atoms
    return jnp.sqrt(jnp.sum(nearest_difference(cell, positions[second] - positions[first]) ** 2))


def angle(positions: Coordinates, cell: Cell, atoms: tuple[int, int, int]) -> Array:
    """At the second of three atoms, in degrees."""
    first, middle, second = atoms
    a, b = (nearest_difference(cell, positions[end] - positions[middle]) for end in (first, second))
    cosine = jnp.sum(a * b) / jnp.sqrt(jnp.sum(a**2) * jnp.sum(b**2))
    return jnp.degrees(jnp.arccos(jnp.clip(cosine, -1.0, 1.0)))


def pair_distances(
    positions: Coordinates,
    cell: Cell,
    kinds: tuple[int, int],
    reach: float,
    n_bins: int = N_BINS,
    scale: Float[Array, ""] | None = None,
) -> Float[Array, " distance"]:
    """How often atoms of two elements are how far apart, in ``n_bins`` bins up to ``reach``.

    With a ``scale`` positions and cell are as many times as large.

    Of periodic atoms g(r), pairs over those of an ideal gas of the same density; of a cluster the number of pairs in an
    Å. Pairs are counted once, an atom and its own images not at all.
    """
    numbers = np.array(cell.numbers)
    members = [np.flatnonzero(numbers == kind) for kind in kinds]
    pairs = [(i, j) for i in members[0] for j in members[1] if kinds[0] != kinds[1] or i < j]
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    difference = positions[second] - positions[first]
    if cell.is_periodic:
        fractional = difference @ jnp.asarray(np.linalg.inv(cell.vectors))
        images = jnp.asarray(cell.images(reach if scale is None else reach / SMALLEST_SCALE))
        fractional = (fractional - jnp.round(fractional))[:, None] + images[None]
        difference = (fractional @ jnp.asarray(cell.vectors)).reshape(-1, 3)
    r = jnp.sqrt(jnp.sum(difference**2, axis=-1))
    r = r if scale is None else scale * r
    width = reach / n_bins
    bins = jnp.where(r < reach, jnp.floor(r / width), n_bins).astype(jnp.int64)
    counts = jnp.zeros(n_bins + 1).at[bins].add(1.0)[:n_bins]
    if not cell.is_periodic:
        return counts / width
    edges = width * np.arange(n_bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3) / abs(np.linalg.det(cell.vectors))
    density = counts / jnp.asarray(len(pairs) * shells)
    return density if scale is None else scale**3 * density


def _as_it_is(function: Callable[..., Array]) -> Callable[..., Array]:
    return function


def pair_observables(
    structure: Structure, reach: float, of_configuration: Callable[[Any], Any] = _as_it_is
) -> tuple[Observable, ...]:
    """``pair_distances`` of all pairs of elements of which there are two atoms.

    ``of_configuration`` makes a function of configurations of one of positions.
    """
    cell, symbols = structure.cell, dict(zip(structure.cell.numbers, structure.symbols, strict=True))
    kinds, made = sorted(symbols), []
    for place, first in enumerate(kinds):
        for second in kinds[place:]:
            if first == second and cell.numbers.count(first) < 2:
                continue
            name = f"{symbols[first]}-{symbols[second]}"
            what = "g(r)" if cell.is_periodic else "number of pairs in an Å"
            made.append(
                Observable(
                    f"pairs_{name}",
                    of_configuration(partial(pair_distances, cell=cell, kinds=(first, second), reach=reach)),
                    units="1" if cell.is_periodic else "1/Å",
                    description=f"{what} of {name}, in {N_BINS} bins of {reach / N_BINS:g} Å from 0",
                    words=f"{name} distances",
                    axes=(f"distance_{name}",),
                    drawn="curve",
                    drawing={
                        "start": 0.0,
                        "width": reach / N_BINS,
                        "label": "distance $r$ [Å]",
                        "value": "$g(r)$" if cell.is_periodic else "pairs",
                    },
                )
            )
    return tuple(made)


def scalars(structure: Structure, geometry: Any) -> dict[str, Observable]:
    """All scalar observables of a structure by name."""
    cell = structure.cell
    known = {"energy": ENERGY}
    if cell.is_periodic:
        known["displacement"] = Observable(
            "displacement",
            partial(displacement, places=jnp.asarray(structure.positions)),
            units="Å²",
            description="mean squared displacement from the starting structure",
            words="mean squared displacement",
            mathtext="$u^2$",
            html="<i>u</i><sup>2</sup>",
            traced=True,
        )
    else:
        known["radius_of_gyration"] = Observable(
            "radius_of_gyration",
            partial(radius_of_gyration, masses=jnp.asarray(structure.masses)),
            units="Å",
            description="of the masses about their centre",
            words="radius of gyration",
            mathtext="$R_g$",
            html="<i>R</i><sub>g</sub>",
            traced=True,
        )
    for names, function, units in ((geometry.distances, distance, "Å"), (geometry.angles, angle, "°")):
        for name, atoms in names.items():
            words = f"{function.__name__} of atoms {', '.join(map(str, atoms))}"
            measured = partial(function, cell=cell, atoms=tuple(atoms))
            known[name] = Observable(
                name, measured, units=units, description=words, words=f"{function.__name__} {name}", traced=True
            )
    return known


def heat_capacity(series: Mapping[str, np.ndarray], beta: float, n_atoms: int, n_momenta: int) -> float:
    """c/k = [n_momenta/2 + β² (⟨U²⟩ − ⟨U⟩²)]/N, the kinetic energy integrated out."""
    return float((n_momenta / 2 + beta**2 * np.var(series["energy"])) / n_atoms)


def derived_from_energy(cell: Cell, beta: float) -> Derived:
    """The heat capacity; of periodic atoms that of the motion about a centre of mass at rest."""
    n_momenta = 3 * cell.n_atoms - (3 if cell.is_periodic else 0)
    return Derived(
        "heat_capacity",
        partial(heat_capacity, beta=beta, n_atoms=cell.n_atoms, n_momenta=n_momenta),
        ("energy",),
        units="1/atom",
        description="by fluctuations of the energy, classical, at constant volume",
        words="heat capacity",
        mathtext="$c_V/k_B$",
        html="<i>c<sub>V</sub></i>/<i>k</i><sub>B</sub>",
    )


def _at_rung(positions: Float[Array, "replica atom 3"], function: Any, rung: int) -> Array:
    measured: Array = function(positions[rung])
    return measured


def _energy_at(values: Mapping[str, Array], rung: int) -> Array:
    return values["energy"][rung]


def observables_at(known: tuple[Observable, ...], temperatures: tuple[float, ...]) -> tuple[Observable, ...]:
    """All observables at each temperature; those of the coldest are drawn."""
    coldest = len(temperatures) - 1
    slowest = next((about.name for about in known if about.of_configuration is not None), None)
    made = []
    for rung, temperature in enumerate(temperatures):
        for about in known:
            function = about.of_configuration
            made.append(
                about._replace(
                    name=f"{about.name}_{rung + 1}",
                    of_configuration=None if function is None else partial(_at_rung, function=function, rung=rung),
                    of_weight=partial(_energy_at, rung=rung) if function is None else None,
                    slow=rung == coldest and about.name == slowest,
                    traced=rung == coldest,
                    **_words_at(about, temperature),  # type: ignore[arg-type]
                )
            )
    return tuple(made)


def derived_at(cell: Cell, betas: tuple[float, ...]) -> tuple[Derived, ...]:
    """The heat capacity at each temperature."""
    made = []
    for rung, beta in enumerate(betas):
        about = derived_from_energy(cell, beta)
        energy = f"energy_{rung + 1}"
        made.append(
            about._replace(
                name=f"heat_capacity_{rung + 1}",
                function=partial(_renamed, function=about.function, energy=energy),
                needs=(energy,),
                **_words_at(about, 1 / (BOLTZMANN * beta)),
            )
        )
    return tuple(made)


def _renamed(series: Mapping[str, np.ndarray], function: Any, energy: str) -> float:
    return float(function({"energy": series[energy]}))


def _words_at(about: Observable | Derived, temperature: float) -> dict[str, str]:
    """Symbol and words with the temperature."""
    at = f"{temperature:.5g} K"
    return {
        "description": f"{about.description}, at {at}",
        "words": f"{about.words}, {at}",
        "mathtext": f"{about.mathtext} ({at})" if about.mathtext else "",
        "html": f"{about.html} ({at})" if about.html else "",
    }
