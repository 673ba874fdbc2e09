"""Quantum nuclei of a water molecule, GFN2-xTB, 300 K, 32 beads: self-learning against exact path-integral HMC.

    python benchmarks/quantum_nuclei.py [learned] [exact] [--report-only]

Needs the extra ``atoms`` and tblite. Writes ``benchmarks/results/quantum_nuclei.json`` and, from it,
``docs/results/quantum_nuclei.md``. Exact chains of several lengths, their step sizes tuned, are runs without a model.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from command import main
from result_file import ResultFile, rounded, table

import slmc
from slmc.statistics import Estimate, estimate, notation

DIGITS = 7
LEARNED = "self-learning"
OBSERVABLES = {
    "potential": "potential energy [eV]",
    "kinetic": "kinetic energy [eV]",
    "OH": "r_OH [Å]",
    "ring_H": "spread of H [Å]",
}

TARGET: dict[str, Any] = {
    "target.symbols": ["O", "H", "H"],
    "target.positions": [[0.0, 0.0, 0.07], [0.0, 0.76, -0.52], [0.0, -0.76, -0.52]],
    "target.sphere_radius": 3.5,
    "exact.n_steps": 8,
}


class Settings(NamedTuple):
    """Fields of the learned run; those of the exact ones, their lengths and steps of each."""

    learned: dict[str, Any]
    n_steps: int = 200
    n_beads: int = 32
    hmc_lengths: tuple[int, ...] = (8, 16)
    forces: int = 400
    tuning_steps: int = 15
    block_size: int = 20


FULL = Settings(
    {
        "inner.n_steps": 16,
        "learning.n_rounds": 4,
        "learning.n_steps": [6, 6, 10, 14],
        "learning.training_steps": [400, 300, 400, 800],
        "learning.held_out_share": 0.25,
    }
)
QUICK = Settings(
    {
        "inner.n_steps": 2,
        "learning.n_rounds": 1,
        "learning.n_steps": 6,
        "learning.training_steps": 2,
        "model.n_channels": 2,
        "model.n_hidden": 2,
    },
    n_steps=8,
    n_beads=2,
    hmc_lengths=(2,),
    forces=16,
    tuning_steps=2,
    block_size=4,
)


def learned(results: ResultFile, settings: Settings) -> None:
    """The self-learning run."""
    results.make(LEARNED, _run, settings, settings.learned | {"measurement.n_steps": settings.n_steps})


def exact(results: ResultFile, settings: Settings) -> None:
    """Runs without a model."""
    for n_steps in settings.hmc_lengths:
        fields = {
            "learning.n_rounds": 0,
            "exact.n_steps": n_steps,
            "exact.tuning_steps": settings.tuning_steps,
            "measurement.n_steps": settings.forces // n_steps,
            "thermalisation.n_steps": 2,
            "measurement.n_thermalise": 3,
        }
        results.make(f"HMC, {n_steps} steps", _run, settings, fields)


def _run(settings: Settings, fields: dict[str, Any]) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="slmc-quantum-"))
    always = {"target.n_beads": settings.n_beads, "measurement.block_size": settings.block_size}
    if fields.get("learning.n_rounds") == 0:
        always |= {"learning.n_steps": [12, 25, 40], "learning.training_steps": 1000, "model.reach": 5.0}
    result: Any = slmc.run("atoms", TARGET | always | fields, out=folder / "run", quiet=False)
    measured, summary = result.records["measurement"], result.summary
    shutil.rmtree(folder)
    return {
        "acceptance": summary["acceptance"],
        "evaluations": summary["exact_evaluations"],
        "series": {name: np.round(measured[name].values, DIGITS).tolist() for name in OBSERVABLES},
    }


def write(results: ResultFile, settings: Settings) -> None:
    """``quantum_nuclei.md``."""
    if LEARNED not in results.rows or len(results.rows) < 2:
        return
    known = {name: _estimates(row) for name, row in results.rows.items()}
    text = "\n\n".join(
        (
            "# Quantum nuclei",
            f"A water molecule in a soft sphere of 3.5 Å, GFN2-xTB, 300 K, {settings.n_beads} beads. "
            f"{results.provenance()}",
            "## The same averages",
            _agreement(known),
            "## What an independent sample costs",
            _costs(results.rows, known, settings),
        )
    )
    (results.page_folder / "quantum_nuclei.md").write_text(text + "\n")
    print(text)


def _estimates(row: dict[str, Any]) -> dict[str, Estimate]:
    return {name: estimate(np.array(values)) for name, values in row["series"].items()}


def _agreement(known: dict[str, dict[str, Estimate]]) -> str:
    lines = []
    for name, words in OBSERVABLES.items():
        ours, others = known[LEARNED][name], [one[name] for chain, one in known.items() if chain != LEARNED]
        others = [one for one in others if 0 < one.error < np.inf] or others
        weights = np.array([1 / one.error**2 for one in others])
        value, error = float(weights @ [one.value for one in others] / weights.sum()), float(weights.sum() ** -0.5)
        z = (ours.value - value) / np.hypot(ours.error, error)
        lines.append((words, notation(ours.value, ours.error), notation(value, error), f"{z:+.1f}"))
    return table(("average", LEARNED, "exact HMC", "difference (σ)"), lines)


def _costs(rows: dict[str, Any], known: dict[str, dict[str, Estimate]], settings: Settings) -> str:
    spent = {name: settings.n_beads * row["evaluations"]["measurement"] for name, row in rows.items()}
    everything = f"{LEARNED}, learning too"
    spent[everything] = spent[LEARNED] + settings.n_beads * rows[LEARNED]["evaluations"]["learning"]
    costs = {
        name: {one: total / (known[LEARNED if name == everything else name][one].ess or np.nan) for one in OBSERVABLES}
        for name, total in spent.items()
    }
    lines = [(name, f"{spent[name]:,}", *(rounded(costs[name][one], 3) for one in OBSERVABLES)) for name in spent]
    rivals = [name for name in rows if name != LEARNED]
    best = {one: min(costs[name][one] for name in rivals) for one in OBSERVABLES}
    lines += [
        (f"best exact chain over {name}", "", *(rounded(best[one] / costs[name][one], 2) for one in OBSERVABLES))
        for name in (LEARNED, everything)
    ]
    acceptances = ", ".join(f"{name} {row['acceptance']:.2f}" for name, row in rows.items())
    about = (
        "Evaluations of single beads for an effective sample, all chains together. Steps of exact chains were tuned to "
        f"acceptance 0.8 before ({acceptances}), which is not counted."
    )
    return f"{about}\n\n" + table(("chain", "bead evaluations", *OBSERVABLES.values()), lines)


if __name__ == "__main__":
    main(__file__, __doc__, (FULL, QUICK), {"learned": learned, "exact": exact}, write, choose="parts: learned, exact")
