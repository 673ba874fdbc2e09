"""Where atoms are at first: any file that ASE reads, or a list in the configuration itself."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from slmc.system import UserError, shortened
from slmc.systems.atoms.cell import LEAST_DISTANCE, Cell


class Structure(NamedTuple):
    """Positions in Å, masses in atomic mass units, elements, cell. A cluster has its centre of mass at the origin."""

    positions: Float[np.ndarray, "atom 3"]
    masses: Float[np.ndarray, " atom"]
    symbols: tuple[str, ...]
    cell: Cell


def structure_of(atoms: Any, least_distance: float = LEAST_DISTANCE) -> Structure:
    """The structure that an ``ase.Atoms`` describes. Raises ``ValueError`` for none, and for slabs and wires."""
    from ase.data import covalent_radii

    if not len(atoms):
        raise ValueError("there are no atoms in it")
    if any(atoms.pbc) and not all(atoms.pbc):
        raise ValueError("it is periodic in some directions and not in others; make it so in all, with a vacuum")
    periodic, positions = bool(all(atoms.pbc)), np.array(atoms.positions, float)
    if periodic and abs(np.linalg.det(np.array(atoms.cell))) < 1e-6:
        raise ValueError("it is periodic and its cell has no volume")
    if not periodic:
        positions -= atoms.get_center_of_mass()
    cell = Cell(
        tuple(atoms.numbers.tolist()),
        np.array(atoms.cell) if periodic else None,
        tuple(float(covalent_radii[number]) for number in atoms.numbers),
        least_distance,
    )
    if not cell.are_apart(positions[None])[0]:
        raise ValueError(
            f"two atoms are nearer than {least_distance:g} times the sum of their covalent radii "
            "(target.least_distance), where the weight is zero"
        )
    return Structure(positions, np.array(atoms.get_masses(), float), tuple(atoms.get_chemical_symbols()), cell)


def read_atoms(path: Path, field: str) -> Any:
    """The last structure in a file, as ``ase.Atoms``. Raises ``UserError`` naming the field of the configuration."""
    return _read(path, field, -1, "a structure")


def read_frames(path: Path, field: str) -> list[Any]:
    """All structures in a file, as ``ase.Atoms``. Raises ``UserError`` naming the field of the configuration."""
    frames: list[Any] = _read(path, field, ":", "structures")
    return frames


def _read(path: Path, field: str, index: int | str, what: str) -> Any:
    from ase.io import read

    if not path.is_file():
        raise UserError(f"{field} = {shortened(str(path))} is no file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn of conventions that they had to guess
            return read(path, index)
    except Exception as error:
        words = shortened(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{field} = {shortened(str(path))} cannot be read as {what} ({words}).") from None


def write_frames(
    path: Path,
    structure: Structure,
    frames: Float[np.ndarray, "frame atom 3"],
    energies: Float[np.ndarray, " frame"] | None,
    forces: Float[np.ndarray, "frame atom 3"] | None = None,
    scales: Float[np.ndarray, " frame"] | None = None,
    others: Mapping[str, np.ndarray] = {},
) -> None:
    """Writes frames as extended XYZ, in one piece: with energies in eV and forces in eV/Å, if given.

    ``scales`` are the factors by which the edges of the cell are longer, ``others`` more numbers of each frame by name.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    cell = structure.cell
    about: dict[str, Any] = {"numbers": cell.numbers, "masses": structure.masses}
    if cell.is_periodic:
        about |= {"cell": cell.vectors, "pbc": True}
    images = []
    for number, positions in enumerate(frames):
        atoms = Atoms(positions=positions, **about)
        if scales is not None:
            atoms.set_cell(float(scales[number]) * cell.vectors)
        atoms.info |= {name: float(values[number]) for name, values in others.items()}
        known: dict[str, Any] = {} if energies is None else {"energy": float(energies[number])}
        if forces is not None:
            known["forces"] = forces[number]
        atoms.calc = SinglePointCalculator(atoms, **known)
        images.append(atoms)
    unfinished = path.with_suffix(".part")
    write(unfinished, images, format="extxyz")
    unfinished.replace(path)
