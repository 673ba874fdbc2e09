"""What is measured of atoms at constant pressure, whose configurations are scaled positions and a logarithm of V."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.system import Derived, Observable
from slmc.systems.atoms.cell import Cell
from slmc.systems.atoms.measured import ENERGY, pair_observables, positions_of
from slmc.systems.atoms.pressure import GIGAPASCAL, LOG_VOLUME, SCALED, Breathing
from slmc.systems.atoms.structure import Structure

_GRAM_PER_CM3 = 1.66053906660
"""One u/Å³."""


def volume_of(configuration: Breathing, volume: float) -> Float[Array, ""]:
    """V = V_0 e^λ in Å³."""
    return volume * jnp.exp(configuration[LOG_VOLUME])


def density_of(configuration: Breathing, volume: float, mass: float) -> Float[Array, ""]:
    """In g/cm³, of ``mass`` in u."""
    return mass * _GRAM_PER_CM3 / volume_of(configuration, volume)


def _scaled(configuration: Breathing, function: Callable[[Any], Array], is_length: bool) -> Array:
    """A function of positions that is proportional to their size, or that is taken at the starting volume."""
    value = function(configuration[SCALED])
    return value * jnp.exp(configuration[LOG_VOLUME] / 3) if is_length else value


def _of_pairs(configuration: Breathing, function: Callable[..., Array]) -> Array:
    return function(configuration[SCALED], scale=jnp.exp(configuration[LOG_VOLUME] / 3))


def _positions(configuration: Breathing) -> Array:
    return configuration[SCALED]


def scalars_at_pressure(
    structure: Structure, volume: float, classical: Mapping[str, Observable]
) -> dict[str, Observable]:
    """All scalars by name, from those of classical atoms in a volume."""
    known = {
        "energy": ENERGY._replace(description="potential energy, without P V"),
        "volume": Observable(
            "volume",
            partial(volume_of, volume=volume),
            units="Å³",
            description="volume of the cell",
            words="volume",
            mathtext="$V$",
            html="<i>V</i>",
            traced=True,
        ),
        "density": Observable(
            "density",
            partial(density_of, volume=volume, mass=float(np.sum(structure.masses))),
            units="g/cm³",
            description="mass of the atoms over the volume of the cell",
            words="density",
            mathtext=r"$\rho$",
            html="<i>ρ</i>",
        ),
    }
    for name, about in classical.items():
        if about.of_configuration is not None:
            is_length = about.units == "Å"
            known[name] = about._replace(
                of_configuration=partial(_scaled, function=about.of_configuration, is_length=is_length),
                description=about.description + (", scaled to the starting volume" if about.units == "Å²" else ""),
            )
    return known


def recorded_at_pressure(
    structure: Structure, volume: float, shown: Mapping[str, Observable], reach: float | None
) -> tuple[tuple[Observable, ...], tuple[Observable, ...]]:
    """Scalars and positions, and g(r) as fields up to a reach; the volume too where it is not shown."""
    always = {"volume": scalars_at_pressure(structure, volume, {})["volume"]._replace(shown=False, traced=False)}
    positions = positions_of(structure)._replace(
        of_configuration=_positions,
        description="positions of all atoms scaled to the starting volume: times (V/V_0)^(1/3); not wrapped",
    )
    fields = () if reach is None else pair_observables(structure, reach, lambda of: partial(_of_pairs, function=of))
    return (*(always | dict(shown)).values(), positions), fields


def _enthalpy(series: Mapping[str, np.ndarray], pressure: float) -> np.ndarray:
    """U + PV in eV."""
    return np.asarray(series["energy"] + pressure * GIGAPASCAL * series["volume"])


def heat_capacity(series: Mapping[str, np.ndarray], beta: float, pressure: float, n_atoms: int) -> float:
    """c_P/k = [(3N − 3)/2 + β² var(U + PV)]/N."""
    return float(((3 * n_atoms - 3) / 2 + beta**2 * np.var(_enthalpy(series, pressure))) / n_atoms)


def compressibility(series: Mapping[str, np.ndarray], beta: float) -> float:
    """κ_T = β var V/⟨V⟩ in 1/GPa."""
    return float(beta * np.var(series["volume"]) / np.mean(series["volume"]) * GIGAPASCAL)


def expansion(series: Mapping[str, np.ndarray], beta: float, pressure: float, boltzmann: float) -> float:
    """α = k β² cov(V, U + PV)/⟨V⟩ in 1/K."""
    volumes, enthalpies = series["volume"], _enthalpy(series, pressure)
    covariance = np.mean((volumes - volumes.mean()) * (enthalpies - enthalpies.mean()))
    return float(boltzmann * beta**2 * covariance / volumes.mean())


def derived_at_pressure(cell: Cell, beta: float, pressure: float, boltzmann: float) -> tuple[Derived, ...]:
    """Heat capacity, compressibility and thermal expansion, by fluctuations."""
    both = ("energy", "volume")
    return (
        Derived(
            "heat_capacity",
            partial(heat_capacity, beta=beta, pressure=pressure, n_atoms=cell.n_atoms),
            both,
            units="1/atom",
            description="by fluctuations of U + PV, classical, at constant pressure",
            words="heat capacity",
            mathtext="$c_P/k_B$",
            html="<i>c<sub>P</sub></i>/<i>k</i><sub>B</sub>",
        ),
        Derived(
            "compressibility",
            partial(compressibility, beta=beta),
            ("volume",),
            units="1/GPa",
            description="isothermal, by fluctuations of the volume",
            words="compressibility",
            mathtext=r"$\kappa_T$",
            html="<i>κ<sub>T</sub></i>",
        ),
        Derived(
            "expansion",
            partial(expansion, beta=beta, pressure=pressure, boltzmann=boltzmann),
            both,
            units="1/K",
            description="of the volume with temperature, by fluctuations",
            words="thermal expansion",
            mathtext=r"$\alpha$",
            html="<i>α</i>",
        ),
    )
