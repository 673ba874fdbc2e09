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
from slmc.system import Fit, Problem, System, UserError, load_model
from slmc.systems.impurity.anderson import Anderson, Vertices
from slmc.systems.impurity.levels import BathModel, LevelSweep, WindowSweep, fit_potential, n_windows
from slmc.systems.impurity.measured import derived_quantities, impurity_fields, impurity_observables, scalar_names
from slmc.systems.impurity.pair_model import PairModel, PairSweep, fit_pairs
from slmc.systems.impurity.poles import Poles, fitted, of_levels, semicircle
from slmc.systems.impurity.rank_one import RankOneSweep
from slmc.systems.impurity.settings import ImpurityRun, ImpuritySettings, build_like, describe
from slmc.systems.impurity.vertices import Circle


def impurity(config: ImpurityRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes; ``model.file`` is relative to ``directory``.

    Raises ``UserError`` naming the field that is wrong.
    """
    if jax.default_backend() != "cpu":
        raise UserError('system = "impurity" is computed on CPUs; set the environment variable JAX_PLATFORMS=cpu.')
    settings = config.target
    target, names = built(settings), scalar_names(config.measurement.observables)
    mean = mean_order(settings)
    model = _model(config, target, directory) if config.learns else None
    return Problem(
        target=target,
        manifold=Circle(target.beta),
        start=partial(_start, capacity=target.capacity, mean=mean / 2, beta=settings.beta),
        exact=partial(exact_sweep, update=config.exact.update, n_updates=config.exact.n_updates or 2 * math.ceil(mean)),
        observables=impurity_observables(target, names),
        model=model,
        inner={"sweeps": partial(inner_sweep, n_windows=_windows(model), n_updates=2 * math.ceil(mean))},
        fit=Fit(solve=fitted_model, constant=lambda model: model.constant, observable=_squared_spin, describe=describe),
        fields=impurity_fields(),
        derived=derived_quantities(target, names),
    )


def built(settings: ImpuritySettings) -> Anderson:
    """The target."""
    return Anderson(poles_of(settings), settings.beta, settings.interaction, settings.expansion, settings.capacity)


def poles_of(settings: ImpuritySettings) -> Poles:
    """The propagator without interaction."""
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
    assert isinstance(model, PairModel)
    return PairSweep(model, n_updates)


def fitted_model(model: BathModel | PairModel, labels: Label) -> BathModel | PairModel:
    """The model fitted to exact labels: all of the pair model, the potential of n of a bath model."""
    return fit_potential(model, labels) if isinstance(model, BathModel) else fit_pairs(model, labels)


def _windows(model: BathModel | PairModel | None) -> int:
    return model.n_windows if isinstance(model, BathModel) else 1


def _squared_spin(vertices: Vertices) -> Array:
    return jnp.sum(vertices[:, 1]) ** 2


def _model(config: ImpurityRun, target: Anderson, directory: Path) -> BathModel | PairModel:
    """The model to start learning from; a stored one is brought to β, U and K of the target."""
    settings = config.model
    if settings.file is not None:
        model = load_model(directory / settings.file, build_like)
        return eqx.tree_at(lambda m: m.constants, model, target.constants)
    if settings.name == "pair":
        return PairModel(settings.n_polynomials, target.constants, settings.by_order)
    poles, beta = target.poles, float(target.beta)
    return BathModel(fitted(partial(poles.at_times, beta), beta, settings.n_levels, poles.symmetric), target.constants)


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
