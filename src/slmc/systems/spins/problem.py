"""A spin system put together for a run: target, model, updates and what is measured."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.lattice import n_sites
from slmc.montecarlo import (
    INTEGRATORS,
    HamiltonianTrajectory,
    LocalSweep,
    MetropolisHastings,
    SinglePrecision,
    Sphere,
    State,
    Target,
    Update,
)
from slmc.montecarlo.tuning import step_size_of
from slmc.montecarlo.update import Label
from slmc.selflearning import CumulativeUpdate, Learner, LearningSettings, centred, fit_linear
from slmc.statistics import Estimate, jackknife
from slmc.systems.spins import observables
from slmc.systems.spins.dilution import diluted
from slmc.systems.spins.double_exchange import DoubleExchange
from slmc.systems.spins.heisenberg import Heisenberg
from slmc.systems.spins.network import EquivariantNetwork
from slmc.systems.spins.settings import InnerSettings, describe
from slmc.systems.spins.sweeps import HeatBathSweep
from slmc.systems.spins.transformer import EquivariantTransformer

SCALARS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "magnetization": (observables.magnetization, "|m|, site average of the spins"),
    "magnetization_squared": (observables.magnetization_squared, "m²"),
    "staggered_magnetization": (observables.staggered_magnetization, "|m_st|, site average with the sign (−1)^(x+y+…)"),
    "staggered_magnetization_squared": (observables.staggered_magnetization_squared, "m_st²"),
}
"""Observables of the spins alone: function and description. All are pure numbers."""

ELECTRONIC = {
    "energy": ("t", "Σ E_n f_n per site, without the chemical potential"),
    "density": ("electrons per site", "Σ f_n per site"),
    "grand_energy": ("t", "Σ (E_n − μ) f_n of the lattice"),
    "energy_variance": ("t²", "Σ (E_n − μ)² f_n (1 − f_n) of the lattice"),
}
"""Observables that come with the exact evaluation: units and description."""


TRAJECTORY_LENGTHS = (2, 3, 5, 8)
"""Integrator steps of a trajectory among which ``inner.n_updates = "auto"`` chooses."""

GUIDE_UPDATES = (1, 2, 3, 4, 6)
"""Updates of the linear model, in a nested chain, among which it chooses instead."""


class SpinProblem(NamedTuple):
    """Everything a run needs to know of a spin system."""

    target: DoubleExchange
    model: Any
    exact_update: str
    exact_steps: int
    exact_integrator: str
    inner: InnerSettings
    learning: LearningSettings
    names: tuple[str, ...]
    filling: float | None
    concentration: float = 1.0
    n_samples: int = 1

    @property
    def n_points(self) -> int:
        return n_sites(self.target.shape)

    @property
    def figure_of_merit(self) -> str:
        """The observable whose effective samples are quoted: the slowest of those measured."""
        slow = ("staggered_magnetization_squared", "magnetization_squared")
        return next((name for name in slow if name in self.names), "log_weight")

    def random_configurations(self, key: Key[Array, ""], n_chains: int) -> Array:
        """Random spins; on a diluted lattice on random sites, the same ones in all chains of a sample."""
        spins = Sphere().random(key, (n_chains, *self.target.shape, 3))
        if self.concentration == 1:
            return spins
        return diluted(jax.random.fold_in(key, 1), spins, self.concentration, self.n_samples)

    def exact(self, target: Target, step_size: Any = 0.3) -> Update:
        """The update without a model."""
        if self.exact_update == "local":
            return LocalSweep(target, Sphere(), step_size)
        integrator = INTEGRATORS[self.exact_integrator]
        trajectory = HamiltonianTrajectory(target, Sphere(), step_size, self.exact_steps, integrator)
        return MetropolisHastings(target, trajectory)

    def learner(self, target: Target, exact: Update) -> Learner:
        assert isinstance(target, DoubleExchange)
        tuned = None if self.inner.update == "heat-bath" else step_size_of
        make = nested_update if self._is_nested else inner_update
        guide = Heisenberg(target.shape, temperature=float(target.temperature)) if self._is_nested else None
        return Learner(
            target,
            Sphere(),
            exact,
            tuple(partial(make, settings=kind) for kind in self._inner_kinds()),
            tuned,
            _solve_linear_part,
            self.learning,
            guide,
            _solve if self._is_nested else None,
            SCALARS[self.figure_of_merit][0] if self.figure_of_merit in SCALARS else observables.magnetization_squared,
        )

    @property
    def _is_nested(self) -> bool:
        return self.inner.nested == "linear"

    @property
    def inner_names(self) -> tuple[str, ...]:
        """What tells the inner updates apart among which the run chooses."""
        name = "n_guide_updates" if self._is_nested else "n_steps"
        return tuple(f"{name} = {getattr(kind, name)}" for kind in self._inner_kinds())

    def _inner_kinds(self) -> list[InnerSettings]:
        """The inner update, or those among which the run chooses."""
        if self.inner.n_updates == "auto" and self._is_nested:
            return [self.inner.model_copy(update={"n_guide_updates": number}) for number in GUIDE_UPDATES]
        if self.inner.n_updates == "auto" and self.inner.update == "hmc":
            return [self.inner.model_copy(update={"n_steps": number}) for number in TRAJECTORY_LENGTHS]
        return [self.inner]

    def finished(self, model: Any, labels: Label) -> Any:
        """The model as it is stored: its constant set so that predicted and exact log-weights agree in the mean."""
        return centred(model, labels, _constant)

    def adjusted(self, target: Target, configurations: Array, share: float) -> Target:
        """The target with its chemical potential moved by ``share`` of the way to that for the wanted filling."""
        assert isinstance(target, DoubleExchange)
        if self.filling is None:
            return target
        old, wanted = target.chemical_potential, target.at_filling(self.filling, configurations).chemical_potential
        return eqx.tree_at(lambda one: one.chemical_potential, target, old + share * (wanted - old))

    def observe(self, state: State) -> dict[str, Array]:
        """The scalars measured on the configuration of a chain, and those that came with its exact weight."""
        spins = {name: SCALARS[name][0](state.configuration) for name in self.names if name in SCALARS}
        return {**spins, **{name: state.observables[name] for name in self.names if name in ELECTRONIC}}

    def observe_fields(self, state: State) -> dict[str, Array]:
        """Arrays measured on the configuration of a chain, kept as block means."""
        return {"structure_factor": observables.structure_factor(state.configuration)}

    def found(self, target: Target) -> dict[str, float]:
        """Parameters of the target that the run itself has found."""
        assert isinstance(target, DoubleExchange)
        return {} if self.filling is None else {"chemical_potential": float(target.chemical_potential)}

    def describe_model(self, model: Any) -> dict[str, Any]:
        """How to build a model of the same structure, for the model file."""
        return describe(model)

    def describe_variable(self, name: str) -> tuple[str, str]:
        """Units and description of a recorded variable."""
        if name in SCALARS:
            return "1", SCALARS[name][1]
        if name == "structure_factor":
            return "1", "S(q), block mean, q_a = 2π n_a / L_a"
        return ELECTRONIC.get(name, ("1", ""))

    def derived(self, series: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
        """Estimates that are no means: Binder ratios and the specific heat."""
        found = {}
        for name in ("magnetization", "staggered_magnetization"):
            squared = series.get(f"{name}_squared")
            if squared is not None:
                found[f"binder_{name}"] = jackknife(
                    lambda one: observables.binder_ratio(one["m"]), {"m": squared}, n_samples=self.n_samples
                )
        if "grand_energy" in series and "energy_variance" in series:
            temperature = float(self.target.temperature)

            def heat(one: Mapping[str, np.ndarray]) -> float:
                return observables.specific_heat(
                    one["grand_energy"], one["energy_variance"], temperature, self.n_points
                )

            names = ("grand_energy", "energy_variance")
            found["specific_heat"] = jackknife(heat, {name: series[name] for name in names}, n_samples=self.n_samples)
        return found


def inner_update(model: Any, settings: InnerSettings) -> Update:
    """The update that drives the chain of the effective model; keeps detailed balance."""
    if settings.update == "heat-bath":
        return HeatBathSweep(model)
    if settings.update == "local":
        return LocalSweep(model, Sphere(), jnp.asarray(0.5))
    integrator = INTEGRATORS[settings.integrator]
    guide = SinglePrecision(model) if settings.precision == "single" else model
    trajectory = HamiltonianTrajectory(guide, Sphere(), jnp.asarray(0.3), settings.n_steps, integrator)
    return MetropolisHastings(model, trajectory)


def nested_update(model: Any, guide: Heisenberg, settings: InnerSettings) -> Update:
    """The update of a model that proposes with a chain of the linear guide; keeps detailed balance."""
    return MetropolisHastings(model, CumulativeUpdate(inner_update(guide, settings), settings.n_guide_updates))


def linear_part(model: Any) -> Any:
    """The part of an effective model in whose parameters its log-weight is linear."""
    if isinstance(model, EquivariantNetwork):
        return model.linear
    return model.head if isinstance(model, EquivariantTransformer) else model


def _constant(model: Any) -> Any:
    part = linear_part(model)
    return part.constant if isinstance(model, EquivariantNetwork) else part.reduced_constant


def _solve(model: Heisenberg, labels: Label) -> Heisenberg:
    return fit_linear(model, labels, Sphere())


def _solve_linear_part(model: Any, labels: Label) -> Any:
    return fit_linear(model, labels, Sphere(), where=linear_part)


def scalar_names(wanted: tuple[str, ...] | None, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The observables to measure, checked. Raises ``ValueError`` for unknown ones and staggered ones on odd extents."""
    known = (*SCALARS, *ELECTRONIC)
    names = known if wanted is None else wanted
    if not names:
        raise ValueError(f"measurement.observables must list at least one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ValueError(f"measurement.observables: {name!r} is unknown; known are {', '.join(known)}")
        if name.startswith("staggered") and any(extent % 2 and extent > 1 for extent in shape):
            others = ", ".join(one for one in known if not one.startswith("staggered"))
            raise ValueError(
                f"target.shape = {list(shape)} has an odd extent, on which {name} is not defined; use even extents, or "
                f"list only others in measurement.observables ({others})"
            )
    return tuple(names)
