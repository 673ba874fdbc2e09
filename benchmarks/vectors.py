"""Solutions per effective sample of an elliptic inverse problem: slmc, NUTS of blackjax, delayed acceptance of tinyDA.

    python benchmarks/vectors.py

Writes ``benchmarks/results/vectors.json`` and, from it, ``docs/results/vectors.md``. Interrupted, it continues. The
other packages are those of ``benchmarks/peers_requirements.txt``; where they live in an environment of their own, name
its python in the environment variable ``SLMC_PEERS_PYTHON``. Samplers whose package is missing are left out.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from command import main
from result_file import ResultFile, table

import slmc
from slmc.statistics import estimate
from slmc.systems.vectors import Elliptic, Evaluations, Prior, vector_problem


class Settings(NamedTuple):
    """What all samplers have in common, and how long each runs; ``degree`` is that of the polynomial by dimension."""

    dimensions: tuple[int, ...] = (6, 20)
    degrees: tuple[int, ...] = (3, 3)
    n_cells: int = 256
    n_chains: int = 8
    n_steps: int = 600
    thermalise: int = 150
    learn: tuple[int, ...] = (40, 60, 80)
    nuts_adaptation: int = 500
    nuts_draws: int = 250
    n_coarse: int = 32
    pilot: int = 4000
    tinyda_chains: int = 4
    tinyda_draws: int = 150
    subchains: tuple[int, ...] = (20, 60)


QUICK = Settings((2,), (2,), 32, 4, 60, 20, (20,), 40, 20, 16, 400, 2, 20, (4,))


def own(settings: Settings, dimension: int, degree: int) -> dict[str, Any]:
    """Through ``slmc.run``: HMC with a mass matrix, then a polynomial of the log-likelihood proposes."""
    problem = Elliptic(dimension, settings.n_cells)
    evaluations = Evaluations(problem, problem.value_and_gradient)
    posterior = vector_problem(evaluations, Prior.standard(dimension), degree=degree, n_steps=4)
    chosen = {
        "exact.tuning_steps": 60,
        "thermalisation.n_steps": settings.thermalise,
        "learning": {"n_rounds": len(settings.learn), "n_steps": settings.learn},
        "inner.n_updates": 12,
        "measurement": {"n_chains": settings.n_chains, "n_steps": settings.n_steps},
    }
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = slmc.run(posterior, chosen, out=Path(folder) / "run", quiet=True)
        series = [result.records["measurement"][f"x{number}"].values for number in range(dimension)]
        # One solution for the decision of every step; all before is learning.
        measured = result.summary["exact_evaluations"]["measurement"]
        before = problem.n_solves - measured
        figures = {"residual": result.summary["residual"], "inner_updates": 12, "degree": degree}
        acceptance = result.summary["acceptance"]
    return row_of(np.stack(series, axis=-1), measured, before, acceptance, time.process_time() - started) | figures


def peer(settings: Settings, dimension: int, sampler: str, package: str, more: dict[str, Any]) -> dict[str, Any] | None:
    """A sampler of another package in a process of its own; ``None``, and a sentence, where the package is missing."""
    python = os.environ.get("SLMC_PEERS_PYTHON", sys.executable)
    if subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode:
        print(
            f"{package} is left out because {python} cannot import it; name another python in SLMC_PEERS_PYTHON.",
            file=sys.stderr,
        )
        return None
    job = {**settings._asdict(), "dimension": dimension, **more}
    with tempfile.TemporaryDirectory() as folder:
        job_file, result = Path(folder) / "job.json", Path(folder) / "result.npz"
        job_file.write_text(json.dumps(job))
        command = [python, str(Path(__file__).with_name("vectors_chains.py")), sampler, str(job_file), str(result)]
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
        if run.returncode:
            raise RuntimeError(f"{sampler} failed:\n{run.stderr[-3000:]}")
        with np.load(result) as stored:
            draws, about = stored["draws"], json.loads(str(stored["about"]))
    row = row_of(draws, about.pop("solves"), about.pop("warm_up"), about.pop("acceptance"), about.pop("seconds"))
    return row | about | more


def row_of(draws: np.ndarray, solves: float, before: float, acceptance: float, seconds: float) -> dict[str, Any]:
    """Figures of the parameter with the fewest effective samples."""
    found = [estimate(draws[..., number]) for number in range(draws.shape[-1])]
    ess = min(one.ess or 0.0 for one in found)
    return {
        "draws": list(draws.shape[:2]),
        "least_ess": ess,
        "largest_r_hat": max(one.r_hat or np.inf for one in found),
        "acceptance": acceptance,
        "solves": solves,
        "solves_before": before,
        "solves_per_effective_sample": solves / ess if ess else None,
        "seconds": seconds,
        "means": [one.value for one in found],
        "errors": [one.error for one in found],
    }


def make_all(results: ResultFile, settings: Settings) -> None:
    for dimension, degree in zip(settings.dimensions, settings.degrees, strict=True):
        results.make(f"{dimension}: slmc", own, settings, dimension, degree)
        asked = [("NUTS", "nuts", "blackjax", {})]
        asked += [(f"delayed acceptance, {n}", "tinyda", "tinyDA", {"subchain": n}) for n in settings.subchains]
        for name, sampler, package, more in asked:
            if f"{dimension}: {name}" not in results.rows:
                row = peer(settings, dimension, sampler, package, more)
                if row is not None:
                    results.add(f"{dimension}: {name}", row)


def write(results: ResultFile, settings: Settings) -> None:
    lines = []
    for name, row in results.rows.items():
        own_row = results.rows.get(f"{name.split(':')[0]}: slmc", row)
        ratio = row["solves_per_effective_sample"] / own_row["solves_per_effective_sample"]
        total = (row["solves"] + row["solves_before"]) / row["least_ess"]
        lines.append(
            (
                *name.split(": "),
                f"{row['acceptance']:.2f}",
                f"{row['largest_r_hat']:.3f}",
                f"{row['least_ess']:.0f}",
                f"{row['solves_per_effective_sample']:.1f}",
                f"{ratio:.1f}",
                f"{row['solves_before']:.0f}",
                f"{total:.1f}",
            )
        )
    header = (
        "d",
        "sampler",
        "acceptance",
        "largest R-hat",
        "least ESS",
        "solves per effective sample",
        "times those of slmc",
        "solves before",
        "with those before",
    )
    (results.page_folder / "vectors.md").write_text(
        PAGE.format(
            provenance=results.provenance(),
            table=table(header, lines),
            n_cells=settings.n_cells,
            n_coarse=settings.n_coarse,
        )
    )


PAGE = """# An inverse problem: solves per effective sample

{provenance}

The coefficient of an elliptic equation in one dimension, log k(s) = Σ_j c_j x_j cos(jπ s), from 15 noisy values of
its solution: `slmc.systems.vectors.Elliptic`,
solved on {n_cells} cells with SciPy. The prior is standard normal, the data are the same for all samplers. What is
counted are solutions of the equation: one for a log-likelihood, two for one with its
gradient. Delayed acceptance has a grid of {n_coarse} cells as its coarse level, whose solutions are not counted at
all; the number beside it is the length of its chains there. Effective samples are those of the
parameter that has fewest.

{table}

slmc thermalises with HMC of the exact weight, whose mass matrix is found meanwhile, and learns a polynomial of the
log-likelihood from values and gradients; proposals are then 12 trajectories
of the polynomial, and each costs one solution. `solves before` are those of thermalising and learning, of NUTS
those of its window adaptation on one chain, of delayed acceptance a fifth of its draws.
All rival chains start at the parameters with which the data were made.

Where it does not pay: a log-likelihood that costs microseconds, such as that of an ordinary logistic regression,
is evaluated faster than any model of it proposes. Take NUTS there.
"""


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": make_all}, write)
