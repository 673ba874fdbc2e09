"""A cluster of four water molecules, GFN2-xTB, 300 K: self-learning hybrid Monte Carlo against exact HMC.

    python benchmarks/atoms.py [learned] [exact] [--report-only]

Needs the extra ``atoms`` and tblite. Writes ``benchmarks/results/atoms.json`` and, from it, ``docs/results/atoms.md``
and its figure. Interrupted, it continues: the exact chains are made in parts, one length of trajectories after the
other, and every part is stored.
"""

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
from slmc.montecarlo import HamiltonianTrajectory, MetropolisHastings, init_chains, run_chains, tune, with_step_size
from slmc.system.discovery import ready_made
from slmc.systems.atoms.problem import atoms_problem
from slmc.systems.atoms.settings import AtomsRun

DIGITS = 7


class Settings(NamedTuple):
    """Of the run, the fields that differ from the ready-made one; the exact chains, their lengths and parts.

    ``n_steps`` is how long the run measures, of which a shorter one can be continued.
    """

    run: dict[str, Any]
    n_steps: int = 500
    n_chains: int = 8
    hmc_lengths: tuple[int, ...] = (10, 20, 40, 80)
    n_parts: int = 8
    forces_in_part: int = 600
    tuning_steps: int = 12


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
    """Exact HMC: all lengths in turn, part after part; each begins with samples of the learned run."""
    if "SLHMC" not in results.rows:
        learned(results, settings)
    problem = atoms_problem(AtomsRun.model_validate(tomllib.loads(ready_made()["atoms"].read_text())))
    for part in range(settings.n_parts):
        for place, n_steps in enumerate(settings.hmc_lengths):
            results.make(f"HMC, {n_steps} steps, part {part}", _part, results, settings, problem, place, part)


def _part(results: ResultFile, settings: Settings, problem: Any, place: int, part: int) -> dict[str, Any]:
    n_steps = settings.hmc_lengths[place]
    key = jax.random.fold_in(jax.random.key(place), part)
    update = MetropolisHastings(
        problem.target, HamiltonianTrajectory(problem.target, problem.manifold, jnp.asarray(1.0), n_steps)
    )
    if part == 0:
        starts = results.rows["SLHMC"]["starts"]
        configurations = jnp.asarray(starts[place % len(starts)])[: settings.n_chains]
        tuned = tune(key, update, init_chains(update, configurations[:4]), n_rounds=settings.tuning_steps, n_steps=1)
        size = float(tuned.update.step_size)
    else:
        before = results.rows[f"HMC, {n_steps} steps, part {part - 1}"]
        configurations, size = jnp.asarray(before["end"]), before["step_size"]
    update = with_step_size(update, lambda update: update.step_size, jnp.asarray(size))
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


def _observe(radius: Any, state: Any, info: Any) -> Any:
    return info.accepted, state.observables["energy"], radius(state.configuration), state.configuration


def write(results: ResultFile, settings: Settings) -> None:
    """``atoms.md`` and its figure."""
    page(results, settings)


if __name__ == "__main__":
    main(__file__, __doc__, (FULL, QUICK), {"learned": learned, "exact": exact}, write, choose="parts: learned, exact")
