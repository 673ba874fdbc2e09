"""Atoms at several temperatures, whose chains exchange configurations: one model, and no evaluation for a swap."""

from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from slmc.montecarlo import ReplicaExchange, ReplicaTarget, Target, Tempered, Update, stacked
from slmc.montecarlo.tempering import replica
from slmc.montecarlo.update import Label
from slmc.selflearning import Learner, LearningSettings, TemperedLearner
from slmc.system import Fit, Observable, Problem
from slmc.systems.atoms.calculated import Confined
from slmc.systems.atoms.labels import write_labels, write_trajectory
from slmc.systems.atoms.masses import Massive
from slmc.systems.atoms.measured import BOLTZMANN, WALKERS_AT, derived_at, observables_at, positions_of
from slmc.systems.atoms.models import ERRORS, as_calculator, describe, errors_of, standardised, start_model
from slmc.systems.atoms.pool import CalculatorPool
from slmc.systems.atoms.settings import AtomsRun
from slmc.systems.atoms.structure import Structure
from slmc.systems.atoms.updates import exact_update, first_step, inner_update, inner_updates, masses_of, starting


def ladder_problem(
    config: AtomsRun,
    structure: Structure,
    target: Confined,
    pool: CalculatorPool,
    known: dict[str, Observable],
    directory: Path,
) -> Problem:
    """The problem with several temperatures; the target that is given has the lowest."""
    settings, cell = config.target, structure.cell
    assert settings.temperatures is not None
    betas = tuple(1 / (BOLTZMANN * temperature) for temperature in settings.temperatures)
    masses, step = masses_of(structure, settings), first_step(structure, settings)
    manifolds = tuple(Massive(masses, beta, holds_centre=cell.is_periodic) for beta in betas)
    written: dict[str, Any] = {}
    if "energy" in known:
        written["trajectory.extxyz"] = partial(write_trajectory, structure=structure, energy=f"energy_{len(betas)}")
    return Problem(
        target=ReplicaTarget(stacked([Tempered(target, jnp.asarray(beta / target.beta)) for beta in betas])),
        manifold=manifolds[-1],
        start=partial(starting, structure=structure, n_replicas=len(betas)),
        exact=partial(exact_ladder, manifolds=manifolds, config=config, step=step),
        observables=(
            *observables_at(tuple(known.values()), settings.temperatures),
            positions_of(structure, rung=len(betas) - 1),
            WALKERS_AT,
        ),
        model=start_model(config, structure, target.beta, target.sphere, directory, None) if config.learns else None,
        inner=inner_updates(config, manifolds[-1], step),
        fit=Fit(
            solve=standardised if config.model.file is None else None,
            constant=lambda model: model.constant,
            describe=describe,
            errors=partial(_errors_at, beta=target.beta),
            described_errors=ERRORS,
        ),
        derived=derived_at(cell, betas) if "energy" in known else (),
        remarks=lambda: tuple(filter(None, (pool.remark, pool.doubt))),
        label_files={
            "training.extxyz": partial(write_labels, structure=structure, beta=target.beta, sphere=target.sphere)
        },
        series_files=written,
        offers={"calculator": as_calculator},
        learner=partial(_tempered_learner, manifolds=manifolds, config=config, step=step),
    )


def exact_ladder(target: Target, manifolds: tuple[Massive, ...], config: AtomsRun, step: float) -> ReplicaExchange:
    """Replica exchange of trajectories with the exact force."""
    assert isinstance(target, ReplicaTarget)
    updates = [
        exact_update(replica(target.replicas, rung), manifold, config, step) for rung, manifold in enumerate(manifolds)
    ]
    return ReplicaExchange(update=stacked(updates))  # type: ignore[call-arg]


def _tempered_learner(
    problem: Problem,
    target: Target,
    exact: Update,
    settings: LearningSettings,
    manifolds: tuple[Massive, ...],
    config: AtomsRun,
    step: float,
) -> TemperedLearner:
    """A learner of one model, with every temperature's own trajectories."""
    assert isinstance(target, ReplicaTarget)
    assert isinstance(exact, ReplicaExchange)
    n_steps, fit = config.inner.n_steps, problem.fit
    assert not isinstance(n_steps, str)
    learners = []
    for rung, manifold in enumerate(manifolds):
        inner = partial(inner_update, manifold=manifold, config=config, step=step, n_steps=n_steps)
        solve = _standardised_tempered if rung == 0 and fit.solve is not None else None
        of_rung = replica(target.replicas, rung), manifold, replica(exact.update, rung)
        learners.append(Learner(*of_rung, inner, solve, settings, errors=fit.errors))
    factors = tuple(float(factor) for factor in np.asarray(target.replicas.factor))  # type: ignore[attr-defined]
    return TemperedLearner(tuple(learners), factors)


def _standardised_tempered(model: Tempered, labels: Label) -> Tempered:
    potential: Any = model.target
    return Tempered(potential.standardised(np.asarray(labels.configuration)), model.factor)


def _errors_at(model: Tempered, labels: Label, beta: float) -> dict[str, float]:
    return errors_of(model, labels, beta * float(model.factor))
