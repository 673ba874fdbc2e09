"""Learning an effective model from exact labels: variance of the log-weight residual plus force matching."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from slmc.montecarlo.chains import over_chains
from slmc.montecarlo.manifolds import Manifold, squared_norm
from slmc.montecarlo.target import Configuration, SinglePrecision, Target, log_weight_and_force
from slmc.montecarlo.update import Label
from slmc.numbers import count, not_negative, positive, positive_count

if TYPE_CHECKING:
    import optax

Model = TypeVar("Model", bound=Target)

_GROUP = 32
"""Configurations, at most, whose gradient is one program; groups are spread over devices and summed in order."""


@dataclass(frozen=True)
class TrainingSettings:
    """How ``fit`` trains.

    ``optimiser`` is ``"adamw"``, or ``"muon"``, whose steps are orthogonalised matrices (of the leaves with two axes;
    AdamW takes care of the others) and which trains networks in a third of the steps, at twice the learning rate.

    The learning rate falls to zero along a cosine over ``n_steps`` steps of ``batch_size`` configurations.
    Every ``evaluate_every`` steps the held-out residual is computed; training stops when it has not improved
    for ``patience`` evaluations, and the best model seen is kept; with ``keep_last`` it is the one at the end of the
    cosine, for held-out samples that are too few to choose by. ``force_weight`` = 0 trains on log-weights alone.
    ``single_precision`` evaluates the model in float32 while training, about twice as fast; its parameters and the
    residuals stay in float64. Raises ``ValueError`` for numbers that make no sense.
    """

    n_steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    force_weight: float = 1.0
    evaluate_every: int = 50
    patience: int = 10
    single_precision: bool = False
    optimiser: Literal["adamw", "muon"] = "adamw"
    keep_last: bool = False

    def __post_init__(self) -> None:
        count(self.n_steps, "n_steps")
        count(self.batch_size, "batch_size", 2)
        positive_count(self.evaluate_every, "evaluate_every")
        positive_count(self.patience, "patience")
        positive(self.learning_rate, "learning_rate")
        not_negative(self.weight_decay, "weight_decay")
        not_negative(self.force_weight, "force_weight")
        if self.optimiser not in ("adamw", "muon"):
            raise ValueError(f"optimiser must be 'adamw' or 'muon'; got {self.optimiser!r}.")


class FitResult(NamedTuple):
    """The trained model and how training went.

    ``history`` has one line per evaluation: step, training loss, held-out residual s.
    """

    model: Any
    history: Float[np.ndarray, "evaluation 3"]
    residual: float
    training_residual: float
    warnings: tuple[str, ...]


def residual(model: Target, labels: Label) -> float:
    """s, the standard deviation of log W − log W_eff over labelled configurations."""
    return float(np.std(differences(model, labels)))


def centred(model: Model, labels: Label, where: Callable[[Model], Float[Array, ""]]) -> Model:
    """The model with its constant ``where(model)``, entering as −β E_0, set so that the mean residual vanishes.

    Has no effect on any acceptance; it makes predicted and exact log-weights comparable by eye.
    """
    unit = eqx.tree_at(where, model, jnp.ones(()))
    zero = eqx.tree_at(where, model, jnp.zeros(()))
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), labels.configuration)
    slope = unit.log_weight(first) - zero.log_weight(first)
    mean = np.mean(differences(zero, labels))
    return eqx.tree_at(where, model, jnp.asarray(mean / slope))


def differences(model: Target, labels: Label) -> np.ndarray:
    """log W − log W_eff of labelled configurations."""
    return np.asarray(over_chains(_difference, (labels.configuration, labels.log_weight), model, group_size=_GROUP))


def _difference(model: Target, inputs: tuple[Configuration, Array]) -> Array:
    configuration, log_weight = inputs
    return log_weight - model.log_weight(configuration)


def fit(
    key: Key[Array, ""],
    model: Model,
    labels: Label,
    held_out: Label,
    manifold: Manifold,
    settings: TrainingSettings = TrainingSettings(),
    n_labels: int | None = None,
    report: Callable[[int, float, float], None] | None = None,
    where: Callable[[Model], Any] = lambda model: model,
) -> FitResult:
    """Trains the floating-point leaves of a model by AdamW or Muon on

        loss = var(log W − log W_eff) + (force_weight / n_sites) ⟨Σ_i |F_i − F_eff,i|²⟩,

    forces being the tangential parts of ∂ log W/∂x. ``where(model)`` picks the part that is trained, all of it by
    default. The rest keeps its bits, whereas weight decay shrinks also parameters that have no gradient. ``labels`` may
    be a buffer of which only the first ``n_labels`` lines are filled, so that growing data reuse the compiled program.
    The variance is that within groups of 32 (or half a batch, if that is less), so that groups are independent and can
    be trained on several devices. ``report(step, loss, residual)`` is called at every evaluation. Raises
    ``ValueError`` for fewer than 32 labels, ``FloatingPointError`` if the loss is not finite from the start.
    """
    n_labels = len(labels.log_weight) if n_labels is None else n_labels
    if n_labels < _GROUP:
        raise ValueError(f"fit needs at least {_GROUP} labelled configurations; got {n_labels}.")
    labels = jax.tree.map(np.asarray, labels)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    group_size = min(_GROUP, max(2, settings.batch_size // 2))
    n_groups = settings.batch_size // group_size
    parameters, static = eqx.partition(model, _trained(model, where))
    optimiser_state = _optimiser(settings).init(parameters)
    best, best_residual, since_best = model, residual(model, held_out), 0
    history = [(0.0, math.nan, best_residual)]
    step, workers = 0, _Workers(n_groups)
    while step < settings.n_steps and since_best < settings.patience:
        n_now = min(settings.evaluate_every, settings.n_steps - step)
        step += n_now
        batches = rng.integers(n_labels, size=(n_now, n_groups, group_size))
        losses = []
        for members in batches:
            batch = _lines(labels, members)
            value, gradients = workers.gradients(parameters, static, manifold, batch, settings)
            losses.append(np.mean(value))
            parameters, optimiser_state = _optimise(parameters, optimiser_state, gradients, settings)
        model = eqx.combine(parameters, static)
        loss, now = float(np.mean(losses)), residual(model, held_out)
        history.append((float(step), loss, now))
        if report is not None:
            report(step, loss, now)
        if not math.isfinite(loss):
            if len(history) == 2:
                raise FloatingPointError(
                    "the training loss is not finite from the first steps on; check that the target's log-weights and "
                    "forces are finite, or lower learning.learning_rate."
                )
            break
        since_best += 1
        if now < best_residual or (settings.keep_last and math.isfinite(now)):
            best, best_residual, since_best = model, now, 0
    workers.pool.shutdown()
    seen = _lines(labels, np.arange(max(0, n_labels - len(held_out.log_weight)), n_labels))
    training_residual = residual(best, seen)
    warnings = _warnings(best, best_residual, training_residual, history)
    return FitResult(best, np.array(history), best_residual, training_residual, warnings)


def _trained(model: Model, where: Callable[[Model], Any]) -> Any:
    """Which leaves are parameters, as a tree of the model's structure."""
    nothing = jax.tree.map(lambda leaf: False, model)
    return eqx.tree_at(where, nothing, jax.tree.map(eqx.is_inexact_array, where(model)))


def _lines(labels: Label, members: np.ndarray) -> Label:
    return jax.tree.map(lambda leaf: leaf[members], labels)


def learned_by_heart(held_out: float, training: float) -> str:
    """A sentence if the residual of what was not seen is far above that of what was; empty if it is not."""
    if held_out <= 1.5 * training + 0.02:
        return ""
    return (
        f"the held-out residual {held_out:.2f} is far above the training residual {training:.2f}: the model has "
        "learned its data by heart; gather more samples (learning.n_steps) or use fewer parameters."
    )


def _warnings(
    model: Target, held_out: float, training: float, history: list[tuple[float, float, float]]
) -> tuple[str, ...]:
    warnings = [words] if (words := learned_by_heart(held_out, training)) else []
    trained = history[1:]
    if not trained:
        return tuple(warnings)
    if not math.isfinite(history[-1][1]):
        warnings.append("training diverged and was stopped; the best model before that is used. Lower learning_rate.")
    if min(residual for _, _, residual in trained) > 1.5 * history[0][2]:
        warnings.append(
            f"training only made the held-out residual worse ({trained[-1][2]:.2f}, before it {held_out:.2f}), so the "
            "model before training is kept; lower learning.learning_rate."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_inexact_array)):
        if leaf.size > 1 and float(jnp.max(jnp.abs(leaf))) < 1e-6:
            warnings.append(
                f"the weights model{jax.tree_util.keystr(path)} have collapsed to zero, where they have no gradient; "
                "lower learning.learning_rate or weight_decay, or start from another seed."
            )
    return tuple(warnings)


def _optimiser(settings: TrainingSettings) -> "optax.GradientTransformation":
    import optax
    import optax.contrib

    schedule = optax.cosine_decay_schedule(settings.learning_rate, max(1, settings.n_steps))
    decay = settings.weight_decay
    if settings.optimiser == "muon":
        steps = optax.contrib.muon(schedule, weight_decay=decay, adam_weight_decay=decay)
    else:
        steps = optax.adamw(schedule, weight_decay=decay)
    return optax.chain(optax.clip_by_global_norm(100.0), steps)


class _Workers:
    """One thread for each device, because a call waits for its result.

    Each group is a program of one device: a program partitioned over several is compiled, and rounded, differently
    from one that is not, and training must give the same bits on any number of devices.
    """

    def __init__(self, n_groups: int) -> None:
        self.devices = jax.local_devices()[:n_groups]
        self.pool = ThreadPoolExecutor(len(self.devices))

    def gradients(
        self, parameters: PyTree, static: PyTree, manifold: Manifold, batch: Label, settings: TrainingSettings
    ) -> tuple[np.ndarray, PyTree]:
        """Loss and gradient of every group."""
        n_devices, n_groups = len(self.devices), len(batch.log_weight)
        options = settings.force_weight, settings.single_precision

        def on_device(number: int) -> list[tuple[np.ndarray, PyTree]]:
            copy = jax.device_put(parameters, self.devices[number])
            gradients = []
            for group in range(number, n_groups, n_devices):
                lines = jax.device_put(_lines(batch, np.asarray(group)), self.devices[number])
                gradients.append(jax.device_get(_group_gradient(copy, static, manifold, lines, *options)))
            return gradients

        by_device = list(self.pool.map(on_device, range(n_devices)))
        in_order = [by_device[group % n_devices][group // n_devices] for group in range(n_groups)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *in_order)


@eqx.filter_jit
def _group_gradient(
    parameters: PyTree, static: PyTree, manifold: Manifold, group: Label, force_weight: float, single_precision: bool
) -> tuple[Array, PyTree]:
    return jax.value_and_grad(_loss)(parameters, static, manifold, group, force_weight, single_precision)


@eqx.filter_jit
def _optimise(
    parameters: PyTree, optimiser_state: PyTree, gradients: PyTree, settings: TrainingSettings
) -> tuple[PyTree, PyTree]:
    gradient = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradients)
    # optax multiplies floats by its integer step count, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimiser_state = _optimiser(settings).update(gradient, optimiser_state, parameters)
    return eqx.apply_updates(parameters, updates), optimiser_state


def _loss(
    parameters: PyTree, static: PyTree, manifold: Manifold, group: Label, force_weight: float, single_precision: bool
) -> Array:
    model = eqx.combine(parameters, static)
    if single_precision:
        model = SinglePrecision(model)
    if force_weight == 0:
        difference = group.log_weight - jax.vmap(model.log_weight)(group.configuration)
        return jnp.var(difference, ddof=1)
    log_weights, forces = jax.vmap(lambda x: log_weight_and_force(model, x))(group.configuration)
    n_sites = manifold.n_points(jax.tree.map(lambda leaf: leaf[0], group.configuration))
    difference = jax.tree.map(lambda exact, predicted: exact - predicted, group.force, forces)
    mismatch = manifold.project(group.configuration, difference)
    squared = squared_norm(mismatch) / len(group.log_weight)
    return jnp.var(group.log_weight - log_weights, ddof=1) + force_weight * squared / n_sites
