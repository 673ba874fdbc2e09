"""Effective samples a second: self-learning Monte Carlo against exact chains at their best, in one run.

    python benchmarks/efficiency.py [6x6 12x12 16x16 24x24 32x32 40x40]

Writes ``benchmarks/results/efficiency.json`` and, from it, ``docs/results/efficiency.md``. Interrupted, it continues.
Chains take turns block by block, so that whatever else the machine does slows all of them alike.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from command import Part, main
from efficiency_page import page
from exact_labels import SPHERE, cache_folder, hamiltonian_chain
from jaxtyping import Array, Key
from result_file import ResultFile
from timing import least_seconds

from slmc.lattice import n_sites
from slmc.montecarlo import (
    HamiltonianTrajectory,
    Label,
    MetropolisHastings,
    MicrocanonicalTrajectory,
    State,
    Target,
    TwoTimeScaleTrajectory,
    Update,
    evaluations_per_step,
    init_chains,
    run_chains,
    tune_step_size,
)
from slmc.montecarlo.target import evaluate
from slmc.selflearning import (
    CumulativeUpdate,
    Learner,
    LearningSettings,
    TrainingSettings,
    expected_acceptance,
    fit_linear,
    learn,
    measure_acceptance,
    residual,
)
from slmc.selflearning.inner_chain import InnerLine, innermost
from slmc.statistics import estimate
from slmc.system import load_model, save_model
from slmc.systems.spins import DoubleExchange, EquivariantNetwork, GreensFunctionSweep, Heisenberg
from slmc.systems.spins.models import build_like, describe
from slmc.systems.spins.observables import magnetization_squared, staggered_magnetization_squared
from slmc.systems.spins.problem import guide_update, nested_update, solve_linear_part
from slmc.systems.spins.settings import InnerSettings


class Tries(NamedTuple):
    """Trajectories of one kind among which the best is taken: (steps, fine steps) of each, and step sizes."""

    kind: str
    numbers: tuple[tuple[int, int], ...]
    step_sizes: tuple[float, ...]


class System(NamedTuple):
    """What is sampled, by which network, learned from how much, and how long chains run (steps per chain).

    ``network`` is its layers, channels, hidden values and reach; ``steps`` are the rounds of learning, the first with
    exact HMC; ``training_steps`` those of the optimiser. ``tries`` are the trajectories that are tried and ``n_scan``
    the steps of a chain in a trial. ``block`` gives, for each chain, the steps of one of ``n_blocks``; without any, the
    system is only learned, for others to start from.
    """

    shape: tuple[int, ...]
    network: tuple[int, int, int, int | None] = (2, 8, 16, None)
    coupling: float = 1.0
    chemical_potential: float = 0.0
    temperature: float = 0.05
    start: str | None = None
    n_shells: int | None = None
    steps: tuple[int, ...] = (30, 100, 250)
    training_steps: tuple[int, ...] = (300, 600, 2500)
    learning_rate: float = 2e-2
    batch_size: int = 32
    n_tune: int = 8
    n_thermalise: int = 10
    n_measure_thermalise: int = 200
    tries: tuple[Tries, ...] = (
        Tries("hmc", ((2, 1), (3, 1), (4, 1)), (0.4, 0.5, 0.6, 0.7)),
        Tries("two scales", ((2, 2), (2, 4), (3, 2)), (0.5, 0.6, 0.75)),
        Tries("microcanonical", ((2, 1), (3, 1), (4, 1)), (0.5, 0.6, 0.7)),
    )
    n_scan: int = 400
    block: tuple[tuple[str, int], ...] = (
        ("slmc", 2000),
        ("linear", 2000),
        ("hmc", 500),
        ("two scales", 500),
        ("microcanonical", 500),
        ("local", 20),
    )
    n_blocks: int = 6
    observable: str = "staggered_magnetization_squared"
    n_local_sweeps: int = 4
    n_held_out: int = 100
    n_long: int = 500


SYSTEMS = {
    "6x6": System((6, 6)),
    "12x12": System(
        (12, 12),
        start="6x6",
        steps=(30, 200),
        training_steps=(200, 800),
        learning_rate=1e-2,
        batch_size=16,
        tries=(
            Tries("hmc", ((3, 1), (4, 1)), (0.38, 0.45, 0.5)),
            Tries("two scales", ((2, 3), (3, 3)), (0.5, 0.6, 0.75)),
            Tries("microcanonical", ((3, 1), (4, 1)), (0.38, 0.45, 0.5)),
        ),
        n_scan=60,
        n_measure_thermalise=60,
        n_held_out=25,
        n_long=60,
        block=(
            ("slmc", 250),
            ("linear", 250),
            ("hmc", 100),
            ("two scales", 80),
            ("microcanonical", 100),
            ("local", 4),
        ),
        n_blocks=8,
        n_local_sweeps=2,
    ),
    "16x16": System(
        (16, 16),
        start="12x12",
        steps=(30, 150),
        training_steps=(100, 300),
        learning_rate=3e-3,
        batch_size=16,
        tries=(
            Tries("hmc", ((4, 1),), (0.3, 0.38, 0.45)),
            Tries("two scales", ((2, 3), (3, 3)), (0.5, 0.6)),
            Tries("microcanonical", ((4, 1),), (0.3, 0.38, 0.45)),
        ),
        n_scan=80,
        n_measure_thermalise=40,
        n_held_out=20,
        n_long=30,
        block=(("slmc", 240), ("linear", 300), ("hmc", 100), ("two scales", 100), ("microcanonical", 100)),
        n_blocks=8,
    ),
    "12x12 wide": System(
        (12, 12),
        (2, 12, 32, None),
        steps=(50, 100, 400),
        training_steps=(200, 300, 1200),
        learning_rate=1e-2,
        batch_size=16,
        n_blocks=0,
    ),
    "16x16 wide": System(
        (16, 16),
        start="12x12 wide",
        steps=(8, 300),
        training_steps=(0, 600),
        learning_rate=4e-3,
        batch_size=16,
        tries=(Tries("two scales", ((2, 3),), (0.5, 0.6)),),
        n_scan=40,
        n_measure_thermalise=40,
        n_held_out=20,
        n_long=30,
        block=(("slmc", 120), ("linear", 150), ("two scales", 40)),
        n_blocks=8,
    ),
    "24x24": System(
        (24, 24),
        start="16x16 wide",
        steps=(6, 250),
        training_steps=(0, 400),
        learning_rate=3e-3,
        batch_size=8,
        tries=(
            Tries("hmc", ((4, 1),), (0.25, 0.3)),
            Tries("two scales", ((3, 3),), (0.4, 0.5)),
            Tries("microcanonical", ((4, 1),), (0.25, 0.35)),
        ),
        n_scan=12,
        n_measure_thermalise=40,
        n_held_out=10,
        n_long=10,
        block=(("slmc", 60), ("linear", 60), ("hmc", 12), ("two scales", 10), ("microcanonical", 12)),
    ),
    "32x32": System(
        (32, 32),
        start="24x24",
        steps=(4, 120),
        training_steps=(0, 150),
        learning_rate=2e-3,
        batch_size=4,
        tries=(Tries("microcanonical", ((4, 1),), (0.25, 0.3)),),
        n_scan=6,
        n_measure_thermalise=40,
        n_held_out=6,
        n_long=6,
        block=(("slmc", 40), ("linear", 40), ("microcanonical", 6)),
    ),
    "40x40": System(
        (40, 40),
        start="32x32",
        steps=(4, 60),
        training_steps=(0, 80),
        learning_rate=1e-3,
        batch_size=4,
        tries=(),
        n_measure_thermalise=40,
        n_held_out=4,
        n_long=4,
        block=(("slmc", 40), ("linear", 30)),
        n_blocks=5,
    ),
    "12x12 J=16": System(
        (12, 12),
        (2, 12, 32, 3),
        coupling=16.0,
        chemical_potential=-8.3,
        temperature=0.1,
        steps=(50, 100, 250),
        training_steps=(200, 300, 1000),
        learning_rate=1e-2,
        batch_size=16,
        observable="magnetization_squared",
        n_blocks=0,
    ),
    "32x32 J=16": System(
        (32, 32),
        coupling=16.0,
        chemical_potential=-8.3,
        temperature=0.1,
        start="12x12 J=16",
        steps=(4, 60),
        training_steps=(0, 80),
        learning_rate=1e-3,
        batch_size=4,
        observable="magnetization_squared",
        tries=(),
        n_measure_thermalise=40,
        n_held_out=4,
        n_long=4,
        block=(("slmc", 40), ("linear", 20)),
    ),
}
QUICK = {
    "quick": System(
        (2, 4),
        (1, 2, 3, None),
        steps=(16, 8),
        training_steps=(5, 5),
        n_tune=2,
        n_thermalise=2,
        n_measure_thermalise=4,
        n_held_out=2,
        n_long=4,
        tries=(
            Tries("hmc", ((2, 1),), (0.5,)),
            Tries("two scales", ((1, 2),), (0.5,)),
            Tries("microcanonical", ((2, 1),), (0.5,)),
        ),
        n_scan=8,
        block=(("slmc", 8), ("linear", 8), ("hmc", 8), ("two scales", 8), ("microcanonical", 8), ("local", 2)),
        n_blocks=2,
    )
}

N_CHAINS = 8
N_GUIDE_UPDATES = (1, 2, 3, 4, 6)
N_LINES = 4
"""Inner chains, of those weighed with the network and without, that are stored."""

N_START = 100
"""Updates of a model from a smaller lattice before learning begins."""

LONG = {"n_guide_updates": 6, "n_updates": 8}
"""An inner chain that forgets where it started."""


def target_of(system: System) -> DoubleExchange:
    parameters = system.coupling, system.chemical_potential, system.temperature
    return DoubleExchange(system.shape, 1.0, *parameters, observables=False)


def observable_of(system: System) -> Callable[[jax.Array], jax.Array]:
    return {
        "staggered_magnetization_squared": staggered_magnetization_squared,
        "magnetization_squared": magnetization_squared,
    }[system.observable]


# ------------------------------------------------------------------------------------------------------- learning


def learned(name: str, system: System) -> dict[str, Any]:
    """Learns on the fly from random spins, counting every exact evaluation; stores the frozen network and guide."""
    target = target_of(system)
    keys = jax.random.split(jax.random.key(7), 3)
    started = time.perf_counter()
    starts = starting_spins(keys[0], system)
    exact = hamiltonian_chain(target, 0.3, 3)
    chains = init_chains(exact, starts)
    exact, chains = tune_step_size(keys[1], exact, chains, wanted=0.8, n_rounds=system.n_tune, n_steps=1)
    kinds = [InnerSettings(update="heat-bath", n_guide_updates=number) for number in N_GUIDE_UPDATES]
    settings = LearningSettings(
        n_rounds=len(system.steps),
        n_steps=system.steps,
        training_steps=system.training_steps,
        n_updates=None,
        held_out_share=1 / N_CHAINS,
        training=TrainingSettings(
            batch_size=system.batch_size,
            learning_rate=system.learning_rate,
            weight_decay=0.03,
            force_weight=100.0,
            evaluate_every=50,
            patience=10**6,
            single_precision=True,
            optimiser="muon",
        ),
    )
    learner = Learner(
        target,
        SPHERE,
        exact,
        (*(partial(nested_update, settings=kind) for kind in kinds), partial(guide_update, settings=kinds[0])),
        # A network from a smaller lattice knows more than the few labels of the first round tell.
        solve_linear_part if system.start is None else None,
        settings,
        Heisenberg(system.shape, n_shells=system.n_shells, temperature=system.temperature),
        lambda guide, labels: fit_linear(guide, labels, SPHERE),
        observable_of(system),
    )
    result = learn(keys[2], learner, start_model(system), chains.configuration, system.n_thermalise, _print_round)
    seconds = time.perf_counter() - started
    before = N_CHAINS * (system.n_tune + system.n_thermalise) * evaluations_per_step(exact, chains.configuration[0])
    report = result.reports[-1]
    guide = innermost(result.update.proposal.update).target
    lines = [InnerLine(*line) for line in report.inner]
    alone = [line for line in lines if int(line.candidate) == len(N_GUIDE_UPDATES)]
    nested = [line for line in lines if int(line.candidate) < len(N_GUIDE_UPDATES)]
    for part, model in (("network", result.model), ("guide", guide)):
        save_model(model_path(name, part), model, describe(model))
    np.save(cache_folder() / f"efficiency-{name}-chains.npy", np.asarray(result.chains.configuration))
    return {
        "n_sites": n_sites(system.shape),
        "n_parameters": sum(leaf.size for leaf in jax.tree.leaves(result.model)),
        "exact_evaluations": report.exact_evaluations + before,
        "seconds": seconds,
        "held_out_residual_while_learning": report.residual,
        "training_residual": report.training_residual,
        "rounds": [
            {
                "exact_evaluations": one.exact_evaluations + before,
                "residual": one.residual,
                "acceptance": one.acceptance,
            }
            for one in result.reports
        ],
        "chosen": "linear" if alone[0] is lines[0] else "network",
        "inner_chains": {
            name: [line._asdict() | {"n_guide_updates": _n_guide_updates(line)} for line in some[:N_LINES]]
            for name, some in (("network", nested), ("linear", alone))
        },
    }


def _n_guide_updates(line: InnerLine) -> int | None:
    """Of an inner chain that was weighed; none where the guide proposes alone."""
    number = int(line.candidate)
    return N_GUIDE_UPDATES[number] if number < len(N_GUIDE_UPDATES) else None


def starting_spins(key: Key[Array, ""], system: System) -> jax.Array:
    """Random spins, or where the model of a smaller lattice has taken them, which costs no exact evaluation."""
    spins = SPHERE.random(key, (N_CHAINS, *system.shape, 3))
    if system.start is None:
        return spins
    guide = stored(system.start, "guide").on_lattice(system.shape, system.temperature)
    update = nested_update(start_model(system), guide, InnerSettings(update="heat-bath", n_guide_updates=8))
    return run_chains(key, update, init_chains(update, spins), N_START)[0].configuration


def start_model(system: System) -> EquivariantNetwork:
    """A fresh network, or the one learned on a smaller lattice."""
    if system.start is not None:
        stored = load_model(model_path(system.start, "network"), build_like)
        return stored.on_lattice(system.shape, system.temperature)
    n_layers, n_channels, n_hidden, reach = system.network
    key = jax.random.key(5)
    return EquivariantNetwork(system.shape, n_layers, n_channels, n_hidden, reach, system.temperature, key=key)


def model_path(name: str, part: str):
    return cache_folder() / f"efficiency-{name}-{part}.eqx"


def _print_round(report: Any) -> None:
    print(f"  round {report.round}: s = {report.residual:.4f}, {report.exact_evaluations} evaluations", flush=True)


# --------------------------------------------------------------------------------------------------------- chains


def observe(state: State, info: Any) -> dict[str, jax.Array]:
    """What is measured after every step of every chain."""
    spins = state.configuration
    return {
        "accepted": jnp.mean(info.accepted),
        "staggered_magnetization_squared": staggered_magnetization_squared(spins),
        "magnetization_squared": magnetization_squared(spins),
        "log_weight": state.log_weight,
    }


def stored(name: str, part: str) -> Any:
    """The frozen network or guide."""
    return load_model(model_path(name, part), build_like)


def learned_update(name: str, line: dict[str, Any]) -> CumulativeUpdate:
    """A proposal with one of the inner chains that were weighed."""
    network, guide = stored(name, "network"), stored(name, "guide")
    if line["n_guide_updates"] is None:
        return CumulativeUpdate(guide_update(network, guide, InnerSettings(update="heat-bath")), int(line["n_updates"]))
    settings = InnerSettings(update="heat-bath", n_guide_updates=line["n_guide_updates"])
    return CumulativeUpdate(nested_update(network, guide, settings), int(line["n_updates"]))


def trajectory(kind: str, target: Target, guide: Target, numbers: tuple[int, int], step_size: float) -> Update:
    """An exact chain of trajectories."""
    n_steps, n_fine = numbers
    size = jnp.asarray(step_size)
    proposals = {
        "hmc": lambda: HamiltonianTrajectory(target, SPHERE, size, n_steps),
        "microcanonical": lambda: MicrocanonicalTrajectory(target, SPHERE, size, n_steps),
        "two scales": lambda: TwoTimeScaleTrajectory(target, guide, SPHERE, size, n_steps, n_fine),
    }
    return MetropolisHastings(target, proposals[kind]())


def scanned(
    system: System, tries: Tries, target: Target, guide: Target, configurations: jax.Array
) -> tuple[Update, list[dict[str, Any]]]:
    """The chain of trajectories with the most effective samples a second, and all that were tried."""
    lines, best = [], None
    for numbers in tries.numbers:
        for step_size in tries.step_sizes:
            update = trajectory(tries.kind, target, guide, numbers, step_size)
            chains = init_chains(update, configurations)
            chains, _ = run_chains(jax.random.key(1), update, chains, system.n_scan, observe)
            started = time.perf_counter()
            _, seen = jax.block_until_ready(run_chains(jax.random.key(2), update, chains, system.n_scan, observe))
            seconds = time.perf_counter() - started
            series = np.asarray(seen[system.observable])
            centred = series - series.mean()
            kept = max(0.0, float(np.mean(centred[:, 1:] * centred[:, :-1]) / np.mean(centred**2)))
            rate = (1 - kept) / (1 + kept) * series.size / seconds
            lines.append(
                {
                    "n_steps": numbers[0],
                    "n_fine": numbers[1],
                    "step_size": step_size,
                    "acceptance": float(np.asarray(seen["accepted"]).mean()),
                    "autocorrelation": kept,
                    "estimated_ess_per_second": rate,
                }
            )
            if best is None or rate > best[0]:
                best = rate, update
    assert best is not None
    return best[1], lines


def raced(name: str, system: System, learning: dict[str, Any]) -> dict[str, Any]:
    """All chains, taking turns, from configurations that the learning run left behind."""
    target, key = target_of(system), jax.random.key(11)
    configurations = np.load(cache_folder() / f"efficiency-{name}-chains.npy")
    chosen = {name: lines[0] for name, lines in learning["inner_chains"].items()}
    proposals = {chain: learned_update(name, chosen[of]) for chain, of in (("slmc", "network"), ("linear", "linear"))}
    updates: dict[str, Update] = {chain: MetropolisHastings(target, of) for chain, of in proposals.items()}
    wanted = dict(system.block)
    row: dict[str, Any] = {"inner_chains": chosen, "scans": {}}
    for tries in system.tries:
        updates[tries.kind], row["scans"][tries.kind] = scanned(
            system, tries, target, stored(name, "guide"), configurations
        )
    if "local" in wanted:
        sweep = GreensFunctionSweep(target, jnp.asarray(0.5), system.n_local_sweeps)
        sweep, _ = tune_step_size(key, sweep, init_chains(sweep, configurations), lambda one: one.step_size, 0.5, 6, 1)
        updates["local"] = sweep
        row["local_step_size"] = float(sweep.step_size)
    states = {one: init_chains(update, configurations) for one, update in updates.items()}
    for one, update in updates.items():
        n_steps = 1 if one == "local" else system.n_measure_thermalise
        n_blocks = -(-n_steps // wanted[one])
        for number in range(n_blocks):
            states[one], _ = run_chains(jax.random.fold_in(key, number), update, states[one], wanted[one], observe)
    jax.block_until_ready(states)
    blocks: dict[str, list[dict[str, np.ndarray]]] = {one: [] for one in updates}
    seconds, core_seconds = dict.fromkeys(updates, 0.0), dict.fromkeys(updates, 0.0)
    for number in range(system.n_blocks):
        for place, (one, update) in enumerate(updates.items()):
            block_key = jax.random.fold_in(jax.random.fold_in(key, 1000 + place), number)
            started, spent = time.perf_counter(), time.process_time()
            states[one], seen = run_chains(block_key, update, states[one], wanted[one], observe)
            blocks[one].append(jax.tree.map(np.asarray, seen))
            seconds[one] += time.perf_counter() - started
            core_seconds[one] += time.process_time() - spent
    for one, update in updates.items():
        series = {key: np.concatenate([block[key] for block in blocks[one]], axis=1) for key in blocks[one][0]}
        evaluations = evaluations_per_step(update, states[one].configuration[0])
        row[one] = chain_row(series, (seconds[one], core_seconds[one]), evaluations, system)
    row["seconds_per_exact_evaluation"] = _seconds_each(target, configurations)
    row["seconds_per_network_evaluation"] = _seconds_each(stored(name, "network"), configurations)
    models = stored(name, "network"), stored(name, "guide")
    residuals, row["held_out_samples"] = held_out_residuals(models, states["slmc"], updates["slmc"], system)
    row["held_out_residual"], row["held_out_residual_linear"] = residuals
    row["expected_acceptance"] = expected_acceptance(row["held_out_residual"])
    long = learned_update(name, LONG)
    spins = np.asarray(states["slmc"].configuration)
    observable = observable_of(system)
    row["long_inner_chain"] = LONG | measure_acceptance(key, target, long, spins, observable, system.n_long)._asdict()
    return row


def chain_row(
    series: dict[str, np.ndarray], seconds: tuple[float, float], evaluations: int, system: System
) -> dict[str, Any]:
    n_chains, n_steps = series["accepted"].shape
    acceptance = float(series.pop("accepted").mean())
    found = {name: estimate(values) for name, values in series.items()}
    ess = found[system.observable].ess
    return {
        "n_chains": n_chains,
        "n_steps": n_steps,
        "acceptance": acceptance,
        "seconds": seconds[0],
        "core_seconds": seconds[1],
        "exact_evaluations": n_chains * n_steps * evaluations,
        "ess_per_second": ess / seconds[0] if ess else None,
        "ess_per_core_second": ess / seconds[1] if ess else None,
        "ess_per_evaluation": ess / (n_chains * n_steps * evaluations) if ess else None,
        "observables": {name: one._asdict() for name, one in found.items()},
    }


def held_out_residuals(
    models: tuple[Target, ...], states: State, update: Update, system: System
) -> tuple[list[float], int]:
    """s of every model on samples of the target that took no part in learning."""
    lines = []
    for number in range(system.n_held_out):
        states, _ = run_chains(jax.random.fold_in(jax.random.key(13), number), update, states, 3, observe)
        lines.append((np.asarray(states.configuration), np.asarray(states.log_weight)))
    configurations, log_weights = (np.concatenate(parts) for parts in zip(*lines, strict=True))
    labels = Label(configurations, log_weights, configurations)
    return [residual(model, labels) for model in models], len(log_weights)


def _seconds_each(target: Target, configurations: np.ndarray, n_times: int = 5) -> float:
    """Seconds of one evaluation on one core: the least of several runs of one program."""
    run = jax.jit(lambda target, spins: jax.lax.map(partial(_evaluated, target), spins, batch_size=4))
    spins = jnp.concatenate([jnp.asarray(configurations)] * (8 if configurations[0].size < 200 else 1))
    return least_seconds(lambda: run(target, spins), n_times) / len(spins)


def _evaluated(target: Target, spins: jax.Array) -> Any:
    return evaluate(target, spins)


def measure(results: ResultFile, systems: dict[str, System], name: str) -> None:
    """The rows of a system, each with its own settings, so that a change of one leaves the rows of the others."""
    settings = json.loads(json.dumps(systems[name]._asdict()))
    functions = {"learning": learned} | ({"chains": raced} if systems[name].n_blocks else {})
    for part, function in functions.items():
        if results.rows.get(f"{name}: {part}", {}).get("settings") != settings:
            rest = (results.rows[f"{name}: learning"],) if part == "chains" else ()
            row = function(name, systems[name], *rest)
            results.add(f"{name}: {part}", row | {"settings": settings, "made": results.made()})


def parts(systems: dict[str, System]) -> dict[str, Part]:
    return {name: partial(measure, name=name) for name in systems}


def write(results: ResultFile, systems: dict[str, System]) -> None:
    (results.page_folder / "efficiency.md").write_text(page(results, systems))


if __name__ == "__main__":
    words = "systems, for instance 6x6 (default: all)"
    main(__file__, __doc__, (SYSTEMS, QUICK), parts, write, choose=words, stored=lambda systems: {})
