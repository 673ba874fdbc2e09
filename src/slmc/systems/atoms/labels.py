"""Labels and trajectories as files that other programs write and read."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slmc.montecarlo.update import Label
from slmc.system import UserError, shortened
from slmc.systems.atoms.calculated import SoftSphere
from slmc.systems.atoms.settings import AtomsRun
from slmc.systems.atoms.structure import Structure, read_frames, write_frames


def given_labels(
    config: AtomsRun, structure: Structure, beta: float, sphere: SoftSphere | None, directory: Path
) -> Label | None:
    """Energies and forces from a file, as labels: a cluster about the origin, where the sphere is."""
    file = config.learning.labels
    if file is None or not config.learns:
        return None
    field = "learning.labels"
    frames, cell = read_frames(directory / file, field), structure.cell
    positions, energies, forces = [], [], []
    for number, atoms in enumerate(frames):
        where = f"{field} = {shortened(file)}: frame {number}"
        if tuple(atoms.numbers.tolist()) != cell.numbers:
            raise UserError(f"{where} has other atoms, or in another order, than the run.")
        if bool(all(atoms.pbc)) != cell.is_periodic or (
            cell.is_periodic and not np.allclose(np.array(atoms.cell), cell.vectors, atol=1e-6)
        ):
            raise UserError(f"{where} has another cell than the run.")
        known = {} if atoms.calc is None else atoms.calc.results
        if not {"energy", "forces"} <= set(known):
            raise UserError(f"{where} has no energy and forces.")
        centre = np.zeros(3) if cell.is_periodic else atoms.get_center_of_mass()
        positions.append(atoms.positions - centre)
        energies.append(known.get("free_energy", known["energy"]))
        forces.append(known["forces"])
    places, values, slopes = (np.array(given, float) for given in (positions, energies, forces))
    if sphere is not None:
        of_sphere, gradient = jax.vmap(jax.value_and_grad(sphere.energy))(jnp.asarray(places))
        values, slopes = values + np.asarray(of_sphere), slopes - np.asarray(gradient)
    return Label(places, -beta * values, beta * slopes)


def write_labels(path: Path, labels: Label, structure: Structure, beta: float, sphere: SoftSphere | None) -> None:
    """Energies and forces of the calculator, that is without those of the sphere."""
    positions = np.asarray(labels.configuration)
    energies, forces = -np.asarray(labels.log_weight) / beta, np.asarray(labels.force) / beta
    if sphere is not None:
        values, slopes = jax.vmap(jax.value_and_grad(sphere.energy))(jnp.asarray(positions))
        energies, forces = energies - np.asarray(values), forces + np.asarray(slopes)
    write_frames(path, structure, positions, energies, forces)


def write_trajectory(path: Path, series: Any, structure: Structure, energy: str = "energy") -> None:
    """All chains one after the other; of several temperatures the lowest."""
    positions, energies = (np.asarray(series[name]) for name in ("positions", energy))
    write_frames(path, structure, positions.reshape(-1, *positions.shape[2:]), energies.reshape(-1))
