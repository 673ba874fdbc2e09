"""Atoms put together for a run: calculators, learned potential, updates and what is measured."""

import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import (
    INTEGRATORS,
    HamiltonianTrajectory,
    LocalSweep,
    MetropolisHastings,
    SinglePrecision,
    Target,
    Update,
)
from slmc.montecarlo.update import Label
from slmc.system import Fit, Problem, System, UserError, load_model
from slmc.systems.atoms.calculated import Confined, SoftSphere, calculated
from slmc.systems.atoms.cell import Cell
from slmc.systems.atoms.masses import Massive
from slmc.systems.atoms.measured import POSITIONS, derived_from_energy, pair_observables, scalars
from slmc.systems.atoms.pool import CalculatorPool, CalculatorSettings
from slmc.systems.atoms.potential import MomentPotential
from slmc.systems.atoms.settings import LENGTHS, AtomsRun, AtomsSettings, observable_names
from slmc.systems.atoms.structure import Structure, read_atoms, structure_of, write_frames
from slmc.systems.atoms.worker import calculator_names

BOLTZMANN = 8.617330337217213e-05
"""In eV/K, with the digits that ASE has."""

_HISTORY = 1e-3
"""Of kT: how far two energies of one configuration may be apart."""

_MODEL_KEY = 7
_SPREAD = 0.05
"""Å by which each atom is moved at random where chains start, so that they are not all the same."""

_PAIRS_REACH = 6.0
_STEP = 0.4
"""Femtoseconds, times the root of the least mass in u: an integrator step to begin tuning with."""


def atoms_problem(config: AtomsRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes; its files are relative to ``directory``.

    No calculator is started before the first evaluation. Raises ``UserError`` naming the field that is wrong.
    """
    if find_spec("ase") is None:
        raise UserError('system = "atoms" needs ASE; install slmc[atoms].')
    structure, settings = _structure(config.target, directory), config.target
    cell, beta = structure.cell, 1 / (BOLTZMANN * settings.temperature)
    pool = CalculatorPool(cell, _calculator(settings, beta))
    sphere = None if settings.sphere_radius is None else SoftSphere(settings.sphere_radius, settings.sphere_stiffness)
    target = Confined(calculated(pool, beta), beta, sphere)
    manifold = Massive(_masses(structure, settings), beta, holds_centre=cell.is_periodic)
    known = _scalars(structure, config)
    slowest = next((known[name] for name in known if known[name].of_configuration is not None), None)
    merit = scalars(structure, config.geometry)["displacement" if cell.is_periodic else "radius_of_gyration"]
    learned = config.learns
    return Problem(
        target=target,
        manifold=manifold,
        start=partial(_starting, structure=structure),
        exact=partial(_exact, manifold=manifold, config=config, step=_first_step(structure, settings)),
        observables=(*(about._replace(slow=about is slowest) for about in known.values()), POSITIONS),
        model=_model(config, structure, beta, sphere, directory) if learned else None,
        inner=_inner_updates(config, manifold, _first_step(structure, settings)),
        fit=Fit(
            solve=None if config.model.file is not None else _standardised,
            constant=lambda model: model.constant,
            observable=merit.of_configuration,
            describe=describe,
        ),
        fields=pair_observables(structure, _PAIRS_REACH) if config.geometry.pair_distances else (),
        derived=(derived_from_energy(cell, beta),) if "energy" in known else (),
        remarks=lambda: tuple(filter(None, (pool.remark, pool.doubt))),
        label_files={"training.extxyz": partial(_write_labels, structure=structure, beta=beta, sphere=sphere)},
        series_files={"trajectory.extxyz": partial(_write_trajectory, structure=structure)}
        if "energy" in known
        else {},
        offers={"calculator": _as_calculator},
    )


def _structure(settings: AtomsSettings, directory: Path) -> Structure:
    from ase import Atoms
    from ase.data import chemical_symbols

    if settings.structure is not None:
        field, atoms = (
            f"target.structure = {settings.structure}",
            read_atoms(directory / settings.structure, "target.structure"),
        )
    else:
        field = "target.symbols"
        unknown = next((symbol for symbol in settings.symbols or () if symbol not in chemical_symbols[1:]), None)
        if unknown is not None:
            raise UserError(f"target.symbols: there is no element {unknown!r:.20}.")
        atoms = Atoms(settings.symbols, positions=settings.positions, cell=settings.cell, pbc=settings.cell is not None)
    if settings.repeat != (1, 1, 1):
        if not all(atoms.pbc):
            raise UserError("target.repeat needs a periodic structure; this one is not, so leave it out.")
        atoms = atoms.repeat(settings.repeat)
    try:
        structure = structure_of(atoms, settings.least_distance)
    except ValueError as error:
        raise UserError(f"{field}: {error}.") from None
    is_periodic, has_sphere = structure.cell.is_periodic, settings.sphere_radius is not None
    if is_periodic and has_sphere:
        raise UserError("target.sphere_radius has no meaning for a periodic structure; leave it out.")
    if not is_periodic and not has_sphere:
        raise UserError(
            "target.sphere_radius is missing: a structure that is not periodic would evaporate; give a radius in Å, "
            f"for instance {2 + np.max(np.linalg.norm(structure.positions, axis=1)):.1f}."
        )
    return structure


def _calculator(settings: AtomsSettings, beta: float) -> CalculatorSettings:
    names = calculator_names()
    if settings.calculator not in names:
        raise UserError(
            f"target.calculator = {settings.calculator!r:.60} is unknown: ASE and installed packages offer "
            f"{', '.join(names)}."
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return CalculatorSettings(
        settings.calculator,
        settings.parameters,
        settings.workers or cores,
        settings.restart == "fresh",
        settings.timeout,
        settings.max_failures,
        _HISTORY / beta,
    )


def _masses(structure: Structure, settings: AtomsSettings) -> np.ndarray:
    if settings.hydrogen_mass == "physical":
        return structure.masses
    return np.where(np.array(structure.cell.numbers) == 1, settings.hydrogen_mass, structure.masses)


def _first_step(structure: Structure, settings: AtomsSettings) -> float:
    return _STEP * float(np.sqrt(np.min(_masses(structure, settings))))


def _scalars(structure: Structure, config: AtomsRun) -> dict[str, Any]:
    """Those that are measured, by name."""
    for name, atoms in (*config.geometry.distances.items(), *config.geometry.angles.items()):
        if max(atoms) >= structure.cell.n_atoms:
            raise UserError(
                f"geometry: {name!r:.60} names atom {max(atoms)}, but there are {structure.cell.n_atoms} atoms, "
                "counted from 0."
            )
    try:
        names = observable_names(config, structure.cell.is_periodic)
        config.check_wanted_errors(names)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    known = scalars(structure, config.geometry)
    return {name: known[name] for name in names}


def _starting(key: Key[Array, ""], n_chains: int, structure: Structure) -> Array:
    """The structure, each atom of each chain moved a little."""
    moved = _SPREAD * jax.random.normal(key, (n_chains, *structure.positions.shape), jnp.float64)
    return jnp.asarray(structure.positions)[None] + moved - jnp.mean(moved, axis=1, keepdims=True)


def _exact(target: Target, manifold: Massive, config: AtomsRun, step: float) -> Update:
    """The update without a model."""
    settings = config.exact
    if settings.update == "local":
        return LocalSweep(target, manifold, jnp.asarray(_SPREAD))
    integrator = INTEGRATORS[settings.integrator]
    trajectory = HamiltonianTrajectory(target, manifold, jnp.asarray(step), settings.n_steps, integrator)
    return MetropolisHastings(target, trajectory)


def _inner_updates(config: AtomsRun, manifold: Massive, step: float) -> dict[str, Any]:
    """The trajectory of the model, or those among which the run chooses."""
    given = config.inner.n_steps
    numbers = LENGTHS if given == "auto" else (given,)
    return {
        f"n_steps = {number}": partial(inner_update, manifold=manifold, config=config, step=step, n_steps=number)
        for number in numbers
    }


def inner_update(model: Target, manifold: Massive, config: AtomsRun, step: float, n_steps: int) -> Update:
    """HMC of the model, whose trajectories propose."""
    guide = SinglePrecision(model) if config.inner.precision == "single" else model
    integrator = INTEGRATORS[config.inner.integrator]
    return MetropolisHastings(model, HamiltonianTrajectory(guide, manifold, jnp.asarray(step), n_steps, integrator))


def _model(
    config: AtomsRun, structure: Structure, beta: float, sphere: SoftSphere | None, directory: Path
) -> MomentPotential:
    settings = config.model
    if settings.file is not None:
        model = load_model(directory / settings.file, build_like)
        try:
            return model.on_atoms(structure.cell, beta, sphere)
        except ValueError as error:
            raise UserError(f"model.file = {settings.file}: {error}") from None
    key = jax.random.fold_in(jax.random.key(config.seed), _MODEL_KEY)
    sizes = settings.reach, settings.n_radial, settings.n_channels, settings.n_hidden
    return MomentPotential(structure.cell, beta, *sizes, sphere, key=key)


def _standardised(model: MomentPotential, labels: Label) -> MomentPotential:
    return model.standardised(labels)


def _write_labels(path: Path, labels: Label, structure: Structure, beta: float, sphere: SoftSphere | None) -> None:
    """Energies and forces of the calculator, that is without those of the sphere."""
    positions = np.asarray(labels.configuration)
    energies, forces = -np.asarray(labels.log_weight) / beta, np.asarray(labels.force) / beta
    if sphere is not None:
        values, slopes = jax.vmap(jax.value_and_grad(sphere.energy))(jnp.asarray(positions))
        energies, forces = energies - np.asarray(values), forces + np.asarray(slopes)
    write_frames(path, structure, positions, energies, forces)


def _write_trajectory(path: Path, series: Any, structure: Structure) -> None:
    """All chains one after the other."""
    positions, energies = (np.asarray(series[name]) for name in ("positions", "energy"))
    write_frames(path, structure, positions.reshape(-1, *positions.shape[2:]), energies.reshape(-1))


def _series_files(structure: Structure) -> dict[str, Any]:
    return {"trajectory.extxyz": partial(_write_trajectory, structure=structure)}


def _as_calculator(model: MomentPotential) -> Any:
    from slmc.systems.atoms.calculator import LearnedCalculator

    return LearnedCalculator(model)


def describe(model: MomentPotential) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
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
    """A model of the structure that ``describe`` tells, with numbers to be replaced."""
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


ATOMS = System(AtomsRun, atoms_problem, build_like)
