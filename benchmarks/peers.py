"""Effective samples per exact evaluation: slmc, NUTS of blackjax and delayed acceptance of tinyDA on the same weights.

    python benchmarks/peers.py

Writes ``benchmarks/results/peers.json`` and, from it, ``docs/results/peers.md``. Interrupted, it continues. The other
packages are those of ``benchmarks/peers_requirements.txt``; where they live in an environment of their own, name its
python in the environment variable ``SLMC_PEERS_PYTHON``. Samplers whose package is missing are left out.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import numpy as np
from command import Part, main
from exact_labels import cache_folder, hamiltonian_chain, labelled_chains, tuned
from peers_chains import Chains, Point, Stopwatch, linear_model, target_of
from result_file import ResultFile, table

from slmc.montecarlo import Label, MetropolisHastings, Update, evaluations_per_step, init_chains, run_chains
from slmc.selflearning import CumulativeUpdate
from slmc.statistics import Estimate, autocorrelation_time, estimate, notation
from slmc.systems.spins.observables import staggered_magnetization_squared

POINTS = {
    "6x6": Point((6, 6), 1.0, 0.05),
    "4x4": Point((4, 4), 4.0, 0.1),
}
QUICK = {
    "quick": Point(
        (2, 4),
        1.0,
        0.1,
        n_labels=(4, 8),
        n_thermalise=4,
        block=8,
        n_blocks=(2, 2),
        leapfrog=(2,),
        durations=(1.0,),
        n_scan=8,
        n_updates=2,
        nuts_chains=2,
        nuts_adaptation=20,
        nuts_draws=8,
        tinyda_chains=2,
        tinyda_pilot=20,
        tinyda=((3, 8), (6, 4)),
    )
}

PEERS = {
    "NUTS": ("nuts", "blackjax", 0),
    "delayed acceptance, short": ("tinyda", "tinyDA", 0),
    "delayed acceptance, long": ("tinyda", "tinyDA", 1),
}
"""The samplers of other packages: what ``peers_chains.py`` calls them, the package, and which run of ``tinyda``."""


# ------------------------------------------------------------------------------------------------- chains of slmc


def labels_of(point: Point) -> Path:
    """The file of exact labels, from which the linear model is fitted and all chains start."""
    settings = (point.shape, point.coupling, point.temperature, *point.n_labels, point.n_thermalise)
    path = cache_folder() / "peers-{}.npz".format("-".join(str(one) for one in settings).replace(" ", ""))
    if not path.exists():
        n_chains, n_draws = point.n_labels
        labels = labelled_chains(target_of(point), n_chains, n_draws, 2, point.n_thermalise, jax.random.key(0))
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **labels._asdict())
        partial.replace(path)
    return path


def exact_hmc(point: Point, labels: Label) -> Chains:
    """HMC of the exact weight, at the leapfrog number and trajectory length with most effective samples."""
    starts = labels.configuration[:, -1]
    scan = {}
    for n_leapfrog in point.leapfrog:
        for duration in point.durations:
            update = hamiltonian_chain(target_of(point), duration / n_leapfrog, n_leapfrog)
            _, (seen, _) = run_chains(jax.random.key(1), update, init_chains(update, starts), point.n_scan, _observe)
            scan[n_leapfrog, duration] = -autocorrelation_time(np.asarray(seen)) * (1 + n_leapfrog)
    n_leapfrog, duration = max(scan, key=scan.__getitem__)
    update = hamiltonian_chain(target_of(point), duration / n_leapfrog, n_leapfrog)
    return measured(point, update, starts, point.n_blocks[0], {"n_leapfrog": n_leapfrog, "duration": duration})


def self_learning(point: Point, labels: Label) -> Chains:
    """SLMC: Hamiltonian trajectories of the linear model propose, the exact weight decides."""
    starts = labels.configuration[:, -1]
    inner = tuned(jax.random.key(2), hamiltonian_chain(linear_model(point, labels), 0.3, 3), starts)
    update = MetropolisHastings(target_of(point), CumulativeUpdate(inner, point.n_updates))
    details = {"n_updates": point.n_updates, "inner_step_size": float(inner.proposal.step_size)}
    return measured(point, update, starts, point.n_blocks[1], details)


def measured(point: Point, update: Update, starts: np.ndarray, n_blocks: int, details: dict[str, Any]) -> Chains:
    """Chains in blocks of one compiled program; the first block, which compiles it, is left out."""
    states, blocks = init_chains(update, starts), []
    key = jax.random.key(3)
    states, _ = jax.block_until_ready(run_chains(key, update, states, point.block, _observe))
    with Stopwatch() as watch:
        for number in range(n_blocks):
            states, seen = run_chains(jax.random.fold_in(key, number), update, states, point.block, _observe)
            blocks.append(jax.device_get(seen))
    series, accepted = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    evaluations = series.size * evaluations_per_step(update, starts[0])
    return Chains(series, evaluations, watch, float(accepted.mean()), details)


def _observe(state, info):
    return staggered_magnetization_squared(state.configuration), info.accepted


OWN = {"HMC": exact_hmc, "SLMC, linear model": self_learning}


# ------------------------------------------------------------------------------------------------ chains of peers


def peer(point: Point, labels: Path, sampler: str, package: str, number: int) -> Chains | None:
    """A sampler of another package, in a process of its own; nothing, and a sentence, where the package is missing."""
    python = os.environ.get("SLMC_PEERS_PYTHON", sys.executable)
    missing = not_importable(python, "slmc", package)
    if missing:
        print(
            f"{package} is left out because {python} cannot import {' and '.join(missing)}: run `{python} -m pip "
            f"install -r benchmarks/peers_requirements.txt`, or name another python in SLMC_PEERS_PYTHON.",
            file=sys.stderr,
        )
        return None
    chosen = point._replace(tinyda=(point.tinyda[number],))
    with tempfile.TemporaryDirectory() as folder:
        return run_elsewhere(python, sampler, chosen, labels, Path(folder))


def run_elsewhere(python: str, sampler: str, point: Point, labels: Path, folder: Path) -> Chains:
    """The chains that ``peers_chains.py`` makes under another python."""
    job, result = folder / "job.json", folder / "result.npz"
    job.write_text(json.dumps(point._asdict()))
    command = [python, Path(__file__).with_name("peers_chains.py"), sampler, job, labels, result]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{sampler} failed:\n{run.stderr}")
    with np.load(result) as stored:
        series, about = stored["series"], json.loads(str(stored["about"]))
    watch = Stopwatch()
    vars(watch).update(about.pop("watch"))
    return Chains(series, watch=watch, **about)


def not_importable(python: str, *packages: str) -> list[str]:
    """Those of the packages that another python does not find."""
    question = "import sys, importlib.util as u; print(*[name for name in sys.argv[1:] if u.find_spec(name) is None])"
    asked = subprocess.run([python, "-c", question, *packages], capture_output=True, text=True, check=True)
    return asked.stdout.split()


# -------------------------------------------------------------------------------------------------------- results


def row_of(chains: Chains) -> dict[str, Any]:
    found = estimate(chains.series)
    n_chains, n_draws = chains.series.shape
    return {
        "n_chains": n_chains,
        "n_draws": n_draws,
        "staggered_magnetization_squared": found._asdict(),
        "acceptance": chains.acceptance,
        "exact_evaluations": chains.evaluations,
        "seconds": chains.watch.seconds,
        "wall_seconds": chains.watch.wall_seconds,
        "ess_per_evaluation": found.ess / chains.evaluations if found.ess else None,
        "ess_per_second": found.ess / chains.watch.seconds if found.ess else None,
    } | chains.details


def add_rows(results: ResultFile, points: dict[str, Point], name: str) -> None:
    """The rows of one point that are not there yet."""
    point = points[name]
    labels_file = labels_of(point)
    with np.load(labels_file) as stored:
        labels = Label(**stored)
    for sampler, function in OWN.items():
        if f"{name}: {sampler}" not in results.rows:
            results.add(f"{name}: {sampler}", row_of(function(point, labels)))
    for sampler, asked in PEERS.items():
        if f"{name}: {sampler}" not in results.rows:
            chains = peer(point, labels_file, *asked)
            if chains is not None:
                results.add(f"{name}: {sampler}", row_of(chains))


HEADER = (
    "sampler",
    "⟨m_st²⟩",
    "R-hat",
    "acceptance",
    "chains × draws",
    "exact evaluations",
    "effective samples",
    "per 1000 evaluations",
    "per second",
)


def page(results: ResultFile, points: dict[str, Point]) -> str:
    """What the documentation shows."""
    parts = ["# The same weights with other packages\n"]
    if results.rows:
        parts.append(results.provenance() + _environment(results) + "\n")
    parts.append(_HOW)
    for name, point in points.items():
        rows = {sampler: results.rows.get(f"{name}: {sampler}") for sampler in (*OWN, *PEERS)}
        rows = {sampler: row for sampler, row in rows.items() if row is not None}
        extents = "×".join(str(extent) for extent in point.shape)
        parts.append(
            f"## {extents}, J = {point.coupling:g}, μ = {point.chemical_potential:g}, T = {point.temperature:g}\n"
        )
        parts.append(table(HEADER, [_line(sampler, row) for sampler, row in rows.items()]) + "\n")
        parts.append(_remarks(rows) + "\n")
    return "\n".join(parts)


_HOW = """\
Effective samples of m_st² on the double-exchange model. Exact evaluations are evaluations of the exact log-weight, a
gradient counting as one. Seconds are of the processor, over all threads of the sampler's process, because other work
on the machine hardly changes them; compiling, adaptation and learning are left out, and so are the exact evaluations
that they take. All chains start from the same exact, equilibrated configurations, to which the linear model is fitted.
The acceptance of NUTS is the mean over its trajectories. Where R-hat exceeds 1.01, the effective samples are a rough
number.

- **HMC**: Hamiltonian trajectories of the exact weight on spheres, the number and length of steps picked by a scan.
- **SLMC, linear model**: Hamiltonian trajectories of the linear model on spheres, one exact evaluation decides.
- **NUTS** (blackjax): no U-turn sampling of unconstrained coordinates x with spins x_i/|x_i| and density
  W exp(−Σ_i |x_i|²/2), diagonal metric and step size from its window adaptation at its default settings, chains one
  after the other in one compiled program.
- **delayed acceptance** (tinyDA): the same coordinates with a standard Gaussian prior; preconditioned Crank–Nicolson
  steps on the same linear model, the scale set by tinyDA's adaptation, one exact evaluation decides. The weights are
  compiled functions of one configuration, called from Python. The noise of a step is drawn directly, because
  tinyDA's own draw decomposes the covariance at every step, which would slow it further.
"""


def _environment(results: ResultFile) -> str:
    packages = sorted({row["package"] for row in results.rows.values() if "package" in row})
    if not packages:
        return ""
    return f" `SLMC_PEERS_PYTHON` named the python of an environment with {' and '.join(packages)}."


def _line(sampler: str, row: dict[str, Any]) -> tuple[str, ...]:
    found = Estimate(**row["staggered_magnetization_squared"])
    rates = (1e3 * row["ess_per_evaluation"], row["ess_per_second"]) if found.ess else ()
    return (
        sampler,
        notation(found.value, found.error),
        "–" if found.r_hat is None else f"{found.r_hat:.3f}",
        f"{row['acceptance']:.2f}",
        f"{row['n_chains']} × {row['n_draws']}",
        str(row["exact_evaluations"]),
        "–" if found.ess is None else f"{found.ess:.0f}",
        *(f"{rate:.3g}" for rate in rates or (math.nan, math.nan)),
    )


_SETTINGS = {
    "HMC": "HMC: {n_leapfrog} leapfrog steps in a time of {duration:g}.",
    "SLMC, linear model": "SLMC: {n_updates} inner trajectories of 3 leapfrog steps.",
    "NUTS": "NUTS: step size {step_size:.3f}, {leapfrog_per_draw:.1f} leapfrog steps a draw, {divergent} divergent "
    "draws; its adaptation took {adaptation_evaluations} exact evaluations.",
    "delayed acceptance, short": "Delayed acceptance, short: {subchain} coarse steps of scale {scale:.3f}.",
    "delayed acceptance, long": "Long: {subchain} coarse steps of the same scale.",
}


def _remarks(rows: dict[str, dict[str, Any]]) -> str:
    """How each sampler was set, and whether they agree."""
    said = [template.format(**rows[sampler]) for sampler, template in _SETTINGS.items() if sampler in rows]
    found = [Estimate(**row["staggered_magnetization_squared"]) for row in rows.values()]
    apart = [abs(a.value - b.value) / math.hypot(a.error, b.error) for a, b in combinations(found, 2)]
    if apart:
        said.append(f"The largest difference between two samplers is {max(apart):.1f} of its standard errors.")
    return " ".join(said)


def parts(points: dict[str, Point]) -> dict[str, Part]:
    return {name: partial(add_rows, name=name) for name in points}


def write(results: ResultFile, points: dict[str, Point]) -> None:
    (results.page_folder / "peers.md").write_text(page(results, points))


def stored(points: dict[str, Point]) -> dict[str, Any]:
    return {name: point._asdict() for name, point in points.items()}


if __name__ == "__main__":
    main(__file__, __doc__, (POINTS, QUICK), parts, write, on_one_device=(*POINTS, *QUICK), stored=stored)
