"""Labels and trajectories as files that other programs write and read."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slmc.montecarlo.update import Label
from slmc.system import UserError, shortened
from slmc.systems.atoms.calculated import SoftSphere
from slmc.systems.atoms.path_integral import PathIntegral, positions_of_beads
from slmc.systems.atoms.pressure import GIGAPASCAL, LOG_VOLUME, SCALED, ConstantPressure
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


def write_labels_at_pressure(
    path: Path, labels: Label, structure: Structure, beta: float, target: ConstantPressure
) -> None:
    """Energies and forces of the calculator in their cells, and V dU/dV in eV beside them."""
    log_volumes = np.asarray(labels.configuration[LOG_VOLUME])
    scales, n_powers = np.exp(log_volumes / 3), target.n_atoms + (0 if target.holds_centre else 1)
    work = target.pressure * GIGAPASCAL * target.volume * np.exp(log_volumes)
    energies = (n_powers * log_volumes - np.asarray(labels.log_weight)) / beta - work
    slopes = (n_powers - np.asarray(labels.force[LOG_VOLUME])) / beta - work
    positions = scales[:, None, None] * np.asarray(labels.configuration[SCALED])
    forces = np.asarray(labels.force[SCALED]) / beta / scales[:, None, None]
    write_frames(path, structure, positions, energies, forces, scales, {"V_dU_dV": slopes})


def write_labels_of_beads(
    path: Path, labels: Label, structure: Structure, beta: float, target: PathIntegral, sphere: SoftSphere | None
) -> None:
    """Forces of the calculator on every bead; of energies only the mean over the beads of a ring is known."""
    modes = jnp.asarray(labels.configuration)
    free, slopes = jax.vmap(jax.value_and_grad(target.free_log_weight))(modes)
    positions = np.asarray(jax.vmap(positions_of_beads)(modes)).reshape(-1, *modes.shape[2:])
    pulled = target.n_beads / beta * (jnp.asarray(labels.force) - slopes)
    forces = np.asarray(jax.vmap(positions_of_beads)(pulled)).reshape(positions.shape)
    means = -(np.asarray(labels.log_weight) - np.asarray(free)) / beta
    if sphere is not None:
        values, gradients = jax.vmap(jax.value_and_grad(sphere.energy))(jnp.asarray(positions))
        forces = forces + np.asarray(gradients)
        means = means - np.asarray(values).reshape(len(means), -1).mean(1)
    rings = np.repeat(np.arange(len(means)), target.n_beads)
    write_frames(path, structure, positions, None, forces, others={"ring": rings, "mean_energy": means[rings]})


def write_trajectory(path: Path, series: Any, structure: Structure, energy: str = "energy") -> None:
    """All chains one after the other; of several temperatures the lowest, of rings the centroids."""
    positions, energies = (np.asarray(series[name]) for name in ("positions", energy))
    frames = positions.reshape(-1, *positions.shape[2:])
    write_frames(path, structure, frames, energies.reshape(-1))


def write_trajectory_at_pressure(path: Path, series: Any, structure: Structure) -> None:
    """All chains one after the other, each frame with its cell."""
    scales = np.cbrt(np.asarray(series["volume"]).reshape(-1) / structure.cell.volume)
    positions = np.asarray(series["positions"])
    frames = scales[:, None, None] * positions.reshape(-1, *positions.shape[2:])
    write_frames(path, structure, frames, np.asarray(series["energy"]).reshape(-1), scales=scales)
