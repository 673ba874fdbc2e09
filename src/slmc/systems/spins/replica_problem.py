"""Replica exchange of the double-exchange model put together for a run: one model at every temperature."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import ReplicaExchange, ReplicaInfo, ReplicaTarget, Sphere, State, Target, Update, stacked
from slmc.montecarlo.tempering import WALKERS, replica, tuned_ladder
from slmc.selflearning import Learner, LearningSettings, ReplicaLearner
from slmc.system import Derived, Fit, Observable, Problem, Sought, System, UserError
from slmc.systems.spins.measured import ALL_OBSERVABLES, BINDER_RATIOS
from slmc.systems.spins.models import build_like, describe
from slmc.systems.spins.problem import constant_of, exact_update, inner_update, solve_linear_part
from slmc.systems.spins.replica_settings import LadderSettings, ReplicaExchangeRun, shown_names

_MODEL_KEY = 98

_WALKERS = Observable(
    WALKERS,
    description="which walker is at each rung",
    words="walkers",
    shown=False,
    axes=("rung",),
    drawn="walkers",
)


def replica_exchange(config: ReplicaExchangeRun, directory: Path = Path()) -> Problem:
    """The problem that a configuration describes. Raises ``UserError`` naming the field that is wrong."""
    settings, rungs = config.target, config.target.build()
    names = shown_names(config.measurement.observables, settings)
    return Problem(
        target=ReplicaTarget(stacked(rungs)),
        manifold=Sphere(),
        start=partial(_start, settings=settings),
        exact=partial(_exact, settings=config.exact, local_decisions=config.target.local_decisions),
        observables=(*_observables(names, settings), _WALKERS),
        model=_models(config) if config.learns else None,
        inner={f"n_steps = {config.inner.n_steps}": partial(inner_update, settings=config.inner)},
        fit=Fit(solve=solve_linear_part, constant=constant_of, describe=_describe),
        derived=tuple(at for rung in range(len(rungs)) for at in _derived_at(rung)),
        sought=_tuned(len(rungs)) if settings.tuned else None,
        learner=_learner,
    )


def _start(key: Key[Array, ""], n_chains: int, settings: LadderSettings) -> Array:
    return Sphere().random(key, (n_chains, len(settings.temperatures), *settings.shape, 3))


def _n_rungs(target: Any) -> int:
    return len(target.replicas.temperature)


def _exact(target: Target, settings: Any, local_decisions: str) -> ReplicaExchange:
    """Replica exchange of the update that needs no model."""
    assert isinstance(target, ReplicaTarget)
    rungs = [replica(target.replicas, rung) for rung in range(_n_rungs(target))]
    updates = [exact_update(rung, settings, local_decisions) for rung in rungs]
    return ReplicaExchange(update=stacked(updates))  # type: ignore[call-arg]


def _models(config: ReplicaExchangeRun) -> tuple[Any, ...]:
    """A model for every rung to start learning from, its couplings reduced: stacked models share all but numbers."""
    key = jax.random.fold_in(jax.random.key(config.seed), _MODEL_KEY)
    try:
        return tuple(
            config.model.build(config.target.shape, 1.0, jax.random.fold_in(key, rung))
            for rung in range(len(config.target.temperatures))
        )
    except ValueError as error:
        raise UserError(f"model.{error}") from None


def _learner(problem: Problem, target: Target, exact: Update, settings: LearningSettings) -> ReplicaLearner:
    """A learner for every rung."""
    assert isinstance(target, ReplicaTarget)
    assert isinstance(exact, ReplicaExchange)
    inner, manifold, solve = tuple(problem.inner.values()), problem.manifold, problem.fit.solve
    return ReplicaLearner(
        tuple(
            Learner(replica(target.replicas, rung), manifold, replica(exact.update, rung), inner, solve, settings)
            for rung in range(_n_rungs(target))
        )
    )


def _tuned(n_rungs: int) -> Sought:
    """The temperatures between both ends at which all pairs swap equally often."""

    def adjusted(target: Any, configurations: Any, seen: Any, share: float) -> Target:
        if seen is None:
            return target
        tried, acceptance = (np.asarray(part) for part in seen)
        by_pair = acceptance.sum((0, 1)) / np.maximum(tried.sum((0, 1)), 1)
        old = np.asarray(target.replicas.temperature)
        moved = jnp.asarray(old ** (1 - share) * tuned_ladder(old, by_pair) ** share)
        return eqx.tree_at(lambda ladder: ladder.replicas.temperature, target, moved)

    def watch(state: State, info: ReplicaInfo) -> tuple[Array, Array]:
        return info.tried, info.acceptance

    def values(target: Any) -> dict[str, float]:
        return {f"temperature_{rung + 1}": float(target.replicas.temperature[rung]) for rung in range(n_rungs)}

    return Sought(adjusted, values, watch)


def _observables(names: tuple[str, ...], settings: LadderSettings) -> tuple[Observable, ...]:
    """The observables at every rung; those of the coldest, where chains are slowest, are the ones that are drawn."""
    coldest = len(settings.temperatures) - 1
    slowest = next((name for name in reversed(names) if ALL_OBSERVABLES[name].slow), None)
    return tuple(
        _observable_at(ALL_OBSERVABLES[name], rung)._replace(
            slow=rung == coldest and name == slowest,
            traced=rung == coldest and ALL_OBSERVABLES[name].traced,
        )
        for rung in range(coldest + 1)
        for name in names
    )


def _observable_at(observable: Observable, rung: int) -> Observable:
    function: Callable[[Any], Array] | None = observable.of_configuration
    return observable._replace(
        name=f"{observable.name}_{rung + 1}",
        of_configuration=None if function is None else lambda configuration: function(configuration[rung]),
        of_weight=None if function is not None else lambda values: values[observable.name][rung],
        **_words_at(observable, rung),  # type: ignore[arg-type]
    )


def _derived_at(rung: int) -> tuple[Derived, ...]:
    return tuple(
        derived._replace(
            name=f"{derived.name}_{rung + 1}",
            function=partial(_function_at, derived=derived, rung=rung),
            needs=tuple(f"{name}_{rung + 1}" for name in derived.needs),
            **_words_at(derived, rung),
        )
        for derived in BINDER_RATIOS
    )


def _function_at(series: Any, derived: Derived, rung: int) -> float:
    return derived.function({name: series[f"{name}_{rung + 1}"] for name in derived.needs})


def _words_at(about: Observable | Derived, rung: int) -> dict[str, str]:
    """Symbol and words with the number of the rung."""
    return {
        "description": f"{about.description or about.words}, rung {rung + 1}",
        "words": f"{about.words}, rung {rung + 1}",
        "mathtext": f"{about.mathtext} ({rung + 1})",
        "html": f"{about.html} ({rung + 1})",
    }


def _describe(models: tuple[Any, ...]) -> dict[str, Any]:
    return {"name": "ladder", "models": [describe(model) for model in models]}


def build_ladder(description: dict[str, Any]) -> tuple[Any, ...]:
    """Models of the structure that was stored, with numbers to be replaced."""
    return tuple(build_like(model) for model in description["models"])


REPLICA_EXCHANGE = System(ReplicaExchangeRun, replica_exchange, build_ladder)
