"""Magnetization against temperature: self-learning Monte Carlo and an exact chain, from one run of the command line.

    python benchmarks/temperature.py

Runs ``slmc run temperatures`` (interrupted, it is resumed) and writes ``benchmarks/results/temperature.json`` and,
from it, ``docs/results/temperature.md`` and ``.svg``.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from command import main
from exact_labels import cache_folder
from matplotlib import pyplot
from result_file import ResultFile, table
from scipy.stats import chi2

from slmc.statistics import notation

COMPARED = {"magnetization": r"$|m|$", "staggered_magnetization": r"$|m_\mathrm{st}|$"}

QUICK = (
    *("--set", "target.shape=[2,2]", "--set", "scan.temperatures=[0.5,0.2]"),
    *("--set", "learning.n_rounds=1", "--set", "learning.n_steps=8", "--set", "learning.training_steps=0"),
    *("--set", "measurement.n_steps=40", "--set", "measurement.block_size=20", "--set", "measurement.n_thermalise=0"),
    *("--set", "thermalisation.n_steps=10", "--set", "exact.tuning_steps=10", "--set", "baseline.n_steps=40"),
    *("--set", "model.name=linear", "--set", "inner.nested=no", "--set", "inner.update=heat-bath"),
)


def slmc(*arguments: str) -> str:
    """What the command line prints."""
    command = [sys.executable, "-m", "slmc.cli", *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def measured(directory: Path, quick: bool) -> list[dict[str, Any]]:
    """The summaries of all temperatures, of a run in ``directory`` that is started or continued."""
    if (directory / "config.toml").is_file():
        slmc("resume", str(directory), "--quiet")
    else:
        slmc("run", "temperatures", "--out", str(directory), "--quiet", *(QUICK if quick else ()))
    points = json.loads(slmc("info", str(directory), "--json"))["points"]
    return [point for point in points if point["phase"] == "done"]


def chi_squared(rows: dict[str, Any]) -> tuple[float, int]:
    """Σ ((SLMC − exact)/σ)² over temperatures and compared observables, and the number of terms."""
    terms = [
        (row["observables"][name]["value"] - row["baseline"]["observables"][name]["value"])
        / np.hypot(row["observables"][name]["error"], row["baseline"]["observables"][name]["error"])
        for row in rows.values()
        for name in COMPARED
    ]
    return float(np.sum(np.square(terms))), len(terms)


def draw(rows: dict[str, Any], path: Path) -> None:
    """Both magnetizations against temperature."""
    figure, axes = pyplot.subplots(figsize=(6.5, 4.2), layout="constrained")
    ordered = sorted(rows.values(), key=lambda row: row["temperature"])
    temperatures = [row["temperature"] for row in ordered]
    for (name, label), colour in zip(COMPARED.items(), ("#0b5a8a", "#d55e00"), strict=True):
        for chain, style in (("SLMC", "o-"), ("exact", "s")):
            found = [(row if chain == "SLMC" else row["baseline"])["observables"][name] for row in ordered]
            values, errors = [one["value"] for one in found], [one["error"] for one in found]
            face, size = (colour, 4) if chain == "SLMC" else ("none", 9)
            words = f"{label}, {'self-learning' if chain == 'SLMC' else 'exact chain'}"
            axes.errorbar(temperatures, values, errors, fmt=style, color=colour, mfc=face, markersize=size, label=words)
    axes.set(xlabel="$T / t$", ylabel="site average", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def page(results: ResultFile) -> str:
    """What the documentation shows."""
    rows = results.rows
    total, n_terms = chi_squared(rows)
    lines = []
    for row in rows.values():
        cells = [f"{row['temperature']:g}"]
        for name in COMPARED:
            for chain in (row, row["baseline"]):
                found = chain["observables"][name]
                cells.append(notation(found["value"], found["error"]))
        gain = row["ess_per_exact_evaluation"] / row["baseline"]["ess_per_exact_evaluation"]
        cells += [f"{row['residual']:.3f}", f"{row['acceptance']:.3f}", f"{gain:.3g} ×"]
        lines.append(tuple(cells))
    header = (
        "T",
        "⟨&#124;m&#124;⟩, SLMC",
        "exact chain",
        "⟨&#124;m_st&#124;⟩, SLMC",
        "exact chain",
        "s",
        "acceptance",
        "samples / evaluation",
    )
    return "\n".join(
        [
            "# Magnetization against temperature\n",
            results.provenance() + "\n",
            "![Magnetizations against temperature](temperature.svg)\n",
            "Double exchange on the square lattice at J = 1, μ = 0. One command, `slmc run temperatures`, learns a "
            "network at each temperature, starting from that of the temperature above, and runs exact HMC beside it. "
            f"Over both observables and all temperatures χ² = {total:.1f} for {n_terms} differences, "
            f"p = {chi2.sf(total, n_terms):.2f}.\n",
            table(header, lines),
            "\ns is the held-out residual. The last column is the ratio of effective samples of m_st² per exact "
            "evaluation, self-learning to exact chain.\n",
        ]
    )


def measure_all(results: ResultFile, settings: dict[str, Any]) -> None:
    quick = settings["quick"]
    for point in measured(cache_folder() / f"temperatures{'-quick' * quick}", quick):
        name = f"T = {point['temperature']:g}"
        if name not in results.rows:
            results.add(name, point)


def write(results: ResultFile, settings: dict[str, Any]) -> None:
    draw(results.rows, results.page_folder / "temperature.svg")
    (results.page_folder / "temperature.md").write_text(page(results))


if __name__ == "__main__":
    main(__file__, __doc__, ({"quick": False}, {"quick": True}), {"all": measure_all}, write, on_one_device=["all"])
