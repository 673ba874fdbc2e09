"""What runs of classical spins measure: observables with units, words and symbols, and what is derived from them."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from slmc.lattice import Shape
from slmc.system import Derived, Observable, chosen_names
from slmc.systems.spins import observables

SPIN_OBSERVABLES = (
    Observable(
        "magnetization",
        observables.magnetization,
        description="|m|, site average of the spins",
        words="magnetization",
        mathtext=r"$|m|$",
        html="|<i>m</i>|",
    ),
    Observable(
        "magnetization_squared",
        observables.magnetization_squared,
        description="m²",
        words="magnetization squared",
        mathtext=r"$m^2$",
        html="<i>m</i><sup>2</sup>",
        slow=True,
        traced=True,
    ),
    Observable(
        "staggered_magnetization",
        observables.staggered_magnetization,
        description="|m_st|, site average with the sign (−1)^(x+y+…)",
        words="staggered magnetization",
        mathtext=r"$|m_{\mathrm{st}}|$",
        html="|<i>m</i><sub>st</sub>|",
    ),
    Observable(
        "staggered_magnetization_squared",
        observables.staggered_magnetization_squared,
        description="m_st²",
        words="staggered magnetization squared",
        mathtext=r"$m_{\mathrm{st}}^2$",
        html="<i>m</i><sub>st</sub><sup>2</sup>",
        slow=True,
        traced=True,
    ),
)
"""Observables of the spins alone."""

ELECTRONIC_OBSERVABLES = (
    Observable(
        "energy",
        units="t",
        description="Σ E_n f_n per site, without the chemical potential",
        words="energy per site",
        mathtext="$e$",
        html="<i>e</i>",
        traced=True,
    ),
    Observable(
        "density",
        units="electrons per site",
        description="Σ f_n per site",
        words="electrons per site",
        mathtext="$n$",
        html="<i>n</i>",
        traced=True,
    ),
    Observable(
        "grand_energy",
        units="t",
        description="Σ (E_n − μ) f_n of the lattice",
        words="energy less μ times particles",
        mathtext="$k$",
        html="<i>k</i>",
        shown=False,
    ),
    Observable(
        "energy_variance",
        units="t²",
        description="Σ (E_n − μ)² f_n (1 − f_n) of the lattice",
        words="quantum variance of k",
        mathtext=r"$\sigma_k^2$",
        html="<i>σ</i><sub><i>k</i></sub><sup>2</sup>",
        shown=False,
    ),
)
"""Observables that come with the exact weight."""

ALL_OBSERVABLES = {observable.name: observable for observable in (*SPIN_OBSERVABLES, *ELECTRONIC_OBSERVABLES)}


def _binder_ratio(series: Mapping[str, np.ndarray], name: str) -> float:
    return observables.binder_ratio(series[name])


BINDER_RATIOS = tuple(
    Derived(
        f"binder_{name}",
        partial(_binder_ratio, name=f"{name}_squared"),
        (f"{name}_squared",),
        words=words,
        mathtext=rf"$\langle {symbol}^4\rangle/\langle {symbol}^2\rangle^2$",
        html=f"⟨{html}<sup>4</sup>⟩/⟨{html}<sup>2</sup>⟩²",
    )
    for name, words, symbol, html in (
        ("magnetization", "Binder ratio", "m", "<i>m</i>"),
        (
            "staggered_magnetization",
            "staggered Binder ratio",
            r"m_{\mathrm{st}}",
            "<i>m</i><sub>st</sub>",
        ),
    )
)


def specific_heat(temperature: float, n_sites: int) -> Derived:
    """The specific heat of a spin-fermion target."""
    function = partial(_specific_heat, temperature=temperature, n_sites=n_sites)
    needs = ("grand_energy", "energy_variance")
    return Derived("specific_heat", function, needs, words="specific heat per site", mathtext="$c$", html="<i>c</i>")


def _specific_heat(series: Mapping[str, np.ndarray], temperature: float, n_sites: int) -> float:
    return observables.specific_heat(series["grand_energy"], series["energy_variance"], temperature, n_sites)


def structure_factor(n_dimensions: int) -> Observable:
    """S(q) of a lattice of that many dimensions."""
    return Observable(
        "structure_factor",
        observables.structure_factor,
        description="S(q), block mean, q_a = 2π n_a / L_a",
        words="structure factor",
        mathtext="$S(q)$",
        html="<i>S</i>(<i>q</i>)",
        axes=tuple(f"q{axis}" for axis in range(n_dimensions)),
        drawn="wave vectors",
    )


def scalar_names(wanted: tuple[str, ...] | None, shape: Shape) -> tuple[str, ...]:
    """The observables to measure, checked. Raises ``ValueError`` for unknown ones and staggered ones on odd extents."""
    known = tuple(ALL_OBSERVABLES)
    names = chosen_names(wanted, known)
    for name in names:
        if name.startswith("staggered") and any(extent % 2 and extent > 1 for extent in shape):
            others = ", ".join(other for other in known if not other.startswith("staggered"))
            raise ValueError(
                f"target.shape = {list(shape)} has an odd extent, on which {name} is not defined; use even extents, or "
                f"list only others in measurement.observables ({others})"
            )
    return names


def by_slowness(names: tuple[str, ...]) -> tuple[Observable, ...]:
    """Those observables in this order; of two slow ones only the staggered one is called slow."""
    chosen = tuple(ALL_OBSERVABLES[name] for name in names)
    if "staggered_magnetization_squared" not in names:
        return chosen
    return tuple(
        observable._replace(slow=observable.slow and observable.name.startswith("staggered")) for observable in chosen
    )
