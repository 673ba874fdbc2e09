"""Checks for a target, model, update or integrator of your own; each raises ``AssertionError`` with one sentence.

    check_invariance          an update leaves its target invariant (from exact draws)
    check_detailed_balance    it does so reversibly, as a ``CumulativeUpdate`` needs
    check_force               the gradient is the derivative of log W
    check_symmetry            log W is invariant under a transformation
    check_equivariance        a function of configurations commutes with a transformation
    check_reversible_trajectory   an integrator, run backwards, returns to where it started

A configuration is an array or a pytree of arrays. A p-value is that of the observed difference if nothing is wrong:
with fixed keys and ``least_p`` = 1e-4 one right update in 10,000 fails. Each returns the numbers it decided on.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from scipy import stats

from slmc.montecarlo.chains import over_chains
from slmc.montecarlo.integrators import Integrator, integrate
from slmc.montecarlo.manifolds import Manifold, impulse
from slmc.montecarlo.target import Configuration, Target
from slmc.montecarlo.update import Update

Statistics = Mapping[str, Callable[[Any], Array]]


class Invariance(NamedTuple):
    """p-value of each statistic and the share of chains that moved."""

    p_values: dict[str, float]
    moved: float

    @property
    def least(self) -> float:
        return min(self.p_values.values())


def check_invariance(
    key: Key[Array, ""],
    update: Update,
    draws: Configuration,
    statistics: Statistics,
    n_steps: int = 1,
    least_p: float = 1e-4,
    least_moved: float = 0.1,
    start: Configuration | None = None,
) -> Invariance:
    """∫ p(x) P(x → x') dx = p(x'): chains started from exact draws are still exact draws ``n_steps`` later.

    The first half of ``draws`` (independent, on the leading axis) starts the chains, the second is compared with
    where they end: by Kolmogorov–Smirnov for each real scalar statistic of a configuration, by chi-square for each
    that gives integers (labels of discrete states). At least a share ``least_moved`` of the chains must move. With
    ``start`` the chains start there instead, all draws are compared, and ``n_steps`` must be long enough to forget it.
    """
    if start is None:
        start, draws = _halves(draws)
    before, after = advanced(key, update, start, statistics, n_steps)
    expected = measured(draws, statistics)
    p_values = {name: two_sample_p(after[name], expected[name]) for name in statistics}
    moved = _moved(before, after)
    for name, p in p_values.items():
        assert p > least_p, f"the update does not leave its target invariant: p = {p:.1e} for {name!r}."
    assert moved >= least_moved, f"only {moved:.1%} of the chains moved; an update that stays proves nothing."
    return Invariance(p_values, moved)


def check_detailed_balance(
    key: Key[Array, ""],
    update: Update,
    draws: Configuration,
    first: Callable[[Any], Array],
    second: Callable[[Any], Array],
    least_p: float = 1e-4,
) -> Invariance:
    """p(x) P(x → x') = p(x') P(x' → x): the pair (f(x), g(x')) has the distribution of (f(x'), g(x)).

    One step from exact draws; the pairs of one half of the chains are compared with the exchanged pairs of the
    other half through f + g, f − g (standardised) by Kolmogorov–Smirnov. Choose f and g different, for instance a
    property of an early and of a late site of a sweep.
    """
    before, after = advanced(key, update, draws, {"f": first, "g": second}, 1)
    half = len(before["f"]) // 2
    forward = (before["f"][:half], after["g"][:half])
    backward = (after["f"][half:], before["g"][half:])
    scales = [np.std(np.concatenate(both)) or 1.0 for both in zip(forward, backward, strict=True)]
    p_values = {
        name: two_sample_p(*(f / scales[0] + sign * g / scales[1] for f, g in (forward, backward)))
        for name, sign in (("f + g", 1), ("f - g", -1))
    }
    moved = _moved(before, after)
    assert moved > 0, "no chain moved; an update that stays proves nothing."
    for name, p in p_values.items():
        assert p > least_p, f"the update does not keep detailed balance: p = {p:.1e} for {name} under exchange in time."
    return Invariance(p_values, moved)


def check_force(
    key: Key[Array, ""],
    target: Target,
    manifold: Manifold,
    configuration: Configuration,
    tolerance: float = 1e-7,
    n_directions: int = 4,
    step_size: float = 1e-3,
) -> float:
    """p·∂ log W/∂x = d/dt log W(x(t)) along geodesics x(t) with x'(0) = p a random tangent vector.

    Sixth-order central differences; ``tolerance`` is relative to the derivative (absolute below 1). Returns the
    largest error found.
    """
    force = jax.jit(jax.grad(lambda x: target.log_weight(x)))(configuration)
    log_weight = jax.jit(lambda x: target.log_weight(x))
    worst = 0.0
    for subkey in jax.random.split(key, n_directions):
        tangent = manifold.draw_momentum(subkey, configuration)

        def along(step: int, tangent: Configuration = tangent) -> float:
            moved, _ = manifold.move(configuration, tangent, jnp.asarray(step * step_size))
            return float(log_weight(moved))

        differences = [along(n) - along(-n) for n in (1, 2, 3)]
        slope = float(np.dot([45, -9, 1], differences)) / (60 * step_size)
        predicted = float(_product(impulse(manifold, configuration, force), tangent))
        worst = max(worst, abs(predicted - slope) / max(1.0, abs(slope)))
        assert worst <= tolerance, f"the force {predicted:.10g} is not the derivative {slope:.10g} of log W."
    return worst


def check_symmetry(
    target: Target, configuration: Any, transformation: Callable[[Any], Any], tolerance: float = 1e-10
) -> float:
    """log W(g x) = log W(x), relative to max(1, |log W|). Returns the difference found."""
    value, transformed = (float(target.log_weight(x)) for x in (configuration, transformation(configuration)))
    difference = abs(transformed - value) / max(1.0, abs(value))
    assert difference <= tolerance, f"log W is not invariant: {value:.12g} becomes {transformed:.12g}."
    return difference


def check_equivariance(
    function: Callable[[Any], Any], configuration: Any, transformation: Callable[[Any], Any], tolerance: float = 1e-10
) -> float:
    """f(g x) = g f(x), every component. Returns the largest difference found."""
    moved, expected = function(transformation(configuration)), transformation(function(configuration))
    difference = _largest_difference(moved, expected)
    assert difference <= tolerance, f"the function is not equivariant: its components differ by {difference:.1e}."
    return difference


def check_reversible_trajectory(
    key: Key[Array, ""],
    integrator: Integrator,
    guide: Target,
    manifold: Manifold,
    configuration: Configuration,
    step_size: float,
    n_steps: int,
    tolerance: float = 1e-10,
) -> float:
    """Φ(x, p) = (x', p') implies Φ(x', −p') = (x, −p), and the trajectory moves. Returns the largest difference."""
    time, momentum = jnp.asarray(step_size), manifold.draw_momentum(key, configuration)
    flow = jax.jit(lambda position, momentum: integrate(integrator, guide, manifold, position, momentum, time, n_steps))
    position, arrived = flow(configuration, momentum)
    returned, turned = flow(position, _reversed(arrived))
    moved = _largest_difference(position, configuration)
    difference = max(_largest_difference(returned, configuration), _largest_difference(turned, _reversed(momentum)))
    assert moved > 1e-6, "the trajectory does not move; it proves nothing."
    assert difference <= tolerance, f"the trajectory is not reversible: it misses its start by {difference:.1e}."
    return difference


def two_sample_p(first: np.ndarray, second: np.ndarray) -> float:
    """p-value that two samples come from one distribution: chi-square for integers, else Kolmogorov–Smirnov."""
    if not np.issubdtype(first.dtype, np.inexact):
        values, index = np.unique(np.concatenate([first, second]), return_inverse=True)
        parts = np.split(index, [len(first)])
        table = np.stack([np.bincount(part, minlength=len(values)) for part in parts])
        return float(stats.chi2_contingency(table, correction=False).pvalue) if len(values) > 1 else 1.0
    if not (np.all(np.isfinite(first)) and np.all(np.isfinite(second))):
        return 0.0
    return float(stats.ks_2samp(first, second, method="asymp").pvalue)


def advanced(
    key: Key[Array, ""], update: Update, start: Configuration, statistics: Statistics, n_steps: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Statistics of every chain at its start and ``n_steps`` later."""
    n_chains = jax.tree.leaves(start)[0].shape[0]
    shared = (update, jnp.asarray(n_steps))
    before, after = _in_portions(_advance, (jax.random.split(key, n_chains), start), shared, statistics)
    return {k: np.asarray(v) for k, v in before.items()}, {k: np.asarray(v) for k, v in after.items()}


def measured(configurations: Configuration, statistics: Statistics) -> dict[str, np.ndarray]:
    """Statistics of every configuration on the leading axis."""
    values = _in_portions(_measure, configurations, None, statistics)
    return {name: np.asarray(values[name]) for name in statistics}


_GROUP = 512


def _in_portions(function: Callable[..., Any], chained: Any, shared: Any, statistics: Statistics) -> Any:
    """``over_chains``, two groups at a time, so that many and few chains share one program.

    Where they do not come out even the first are computed once more: a number of chains without divisors would make
    groups of one.
    """
    n_chains = jax.tree.leaves(chained)[0].shape[0]
    n_portions = max(1, -(-n_chains // (2 * _GROUP)))
    group = -(-n_chains // (2 * n_portions))
    size, options = 2 * group, tuple(statistics.items())
    if n_portions * size > n_chains:
        places = np.arange(n_portions * size) % n_chains
        chained = jax.tree.map(lambda leaf: leaf[places], chained)
    parts = [
        over_chains(
            function,
            # Where a portion begins is an argument of a compiled program.
            jax.tree.map(lambda leaf, first=number * size: jax.lax.dynamic_slice_in_dim(leaf, first, size), chained),
            shared,
            options,
            group_size=group,
        )
        for number in range(n_portions)
    ]
    return jax.tree.map(lambda *values: np.concatenate(values)[:n_chains], *parts)


def _measure(_: None, configuration: Any, statistics: tuple[tuple[str, Callable[[Any], Array]], ...]) -> Any:
    return {name: function(configuration) for name, function in statistics}


def _advance(shared: Any, inputs: Any, statistics: tuple[tuple[str, Callable[[Any], Array]], ...]) -> Any:
    (update, n_steps), (key, configuration) = shared, inputs

    def body(step: Array, state: Any) -> Any:
        return update.step(jax.random.fold_in(key, step), state)[0]

    # The number of steps is an argument of the compiled program: short and long runs share it.
    state = jax.lax.fori_loop(0, n_steps, body, update.init(configuration))
    return _measure(None, configuration, statistics), _measure(None, state.configuration, statistics)


def _product(first: Configuration, second: Configuration) -> Array:
    """Σ a b over all components."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), first, second)
    return sum(jax.tree.leaves(products), jnp.zeros(()))


def _reversed(momentum: Configuration) -> Configuration:
    return jax.tree.map(jnp.negative, momentum)


def _largest_difference(first: Configuration, second: Configuration) -> float:
    differences = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), first, second)
    return max(jax.tree.leaves(differences))


def _halves(draws: Configuration) -> tuple[Configuration, Configuration]:
    half = jax.tree.leaves(draws)[0].shape[0] // 2
    return jax.tree.map(lambda leaf: leaf[:half], draws), jax.tree.map(lambda leaf: leaf[half : 2 * half], draws)


def _moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    changed = [before[name] != after[name] for name in before]
    return float(np.mean(np.any(changed, axis=0)))
