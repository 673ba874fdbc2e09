"""The page of the benchmark of atoms, from its stored rows alone."""

import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from result_file import ResultFile, table

from slmc.report.drawing import AMBER, BLUE, MUTED, VERMILION
from slmc.statistics import Estimate, estimate, jackknife, notation

OBSERVABLES = {
    "energy": "U [eV]",
    "variance": "var U [eV²]",
    "radius_of_gyration": "radius of gyration [Å]",
    "near_pairs": "share of O–O pairs below 3.5 Å",
    "bond": "mean of all r_OH [Å]",
}
MEANS = tuple(name for name in OBSERVABLES if name != "variance")
KT = 8.617333337e-5 * 300
N_ATOMS = 12


def page(results: ResultFile, settings: Any) -> None:
    """``atoms.md`` and ``atoms.svg``."""
    if "SLHMC" not in results.rows:
        return
    chains = {name: _estimates(rows) for name, rows in _grouped(results.rows).items()}
    exact = {name: known for name, known in chains.items() if name != "SLHMC"}
    parts = [
        "# Water cluster",
        "Four water molecules in a soft sphere of 4.5 Å, GFN2-xTB, 300 K, hydrogen of 12 u: what `slmc run atoms` "
        f"samples. {results.provenance()}",
        _learning(results.rows["SLHMC"]),
        _agreement(chains, exact) if exact else "",
        _costs(results.rows, chains, exact) if exact else "",
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (results.page_folder / "atoms.md").write_text(text)
    _figure(results.rows["SLHMC"]).savefig(results.page_folder / "atoms.svg", metadata={"Date": None})
    print(text)


def _grouped(rows: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The parts of every chain in their order."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    names = sorted(rows, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    for name in names:
        grouped.setdefault(name.partition(", part")[0], []).append(rows[name])
    return grouped


def _estimates(parts: list[dict[str, Any]]) -> dict[str, Estimate]:
    series = {name: np.concatenate([np.array(part["series"][name]) for part in parts], axis=1) for name in MEANS}
    known = {name: estimate(values) for name, values in series.items()}
    variance = jackknife(lambda inputs: float(np.var(inputs["energy"])), {"energy": series["energy"]}, known=known)
    return {name: variance if name == "variance" else known[name] for name in OBSERVABLES}


def _together(exact: dict[str, dict[str, Estimate]], name: str) -> tuple[float, float]:
    """The average of chains with trajectories of different lengths, weighed by the inverse squares of their errors."""
    known = [estimates[name] for estimates in exact.values() if 0 < estimates[name].error < np.inf]
    if not known:
        return np.nan, np.nan
    weights = np.array([1 / one.error**2 for one in known])
    value = float(np.sum(weights * [one.value for one in known]) / np.sum(weights))
    return value, float(1 / np.sqrt(np.sum(weights)))


def _agreement(chains: dict[str, dict[str, Estimate]], exact: dict[str, dict[str, Estimate]]) -> str:
    rows = []
    for name, words in OBSERVABLES.items():
        ours, (value, error) = chains["SLHMC"][name], _together(exact, name)
        z = (ours.value - value) / np.hypot(ours.error, error)
        rows.append((words, notation(ours.value, ours.error), notation(value, error), f"{z:+.1f}"))
    share = chains["SLHMC"]["energy"].error / (KT * 1.5 * N_ATOMS)
    return "\n\n".join(
        (
            "## The same averages",
            "Both decide with the exact energy. The exact chains begin with samples of the learned one, so that none "
            "of their evaluations is lost on getting there, and have trajectories of several lengths, put together by "
            f"their errors. The error of U is {100 * share:.1f} % of kT · 3N/2.",
            table(("average", "SLHMC", "exact HMC", "difference (σ)"), rows),
        )
    )


def _costs(rows: dict[str, Any], chains: dict[str, dict[str, Estimate]], exact: dict[str, dict[str, Estimate]]) -> str:
    ours = rows["SLHMC"]["evaluations"]
    spent = {"SLHMC": ours["measurement"], "SLHMC, learning too": ours["measurement"] + ours["learning"]}
    spent |= {name: sum(part["evaluations"] for part in _grouped(rows)[name]) for name in exact}
    costs = {
        name: {one: spent[name] / (chains[name.partition(",")[0] if "SLHMC" in name else name][one].ess or np.nan)
               for one in MEANS}
        for name in spent
    }  # fmt: skip
    lines = [(name, str(spent[name]), *(f"{costs[name][one]:.0f}" for one in MEANS)) for name in spent]
    best = {one: min(exact, key=lambda name: costs[name][one]) for one in MEANS}
    slowest = max(MEANS, key=lambda one: costs["SLHMC"][one])
    ratios = [
        (OBSERVABLES[one], best[one], *(f"{costs[best[one]][one] / costs[name][one]:.0f}" for name in list(spent)[:2]))
        for one in MEANS
    ]
    reached = ", ".join(
        f"{name.removeprefix('HMC, ')}: {np.mean([part['acceptance'] for part in _grouped(rows)[name]]):.2f} with "
        f"steps of {_grouped(rows)[name][0]['step_size']:.2f} fs"
        for name in exact
    )
    return "\n\n".join(
        (
            "## What an independent sample costs",
            "Exact evaluations for an effective sample; chains together. The exact chains follow the exact force: all "
            f"lengths were tried at both acceptances, and the two that cost least went on. Reached were {reached}; "
            "evaluations of tuning are left out.",
            table(("chain", "evaluations", *(OBSERVABLES[one] for one in MEANS)), lines),
            f"The best of the exact chains over SLHMC (its slowest is {OBSERVABLES[slowest]}):",
            table(("average", "the best exact chain", "measurement alone", "learning included"), ratios),
        )
    )


def _learning(row: dict[str, Any]) -> str:
    rounds, spent = row["rounds"], row["evaluations"]
    lines = [
        (
            str(int(rounds["exact_evaluations"][place])),
            f"{rounds['residual'][place]:.2f}",
            f"{rounds['energy_error'][place]:.1f}",
            f"{1000 * rounds['force_error'][place]:.0f}",
            f"{rounds['acceptance'][place + 1]:.2f}"
            if place + 1 < len(rounds["acceptance"])
            else f"{row['acceptance']:.2f}",
        )
        for place in range(len(rounds["residual"]))
    ]
    return "\n\n".join(
        (
            "## Learning from nothing",
            f"Before measuring, {spent['learning']} exact evaluations were spent on tuning, thermalising and learning. "
            f"Then every step proposes with one trajectory ({row['trajectory'].replace('_', ' ')}) and spends one: "
            f"acceptance {row['acceptance']:.2f}, residual s = {row['residual']:.2f}.",
            table(
                (
                    "evaluations in rounds",
                    "residual s",
                    "energy [meV/atom]",
                    "forces [meV/Å]",
                    "acceptance of its proposals",
                ),
                lines,
            ),
            "![Errors of the potential, residual and acceptance against exact evaluations](atoms.svg)",
            "Errors are those on samples of chains that take no part in training; the acceptance is the one measured "
            "with that potential, of trajectories that grow from round to round.",
        )
    )


def _figure(row: dict[str, Any]) -> Figure:
    rounds = {name: np.array(values, float) for name, values in row["rounds"].items()}
    spent = rounds["exact_evaluations"]
    figure = Figure(figsize=(9.5, 2.9), layout="constrained")
    acceptance = np.append(rounds["acceptance"][1:], row["acceptance"])
    panels = (
        ("error of the energy [meV/atom]", rounds["energy_error"], BLUE),
        ("error of the forces [meV/Å]", 1000 * rounds["force_error"], VERMILION),
        ("residual $s$; acceptance (open)", rounds["residual"], AMBER),
    )
    for axes, (words, values, colour) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.plot(spent, values, "o-", color=colour)
        axes.set(xlabel="exact evaluations", ylabel=words, ylim=(0, None), xlim=(0, None))
        axes.grid(color="#dfe2e6")
        if colour == AMBER:
            axes.plot(spent, acceptance, "o--", color=MUTED, markerfacecolor="none")
    return figure
