"""Atoms put together for a run: calculators, learned potential, updates and what is measured."""

import dataclasses
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
    ReplicaExchange,
    ReplicaTarget,
    SinglePrecision,
    Target,
    Tempered,
    Update,
    log_weight_and_force,
    over_chains,
    stacked,
)
from slmc.montecarlo.tempering import replica
from slmc.montecarlo.update import Label
from slmc.selflearning import Learner, LearningSettings, TemperedLearner
from slmc.system import ErrorOfModel, Fit, Problem, System, UserError, load_model, shortened
from slmc.systems.atoms.calculated import Confined, SoftSphere, calculated
from slmc.systems.atoms.cell import Cell
from slmc.systems.atoms.guide import CalculatorGuide
from slmc.systems.atoms.masses import Massive
from slmc.systems.atoms.measured import (
    BOLTZMANN,
    WALKERS_AT,
    derived_at,
    derived_from_energy,
    observables_at,
    pair_observables,
    positions_of,
    scalars,
)
from slmc.systems.atoms.pool import CalculatorPool, CalculatorSettings
from slmc.systems.atoms.potential import MomentPotential
from slmc.systems.atoms.settings import LENGTHS, AtomsRun, AtomsSettings, observable_names
from slmc.systems.atoms.structure import Structure, read_atoms, read_frames, structure_of, write_frames
from slmc.systems.atoms.worker import calculator_names

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
    cell, beta = structure.cell, 1 / (BOLTZMANN * settings.coldest)
    pool = CalculatorPool(cell, _calculator(settings, beta))
    guide = _guide(config, cell, beta)
    sphere = None if settings.sphere_radius is None else SoftSphere(settings.sphere_radius, settings.sphere_stiffness)
    target = Confined(calculated(pool, beta), beta, sphere)
    if settings.temperatures is not None:
        return _ladder(config, structure, target, pool, directory)
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
        observables=(*(about._replace(slow=about is slowest) for about in known.values()), positions_of(structure)),
        model=_model(config, structure, beta, sphere, directory, guide) if learned else None,
        inner=_inner_updates(config, manifold, _first_step(structure, settings)),
        fit=Fit(
            solve=_standardised if config.model.file is None and guide is None else None,
            constant=lambda model: model.constant,
            observable=merit.of_configuration,
            describe=describe,
            labels=_given_labels(config, structure, beta, sphere, directory),
            errors=partial(_errors, beta=beta),
            described_errors=ERRORS,
        ),
        fields=pair_observables(structure, _PAIRS_REACH) if config.geometry.pair_distances else (),
        derived=(derived_from_energy(cell, beta),) if "energy" in known else (),
        remarks=lambda: tuple(
            text for one in (pool, guide) if one is not None for text in (one.remark, one.doubt) if text
        ),
        label_files={"training.extxyz": partial(_write_labels, structure=structure, beta=beta, sphere=sphere)},
        series_files={"trajectory.extxyz": partial(_write_trajectory, structure=structure)}
        if "energy" in known
        else {},
        offers={"calculator": _as_calculator} if guide is None else {},
    )


def _ladder(
    config: AtomsRun, structure: Structure, target: Confined, pool: CalculatorPool, directory: Path
) -> Problem:
    """The problem with several temperatures; the target that is given has the lowest."""
    settings, cell = config.target, structure.cell
    assert settings.temperatures is not None
    betas = tuple(1 / (BOLTZMANN * temperature) for temperature in settings.temperatures)
    masses, step = _masses(structure, settings), _first_step(structure, settings)
    manifolds = tuple(Massive(masses, beta, holds_centre=cell.is_periodic) for beta in betas)
    known = _scalars(structure, config, rungs=True)
    written: dict[str, Any] = {}
    if "energy" in known:
        written["trajectory.extxyz"] = partial(_write_trajectory, structure=structure, energy=f"energy_{len(betas)}")
    return Problem(
        target=ReplicaTarget(stacked([Tempered(target, jnp.asarray(beta / target.beta)) for beta in betas])),
        manifold=manifolds[-1],
        start=partial(_starting, structure=structure, n_replicas=len(betas)),
        exact=partial(exact_ladder, manifolds=manifolds, config=config, step=step),
        observables=(
            *observables_at(tuple(known.values()), settings.temperatures),
            positions_of(structure, rung=len(betas) - 1),
            WALKERS_AT,
        ),
        model=_model(config, structure, target.beta, target.sphere, directory, None) if config.learns else None,
        inner=_inner_updates(config, manifolds[-1], step),
        fit=Fit(
            solve=_standardised if config.model.file is None else None,
            constant=lambda model: model.constant,
            describe=describe,
            errors=partial(_errors_at, beta=target.beta),
            described_errors=ERRORS,
        ),
        derived=derived_at(cell, betas) if "energy" in known else (),
        remarks=lambda: tuple(filter(None, (pool.remark, pool.doubt))),
        label_files={
            "training.extxyz": partial(_write_labels, structure=structure, beta=target.beta, sphere=target.sphere)
        },
        series_files=written,
        offers={"calculator": _as_calculator},
        learner=partial(_tempered_learner, manifolds=manifolds, config=config, step=step),
    )


def exact_ladder(target: Target, manifolds: tuple[Massive, ...], config: AtomsRun, step: float) -> ReplicaExchange:
    """Replica exchange of trajectories with the exact force."""
    assert isinstance(target, ReplicaTarget)
    updates = [
        _exact(replica(target.replicas, rung), manifold, config, step) for rung, manifold in enumerate(manifolds)
    ]
    return ReplicaExchange(update=stacked(updates))  # type: ignore[call-arg]


def _tempered_learner(
    problem: Problem,
    target: Target,
    exact: Update,
    settings: LearningSettings,
    manifolds: tuple[Massive, ...],
    config: AtomsRun,
    step: float,
) -> TemperedLearner:
    """A learner of one model, with every temperature's own trajectories."""
    assert isinstance(target, ReplicaTarget)
    assert isinstance(exact, ReplicaExchange)
    n_steps, fit = config.inner.n_steps, problem.fit
    assert not isinstance(n_steps, str)
    learners = []
    for rung, manifold in enumerate(manifolds):
        inner = partial(inner_update, manifold=manifold, config=config, step=step, n_steps=n_steps)
        solve = _standardised_tempered if rung == 0 and fit.solve is not None else None
        of_rung = replica(target.replicas, rung), manifold, replica(exact.update, rung)
        learners.append(Learner(*of_rung, inner, solve, settings, errors=fit.errors))
    factors = tuple(float(factor) for factor in np.asarray(target.replicas.factor))  # type: ignore[attr-defined]
    return TemperedLearner(tuple(learners), factors)


def _standardised_tempered(model: Tempered, labels: Label) -> Tempered:
    potential: Any = model.target
    return Tempered(potential.standardised(labels), model.factor)


def _errors_at(model: Tempered, labels: Label, beta: float) -> dict[str, float]:
    return _errors(model, labels, beta * float(model.factor))


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
    )


def _masses(structure: Structure, settings: AtomsSettings) -> np.ndarray:
    if settings.hydrogen_mass == "physical":
        return structure.masses
    return np.where(np.array(structure.cell.numbers) == 1, settings.hydrogen_mass, structure.masses)


def _first_step(structure: Structure, settings: AtomsSettings) -> float:
    return _STEP * float(np.sqrt(np.min(_masses(structure, settings))))


def _scalars(structure: Structure, config: AtomsRun, rungs: bool = False) -> dict[str, Any]:
    """Those that are measured, by name; with several ``rungs`` those of each."""
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
    if rungs:
        names = tuple(name.removesuffix("_1") for name in names if name.endswith("_1") and name[:-2] in known)
    return {name: known[name] for name in names}


def _starting(key: Key[Array, ""], n_chains: int, structure: Structure, n_replicas: int | None = None) -> Array:
    """The structure, each atom of each chain, and of each replica where there are some, moved a little."""
    shape = (n_chains, *(() if n_replicas is None else (n_replicas,)), *structure.positions.shape)
    moved = _SPREAD * jax.random.normal(key, shape, jnp.float64)
    places = jnp.asarray(structure.positions).reshape((1,) * (len(shape) - 2) + structure.positions.shape)
    return places + moved - jnp.mean(moved, axis=-2, keepdims=True)


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
    in_single = config.inner.precision == "single" and not isinstance(model, CalculatorGuide)
    guide = SinglePrecision(model) if in_single else model
    integrator = INTEGRATORS[config.inner.integrator]
    return MetropolisHastings(model, HamiltonianTrajectory(guide, manifold, jnp.asarray(step), n_steps, integrator))


def _model(
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


def _given_labels(
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


ERRORS = {
    "energy_error": ErrorOfModel(
        "meV/atom", "error of the energy an atom, a constant left out", "error of the energy"
    ),
    "force_error": ErrorOfModel("eV/Å", "root mean square error of a component of the forces", "error of the forces"),
}
"""Figures of the model in every round, on samples of chains that take no part in training."""


def _errors(model: Target, labels: Label, beta: float) -> dict[str, float]:
    log_weights, forces = over_chains(_log_weight_and_force, labels.configuration, model, group_size=32)
    n_atoms = labels.configuration.shape[1]
    energy = np.std(labels.log_weight - np.asarray(log_weights)) / beta / n_atoms
    force = np.sqrt(np.mean((labels.force - np.asarray(forces)) ** 2)) / beta
    return {"energy_error": 1000 * float(energy), "force_error": float(force)}


def _log_weight_and_force(target: Target, positions: Array) -> tuple[Array, Array]:
    return log_weight_and_force(target, positions)


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


def _write_trajectory(path: Path, series: Any, structure: Structure, energy: str = "energy") -> None:
    """All chains one after the other; of several temperatures the lowest."""
    positions, energies = (np.asarray(series[name]) for name in ("positions", energy))
    write_frames(path, structure, positions.reshape(-1, *positions.shape[2:]), energies.reshape(-1))


def _as_calculator(model: MomentPotential) -> Any:
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


ATOMS = System(AtomsRun, atoms_problem, build_like)
