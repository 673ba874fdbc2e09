"""Atoms put together for a run: structure, calculators, and what is measured."""

import dataclasses
import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slmc.system import Fit, Problem, System, UserError
from slmc.systems.atoms.calculated import Confined, SoftSphere, calculated
from slmc.systems.atoms.cell import Cell
from slmc.systems.atoms.ensembles import ensemble_of, potential_of
from slmc.systems.atoms.labels import (
    given_labels,
    write_labels,
    write_labels_at_pressure,
    write_labels_of_beads,
    write_trajectory,
    write_trajectory_at_pressure,
)
from slmc.systems.atoms.ladder import ladder_problem
from slmc.systems.atoms.measured import BOLTZMANN, scalars
from slmc.systems.atoms.models import ERRORS, as_calculator, build_like, describe, errors_of, standardised, start_model
from slmc.systems.atoms.path_integral import PathIntegral
from slmc.systems.atoms.pool import CalculatorPool, CalculatorSettings
from slmc.systems.atoms.pressure import ConstantPressure
from slmc.systems.atoms.settings import AtomsRun, AtomsSettings, observable_names
from slmc.systems.atoms.structure import Structure, read_atoms, structure_of
from slmc.systems.atoms.updates import exact_update, first_step, inner_updates
from slmc.systems.atoms.worker import calculator_names

_HISTORY = 1e-3
"""Of kT: how far two energies of one configuration may be apart."""

_PAIRS_REACH = 6.0


def atoms_problem(config: AtomsRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes; its files are relative to ``directory``.

    No calculator is started before the first evaluation. Raises ``UserError`` naming the field that is wrong.
    """
    if find_spec("ase") is None:
        raise UserError('system = "atoms" needs ASE: pip install ase.')
    structure, settings = _structure(config.target, directory), config.target
    cell, beta = structure.cell, 1 / (BOLTZMANN * settings.coldest)
    pool = CalculatorPool(cell, _calculator(settings, beta))
    guide = _guide(config, cell, beta)
    sphere = None if settings.sphere_radius is None else SoftSphere(settings.sphere_radius, settings.sphere_stiffness)
    if settings.temperatures is not None:
        target = Confined(calculated(pool, beta), beta, sphere)
        known = _scalars(structure, config, scalars(structure, config.geometry), rungs=True)
        return ladder_problem(config, structure, target, pool, known, directory)
    ensemble = ensemble_of(settings, structure, beta, pool, sphere)
    everything = ensemble.scalars(config.geometry)
    known = _scalars(structure, config, everything)
    slowest = next((known[name] for name in known if known[name].of_configuration is not None), None)
    merit = next(about for about in everything.values() if about.of_configuration is not None)
    shown = {name: about._replace(slow=about is slowest) for name, about in known.items()}
    observables, fields = ensemble.recorded(shown, _PAIRS_REACH if config.geometry.pair_distances else None)
    step = first_step(structure, settings)
    writers = _writers(structure, beta, ensemble.target, sphere)
    return Problem(
        target=ensemble.target,
        manifold=ensemble.manifold,
        start=ensemble.start,
        exact=partial(exact_update, manifold=ensemble.manifold, config=config, step=step),
        observables=observables,
        model=ensemble.around(start_model(config, structure, beta, sphere, directory, guide))
        if config.learns
        else None,
        inner=inner_updates(config, ensemble.manifold, step),
        fit=Fit(
            solve=standardised if config.model.file is None and guide is None else None,
            constant=lambda model: potential_of(model).constant,
            observable=merit.of_configuration,
            describe=describe,
            labels=given_labels(config, structure, beta, sphere, directory),
            errors=partial(errors_of, beta=beta),
            described_errors=ERRORS,
        ),
        fields=fields,
        derived=tuple(about for about in ensemble.derived if set(about.needs) <= {*known, "volume"}),
        remarks=lambda: tuple(
            text for one in (pool, guide) if one is not None for text in (one.remark, one.doubt) if text
        ),
        label_files={"training.extxyz": writers.labels},
        series_files={"trajectory.extxyz": writers.trajectory} if "energy" in known else {},
        offers={"calculator": as_calculator} if guide is None else {},
    )


class _Writers(NamedTuple):
    labels: Any
    trajectory: Any


def _writers(structure: Structure, beta: float, target: Any, sphere: SoftSphere | None) -> _Writers:
    """What writes labels and trajectory of an ensemble."""
    about: dict[str, Any] = {"structure": structure, "beta": beta}
    if isinstance(target, ConstantPressure):
        return _Writers(
            partial(write_labels_at_pressure, **about, target=target),
            partial(write_trajectory_at_pressure, structure=structure),
        )
    trajectory = partial(write_trajectory, structure=structure)
    if isinstance(target, PathIntegral):
        return _Writers(partial(write_labels_of_beads, **about, target=target, sphere=sphere), trajectory)
    return _Writers(partial(write_labels, **about, sphere=sphere), trajectory)


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
    if settings.ensemble == "npt" and not structure.cell.is_periodic:
        raise UserError(
            'target.ensemble = "npt" needs a periodic structure, whose volume can change; this one has no cell, so '
            "leave ensemble and pressure out."
        )
    is_periodic, has_sphere = structure.cell.is_periodic, settings.sphere_radius is not None
    if is_periodic and has_sphere:
        raise UserError("target.sphere_radius has no meaning for a periodic structure; leave it out.")
    if not is_periodic and not has_sphere:
        raise UserError(
            "target.sphere_radius is missing: a structure that is not periodic would evaporate; give a radius in Å, "
            f"for instance {2 + np.max(np.linalg.norm(structure.positions, axis=1)):.1f}."
        )
    return structure


def _check_name(field: str, name: str) -> None:
    names = calculator_names()
    if name not in names:
        raise UserError(f"{field} = {name!r:.60} is unknown: ASE and installed packages offer {', '.join(names)}.")


def _guide(config: AtomsRun, cell: Cell, beta: float) -> CalculatorPool | None:
    """Calculators in place of the learned potential. A guide may fail as often as it likes."""
    name = config.model.guide
    if name is None or not config.learns:
        return None
    _check_name("model.guide", name)
    exact = _calculator(config.target, beta)
    return CalculatorPool(
        cell,
        dataclasses.replace(
            exact, name=name, parameters=config.model.parameters, max_failures=1.0, field="model.guide"
        ),
    )


def _calculator(settings: AtomsSettings, beta: float) -> CalculatorSettings:
    _check_name("target.calculator", settings.calculator)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return CalculatorSettings(
        settings.calculator,
        settings.parameters,
        settings.workers or cores,
        settings.restart == "fresh",
        settings.timeout,
        settings.max_failures,
        _HISTORY / beta,
        breathes=settings.ensemble == "npt",
        thermal_energy=1 / beta,
    )


def _scalars(structure: Structure, config: AtomsRun, known: dict[str, Any], rungs: bool = False) -> dict[str, Any]:
    """Those of all that are ``known`` which are measured, by name; with several ``rungs`` those of each."""
    for name, atoms in (*config.geometry.distances.items(), *config.geometry.angles.items()):
        if max(atoms) >= structure.cell.n_atoms:
            raise UserError(
                f"geometry: {name!r:.60} names atom {max(atoms)}, but there are {structure.cell.n_atoms} atoms, "
                "counted from 0."
            )
    try:
        names = observable_names(config, structure.cell.is_periodic, structure.symbols)
        config.check_wanted_errors(names)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    if rungs:
        names = tuple(name.removesuffix("_1") for name in names if name.endswith("_1") and name[:-2] in known)
    return {name: known[name] for name in names}


ATOMS = System(AtomsRun, atoms_problem, build_like)
