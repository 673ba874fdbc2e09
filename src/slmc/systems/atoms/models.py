"""The model of a run of atoms: a learned potential or a calculator, how far it is off, how it is stored."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from slmc.montecarlo import Target, log_weight_and_force, over_chains
from slmc.montecarlo.update import Label
from slmc.system import ErrorOfModel, UserError, load_model
from slmc.systems.atoms.calculated import SoftSphere
from slmc.systems.atoms.cell import Cell
from slmc.systems.atoms.ensembles import breathing_model, classical_copies, potential_of, with_potential
from slmc.systems.atoms.guide import CalculatorGuide
from slmc.systems.atoms.path_integral import PathIntegral
from slmc.systems.atoms.pool import CalculatorPool
from slmc.systems.atoms.potential import MomentPotential
from slmc.systems.atoms.pressure import SCALED, ConstantPressure
from slmc.systems.atoms.settings import AtomsRun
from slmc.systems.atoms.structure import Structure

_MODEL_KEY = 7


def start_model(
    config: AtomsRun,
    structure: Structure,
    beta: float,
    sphere: SoftSphere | None,
    directory: Path,
    guide: CalculatorPool | None,
) -> MomentPotential | CalculatorGuide:
    """The potential for classical atoms with which learning starts."""
    settings = config.model
    if guide is not None:
        return CalculatorGuide(guide, beta, sphere)
    if settings.file is not None:
        model = potential_of(load_model(directory / settings.file, build_like))
        try:
            return model.on_atoms(structure.cell, beta, sphere)
        except ValueError as error:
            raise UserError(f"model.file = {settings.file}: {error}") from None
    key = jax.random.fold_in(jax.random.key(config.seed), _MODEL_KEY)
    sizes = settings.reach, settings.n_radial, settings.n_channels, settings.n_hidden
    return MomentPotential(structure.cell, beta, *sizes, sphere, key=key)


def standardised(model: Target, labels: Label) -> Target:
    """The model, its potential standardised by the atoms of the labels."""
    ready: Target = with_potential(
        model, potential_of(model).standardised(*classical_copies(model, labels.configuration))
    )
    return ready


ERRORS = {
    "energy_error": ErrorOfModel("meV/atom", "error of the energy an atom, a constant left out", "error of the energy"),
    "force_error": ErrorOfModel("eV/Å", "root mean square error of a component of the forces", "error of the forces"),
}
"""Figures of the model in every round, on samples of chains that take no part in training."""


def errors_of(model: Target, labels: Label, beta: float) -> dict[str, float]:
    log_weights, forces = over_chains(_log_weight_and_force, labels.configuration, model, group_size=32)
    exact, predicted = (_forces_on_atoms(model, leaf) for leaf in (labels.force, forces))
    energy = np.std(labels.log_weight - np.asarray(log_weights)) / beta / exact.shape[-2]
    force = np.sqrt(np.mean((exact - predicted) ** 2)) / beta
    return {"energy_error": 1000 * float(energy), "force_error": float(force)}


def _forces_on_atoms(model: Target, forces: Any) -> np.ndarray:
    """Of ∂ log W/∂x the part of atoms; of rings, whose modes have a P-th of the forces on beads, P times as much."""
    if isinstance(model, PathIntegral):
        return model.n_beads * np.asarray(forces)
    return np.asarray(forces[SCALED] if isinstance(model, ConstantPressure) else forces)


def _log_weight_and_force(target: Target, configuration: Any) -> tuple[Array, Any]:
    return log_weight_and_force(target, configuration)


def as_calculator(model: Target) -> Any:
    from slmc.systems.atoms.calculator import LearnedCalculator

    return LearnedCalculator(potential_of(model))


def describe(model: Target) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    potential = potential_of(model)
    if isinstance(potential, CalculatorGuide):
        return {"name": "calculator"}
    about = _described(potential)
    if isinstance(model, PathIntegral):
        about |= {"n_beads": model.n_beads, "masses": " ".join(map(repr, model.masses))}
    if isinstance(model, ConstantPressure):
        about |= {"pressure": model.pressure}
    return about


def _described(model: MomentPotential) -> dict[str, Any]:
    cell, sphere = model.cell, model.sphere
    return {
        "name": "moments",
        "numbers": " ".join(map(str, cell.numbers)),
        "elements": " ".join(map(str, model.elements)),
        "radii": " ".join(map(repr, cell.radii)),
        "cell": " ".join(map(repr, cell.vectors.ravel().tolist())) if cell.is_periodic else "",
        "least_distance": cell.least_distance,
        "beta": model.beta,
        "reach": model.reach,
        "n_radial": model.radial.shape[2],
        "n_channels": model.radial.shape[3],
        "n_hidden": model.weights[0].shape[2],
        "sphere": "" if sphere is None else f"{sphere.radius!r} {sphere.stiffness!r}",
    }


def build_like(description: dict[str, Any]) -> Target:
    """A model of the structure that ``describe`` tells, with numbers to be replaced.

    Raises ``UserError`` where a calculator was the guide: a file must not say which program to start.
    """
    potential, beta = _potential_like(description), description["beta"]
    if "n_beads" in description:
        masses = [float(word) for word in description["masses"].split()]
        return PathIntegral(potential, masses, beta, description["n_beads"])
    if "pressure" in description:
        return breathing_model(potential, beta, description["pressure"])
    return potential


def _potential_like(description: dict[str, Any]) -> MomentPotential:
    if description["name"] == "calculator":
        raise UserError("a calculator was the guide (model.guide), which is no model that a file can hold.")
    rows = np.array([float(word) for word in description["cell"].split()]).reshape(-1, 3)
    cell = Cell(
        tuple(int(word) for word in description["numbers"].split()),
        rows if len(rows) else None,
        tuple(float(word) for word in description["radii"].split()),
        description["least_distance"],
    )
    sphere = [float(word) for word in description["sphere"].split()]
    sizes = {name: description[name] for name in ("reach", "n_radial", "n_channels", "n_hidden")}
    elements = tuple(int(word) for word in description["elements"].split())
    confined = SoftSphere(*sphere) if sphere else None
    return MomentPotential(
        cell, description["beta"], **sizes, sphere=confined, elements=elements, key=jax.random.key(0)
    )
