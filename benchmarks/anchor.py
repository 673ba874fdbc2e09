"""The anchor benchmark: do the learned chain and the exact chains agree, and what does each effective model accept?

    python benchmarks/anchor.py

Writes ``benchmarks/results/anchor.json`` and, from it, ``docs/results/anchor.md``. Interrupted, it continues.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from anchor_page import page
from command import main
from exact_labels import (
    SPHERE,
    DataSettings,
    ExactData,
    anchor,
    exact_data,
    hamiltonian_chain,
    tuned,
)
from model_families import (
    ALL_SHELLS,
    FORCE_WEIGHT,
    FOUR_HEADS,
    PAPER,
    PAPER_LONG_HEAD,
    Family,
    accepted,
    described,
    linear_model,
    trained,
    training,
    with_solved_head,
)
from result_file import ResultFile

from slmc.montecarlo import (
    LocalSweep,
    State,
    Update,
    evaluations_per_step,
    init_chains,
    run_chains,
    step_size,
    tune_step_size,
)
from slmc.selflearning import Learner, LearningSettings, learn
from slmc.statistics import estimate
from slmc.systems.spins import EquivariantTransformer
from slmc.systems.spins.observables import magnetization_squared, staggered_magnetization_squared


class Settings(NamedTuple):
    """Sizes of everything; steps are per chain. Acceptance: exact steps for each inner length (trajectories)."""

    data: DataSettings = DataSettings()
    n_chains: int = 8
    n_block: int = 100
    n_thermalise: int = 300
    learned_steps: int = 1000
    hamiltonian_steps: int = 4000
    local_sweeps: int = 500
    n_updates: int = 20
    n_rounds: int = 5
    n_round_steps: int = 100
    learning_steps: int = 400
    training_steps: int = 500
    acceptance_steps: tuple[tuple[int, int], ...] = ((1, 150), (10, 80), (40, 60))
    linear_shells: tuple[int, ...] = (1, 2, 3, 6, 9)
    max_layers: int = 4


QUICK = Settings(
    data=DataSettings((4, 4), 4, 1, 20, 1, 20),
    n_chains=4,
    n_block=5,
    n_thermalise=10,
    learned_steps=10,
    hamiltonian_steps=20,
    local_sweeps=10,
    n_updates=3,
    n_rounds=1,
    n_round_steps=15,
    learning_steps=50,
    training_steps=50,
    acceptance_steps=((2, 5),),
    linear_shells=(1,),
    max_layers=0,
)


def observe(state: State, info: Any) -> dict[str, jax.Array]:
    """What is measured after every step of every chain."""
    spins = state.configuration
    return {
        "accepted": info.accepted,
        "staggered_magnetization_squared": staggered_magnetization_squared(spins),
        "magnetization_squared": magnetization_squared(spins),
        "energy": state.observables["energy"],
        "log_weight": state.log_weight,
    }


def learned_chain(settings: Settings, configurations: jax.Array) -> tuple[Update, State, dict[str, Any]]:
    """Self-learning Monte Carlo with a Transformer learned on the fly, frozen."""
    target = anchor(settings.data.shape)
    exact = tuned(jax.random.key(11), hamiltonian_chain(target), configurations)
    learning = LearningSettings(
        n_rounds=settings.n_rounds,
        n_steps=settings.n_round_steps,
        n_updates=settings.n_updates,
        training=training(FOUR_HEADS, settings.learning_steps, FORCE_WEIGHT),
    )
    learner = Learner(target, SPHERE, exact, hamiltonian_chain, _solve_head, learning)
    model = FOUR_HEADS.model(settings.data.shape, 2, 12)
    started = time.perf_counter()
    result = learn(jax.random.key(13), learner, model, configurations, settings.n_thermalise)
    report = result.reports[-1]
    learnt = {
        "residual": report.residual,
        "expected_acceptance": report.expected_acceptance,
        "exact_evaluations": report.exact_evaluations,
        "seconds": time.perf_counter() - started,
    }
    return result.update, result.chains, {"learning": learnt}


def hamiltonian_exact_chain(settings: Settings, configurations: jax.Array) -> tuple[Update, State, dict[str, Any]]:
    """Hybrid Monte Carlo of the exact weight; no model."""
    update = tuned(jax.random.key(21), hamiltonian_chain(anchor(settings.data.shape)), configurations)
    return update, init_chains(update, configurations), {"step_size": float(step_size(update))}


def local_exact_chain(settings: Settings, configurations: jax.Array) -> tuple[Update, State, dict[str, Any]]:
    """Local Metropolis sweeps of the exact weight, one diagonalisation a site; no model."""
    update = LocalSweep(anchor(settings.data.shape), SPHERE, 0.5)
    chains = init_chains(update, configurations)
    update, _ = tune_step_size(jax.random.key(31), update, chains, lambda sweep: sweep.step_size, 0.5, 10, 2)
    return update, chains, {"step_size": float(update.step_size)}


def _solve_head(model: EquivariantTransformer, labels: Any) -> EquivariantTransformer:
    return with_solved_head(model, ExactData(labels, labels, labels.configuration), FORCE_WEIGHT)


CHAINS: dict[str, tuple[Callable, str]] = {
    "learned": (learned_chain, "learned_steps"),
    "exact-hamiltonian": (hamiltonian_exact_chain, "hamiltonian_steps"),
    "exact-local": (local_exact_chain, "local_sweeps"),
}


def measured(name: str, seed: int, settings: Settings) -> dict[str, Any]:
    """One chain from random spins: thermalise, run, estimate. Seconds leave out compiling and thermalising."""
    make, n_steps = CHAINS[name][0], getattr(settings, CHAINS[name][1])
    configurations = SPHERE.random(jax.random.key(seed), (settings.n_chains, *settings.data.shape, 3))
    update, chains, row = make(settings, configurations)
    n_blocks = settings.n_thermalise // settings.n_block, n_steps // settings.n_block
    keys = jax.random.split(jax.random.key(seed + 1), sum(n_blocks))
    for key in keys[: n_blocks[0]]:
        chains, _ = run_chains(key, update, chains, settings.n_block, observe)
    jax.block_until_ready(chains)
    started, cpu_started, blocks = time.perf_counter(), time.process_time(), []
    for key in keys[n_blocks[0] :]:
        chains, observed = run_chains(key, update, chains, settings.n_block, observe)
        blocks.append(jax.tree.map(np.asarray, observed))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    series = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    acceptance = float(series.pop("accepted").mean())
    series["staggered_magnetization"] = np.sqrt(series["staggered_magnetization_squared"])
    series["magnetization"] = np.sqrt(series["magnetization_squared"])
    evaluations = evaluations_per_step(update, jax.tree.map(lambda leaf: leaf[0], chains.configuration))
    return row | {
        "n_chains": settings.n_chains,
        "n_steps": n_steps,
        "acceptance": acceptance,
        "exact_evaluations": settings.n_chains * n_steps * evaluations,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "observables": {name: estimate(values)._asdict() for name, values in series.items()},
    }


def model_rows(settings: Settings) -> list[tuple[str, str, Family | None, int]]:
    """Row name, words for the page, family, and its shells (linear model) or layers."""
    n_all = settings.linear_shells[-1]
    words = {n: f"linear, {n} shell{'s' * (n > 1)}{' (all)' * (n == n_all and n > 1)}" for n in settings.linear_shells}
    rows: list[tuple[str, str, Family | None, int]] = [
        (f"linear-{n}", words[n], None, n) for n in settings.linear_shells
    ]
    families = (
        ("four-heads", "Transformer, 4 heads, all shells in Q, K, V and head", FOUR_HEADS, 3),
        ("all-shells", "Transformer, 1 head, all shells in Q, K, V and head", ALL_SHELLS, 2),
        ("paper", "Transformer of the paper: 1 head, 6 shells in Q, K, V, nearest-neighbour head", PAPER, 4),
        ("paper-long-head", "the same with a 6-shell head", PAPER_LONG_HEAD, 4),
    )
    for name, description, family, most in families:
        for n_layers in range(1, min(most, settings.max_layers) + 1):
            rows.append((f"{name}-{n_layers}", f"{description}, L = {n_layers}", family, n_layers))
    return rows


def measured_model(family: Family | None, number: int, settings: Settings, data: ExactData) -> dict[str, Any]:
    """One line of the acceptance table."""
    started = time.perf_counter()
    if family is None:
        model = linear_model(data, settings.data.shape, number)
    else:
        model = trained(
            1,
            family.model(settings.data.shape, number, 1),
            data,
            training(family, settings.training_steps, FORCE_WEIGHT),
        )
    row = described(model, data) | {"training_seconds": time.perf_counter() - started}
    steps = dict(settings.acceptance_steps)
    return row | accepted(2, anchor(settings.data.shape), model, data, steps, settings.n_chains)


def measure_all(results: ResultFile, settings: Settings) -> None:
    """Every row that is not there yet."""
    *first, last = CHAINS
    data = None
    for name in (*first, *(row[0] for row in model_rows(settings)), last):
        if name in results.rows:
            continue
        if name in CHAINS:
            row = measured(name, 100 * (1 + list(CHAINS).index(name)), settings)
        else:
            data = exact_data(settings.data) if data is None else data
            family, number = next(row[2:] for row in model_rows(settings) if row[0] == name)
            row = measured_model(family, number, settings, data)
        results.add(name, row)


def write(results: ResultFile, settings: Settings) -> None:
    models = [(name, words) for name, words, *_ in model_rows(settings)]
    (results.page_folder / "anchor.md").write_text(page(results, settings, models))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write)
