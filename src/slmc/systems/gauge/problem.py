"""Gauge theory put together for a run: target, effective action, updates and what is measured."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from slmc.montecarlo import (
    INTEGRATORS,
    Configuration,
    HamiltonianTrajectory,
    LocalSweep,
    MetropolisHastings,
    MicrocanonicalTrajectory,
    Sequence,
    SpecialUnitary,
    Target,
    Update,
)
from slmc.selflearning import LearningSettings, fit_linear
from slmc.system import ConfigurationFiles, Derived, Fit, Observable, Problem, System, UserError, load_model
from slmc.systems.gauge.configuration_files import read_links
from slmc.systems.gauge.domain_wall import DomainWall
from slmc.systems.gauge.file_measurement import GAUGE_FILES
from slmc.systems.gauge.gauge_action import EffectiveAction
from slmc.systems.gauge.guide import FermionGuide
from slmc.systems.gauge.guide_learner import GuideLearner
from slmc.systems.gauge.heat_bath import GaugeHeatBath
from slmc.systems.gauge.ildg import write_ildg
from slmc.systems.gauge.links import Links, random_links, unit_links
from slmc.systems.gauge.measured import (
    CONDENSATE,
    LINK_OBSERVABLES,
    condensate,
    derived_from_loops,
    links_of,
    observable_names,
    quarks,
    residual_mass_of_walls,
)
from slmc.systems.gauge.nersc import write_nersc
from slmc.systems.gauge.observables import polyakov_loop
from slmc.systems.gauge.pseudofermions import (
    Dynamical,
    PseudofermionAction,
    PseudofermionTrajectory,
    RefreshPseudofermions,
)
from slmc.systems.gauge.settings import (
    GaugeInnerSettings,
    GaugeMeasurement,
    GaugeRun,
    GaugeSettings,
    GaugeTarget,
    build_like,
    describe,
    describe_guide,
)
from slmc.systems.gauge.solvers import Solver
from slmc.systems.gauge.staggered_fermion import Staggered
from slmc.systems.gauge.stored_links import warned

TRAJECTORY_LENGTHS = (2, 3, 5, 8)
"""Integrator steps of a trajectory among which ``inner.n_updates = "auto"`` chooses."""


def gauge(config: GaugeRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes; its files are relative to ``directory``.

    With ``model.file`` the effective action is used as it is, and learning measures its residual and tunes the inner
    chain. Pseudofermions, which no effective action of the links can stand for, make configurations ``Dynamical``.
    Raises ``UserError`` naming the field that is wrong.
    """
    target = _target(config)
    solve = partial(fit_linear, manifold=SpecialUnitary(), force_weight=config.learning.force_weight)
    problem = Problem(
        target=target,
        manifold=SpecialUnitary(),
        start=partial(_starting, target=target, settings=config.target, links=_start(config.target, directory)),
        exact=partial(_exact, config=config),
        observables=_observables(config, target),
        fit=Fit(
            solve=None if config.model.file is not None else solve,
            constant=lambda model: model.constant,
            observable=lambda configuration: polyakov_loop(links_of(configuration)).real,
            describe=describe,
        ),
        derived=_derived(config),
        configuration_files=_configuration_files(config.measurement),
    )
    if not config.learns:
        return problem
    if config.has_guide:
        return _guided(problem, config)
    return replace(problem, model=_model(config, directory), inner=_inner_updates(config.inner))


def _guided(problem: Problem, config: GaugeRun) -> Problem:
    """The problem with a guide that is learned and drives trajectories: SLHMC."""
    target = problem.target
    assert isinstance(target, PseudofermionAction)
    guide = config.guide.build(target, config.target, config.domain_wall)
    integrator, n_gauge_steps = INTEGRATORS[config.inner.integrator], config.pseudofermions.n_gauge_steps
    trajectory = PseudofermionTrajectory(guide, jnp.asarray(0.1), config.inner.n_steps, integrator, n_gauge_steps)

    def learner(problem: Problem, target: Target, exact: Update, settings: LearningSettings) -> GuideLearner:
        assert isinstance(target, PseudofermionAction)
        return GuideLearner(target, exact, trajectory, config.guide.trained, settings)

    def inner(guide: FermionGuide) -> Update:
        return MetropolisHastings(guide, eqx.tree_at(lambda moved: moved.guide, trajectory, guide))

    fit = Fit(describe=lambda model: describe_guide(config))
    return replace(problem, model=guide, inner={"trajectory": inner}, fit=fit, learner=learner)


def _configuration_files(settings: GaugeMeasurement) -> ConfigurationFiles | None:
    if settings.configurations == "none":
        return None
    write, suffix = {"nersc": (_write_nersc, ".nersc"), "ildg": (_write_ildg, ".lime")}[settings.configurations]
    return ConfigurationFiles(settings.every or settings.block_size, suffix, write)


def _write_nersc(path: Path, configuration: Configuration, chain: int, step: int) -> None:
    write_nersc(path, _links_on_host(configuration), {"ENSEMBLE_ID": f"chain {chain}", "SEQUENCE_NUMBER": str(step)})


def _write_ildg(path: Path, configuration: Configuration, chain: int, step: int) -> None:
    write_ildg(path, _links_on_host(configuration))


def _links_on_host(configuration: Configuration) -> Links:
    return links_of(jax.tree.map(jnp.asarray, configuration))


def _observables(config: GaugeRun, target: GaugeTarget) -> tuple[Observable, ...]:
    """Those that are measured; the slowest is the Polyakov loop, and the plaquette where that is not measured."""
    known = {observable.name: observable for observable in LINK_OBSERVABLES}
    operator = config.target.operator(config.domain_wall)
    if isinstance(operator, Staggered):
        known[CONDENSATE] = condensate(operator, estimated=isinstance(target, PseudofermionAction))
    if operator is not None:
        numbers = config.pseudofermions
        solver = Solver(numbers.solver_tolerance, numbers.max_iterations)
        known |= {observable.name: observable for observable in quarks(operator, solver)}
    names = observable_names(config.measurement.observables, config.target.fermions)
    slowest = next((name for name in ("polyakov_loop", "plaquette") if name in names), None)
    return tuple(known[name]._replace(slow=name == slowest) for name in names)


def _derived(config: GaugeRun) -> tuple[Derived, ...]:
    derived, operator = derived_from_loops(config.target.shape), config.target.operator(config.domain_wall)
    return (*derived, residual_mass_of_walls(operator)) if isinstance(operator, DomainWall) else derived


def _starting(
    key: Key[Array, ""], n_chains: int, target: GaugeTarget, settings: GaugeSettings, links: Links | None
) -> Configuration:
    """The links from which chains start: random ones, or the same for all. Pseudofermions, drawn anew, are 0."""
    if links is None:
        links = random_links(key, settings.shape, settings.n_colours, n_chains)
    else:
        links = jnp.broadcast_to(links, (n_chains, *links.shape))
    if not isinstance(target, PseudofermionAction):
        return links
    return Dynamical(links, jnp.zeros((n_chains, *target.pseudofermion_shape), jnp.complex128))


def _exact(target: Target, config: GaugeRun) -> Update:
    """The update without a model."""
    settings, integrator = config.exact, INTEGRATORS[config.exact.integrator]
    if settings.update == "local":
        return LocalSweep(target, SpecialUnitary(), jnp.asarray(0.1))
    if isinstance(target, PseudofermionAction):
        n_gauge_steps = config.pseudofermions.n_gauge_steps
        moved = PseudofermionTrajectory(target, jnp.asarray(0.1), settings.n_steps, integrator, n_gauge_steps)
        return Sequence((RefreshPseudofermions(target), MetropolisHastings(target, moved)))
    kind = MicrocanonicalTrajectory if settings.update == "microcanonical" else HamiltonianTrajectory
    return MetropolisHastings(target, kind(target, SpecialUnitary(), jnp.asarray(0.1), settings.n_steps, integrator))


def _inner_updates(settings: GaugeInnerSettings) -> dict[str, Any]:
    """The inner update, or those among which the run chooses."""
    if settings.update == "heat-bath":
        return {"heat bath": partial(inner_update, settings=settings)}
    numbers = TRAJECTORY_LENGTHS if settings.n_updates == "auto" else (settings.n_steps,)
    kinds = {f"n_steps = {number}": settings.model_copy(update={"n_steps": number}) for number in numbers}
    return {words: partial(inner_update, settings=kind) for words, kind in kinds.items()}


def inner_update(model: EffectiveAction, settings: GaugeInnerSettings) -> Update:
    """The update that drives the chain of the effective action; keeps detailed balance."""
    if settings.update == "heat-bath":
        reflect = GaugeHeatBath(model, over_relaxation=True)
        return Sequence((reflect, GaugeHeatBath(model), reflect))
    integrator = INTEGRATORS[settings.integrator]
    trajectory = HamiltonianTrajectory(model, SpecialUnitary(), jnp.asarray(0.1), settings.n_steps, integrator)
    return MetropolisHastings(model, trajectory)


def _target(config: GaugeRun) -> GaugeTarget:
    try:
        return config.target.build(config.pseudofermions, config.domain_wall)
    except ValueError as error:
        raise UserError(f"target.n_flavours = {config.target.n_flavours:g}: {error}") from None


def _model(config: GaugeRun, directory: Path) -> EffectiveAction:
    target, file = config.target, config.model.file
    if file is None:
        return config.model.build(target.shape, target.n_colours)
    model = load_model(directory / file, build_like)
    if not isinstance(model, EffectiveAction):
        raise UserError(f"model.file = {file} holds a guide of trajectories, not an effective action.")
    if model.n_colours != target.n_colours:
        raise UserError(f"model.file = {file} is of SU({model.n_colours}), but target.n_colours = {target.n_colours}.")
    if config.inner.update == "heat-bath" and model.plaquette_coupling is None:
        raise UserError(f"model.file = {file} holds more than plaquettes, so that inner.update must not be heat-bath.")
    try:
        return model.on_lattice(target.shape)
    except ValueError as error:
        raise UserError(f"model.file = {file}: {error}") from None


def _start(target: GaugeSettings, directory: Path) -> Links | None:
    """The links from which all chains start, ``None`` for random ones."""
    if target.file is None:
        return None if target.start == "hot" else unit_links(target.shape, target.n_colours)
    try:
        links = warned(read_links(directory / target.file, target.shape))
    except ValueError as error:
        raise UserError(f"target.file: {error}") from None
    except OSError as error:
        raise UserError(f"target.file = {target.file} cannot be read: {error.strerror}.") from None
    if links.shape[-1] != target.n_colours:
        raise UserError(
            f"target.file = {target.file} holds links of SU({links.shape[-1]}), but target.n_colours = "
            f"{target.n_colours}; set that."
        )
    return links


GAUGE = System(GaugeRun, gauge, build_like, GAUGE_FILES)
