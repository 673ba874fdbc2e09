"""What a run needs to know of a system, as values."""

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Key

from slmc.montecarlo import Configuration, Manifold, State, Target, Update
from slmc.montecarlo.update import Label
from slmc.selflearning import Learner, LearningSettings, centred
from slmc.statistics import Estimate, estimate, has_moved, jackknife
from slmc.system.errors import UserError
from slmc.system.observable import LOG_WEIGHT, Derived, Observable, check_names


class ErrorOfModel(NamedTuple):
    """What the report calls a figure of the model: its units, a description, words for the axis."""

    units: str
    description: str
    words: str


class Fit(NamedTuple):
    """How the effective model is fitted to exact labels, beside or instead of gradient steps.

    ``solve(model, labels)`` prepares the first fit, by least squares of a linear part for instance; where the settings
    ask for no training steps it is the whole fit. ``constant(model)`` picks the additive constant, which is set in the
    end so that predicted and exact log-weights agree in the mean. ``guide`` is a cheaper model inside nested inner
    chains and ``fit_guide(guide, labels)`` fits it. ``observable(configuration)`` is the slow one for which the inner
    chain is chosen, by default the run's own. ``describe(model)`` says in numbers and words how to build a model of the
    same structure, for the model file. ``labels`` are training data that are there from the start.
    ``errors(model, labels)`` are figures of the model in every round by the names of ``described_errors``, on samples
    of the target, with forces, of chains that take no part in training.
    """

    solve: Callable[[Any, Label], Any] | None = None
    constant: Callable[[Any], Array] | None = None
    guide: Target | None = None
    fit_guide: Callable[[Any, Label], Any] | None = None
    observable: Callable[[Any], Array] | None = None
    describe: Callable[[Any], dict[str, Any]] | None = None
    labels: Label | None = None
    errors: Callable[[Any, Label], dict[str, float]] | None = None
    described_errors: Mapping[str, ErrorOfModel] = {}


class Sought(NamedTuple):
    """Parameters of the target that the run finds while it thermalises, and then fixes.

    ``adjusted(target, configurations, seen, share)`` is the target with them moved by ``share`` of the way to where
    these configurations of all chains want them. ``seen`` is what ``watch(state, info)`` gave in every step of the
    block before, with axes (chain, step); ``None`` at first, and without a ``watch``. ``values(target)`` names what was
    found. With ``retunes`` the step size of the exact update, tuned before, is tuned once more when they are found.
    """

    adjusted: Callable[[Target, Configuration, Any, float], Target]
    values: Callable[[Target], dict[str, float]]
    watch: Callable[[State, Any], Any] | None = None
    retunes: bool = False


class ConfigurationFiles(NamedTuple):
    """Configurations that a run writes as files while it measures: of every chain, after every so many steps.

    ``write(path, configuration, chain, step)`` writes that of one chain, the same bytes each time; names end with
    ``suffix``.
    """

    every: int
    suffix: str
    write: Callable[[Path, Configuration, int, int], None]


@dataclass(frozen=True)
class Problem:
    """A system put together for a run.

    - ``target``: what is sampled; ``manifold``: where its configurations live
    - ``start(key, n_chains)``: configurations to start from, the chains on a leading axis
    - ``exact(target)``: the update without a model; it thermalises, gives the first training data and is the baseline
    - ``observables``: what is measured, in the order in which it is shown

    and, where there is a model that learns,

    - ``model``: the effective model to start learning from
    - ``inner``: the update that drives its chain, ``inner[name](model)``; of several the run chooses one by measurement
    - ``fit``: how it is fitted

    and, where there is something of the kind: ``fields`` (arrays kept as means over blocks), ``derived`` quantities,
    ``n_samples`` of the disorder among which chains are divided, and parameters of the target that are ``sought``.
    What it has to say while it runs, ``remarks()`` gives as sentences. It may write files of its own into the directory
    of a run, by their names: ``label_files`` are functions of a path and of the training data, ``series_files`` of a
    path and of the series of the measurement; ``configuration_files`` are written while it measures. ``offers`` are
    functions of the frozen model by the names under which a ``Result`` has them. ``defaults`` are fields of the
    configuration, by their dotted names, that ``slmc.run(problem)`` takes where nothing else is said. ``axes`` names
    the axes of a configuration that is an array, and ``equation`` says what is sampled, the Hamiltonian and its
    boundary conditions, with the tags i, b, sub and sup.

    ``learner(problem, target, exact, settings)`` makes what learns; change it for a system whose model is not one
    model.

    Raises ``UserError`` for observables with names that no record can have, and for a model without an inner update.
    """

    target: Target
    manifold: Manifold
    start: Callable[[Key[Array, ""], int], Configuration]
    exact: Callable[[Target], Update]
    observables: tuple[Observable, ...] = ()
    model: Any = None
    inner: Mapping[str, Callable[..., Update]] = field(default_factory=dict)
    fit: Fit = field(default_factory=Fit)
    fields: tuple[Observable, ...] = ()
    derived: tuple[Derived, ...] = ()
    n_samples: int = 1
    sought: Sought | None = None
    learner: Callable[["Problem", Target, Update, LearningSettings], Any] | None = None
    remarks: Callable[[], tuple[str, ...]] | None = None
    label_files: Mapping[str, Callable[[Path, Label], None]] = field(default_factory=dict)
    series_files: Mapping[str, Callable[[Path, Mapping[str, np.ndarray]], None]] = field(default_factory=dict)
    configuration_files: ConfigurationFiles | None = None
    offers: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    axes: tuple[str, ...] = ()
    equation: str = ""

    def __post_init__(self) -> None:
        check_names((LOG_WEIGHT, *self.observables, *self.fields, *self.derived))
        if self.model is not None and not self.inner:
            raise UserError("a problem with a model needs an inner update; give inner={name: function of the model}.")

    @property
    def figure_of_merit(self) -> Observable:
        """The observable whose effective samples are quoted."""
        return next((observable for observable in self.observables if observable.slow), LOG_WEIGHT)

    @property
    def merit_of_configuration(self) -> Callable[[Any], Array] | None:
        """The slowest observable that the inner chain can be judged by; ``None`` if all come with the exact weight."""
        if self.fit.observable is not None:
            return self.fit.observable
        by_slowness = sorted(self.observables, key=lambda observable: not observable.slow)
        return next((o.of_configuration for o in by_slowness if o.of_configuration is not None), None)

    def learner_of(self, target: Target, exact: Update, settings: LearningSettings) -> Any:
        """What learns the model of ``target``, starting with ``exact``."""
        return (self.learner or single_learner)(self, target, exact, settings)

    def finished(self, model: Any, labels: Label) -> Any:
        """The model as it is stored."""
        return model if self.fit.constant is None else centred(model, labels, self.fit.constant)

    @functools.cached_property
    def observe(self) -> Callable[[State], tuple[dict[str, Array], dict[str, Array]]]:
        """Everything measured in a state of one chain: scalars, and fields.

        One and the same function for problems that measure the same, so that points of a scan share what is compiled.
        """
        try:
            return _observing(self.observables, self.fields)
        except TypeError:  # observables with drawings of their own cannot be compared
            return _observing.__wrapped__(self.observables, self.fields)

    @functools.cached_property
    def described(self) -> dict[str, Observable | Derived]:
        """Everything recorded or derived, by its name."""
        described: list[Observable | Derived] = [LOG_WEIGHT, *self.observables, *self.fields, *self.derived]
        return {about.name: about for about in described}

    def estimates(self, series: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
        """Estimates of what is shown and of what is derived, from the series of a phase."""
        derived = [about for about in self.derived if all(name in series for name in about.needs)]
        needed = {name for about in derived for name in about.needs}
        names = [about.name for about in self.observables if about.shown or about.name in needed]
        known = estimates_of(names, series, self.n_samples)
        found = {about.name: known[about.name] for about in self.observables if about.shown and about.name in known}
        if not is_measured(series):
            return found
        moved = moved_in(series)
        for about in derived:
            inputs = {name: series[name] for name in about.needs}
            found[about.name] = jackknife(about.function, inputs, n_samples=self.n_samples, moved=moved, known=known)
        return found

    @property
    def identity(self) -> str:
        """A digest of target, model and names: what must be the same when a run of a problem built here is resumed."""
        objects = (self.target, self.model, self.exact(self.target))
        arrays, rest = eqx.partition(objects, eqx.is_array)
        names = [about.name for about in (*self.observables, *self.fields)]
        # Functions print addresses.
        text = re.sub(r" at 0x[0-9a-f]+", "", f"{jax.tree.structure(objects)} {rest!r} {names} {self.n_samples}")
        digest = hashlib.sha256(text.encode())
        for leaf in jax.tree.leaves(arrays):
            digest.update(f"{leaf.shape} {leaf.dtype}".encode())
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _observing(
    observables: tuple[Observable, ...], fields: tuple[Observable, ...]
) -> Callable[[State], tuple[dict[str, Array], dict[str, Array]]]:
    def observe(state: State) -> tuple[dict[str, Array], dict[str, Array]]:
        scalars = {observable.name: observable.measured(state) for observable in observables}
        return scalars, {observable.name: observable.measured(state) for observable in fields}

    return observe


def is_measured(series: Mapping[str, np.ndarray]) -> bool:
    """Whether the series of a phase hold any draw."""
    return bool(series) and series[LOG_WEIGHT.name].size > 0


def moved_in(series: Mapping[str, np.ndarray]) -> bool:
    """Whether all chains moved in the series of a phase."""
    return has_moved(series[LOG_WEIGHT.name], series.get("accepted"))


def estimates_of(names: list[str], series: Mapping[str, np.ndarray], n_samples: int) -> dict[str, Estimate]:
    """Estimates of those of the observables that are in the series of a phase."""
    if not is_measured(series):
        return {}
    moved = moved_in(series)
    known = [name for name in names if name in series and series[name].ndim == 2]
    return {name: estimate(series[name], n_samples, moved) for name in known}


def single_learner(problem: Problem, target: Target, exact: Update, settings: LearningSettings) -> Learner:
    """What learns one model of one target."""
    fit = problem.fit
    return Learner(
        target,
        problem.manifold,
        exact,
        tuple(problem.inner.values()),
        fit.solve,
        settings,
        fit.guide,
        fit.fit_guide,
        problem.merit_of_configuration,
        fit.errors,
        fit.labels,
    )
