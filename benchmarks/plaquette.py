"""The first self-learning Monte Carlo, reproduced: plaquette Ising model, two-body effective models, Wolff clusters.

    python benchmarks/plaquette.py [couplings autocorrelation speed sizes]

Couplings, acceptance and autocorrelation times of arXiv:1610.03137 and its public reproductions. Writes
``benchmarks/results/plaquette.json`` and, from it, ``docs/results/plaquette.md`` and ``.svg``. Interrupted, it
continues.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from command import Part, main
from matplotlib import pyplot
from result_file import ResultFile, table
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from timing import least_seconds

from slmc.montecarlo import Label, MetropolisHastings, Signs, Update, init_chains, run_chains
from slmc.selflearning import CumulativeUpdate, fit_linear
from slmc.statistics import autocorrelation_time, estimate, notation
from slmc.systems.spins import CheckerboardSweep, Ising, PlaquetteIsing, WolffProposal, WolffUpdate
from slmc.systems.spins.clusters import draw_bonds, joined_labels, propagated_labels

CRITICAL = 2.493
"""T_c in units of J at K/J = 0.2, as published."""

LEARNED = 1.107
"""J_1 of the effective model of one shell, as published; the first table learns it again."""


class Settings(NamedTuple):
    """Lattices; steps of all chains: to thermalise, and measured by local sweeps and by clusters; chains."""

    coupling_sizes: tuple[int, ...] = (25, 40)
    time_size: int = 25
    time_temperature: float = 2.5
    acceptance_sizes: tuple[int, ...] = (8, 16, 32, 64)
    scaling_sizes: tuple[int, ...] = (10, 20, 40, 80)
    restricted: tuple[tuple[int, int], ...] = ((10, 4), (20, 8), (40, 16), (80, 32))
    chain_lengths: tuple[tuple[int, int], ...] = ((25, 65), (40, 37), (64, 34), (80, 32))
    chain_radius: int = 8
    n_chain: int = 1500
    speed_size: int = 100
    n_chains: int = 16
    n_thermalise: int = 4000
    n_local: int = 60000
    n_cluster: int = 20000
    labels: int = 8000


QUICK = Settings((4,), 4, 2.5, (4,), (4, 6), ((4, 1), (6, 2)), ((6, 3),), 2, 40, 6, 4, 40, 200, 100, 80)


def target_of(size: int, temperature: float = CRITICAL) -> PlaquetteIsing:
    return PlaquetteIsing((size, size), 1.0, 0.2, temperature)


def slmc(target: PlaquetteIsing, coupling: float, radius: float | None = None) -> MetropolisHastings:
    """One cluster of a nearest-neighbour model with ``coupling`` J_1, decided by the target."""
    return MetropolisHastings(target, WolffProposal(jnp.asarray(coupling / target.temperature), radius))


def restricted_chain(target: PlaquetteIsing, radius: float, n_clusters: int) -> MetropolisHastings:
    """Several restricted clusters of the effective model, each with its surface in the ratio, then one decision."""
    model = Ising(target.shape, couplings=jnp.asarray([LEARNED]), temperature=target.temperature)
    return MetropolisHastings(target, CumulativeUpdate(WolffUpdate(model, radius), n_clusters))


def observe(state: Any, info: Any) -> tuple[jax.Array, jax.Array]:
    return jnp.abs(jnp.mean(state.configuration)), info.accepted


def thermalised(target: PlaquetteIsing, settings: Settings) -> jax.Array:
    """Random spins, brought to the target by sweeps and clusters of the published effective model in turn."""
    spins = Signs().random(jax.random.key(1), (settings.n_chains, *target.shape))
    pair = CheckerboardSweep(target), slmc(target, LEARNED)
    for number, update in enumerate(pair * 4):
        states = init_chains(update, spins)
        states, _ = run_chains(jax.random.key(10 + number), update, states, settings.n_thermalise // 4, observe)
        spins = states.configuration
    return spins


def couplings(size: int, settings: Settings) -> dict[str, Any]:
    """J_n by least squares on samples of the target, with errors from fits to each chain alone."""
    target = target_of(size)
    update = slmc(target, LEARNED)
    states = init_chains(update, thermalised(target, settings))
    n_blocks, kept = max(1, settings.labels // settings.n_chains), []
    for number in range(n_blocks):
        states, _ = run_chains(jax.random.fold_in(jax.random.key(2), number), update, states, 20, observe)
        kept.append((np.asarray(states.configuration), np.asarray(states.log_weight)))
    spins, log_weights = (np.stack(parts, 1) for parts in zip(*kept, strict=True))
    row: dict[str, Any] = {"n_samples": int(log_weights.size)}
    for n_shells in (1, 3):
        model = Ising(target.shape, n_shells=n_shells, temperature=CRITICAL)
        found = [_fitted(model, spins[c], log_weights[c]) for c in range(settings.n_chains)]
        whole = _fitted(model, spins.reshape(-1, *target.shape), log_weights.ravel())
        error = np.std(found, axis=0, ddof=1) / len(found) ** 0.5
        row[f"{n_shells} shells"] = {"couplings": whole.tolist(), "errors": error.tolist()}
    return row


def _fitted(model: Ising, spins: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    labels = Label(jnp.asarray(spins), log_weights, jnp.asarray(spins))
    return np.asarray(fit_linear(model, labels, Signs()).couplings)


def measured(update: Update, spins: jax.Array, n_steps: int) -> tuple[dict[str, Any], np.ndarray]:
    """Autocorrelation time of |M| in steps, its error over groups of chains, acceptance, effective samples/s.

    Also configurations on the way, (configuration, lattice).
    """
    states = init_chains(update, spins)
    block = max(1, n_steps // 10)
    states, _ = run_chains(jax.random.key(3), update, states, block, observe)
    started = time.perf_counter()
    seen, kept = [], []
    for number in range(10):
        states, one = run_chains(jax.random.fold_in(jax.random.key(4), number), update, states, block, observe)
        seen.append(jax.device_get(one))
        kept.append(np.asarray(states.configuration))
    seconds = time.perf_counter() - started
    magnetisation, accepted = (np.concatenate(parts, 1) for parts in zip(*seen, strict=True))
    parts = [autocorrelation_time(part) for part in np.array_split(magnetisation, 4)]
    found = estimate(magnetisation)
    row = {
        "tau_steps": autocorrelation_time(magnetisation),
        "tau_error": float(np.std(parts, ddof=1) / len(parts) ** 0.5),
        "acceptance": float(accepted.mean()),
        "acceptance_error": float(accepted.mean(1).std(ddof=1) / len(accepted) ** 0.5),
        "magnetisation": found._asdict(),
        "ess_per_second": found.ess / seconds if found.ess else None,
        "seconds": seconds,
        "n_steps": 10 * block,
    }
    return row, np.concatenate(kept)


def cluster_shares(update: MetropolisHastings, spins: np.ndarray, n_times: int = 20) -> dict[str, float]:
    """Mean size of a cluster as a share of the lattice: of all that are grown, and of those that are accepted.

    Also the share of clusters cut off by the surface of their ball: their ratio is not that of the effective model.
    """
    coupling = update.proposal.reduced_coupling
    model = Ising(update.target.shape, couplings=coupling[None])

    def one(key: jax.Array, before: jax.Array) -> tuple[jax.Array, ...]:
        after, log_ratio = update.proposal.propose(key, before)
        log_acceptance = update.target.log_weight(after) - update.target.log_weight(before) + log_ratio
        cut = jnp.abs(log_ratio - model.log_weight(before) + model.log_weight(after)) > coupling / 2
        return jnp.mean(jnp.abs(after - before)) / 2, jnp.exp(jnp.minimum(log_acceptance, 0.0)), cut

    keys = jax.random.split(jax.random.key(5), (n_times, len(spins)))
    sizes, accepted, cut = map(np.asarray, jax.jit(jax.vmap(jax.vmap(one), (0, None)))(keys, jnp.asarray(spins)))
    return {
        "share": float(sizes.mean()),
        "share_accepted": float((sizes * accepted).sum() / accepted.sum()),
        "share_cut": float(cut.mean()),
    }


def chain(kind: str, size: int, temperature: float, settings: Settings, radius: float | None = None) -> dict[str, Any]:
    """One chain of a table: local sweeps, clusters of the bare J, or self-learning with the learned J_1."""
    target = target_of(size, temperature)
    spins = thermalised(target, settings)
    if kind == "local":
        return measured(CheckerboardSweep(target), spins, settings.n_local)[0] | {"share": 1.0, "share_accepted": 1.0}
    coupling = 1.0 if kind == "bare Wolff" else LEARNED
    update = slmc(target, coupling, radius)
    row, on_the_way = measured(update, spins, settings.n_cluster)
    return row | cluster_shares(update, on_the_way)


def chain_of_clusters(size: int, n_clusters: int, settings: Settings) -> dict[str, Any]:
    """Self-learning Monte Carlo with ``restricted_chain``; the work is that of all clusters of a step."""
    target, radius = target_of(size), settings.chain_radius
    update = restricted_chain(target, radius, n_clusters)
    row, on_the_way = measured(update, thermalised(target, settings), settings.n_chain)
    one = cluster_shares(slmc(target, LEARNED, radius), on_the_way)
    return row | {"share": n_clusters * one["share"], "share_cut": one["share_cut"], "n_clusters": n_clusters}


def speed(size: int, settings: Settings) -> dict[str, Any]:
    """Seconds of one cluster on one core: its labels by three tools, and the whole update."""
    spins = thermalised(target_of(size), settings)[:2]
    coupling = jnp.asarray(LEARNED / CRITICAL)
    bonds = jax.vmap(draw_bonds, (0, None, 0))(jax.random.split(jax.random.key(6), len(spins)), coupling, spins)
    keys = jax.random.split(jax.random.key(7), len(spins))
    tools = {
        "numba": jax.jit(lambda: jax.lax.map(joined_labels, bonds)),
        "propagation": jax.jit(lambda: jax.lax.map(propagated_labels, bonds)),
        "scipy": lambda: [_connected(one) for one in np.asarray(bonds)],
        "wolff": jax.jit(lambda: jax.lax.map(lambda one: WolffProposal(coupling).propose(*one), (keys, spins))),
    }
    labels = np.asarray(tools["numba"]())
    return {
        "n_spins": size**2,
        "largest_cluster": int(max(np.unique(one, return_counts=True)[1].max() for one in labels)),
        **{f"seconds_{name}": least_seconds(tool, 20) / len(spins) for name, tool in tools.items()},
    }


def _connected(bonds: np.ndarray) -> np.ndarray:
    numbers = np.arange(bonds[0].size).reshape(bonds.shape[1:])
    pairs = [(numbers[drawn], np.roll(numbers, -1, axis)[drawn]) for axis, drawn in enumerate(bonds)]
    first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(numbers.size,) * 2)
    return connected_components(graph, directed=False)[1]


KINDS = ("local", "bare Wolff", "SLMC")
CHAIN = "restricted chain"


def jobs(settings: Settings) -> dict[str, dict[str, Callable[[], dict[str, Any]]]]:
    """Everything that is measured, by part and name."""

    def one(kind: str, size: int, temperature: float = CRITICAL, radius: int | None = None) -> Callable[[], Any]:
        return partial(chain, kind, size, temperature, settings, radius)

    sizes = {f"{kind} {size}": one(kind, size) for size in settings.scaling_sizes for kind in KINDS}
    sizes |= {f"SLMC {size}": one("SLMC", size) for size in settings.acceptance_sizes}
    sizes |= {f"restricted {size}": one("restricted", size, radius=radius) for size, radius in settings.restricted}
    sizes |= {f"{CHAIN} {size}": partial(chain_of_clusters, size, n, settings) for size, n in settings.chain_lengths}
    return {
        "couplings": {f"couplings {size}": partial(couplings, size, settings) for size in settings.coupling_sizes},
        "autocorrelation": {f"time {kind}": one(kind, settings.time_size, settings.time_temperature) for kind in KINDS},
        "speed": {f"speed {settings.speed_size}": partial(speed, settings.speed_size, settings)},
        "sizes": sizes,
    }


def work(row: dict[str, Any], share: str = "share") -> tuple[float, float]:
    """Autocorrelation time per N spins of clusters that are grown (or "share_accepted": flipped), and its error."""
    return row["tau_steps"] * row[share], row["tau_error"] * row[share]


def draw(rows: dict[str, Any], settings: Settings, path: Any) -> dict[str, str]:
    """τ per N spins grown against L; returns the fitted exponents in words."""
    figure, axes = pyplot.subplots(figsize=(6.5, 4.4), layout="constrained")
    words: dict[str, str] = {}
    for kind in (*KINDS, "restricted"):
        found = [(size, *work(rows[f"{kind} {size}"])) for size in settings.scaling_sizes if f"{kind} {size}" in rows]
        if len(found) < 2:
            continue
        sizes, times, errors = (np.array(column, float) for column in zip(*found, strict=True))
        weights = times / np.maximum(errors, 1e-12 * times)
        found, covariance = np.polyfit(np.log(sizes), np.log(times), 1, w=weights, cov="unscaled")
        slope = found[0]
        words[kind] = f"{slope:.2f} ± {covariance[0, 0] ** 0.5:.2f}"
        axes.errorbar(sizes, times, errors, fmt="o-", markersize=4, label=f"{kind}: $L^{{{slope:.2f}}}$")
    axes.set(xscale="log", yscale="log", xlabel="$L$", ylabel=r"$\tau$ of $|M|$, per $N$ spins grown")
    axes.grid(alpha=0.3, which="both")
    if words:
        axes.legend(frameon=False)
        figure.savefig(path)
    pyplot.close(figure)
    return words


def page(results: ResultFile, settings: Settings, exponents: dict[str, str]) -> str:
    """What the documentation shows."""
    rows = results.rows
    parts = [
        "# Plaquette Ising model: clusters of a learned model\n",
        results.provenance() + "\n",
        "H = −J Σ s s − K Σ s s s s on the square lattice, K/J = 0.2, T_c = 2.493 J (arXiv:1610.03137). The effective "
        f"model has two-body couplings; one Wolff cluster of its J_1 = {LEARNED} J is a proposal. {settings.n_chains} "
        "chains.\n",
        "## Learned couplings\n",
        "Least squares on samples of the target at T_c; errors are those of the mean over fits to single chains.\n",
        table(("lattice", "samples", "J_1, one shell", "J_1, J_2, J_3, three shells"), _coupling_lines(rows, settings)),
        f"\n## Autocorrelation time of |M| at L = {settings.time_size}, T = {settings.time_temperature:g}\n",
        "τ = n / (2 ESS) in steps, times the share of the lattice that a step moves (a sweep: all of it), is the time "
        "per N spins. For clusters it is counted in two ways: by the mean size of all that are grown, which is the "
        "work, and by the mean size of those that are accepted, the spins that flip; the bare Wolff update grows large "
        "clusters and flips small ones.\n",
        table(
            (
                "update",
                "τ (steps)",
                "share grown",
                "share flipped",
                "τ per N grown",
                "τ per N flipped",
                "acceptance",
                "⟨&#124;m&#124;⟩",
            ),
            _time_lines(rows),
        ),
        "",
        _ratios(rows),
        _speed_words(rows, settings),
    ]
    lines = _size_lines(rows, settings)
    if lines:
        header = ("L", "update", "τ per N grown", "acceptance", "⟨&#124;m&#124;⟩", "ESS / s", "R-hat")
        figure = [
            "![Autocorrelation time against L](plaquette.svg)\n",
            "Exponents of L: " + ", ".join(f"{kind} {words}" for kind, words in exponents.items()) + ".\n",
        ]
        parts += [
            "\n## Against size, at T_c\n",
            *(figure if exponents else []),
            table(header, lines),
            _cut(rows),
            _chain_words(rows, settings),
        ]
    return "\n".join(parts)


def _cut(rows: dict[str, Any]) -> str:
    shares = [
        (name.split()[1], row) for name, row in rows.items() if name.startswith("restricted") and CHAIN not in name
    ]
    if not shares:
        return ""
    listed = ", ".join(f"{100 * row['share_cut']:.0f} % at L = {size}" for size, row in shares)
    return (
        "\nRestricted: one cluster that stays within a distance of its seed, 0.4 L, decided by the target. Of these "
        f"{listed} are cut off by the surface of their ball. The ratio carries a factor exp(−2 J_1/T) for each bond "
        "that would have counted there, so that these are all but always rejected, and the acceptance is below the "
        "share of the others.\n"
    )


def _chain_words(rows: dict[str, Any], settings: Settings) -> str:
    found = [(size, rows[f"{CHAIN} {size}"]) for size, _ in settings.chain_lengths if f"{CHAIN} {size}" in rows]
    if not found:
        return ""
    sizes = ", ".join(str(size) for size, _ in found)
    numbers = ", ".join(str(row["n_clusters"]) for _, row in found)
    acceptances = ", ".join(notation(row["acceptance"], row["acceptance_error"]) for _, row in found)
    return (
        f"\nRestricted chain: clusters within a distance of {settings.chain_radius} of their seeds, each decided by "
        "the effective model with the factor of its surface, then one decision by the target. A cut cluster costs no "
        "exact weight then, and the number of clusters sets the acceptance. That number was chosen at each size for "
        f"an acceptance near 0.57; it tends to a constant: {numbers} clusters at L = {sizes}, accepted with "
        f"{acceptances}. The acceptance of one unrestricted cluster falls from "
        f"{_acceptance(rows, settings, 0)} to {_acceptance(rows, settings, -1)} between L = "
        f"{settings.acceptance_sizes[0]} and {settings.acceptance_sizes[-1]}, yet it decorrelates |M| faster at all of "
        "these sizes. On the two largest lattices the restricted chains are too short for τ and ⟨&#124;m&#124;⟩ (see "
        "R-hat). Published for restricted clusters, counted in a way that we do not know: 0.57 to 0.59 from L = 25 to "
        "120.\n"
    )


def _acceptance(rows: dict[str, Any], settings: Settings, which: int) -> str:
    row = rows.get(f"SLMC {settings.acceptance_sizes[which]}")
    return f"{row['acceptance']:.2f}" if row else "–"


def _coupling_lines(rows: dict[str, Any], settings: Settings) -> list[tuple[str, ...]]:
    lines = []
    for size in settings.coupling_sizes:
        row = rows.get(f"couplings {size}")
        if row:
            found = [zip(*row[f"{n} shells"].values(), strict=True) for n in (1, 3)]
            written = [", ".join(notation(value, error) for value, error in pairs) for pairs in found]
            lines.append((f"{size}×{size}", f"{row['n_samples']:,}", *written))
    return lines


def _time_lines(rows: dict[str, Any]) -> list[tuple[str, ...]]:
    lines = []
    for kind in KINDS:
        row = rows.get(f"time {kind}")
        if row:
            m = row["magnetisation"]
            lines.append(
                (
                    kind,
                    notation(row["tau_steps"], row["tau_error"]),
                    f"{row['share']:.4f}",
                    f"{row['share_accepted']:.4f}",
                    notation(*work(row)),
                    notation(*work(row, "share_accepted")),
                    f"{row['acceptance']:.3f}",
                    notation(m["value"], m["error"]),
                )
            )
    return lines


def _ratios(rows: dict[str, Any]) -> str:
    if not all(f"time {kind}" in rows for kind in KINDS):
        return ""

    def ratios(share: str) -> str:
        best, error = work(rows["time SLMC"], share)
        parts = []
        for kind in ("local", "bare Wolff"):
            time_, uncertainty = work(rows[f"time {kind}"], share)
            ratio = time_ / best
            parts.append(f"{kind} / SLMC = {notation(ratio, ratio * np.hypot(uncertainty / time_, error / best))}")
        return ", ".join(parts)

    return (
        f"Ratios per N spins flipped: {ratios('share_accepted')} (published: 21 and 2.3); per N spins grown: "
        f"{ratios('share')}.\n"
    )


def _speed_words(rows: dict[str, Any], settings: Settings) -> str:
    row = rows.get(f"speed {settings.speed_size}")
    if not row:
        return ""
    joined, spread, other, whole = (
        f"{1e3 * row[f'seconds_{name}']:.2g} ms" for name in ("numba", "propagation", "scipy", "wolff")
    )
    return (
        f"A Wolff cluster on {row['n_spins']:,} spins at T_c (largest cluster {row['largest_cluster']:,}) "
        f"takes {whole} on one core, ratio included. Labels of all clusters, as Swendsen–Wang "
        f"needs, take {joined} by union–find in a custom call (Numba), {spread} by propagation in XLA, and {other} by "
        "SciPy's connected components on the host, a callback not counted.\n"
    )


def _size_lines(rows: dict[str, Any], settings: Settings) -> list[tuple[str, ...]]:
    lines = []
    sizes = sorted({*settings.scaling_sizes, *settings.acceptance_sizes, *dict(settings.chain_lengths)})
    for size in sizes:
        for kind in (*KINDS, "restricted", CHAIN):
            row = rows.get(f"{kind} {size}")
            if row:
                m = row["magnetisation"]
                rate = f"{row['ess_per_second']:.3g}" if row["ess_per_second"] else "–"
                acceptance = notation(row["acceptance"], row["acceptance_error"])
                lines.append(
                    (
                        str(size),
                        kind,
                        notation(*work(row)),
                        acceptance,
                        notation(m["value"], m["error"]),
                        rate,
                        "–" if m["r_hat"] is None else f"{m['r_hat']:.3f}",
                    )
                )
    return lines


def parts(settings: Settings) -> dict[str, Part]:
    """The four parts, and every row of them by itself."""
    by_part = jobs(settings)
    rows = {name: make for rows in by_part.values() for name, make in rows.items()}
    names = {part: tuple(rows) for part, rows in by_part.items()} | {name: (name,) for name in rows}

    def run(results: ResultFile, settings: Settings, chosen: tuple[str, ...]) -> None:
        for name in chosen:
            results.make(name, rows[name])

    return {name: partial(run, chosen=chosen) for name, chosen in names.items()}


def write(results: ResultFile, settings: Settings) -> None:
    exponents = draw(results.rows, settings, results.page_folder / "plaquette.svg")
    (results.page_folder / "plaquette.md").write_text(page(results, settings, exponents))


if __name__ == "__main__":
    words = "couplings, autocorrelation, speed, sizes, or rows such as 'local 40' (default: all)"
    main(__file__, __doc__, (Settings(), QUICK), parts, write, choose=words)
