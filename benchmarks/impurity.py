"""Impurity models: agreement with diagonalisation, residuals of the models, who wins, dynamical mean-field theory.

    python benchmarks/impurity.py [references] [residuals] [rates] [lattice] [hybridization] [slices]

Without names all parts. ``hybridization`` is the Bethe lattice by ALPS (``impurity_hybridization.py``), with a python
that has pyalps named in the environment variable ``SLMC_PYALPS_PYTHON``; without it that part is left out. Writes
``benchmarks/results/impurity.json`` and, from it, ``docs/results/impurity.md`` with figures. Times are of one core.
"""

import functools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from command import main
from matplotlib import pyplot
from result_file import ROOT, ResultFile, rounded, table
from scipy.stats import norm as normal
from scipy.stats import t as student

from slmc.montecarlo import Label, MetropolisHastings, Update, init_chains, run_chains
from slmc.selflearning import CumulativeUpdate
from slmc.statistics import estimate, notation
from slmc.systems.impurity import (
    Anderson,
    BathModel,
    FlipSweep,
    HirschFye,
    NetworkModel,
    NetworkSweep,
    PairModel,
    PairSweep,
    Poles,
    RankOneSweep,
    SliceNetwork,
    SliceNetworkSweep,
    WindowSweep,
    fit_network,
    fit_pairs,
    fit_potential,
    fit_slices,
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
SWEEPS = {5.0: 2, 10.0: 2, 20.0: 2, 50.0: 3, 100.0: 4}
N_CHAINS = 32
"""Independent chains of which errors of references are made."""

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
    training, held_out = labels(target, 4, n_steps, 11), labels(target, 4, n_steps // 2, 23)
    models: dict[str, Any] = {name: of_vertices(name, target, training)[0] for name in ("pair", "network")}
    models |= {f"{n} levels": fit_potential(bath(target, n), training) for n in (2, 3, 4)}
    return {
        "beta": beta,
        "interaction": interaction,
        "samples": len(held_out.log_weight),
        **{name: residual_of(model, held_out) for name, model in models.items()},
    }


def references(name: str, n_steps: int) -> dict[str, Any]:
    """Deviations from exact diagonalisation, in errors from independent chains, by local, pair and bath updates."""
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
        states = init_chains(update, thermal(target, N_CHAINS, 50, 3))
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
        row[name] = {
            "value": mean,
            "error": error,
            "exact": float(expected),
            "deviation": float(gaussian(deviation, len(by_chain) - 1)),
            "tail": tail(values) if name.startswith("g") else None,
        }
    return row


def gaussian(deviation: float, freedom: int) -> float:
    """The deviation of a Gaussian that is as unlikely as one in errors which were themselves estimated."""
    unlikely = student.sf(abs(deviation), freedom)
    return math.copysign(float(normal.isf(unlikely)), deviation)


def tail(values: np.ndarray) -> float:
    """Share of the sum that the largest 0.1 % of the values make."""
    flat = np.sort(values.ravel())
    return float(flat[-max(1, len(flat) // 1000) :].sum() / flat.sum())


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
        if kind in ("pair", "network"):
            model, inner = of_vertices(kind, target, training)
            n_sweeps = 2 if beta < 40 else 1
            n_inner = 2 * order(target) * n_sweeps
        else:
            model = fit_potential(bath(target, LEVELS[beta]) if kind == "bath" else many_poles(target), training)
            inner, n_sweeps = WindowSweep(model, model.n_windows), SWEEPS[beta]
            n_inner = n_sweeps * model.n_windows * inner.n_updates
        s = residual_of(model, training)
        update = MetropolisHastings(target, CumulativeUpdate(inner, n_sweeps))
    states = init_chains(update, start)
    states, _ = run_chains(jax.random.key(1), update, states, 8, seen)
    series, spent, block = [], 0.0, 8
    while spent < seconds or len(series) < (20 if beta >= 50 else 4):
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
        row["levels"] = len(model.energies) if isinstance(model, BathModel) else None
    return row


def of_vertices(kind: str, target: Anderson, training: Label) -> tuple[PairModel | NetworkModel, Update]:
    """The model of pairs, or of a network for every vertex, and its updates."""
    if kind == "pair":
        pairs = fit_pairs(PairModel(8, target.constants), training)
        return pairs, PairSweep(pairs, 2 * order(target))
    network = fit_network(NetworkModel(8, 6, target.constants), training)
    return network, NetworkSweep(network, 2 * order(target))


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


def by_hybridization(beta: float, interaction: float, n_iterations: int, seconds: int) -> dict[str, Any]:
    """The same lattice by an independent solver in a process of its own."""
    script = Path(__file__).with_name("impurity_hybridization.py")
    numbers = map(str, (beta, interaction, n_iterations, seconds))
    command = [os.environ["SLMC_PYALPS_PYTHON"], str(script), *numbers]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    history = json.loads(printed.splitlines()[-1])
    last = history[n_iterations // 2 :]
    row: dict[str, Any] = {"beta": beta, "interaction": interaction, "iterations": n_iterations, "seconds": seconds}
    for name in ("sigma_im", "double_occupancy", "green_half_beta"):
        values = np.array([numbers[name] for numbers in last])
        row[name] = [float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))]
    return row | {"history_sigma_im": [numbers["sigma_im"] for numbers in history]}


def slice_costs(n_slices: int) -> dict[str, Any]:
    """Microseconds of a flip at Δτ = 1/8, U = 4: exact by rank one, and of a network of two layers."""
    beta = n_slices / 8
    target = HirschFye(of_levels(0.0, *semicircle(SEMICIRCLE, SEMICIRCLE / 2, beta)), beta, 4.0, n_slices)
    network = SliceNetwork(n_slices, 2, 3)
    spins = jax.random.rademacher(jax.random.key(0), (n_slices,), jnp.float64)
    row: dict[str, Any] = {"slices": n_slices, "beta": beta}
    makers: dict[str, Any] = {
        "exact": functools.partial(FlipSweep, target),
        "network": functools.partial(SliceNetworkSweep, network),
    }
    for name, make in makers.items():
        few, many = (best_time(make(number), spins) for number in (100, 600))
        row[name] = (many - few) / 500
    return row


def best_time(update: Update, configuration: Any) -> float:
    """Microseconds of a step, the least of several."""
    step, state = eqx.filter_jit(update.step), update.init(configuration)
    best = math.inf
    for number in range(6):
        started = time.process_time()
        jax.block_until_ready(step(jax.random.key(number), state))
        best = min(best, time.process_time() - started)
    return 1e6 * best


def slice_models(beta: float, interaction: float, n_slices: int, n_steps: int) -> dict[str, Any]:
    """Held-out s and acceptance of pairs of spins alone and of networks, at equidistant times."""
    poles = of_levels(0.0, *semicircle(SEMICIRCLE, SEMICIRCLE / 2, beta))
    target = HirschFye(poles, beta, interaction, n_slices)
    update = FlipSweep(target, 8 * n_slices)
    start = jax.random.rademacher(jax.random.key(1), (8, n_slices), jnp.float64)
    states, _ = run_chains(jax.random.key(2), update, init_chains(update, start), 50, nothing)
    states, (spins, log_weights) = run_chains(jax.random.key(3), update, states, n_steps, kept)
    half = n_steps // 2
    first, second = (
        Label(
            np.asarray(spins[:, part]).reshape(-1, n_slices),
            np.asarray(log_weights[:, part]).ravel(),
            np.zeros_like(np.asarray(spins[:, part]).reshape(-1, n_slices)),
        )
        for part in (slice(None, half), slice(half, None))
    )
    row: dict[str, Any] = {"beta": beta, "interaction": interaction, "slices": n_slices, "samples": 8 * half}
    models = {"pairs": pairs_of_slices(first), "network": fit_slices(SliceNetwork(n_slices, 4, 6), first)}
    for name, model in models.items():
        proposing = MetropolisHastings(target, CumulativeUpdate(SliceNetworkSweep(model, 4 * n_slices), 2))
        chains = init_chains(proposing, states.configuration)
        _, accepted = run_chains(jax.random.key(5), proposing, chains, max(10, n_steps // 4), acceptance)
        row[name] = [residual_of(model, second), float(np.mean(accepted))]
    return row


def pairs_of_slices(labels: Label) -> SliceNetwork:
    """Pairs alone, by linear least squares."""
    spins = np.asarray(labels.configuration)
    n_slices = spins.shape[1]
    rows = [np.sum(spins * np.roll(spins, distance, axis=1), axis=1) for distance in range(1, n_slices // 2 + 1)]
    rows[-1] = rows[-1] / 2
    matrix = np.stack([*rows, np.ones(len(spins))], axis=1)
    found = np.linalg.lstsq(matrix, np.asarray(labels.log_weight), rcond=None)[0]
    values = jnp.asarray(np.append(0.0, found[:-1])), jnp.asarray(found[-1])
    return eqx.tree_at(lambda m: (m.pairs, m.constant), SliceNetwork(n_slices, 1, 1), values)


def acceptance(state: Any, info: Any) -> Any:
    return info.accepted


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
    for kind in ("bath", "local", "pair", "network", "poles"):
        for beta in settings["betas"]:
            if kind in ("pair", "network") and beta > 50:
                continue  # They accept nothing there.
            results.make(f"rate {beta:g} {kind}", rates, beta, kind, settings["seconds"])


def make_lattice(results: ResultFile, settings: Settings) -> None:
    """Up from the metal, and down from the insulator."""
    for beta, steps in settings["lattice_steps"].items():
        for direction in ("up", "down") if beta < 50 else ("up",):
            old = None
            for interaction in settings["lattice_interactions"][:: 1 if direction == "up" else -1]:
                name = f"lattice {beta:g} {interaction:g} {direction}"
                if name in results.rows:
                    old = None
                    continue
                row, old = lattice(beta, interaction, settings["iterations"], steps, old)
                results.add(name, row)


def make_hybridization(results: ResultFile, settings: Settings) -> None:
    if "SLMC_PYALPS_PYTHON" not in os.environ:
        print("hybridization: left out, SLMC_PYALPS_PYTHON is not set")
        return
    for beta in settings["lattice_betas"]:
        for interaction in settings["lattice_interactions"]:
            name = f"hybridization {beta:g} {interaction:g}"
            results.make(name, by_hybridization, beta, interaction, *settings["hybridization"])


def make_slices(results: ResultFile, settings: Settings) -> None:
    for n_slices in settings["slices"]:
        results.make(f"slices {n_slices}", slice_costs, n_slices)
    results.make("slice models", slice_models, *settings["slice_models"])


# -------------------------------------------------------------------------------------------------------------- page


def page(results: ResultFile) -> str:
    rows = results.rows
    lines = ["# Impurity models\n", results.provenance() + "\n"]
    found = {name: row for name, row in rows.items() if name.startswith("R")}
    if found:
        lines.append("## Against exact diagonalisation\n")
        lines.append(
            f"Largest deviation, in errors from {N_CHAINS} chains, of D measured two ways, density, χ and g(τ).\n"
        )
        cells = []
        for name, row in found.items():
            worst = [max(abs(q["deviation"]) for k, q in row[kind].items() if k != "acceptance") for kind in row]
            d = row["bath"]["D"]
            accepted = f"{row['pair']['acceptance']:.2f} / {row['bath']['acceptance']:.2f}"
            of_rare = f"{row['local']['g(2β/4)']['tail']:.2f}"
            numbers = notation(d["value"], d["error"]), f"{d['exact']:.7f}"
            cells.append((name, *(f"{w:.1f}" for w in worst), accepted, *numbers, of_rare))
        lines.append(table(("", "local", "pair", "bath", "acceptance, pair / bath", "D, bath", "exact", "rare"), cells))
        total = sum(len(row[kind]) - 1 for row in found.values() for kind in row)
        lines.append(
            f"\n{total} deviations in all, each as that of a Gaussian that is as unlikely as it is with errors of so "
            "many chains. The last column is the share of g(β/2), by the local updates, that the largest 0.1 % of the "
            "configurations make: of a local moment (R4) it comes from rare ones, and errors from short chains are "
            "too small, whatever the update.\n"
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
            cells.append(
                (
                    f"{row['beta']:g}",
                    f"{row['interaction']:g}",
                    *texts,
                    f"{row['network']:.3f}" if "network" in row else "",
                )
            )
        lines.append(table(("β", "U", "pair", "3 levels", "4 levels", "network"), cells) + "\n")
    lines += rates_of(rows) + lattice_of(rows) + slices_of(rows)
    return "\n".join(lines)


def slices_of(rows: dict[str, Any]) -> list[str]:
    found = [row for name, row in rows.items() if name.startswith("slices ")]
    if not found:
        return []
    found.sort(key=lambda row: row["slices"])
    cells = [(f"{r['beta']:g}", str(r["slices"]), f"{r['exact']:.2f}", f"{r['network']:.2f}") for r in found]
    lines = [
        "## Equidistant times (Hirsch and Fye)\n",
        "Microseconds of a flip at U = 4, Δτ = 1/8, accepted ones and rejected ones together.\n",
        table(("β", "L", "exact, by rank one", "network of two layers"), cells),
    ]
    if len(found) > 2:
        upper = found[len(found) // 2 - 1 :]
        slopes = [
            np.polyfit(np.log([r["slices"] for r in upper]), np.log([max(r[kind], 1e-3) for r in upper]), 1)[0]
            for kind in ("exact", "network")
        ]
        lines.append(
            f"\nExponents in β from L = {upper[0]['slices']} on: exact {slopes[0]:.2f}, network {slopes[1]:.2f}.\n"
        )
    if "slice models" in rows:
        row = rows["slice models"]
        lines.append(
            f"At β = {row['beta']:g}, U = {row['interaction']:g}, L = {row['slices']}, from {row['samples']} samples: "
            f"pairs alone s = {row['pairs'][0]:.2f}, acceptance {row['pairs'][1]:.2f}; "
            f"network s = {row['network'][0]:.2f}, acceptance {row['network'][1]:.2f}.\n"
        )
    return lines


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
                    rounded(row["ess_per_second"], 3),
                    "" if math.isnan(local) else f"{row['ess_per_second'] / local:.2f}",
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
    found += [row | {"way": "ALPS"} for name, row in rows.items() if name.startswith("hybridization ")]
    found.sort(key=lambda row: (row["beta"], row["interaction"], row["way"] != "up", row["way"] == "ALPS"))
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
            f"{1 / (1 - row['sigma_im'][0] * row['beta'] / math.pi):.3f}",
            f"{row['history_sigma_im'][row['iterations'] // 2]:.2f}, {row['history_sigma_im'][-1]:.2f}",
        )
        for row in found
    ]
    header = ("β", "U", "from", "D", "Im Σ(iω_0)", "g(β/2)", "1/(1 − Im Σ/ω_0)", "Im Σ, middle and end")
    words = (
        "Half filling, half-bandwidth 2. «up»: from the metal to larger U, «down»: from the insulator to smaller; "
        "where both differ there is hysteresis, unless the iterations still drift, which the last column shows: "
        "Im Σ(iω_0) in the middle and at the end of them. Errors are from the scatter of the second half of the "
        "iterations. «ALPS»: the hybridization expansion in continuous time of pyalps in a loop of its own, from the "
        "metal.\n"
    )
    return ["## Dynamical mean-field theory on the Bethe lattice\n", words, table(header, cells) + "\n"]


def draw(rows: dict[str, Any], path: Path) -> bool:
    """Effective samples a second against β, by update, and g(β/2) of the lattice against U; whether there were any."""
    rates = [row for name, row in rows.items() if name.startswith("rate ")]
    solved = [row for name, row in rows.items() if name.startswith("lattice ") and name.endswith("up")]
    if len({row["beta"] for row in rates}) < 2 or not solved:
        return False
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for kind in ("local", "bath", "poles", "pair", "network"):
        line = sorted((row["beta"], row["ess_per_second"]) for row in rates if row["update"] == kind)
        if line:
            left.loglog(*zip(*line, strict=True), marker="o", label=kind)
    left.set(xlabel="β", ylabel="effective samples a second")
    left.legend()
    for beta in sorted({row["beta"] for row in solved}):
        line = sorted((row["interaction"], *row["green_half_beta"]) for row in solved if row["beta"] == beta)
        interactions, values, errors = zip(*line, strict=True)
        shade = right.errorbar(interactions, values, errors, marker="o", label=f"β = {beta:g}")
        others = [row for name, row in rows.items() if name.startswith("hybridization ") and row["beta"] == beta]
        numbers = [(row["interaction"], row["green_half_beta"][0]) for row in others]
        if numbers:
            right.plot(*zip(*numbers, strict=True), "x", markersize=9, color=shade.lines[0].get_color())
    right.set(xlabel="U", ylabel="g(β/2), Bethe lattice")
    right.legend()
    figure.savefig(path)
    pyplot.close(figure)
    return True


def write(results: ResultFile, settings: Settings) -> None:
    text = page(results)
    if draw(results.rows, results.page_folder / "impurity.svg"):
        figure = "![Effective samples a second against β; g(β/2) against U](impurity.svg)\n"
        words = "Left: who wins at U = 4. Right: the Mott transition by dynamical mean-field theory; crosses: ALPS.\n"
        text = text.replace("\n## ", f"\n{figure}\n{words}\n## ", 1)
    (Path(results.page_folder) / "impurity.md").write_text(text)


FULL: Settings = {
    "references": [f"R{number}" for number in range(1, 9)],
    "reference_steps": 500,
    "residuals": [(10.0, 2.0), (10.0, 4.0), (20.0, 4.0)],
    "label_steps": 400,
    "betas": [50.0, 10.0, 20.0, 100.0, 5.0],
    "seconds": 2.0,
    "lattice_betas": [10.0, 20.0, 50.0],
    "lattice_interactions": [2.0, 4.0, 6.0],
    "iterations": 12,
    "lattice_steps": {10.0: 200, 20.0: 100, 50.0: 30},
    "hybridization": (8, 3),
    "slices": [32, 64, 128, 256],
    "slice_models": (4.0, 4.0, 32, 400),
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
    "lattice_steps": {3.0: 8},
    "hybridization": (2, 1),
    "slices": [8],
    "slice_models": (1.0, 2.0, 8, 12),
}

if __name__ == "__main__":
    parts = {
        "references": make_references,
        "residuals": make_residuals,
        "rates": make_rates,
        "lattice": make_lattice,
        "hybridization": make_hybridization,
        "slices": make_slices,
    }
    main(
        __file__,
        __doc__,
        (FULL, QUICK),
        parts,
        write,
        choose="parts",
        on_one_device=["rates", "references", "lattice", "slices"],
    )
