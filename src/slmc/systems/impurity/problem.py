"""Impurity models put together for a run."""

import math
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import Label, Target, Update
from slmc.selflearning import Learner, LearningSettings
from slmc.system import Fit, Problem, System, UserError, load_model
from slmc.systems.impurity.anderson import Anderson, Vertices
from slmc.systems.impurity.levels import BathModel, LevelSweep, WindowSweep, fit_potential, n_windows
from slmc.systems.impurity.measured import derived_quantities, impurity_fields, impurity_observables, scalar_names
from slmc.systems.impurity.network_model import NetworkModel, NetworkSweep, fit_network
from slmc.systems.impurity.pair_model import PairModel, PairSweep, fit_pairs
from slmc.systems.impurity.poles import Poles, fitted, of_levels, semicircle
from slmc.systems.impurity.positive_poles import energy_grid, read_hybridization
from slmc.systems.impurity.rank_one import RankOneSweep
from slmc.systems.impurity.self_consistency import Lattice, bare_poles, bethe_lattice, self_consistent
from slmc.systems.impurity.settings import ImpurityModel, ImpurityRun, ImpuritySettings, build_like, describe
from slmc.systems.impurity.vertices import Circle


def impurity(config: ImpurityRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes; ``model.file`` is relative to ``directory``.

    Raises ``UserError`` naming the field that is wrong.
    """
    if jax.default_backend() != "cpu":
        raise UserError('system = "impurity" is computed on CPUs; set the environment variable JAX_PLATFORMS=cpu.')
    settings = config.target
    build = partial(
        Anderson,
        beta=settings.beta,
        interaction=settings.interaction,
        expansion=settings.expansion,
        capacity=settings.capacity,
    )
    lattice = bethe_lattice(settings.half_bandwidth, settings.level) if settings.bath == "bethe" else None
    target, names = build(poles_of(settings, lattice, directory)), scalar_names(config.measurement.observables)
    mean = mean_order(settings)
    model = _model(config, target, directory) if config.learns else None
    return Problem(
        target=target,
        manifold=Circle(target.beta),
        start=partial(_start, capacity=target.capacity, mean=mean / 2, beta=settings.beta),
        exact=partial(exact_sweep, update=config.exact.update, n_updates=config.exact.n_updates or 2 * math.ceil(mean)),
        observables=impurity_observables(target, names),
        model=model,
        inner={"sweeps": partial(inner_sweep, n_windows=_windows(model, settings), n_updates=2 * math.ceil(mean))},
        fit=Fit(solve=fitted_model, constant=lambda model: model.constant, observable=_squared_spin, describe=describe),
        fields=impurity_fields(),
        derived=derived_quantities(target, names),
        sought=None if lattice is None else self_consistent(lattice, build),
        learner=learner,
    )


def poles_of(settings: ImpuritySettings, lattice: Lattice | None, directory: Path) -> Poles:
    """The propagator without interaction; on a lattice that from which iterations start.

    Raises ``UserError`` for a file that holds no hybridization function.
    """
    if lattice is not None:
        energies = energy_grid(settings.beta, settings.fastest)
        return bare_poles(lattice, energies, settings.beta, None, None, 1.0)
    if settings.bath == "file":
        try:
            levels = read_hybridization(directory / str(settings.file), settings.beta)
        except ValueError as error:
            raise UserError(f"target.file = {settings.file} is not used: {error}") from None
        except OSError as error:
            raise UserError(f"target.file = {settings.file} cannot be read: {error.strerror}.") from None
        return of_levels(settings.level, *levels)
    if settings.bath == "levels":
        return of_levels(settings.level, np.array(settings.energies), np.array(settings.couplings))
    return of_levels(settings.level, *semicircle(settings.half_bandwidth, settings.coupling, settings.beta))


def mean_order(settings: ImpuritySettings) -> float:
    """K + βU/2, a bound of ⟨n⟩."""
    return settings.expansion + settings.beta * settings.interaction / 2


def exact_sweep(target: Target, update: str, n_updates: int) -> Update:
    """The update without a model."""
    assert isinstance(target, Anderson)
    if update == "levels":
        beta, expansion, gamma = (float(value) for value in target.constants)
        return LevelSweep(target, n_windows(np.asarray(target.energies), beta, expansion, gamma))
    return RankOneSweep(target, n_updates)


def inner_sweep(model: Target, n_windows: int, n_updates: int) -> Update:
    """The update that drives the chain of the effective model."""
    if isinstance(model, BathModel):
        return WindowSweep(model, n_windows)
    if isinstance(model, NetworkModel):
        return NetworkSweep(model, n_updates)
    assert isinstance(model, PairModel)
    return PairSweep(model, n_updates)


def fitted_model(model: ImpurityModel, labels: Label) -> ImpurityModel:
    """The model fitted to exact labels: all of it, or the potential of n of a bath model."""
    if isinstance(model, BathModel):
        return fit_potential(model, labels)
    return fit_network(model, labels) if isinstance(model, NetworkModel) else fit_pairs(model, labels)


def learner(problem: Problem, target: Target, exact: Update, settings: LearningSettings) -> Learner:
    """What learns the model, of the target as it was found: a bath model of new levels where they were not stored."""
    assert isinstance(target, Anderson)
    fit = problem.fit
    solve = partial(_fitted_to, target=target) if problem.sought is not None else fit.solve
    inner, observable = tuple(problem.inner.values()), problem.merit_of_configuration
    return Learner(target, problem.manifold, exact, inner, solve, settings, observable=observable)


def _fitted_to(model: ImpurityModel, labels: Label, target: Anderson) -> ImpurityModel:
    if isinstance(model, BathModel):
        poles = levels_of(target, len(model.energies))
        values = jnp.asarray(poles.energies), jnp.sqrt(jnp.asarray(poles.weights))
        model = eqx.tree_at(lambda m: (m.energies, m.impurity), model, values)
    return fitted_model(model, labels)


def levels_of(target: Anderson, n_levels: int) -> Poles:
    """The few levels nearest to the propagator of a target."""
    poles, beta = target.poles, float(target.beta)
    return fitted(partial(poles.at_times, beta), beta, n_levels, poles.symmetric)


def _windows(model: ImpurityModel | None, settings: ImpuritySettings) -> int:
    """Windows for the levels of a model, or for those that it may have when a bath is found."""
    if not isinstance(model, BathModel):
        return 1
    found = [settings.half_bandwidth + settings.interaction / 2] if settings.bath == "bethe" else []
    beta, expansion, gamma = (float(value) for value in model.constants)
    return n_windows(np.array([*np.asarray(model.energies), *found]), beta, expansion, gamma)


def _squared_spin(vertices: Vertices) -> Array:
    return jnp.sum(vertices[:, 1]) ** 2


def _model(config: ImpurityRun, target: Anderson, directory: Path) -> ImpurityModel:
    """The model to start learning from; a stored one is brought to β, U and K of the target."""
    settings = config.model
    if settings.file is not None:
        model = load_model(directory / settings.file, build_like)
        return eqx.tree_at(lambda m: m.constants, model, target.constants)
    if settings.name == "pair":
        return PairModel(settings.n_polynomials, target.constants, settings.by_order)
    if settings.name == "network":
        return NetworkModel(settings.n_polynomials, settings.n_hidden, target.constants)
    return BathModel(levels_of(target, settings.n_levels), target.constants)


def _start(key: Key[Array, ""], n_chains: int, capacity: int, mean: float, beta: float) -> Array:
    """Anything between no vertices and ``mean``, at random times."""
    key_number, key_times, key_spins = jax.random.split(key, 3)
    most = min(capacity, math.ceil(mean))
    n = jax.random.randint(key_number, (n_chains, 1), 0, most + 1, jnp.int32)
    times = jax.random.uniform(key_times, (n_chains, capacity), jnp.float64) * beta
    spins = jax.random.rademacher(key_spins, (n_chains, capacity), jnp.float64)
    occupied = jnp.arange(capacity, dtype=jnp.int32)[None] < n
    return jnp.where(occupied[..., None], jnp.stack([times, spins], -1), 0.0)


IMPURITY = System(ImpurityRun, impurity, build_like)
