"""Solutions per effective sample of an elliptic inverse problem: slmc, NUTS of blackjax, delayed acceptance of tinyDA.

The same through UM-Bridge, and a logistic regression, where it does not pay.

    python benchmarks/vectors.py

Writes ``benchmarks/results/vectors.json`` and, from it, ``docs/results/vectors.md``. Interrupted, it continues. The
other packages are those of ``benchmarks/peers_requirements.txt``; where they live in an environment of their own, name
its python in the environment variable ``SLMC_PEERS_PYTHON``. Samplers whose package is missing are left out.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from command import main
from result_file import ResultFile, table
from vectors_chains import regression

import slmc
from slmc import CumulativeUpdate, MetropolisHastings, init_chains, learn, run_chains
from slmc.montecarlo import tune
from slmc.selflearning import LearningSettings
from slmc.statistics import estimate
from slmc.system import Problem, UserError
from slmc.systems.vectors import Elliptic, Evaluations, JaxFunction, Posterior, Prior, UMBridgeModel, vector_problem


class Settings(NamedTuple):
    """What all samplers have in common, and how long each runs; ``degree`` is that of the polynomial by dimension."""

    dimensions: tuple[int, ...] = (6, 20)
    degrees: tuple[int, ...] = (4, 3)
    n_cells: int = 256
    n_chains: int = 8
    n_steps: int = 400
    thermalise: int = 80
    tuning: int = 40
    learn: tuple[int, ...] = (40, 60, 80, 120)
    inner: int = 80
    n_coarse: int = 32
    coarse_updates: int = 5
    inner_of_coarse: int = 40
    nuts_adaptation: int = 1000
    nuts_draws: int = 250
    pilot: int = 20000
    tinyda_chains: int = 4
    tinyda_draws: int = 150
    subchains: tuple[int, ...] = (40, 160)
    n_data: tuple[int, ...] = (1000, 20000)
    regression_dimension: int = 10
    regression_inner: int = 5
    regression_steps: int = 500


QUICK = Settings((2,), (2,), 32, 4, 40, 20, 20, (20,), 4, 16, 2, 2, 40, 20, 400, 2, 20, (4,), (), 2, 2, 40)


def own(settings: Settings, dimension: int, degree: int, through_coarse: bool = False) -> dict[str, Any]:
    """Through ``slmc.run``: HMC with a mass matrix, then a polynomial of the log-likelihood proposes.

    With ``through_coarse`` it proposes to the posterior of the coarse grid, whose chain proposes to the fine one.
    """
    fine, coarse = Elliptic(dimension, settings.n_cells), Elliptic(dimension, settings.n_coarse)
    posterior = problem_of(settings, Evaluations(fine, fine.value_and_gradient), dimension, degree)
    if through_coarse:
        posterior = with_coarse_level(posterior, coarse, settings)
    at_start: dict[str, int] = {}

    def listen(event: dict[str, Any]) -> None:
        if event["phase"] == "measure":
            at_start.setdefault("coarse", coarse.n_solves)

    row = carried_out(settings, posterior, through_coarse, listen)
    before = fine.n_solves - row["solves"]
    row |= {"solves_before": before, "degree": degree}
    if through_coarse:
        # Of the steps after learning, those before anything is recorded count as before.
        share = settings.n_steps / (settings.n_steps + N_THERMALISE)
        measured = share * (coarse.n_solves - at_start["coarse"])
        row |= {"coarse_solves": measured, "coarse_solves_before": coarse.n_solves - measured}
    return row


N_THERMALISE = 50


def problem_of(settings: Settings, evaluations: Evaluations, dimension: int, degree: int) -> Problem:
    return vector_problem(evaluations, Prior.standard(dimension), degree=degree, n_steps=4)


def with_coarse_level(problem: Problem, coarse: Elliptic, settings: Settings) -> Problem:
    """Delayed acceptance on three levels: the model proposes to the coarse grid, and that to the fine one."""
    target, trajectories = problem.target, problem.inner["trajectories"]
    level = Posterior(target.prior, Evaluations(coarse).target, target.factor)  # type: ignore[attr-defined]

    def through_coarse(model: Any) -> Any:
        return MetropolisHastings(level, CumulativeUpdate(trajectories(model), settings.inner_of_coarse))

    return replace(problem, inner={"coarse grid": through_coarse})


def carried_out(settings: Settings, problem: Problem, through_coarse: bool, listen: Any = None) -> dict[str, Any]:
    """A run, and its figures; one solution for the decision of every step."""
    chosen = {
        "exact.tuning_steps": settings.tuning,
        "thermalisation.n_steps": settings.thermalise,
        "learning": {"n_rounds": len(settings.learn), "n_steps": settings.learn},
        "inner.n_updates": settings.coarse_updates if through_coarse else settings.inner,
        "measurement": {"n_chains": settings.n_chains, "n_steps": settings.n_steps, "n_thermalise": N_THERMALISE},
    }
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = slmc.run(problem, chosen, out=Path(folder) / "run", quiet=True, log=listen)
        dimension = problem.target.prior.dimension  # type: ignore[attr-defined]
        series = [result.records["measurement"][f"x{number}"].values for number in range(dimension)]
        summary = result.summary
    measured = summary["exact_evaluations"]["measurement"]
    row = row_of(np.stack(series, axis=-1), measured, 0, summary["acceptance"], time.process_time() - started)
    return row | {"residual": summary["residual"]}


def through_bridge(settings: Settings, dimension: int, degree: int) -> dict[str, Any] | None:
    """``own`` with the equation in a server of another process, as the package umbridge serves it."""
    python = os.environ.get("SLMC_PEERS_PYTHON", sys.executable)
    if not has_package(python, "umbridge"):
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = str(Path(__file__).with_name("vectors_server.py"))
    command = [python, script, str(dimension), str(settings.n_cells), str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ""}, **quiet) as server:  # type: ignore[call-overload]
        try:
            model = reached(f"http://127.0.0.1:{port}")
            counted = {"value": 0, "gradient": 0}

            def value(x: Any) -> float:
                counted["value"] += 1
                return model.value(x)

            def value_and_gradient(x: Any) -> Any:
                counted["gradient"] += 1
                return model.value_and_gradient(x)

            evaluations = Evaluations(value, value_and_gradient, workers=1, workers_are="threads")
            row = carried_out(settings, problem_of(settings, evaluations, dimension, degree), False)
        finally:
            server.terminate()
    # The server solves once for a value, and twice more for a gradient, for requests know nothing of each other.
    row["solves_before"] = counted["value"] + 3 * counted["gradient"] - row["solves"]
    return row | {"degree": degree}


def reached(url: str) -> UMBridgeModel:
    """The model of a server that is starting."""
    for _ in range(300):
        try:
            return UMBridgeModel(url, "posterior").check()
        except UserError:
            time.sleep(0.1)
    raise RuntimeError(f"no server answers at {url}")


def solve_times(settings: Settings, dimension: int) -> dict[str, Any]:
    """CPU microseconds of a solution on the fine and on the coarse grid, the least of several measurements in turns."""
    problems = {"fine": Elliptic(dimension, settings.n_cells), "coarse": Elliptic(dimension, settings.n_coarse)}
    best = dict.fromkeys(problems, np.inf)
    for _ in range(10):
        for name, problem in problems.items():
            problem(problem.truth)
            started = time.process_time()
            for _ in range(200):
                problem(problem.truth)
            best[name] = min(best[name], (time.process_time() - started) / 200 * 1e6)
    return best


def own_regression(settings: Settings, n_data: int) -> dict[str, Any]:
    """A logistic regression, written in JAX: a Gaussian with cubic corrections, learned, then sampled twice.

    The CPU time is that of the second of two samplings, the first compiles.
    """
    dimension = settings.regression_dimension
    features, labels = map(jnp.asarray, regression(n_data, dimension))

    def log_likelihood(x: Any) -> Any:
        logits = features @ x
        return jnp.sum(labels * logits - jnp.logaddexp(0.0, logits))

    problem = vector_problem(JaxFunction(log_likelihood), Prior.standard(dimension), degree=3, n_steps=4)
    rounds = LearningSettings(n_rounds=len(settings.learn), n_steps=settings.learn, n_updates=settings.regression_inner)
    rounds = dataclasses.replace(rounds, training=dataclasses.replace(rounds.training, n_steps=0))
    start = problem.start(jax.random.key(0), settings.n_chains)
    exact = problem.exact(problem.target)
    exact = tune(jax.random.key(1), exact, init_chains(exact, start)).update
    learner = problem.learner_of(problem.target, exact, rounds)
    learned = learn(jax.random.key(2), learner, problem.model, start, settings.thermalise)
    states, n_steps = learned.chains, settings.regression_steps
    for key in jax.random.split(jax.random.key(3)):
        started = time.process_time()
        states, observed = run_chains(key, learned.update, states, n_steps, _observe)
        draws, accepted = jax.device_get(observed)
        sampling = time.process_time() - started
    evaluations = n_steps * settings.n_chains
    row = row_of(draws, evaluations, learned.reports[-1].exact_evaluations, float(accepted.mean()), sampling)
    return row | {"seconds_sampling": sampling, "residual": learned.reports[-1].residual}


def _observe(state: Any, info: Any) -> Any:
    return state.configuration, info.accepted


def has_package(python: str, package: str) -> bool:
    """Whether a python can import a package; a sentence where it cannot."""
    environment = os.environ | {"PYTHONPATH": ""}
    if subprocess.run([python, "-c", f"import {package}"], capture_output=True, env=environment).returncode == 0:
        return True
    print(
        f"{package} is left out because {python} cannot import it; name another python in SLMC_PEERS_PYTHON.",
        file=sys.stderr,
    )
    return False


def peer(settings: Settings, dimension: int, sampler: str, package: str, more: dict[str, Any]) -> dict[str, Any] | None:
    """A sampler of another package in a process of its own; ``None``, and a sentence, where the package is missing."""
    python = os.environ.get("SLMC_PEERS_PYTHON", sys.executable)
    if not has_package(python, package):
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
        results.make(f"{dimension}: times", solve_times, settings, dimension)
    asked: list[tuple[str, str, str, dict[str, Any]]] = [
        (f"delayed acceptance, {n}", "tinyda", "tinyDA", {"subchain": n}) for n in settings.subchains
    ]
    asked.append(("NUTS", "nuts", "blackjax", {}))
    for name, sampler, package, more in asked:
        for dimension in settings.dimensions:
            add(results, f"{dimension}: {name}", peer, settings, dimension, sampler, package, more)
    last, degree = settings.dimensions[-1], settings.degrees[-1]
    results.make(f"{last}: slmc through the coarse grid", own, settings, last, degree, True)
    first, degree = settings.dimensions[0], settings.degrees[0]
    add(results, f"{first}: slmc through UM-Bridge", through_bridge, settings, first, degree)
    for n_data in settings.n_data:
        results.make(f"regression, {n_data}: slmc", own_regression, settings, n_data)
        more = {"n_data": n_data}
        name, dimension = f"regression, {n_data}: NUTS", settings.regression_dimension
        add(results, name, peer, settings, dimension, "logistic", "blackjax", more)


def add(results: ResultFile, name: str, function: Any, *arguments: Any) -> None:
    """Adds what a function returns unless the row is there, or the function has none."""
    if name not in results.rows and (row := function(*arguments)) is not None:
        results.add(name, row)


def write(results: ResultFile, settings: Settings) -> None:
    rows = results.rows
    lines, regressions = [], []
    for name, row in sorted(rows.items(), key=lambda item: item[0].split(":")[0].zfill(9)):
        head, sampler = name.split(": ")
        if head.startswith("regression"):
            regressions.append(_line_of_regression(head, sampler, row))
        elif sampler != "times":
            lines.append(_line(head, sampler, row, rows.get(f"{head}: slmc", row), settings))
    times = [f"{rows[f'{d}: times']['coarse'] / rows[f'{d}: times']['fine']:.2f}" for d in settings.dimensions]
    told = {"times": " and ".join(times), **settings._asdict()}
    about = [text.format(**told) for fragment, text in SAMPLERS.items() if any(fragment in name for name in rows)]
    page = PAGE.format(provenance=results.provenance(), table=table(HEADER, lines), samplers="\n".join(about), **told)
    if regressions:
        page += REGRESSION.format(regressions=table(HEADER_OF_REGRESSIONS, regressions), **told)
    (results.page_folder / "vectors.md").write_text(page)


HEADER = (
    *("d", "sampler", "acceptance", "largest R-hat", "least ESS", "solves per effective sample", "coarse ones"),
    *("together, by cells", "times those of slmc", "solves before", "with those before, by cells"),
)
HEADER_OF_REGRESSIONS = (
    *("data", "sampler", "acceptance", "largest R-hat", "evaluations per effective sample"),
    *("CPU ms per effective sample", "evaluations before"),
)


def _line(head: str, sampler: str, row: dict[str, Any], ours: dict[str, Any], settings: Settings) -> tuple[str, ...]:
    share = settings.n_coarse / settings.n_cells
    ess, coarse = row["least_ess"], row.get("coarse_solves", 0)
    before = row["solves_before"] + share * row.get("coarse_solves_before", 0)
    together = (row["solves"] + share * coarse) / ess
    return (
        *(head, sampler, f"{row['acceptance']:.2f}", f"{row['largest_r_hat']:.3f}", f"{ess:.0f}"),
        *(f"{row['solves_per_effective_sample']:.2f}", f"{coarse / ess:.0f}" if coarse else "0"),
        *(f"{together:.1f}", f"{together / ours['solves_per_effective_sample']:.1f}"),
        *(f"{row['solves_before']:.0f}", f"{together + before / ess:.1f}"),
    )


def _line_of_regression(head: str, sampler: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        *(head.split(", ")[1], sampler, f"{row['acceptance']:.2f}", f"{row['largest_r_hat']:.3f}"),
        *(f"{row['solves'] / row['least_ess']:.2f}", f"{1000 * row['seconds_sampling'] / row['least_ess']:.3f}"),
        f"{row['solves_before']:.0f}" if row["solves_before"] else "",
    )


SAMPLERS = {
    ": slmc": (
        "- **slmc** thermalises with HMC of the exact weight, whose mass matrix is found meanwhile, and learns a\n"
        "  polynomial of the log-likelihood from values and gradients; a proposal is {inner} trajectories of the\n"
        "  polynomial, and costs one solution."
    ),
    "delayed acceptance": (
        "- **Delayed acceptance** (tinyDA) has a grid of {n_coarse} cells as its coarse level, with tinyDA's\n"
        "  adaptive error model; the number is the length of its chains there. They move by a random walk with the\n"
        "  covariance of a chain of {pilot} steps on the coarse grid. A fifth of the draws is left out."
    ),
    "through the coarse grid": (
        "- **slmc through the coarse grid** is delayed acceptance on three levels with the same coarse grid: the\n"
        "  polynomial proposes ({inner_of_coarse} trajectories) to the coarse grid, {coarse_updates} steps of which\n"
        "  propose to the fine one."
    ),
    "NUTS": (
        "- **NUTS** (blackjax) adapts step size and mass matrix in windows, {nuts_adaptation} steps on one chain."
    ),
    "UM-Bridge": (
        "- **Through UM-Bridge** the equation is solved by a server of the package umbridge; a gradient there\n"
        "  costs three solutions, for requests know nothing of each other."
    ),
}
"""What the page says of each, by what its rows are called."""

PAGE = """# An inverse problem: solves per effective sample

{provenance}

The coefficient of an elliptic equation in one dimension, log k(s) = Σ_j c_j x_j cos(jπ s), from 15 noisy values of
its solution: `slmc.systems.vectors.Elliptic`, solved on {n_cells} cells with SciPy. The prior is standard normal, the
data are the same for all samplers. What is counted are solutions of the equation: one for a log-likelihood, two for
one with its gradient. Effective samples are those of the parameter that has fewest.

{table}

{samplers}

All rival chains start near the parameters with which the data were made; `solves before` are those of thermalising and
learning, of the window adaptation, or of draws left out. `By cells` counts a coarse solution as {n_coarse}/{n_cells} of
a fine one, the ratio of cells. For equations this small it takes {times} of the time of a fine one (in the order of
the dimensions), most of it being Python's own; in two or three dimensions the ratio of cells is what counts. Samplers
that are not in the table for a dimension were not run there.

How to read it: where coarse solutions cost nothing, the longest coarse chain is the best, every proposal is nearly
independent, and no sampler that evaluates the fine equation once for a proposal can be better by more than its
acceptance. Then delayed acceptance and slmc are alike. Where coarse solutions cost what their cells say, chains of
them are what delayed acceptance pays for, and a model that has been learned once costs nothing more.
"""

REGRESSION = """
## Where it does not pay

A logistic regression with {regression_dimension} coefficients, written in JAX: a log-likelihood of few data takes
microseconds, less than the chain of any model that could propose. slmc learns a cubic polynomial, and a proposal is
{regression_inner} trajectories. CPU times are those of sampling alone, compiled before; those of NUTS are gradients.

{regressions}
"""


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": make_all}, write)
