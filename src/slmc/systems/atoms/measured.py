"""What runs of atoms measure: observables with words and symbols, and what is derived from them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.system import Derived, Observable
from slmc.systems.atoms.calculated import Coordinates
from slmc.systems.atoms.cell import Cell
from slmc.systems.atoms.structure import Structure

N_BINS = 100

POSITIONS = Observable(
    "positions",
    lambda positions: positions,
    units="Å",
    description="positions of all atoms; periodic ones are not wrapped",
    words="positions",
    shown=False,
    axes=("atom", "component"),
)
"""Recorded for the trajectory."""

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
    positions: Coordinates, cell: Cell, kinds: tuple[int, int], reach: float, n_bins: int = N_BINS
) -> Float[Array, " distance"]:
    """How often atoms of two elements are how far apart, in ``n_bins`` bins up to ``reach``.

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
        images = jnp.asarray(cell.images(reach))
        fractional = (fractional - jnp.round(fractional))[:, None] + images[None]
        difference = (fractional @ jnp.asarray(cell.vectors)).reshape(-1, 3)
    r = jnp.sqrt(jnp.sum(difference**2, axis=-1))
    width = reach / n_bins
    bins = jnp.where(r < reach, jnp.floor(r / width), n_bins).astype(jnp.int64)
    counts = jnp.zeros(n_bins + 1).at[bins].add(1.0)[:n_bins]
    if not cell.is_periodic:
        return counts / width
    edges = width * np.arange(n_bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3) / abs(np.linalg.det(cell.vectors))
    return counts / jnp.asarray(len(pairs) * shells)


def pair_observables(structure: Structure, reach: float) -> tuple[Observable, ...]:
    """``pair_distances`` of all pairs of elements of which there are two atoms."""
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
                    partial(pair_distances, cell=cell, kinds=(first, second), reach=reach),
                    units="1" if cell.is_periodic else "1/Å",
                    description=f"{what} of {name}, in {N_BINS} bins of {reach / N_BINS:g} Å from 0",
                    words=f"{name} distances",
                    axes=(f"distance_{name}",),
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
            known[name] = Observable(name, measured, units=units, description=words, words=name, traced=True)
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
        units="k_B/atom",
        description="by fluctuations of the energy, classical, at constant volume",
        words="heat capacity",
        mathtext="$c_V/k_B$",
        html="<i>c<sub>V</sub></i>/<i>k</i><sub>B</sub>",
    )
