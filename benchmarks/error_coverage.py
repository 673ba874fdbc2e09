"""Do error bars cover? Groups of runs against known answers, at fixed length and stopped at a wanted error.

    python benchmarks/error_coverage.py [autoregressive ising pair]

For every group of chains z = (value − truth)/error is taken where the number is printed as "ok"; its standard deviation
over groups is 1 for honest errors. Writes ``benchmarks/results/error_coverage.json`` and, from it,
``docs/results/error_coverage.md``. Interrupted, it continues.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from command import Part, main
from jaxtyping import Array
from result_file import ResultFile, table
from scipy.signal import lfilter

from slmc.montecarlo import MetropolisHastings, Sequence, Sphere, State, Target, Update, init_chains, run_chains
from slmc.selflearning import CumulativeUpdate
from slmc.statistics import Estimate, estimate, is_known_to, jackknife
from slmc.systems.spins import CheckerboardSweep, DoubleExchange, HeatBathSweep, Heisenberg, Ising, WolffUpdate
from slmc.systems.spins.observables import binder_ratio


class Settings(NamedTuple):
    """Groups of a setting, chains of a group, draws between looks and of a chain at most, draws to thermalise."""

    n_groups: int = 100
    n_chains: int = 4
    block_size: int = 50
    n_draws: int = 4000
    n_thermalise: int = 500


QUICK = Settings(3, 2, 20, 200, 20)

Series = dict[str, np.ndarray]
"""By name: (group, chain, draw)."""


class Quantity(NamedTuple):
    """What is estimated of the series of a group, its exact value, and the wanted errors at which runs stop."""

    name: str
    found: Callable[[Series], Estimate]
    truth: float
    series: str
    wanted: tuple[float, ...]


class Known(NamedTuple):
    """Series of a system with known answers."""

    series: Series
    quantities: tuple[Quantity, ...]


def mean(name: str) -> Callable[[Series], Estimate]:
    return lambda series: estimate(series[name])


def autoregressive(settings: Settings) -> Known:
    """x_t = 0.9 x_{t−1} + …, of variance 1, and powers of it: low means of those have small errors."""
    rng, kept = np.random.default_rng(1), 0.9
    shape = (settings.n_groups, settings.n_chains, settings.n_draws)
    noise = rng.normal(size=shape) * np.sqrt(1 - kept**2)
    noise[..., 0] /= np.sqrt(1 - kept**2)
    x = lfilter([1], [1, -kept], noise, axis=-1)
    series = {"x": x, "x²": x**2, "|x|³": abs(x) ** 3}
    return Known(
        series,
        (
            Quantity("⟨x⟩", mean("x"), 0.0, "x", (0.05, 0.03)),
            Quantity("⟨x²⟩", mean("x²"), 1.0, "x²", (0.07, 0.04)),
            Quantity("⟨|x|³⟩", mean("|x|³"), np.sqrt(8 / np.pi), "|x|³", (0.15, 0.09)),
            Quantity("var x", _variance("x"), 1.0, "x", (0.05, 0.03)),
        ),
    )


def _variance(name: str) -> Callable[[Series], Estimate]:
    return lambda series: jackknife(lambda one: float(np.var(one["k"])), {"k": series[name]})


def ising(settings: Settings) -> Known:
    """4×4 Ising spins at T = 2.5 J, by sweeps and Wolff clusters; the answers by enumeration."""
    target = Ising((4, 4), couplings=[1.0], temperature=2.5)
    states = np.array(list(itertools.product([-1.0, 1.0], repeat=16))).reshape(-1, 4, 4)
    log_weights = np.asarray(jax.lax.map(target.log_weight, jnp.asarray(states), batch_size=4096))
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    squared, energy = states.mean((1, 2)) ** 2, -2.5 * log_weights / 16
    update = Sequence((CheckerboardSweep(target), WolffUpdate(target)))
    start = jnp.asarray(np.random.default_rng(2).choice([-1.0, 1.0], (_n_chains(settings), 4, 4)))
    (m2, log_weight) = _sampled(update, start, settings, _square)
    series = {"m²": m2, "energy": -2.5 * log_weight / 16}
    moments = (weights @ squared, weights @ squared**2, weights @ energy, weights @ energy**2)
    return Known(
        series,
        (
            Quantity("⟨m²⟩", mean("m²"), moments[0], "m²", (0.02, 0.012)),
            Quantity("Binder ratio", _binder, moments[1] / moments[0] ** 2, "m²", (0.02, 0.012)),
            Quantity("energy", mean("energy"), moments[2], "energy", (0.02, 0.012)),
            Quantity("var energy", _variance("energy"), moments[3] - moments[2] ** 2, "energy", (0.02, 0.012)),
        ),
    )


def _binder(series: Series) -> Estimate:
    return jackknife(lambda one: binder_ratio(one["m"]), {"m": series["m²"]})


def _square(state: State, info: Any) -> tuple[Array, Array]:
    return jnp.mean(state.configuration) ** 2, state.log_weight


def pair(settings: Settings) -> Known:
    """Two double-exchange spins by self-learning Monte Carlo with a poor model; the answers by quadrature."""
    target = DoubleExchange((2,), 0.5, 2.5, -0.4, 0.2)
    nodes, quadrature = np.polynomial.legendre.leggauss(64)
    configurations = jnp.asarray([[[0, 0, 1.0], [np.sqrt(1 - c**2), 0, c]] for c in nodes])
    log_weights, observables = jax.lax.map(target.log_weight_and_observables, configurations)
    weights = quadrature * np.exp(np.asarray(log_weights) - float(jnp.max(log_weights)))
    weights /= weights.sum()
    update = _self_learning(target, Heisenberg((2,), couplings=[-0.8]))
    start = Sphere().random(jax.random.key(3), (_n_chains(settings), 2, 3))
    cosine, energy = _sampled(update, start, settings, _cosine_and_energy)
    truth = weights @ nodes, weights @ np.asarray(observables["energy"])
    return Known(
        {"S_1·S_2": cosine, "energy": energy},
        (
            Quantity("⟨S_1·S_2⟩", mean("S_1·S_2"), truth[0], "S_1·S_2", (0.02, 0.012)),
            Quantity("energy", mean("energy"), truth[1], "energy", (0.01, 0.006)),
            Quantity("var S_1·S_2", _variance("S_1·S_2"), weights @ nodes**2 - truth[0] ** 2, "S_1·S_2", (0.02, 0.012)),
        ),
    )


def _self_learning(target: Target, model: Heisenberg) -> Update:
    return MetropolisHastings(target, CumulativeUpdate(HeatBathSweep(model), 2))


def _cosine_and_energy(state: State, info: Any) -> tuple[Array, Array]:
    return jnp.sum(state.configuration[0] * state.configuration[1]), state.observables["energy"]


def _n_chains(settings: Settings) -> int:
    return settings.n_groups * settings.n_chains


def _sampled(update: Update, start: Array, settings: Settings, observe: Callable[..., Any]) -> tuple[np.ndarray, ...]:
    """Series of all groups after thermalising."""
    states = init_chains(update, start)
    states, _ = run_chains(jax.random.key(4), update, states, settings.n_thermalise, observe)
    _, seen = run_chains(jax.random.key(5), update, states, settings.n_draws, observe)
    return tuple(np.asarray(one).reshape(settings.n_groups, settings.n_chains, -1) for one in seen)


SYSTEMS = {"autoregressive": autoregressive, "ising": ising, "pair": pair}
FIXED = (8, 4, 1)
"""Parts of the longest chain that are lengths given beforehand."""


def plain_rule(series: np.ndarray, wanted: float) -> bool:
    """Stop as soon as the error is small enough."""
    found = estimate(series)
    return found.error <= wanted and not found.verdict


RULES = {"is_known_to": is_known_to, "as soon as the error is small": plain_rule}


def measured(known: Known, settings: Settings) -> dict[str, Any]:
    """z of every quantity, at fixed lengths and by both rules."""
    rows = {}

    @functools.cache
    def stops(series: str, wanted: float, words: str) -> list[int]:
        """Where each group stops; several quantities may be stopped by the same series."""
        return [_stop(group, RULES[words], wanted, settings) for group in known.series[series]]

    for quantity in known.quantities:
        for part in FIXED:
            ends = [settings.n_draws // part] * settings.n_groups
            rows[f"{quantity.name}; {ends[0]} draws a chain"] = _row(known, quantity, ends)
        for wanted, words in itertools.product(quantity.wanted, RULES):
            ends = stops(quantity.series, wanted, words)
            rows[f"{quantity.name}; error {wanted} of ⟨{quantity.series}⟩, {words}"] = _row(known, quantity, ends)
    return rows


def _stop(group: np.ndarray, rule: Callable[[np.ndarray, float], bool], wanted: float, settings: Settings) -> int:
    looks = range(2 * settings.block_size, settings.n_draws, settings.block_size)
    return next((end for end in looks if rule(group[:, :end], wanted)), settings.n_draws)


def _row(known: Known, quantity: Quantity, ends: list[int]) -> dict[str, float]:
    pulls, sizes = [], []
    for group, end in enumerate(ends):
        found = quantity.found({name: one[group, :, :end] for name, one in known.series.items()})
        if not found.verdict and found.error > 0:
            pulls.append((found.value - quantity.truth) / found.error)
            sizes.append(found.ess)
    few = len(pulls) < 2
    return {
        "ok": len(pulls),
        "mean": None if few else float(np.mean(pulls)),
        "deviation": None if few else float(np.std(pulls, ddof=1)),
        "draws": float(np.mean(ends)),
        "ess": None if few else float(np.mean(sizes)),
    }


def page(results: ResultFile, settings: Settings) -> str:
    """What the documentation shows."""
    lines = []
    for system, rows in results.rows.items():
        for name, row in rows.items():
            if name == "made":
                continue
            quantity, how = name.split("; ")
            numbers = ["–" if row[key] is None else f"{row[key]:{form}}" for key, form in _COLUMNS.items()]
            lines.append((system, quantity, how, *numbers))
    header = ("system", "quantity", "stopped", "groups that are ok", "mean z", "std z", "draws a chain", "ESS")
    return "\n".join(
        [
            "# Do error bars cover?\n",
            results.provenance() + "\n",
            f"z = (value − truth)/error of {settings.n_groups} groups of {settings.n_chains} chains, where the number "
            'is printed as "ok". A standard deviation of 1 says that errors are honest; with '
            f"{settings.n_groups} groups it is known to ± {1 / np.sqrt(2 * settings.n_groups):.2f}. `is_known_to` is "
            "the rule by which a run stops at a wanted error; the other stops as soon as the error looks small "
            "enough.\n",
            table(header, lines),
            "",
        ]
    )


_COLUMNS = {"ok": "d", "mean": ".2f", "deviation": ".2f", "draws": ".0f", "ess": ".0f"}


def part_of(name: str) -> Part:
    """The groups of runs of one system."""
    return lambda results, settings: results.make(name, lambda: measured(SYSTEMS[name](settings), settings))


def write(results: ResultFile, settings: Settings) -> None:
    (results.page_folder / "error_coverage.md").write_text(page(results, settings))


if __name__ == "__main__":
    parts = {name: part_of(name) for name in SYSTEMS}
    main(__file__, __doc__, (Settings(), QUICK), parts, write, choose="systems: " + " ".join(SYSTEMS))
