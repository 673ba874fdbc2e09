"""A cluster of water molecules, GFN2-xTB: self-learning hybrid Monte Carlo against exact HMC of several lengths.

    python benchmarks/atoms.py [dimer] [tetramer]

Needs the extra ``atoms`` and tblite. Writes ``benchmarks/results/atoms.json`` and, from it, ``docs/results/atoms.md``.
Interrupted, it continues.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from command import main
from result_file import ResultFile, table

import slmc
from slmc.statistics import Estimate, estimate, notation

OBSERVABLES = {"energy": "U [eV]", "radius_of_gyration": "R_g [Å]", "bond": "r_OH [Å]"}
WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


class Cluster(NamedTuple):
    """Molecules, chains, steps, and the numbers of integrator steps of exact HMC among which it is tuned."""

    n_molecules: int
    sphere_radius: float
    n_chains: int
    n_steps: int
    hmc_lengths: tuple[int, ...]
    n_hmc_steps: int
    training_steps: int = 1000
    learning: tuple[int, ...] = (12, 25, 40)
    n_rounds: int = 5


class Settings(NamedTuple):
    """The clusters."""

    dimer: Cluster | None = Cluster(2, 3.5, 4, 400, (10, 20, 40), 100, 500, (12, 25, 50), 4)
    tetramer: Cluster | None = Cluster(4, 4.5, 8, 500, (10, 20, 40), 200)


QUICK = Settings(Cluster(1, 3.0, 4, 16, (3,), 8, 20, (12, 8), 2), None)


def configuration(settings: Cluster) -> dict[str, Any]:
    """The run of SLHMC, as a TOML file would have it."""
    rng = np.random.default_rng(3)
    corners = 1.4 * np.array([[1, 1, 0], [-1, -1, 0], [1, -1, 0], [-1, 1, 0]])[: settings.n_molecules]
    positions = [place for corner in corners for place in WATER @ _turn(rng) + corner]
    return {
        "system": "atoms",
        "seed": 5,
        "target.symbols": ["O", "H", "H"] * settings.n_molecules,
        "target.positions": np.array(positions).round(6).tolist(),
        "target.temperature": 300.0,
        "target.calculator": "tblite",
        "target.parameters": {"method": "GFN2-xTB", "accuracy": 0.1, "verbosity": 0},
        "target.max_failures": 0.5,
        "target.sphere_radius": settings.sphere_radius,
        "model.reach": 6.0,
        "learning.n_rounds": settings.n_rounds,
        "learning.n_steps": list(settings.learning),
        "learning.training_steps": settings.training_steps,
        "measurement.n_chains": settings.n_chains,
        "measurement.n_steps": settings.n_steps,
        "measurement.n_thermalise": 20,
        "measurement.block_size": 4 * max(1, settings.n_steps // 80),
        "geometry.distances": {"bond": [0, 1]},
        "geometry.pair_distances": False,
    }


def _turn(rng: np.random.Generator) -> np.ndarray:
    rows, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return rows


def _ran(settings: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        result = slmc.run("atoms", settings, out=Path(folder) / "run", quiet=True)
        series = {name: result.records["measurement"][name].values for name in OBSERVABLES}
        return result.summary, {name: estimate(values) for name, values in series.items()}


def _figures(known: dict[str, Estimate], n_evaluations: int) -> dict[str, Any]:
    return {
        name: {
            "value": one.value,
            "error": one.error,
            "ess": one.ess,
            "r_hat": one.r_hat,
            "evaluations_per_sample": n_evaluations / one.ess if one.ess else None,
        }
        for name, one in known.items()
    }


def self_learning(settings: Cluster) -> dict[str, Any]:
    """SLHMC: its averages, and what a sample costs in exact evaluations, learning apart."""
    summary, known = _ran(configuration(settings))
    evaluations = summary["exact_evaluations"]
    return {
        "acceptance": summary["acceptance"],
        "residual": summary["residual"],
        "trajectory": summary["inner_chain"]["update"],
        "evaluations": evaluations,
        "observables": _figures(known, evaluations["measurement"]),
    }


def exact(n_steps: int, settings: Cluster) -> dict[str, Any]:
    """HMC with the exact force, its step size tuned: its averages, and what a sample costs."""
    given = configuration(settings)
    changed = {name: value for name, value in given.items() if not name.startswith(("learning.", "model."))}
    changed |= {
        "learning.n_rounds": 0,
        "exact.n_steps": n_steps,
        "exact.tuning_steps": 30,
        "measurement.n_steps": settings.n_hmc_steps,
        "thermalisation.n_steps": 20,
    }
    summary, known = _ran(changed)
    evaluations = summary["exact_evaluations"]
    return {
        "acceptance": summary["acceptance"],
        "evaluations": evaluations,
        "observables": _figures(known, evaluations["measurement"]),
    }


def measure(name: str, results: ResultFile, settings: Settings) -> None:
    """All rows of a cluster."""
    cluster = getattr(settings, name)
    if cluster is None:
        return
    results.make(f"{name}: SLHMC", self_learning, cluster)
    for n_steps in cluster.hmc_lengths:
        results.make(f"{name}: HMC, {n_steps} steps", exact, n_steps, cluster)


def write(results: ResultFile, settings: Settings) -> None:
    """``atoms.md``."""
    parts = [_section(name, getattr(settings, name), results) for name in Settings._fields]
    text = f"""# Water clusters

{results.provenance()}

Molecules in a soft sphere at 300 K with the energy of GFN2-xTB, hydrogen of 12 u. SLHMC proposes with one
trajectory of the learned potential, of a length that the run chose, and spends one exact evaluation on it. HMC follows
the exact force, its step size tuned to acceptance 0.8. Averages are those of the exact energy for both. Effective
samples are those of all chains together.
{"".join(parts)}"""
    (results.page_folder / "atoms.md").write_text(text)
    print(text)


def _section(name: str, cluster: Cluster | None, results: ResultFile) -> str:
    rows = {row.partition(": ")[2]: figures for row, figures in results.rows.items() if row.startswith(f"{name}: ")}
    if cluster is None or "SLHMC" not in rows:
        return ""
    averages, costs, ratios = [], [], []
    for observable, words in OBSERVABLES.items():
        known = [figures["observables"][observable] for figures in rows.values()]
        averages.append((words, *(notation(one["value"], one["error"]) for one in known)))
        costs.append((words, *(_cost(one) for one in known)))
        ratios.append(f"{words} {_ratio(known)}")
    learned, spent = rows["SLHMC"], rows["SLHMC"]["evaluations"]
    return f"""
## {cluster.n_molecules} molecules

{cluster.n_chains} chains. Before measuring, SLHMC spent {spent["learning"]} exact evaluations, from nothing, on
thermalising and learning; then {spent["measurement"]}, with {learned["trajectory"]}:
acceptance {learned["acceptance"]:.2f}, residual s = {learned["residual"]:.2f}.

{table(("average", *rows), averages)}

{table(("evaluations for an effective sample", *rows), costs)}

The best HMC over SLHMC, learning left out: {", ".join(ratios)}.
"""


def _cost(known: dict[str, Any]) -> str:
    cost = known["evaluations_per_sample"]
    return "–" if cost is None or not np.isfinite(cost) else f"{cost:.0f}"


def _ratio(known: list[dict[str, Any]]) -> str:
    learned, *others = (one["evaluations_per_sample"] for one in known)
    costs = [cost for cost in others if cost is not None]
    return f"{min(costs) / learned:.1f}" if costs and learned else "–"


if __name__ == "__main__":
    parts = {name: partial(measure, name) for name in Settings._fields}
    main(__file__, __doc__, (Settings(), QUICK), parts, write, choose="clusters: dimer, tetramer")
