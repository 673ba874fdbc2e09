"""What runs of Ising spins measure, and what is derived from it."""

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.system import Derived, Observable, chosen_names
from slmc.systems.spins.ising import IsingSpins, PlaquetteIsing

NAMES = ("magnetization", "magnetization_squared", "magnetization_fourth_power", "energy")


def scalar_names(wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The observables to measure, checked. Raises ``ValueError`` for unknown ones."""
    return chosen_names(wanted, NAMES)


def ising_observables(target: PlaquetteIsing, names: tuple[str, ...]) -> tuple[Observable, ...]:
    """Those observables of a target, in this order."""
    n_sites = int(np.prod(target.shape))
    known = (
        Observable(
            "magnetization",
            partial(_magnetization, power=1),
            description="|m|, site average of the spins",
            words="magnetization",
            mathtext="$|m|$",
            html="|<i>m</i>|",
            slow=True,
            traced=True,
        ),
        Observable(
            "magnetization_squared",
            partial(_magnetization, power=2),
            description="m²",
            words="magnetization squared",
            mathtext="$m^2$",
            html="<i>m</i><sup>2</sup>",
            traced=True,
        ),
        Observable(
            "magnetization_fourth_power",
            partial(_magnetization, power=4),
            description="m⁴",
            words="fourth power of the magnetization",
            mathtext="$m^4$",
            html="<i>m</i><sup>4</sup>",
        ),
        Observable(
            "energy",
            lambda spins: -target.log_weight(spins) * target.temperature / n_sites,
            units="J",
            description="H per site",
            words="energy per site",
            mathtext="$e$",
            html="<i>e</i>",
            traced=True,
        ),
    )
    by_name = {observable.name: observable for observable in known}
    return tuple(by_name[name] for name in names)


def derived_quantities(target: PlaquetteIsing) -> tuple[Derived, ...]:
    """Susceptibility, specific heat and Binder ratio."""
    n_sites, temperature = int(np.prod(target.shape)), float(target.temperature)
    return (
        Derived(
            "susceptibility",
            partial(_susceptibility, n_sites=n_sites, temperature=temperature),
            ("magnetization", "magnetization_squared"),
            units="1/J",
            description="N (⟨m²⟩ − ⟨|m|⟩²) / T",
            words="susceptibility",
            mathtext=r"$\chi$",
            html="<i>χ</i>",
        ),
        Derived(
            "specific_heat",
            partial(_specific_heat, n_sites=n_sites, temperature=temperature),
            ("energy",),
            description="N var(e) / T², per site",
            words="specific heat per site",
            mathtext="$c$",
            html="<i>c</i>",
        ),
        Derived(
            "binder_magnetization",
            _binder_ratio,
            ("magnetization_squared", "magnetization_fourth_power"),
            words="Binder ratio",
            mathtext=r"$\langle m^4\rangle/\langle m^2\rangle^2$",
            html="⟨<i>m</i><sup>4</sup>⟩/⟨<i>m</i><sup>2</sup>⟩²",
        ),
    )


def structure_factor(n_dimensions: int) -> Observable:
    """S(q) of a lattice of that many dimensions."""
    return Observable(
        "structure_factor",
        _structure_factor,
        description="S(q) = |Σ_r s_r e^{−iq·r}|² / N, block mean, q_a = 2π n_a / L_a",
        words="structure factor",
        mathtext="$S(q)$",
        html="<i>S</i>(<i>q</i>)",
        axes=tuple(f"q{axis}" for axis in range(n_dimensions)),
        drawn="wave vectors",
    )


def _structure_factor(spins: IsingSpins) -> Float[Array, "*lattice"]:
    return jnp.abs(jnp.fft.fftn(spins)) ** 2 / spins.size


def _magnetization(spins: IsingSpins, power: int) -> Float[Array, ""]:
    return jnp.abs(jnp.mean(spins)) ** power


def _susceptibility(series: Mapping[str, np.ndarray], n_sites: int, temperature: float) -> float:
    variance = np.mean(series["magnetization_squared"]) - np.mean(series["magnetization"]) ** 2
    return float(n_sites * variance / temperature)


def _specific_heat(series: Mapping[str, np.ndarray], n_sites: int, temperature: float) -> float:
    return float(n_sites * np.var(series["energy"]) / temperature**2)


def _binder_ratio(series: Mapping[str, np.ndarray]) -> float:
    return float(np.mean(series["magnetization_fourth_power"]) / np.mean(series["magnetization_squared"]) ** 2)
