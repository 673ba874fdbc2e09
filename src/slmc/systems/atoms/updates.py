"""Updates of atoms: exact ones, and the trajectories of a model that propose."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import (
    INTEGRATORS,
    HamiltonianTrajectory,
    LocalSweep,
    Manifold,
    MetropolisHastings,
    SinglePrecision,
    Target,
    Update,
    driving_part,
)
from slmc.systems.atoms.settings import LENGTHS, AtomsRun, AtomsSettings
from slmc.systems.atoms.structure import Structure

SPREAD = 0.05
"""Å by which each atom is moved at random where chains start, so that they are not all the same."""

_STEP = 0.4
"""Femtoseconds, times the root of the least mass in u: an integrator step to begin tuning with."""


def masses_of(structure: Structure, settings: AtomsSettings) -> np.ndarray:
    if settings.hydrogen_mass == "physical":
        return structure.masses
    return np.where(np.array(structure.cell.numbers) == 1, settings.hydrogen_mass, structure.masses)


def first_step(structure: Structure, settings: AtomsSettings) -> float:
    return _STEP * float(np.sqrt(np.min(masses_of(structure, settings))))


def exact_update(target: Target, manifold: Manifold, config: AtomsRun, step: float) -> Update:
    """The update without a model."""
    settings = config.exact
    if settings.update == "local":
        return LocalSweep(target, manifold, jnp.asarray(SPREAD))
    integrator = INTEGRATORS[settings.integrator]
    guide = driving_part(target)
    trajectory = HamiltonianTrajectory(guide, manifold, jnp.asarray(step), settings.n_steps, integrator)
    return MetropolisHastings(target, trajectory)


def inner_updates(config: AtomsRun, manifold: Manifold, step: float) -> dict[str, Any]:
    """The trajectory of the model, or those among which the run chooses."""
    given = config.inner.n_steps
    numbers = LENGTHS if given == "auto" else (given,)
    return {
        f"n_steps = {number}": partial(inner_update, manifold=manifold, config=config, step=step, n_steps=number)
        for number in numbers
    }


def inner_update(model: Target, manifold: Manifold, config: AtomsRun, step: float, n_steps: int) -> Update:
    """HMC of the model, whose trajectories propose."""
    in_single = config.inner.precision == "single" and config.model.guide is None
    guide = driving_part(model)
    guide = SinglePrecision(guide) if in_single else guide
    integrator = INTEGRATORS[config.inner.integrator]
    return MetropolisHastings(model, HamiltonianTrajectory(guide, manifold, jnp.asarray(step), n_steps, integrator))


def starting(key: Key[Array, ""], n_chains: int, structure: Structure, n_replicas: int | None = None) -> Array:
    """The structure, each atom of each chain, and of each replica where there are some, moved a little."""
    shape = (n_chains, *(() if n_replicas is None else (n_replicas,)), *structure.positions.shape)
    moved = SPREAD * jax.random.normal(key, shape, jnp.float64)
    places = jnp.asarray(structure.positions).reshape((1,) * (len(shape) - 2) + structure.positions.shape)
    return places + moved - jnp.mean(moved, axis=-2, keepdims=True)
