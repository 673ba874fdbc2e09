"""Strong coupling: a network learned on 10×10 sites, up to 40×40, and exact self-learning Monte Carlo at 16×16.

    python benchmarks/strong_coupling.py

The model is that of REFERENCES: J = 16, μ = −8.3, T = 0.1. Writes ``benchmarks/results/strong_coupling.json`` and, from
it, ``docs/results/strong_coupling.md``. Interrupted, it continues.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from command import main
from exact_labels import SPHERE, ExactData, cache_folder, hamiltonian_chain, labelled_chains, tuned
from result_file import ResultFile, table
from timing import least_seconds

from slmc.lattice import n_sites
from slmc.montecarlo import Label, MetropolisHastings, init_chains, over_chains, run_chains
from slmc.montecarlo.target import evaluate
from slmc.selflearning import CumulativeUpdate, TrainingSettings, expected_acceptance, fit, fit_linear, residual
from slmc.statistics import estimate
from slmc.system import load_model, save_model
from slmc.systems.spins import DoubleExchange, EquivariantNetwork, Heisenberg
from slmc.systems.spins.models import build_like, describe
from slmc.systems.spins.observables import magnetization_squared
from slmc.systems.spins.problem import linear_part


class Settings(NamedTuple):
    """Sizes: the lattice learned on, those tested, configurations tested on each; network; chains at ``exact_size``."""

    learned_size: int = 10
    sizes: tuple[int, ...] = (10, 16, 20, 40)
    n_tested: tuple[int, ...] = (400, 160, 80, 16)
    network: tuple[int, int, int, int] = (2, 12, 32, 3)
    n_training: int = 3000
    training_steps: int = 3000
    exact_size: int = 16
    n_updates: int = 4
    n_exact_steps: int = 100
    n_draws: int = 200
    n_thermalise: int = 120


QUICK = Settings(4, (4, 6), (16, 8), (1, 2, 3, 1), 64, 10, 4, 2, 8, 8, 4)


def target_of(size: int) -> DoubleExchange:
    return DoubleExchange((size, size), 1.0, 16.0, -8.3, 0.1)


def learned(settings: Settings) -> dict[str, Any]:
    """Trains the network, and the linear model beside it, on exact configurations of the small lattice."""
    data = _data(settings)
    shape = (settings.learned_size,) * 2
    n_layers, n_channels, n_hidden, reach = settings.network
    model = EquivariantNetwork(shape, n_layers, n_channels, n_hidden, reach, 0.1, key=jax.random.key(1))
    started = time.perf_counter()
    model = fit_linear(model, data.training, SPHERE, where=linear_part)
    training = TrainingSettings(
        n_steps=settings.training_steps,
        batch_size=16,
        learning_rate=0.02,
        weight_decay=0.03,
        force_weight=100.0,
        evaluate_every=100 if settings.training_steps > 100 else settings.training_steps,
        patience=10**6,
        single_precision=True,
        optimiser="muon",
    )
    result = fit(jax.random.key(2), model, data.training, data.held_out, SPHERE, training)
    seconds = time.perf_counter() - started
    linear = fit_linear(Heisenberg(shape, temperature=0.1), data.training, SPHERE)
    save_model(_path(), result.model, describe(result.model))
    return {
        "n_parameters": sum(leaf.size for leaf in jax.tree.leaves(result.model)),
        "n_labels": len(data.training.log_weight),
        "seconds": seconds,
        "residual": residual(result.model, data.held_out),
        "linear_residual": residual(linear, data.held_out),
        "log_weight_spread": float(np.std(data.held_out.log_weight)),
    }


def tested(size: int, n_tested: int, settings: Settings) -> dict[str, Any]:
    """Residual on independent configurations of a lattice.

    The configurations come from Hamiltonian chains of the network, so that at 40×40 none needs to be diagonalised but
    those that are compared.
    """
    target, network = target_of(size), load_model(_path(), build_like).on_lattice((size, size))
    n_chains = min(8, n_tested)
    starts = SPHERE.random(jax.random.key(3), (n_chains, size, size, 3))
    update = tuned(jax.random.key(4), hamiltonian_chain(network), starts, 15)
    chains = init_chains(update, starts)
    # Out of the random start, then far enough apart to be independent.
    chains, _ = run_chains(jax.random.key(5), update, chains, settings.n_thermalise, _nothing)
    drawn = []
    for number in range(-(-n_tested // n_chains)):
        chains, _ = run_chains(jax.random.fold_in(jax.random.key(6), number), update, chains, 8, _nothing)
        drawn.append(np.asarray(chains.configuration))
    spins = np.concatenate(drawn)[:n_tested]
    exact = np.asarray(over_chains(_log_weight, spins, target, group_size=1))
    predicted = np.asarray(over_chains(_log_weight, spins, network, group_size=1))
    difference = exact - predicted
    n = n_sites((size, size))
    scatter = float(np.std(difference, ddof=1))
    return {
        "n_sites": n,
        "n_tested": n_tested,
        "residual": scatter,
        "residual_per_root_site": scatter / n**0.5,
        "residual_error": scatter / (2 * (n_tested - 1)) ** 0.5 / n**0.5,
        "rms_per_site": scatter / n,
        "mean_shift_per_site": float(np.mean(difference) / n),
    }


def timed(size: int) -> dict[str, Any]:
    """Seconds of one evaluation of either weight."""
    target, network = target_of(size), load_model(_path(), build_like).on_lattice((size, size))
    spins = np.asarray(SPHERE.random(jax.random.key(12), (4, size, size, 3)))
    return {"exact_seconds": seconds_of(target, spins[:1]), "network_seconds": seconds_of(network, spins)}


def sampled(settings: Settings) -> dict[str, Any]:
    """Exact self-learning Monte Carlo on the larger lattice with the network of the small one."""
    size = settings.exact_size
    target, network = target_of(size), load_model(_path(), build_like).on_lattice((size, size))
    starts = SPHERE.random(jax.random.key(7), (8, size, size, 3))
    inner = tuned(jax.random.key(8), hamiltonian_chain(network), starts, 15)
    chains = init_chains(inner, starts)
    chains, _ = run_chains(jax.random.key(9), inner, chains, settings.n_thermalise, _nothing)
    update = MetropolisHastings(target, CumulativeUpdate(inner, settings.n_updates))
    chains = init_chains(update, chains.configuration)
    chains, _ = run_chains(jax.random.key(10), update, chains, max(1, settings.n_exact_steps // 10), _observe)
    started = time.perf_counter()
    _, seen = run_chains(jax.random.key(11), update, chains, settings.n_exact_steps, _observe)
    accepted, magnetization, log_weight, energy = (np.asarray(one) for one in seen)
    seconds = time.perf_counter() - started
    found = estimate(magnetization)
    return {
        "acceptance": float(accepted.mean()),
        "acceptance_error": float(np.std(accepted.mean(1), ddof=1) / len(accepted) ** 0.5),
        "n_chains": len(accepted),
        "n_steps": settings.n_exact_steps,
        "n_updates": settings.n_updates,
        "seconds": seconds,
        "ess_per_evaluation": found.ess / accepted.size if found.ess else None,
        "ess_per_second": found.ess / seconds if found.ess else None,
        "magnetization_squared": found._asdict(),
        "log_weight": estimate(log_weight)._asdict(),
        "energy": estimate(energy)._asdict(),
    }


def seconds_of(target: Any, spins: np.ndarray, n_times: int = 3) -> float:
    """Seconds of log W of one configuration, one core, the least of several; ``spins`` are done in one program."""
    run = jax.jit(jax.vmap(lambda one: evaluate(target, one)))
    return least_seconds(lambda: run(jnp.asarray(spins)), n_times) / len(spins)


def _data(settings: Settings) -> ExactData:
    """Exact configurations with labels: HMC chains, the last two of which are held out."""
    path = cache_folder() / f"strong-{settings.learned_size}-{settings.n_draws}.npz"
    if not path.exists():
        labels = labelled_chains(target_of(settings.learned_size), 16, settings.n_draws, 2, 60, jax.random.key(0))
        np.savez(path, **labels._asdict())
    with np.load(path) as stored:
        labels = Label(**stored)
    flat = [jax.tree.map(lambda leaf, s=s: leaf[s].reshape(-1, *leaf.shape[2:]), labels) for s in _SPLIT]
    return ExactData(
        jax.tree.map(lambda leaf: leaf[: settings.n_training], flat[0]), flat[1], labels.configuration[:, -1]
    )


_SPLIT = (slice(None, -2), slice(-2, None))


def _path():
    return cache_folder() / "strong-network.eqx"


def _nothing(state, info):
    return None


def _observe(state, info):
    return (
        info.accepted,
        magnetization_squared(state.configuration),
        state.log_weight,
        state.observables["energy"],
    )


def _log_weight(target, spins):
    return target.log_weight(spins)


def page(results: ResultFile, settings: Settings) -> str:
    """What the documentation shows."""
    rows = results.rows
    parts = [f"# Strong coupling: learned on {settings.learned_size}×{settings.learned_size}, used up to 40×40\n"]
    if rows:
        parts.append(results.provenance() + "\n")
    parts.append("Double exchange at J = 16, μ = −8.3, T = 0.1 (the data set of arXiv:2502.17665).\n")
    if "learning" in rows:
        one = rows["learning"]
        parts.append(
            f"The network has {one['n_parameters']} parameters and filters that reach {settings.network[3]} sites; it "
            f"was trained on {one['n_labels']} exact configurations in {one['seconds']:.0f} s. Held-out residual s = "
            f"{one['residual']:.3f}; the linear model over all displacements has {one['linear_residual']:.3f}, log W "
            f"itself spreads by {one['log_weight_spread']:.2f}.\n"
        )
    lines = []
    for size in settings.sizes:
        one, times = (rows.get(f"{size}x{size}{part}") for part in ("", ": seconds"))
        if one and times:
            lines.append(
                (
                    f"{size}×{size}",
                    str(one["n_tested"]),
                    f"{one['residual']:.2f}",
                    f"{one['residual_per_root_site']:.4f} ± {one['residual_error']:.4f}",
                    f"{one['rms_per_site']:.5f}",
                    f"{one['mean_shift_per_site']:.4f}",
                    f"{1e3 * times['exact_seconds']:.1f}",
                    f"{1e3 * times['network_seconds']:.3f}",
                    f"{times['exact_seconds'] / times['network_seconds']:.0f}",
                )
            )
    header = (
        "lattice",
        "configurations",
        "s",
        "s/√N",
        "s/N",
        "mean shift/N",
        "diagonalisation (ms)",
        "network (ms)",
        "ratio",
    )
    parts.append(table(header, lines) + "\n")
    parts.append(
        "Residuals on configurations drawn from the network's own Hamiltonian chains on each lattice, none of which "
        "took part in learning. Were the errors of the sites independent, s/√N would be the same on every lattice. "
        "The mean shift enters no acceptance.\n"
    )
    if "exact chain" in rows:
        one = rows["exact chain"]
        size = settings.exact_size
        alone = rows.get(f"{size}x{size}")
        expected = f"; erfc(s/2) of the table's s is {expected_acceptance(alone['residual']):.2f}" if alone else ""
        m2 = one["magnetization_squared"]
        parts.append(
            f"Exact self-learning Monte Carlo at {size}×{size} with this network, not trained further: acceptance "
            f"{one['acceptance']:.3f} ± {one['acceptance_error']:.3f} with {one['n_updates']} trajectories in a "
            f"proposal ({one['n_chains']} chains of {one['n_steps']} steps{expected}), "
            f"{one['ess_per_evaluation']:.2f} effective samples of m² per exact evaluation, "
            f"{one['ess_per_second']:.1f} a second; m² = {m2['value']:.4f} ± {m2['error']:.4f}, "
            f"R-hat {m2['r_hat']:.3f}.\n"
        )
    return "\n".join(parts)


def measure_all(results: ResultFile, settings: Settings) -> None:
    results.make("learning", learned, settings)
    results.make("exact chain", sampled, settings)
    for size, n_tested in zip(settings.sizes, settings.n_tested, strict=True):
        results.make(f"{size}x{size}", tested, size, n_tested, settings)
        results.make(f"{size}x{size}: seconds", timed, size)


def write(results: ResultFile, settings: Settings) -> None:
    (results.page_folder / "strong_coupling.md").write_text(page(results, settings))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write)
