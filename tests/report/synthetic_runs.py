"""Synthetic runs: what the runner stores, made of AR(1) noise with known properties."""

from typing import Any

import numpy as np
import xarray

from slmc.system import LOG_WEIGHT
from slmc.systems.spins.measured import ALL_OBSERVABLES, BINDER_RATIOS, specific_heat
from slmc.systems.spins.measured import structure_factor as field

CONFIG = '[system]\nname = "double_exchange"\nshape = [6, 6]\ntemperature = 0.05\n'


def autoregressive(rng: np.random.Generator, n_chains: int, n_draws: int, time: float) -> np.ndarray:
    """Unit Gaussian noise with ρ(t) = exp(−t/time), stationary from the first draw."""
    memory = np.exp(-1 / time) if time > 0 else 0.0
    noise = rng.normal(size=(n_chains, n_draws))
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0]
    for draw in range(1, n_draws):
        series[:, draw] = memory * series[:, draw - 1] + np.sqrt(1 - memory**2) * noise[:, draw]
    return series


def structure_factor(rng: np.random.Generator, shape: tuple[int, ...], n_chains: int, n_blocks: int) -> np.ndarray:
    """Ornstein–Zernike peak at (π, π, …), normalised to ⟨S_0·S_0⟩ = 1, with a few percent of symmetric noise."""
    wave = np.meshgrid(*[2 * np.pi * np.arange(extent) / extent for extent in shape], indexing="ij")
    peak = 1 / (0.15 + sum(2 + 2 * np.cos(q) for q in wave))
    noisy = peak * np.exp(0.05 * rng.normal(size=(n_chains, n_blocks, *shape)))
    axes = tuple(range(2, 2 + len(shape)))
    reflected = np.roll(np.flip(noisy, axes), 1, axes)
    symmetric = (noisy + reflected) / 2
    return symmetric / symmetric.mean(axis=axes, keepdims=True)


def chain_group(
    rng: np.random.Generator, shape: tuple[int, ...], n_chains: int, n_draws: int, time: float, acceptance: float
) -> xarray.Dataset:
    """A measurement or baseline group."""
    sites, dims = int(np.prod(shape)), ("chain", "draw")
    order = autoregressive(rng, n_chains, n_draws, time)
    free = autoregressive(rng, n_chains, n_draws, time)
    squared = np.exp(-1.25 + 0.15 * order)
    s = 0.6
    columns = {
        "log_weight": (1221.4 + 5.8 * (0.7 * order + 0.7 * free), "", "exact log-weight"),
        "accepted": ((rng.random((n_chains, n_draws)) < acceptance).astype(float), "", "share of proposals accepted"),
        "log_ratio": (rng.normal(-(s**2), np.sqrt(2) * s, (n_chains, n_draws)), "", "log acceptance ratio"),
        "magnetization": (0.156 + 0.03 * free, "", "length of the mean spin"),
        "magnetization_squared": ((0.156 + 0.03 * free) ** 2, "", "its square"),
        "energy": (-1.62 + 0.004 * order, "t", "electronic energy per site"),
        "density": (1 + 0.002 * rng.normal(size=(n_chains, n_draws)), "", "electrons per site"),
        "grand_energy": (sites * (-1.62 + 0.004 * order), "t", "energy less chemical potential times electrons"),
    }
    if all(extent % 2 == 0 for extent in shape):
        columns["staggered_magnetization"] = (np.sqrt(squared), "", "length of the staggered mean spin")
        columns["staggered_magnetization_squared"] = (squared, "", "its square")
    known = {LOG_WEIGHT.name: LOG_WEIGHT, **ALL_OBSERVABLES}
    variables = {
        name: xarray.Variable(dims, values, known[name].attributes if name in known else {})
        for name, (values, units, description) in columns.items()
    }
    for name, (_, units, description) in columns.items():
        variables[name].attrs |= {"units": units, "description": description}
    names = tuple(f"q{axis}" for axis in range(len(shape)))
    factor = structure_factor(rng, shape, n_chains, 8)
    variables["structure_factor"] = xarray.Variable(("chain", "block", *names), factor, field(len(shape)).attributes)
    walkers = np.broadcast_to(np.arange(3.0), (n_chains, n_draws, 3)).copy()
    walkers[:, n_draws // 2 :, :2] = (1, 0)
    attributes = {"drawn": "walkers", "shown": False, "words": "walkers"}
    variables["walkers"] = xarray.Variable((*dims, "rung"), walkers, attributes)
    green = 0.5 * np.exp(-3 * np.abs(np.sin(np.pi * np.linspace(0, 1, 9)))) + 0.01 * rng.random((n_chains, 8, 2, 9))
    attributes = {"drawn": "imaginary time", "shown": False, "words": "Green function"}
    variables["green"] = xarray.Variable(("chain", "block", "spin", "time"), green, attributes)
    drawing = {"start": 0.0, "width": 0.5, "label": "distance"}
    attributes = {"drawn": "curve", "shown": False, "words": "distances", "drawing": drawing}
    variables["distances"] = xarray.Variable(("chain", "block", "bin"), 1 + rng.random((n_chains, 8, 6)), attributes)
    drawing = {"labels": ["O", "H", "H"], "sizes": [0.7, 0.3, 0.3], "colours": ["#c00", "#eee", "#eee"], "bonds": 1.2}
    attributes = {"drawn": "points", "shown": False, "words": "configuration", "drawing": drawing}
    variables["places"] = xarray.Variable(
        ("chain", "block", "point", "axis"), rng.normal(size=(n_chains, 8, 3, 3)), attributes
    )
    derived = {one.name: one.attributes for one in (*BINDER_RATIOS, specific_heat(0.05, sites))}
    return xarray.Dataset(variables, attrs={"derived": derived})


def learning_group(rng: np.random.Generator, n_rounds: int, trained: bool = True) -> xarray.Dataset:
    rounds = np.arange(n_rounds)
    residual = 0.36 + 1.1 * np.exp(-rounds / 1.3)
    acceptance = np.concatenate([[np.nan], 1 - residual[:-1] / 2])
    exact = 1221.4 + 5.8 * rng.normal(size=1200)
    variables: dict[str, Any] = {
        "residual": ("round", residual),
        "training_residual": ("round", 0.93 * residual),
        "expected_acceptance": ("round", np.maximum(1 - 0.56 * residual, 0.05)),
        "acceptance": ("round", acceptance),
        "inner_step_size": ("round", 0.3 + 0 * residual),
        "n_labels": ("round", 1200 * (1 + rounds)),
        "exact_evaluations": ("round", 1600 * (1 + rounds)),
        "predicted": ("held_out", exact - 300 + 0.37 * rng.normal(size=len(exact))),
        "exact": ("held_out", exact),
    }
    steps = np.arange(0, 501, 25)
    lines = []
    for r in rounds:
        loss = (0.4 + np.exp(-steps / 120)) * residual[r] ** 2
        loss[0] = np.nan
        lines += list(
            zip(np.full(len(steps), r + 1), steps, loss, residual[r] * (1 + np.exp(-steps / 90)), strict=True)
        )
    variables["history"] = (("evaluation", "history_column"), np.array(lines if trained else lines[:: len(steps)]))
    return xarray.Dataset(variables)


def summary_of(measurement: xarray.Dataset | None, **changes: Any) -> dict[str, Any]:
    """The dict of ``slmc info --json`` for a finished run."""
    observables: dict[str, Any] = {}
    if measurement is not None:
        n_effective = measurement.sizes["chain"] * measurement.sizes["draw"] / 4
        for name, variable in measurement.data_vars.items():
            if variable.dims == ("chain", "draw") and name not in ("log_weight", "accepted", "log_ratio"):
                error = float(variable.std() / np.sqrt(n_effective))
                observables[str(name)] = {
                    "value": float(variable.mean()), "error": error, "r_hat": 1.002, "ess": n_effective,
                }  # fmt: skip
        observables["binder_magnetization"] = {"value": 1.5321, "error": 0.0127, "r_hat": None, "ess": None}
        observables["specific_heat"] = {"value": 0.4217, "error": 0.0214, "r_hat": None, "ess": None}
    return {
        "observables": observables,
        "figure_of_merit": "staggered_magnetization_squared",
        "acceptance": 0.671,
        "residual": 0.562,
        "expected_acceptance": 0.691,
        "exact_evaluations": {"learning": 8000, "measurement": 16000},
        "ess_per_exact_evaluation": 0.241,
        "ess_per_second": 18.3,
        "seconds": {"exact_weight": 812.0, "inner": 316.0, "training": 143.0, "other": 41.0},
        "phase": "done",
        "verdict": "Converged: chains agree (R̂ ≤ 1.002) and hold at least 4,000 effective samples.",
        "warnings": [],
        "title": "Double exchange, 6×6, J = 1, T = 0.05",
        "directory": "/home/someone/runs/anchor",
        "version": "0.1.0",
    } | changes


def inner_chain_group() -> xarray.Dataset:
    """Two inner chains at four lengths, the best first."""
    lines = [
        (candidate, n_updates, 0.5**n_updates, 1e-4 * n_updates, 2e-4, 0.9 * (1 - 0.5**n_updates))
        for candidate in (0, 1)
        for n_updates in (1, 2, 4, 8)
    ]
    best_first = np.array(sorted(lines, key=lambda line: -line[5] / (line[3] + line[4])), float)
    attributes = {"description": "n_guide_updates = 2; n_guide_updates = 4"}
    return xarray.Dataset({"weighed": (("line", "column"), best_first, attributes)})


def finished(
    shape: tuple[int, ...] = (6, 6), baseline: bool = True, n_chains: int = 8, n_draws: int = 2000, **changes: Any
) -> tuple[xarray.DataTree, dict[str, Any]]:
    """Records and summary of a run that came to its end."""
    rng = np.random.default_rng(7)
    measurement = chain_group(rng, shape, n_chains, n_draws, 1.6, 0.671)
    groups = {
        "thermalisation": xarray.Dataset(
            {
                "log_weight": (
                    ("chain", "draw"),
                    1221 - 90 * np.exp(-np.arange(200) / 25) + 5.8 * autoregressive(rng, n_chains, 200, 8),
                ),
                "accepted": (("chain", "draw"), rng.random((n_chains, 200))),
            }
        ),
        "learning": learning_group(rng, 5),
        "inner_chain": inner_chain_group(),
        "measurement": measurement,
    }
    summary = summary_of(measurement, **changes)
    if baseline:
        groups["baseline"] = chain_group(rng, shape, n_chains, n_draws, 30.0, 0.55)
        exact = summary_of(groups["baseline"])["observables"]
        for estimate in exact.values():
            estimate["error"] *= 2.5
        summary["baseline"] = {"observables": exact, "ess_per_exact_evaluation": 0.0011, "ess_per_second": 0.92}
    return xarray.DataTree.from_dict({f"/{name}": group for name, group in groups.items()}), summary


def interrupted(phase: str) -> tuple[xarray.DataTree, dict[str, Any]]:
    """A run stopped while it thermalised or learned: nothing measured, most of the summary unknown."""
    records, summary = finished(baseline=False)
    kept = {"thermalise": ["thermalisation"], "learn": ["thermalisation", "learning", "inner_chain"]}[phase]
    unknown = dict.fromkeys(
        ("acceptance", "residual", "expected_acceptance", "ess_per_exact_evaluation", "ess_per_second")
    )
    summary |= unknown | {
        "observables": {},
        "exact_evaluations": {"learning": None, "measurement": None},
        "phase": phase,
        "verdict": "Unfinished: resume with slmc resume.",
        "warnings": ["the run was stopped; go on with `slmc resume DIR`."],
    }
    return xarray.DataTree.from_dict({f"/{name}": records[name].to_dataset() for name in kept}), summary
