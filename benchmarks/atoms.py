"""A cluster of four water molecules, GFN2-xTB, 300 K: self-learning hybrid Monte Carlo against exact HMC.

    python benchmarks/atoms.py [learned] [exact] [--report-only]

Needs the extra ``atoms`` and tblite. Writes ``benchmarks/results/atoms.json`` and, from it, ``docs/results/atoms.md``
and its figure. Interrupted, it continues: the exact chains are made in parts, one length of trajectories after the
other, and every part is stored.
"""

import itertools
import sys
import tempfile
import tomllib
import zlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from atoms_page import page
from command import main
from result_file import ResultFile

import slmc
from slmc.montecarlo import (
    HamiltonianTrajectory,
    MetropolisHastings,
    Update,
    init_chains,
    run_chains,
    step_size,
    tune,
    with_step_size,
)
from slmc.statistics import estimate
from slmc.system.discovery import ready_made
from slmc.systems.atoms.problem import atoms_problem
from slmc.systems.atoms.settings import AtomsRun

DIGITS = 7


class Settings(NamedTuple):
    """Of the run, the fields that differ from the ready-made one; the exact chains and their parts.

    ``n_steps`` is how long the run measures, of which a shorter one can be continued. Exact chains are tried with all
    lengths of trajectories at all acceptances in ``n_trial_parts`` parts; the ``n_best`` that cost least go on to
    ``n_parts``.
    """

    run: dict[str, Any]
    n_steps: int = 850
    n_chains: int = 8
    hmc_lengths: tuple[int, ...] = (20, 40)
    acceptances: tuple[float, ...] = (0.65, 0.8)
    n_trial_parts: int = 4
    n_best: int = 2
    n_parts: int = 20
    forces_in_part: int = 320
    tuning_steps: int = 24


FULL = Settings({})
QUICK = Settings(
    {
        "learning.n_rounds": 2,
        "learning.n_steps": [12, 8],
        "learning.training_steps": 20,
        "measurement.block_size": 8,
        "measurement.n_thermalise": 2,
        "model.n_channels": 3,
        "model.n_hidden": 4,
    },
    n_steps=16,
    hmc_lengths=(3,),
    acceptances=(0.6, 0.8),
    n_trial_parts=1,
    n_best=1,
    n_parts=2,
    forces_in_part=12,
    tuning_steps=2,
)


def described(positions: np.ndarray, energy: np.ndarray, radius: np.ndarray) -> dict[str, np.ndarray]:
    """What is compared, as series (chain, draw). Every third atom is an oxygen, two hydrogens of its own behind it."""
    oxygen = positions[..., ::3, :]
    own = np.stack([positions[..., 1::3, :] - oxygen, positions[..., 2::3, :] - oxygen], axis=-2)
    first, second = np.triu_indices(oxygen.shape[-2], 1)
    between = np.linalg.norm(oxygen[..., first, :] - oxygen[..., second, :], axis=-1)
    return {
        "energy": energy,
        "radius_of_gyration": radius,
        "near_pairs": (between < 3.5).mean(-1),
        "bond": np.linalg.norm(own, axis=-1).mean((-2, -1)),
    }


def stored(series: dict[str, np.ndarray]) -> dict[str, Any]:
    """Series as they are written."""
    return {name: np.round(values, DIGITS).tolist() for name, values in series.items()}


def learned(results: ResultFile, settings: Settings) -> None:
    """The run of SLHMC."""
    results.make("SLHMC", _learned, settings)


def _learned(settings: Settings) -> dict[str, Any]:
    folder = Path(tempfile.gettempdir()) / f"slmc-benchmark-atoms-{zlib.crc32(str(settings.run).encode())}"
    fields = settings.run | {"measurement.n_steps": settings.n_steps}
    result: Any = slmc.run("atoms", fields, out=folder, quiet=False, go_on=True)
    if not result.is_complete:
        sys.exit("the run was stopped; the same command continues it.")
    summary, records = result.summary, result.records
    measured, rounds = records["measurement"], records["learning"]
    positions = measured["positions"].values
    last = positions[:, -1 :: -max(1, positions.shape[1] // 8)]
    return {
        "acceptance": summary["acceptance"],
        "residual": summary["residual"],
        "trajectory": summary["inner_chain"]["update"],
        "evaluations": summary["exact_evaluations"],
        "seconds": summary["seconds"],
        "rounds": {
            name: np.round(rounds[name].values, DIGITS).tolist()
            for name in ("exact_evaluations", "residual", "acceptance", "energy_error", "force_error")
        },
        "series": stored(described(positions, measured["energy"].values, measured["radius_of_gyration"].values)),
        "starts": np.round(np.swapaxes(last, 0, 1), DIGITS).tolist(),
    }


def exact(results: ResultFile, settings: Settings) -> None:
    """Exact HMC: all lengths and acceptances in turn, then the best; each begins with samples of the learned run."""
    if "SLHMC" not in results.rows:
        learned(results, settings)
    problem = atoms_problem(AtomsRun.model_validate(tomllib.loads(ready_made()["atoms"].read_text())))
    chains = [ExactChain(*pair) for pair in itertools.product(settings.hmc_lengths, settings.acceptances)]
    for part in range(settings.n_trial_parts):
        for chain in chains:
            results.make(chain.row(part), _part, results, settings, problem, chain, part)
    costs = {chain: _cost(results, settings, chain) for chain in chains}
    for part in range(settings.n_trial_parts, settings.n_parts):
        for chain in sorted(chains, key=lambda chain: costs[chain])[: settings.n_best]:
            results.make(chain.row(part), _part, results, settings, problem, chain, part)


class ExactChain(NamedTuple):
    """Trajectories of so many steps, whose size is tuned to an acceptance."""

    n_steps: int
    wanted: float

    def row(self, part: int) -> str:
        return f"HMC, {self.n_steps} steps at {self.wanted}, part {part}"


def _cost(results: ResultFile, settings: Settings, chain: ExactChain) -> float:
    """Evaluations for an effective sample in the trial, the geometric mean over what is compared."""
    rows = [results.rows[chain.row(part)] for part in range(settings.n_trial_parts)]
    spent = sum(row["evaluations"] for row in rows)
    ess = [
        estimate(np.concatenate([np.array(row["series"][name]) for row in rows], axis=1)).ess or np.nan
        for name in rows[0]["series"]
    ]
    return float(np.nan_to_num(np.exp(np.mean(np.log(spent / np.array(ess, float)))), nan=np.inf))


def _part(results: ResultFile, settings: Settings, problem: Any, chain: ExactChain, part: int) -> dict[str, Any]:
    n_steps = chain.n_steps
    place = settings.hmc_lengths.index(n_steps) * len(settings.acceptances) + settings.acceptances.index(chain.wanted)
    key = jax.random.fold_in(jax.random.key(place), part)
    update: Update = MetropolisHastings(
        problem.target, HamiltonianTrajectory(problem.target, problem.manifold, jnp.asarray(1.0), n_steps)
    )
    if part == 0:
        starts = results.rows["SLHMC"]["starts"]
        configurations = jnp.asarray(starts[place % len(starts)])[: settings.n_chains]
        size, n_rounds = _first_size(results, settings, chain)
        update = with_step_size(update, step_size, size)
        states = init_chains(update, configurations)
        tuned = tune(key, update, states, wanted=chain.wanted, n_rounds=n_rounds, n_steps=1)
        size, configurations = float(step_size(tuned.update)), tuned.states.configuration
    else:
        before = results.rows[chain.row(part - 1)]
        configurations, size = jnp.asarray(before["end"]), before["step_size"]
    update = with_step_size(update, step_size, size)
    n_updates = max(2, settings.forces_in_part // n_steps)
    states, (accepted, energy, radius, positions) = run_chains(
        key, update, init_chains(update, configurations), n_updates, partial(_observe, problem.fit.observable)
    )
    series = described(np.asarray(positions), np.asarray(energy), np.asarray(radius))
    return {
        "step_size": size,
        "acceptance": float(np.mean(np.asarray(accepted))),
        "evaluations": n_updates * (n_steps + 1) * len(configurations),
        "series": stored(series),
        "end": np.asarray(states.configuration).tolist(),
    }


def _first_size(results: ResultFile, settings: Settings, chain: ExactChain) -> tuple[float, int]:
    """The step size to tune from, that of shorter trajectories where there are some, and how many rounds to tune."""
    shorter = [n_steps for n_steps in settings.hmc_lengths if n_steps < chain.n_steps]
    if not shorter:
        return 3.0, settings.tuning_steps
    return results.rows[chain._replace(n_steps=max(shorter)).row(0)]["step_size"], max(2, settings.tuning_steps // 3)


def _observe(radius: Any, state: Any, info: Any) -> Any:
    return info.accepted, state.observables["energy"], radius(state.configuration), state.configuration


def write(results: ResultFile, settings: Settings) -> None:
    """``atoms.md`` and its figure."""
    page(results, settings)


if __name__ == "__main__":
    main(__file__, __doc__, (FULL, QUICK), {"learned": learned, "exact": exact}, write, choose="parts: learned, exact")
