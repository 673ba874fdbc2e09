"""NUTS of blackjax and delayed acceptance of tinyDA on the elliptic inverse problem, run by ``vectors.py`` elsewhere.

    python benchmarks/vectors_chains.py (nuts | tinyda | logistic) JOB.json RESULT.npz

``logistic`` is NUTS on the logistic regression, where everything is compiled.

Needs the packages of ``peers_requirements.txt`` but not slmc: the problem itself is one file of NumPy and SciPy, which
is read from the source. Result: draws of the parameters by (chain, draw, parameter), and solutions of the equation.
"""

import importlib.util
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "src/slmc/systems/vectors/elliptic.py"


def elliptic() -> Any:
    """The class of the inverse problem."""
    spec = importlib.util.spec_from_file_location("elliptic", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Elliptic


def regression(n_data: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal features and labels 0 or 1 of a logistic regression with coefficients drawn from N(0, 1)."""
    random = np.random.default_rng(11)
    features, coefficients = random.standard_normal((n_data, dimension)), random.standard_normal(dimension)
    return features, (random.random(n_data) < 1 / (1 + np.exp(-features @ coefficients))).astype(float)


def logistic(job: dict[str, Any], problem: Any) -> dict[str, Any]:
    """NUTS on the logistic regression; the CPU time is that of the second of two runs, the first compiles."""
    import blackjax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    features, labels = map(jnp.asarray, regression(job["n_data"], job["dimension"]))

    def log_density(x: Any) -> Any:
        logits = features @ x
        return jnp.sum(labels * logits - jnp.logaddexp(0.0, logits)) - jnp.sum(x**2) / 2

    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)
    (state, parameters), _ = adaptation.run(jax.random.key(1), jnp.zeros(job["dimension"]), job["nuts_adaptation"])
    sampler = blackjax.nuts(log_density, **parameters)

    def step(state: Any, key: Any) -> Any:
        state, info = sampler.step(key, state)
        return state, (state.position, info.acceptance_rate, info.num_integration_steps)

    @jax.jit
    def chain(key: Any) -> Any:
        return jax.lax.scan(step, state, jax.random.split(key, job["nuts_draws"]))[1]

    jax.block_until_ready(chain(jax.random.key(0)))
    started = time.process_time()
    found = [jax.device_get(chain(key)) for key in jax.random.split(jax.random.key(2), job["n_chains"])]
    sampling = time.process_time() - started
    draws, acceptance, n_gradients = (np.stack(parts) for parts in zip(*found, strict=True))
    return {
        "draws": draws,
        "solves": int(n_gradients.sum()),
        "warm_up": 0,
        "acceptance": float(acceptance.mean()),
        "seconds_sampling": sampling,
    }


def nuts(job: dict[str, Any], problem: Any) -> dict[str, Any]:
    """Window adaptation on one chain, then all of them with its step size and mass matrix.

    A gradient is two solutions: the equation and its adjoint, with one factorisation.
    """
    import blackjax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    shapes = jax.ShapeDtypeStruct((), jnp.float64), jax.ShapeDtypeStruct((problem.dimension,), jnp.float64)

    def on_host(x: Any) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = problem.value_and_gradient(np.asarray(x))
        return np.asarray(value), gradient

    @jax.custom_vjp
    def log_likelihood(x: Any) -> Any:
        return jax.pure_callback(on_host, shapes, x)[0]

    log_likelihood.defvjp(lambda x: jax.pure_callback(on_host, shapes, x), lambda gradient, up: (up * gradient,))

    def log_density(x: Any) -> Any:
        return log_likelihood(x) - jnp.sum(x**2) / 2

    starts = jnp.asarray(starts_of(job, problem))
    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)
    (state, parameters), _ = adaptation.run(jax.random.key(1), starts[0], job["nuts_adaptation"])
    jax.block_until_ready(state.position)
    warm_up, problem.n_solves = problem.n_solves, 0
    sampler = blackjax.nuts(log_density, **parameters)

    def step(state: Any, key: Any) -> Any:
        state, info = sampler.step(key, state)
        return state, (state.position, info.acceptance_rate)

    chains = []
    for number, start in enumerate(starts):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(2), number), job["nuts_draws"])
        chains.append(jax.device_get(jax.lax.scan(step, sampler.init(start), keys)[1]))
    draws, acceptance = (np.stack(parts) for parts in zip(*chains, strict=True))
    return {"draws": draws, "solves": problem.n_solves, "warm_up": warm_up, "acceptance": float(acceptance.mean())}


def tinyda(job: dict[str, Any], problem: Any) -> dict[str, Any]:
    """Two levels: the grid with ``n_coarse`` cells, a chain of adaptive Metropolis there, and the fine one.

    The proposal has the covariance of a pilot chain on the coarse grid. The error of that grid is corrected by tinyDA's
    adaptive error model. Solutions on it are counted apart.
    """
    import tinyDA
    from scipy.stats import multivariate_normal

    np.random.seed(3)
    d = problem.dimension
    prior = multivariate_normal(np.zeros(d), np.eye(d))
    data = tinyDA.AdaptiveGaussianLogLike(problem.data, problem.noise**2 * np.eye(problem.n_points))
    coarse_problem = elliptic()(d, job["n_coarse"])

    def outputs(of: Any) -> Any:
        return lambda x: of.solution(np.clip(x, -8, 8))[of.places]

    coarse = tinyDA.Posterior(prior, data, outputs(coarse_problem))
    fine = tinyDA.Posterior(
        prior, tinyDA.GaussianLogLike(problem.data, problem.noise**2 * np.eye(problem.n_points)), outputs(problem)
    )
    starts = list(starts_of(job, problem))[: job["tinyda_chains"]]
    proposal = tinyDA.AdaptiveMetropolis(0.01 * np.eye(d), adaptive=True, period=100)
    pilot = tinyDA.sample(coarse, proposal, job["pilot"], 1, starts[:1], force_sequential=True)
    seen = np.stack([link.parameters for link in pilot["chain_0"][job["pilot"] // 2 :]])
    shape = tinyDA.GaussianRandomWalk(np.cov(seen.T), scaling=2.4 / d**0.5, adaptive=True)
    problem.n_solves, before = 0, coarse_problem.n_solves
    found = tinyDA.sample(
        [coarse, fine],
        shape,
        job["tinyda_draws"],
        len(starts),
        starts,
        job["subchain"],
        adaptive_error_model="state-independent",
        force_sequential=True,
    )
    chains = [found[f"chain_fine_{number}"] for number in range(len(starts))]
    moved = [after is not before for chain in chains for before, after in pairwise(chain)]
    draws = np.stack([[link.parameters for link in chain[1:]] for chain in chains])
    skipped = draws.shape[1] // 5
    return {
        "draws": draws[:, skipped:],
        "solves": problem.n_solves * (1 - skipped / draws.shape[1]),
        "warm_up": problem.n_solves * skipped / draws.shape[1],
        "acceptance": float(np.mean(moved)),
        "coarse_solves": (coarse_problem.n_solves - before) * (1 - skipped / draws.shape[1]),
        "coarse_solves_before": before + (coarse_problem.n_solves - before) * skipped / draws.shape[1],
    }


def starts_of(job: dict[str, Any], problem: Any) -> np.ndarray:
    """Near the parameters with which the data were made: equilibrated, more or less."""
    noise = np.random.default_rng(5).standard_normal((job["n_chains"], problem.dimension))
    return np.asarray(problem.truth + 0.05 * noise)


def main(sampler: str, job_file: str, result: str) -> None:
    job = json.loads(Path(job_file).read_text())
    problem = elliptic()(job["dimension"], job["n_cells"])
    started = time.process_time()
    found = {"nuts": nuts, "tinyda": tinyda, "logistic": logistic}[sampler](job, problem)
    found["seconds"] = time.process_time() - started
    np.savez(result, draws=found.pop("draws"), about=json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
