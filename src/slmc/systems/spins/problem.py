"""The double-exchange model put together for a run: target, model, updates and what is measured."""

from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from slmc.lattice import n_sites
from slmc.montecarlo import (
    INTEGRATORS,
    HamiltonianTrajectory,
    LocalSweep,
    MetropolisHastings,
    MicrocanonicalTrajectory,
    SinglePrecision,
    Sphere,
    Target,
    Update,
)
from slmc.montecarlo.update import Label
from slmc.selflearning import CumulativeUpdate, fit_linear
from slmc.system import Fit, Problem, Sought, System, UserError, load_model
from slmc.systems.spins import observables
from slmc.systems.spins.dilution import diluted
from slmc.systems.spins.double_exchange import DoubleExchange
from slmc.systems.spins.green_sweep import GreensFunctionSweep
from slmc.systems.spins.heisenberg import Heisenberg
from slmc.systems.spins.measured import (
    BINDER_RATIOS,
    ELECTRONIC_OBSERVABLES,
    by_slowness,
    scalar_names,
    specific_heat,
    structure_factor,
)
from slmc.systems.spins.models import EffectiveModel, build_like, describe
from slmc.systems.spins.network import EquivariantNetwork
from slmc.systems.spins.settings import DoubleExchangeRun, InnerSettings
from slmc.systems.spins.sweeps import HeatBathSweep
from slmc.systems.spins.transformer import EquivariantTransformer

TRAJECTORY_LENGTHS = (2, 3, 5, 8)
"""Integrator steps of a trajectory among which ``inner.n_updates = "auto"`` chooses."""

GUIDE_UPDATES = (1, 2, 3, 4, 6)
"""Updates of the linear model, in a nested chain, among which it chooses instead."""

_MODEL_KEY = 98


def double_exchange(config: DoubleExchangeRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes; ``model.file`` is relative to ``directory``.

    Raises ``UserError`` naming the field that is wrong.
    """
    settings = config.target
    measured = by_slowness(scalar_names(config.measurement.observables, settings.shape))
    target = settings.build(observables=any(observable in ELECTRONIC_OBSERVABLES for observable in measured))
    is_nested = config.inner.nested == "linear"
    of_slow = [observable.of_configuration for observable in measured if observable.slow]
    slow = of_slow[0] if of_slow else observables.magnetization_squared
    return Problem(
        target=target,
        manifold=Sphere(),
        start=partial(_start, settings=settings),
        exact=partial(exact_update, settings=config.exact, local_decisions=settings.local_decisions),
        observables=measured,
        model=_model(config, directory) if config.learns else None,
        inner=_inner_updates(config.inner),
        fit=Fit(
            solve=solve_linear_part,
            constant=constant_of,
            guide=Heisenberg(settings.shape, temperature=settings.temperature) if is_nested else None,
            fit_guide=_solve if is_nested else None,
            observable=slow,
            describe=describe,
        ),
        fields=(structure_factor(len(settings.shape)),),
        derived=(*BINDER_RATIOS, specific_heat(settings.temperature, n_sites(settings.shape))),
        n_samples=settings.n_samples,
        equation=_equation(settings),
        axes=(*"xyz"[: len(settings.shape)], "component"),
        sought=None if settings.filling is None else _chemical_potential(settings.filling),
    )


def _equation(settings: Any) -> str:
    """The Hamiltonian as conventions.md has it, and the lattice."""
    lattice = " × ".join(map(str, settings.shape))
    return (
        "<i>H</i> = −<i>t</i> Σ<sub>⟨<i>ij</i>⟩α</sub> "
        "(<i>c</i>†<sub><i>i</i>α</sub><i>c</i><sub><i>j</i>α</sub> + h.c.)"
        " + (<i>J</i>/2) Σ<sub><i>i</i></sub> <b>S</b><sub><i>i</i></sub>·<i>c</i>†<sub><i>i</i></sub><b>σ</b>"
        "<i>c</i><sub><i>i</i></sub> − μ<i>N</i> with classical |<b>S</b>| = 1, electrons traced out; "
        f"{lattice} sites, periodic in all directions"
    )


def _start(key: Key[Array, ""], n_chains: int, settings: Any) -> Array:
    """Random spins; on a diluted lattice on random sites, the same ones in all chains of a sample."""
    spins = Sphere().random(key, (n_chains, *settings.shape, 3))
    if settings.concentration == 1:
        return spins
    return diluted(jax.random.fold_in(key, 1), spins, settings.concentration, settings.n_samples)


def exact_update(target: Target, settings: Any, local_decisions: str = "weights") -> Update:
    """The update without a model that the section [exact] describes."""
    if settings.update == "local":
        if local_decisions != "weights" and isinstance(target, DoubleExchange) and target.weight == "poles":
            return GreensFunctionSweep(target, jnp.asarray(0.3))
        return LocalSweep(target, Sphere(), jnp.asarray(0.3))
    kind = MicrocanonicalTrajectory if settings.update == "microcanonical" else HamiltonianTrajectory
    integrator = INTEGRATORS[settings.integrator]
    return MetropolisHastings(target, kind(target, Sphere(), jnp.asarray(0.3), settings.n_steps, integrator))


def _chemical_potential(filling: float) -> Sought:
    """The chemical potential for the wanted filling."""

    def adjusted(target: Target, configurations: Array, seen: Any, share: float) -> Target:
        assert isinstance(target, DoubleExchange)
        old, wanted = target.chemical_potential, target.at_filling(filling, configurations).chemical_potential
        return eqx.tree_at(lambda filled: filled.chemical_potential, target, old + share * (wanted - old))

    def values(target: Any) -> dict[str, float]:
        return {"chemical_potential": float(target.chemical_potential)}

    return Sought(adjusted, values)


def _inner_updates(settings: InnerSettings) -> dict[str, Any]:
    """The inner update, or those among which the run chooses."""
    is_nested = settings.nested == "linear"
    name = "n_guide_updates" if is_nested else "n_steps"
    numbers: tuple[int, ...] = (getattr(settings, name),)
    if settings.n_updates == "auto" and (is_nested or settings.update == "hmc"):
        numbers = GUIDE_UPDATES if is_nested else TRAJECTORY_LENGTHS
    make = nested_update if is_nested else inner_update
    kinds = {f"{name} = {number}": settings.model_copy(update={name: number}) for number in numbers}
    if not is_nested and settings.update != "hmc":
        kinds = {f"{settings.update} sweep": settings}
    choices = {words: partial(make, settings=kind) for words, kind in kinds.items()}
    if is_nested and settings.n_updates == "auto":
        choices["linear model alone"] = partial(guide_update, settings=settings)
    return choices


def inner_update(model: Any, settings: InnerSettings) -> Update:
    """The update that drives the chain of the effective model; keeps detailed balance."""
    if settings.update == "heat-bath":
        return HeatBathSweep(model, settings.sweeps == "one by one")
    if settings.update == "local":
        return LocalSweep(model, Sphere(), jnp.asarray(0.5))
    integrator = INTEGRATORS[settings.integrator]
    guide = SinglePrecision(model) if settings.precision == "single" else model
    trajectory = HamiltonianTrajectory(guide, Sphere(), jnp.asarray(0.3), settings.n_steps, integrator)
    return MetropolisHastings(model, trajectory)


def nested_update(model: Any, guide: Heisenberg, settings: InnerSettings) -> Update:
    """The update of a model that proposes with a chain of the linear guide; keeps detailed balance."""
    return MetropolisHastings(model, CumulativeUpdate(inner_update(guide, settings), settings.n_guide_updates))


def guide_update(model: Any, guide: Heisenberg, settings: InnerSettings) -> Update:
    """The update of the linear guide, which proposes without the model: better where that costs more than it gains."""
    return inner_update(guide, settings)


def linear_part(model: Any) -> Any:
    """The part of an effective model in whose parameters its log-weight is linear."""
    if isinstance(model, EquivariantNetwork):
        return model.linear
    return model.head if isinstance(model, EquivariantTransformer) else model


def constant_of(model: Any) -> Any:
    """The additive constant of a model."""
    part = linear_part(model)
    return part.constant if isinstance(model, EquivariantNetwork) else part.reduced_constant


def _solve(model: Heisenberg, labels: Label) -> Heisenberg:
    return fit_linear(model, labels, Sphere())


def solve_linear_part(model: Any, labels: Label) -> Any:
    """The model with its linear part fitted by least squares."""
    return fit_linear(model, labels, Sphere(), where=linear_part)


def _model(config: DoubleExchangeRun, directory: Path) -> EffectiveModel:
    """The model to start learning from."""
    shape, temperature = config.target.shape, config.target.temperature
    # The runner folds phases into the key of the seed; the model has one of its own.
    key = jax.random.fold_in(jax.random.key(config.seed), _MODEL_KEY)
    try:
        model = config.model.build(shape, temperature, key)
        if config.model.file is not None:
            model = load_model(directory / config.model.file, build_like)
            how = {"compiled": config.model.evaluation == "compiled"} if isinstance(model, EquivariantNetwork) else {}
            model = model.on_lattice(shape, temperature, **how)
    except ValueError as error:
        raise UserError(f"model.{error}") from None
    nested = config.inner.nested == "linear"
    needs_linear = (config.inner.update == "heat-bath" and not nested) or not config.learning.training_steps
    if needs_linear and not isinstance(model, Heisenberg):
        raise UserError(
            f"model.file = {config.model.file} holds no linear model, so that inner.update must not be heat-bath and "
            "learning.training_steps not 0."
        )
    if nested and isinstance(model, Heisenberg):
        raise UserError(f'model.file = {config.model.file} holds a linear model, so that inner.nested must be "no".')
    return model


DOUBLE_EXCHANGE = System(DoubleExchangeRun, double_exchange, build_like)
