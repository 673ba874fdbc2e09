"""Double exchange on the cubic lattice at strong coupling: the linear model by shells against exact local updates.

    python benchmarks/cubic.py

Writes ``benchmarks/results/cubic.json`` and, from it, ``docs/results/cubic.md`` and ``.svg``. Interrupted, it
continues.
"""

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from command import main
from exact_labels import SPHERE, hamiltonian_chain
from matplotlib import pyplot
from result_file import ResultFile, table
from timing import least_seconds

from slmc.lattice import n_sites, shells
from slmc.montecarlo import (
    LocalSweep,
    State,
    Target,
    Update,
    evaluate,
    init_chains,
    run_chains,
    tune_step_size,
)
from slmc.selflearning import (
    Learner,
    LearningSettings,
    TrainingSettings,
    expected_acceptance,
    fit_linear,
    learn,
)
from slmc.statistics import estimate, notation
from slmc.systems.spins import DoubleExchange, Heisenberg
from slmc.systems.spins.observables import magnetization_squared
from slmc.systems.spins.problem import inner_update
from slmc.systems.spins.settings import InnerSettings


class Settings(NamedTuple):
    """Extents measured and, beyond them, timed; couplings of the target; chains; what is measured."""

    sizes: tuple[int, ...] = (4, 6)
    timed: tuple[int, ...] = (8,)
    coupling: float = 16.0
    chemical_potential: float = -8.3
    temperature: float = 0.1
    n_chains: int = 8
    n_updates: int = 10
    n_labels: tuple[int, ...] = (60, 60, 60)
    n_steps: tuple[int, ...] = (1500, 120)
    n_local_sweeps: int = 1000
    timed_sweeps: tuple[int, ...] = (20, 1)


QUICK = Settings((2,), (2,), n_chains=4, n_updates=2, n_labels=(16, 16), n_steps=(40,), n_local_sweeps=40,
                 timed_sweeps=(2,))  # fmt: skip


def target_of(size: int, settings: Settings) -> DoubleExchange:
    return DoubleExchange(
        (size,) * 3, 1.0, settings.coupling, settings.chemical_potential, temperature=settings.temperature
    )


heat_bath = partial(inner_update, settings=InnerSettings(update="heat-bath"))


def prepared(
    key: jax.Array, target: Target, starts: jax.Array, n_labels: tuple[int, ...], n_updates: int
) -> tuple[Learner, State]:
    """What learns the linear model by shells, and chains in which exact HMC has been tuned."""
    exact = hamiltonian_chain(target, 0.1, 5)
    exact, chains = tune_step_size(key, exact, init_chains(exact, starts), wanted=0.8, n_rounds=20, n_steps=2)
    training = TrainingSettings(n_steps=0)
    settings = LearningSettings(n_rounds=len(n_labels), n_steps=n_labels, n_updates=n_updates, training=training)
    return Learner(target, SPHERE, exact, heat_bath, start=_solved, settings=settings), chains


def _solved(model: Target, labels: Any) -> Target:
    return fit_linear(model, labels, SPHERE)


def observe(state: State, info: Any) -> tuple[jax.Array, jax.Array]:
    return magnetization_squared(state.configuration), info.accepted


def measured(place: int, settings: Settings) -> dict[str, Any]:
    """Learning, acceptance, effective samples a second of SLMC and of exact local sweeps, of one size."""
    size = settings.sizes[place]
    target = target_of(size, settings)
    shape, key = target.shape, jax.random.key(size)
    starts = SPHERE.random(key, (settings.n_chains, *shape, 3))
    learner, chains = prepared(key, target, starts, settings.n_labels, settings.n_updates)
    started = time.perf_counter()
    learned = learn(key, learner, Heisenberg(shape, temperature=settings.temperature), chains.configuration, 100)
    seconds_learning = time.perf_counter() - started
    model, report = learned.model, learned.reports[-1]
    update, n_steps = learned.update, settings.n_steps[place]
    states, _ = run_chains(key, update, learned.chains, max(4, n_steps // 10), observe)
    series, accepted, seconds = timed(update, states, n_steps)
    # Autocorrelation of local sweeps is a property of the distribution, which the model describes closely; a sweep of
    # the exact weight is timed.
    sweep = LocalSweep(model, SPHERE, 0.5)
    sweep, local = tune_step_size(key, sweep, init_chains(sweep, states.configuration), _local_step, 0.5, 10, 5)
    ours, _, _ = timed(sweep, local, settings.n_local_sweeps)
    ess_per_sweep = estimate(ours).ess / ours.size
    exact_sweep = LocalSweep(target, SPHERE, sweep.step_size)
    exact_states = init_chains(exact_sweep, states.configuration)
    one, _, seconds_sweeps = timed(exact_sweep, exact_states, settings.timed_sweeps[place])
    found = estimate(series)
    slmc_rate, local_rate = found.ess / seconds, ess_per_sweep * one.size / seconds_sweeps
    return {
        "n_sites": n_sites(shape),
        "couplings": np.asarray(model.couplings).tolist(),
        "distances": np.sqrt(shells(shape).squared_distances[1:]).tolist(),
        "residual": report.residual,
        "expected_acceptance": expected_acceptance(report.residual),
        "acceptance": float(accepted.mean()),
        "exact_evaluations_learning": report.exact_evaluations,
        "seconds_learning": seconds_learning,
        "magnetization_squared": found._asdict(),
        "slmc_ess_per_second": slmc_rate,
        "slmc_ess_per_evaluation": found.ess / series.size,
        "local_ess_per_sweep": ess_per_sweep,
        "local_seconds_per_sweep": seconds_sweeps / one.size,
        "local_ess_per_second": local_rate,
        "ratio": slmc_rate / local_rate,
    }


def _nothing(state: State, info: Any) -> None:
    return None


def timed(update: Update, states: State, n_steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """m² and acceptance of every step, and the seconds all of them took, after one that compiled."""
    key = jax.random.key(17)
    n_blocks = min(5, n_steps)
    states, _ = jax.block_until_ready(run_chains(key, update, states, n_steps // n_blocks, observe))
    started, seen = time.perf_counter(), []
    for number in range(n_blocks):
        states, one = run_chains(jax.random.fold_in(key, number), update, states, n_steps // n_blocks, observe)
        seen.append(jax.device_get(one))
    seconds = time.perf_counter() - started
    series, accepted = (np.concatenate(parts, axis=1) for parts in zip(*seen, strict=True))
    return series, accepted, seconds


def cost(size: int, settings: Settings) -> dict[str, Any]:
    """Seconds of one exact evaluation and of one inner update, for one configuration."""
    target = target_of(size, settings)
    model = Heisenberg(target.shape, n_shells=shells(target.shape).n_shells, temperature=settings.temperature)
    spins = SPHERE.random(jax.random.key(0), (2, *target.shape, 3))
    states = init_chains(heat_bath(model), spins)

    def inner(states: State) -> State:
        return run_chains(jax.random.key(1), heat_bath(model), states, settings.n_updates, _nothing)[0]

    weight = jax.jit(lambda spins: jax.lax.map(lambda one: evaluate(target, one)[0], spins))
    return {
        "n_sites": n_sites(target.shape),
        "seconds_exact": least_seconds(lambda: weight(spins)) / 2,
        "seconds_inner_chain": least_seconds(lambda: inner(states)) / 2,
    }


def _local_step(update: Any) -> jax.Array:
    return update.step_size


def draw(rows: dict[str, Any], settings: Settings, path: Any) -> None:
    """Couplings against distance."""
    figure, axes = pyplot.subplots(figsize=(6, 3.8), layout="constrained")
    for size in settings.sizes:
        row = rows[f"L = {size}"]
        axes.plot(row["distances"], row["couplings"], "o-", markersize=4, label=f"$L = {size}$")
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel="distance", ylabel="$J_n / t$ of the effective model")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path)
    pyplot.close(figure)


def page(results: ResultFile, settings: Settings) -> str:
    """What the documentation shows."""
    rows, lines, costs = results.rows, [], []
    for size in settings.sizes:
        row = rows[f"L = {size}"]
        m2 = row["magnetization_squared"]
        lines.append(
            (
                f"{size}³",
                f"{row['residual']:.3f}",
                f"{row['acceptance']:.3f}",
                notation(m2["value"], m2["error"]),
                f"{row['slmc_ess_per_evaluation']:.3f}",
                f"{row['slmc_ess_per_second']:.3g}",
                f"{row['local_ess_per_second']:.3g}",
                f"{row['ratio']:.3g} ×",
                f"{row['exact_evaluations_learning']:,}",
                f"{row['seconds_learning']:.0f} s",
            )
        )
    for size in (*settings.sizes, *settings.timed):
        row = rows[f"cost {size}"]
        exact, inner = row["seconds_exact"], row["seconds_inner_chain"]
        costs.append((f"{size}³", f"{1e3 * exact:.3g}", f"{1e3 * inner:.3g}", f"{inner / exact:.2g}"))
    header = (
        *("lattice", "s", "acceptance", "⟨m²⟩", "samples / evaluation", "samples / s", "exact local"),
        *("ratio", "evaluations to learn", "learning"),
    )
    return "\n".join(
        [
            "# Cubic lattice at strong coupling\n",
            results.provenance() + "\n",
            f"Double exchange on L³ sites at J = {settings.coupling:g}, μ = {settings.chemical_potential:g}, "
            f"T = {settings.temperature:g}: a two-body model with a coupling for every shell, fitted on the fly; "
            f"{settings.n_updates} sweeps of heat bath with over-relaxation make one proposal. "
            "Effective samples are those of m². The rate of exact local sweeps is their autocorrelation, measured on "
            "the model, and the time of a sweep with the exact weight.\n",
            table(header, lines),
            "\n![Couplings against distance](cubic.svg)\n",
            "Milliseconds of one exact evaluation and of one inner chain, each for one configuration:\n",
            table(("lattice", "exact weight (ms)", "inner chain (ms)", "inner / exact"), costs),
            "\n`slmc run cubic` is the run for L = 4.\n",
        ]
    )


def measure_all(results: ResultFile, settings: Settings) -> None:
    for size in (*settings.sizes, *settings.timed):
        results.make(f"cost {size}", cost, size, settings)
    for place, size in enumerate(settings.sizes):
        results.make(f"L = {size}", measured, place, settings)


def write(results: ResultFile, settings: Settings) -> None:
    draw(results.rows, settings, results.page_folder / "cubic.svg")
    (results.page_folder / "cubic.md").write_text(page(results, settings))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write)
