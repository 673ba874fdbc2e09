"""What a run of atoms samples: classical atoms in a volume, at a pressure, or rings of beads of quantum nuclei."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo import Manifold, Target
from slmc.system import Derived, Observable
from slmc.systems.atoms.beads_measured import recorded_of_beads, scalars_of_beads
from slmc.systems.atoms.calculated import CalculatedInCell, Confined, Coordinates, SoftSphere, calculated
from slmc.systems.atoms.guide import CalculatorGuide
from slmc.systems.atoms.masses import ANGSTROM_PER_FS, Massive
from slmc.systems.atoms.measured import BOLTZMANN, derived_from_energy, pair_observables, positions_of, scalars
from slmc.systems.atoms.path_integral import HBAR_SQUARED, PathIntegral, RingPolymer, positions_of_beads
from slmc.systems.atoms.pool import CalculatorPool
from slmc.systems.atoms.potential import MomentPotential
from slmc.systems.atoms.pressure import LOG_VOLUME, SCALED, ConstantPressure, breathing
from slmc.systems.atoms.pressure_measured import derived_at_pressure, recorded_at_pressure, scalars_at_pressure
from slmc.systems.atoms.settings import AtomsSettings
from slmc.systems.atoms.structure import Structure
from slmc.systems.atoms.updates import masses_of, starting

_VOLUME_SPREAD = 0.17
"""Of ln V, times √N: about what liquids have; crystals have half of it."""

_RING_START = 0.5
"""Of the spread of free rings, with which those of chains start: bonds keep them smaller."""


class Ensemble(NamedTuple):
    """The parts of a problem that depend on what is sampled.

    ``around(potential)`` is the model of the run with a potential for classical atoms in it; the rest is as in a
    ``Problem``. ``scalars(geometry)`` are all that there are, ``recorded(shown, reach)`` what is recorded and the
    fields, if some of them are to be shown, and distances of pairs up to a reach, if there is one.
    """

    target: Target
    manifold: Manifold
    start: Callable[[Key[Array, ""], int], Any]
    around: Callable[[Any], Target]
    scalars: Callable[[Any], dict[str, Observable]]
    recorded: Callable[[Mapping[str, Observable], float | None], tuple[tuple[Observable, ...], tuple[Observable, ...]]]
    derived: tuple[Derived, ...]


def ensemble_of(
    settings: AtomsSettings, structure: Structure, beta: float, pool: CalculatorPool, sphere: SoftSphere | None
) -> Ensemble:
    """The ensemble that the settings name."""
    if settings.ensemble == "npt":
        return _at_pressure(settings, structure, beta, pool)
    if settings.n_beads is not None:
        return _of_rings(settings, structure, beta, pool, sphere, settings.n_beads)
    return _canonical(settings, structure, beta, pool, sphere)


def _canonical(
    settings: AtomsSettings, structure: Structure, beta: float, pool: CalculatorPool, sphere: SoftSphere | None
) -> Ensemble:
    cell = structure.cell

    def recorded(shown: Mapping[str, Observable], reach: float | None) -> Any:
        return (*shown.values(), positions_of(structure)), () if reach is None else pair_observables(structure, reach)

    return Ensemble(
        Confined(calculated(pool, beta), beta, sphere),
        Massive(masses_of(structure, settings), beta, holds_centre=cell.is_periodic),
        partial(starting, structure=structure),
        lambda potential: potential,
        partial(scalars, structure),
        recorded,
        (derived_from_energy(cell, beta),),
    )


def _at_pressure(settings: AtomsSettings, structure: Structure, beta: float, pool: CalculatorPool) -> Ensemble:
    cell, pressure = structure.cell, settings.pressure
    assert pressure is not None
    volume = cell.volume
    spread = _VOLUME_SPREAD / math.sqrt(cell.n_atoms)
    inside = CalculatedInCell(pool, volume)

    def start(key: Key[Array, ""], n_chains: int) -> dict[str, Array]:
        key_atoms, key_volume = jax.random.split(key)
        log_volumes = 0.1 * spread * jax.random.normal(key_volume, (n_chains,), jnp.float64)
        return {SCALED: starting(key_atoms, n_chains, structure), LOG_VOLUME: log_volumes}

    return Ensemble(
        ConstantPressure(inside, cell.n_atoms, beta, pressure, volume, holds_centre=True),
        breathing(masses_of(structure, settings), beta, spread / settings.volume_time, holds_centre=True),
        start,
        partial(breathing_model, beta=beta, pressure=pressure),
        lambda geometry: scalars_at_pressure(structure, volume, scalars(structure, geometry)),
        partial(recorded_at_pressure, structure, volume),
        derived_at_pressure(cell, beta, pressure, BOLTZMANN),
    )


def _of_rings(
    settings: AtomsSettings,
    structure: Structure,
    beta: float,
    pool: CalculatorPool,
    sphere: SoftSphere | None,
    n_beads: int,
) -> Ensemble:
    """Springs have the masses of the structure; those of motion may be others, as of classical atoms."""
    around = partial(PathIntegral, masses=structure.masses, beta=beta, n_beads=n_beads)
    target = around(Confined(calculated(pool, beta), beta, sphere))
    moving = masses_of(structure, settings)
    # A centroid is 1/√P of its mode. With the frequency √P/βħ rings feel stiff bonds about as centroids do.
    speeds = ANGSTROM_PER_FS * np.sqrt(n_beads / (beta * moving))
    lightest = int(np.argmin(structure.masses))
    frequency = ANGSTROM_PER_FS * math.sqrt(n_beads / HBAR_SQUARED) / beta
    frequency *= math.sqrt(structure.masses[lightest] / moving[lightest])
    spreads = _RING_START / np.sqrt(target.springs[1:])

    def start(key: Key[Array, ""], n_chains: int) -> Array:
        key_atoms, key_rings = jax.random.split(key)
        centroids = math.sqrt(n_beads) * starting(key_atoms, n_chains, structure)[:, None]
        shape = (n_chains, n_beads - 1, *structure.positions.shape)
        rings = jnp.asarray(spreads)[None] * jax.random.normal(key_rings, shape, jnp.float64)
        return jnp.concatenate([centroids, rings], axis=1)

    return Ensemble(
        target,
        RingPolymer(target, speeds, frequency),
        start,
        around,
        lambda geometry: scalars_of_beads(structure, scalars(structure, geometry)),
        partial(recorded_of_beads, structure, n_beads),
        (),
    )


class PotentialInCell(eqx.Module):
    """U(r, V) of a learned potential, for atoms in a cell whose volume is ``volume`` where it is described."""

    potential: MomentPotential
    volume: float = eqx.field(static=True)

    def __call__(self, positions: Coordinates, volume: Float[Array, ""]) -> Float[Array, ""]:
        return self.potential.energy(positions, jnp.cbrt(volume / self.volume))


def breathing_model(potential: MomentPotential, beta: float, pressure: float) -> ConstantPressure:
    """The model of atoms at a pressure in GPa."""
    cell, volume = potential.cell, potential.cell.volume
    inside = PotentialInCell(potential, volume)
    return ConstantPressure(inside, cell.n_atoms, beta, pressure, volume, holds_centre=True)


def potential_of(model: Any) -> Any:
    """The potential for classical atoms, or the calculator in its place, in the model of a run."""
    if isinstance(model, PathIntegral):
        return model.classical
    if isinstance(model, ConstantPressure):
        inside: Any = model.energy
        return inside.potential
    return model


def with_potential(model: Any, potential: MomentPotential | CalculatorGuide) -> Any:
    """The model of a run with another potential in it."""
    if isinstance(model, PathIntegral):
        return eqx.tree_at(lambda model: model.classical, model, potential)
    if isinstance(model, ConstantPressure):
        return eqx.tree_at(lambda model: model.energy.potential, model, potential)
    return potential


def classical_copies(
    model: Any, configurations: Any
) -> tuple[Float[np.ndarray, "copy atom 3"], Float[np.ndarray, " copy"]]:
    """The positions of all copies of the atoms in configurations, and the factors by which their cells are longer."""
    if isinstance(model, PathIntegral):
        positions = np.asarray(jax.vmap(positions_of_beads)(jnp.asarray(configurations)))
        positions = positions.reshape(-1, *positions.shape[2:])
        return positions, np.ones(len(positions))
    if isinstance(model, ConstantPressure):
        scales = np.exp(np.asarray(configurations[LOG_VOLUME]) / 3)
        return scales[:, None, None] * np.asarray(configurations[SCALED]), scales
    return np.asarray(configurations), np.ones(len(configurations))
