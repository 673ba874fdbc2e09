"""What runs of gauge theory measure: observables with words and symbols, and what is derived from them."""

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from slmc.lattice import Shape, n_sites
from slmc.montecarlo import Configuration
from slmc.system import Derived, Observable, chosen_names
from slmc.systems.gauge.domain_wall import DomainWall
from slmc.systems.gauge.fermion_operator import FermionOperator
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.observables import plaquette, point_source, polyakov_loop, staggered_condensate, wilson_loop
from slmc.systems.gauge.pseudofermions import Dynamical
from slmc.systems.gauge.solvers import Solver
from slmc.systems.gauge.staggered_fermion import Staggered

CONDENSATE = "condensate"
"""The observable that comes with the exact weight of staggered fermions."""

CORRELATOR = "pion_correlator"
"""An array, which of staggered and Wilson fermions is measured where it is named."""


def links_of(configuration: Configuration) -> Links:
    """The links of a configuration with pseudofermions, or without."""
    return configuration.links if isinstance(configuration, Dynamical) else configuration


def _modulus_to_the(power: int, configuration: Configuration) -> Array:
    return jnp.abs(polyakov_loop(links_of(configuration))) ** power


LINK_OBSERVABLES = (
    Observable(
        "plaquette",
        lambda configuration: plaquette(links_of(configuration)),
        description="Re tr U_μν/N, average over sites and planes",
        words="plaquette",
        mathtext="$P$",
        html="<i>P</i>",
        traced=True,
    ),
    Observable(
        "rectangle",
        lambda configuration: wilson_loop(links_of(configuration), 1, 2),
        description="Re tr R_μν/N of 1×2 loops, average over sites and planes",
        words="rectangle",
        mathtext="$R$",
        html="<i>R</i>",
    ),
    Observable(
        "polyakov_loop",
        lambda configuration: polyakov_loop(links_of(configuration)).real,
        description="Re L, L = tr Pol/N in time, average over space",
        words="Polyakov loop",
        mathtext=r"$\mathrm{Re}\,L$",
        html="Re <i>L</i>",
        slow=True,
        traced=True,
    ),
    Observable(
        "polyakov_loop_modulus",
        lambda configuration: jnp.abs(polyakov_loop(links_of(configuration))),
        description="modulus of the Polyakov loop",
        words="modulus of the Polyakov loop",
        mathtext="$|L|$",
        html="|<i>L</i>|",
    ),
    Observable(
        "polyakov_loop_squared",
        partial(_modulus_to_the, 2),
        description="its square",
        words="its square",
        mathtext="$|L|^2$",
        html="|<i>L</i>|<sup>2</sup>",
    ),
    Observable(
        "polyakov_loop_fourth_power",
        partial(_modulus_to_the, 4),
        description="its fourth power",
        words="its fourth power",
        mathtext="$|L|^4$",
        html="|<i>L</i>|<sup>4</sup>",
    ),
)
"""Observables of the links alone. All are pure numbers."""


def condensate(operator: Staggered, estimated: bool) -> Observable:
    """The chiral condensate, exact or ``estimated`` from pseudofermions."""
    how = ", estimated from pseudofermions" if estimated else ""
    return Observable(
        CONDENSATE,
        of_weight=lambda observables: staggered_condensate(operator, observables["trace_inverse"]),
        description=f"tr M⁻¹/V of one staggered field, summed over colours, lattice units{how}",
        words="chiral condensate",
        mathtext=r"$\bar\psi\psi$",
        html="<i>ψ̄ψ</i>",
        traced=True,
    )


def quarks(operator: FermionOperator, solver: Solver) -> tuple[Observable, ...]:
    """What a point source tells; of domain walls, of the quarks on them, from the same solutions."""
    correlator = Observable(
        CORRELATOR,
        lambda configuration: point_source(operator, links_of(configuration), solver).correlator,
        description="C(t) = Σ_x tr |M⁻¹(x, t; 0)|² of a point source at the origin",
        words="pion correlator",
        mathtext="$C(t)$",
        html="<i>C</i>(<i>t</i>)",
        shown=False,
        axes=("time",),
    )
    if not isinstance(operator, DomainWall):
        return (correlator,)
    return (
        Observable(
            CONDENSATE,
            lambda configuration: point_source(operator, links_of(configuration), solver).trace,
            description="Re tr q(0; 0), q the propagator of the quarks on the walls: tr q/V on average, lattice units",
            words="chiral condensate",
            mathtext=r"$\bar\psi\psi$",
            html="<i>ψ̄ψ</i>",
            traced=True,
        ),
        Observable(
            "pion_susceptibility",
            lambda configuration: jnp.sum(point_source(operator, links_of(configuration), solver).correlator),
            description="Σ_t C(t), the pion correlator summed over all distances, lattice units",
            words="pion susceptibility",
            mathtext=r"$\chi_\pi$",
            html="<i>χ<sub>π</sub></i>",
        ),
        correlator,
    )


def residual_mass_of_walls(operator: DomainWall) -> Derived:
    """m_res = ⟨Re tr q⟩/⟨tr q†q⟩ − m."""
    return Derived(
        "residual_mass",
        partial(_residual_mass, mass=float(operator.mass)),
        (CONDENSATE, "pion_susceptibility"),
        words="residual mass",
        mathtext=r"$m_\mathrm{res}$",
        html="<i>m</i><sub>res</sub>",
    )


def _residual_mass(series: Mapping[str, np.ndarray], mass: float) -> float:
    return float(np.mean(series[CONDENSATE]) / np.mean(series["pion_susceptibility"])) - mass


def derived_from_loops(shape: Shape) -> tuple[Derived, ...]:
    """Susceptibility and Binder ratio of the Polyakov loop."""
    return (
        Derived(
            "polyakov_susceptibility",
            partial(_susceptibility, transverse_size=n_sites(shape[:-1])),
            ("polyakov_loop_modulus",),
            words="susceptibility of the Polyakov loop",
            mathtext=r"$\chi_L$",
            html="<i>χ<sub>L</sub></i>",
        ),
        Derived(
            "binder_polyakov_loop",
            _binder_ratio,
            ("polyakov_loop_squared",),
            words="Binder ratio of the Polyakov loop",
            mathtext=r"$\langle |L|^4\rangle/\langle |L|^2\rangle^2$",
            html="⟨|<i>L</i>|<sup>4</sup>⟩/⟨|<i>L</i>|<sup>2</sup>⟩<sup>2</sup>",
        ),
    )


def _susceptibility(series: Mapping[str, np.ndarray], transverse_size: int) -> float:
    return transverse_size * float(np.var(series["polyakov_loop_modulus"]))


def _binder_ratio(series: Mapping[str, np.ndarray]) -> float:
    squared = series["polyakov_loop_squared"]
    return float(np.mean(squared**2) / np.mean(squared) ** 2)


def observable_names(wanted: tuple[str, ...] | None, fermions: str) -> tuple[str, ...]:
    """The observables to measure, checked. Raises ``ValueError`` for those that are not known with these fermions."""
    links = tuple(observable.name for observable in LINK_OBSERVABLES)
    of_fermions = {
        "staggered": (CONDENSATE, CORRELATOR),
        "wilson": (CORRELATOR,),
        "domain-wall": (CONDENSATE, "pion_susceptibility", CORRELATOR),
    }.get(fermions, ())
    known = (*links, *of_fermions)
    if CONDENSATE in (wanted or ()) and CONDENSATE not in known:
        raise ValueError(
            f'measurement.observables: {CONDENSATE!r} needs target.fermions = "staggered" or "domain-wall"; known are '
            f"{', '.join(known)}"
        )
    if wanted is None and fermions != "domain-wall":
        return tuple(name for name in known if name != CORRELATOR)
    return chosen_names(wanted, known)


def scalar_names(wanted: tuple[str, ...] | None, fermions: str) -> tuple[str, ...]:
    """Those of ``observable_names`` that are numbers."""
    return tuple(name for name in observable_names(wanted, fermions) if name != CORRELATOR)
