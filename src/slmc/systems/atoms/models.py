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
from slmc.systems.atoms.guide import CalculatorGuide
from slmc.systems.atoms.pool import CalculatorPool
from slmc.systems.atoms.potential import MomentPotential
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
    settings = config.model
    if guide is not None:
        return CalculatorGuide(guide, beta, sphere)
    if settings.file is not None:
        model = load_model(directory / settings.file, build_like)
        try:
            return model.on_atoms(structure.cell, beta, sphere)
        except ValueError as error:
            raise UserError(f"model.file = {settings.file}: {error}") from None
    key = jax.random.fold_in(jax.random.key(config.seed), _MODEL_KEY)
    sizes = settings.reach, settings.n_radial, settings.n_channels, settings.n_hidden
    return MomentPotential(structure.cell, beta, *sizes, sphere, key=key)


def standardised(model: MomentPotential, labels: Label) -> MomentPotential:
    return model.standardised(labels)


ERRORS = {
    "energy_error": ErrorOfModel("meV/atom", "error of the energy an atom, a constant left out", "error of the energy"),
    "force_error": ErrorOfModel("eV/Å", "root mean square error of a component of the forces", "error of the forces"),
}
"""Figures of the model in every round, on samples of chains that take no part in training."""


def errors_of(model: Target, labels: Label, beta: float) -> dict[str, float]:
    log_weights, forces = over_chains(_log_weight_and_force, labels.configuration, model, group_size=32)
    n_atoms = labels.configuration.shape[1]
    energy = np.std(labels.log_weight - np.asarray(log_weights)) / beta / n_atoms
    force = np.sqrt(np.mean((labels.force - np.asarray(forces)) ** 2)) / beta
    return {"energy_error": 1000 * float(energy), "force_error": float(force)}


def _log_weight_and_force(target: Target, positions: Array) -> tuple[Array, Array]:
    return log_weight_and_force(target, positions)


def as_calculator(model: MomentPotential) -> Any:
    from slmc.systems.atoms.calculator import LearnedCalculator

    return LearnedCalculator(model)


def describe(model: MomentPotential | CalculatorGuide) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    if isinstance(model, CalculatorGuide):
        return {"name": "calculator"}
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


def build_like(description: dict[str, Any]) -> MomentPotential:
    """A model of the structure that ``describe`` tells, with numbers to be replaced.

    Raises ``UserError`` where a calculator was the guide: a file must not say which program to start.
    """
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
