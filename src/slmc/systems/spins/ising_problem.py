"""The plaquette Ising model put together for a run: the first self-learning Monte Carlo, arXiv:1610.03137."""

from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Array, Key

from slmc.lattice import Shape
from slmc.montecarlo import Signs, Update
from slmc.montecarlo.update import Label
from slmc.selflearning import fit_linear
from slmc.system import Fit, Problem, System, UserError, load_model
from slmc.systems.spins.checkerboard import CheckerboardSweep
from slmc.systems.spins.clusters import WolffUpdate
from slmc.systems.spins.ising import Ising
from slmc.systems.spins.ising_measured import derived_quantities, ising_observables, scalar_names, structure_factor
from slmc.systems.spins.ising_settings import IsingInnerSettings, PlaquetteIsingRun, build_like, describe


def plaquette_ising(config: PlaquetteIsingRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes; ``model.file`` is relative to ``directory``.

    Raises ``UserError`` naming the field that is wrong.
    """
    target, shape = config.target.build(), config.target.shape
    return Problem(
        target=target,
        manifold=Signs(),
        start=partial(_start, shape=shape),
        exact=lambda target: CheckerboardSweep(target),  # type: ignore[arg-type]
        observables=ising_observables(target, scalar_names(config.measurement.observables)),
        model=_model(config, directory) if config.learns else None,
        inner={config.inner.update: partial(inner_update, settings=config.inner)},
        fit=Fit(solve=_solve, constant=lambda model: model.reduced_constant, describe=describe),
        fields=(structure_factor(len(shape)),),
        derived=derived_quantities(target),
    )


def inner_update(model: Ising, settings: IsingInnerSettings) -> Update:
    """The update that drives the chain of the effective model; keeps detailed balance."""
    return WolffUpdate(model, settings.radius) if settings.update == "wolff" else CheckerboardSweep(model)


def _start(key: Key[Array, ""], n_chains: int, shape: Shape) -> Array:
    return Signs().random(key, (n_chains, *shape))


def _solve(model: Ising, labels: Label) -> Ising:
    return fit_linear(model, labels, Signs(), force_weight=0)


def _model(config: PlaquetteIsingRun, directory: Path) -> Any:
    """The model to start learning from."""
    shape, temperature, file = config.target.shape, config.target.temperature, config.model.file
    try:
        if file is not None:
            return load_model(directory / file, build_like).on_lattice(shape, temperature)
        return config.model.build(shape, temperature)
    except ValueError as error:
        raise UserError(f"model.n_shells = {config.model.n_shells}: {error}") from None


PLAQUETTE_ISING = System(PlaquetteIsingRun, plaquette_ising, build_like)
