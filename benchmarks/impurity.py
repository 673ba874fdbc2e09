"""Impurity models: agreement with diagonalisation, residuals of the models, who wins, dynamical mean-field theory.

    python benchmarks/impurity.py [references] [residuals] [rates] [lattice]

Without names all parts. Writes ``benchmarks/results/impurity.json`` and, from it, ``docs/results/impurity.md``. Times
are of one core.
"""

import functools
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from command import main
from result_file import ROOT, ResultFile, table

from slmc.montecarlo import Label, MetropolisHastings, Update, init_chains, run_chains
from slmc.selflearning import CumulativeUpdate
from slmc.statistics import estimate, notation
from slmc.systems.impurity import (
    Anderson,
    BathModel,
    PairModel,
    PairSweep,
    Poles,
    RankOneSweep,
    WindowSweep,
    fit_pairs,
    fit_potential,
    fitted,
    of_levels,
    semicircle,
)
from slmc.systems.impurity.moments import matsubara, self_energy
from slmc.systems.impurity.positive_poles import energy_grid, of_times
from slmc.systems.impurity.self_consistency import bare_poles, bethe_lattice

sys.path.insert(0, str(ROOT / "tests"))

SEMICIRCLE = 2.0
LEVELS = {5.0: 3, 10.0: 3, 20.0: 4, 50.0: 5, 100.0: 6}
SWEEPS = {5.0: 2, 10.0: 2, 20.0: 4, 50.0: 8, 100.0: 12}
EXPECTED_RESIDUALS = {
    (10.0, 2.0): (0.52, 0.033, None),
    (10.0, 4.0): (1.04, 0.051, 0.005),
    (20.0, 4.0): (1.51, 0.22, 0.041),
}
"""Pair model, bath of three and of four levels: the numbers to be reproduced."""

Settings = dict[str, Any]


def impurity(beta: float, interaction: float) -> Anderson:
    """In a semicircular bath of half-bandwidth 2."""
    return Anderson(of_levels(0.0, *semicircle(SEMICIRCLE, SEMICIRCLE / 2, beta)), beta, interaction)


def order(target: Anderson) -> int:
    """K + βU/2."""
    return math.ceil(1 + float(target.beta) * float(target.interaction) / 2)


def seen(state: Any, info: Any) -> Any:
    """Order, squared sum of spins, acceptance."""
    numbers = state.observables["numbers"]
    return numbers[0], numbers[1] ** 2, info.accepted


def thermal(target: Anderson, n_chains: int, n_steps: int, seed: int = 0) -> Any:
    """Configurations after so many sweeps of 4 (K + βU/2) local updates."""
    update = RankOneSweep(target, 4 * order(target))
    states = init_chains(update, jnp.zeros((n_chains, target.capacity, 2)))
    return run_chains(jax.random.key(seed), update, states, n_steps, nothing)[0].configuration


def nothing(state: Any, info: Any) -> None:
    return None


def kept(state: Any, info: Any) -> Any:
    """Labels of what an exact chain visits."""
    return state.configuration, state.log_weight


def labels(target: Anderson, n_chains: int, n_steps: int, seed: int) -> Label:
    """Samples of the target, 8 (K + βU/2) local updates apart."""
    update = RankOneSweep(target, 8 * order(target))
    states = init_chains(update, thermal(target, n_chains, 60, seed))
    _, (configurations, log_weights) = run_chains(jax.random.key(seed + 1), update, states, n_steps, kept)
    flat = np.asarray(configurations).reshape(-1, target.capacity, 2)
    return Label(flat, np.asarray(log_weights).ravel(), np.zeros_like(flat))


def bath(target: Anderson, n_levels: int) -> BathModel:
    """Levels fitted to the propagator."""
    poles, beta = target.poles, float(target.beta)
    return BathModel(fitted(functools.partial(poles.at_times, beta), beta, n_levels, symmetric=True), target.constants)


def many_poles(target: Anderson) -> BathModel:
    """As many levels as make the propagator right to 1e-7: the exact weight at O(n r²), to rounding of the fit."""
    beta = float(target.beta)
    times = np.linspace(0, beta, 801)
    poles, _ = of_times(energy_grid(beta, 2.2 * SEMICIRCLE), beta, times, target.poles.at_times(beta, times))
    few = poles.weights > 0
    return BathModel(Poles(poles.energies[few], poles.weights[few] / poles.weights.sum()), target.constants)


def predicted(model: Any, configurations: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(jax.vmap(model.log_weight)(c)) for c in np.array_split(configurations, 8)])


def residual_of(model: Any, held_out: Label) -> float:
    """s, over held-out samples."""
    return float(np.std(held_out.log_weight - predicted(model, np.asarray(held_out.configuration))))


def residuals(beta: float, interaction: float, n_steps: int) -> dict[str, Any]:
    """Held-out s of the pair model and of baths of two to four levels."""
    target = impurity(beta, interaction)
    training, held_out = labels(target, 4, n_steps, 11), labels(target, 4, n_steps, 23)
    models = {"pair": fit_pairs(PairModel(8, target.constants), training)}
    models |= {f"{n} levels": fit_potential(bath(target, n), training) for n in (2, 3, 4)}
    return {
        "beta": beta,
        "interaction": interaction,
        "samples": len(held_out.log_weight),
        **{name: residual_of(model, held_out) for name, model in models.items()},
    }


def references(name: str, n_steps: int) -> dict[str, Any]:
    """Deviations from exact diagonalisation, in errors from 8 chains, by local, pair and bath updates."""
    import reference_impurity as reference

    beta, interaction, level, energies, couplings = reference.REFERENCES[name]
    exact = reference.Impurity(level, energies, couplings).expectations(
        beta, interaction, beta * np.array([0.25, 0.5, 0.75])
    )
    target = Anderson(of_levels(level, np.array(energies), np.array(couplings)), beta, interaction)
    training = labels(target, 4, max(40, n_steps // 20), 5)
    few = fitted(functools.partial(target.poles.at_times, beta), beta, 2, symmetric=target.poles.symmetric)
    inner = {
        "pair": PairSweep(fit_pairs(PairModel(8, target.constants), training), order(target)),
        "bath": WindowSweep(fit_potential(BathModel(few, target.constants), training), windows(few, target)),
    }
    updates: dict[str, Update] = {"local": RankOneSweep(target, 4 * order(target))}
    updates |= {kind: MetropolisHastings(target, CumulativeUpdate(update, 2)) for kind, update in inner.items()}
    row: dict[str, Any] = {}
    for kind, update in updates.items():
        states = init_chains(update, thermal(target, 8, 50, 3))
        states, _ = run_chains(jax.random.key(7), update, states, n_steps // 10, nothing)
        _, (numbers, green, accepted) = run_chains(jax.random.key(8), update, states, n_steps, measured)
        row[kind] = compared(target, jax.device_get((numbers, green)), exact)
        row[kind]["acceptance"] = float(np.mean(accepted))
    return row


def windows(poles: Poles, target: Anderson) -> int:
    return BathModel(poles, target.constants).n_windows


def measured(state: Any, info: Any) -> Any:
    return state.observables["numbers"], jnp.mean(state.observables["green"], axis=0), info.accepted


def compared(target: Anderson, series: Any, exact: dict[str, Any]) -> dict[str, Any]:
    """Value, error and deviation of each quantity."""
    numbers, green = series
    beta, expansion, gamma = (float(value) for value in target.constants)
    interaction, density = float(target.interaction), 2 - 2 * green[..., 0]
    n, spins = numbers[..., 0], numbers[..., 1]
    quantities = {
        "D": (numbers[..., 4], exact["D"]),
        "D from order": (density / 2 - (n - expansion) / (beta * interaction), exact["D"]),
        "density": (density, exact["n_up"] + exact["n_down"]),
        "χ": (beta * (spins**2 - n) / (2 * expansion * math.sinh(gamma)) ** 2, exact["chi"]),
        **{f"g({k}β/4)": (green[..., 8 * k], exact["g"][k - 1]) for k in (1, 2, 3)},
    }
    row = {}
    for name, (values, expected) in quantities.items():
        by_chain = values.mean(1)
        mean, error = float(by_chain.mean()), float(by_chain.std(ddof=1) / math.sqrt(len(by_chain)))
        deviation = (mean - expected) / error if error > 1e-12 else 0.0
        row[name] = {"value": mean, "error": error, "exact": float(expected), "deviation": deviation}
    return row


def rates(beta: float, kind: str, seconds: float) -> dict[str, Any]:
    """Effective samples a second of the slower of n and (Σ s)², acceptance, and microseconds for an inner update."""
    target = impurity(beta, 4.0)
    start = thermal(target, 4, 30 if beta < 40 else 60, 2)
    training = labels(target, 4, 40, 5) if kind != "local" else None
    n_inner, s = 10 * order(target), None
    if kind == "local":
        update: Update = RankOneSweep(target, n_inner)
    else:
        assert training is not None
        if kind == "pair":
            model = fit_pairs(PairModel(8, target.constants), training)
            inner: Update = PairSweep(model, 2 * order(target))
            n_sweeps = 2 if beta < 40 else 1
            n_inner = 2 * order(target) * n_sweeps
        else:
            model = fit_potential(bath(target, LEVELS[beta]) if kind == "bath" else many_poles(target), training)
            inner, n_sweeps = WindowSweep(model, model.n_windows), SWEEPS[beta]
            n_inner = n_sweeps * model.n_windows * 20
        s = residual_of(model, training)
        update = MetropolisHastings(target, CumulativeUpdate(inner, n_sweeps))
    states = init_chains(update, start)
    states, _ = run_chains(jax.random.key(1), update, states, 8, seen)
    series, spent, block = [], 0.0, 8
    while spent < seconds or len(series) < 4:
        started = time.process_time()
        states, found = run_chains(jax.random.fold_in(jax.random.key(9), len(series)), update, states, block, seen)
        series.append(jax.device_get(found))
        spent += time.process_time() - started
    n, squared, accepted = (np.concatenate(part, axis=1) for part in zip(*series, strict=True))
    sizes = [estimate(values).ess or 0.0 for values in (n, squared)]
    row = {
        "beta": beta,
        "update": kind,
        "ess_per_second": min(sizes) / spent,
        "ess": min(sizes),
        "acceptance": float(accepted.mean()),
        "seconds": spent,
        "microseconds_per_step": 1e6 * spent / n.size,
        "inner_updates": n_inner,
        "mean_order": float(n.mean()),
        "residual": s,
    }
    if kind != "local":
        row["microseconds_per_inner_update"] = inner_cost(update.proposal, states.configuration) / n_inner  # type: ignore[attr-defined]
        row["levels"] = len(model.energies) if kind != "pair" else None  # type: ignore[union-attr]
    return row


def inner_cost(proposal: Any, configurations: Any) -> float:
    """Microseconds of a proposal, its weights included."""
    propose = jax.jit(lambda key, x: proposal.propose(key, x))
    jax.block_until_ready(propose(jax.random.key(0), configurations[0]))
    best = math.inf
    for number in range(8):
        started = time.process_time()
        jax.block_until_ready(propose(jax.random.key(number), configurations[0]))
        best = min(best, time.process_time() - started)
    return 1e6 * best


def lattice(
    beta: float, interaction: float, n_iterations: int, n_steps: int, old: Any = None
) -> tuple[dict[str, Any], Any]:
    """Iterations from the bath ``old``, or from that without interaction; each begins where the last one ended."""
    bethe = bethe_lattice(SEMICIRCLE)
    energies = energy_grid(beta, SEMICIRCLE + 6.0)
    poles = bare_poles(bethe, energies, beta, None, None, 1.0) if old is None else old
    configurations, history = None, []
    for iteration in range(n_iterations):
        target = Anderson(poles, beta, interaction)
        if configurations is None:
            configurations = thermal(target, 4, 30, 1)
        update = RankOneSweep(target, 4 * order(target))
        states = init_chains(update, configurations)
        key = jax.random.fold_in(jax.random.key(4), iteration)
        states, found = run_chains(key, update, states, n_steps, of_lattice)
        moments, double, half = jax.device_get(found)
        configurations = states.configuration
        mean = moments.mean((0, 1))
        sigma = self_energy(poles, beta, mean, 1)[0]
        history.append((float(sigma.imag), float(double.mean()), float(half.mean())))
        by_chain = self_energy(poles, beta, moments.mean(1), 1)[:, 0].imag
        poles = bare_poles(bethe, energies, beta, poles, mean, 1.0 if iteration < n_iterations // 2 else 0.5)
    last = np.array(history[n_iterations // 2 :])
    error = last.std(0, ddof=1) / math.sqrt(len(last))
    row = {
        "beta": beta,
        "interaction": interaction,
        "iterations": n_iterations,
        "sigma_im": [float(last[:, 0].mean()), float(error[0])],
        "double_occupancy": [float(last[:, 1].mean()), float(error[1])],
        "green_half_beta": [float(last[:, 2].mean()), float(error[2])],
        "error_of_last_sigma": float(by_chain.std(ddof=1) / 2),
        "history_sigma_im": [line[0] for line in history],
        "omega_0": float(matsubara(beta, 1)[0]),
    }
    return row, poles


def of_lattice(state: Any, info: Any) -> Any:
    observables = state.observables
    green = jnp.mean(observables["green"], axis=0)
    return jnp.mean(observables["moments"], axis=0), observables["numbers"][4], green[green.shape[0] // 2]


# ------------------------------------------------------------------------------------------------------------- parts


def make_references(results: ResultFile, settings: Settings) -> None:
    for name in settings["references"]:
        results.make(name, references, name, settings["reference_steps"])


def make_residuals(results: ResultFile, settings: Settings) -> None:
    for beta, interaction in settings["residuals"]:
        results.make(f"s {beta:g} {interaction:g}", residuals, beta, interaction, settings["label_steps"])


def make_rates(results: ResultFile, settings: Settings) -> None:
    for kind in ("bath", "local", "pair", "poles"):
        for beta in settings["betas"]:
            results.make(f"rate {beta:g} {kind}", rates, beta, kind, settings["seconds"])


def make_lattice(results: ResultFile, settings: Settings) -> None:
    """Up from the metal, and down from the insulator."""
    for beta in settings["lattice_betas"]:
        for direction in ("up", "down"):
            old = None
            for interaction in settings["lattice_interactions"][:: 1 if direction == "up" else -1]:
                name = f"lattice {beta:g} {interaction:g} {direction}"
                if name in results.rows:
                    old = None
                    continue
                row, old = lattice(beta, interaction, settings["iterations"], settings["lattice_steps"], old)
                results.add(name, row)


# -------------------------------------------------------------------------------------------------------------- page


def page(results: ResultFile) -> str:
    rows = results.rows
    lines = ["# Impurity models\n", results.provenance() + "\n"]
    found = {name: row for name, row in rows.items() if name.startswith("R")}
    if found:
        lines.append("## Against exact diagonalisation\n")
        lines.append("Largest deviation, in errors from 8 chains, of D measured two ways, density, χ and g(τ).\n")
        cells = []
        for name, row in found.items():
            worst = [max(abs(q["deviation"]) for k, q in row[kind].items() if k != "acceptance") for kind in row]
            d = row["bath"]["D"]
            accepted = f"{row['pair']['acceptance']:.2f} / {row['bath']['acceptance']:.2f}"
            cells.append(
                (name, *(f"{w:.1f}" for w in worst), accepted, notation(d["value"], d["error"]), f"{d['exact']:.7f}")
            )
        lines.append(table(("", "local", "pair", "bath", "acceptance, pair / bath", "D, bath", "exact"), cells))
        total = sum(len(row[kind]) - 1 for row in found.values() for kind in row)
        lines.append(
            f"\n{total} deviations in all. D, the density and χ of a local moment (R4) agree; its g(τ) comes from rare "
            "configurations, so that errors from short chains are too small, those of the local updates as well.\n"
        )
    found = {name: row for name, row in rows.items() if name.startswith("s ")}
    if found:
        lines.append("## Held-out residuals\n")
        lines.append("Semicircular bath of half-bandwidth 2, K = 1; in brackets the numbers to be reproduced.\n")
        cells = []
        for row in found.values():
            known = EXPECTED_RESIDUALS.get((row["beta"], row["interaction"]), (None, None, None))
            texts = [
                f"{row[kind]:.3f}" + (f" ({value:g})" if value is not None else "")
                for kind, value in zip(("pair", "3 levels", "4 levels"), known, strict=True)
            ]
            cells.append((f"{row['beta']:g}", f"{row['interaction']:g}", *texts))
        lines.append(table(("β", "U", "pair", "3 levels", "4 levels"), cells) + "\n")
    lines += rates_of(rows) + lattice_of(rows)
    return "\n".join(lines)


def rates_of(rows: dict[str, Any]) -> list[str]:
    found = [row for name, row in rows.items() if name.startswith("rate ")]
    if not found:
        return []
    lines = ["## Who wins, U = 4\n", "Effective samples a second of one core, of the slower of n and (Σ s)².\n"]
    cells, winners = [], []
    for beta in sorted({row["beta"] for row in found}):
        by_kind = {row["update"]: row for row in found if row["beta"] == beta}
        local = by_kind["local"]["ess_per_second"] if "local" in by_kind else math.nan
        for kind, row in by_kind.items():
            inner = row.get("microseconds_per_inner_update")
            cells.append(
                (
                    f"{beta:g}",
                    kind if not row.get("levels") else f"{kind}, {row['levels']} levels",
                    f"{row['mean_order']:.1f}",
                    "" if row["residual"] is None else f"{row['residual']:.3f}",
                    f"{row['acceptance']:.3f}",
                    str(row["inner_updates"]),
                    "" if inner is None else f"{inner:.2f}",
                    f"{row['ess_per_second']:.3g}",
                    f"{row['ess_per_second'] / local:.2f}",
                )
            )
        best = max((row["ess_per_second"] for kind, row in by_kind.items() if kind != "local"), default=0.0)
        if best > 1.2 * local:
            winners.append(beta)
    header = ("β", "update", "⟨n⟩", "s", "acceptance", "updates inside", "µs each", "samples / s", "against local")
    lines.append(table(header, cells))
    crossover = "no model is 1.2 times as fast as the local updates"
    if winners:
        crossover = f"of these, β = {min(winners):g} is the first where a model is 1.2 times as fast"
    return [*lines, f"\nCrossover: {crossover}; below it use the local updates (`learning.n_rounds = 0`).\n"]


def lattice_of(rows: dict[str, Any]) -> list[str]:
    found = [row | {"way": name.split()[-1]} for name, row in rows.items() if name.startswith("lattice ")]
    if not found:
        return []
    cells = [
        (
            f"{row['beta']:g}",
            f"{row['interaction']:g}",
            row["way"],
            notation(*row["double_occupancy"]),
            notation(*row["sigma_im"]),
            notation(*row["green_half_beta"]),
            f"{1 / (1 - row['sigma_im'][0] / row['omega_0']):.3f}",
            f"{row['history_sigma_im'][row['iterations'] // 2]:.2f}, {row['history_sigma_im'][-1]:.2f}",
        )
        for row in found
    ]
    header = ("β", "U", "from", "D", "Im Σ(iω_0)", "g(β/2)", "1/(1 − Im Σ/ω_0)", "Im Σ, middle and end")
    words = (
        "Half filling, half-bandwidth 2. «up»: from the metal to larger U, «down»: from the insulator to smaller; "
        "where both differ there is hysteresis, unless the iterations still drift, which the last column shows: "
        "Im Σ(iω_0) in the middle and at the end of them. Errors are from the scatter of the second half of the "
        "iterations.\n"
    )
    return ["## Dynamical mean-field theory on the Bethe lattice\n", words, table(header, cells) + "\n"]


def write(results: ResultFile, settings: Settings) -> None:
    (Path(results.page_folder) / "impurity.md").write_text(page(results))


FULL: Settings = {
    "references": [f"R{number}" for number in range(1, 9)],
    "reference_steps": 600,
    "residuals": [(10.0, 2.0), (10.0, 4.0), (20.0, 4.0)],
    "label_steps": 60,
    "betas": [50.0, 10.0, 20.0, 100.0, 5.0],
    "seconds": 4.0,
    "lattice_betas": [20.0],
    "lattice_interactions": [2.0, 4.0, 6.0],
    "iterations": 10,
    "lattice_steps": 100,
}
QUICK: Settings = {
    "references": ["R1"],
    "reference_steps": 40,
    "residuals": [(4.0, 2.0)],
    "label_steps": 12,
    "betas": [5.0],
    "seconds": 0.2,
    "lattice_betas": [3.0],
    "lattice_interactions": [2.0],
    "iterations": 3,
    "lattice_steps": 8,
}

if __name__ == "__main__":
    parts = {
        "references": make_references,
        "residuals": make_residuals,
        "rates": make_rates,
        "lattice": make_lattice,
    }
    main(__file__, __doc__, (FULL, QUICK), parts, write, choose="parts", on_one_device=["rates"])
