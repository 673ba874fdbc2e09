"""Gauge theory put together for a run: target, effective action, updates and what is measured."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.lattice import Shape, n_sites
from slmc.montecarlo import (
    INTEGRATORS,
    HamiltonianTrajectory,
    LocalSweep,
    MetropolisHastings,
    Sequence,
    State,
    Target,
    Update,
)
from slmc.montecarlo.special_unitary import SpecialUnitary, as_matrices, as_points, reprojected
from slmc.montecarlo.target import Configuration
from slmc.montecarlo.tuning import step_size_of
from slmc.montecarlo.update import Label
from slmc.selflearning import Learner, LearningSettings, centred, fit_linear
from slmc.statistics import Estimate, jackknife
from slmc.systems.gauge.fermion_operator import FermionOperator
from slmc.systems.gauge.gauge_action import EffectiveAction, GaugeAction
from slmc.systems.gauge.heat_bath import GaugeHeatBath
from slmc.systems.gauge.ildg import read_ildg
from slmc.systems.gauge.links import Links, random_links
from slmc.systems.gauge.nersc import BEGIN, read_nersc
from slmc.systems.gauge.observables import plaquette, polyakov_loop, staggered_condensate, wilson_loop
from slmc.systems.gauge.pseudofermions import (
    Dynamical,
    PseudofermionAction,
    PseudofermionTrajectory,
    RefreshPseudofermions,
)
from slmc.systems.gauge.settings import GaugeInnerSettings, GaugeTarget, describe
from slmc.systems.gauge.staggered_fermion import Staggered

SCALARS: dict[str, tuple[Callable[[Links], Array], str]] = {
    "plaquette": (plaquette, "Re tr U_μν/N, average over sites and planes"),
    "rectangle": (lambda links: wilson_loop(links, 1, 2), "Re tr R_μν/N of 1×2 loops, average over sites and planes"),
    "polyakov_loop": (lambda links: polyakov_loop(links).real, "Re L, L = tr Pol/N in time, average over space"),
    "polyakov_loop_modulus": (lambda links: jnp.abs(polyakov_loop(links)), "modulus of the Polyakov loop"),
    "polyakov_loop_squared": (lambda links: jnp.abs(polyakov_loop(links)) ** 2, "its square"),
    "polyakov_loop_fourth_power": (lambda links: jnp.abs(polyakov_loop(links)) ** 4, "its fourth power"),
}
"""Observables of the links alone: function and description. All are pure numbers."""

CONDENSATE = "condensate"
"""The observable that comes with the exact weight of staggered fermions."""

TRAJECTORY_LENGTHS = (2, 3, 5, 8)
"""Integrator steps of a trajectory among which ``inner.n_updates = "auto"`` chooses."""


class GaugeProblem(NamedTuple):
    """Everything a run needs to know of gauge theory.

    Chains start from ``start``, or from random links where it is ``None``. With ``keeps_model`` the effective action is
    used as it is, and learning measures its residual and tunes the inner chain. With a ``PseudofermionAction`` as
    target, which no effective action of the links can stand for, ``model`` must be ``None``; a configuration is then
    ``Dynamical``, and ``n_gauge_steps`` of the gauge force are made inside each drift.
    """

    target: GaugeTarget
    model: EffectiveAction | None
    keeps_model: bool
    exact_update: str
    exact_steps: int
    exact_integrator: str
    inner: GaugeInnerSettings
    learning: LearningSettings
    force_weight: float
    names: tuple[str, ...]
    start: Links | None = None
    n_gauge_steps: int = 0

    @property
    def shape(self) -> Shape:
        """The extents of the lattice."""
        return self._lattice.shape

    @property
    def _lattice(self) -> GaugeAction | FermionOperator:
        return self.target if isinstance(self.target, GaugeAction) else self.target.operator

    @property
    def n_samples(self) -> int:
        """There is no disorder to average over."""
        return 1

    @property
    def n_points(self) -> int:
        """The number of links."""
        return len(self.shape) * n_sites(self.shape)

    @property
    def figure_of_merit(self) -> str:
        """The observable whose effective samples are quoted: the slowest of those measured."""
        return next((name for name in ("polyakov_loop", "plaquette") if name in self.names), "log_weight")

    def random_configurations(self, key: Key[Array, ""], n_chains: int) -> Configuration:
        """The links from which chains start: random ones, or the same for all. Pseudofermions, drawn anew, are 0."""
        if self.start is None:
            links = random_links(key, self.shape, self._lattice.n_colours, n_chains)
        else:
            links = jnp.broadcast_to(self.start, (n_chains, *self.start.shape))
        if not isinstance(self.target, PseudofermionAction):
            return links
        return Dynamical(links, jnp.zeros((n_chains, *self.target.pseudofermion_shape), jnp.complex128))

    def exact(self, target: Target, step_size: Any = 0.1) -> Update:
        """The update without a model."""
        if self.exact_update == "local":
            return LocalSweep(target, SpecialUnitary(), step_size)
        integrator = INTEGRATORS[self.exact_integrator]
        if isinstance(target, PseudofermionAction):
            moved = PseudofermionTrajectory(target, step_size, self.exact_steps, integrator, self.n_gauge_steps)
            return Sequence((RefreshPseudofermions(target), MetropolisHastings(target, moved)))
        trajectory = HamiltonianTrajectory(target, SpecialUnitary(), step_size, self.exact_steps, integrator)
        return MetropolisHastings(target, trajectory)

    def learner(self, target: Target, exact: Update) -> Learner:
        solve = partial(fit_linear, manifold=SpecialUnitary(), force_weight=self.force_weight)
        return Learner(
            target,
            SpecialUnitary(),
            exact,
            tuple(partial(inner_update, settings=kind) for kind in self._inner_kinds()),
            None if self.inner.update == "heat-bath" else step_size_of,
            None if self.keeps_model else solve,
            self.learning,
            observable=SCALARS["polyakov_loop"][0],
        )

    @property
    def inner_names(self) -> tuple[str, ...]:
        """What tells the inner updates apart among which the run chooses."""
        if self.inner.update == "heat-bath":
            return ("heat bath",)
        return tuple(f"n_steps = {kind.n_steps}" for kind in self._inner_kinds())

    def _inner_kinds(self) -> list[GaugeInnerSettings]:
        """The inner update, or those among which the run chooses."""
        if self.inner.n_updates == "auto" and self.inner.update == "hmc":
            return [self.inner.model_copy(update={"n_steps": number}) for number in TRAJECTORY_LENGTHS]
        return [self.inner]

    def finished(self, model: Any, labels: Label) -> Any:
        """The model as it is stored: its constant set so that predicted and exact log-weights agree in the mean."""
        return centred(model, labels, lambda one: one.constant)

    def adjusted(self, target: Target, configurations: Configuration, share: float) -> Target:
        """The target as it is: all its parameters are given."""
        return target

    def observe(self, state: State) -> dict[str, Array]:
        """The scalars measured on the links of a chain, and the condensate that came with their exact weight."""
        links = state.configuration.links if isinstance(state.configuration, Dynamical) else state.configuration
        found = {name: SCALARS[name][0](links) for name in self.names if name in SCALARS}
        if CONDENSATE in self.names:
            assert isinstance(self._lattice, Staggered)
            found[CONDENSATE] = staggered_condensate(self._lattice, state.observables["trace_inverse"])
        return found

    def observe_fields(self, state: State) -> dict[str, Array]:
        """No arrays are measured."""
        return {}

    def found(self, target: Target) -> dict[str, float]:
        """No parameter of the target is found by the run."""
        return {}

    def describe_model(self, model: Any) -> dict[str, Any]:
        """How to build a model of the same structure, for the model file."""
        return describe(model)

    def describe_variable(self, name: str) -> tuple[str, str]:
        """Units and description of a recorded variable."""
        if name == CONDENSATE:
            estimated = ", estimated from pseudofermions" if isinstance(self.target, PseudofermionAction) else ""
            return "1", f"tr M⁻¹/V of one staggered field, summed over colours, lattice units{estimated}"
        return "1", SCALARS[name][1] if name in SCALARS else ""

    def derived(self, series: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
        """Estimates that are no means: susceptibility and Binder ratio of the Polyakov loop."""
        found = {}
        transverse_size = n_sites(self.shape[:-1])
        if "polyakov_loop_modulus" in series:
            found["polyakov_susceptibility"] = jackknife(
                lambda one: transverse_size * float(np.var(one["modulus"])),
                {"modulus": series["polyakov_loop_modulus"]},
            )
        if "polyakov_loop_squared" in series:
            found["binder_polyakov_loop"] = jackknife(
                lambda one: float(np.mean(one["squared"] ** 2) / np.mean(one["squared"]) ** 2),
                {"squared": series["polyakov_loop_squared"]},
            )
        return found


def inner_update(model: EffectiveAction, settings: GaugeInnerSettings) -> Update:
    """The update that drives the chain of the effective action; keeps detailed balance."""
    if settings.update == "heat-bath":
        reflect = GaugeHeatBath(model, over_relaxation=True)
        return Sequence((reflect, GaugeHeatBath(model), reflect))
    integrator = INTEGRATORS[settings.integrator]
    trajectory = HamiltonianTrajectory(model, SpecialUnitary(), jnp.asarray(0.1), settings.n_steps, integrator)
    return MetropolisHastings(model, trajectory)


def stored_links(path: Path, shape: Shape) -> Links:
    """The links of a NERSC or an ILDG file, projected on the group where they were written in single precision.

    Raises ``ValueError`` for a file that is damaged, of neither format, or of another lattice, ``OSError`` for one that
    cannot be read.
    """
    with path.open("rb") as file:
        is_nersc = file.read(len(BEGIN)) == BEGIN.encode()
    links = read_nersc(path) if is_nersc else read_ildg(path)
    if links.shape[1:5] != tuple(shape):
        raise ValueError(f"{path} holds links of a lattice {list(links.shape[1:5])}, not {list(shape)}.")
    return as_points(reprojected(as_matrices(links)))


def scalar_names(wanted: tuple[str, ...] | None, fermions: str) -> tuple[str, ...]:
    """The observables to measure, checked. Raises ``ValueError`` for those that are not known with these fermions."""
    known = (*SCALARS, CONDENSATE) if fermions == "staggered" else tuple(SCALARS)
    names = known if wanted is None else wanted
    if not names:
        raise ValueError(f"measurement.observables must list at least one of {', '.join(known)}")
    for name in names:
        if name == CONDENSATE and name not in known:
            raise ValueError(
                f'measurement.observables: {name!r} needs target.fermions = "staggered"; known are {", ".join(known)}'
            )
        if name not in known:
            raise ValueError(f"measurement.observables: {name!r} is unknown; known are {', '.join(known)}")
    return tuple(names)
