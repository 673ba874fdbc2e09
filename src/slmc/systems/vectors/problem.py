"""Vectors put together for a run: weight, prior, model, updates and what is measured."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import HamiltonianTrajectory, HostTarget, MetropolisHastings, Target, Update
from slmc.montecarlo.update import Label
from slmc.selflearning import Learner, LearningSettings
from slmc.system import Derived, Fit, Observable, Problem, Sought, System, UserError, brief
from slmc.systems.vectors.elliptic import Elliptic
from slmc.systems.vectors.evaluation import Evaluations
from slmc.systems.vectors.models import Network, Polynomial, build_like
from slmc.systems.vectors.posterior import Posterior, Shaped, factor_of
from slmc.systems.vectors.prior import KINDS, Parameter, Prior
from slmc.systems.vectors.proposals import CrankNicolson, RandomWalk
from slmc.systems.vectors.settings import VectorRun, VectorTarget
from slmc.systems.vectors.umbridge import UMBridgeModel

GROUP = "slmc.log_likelihoods"
"""Entry points by which installed packages offer expensive weights: functions of options that make a ``Likelihood``."""

ExactKind = Literal["hmc", "random walk", "crank-nicolson"]

_MODEL_KEY = 7
_ACCEPTANCE = {"hmc": 0.8, "random walk": 0.25, "crank-nicolson": 0.25}


class Likelihood(NamedTuple):
    """What a package offers: a log-likelihood (a function of x, ``Evaluations`` or a target), and the prior of x."""

    log_likelihood: Any
    prior: Prior
    value_and_gradient: Callable[[Any], tuple[Any, Any]] | None = None


def vector_problem(
    log_likelihood: Callable[[Any], Any] | Evaluations | Target,
    prior: Prior | Mapping[str, Parameter],
    *,
    value_and_gradient: Callable[[Any], tuple[Any, Any]] | None = None,
    batched: bool = False,
    workers: int = 0,
    model: Literal["polynomial", "network"] | Polynomial | Network | None = "polynomial",
    degree: int = 2,
    exact: ExactKind | None = None,
    n_steps: int = 5,
    inner_steps: int = 8,
    quantities: Mapping[str, Callable[[Array], Array]] | None = None,
    slow: str | None = None,
    start: Any = None,
) -> Problem:
    """A problem for ``slmc.run``: a posterior, or any weight of a vector x.

    ``log_likelihood`` is a function of one x on the host (or of a batch, if ``batched``), with ``value_and_gradient``
    that of (log L, ∂ log L/∂x), and ``workers`` processes that evaluate it; or ``Evaluations``, which has more to
    choose; or a ``Target`` of x, ``JaxFunction(f)`` for a function written in JAX. ``prior`` says how x is distributed
    before, or what its bounds are (``slmc.systems.vectors.prior``).

    ``model`` is what learns: a ``"polynomial"`` of log L of that ``degree``, by least squares, a ``"network"`` on top
    of one, trained, or ``None``. ``exact`` is the update without a model: ``"hmc"`` with ``n_steps`` steps and a mass
    matrix where there are gradients, ``"random walk"`` (adaptive Metropolis) or ``"crank-nicolson"`` where there are
    none. ``inner_steps`` are those of a trajectory of the model. Beside the parameters, their standard deviations and
    log L, ``quantities`` are measured, functions of x written in JAX. ``slow`` is the one whose effective samples are
    quoted, by default the first parameter. ``start`` is an x near which chains start; by default they start from the
    prior.

    Raises ``ValueError`` for what does not fit together.
    """
    prior = prior if isinstance(prior, Prior) else Prior.of(prior)
    if isinstance(log_likelihood, Evaluations | Target):
        if value_and_gradient is not None or batched or workers:
            raise ValueError("value_and_gradient, batched and workers belong to a plain function, or into Evaluations.")
        evaluations = log_likelihood if isinstance(log_likelihood, Evaluations) else None
    else:
        evaluations = Evaluations(log_likelihood, value_and_gradient, batched=batched, workers=workers)
    likelihood = log_likelihood if isinstance(log_likelihood, Target) else evaluations.target  # type: ignore[union-attr]
    has_gradient = _has_gradient(likelihood)
    exact = exact or ("hmc" if has_gradient else "random walk")
    if exact not in _ACCEPTANCE:
        raise ValueError(f"exact must be one of {', '.join(map(repr, _ACCEPTANCE))}; got {exact!r}.")
    if exact == "hmc" and not has_gradient:
        raise ValueError('exact = "hmc" needs a gradient; give value_and_gradient, or take "random walk".')
    if isinstance(model, str):
        model = _model(model, prior, degree)
    defaults: dict[str, Any] = {"exact.acceptance": _ACCEPTANCE[exact], "exact.n_steps": n_steps}
    if model is not None:
        defaults["learning.force_weight"] = 3.0 if has_gradient else 0.0
        defaults["learning.training_steps"] = 0 if isinstance(model, Polynomial) else 600
    return Problem(
        target=Posterior(prior, likelihood, jnp.eye(prior.dimension)),
        manifold=Shaped(jnp.eye(prior.dimension)),
        start=partial(_starting, prior=prior, x=start),
        exact=partial(_exact, kind=exact, n_steps=n_steps),
        observables=_observables(prior, quantities or {}, slow),
        derived=tuple(_deviation(name) for name in prior.names),
        model=model,
        inner={"trajectories": partial(_trajectories, n_steps=inner_steps)} if model is not None else {},
        fit=Fit(describe=lambda model: model.describe()),
        sought=None if exact == "crank-nicolson" else _SHAPE,
        learner=_learner,
        axes=("parameter",),
        equation=f"log <i>W</i> = log <i>L</i>(<i>x</i>) + log <i>p</i>(<i>x</i>) of {prior.dimension} parameters; "
        "chains live in coordinates in which the prior <i>p</i> is standard normal",
        remarks=None if evaluations is None else lambda: tuple(filter(None, (evaluations.remark,))),
        defaults=defaults,
    )


def _has_gradient(likelihood: Target) -> bool:
    return not isinstance(likelihood, HostTarget) or likelihood.weights_and_forces is not None


def _model(form: str, prior: Prior, degree: int, n_hidden: int = 64, n_layers: int = 2, seed: int = 0) -> Any:
    if form == "polynomial":
        return Polynomial(prior.kinds, degree)
    if form != "network":
        raise ValueError(f'model must be "polynomial", "network", a model or None; got {brief(form)}.')
    key = jax.random.fold_in(jax.random.key(seed), _MODEL_KEY)
    return Network(prior.kinds, n_hidden, n_layers, degree, key=key)


# ---------------------------------------------------------------------------------------------------- updates


def _exact(target: Any, kind: ExactKind, n_steps: int) -> Update:
    """The update without a model, in the shape that has been found."""
    if kind == "crank-nicolson":
        return MetropolisHastings(target, CrankNicolson(jnp.asarray(0.2)))
    manifold = _steps(target.factor)
    if kind == "random walk":
        return MetropolisHastings(target, RandomWalk(manifold, jnp.asarray(2.4 / target.prior.dimension**0.5)))
    return MetropolisHastings(target, HamiltonianTrajectory(target, manifold, jnp.asarray(0.1), n_steps))


def _trajectories(model: Polynomial | Network, n_steps: int) -> Update:
    """HMC of the model, with the covariance of the labels that it was fitted to as inverse mass matrix."""
    polynomial = model if isinstance(model, Polynomial) else model.polynomial
    manifold = Shaped(jnp.asarray(np.linalg.inv(np.asarray(polynomial.whitening))))
    return MetropolisHastings(model, HamiltonianTrajectory(model, manifold, jnp.asarray(0.1), n_steps))


def _steps(factor: Any) -> Shaped:
    """Steps of the shape of F, as long in its narrowest direction as without it: a step size fits before and after."""
    return Shaped(factor / jnp.asarray(np.linalg.norm(np.asarray(factor), -2)))


def _learner(problem: Problem, target: Any, exact: Update, settings: LearningSettings) -> Learner:
    """What learns the model: force residuals have the shape that was found while thermalising."""

    if not _has_gradient(target.likelihood):
        settings = replace(settings, training=replace(settings.training, force_weight=0.0))

    def solve(model: Any, labels: Label) -> Any:
        return model.solved(labels, settings.training.force_weight)

    inner, merit = tuple(problem.inner.values()), problem.merit_of_configuration
    return Learner(target, Shaped(target.factor), exact, inner, solve, settings, observable=merit)


def _shaped(target: Any, configurations: Any, seen: Any, share: float) -> Any:
    """The target with the covariance of what the chains saw; later blocks, nearer to equilibrium, count more."""
    if seen is None:
        return target
    draws = np.asarray(seen).reshape(-1, target.prior.dimension)
    factor = factor_of(draws, np.asarray(target.factor), min(1.0, 2 * share))
    return eqx.tree_at(lambda target: target.factor, target, factor)


def _no_values(target: Any) -> dict[str, float]:
    return {}


def _configuration(state: Any, info: Any) -> Array:
    return state.configuration


_SHAPE = Sought(_shaped, _no_values, _configuration, retunes=True)
"""The shape of steps is found while thermalising, then fixed: what counts is a Markov chain."""


# ------------------------------------------------------------------------------------------ start, observables


def _starting(key: Key[Array, ""], n_chains: int, prior: Prior, x: Any) -> Array:
    drawn = jax.random.normal(key, (n_chains, prior.dimension), jnp.float64)
    return drawn if x is None else prior.coordinates(x)[None] + 0.1 * drawn


def _observables(
    prior: Prior, quantities: Mapping[str, Callable[[Array], Array]], slow: str | None
) -> tuple[Observable, ...]:
    functions: dict[str, Callable[[Array], Array]] = {
        name: partial(_component, number=number) for number, name in enumerate(prior.names)
    }
    functions |= quantities
    slow = slow or prior.names[0]
    if slow not in functions:
        raise ValueError(f"slow = {brief(slow)} is not measured; measured are {', '.join(functions)}.")
    return (
        *(
            Observable(name, partial(_of_parameters, prior=prior, function=function), words=name, slow=name == slow)
            for name, function in functions.items()
        ),
        Observable("log_likelihood", description="log L", words="log-likelihood", mathtext=r"$\log L$"),
    )


def _component(x: Array, number: int) -> Array:
    return x[number]


def _of_parameters(z: Array, prior: Prior, function: Callable[[Array], Array]) -> Array:
    return jnp.asarray(function(prior.parameters(z)), jnp.float64)


def _deviation(name: str) -> Derived:
    return Derived(
        f"deviation of {name}",
        lambda series: float(np.std(series[name])),
        (name,),
        description=f"standard deviation of {name}",
    )


# ------------------------------------------------------------------------------------- from a configuration file


def build(config: VectorRun, directory: Path) -> Problem:
    """The problem that a configuration describes. Raises ``UserError`` naming the field that is wrong."""
    settings = config.target
    log_likelihood, prior, value_and_gradient = _likelihood(settings)
    evaluations: Any = log_likelihood
    if not isinstance(log_likelihood, Evaluations | Target):
        evaluations = Evaluations(
            log_likelihood,
            value_and_gradient if settings.gradients else None,
            workers=settings.workers,
            workers_are="threads" if settings.url is not None else "processes",
            timeout=settings.timeout,
            max_failures=settings.max_failures,
        )
    form = config.model
    model = _model(form.form, prior, form.degree, form.n_hidden, form.n_layers, config.seed) if config.learns else None
    problem = vector_problem(
        evaluations,
        prior,
        model=model,
        exact=config.exact.update,
        n_steps=config.exact.n_steps,
        inner_steps=config.inner.n_steps,
        slow=settings.slow,
    )
    names = tuple(observable.name for observable in problem.observables)
    config.check_wanted_errors(names)
    return problem


def _likelihood(settings: VectorTarget) -> Likelihood:
    given = {
        name: KINDS[kind](first, second) if kind != "positive" else KINDS[kind](second)  # type: ignore[operator]
        for name, (kind, first, second) in settings.parameters.items()
    }
    if settings.url is None:
        offered = _offered(str(settings.log_likelihood), settings.options)
        return offered._replace(prior=Prior.of(given)) if given else offered
    model = UMBridgeModel(
        settings.url, settings.model, settings.config, settings.observed, settings.noise, settings.timeout
    ).check()
    if model.dimension != len(given):
        raise UserError(
            f"target.parameters has {len(given)} parameters; the model {settings.model!r:.60} at "
            f"{settings.url} takes {model.dimension}."
        )
    return Likelihood(model.value, Prior.of(given), model.value_and_gradient if model.has_gradient else None)


def _offered(name: str, options: dict[str, Any]) -> Likelihood:
    """The likelihood of an entry point. Raises ``UserError`` for one that is unknown or does not take the options."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in entries:
        raise UserError(
            f"target.log_likelihood = {brief(name)} is unknown; installed packages offer "
            f"{', '.join(sorted(entries)) or 'none'}."
        )
    try:
        made = entries[name].load()(**options)
    except ImportError as error:
        raise UserError(f"target.log_likelihood = {name!r} cannot be used: {str(error).rstrip('.')}.") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"target.options do not suit {name!r}: {str(error).rstrip('.')}.") from None
    return Likelihood(*made)


def elliptic(**options: Any) -> Likelihood:
    """The inverse problem of ``Elliptic``, as the entry point of that name offers it."""
    problem = Elliptic(**options)
    return Likelihood(problem, Prior.standard(problem.dimension), problem.value_and_gradient)


VECTORS = System(VectorRun, build, build_like)
