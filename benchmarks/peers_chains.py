"""Chains of other packages on the double-exchange model, run by ``peers.py`` in an environment that has them.

    python benchmarks/peers_chains.py (nuts | tinyda) JOB.json LABELS.npz RESULT.npz

Both sample unconstrained coordinates x in R^(3N), whose directions x_i/|x_i| are the spins, from the density
W(spins) exp(−Σ_i |x_i|²/2): the directions and the lengths of three Gaussian components are independent, so that the
directions have the weight W and nothing else.
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slmc.montecarlo import Label, Sphere, Target
from slmc.selflearning import fit_linear
from slmc.systems.spins import DoubleExchange, Heisenberg
from slmc.systems.spins.observables import staggered_magnetization_squared


class Point(NamedTuple):
    """Where the model is sampled, and how long.

    ``n_labels`` are chains and draws of exact labels; ``n_blocks`` those of HMC and of SLMC; ``tinyda`` lists runs of
    delayed acceptance, each as coarse steps in a proposal and draws of a chain.
    """

    shape: tuple[int, int]
    coupling: float
    temperature: float
    chemical_potential: float = 0.0
    n_labels: tuple[int, int] = (8, 50)
    n_thermalise: int = 100
    block: int = 50
    n_blocks: tuple[int, int] = (12, 24)
    leapfrog: tuple[int, ...] = (3, 4)
    durations: tuple[float, ...] = (1.5, 1.8)
    n_scan: int = 50
    n_updates: int = 6
    nuts_chains: int = 4
    nuts_adaptation: int = 500
    nuts_draws: int = 300
    tinyda_chains: int = 4
    tinyda_pilot: int = 4000
    tinyda: tuple[tuple[int, int], ...] = ((30, 800), (150, 160))


class Stopwatch:
    """Seconds between entering and leaving: on the wall, and of the processor (all threads of this process)."""

    def __enter__(self) -> "Stopwatch":
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_seconds = time.perf_counter() - self._started[0]
        self.seconds = time.process_time() - self._started[1]


class Chains(NamedTuple):
    """What a sampler did: m_st² by (chain, draw), exact evaluations, seconds, and what else it has to say."""

    series: np.ndarray
    evaluations: int
    watch: Stopwatch
    acceptance: float
    details: dict[str, Any]


def target_of(point: Point) -> DoubleExchange:
    return DoubleExchange(point.shape, 1.0, point.coupling, point.chemical_potential, point.temperature)


def linear_model(point: Point, labels: Label) -> Heisenberg:
    """The Heisenberg model over all shells, fitted to exact labels; their leading axes are (chain, draw)."""
    flat = Label(*(np.asarray(leaf).reshape(-1, *leaf.shape[2:]) for leaf in labels))
    return fit_linear(Heisenberg(point.shape, temperature=point.temperature), flat, Sphere())


def spins_of(point: Point, x: jax.Array) -> jax.Array:
    """The directions of unconstrained coordinates."""
    vectors = x.reshape(*point.shape, 3)
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def coordinates(labels: Label, n_chains: int) -> np.ndarray:
    """Equilibrated starts: the last spins of the labelled chains, with lengths of Gaussian vectors."""
    spins = np.asarray(labels.configuration)[:n_chains, -1]
    lengths = np.linalg.norm(np.random.default_rng(0).standard_normal(spins.shape), axis=-1, keepdims=True)
    return (spins * lengths).reshape(n_chains, -1)


# ----------------------------------------------------------------------------------------------------------- NUTS


def nuts(point: Point, labels: Label) -> Chains:
    """NUTS of blackjax: window adaptation on the first chain, then all chains one after the other in one program."""
    import blackjax

    log_density = partial(log_density_of, point, target_of(point))
    starts = jnp.asarray(coordinates(labels, point.nuts_chains))
    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)
    (_, parameters), adapted = adaptation.run(jax.random.key(21), starts[0], point.nuts_adaptation)
    sampler = blackjax.nuts(log_density, **parameters)
    program = jax.jit(partial(nuts_chains, point, sampler))
    keys = jax.random.split(jax.random.key(22), len(starts))
    compiled = program.lower(keys, starts).compile()
    with Stopwatch() as watch:
        series, leapfrog, acceptance, divergent = jax.device_get(compiled(keys, starts))
    details = {
        "package": _version("blackjax"),
        "step_size": float(parameters["step_size"]),
        "leapfrog_per_draw": float(leapfrog.mean()),
        "divergent": int(divergent.sum()),
        "adaptation_evaluations": int(np.asarray(adapted.info.num_integration_steps).sum()),
    }
    return Chains(series, int(leapfrog.sum()), watch, float(acceptance.mean()), details)


def log_density_of(point: Point, target: Target, x: jax.Array) -> jax.Array:
    """log W of the directions, and the Gaussian that makes the lengths a proper distribution."""
    return target.log_weight(spins_of(point, x)) - jnp.sum(x**2) / 2


def nuts_chains(point: Point, sampler: Any, keys: jax.Array, starts: jax.Array) -> tuple[jax.Array, ...]:
    """All chains, mapped and not vectorised: vectorised ones would all take the most leapfrog steps of any."""

    def step(state: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, ...]]:
        state, info = sampler.step(key, state)
        seen = staggered_magnetization_squared(spins_of(point, state.position))
        return state, (seen, info.num_integration_steps, info.acceptance_rate, info.is_divergent)

    def chain(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        key, start = inputs
        return jax.lax.scan(step, sampler.init(start), jax.random.split(key, point.nuts_draws))[1]

    return jax.lax.map(chain, (keys, starts))


# --------------------------------------------------------------------------------------------------------- tinyDA


class Counted:
    """log W of one configuration, compiled, as a forward model of tinyDA; counts its calls."""

    def __init__(self, point: Point, target: Target) -> None:
        self._log_weight = jax.jit(lambda x: target.log_weight(spins_of(point, x)))
        self.n_calls = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.n_calls += 1
        return np.asarray(self._log_weight(x))


class AsLikelihood:
    """The output of the forward model is the log-likelihood."""

    def logpdf(self, model_output: np.ndarray) -> float:
        return float(model_output)


def tinyda(point: Point, labels: Label) -> Chains:
    """Delayed acceptance of tinyDA: the linear model is the coarse level, the exact weight the fine one."""
    import tinyDA

    np.random.seed(23)
    exact = Counted(point, target_of(point))
    coarse, fine = levels(point, Counted(point, linear_model(point, labels)), exact)
    starts = list(coordinates(labels, point.tinyda_chains))
    pilot = adapted_chain(point, coarse, starts[0])
    proposal = crank_nicolson(pilot.proposal.scaling)
    ((length, n_draws),) = point.tinyda
    # The first call compiles.
    fine.create_link(starts[0])
    exact.n_calls = 0
    with Stopwatch() as watch:
        found = tinyDA.sample([coarse, fine], proposal, n_draws, len(starts), starts, length, force_sequential=True)
    series, acceptance = fine_levels(point, [found[f"chain_fine_{number}"] for number in range(len(starts))])
    details = {
        "package": _version("tinyDA"),
        "scale": float(proposal.scaling),
        "pilot_acceptance": float(np.mean(pilot.accepted[len(pilot.accepted) // 2 :])),
        "subchain": length,
    }
    return Chains(series, exact.n_calls, watch, acceptance, details)


def levels(point: Point, *models: Counted) -> list[Any]:
    """What tinyDA calls link factories: a Gaussian prior and each of the weights as likelihood."""
    import tinyDA
    from scipy.stats import multivariate_normal

    n_coordinates = 3 * int(np.prod(point.shape))
    prior = multivariate_normal(np.zeros(n_coordinates), np.eye(n_coordinates))
    return [tinyDA.BlackBoxLinkFactory(model, prior, AsLikelihood()) for model in models]


def adapted_chain(point: Point, coarse: Any, start: np.ndarray) -> Any:
    """A chain of the linear model alone, in which tinyDA adapts the scale of the proposal; later it is kept."""
    import tinyDA

    chain = tinyDA.Chain(coarse, crank_nicolson(0.1, adaptive=True), start)
    chain.sample(point.tinyda_pilot, progressbar=False)
    return chain


def fine_levels(point: Point, chains: list[list[Any]]) -> tuple[np.ndarray, float]:
    """m_st² of the fine level by (chain, draw), and the share of accepted proposals."""
    moved = [after is not before for chain in chains for before, after in pairwise(chain)]
    observe = jax.jit(jax.vmap(lambda x: staggered_magnetization_squared(spins_of(point, x))))
    series = np.stack([observe(np.stack([link.parameters for link in chain[1:]])) for chain in chains])
    return series, float(np.mean(moved))


def crank_nicolson(scale: float, adaptive: bool = False) -> Any:
    """tinyDA's proposal for a standard Gaussian prior, whose covariance it would decompose anew for every draw."""
    import tinyDA

    class StandardCrankNicolson(tinyDA.CrankNicolson):
        def make_proposal(self, link: Any) -> np.ndarray:
            noise = np.random.standard_normal(len(link.parameters))
            return np.sqrt(1 - self.scaling**2) * link.parameters + self.scaling * noise

    return StandardCrankNicolson(scale, adaptive)


# ----------------------------------------------------------------------------------------------------------------


def _version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


SAMPLERS: dict[str, Callable[[Point, Label], Chains]] = {"nuts": nuts, "tinyda": tinyda}


def main(sampler: str, job: str, labels: str, result: str) -> None:
    point = Point(**json.loads(Path(job).read_text()))
    point = point._replace(shape=tuple(point.shape))
    with np.load(labels) as stored:
        chains = SAMPLERS[sampler](point, Label(**stored))
    about = chains._asdict() | {"watch": vars(chains.watch)}
    np.savez(result, series=about.pop("series"), about=json.dumps(about))


if __name__ == "__main__":
    main(*sys.argv[1:])
