"""The page written from the rows of the efficiency benchmark."""

from typing import Any

from result_file import ResultFile, table

from slmc.statistics import notation

CHAINS = {"slmc": "SLMC, network", "hmc": "exact HMC", "local": "exact local Metropolis"}


def page(results: ResultFile, systems: dict[str, Any]) -> str:
    """A summary table, then one section for each system whose chains have run."""
    done = [name for name in systems if f"{name}: chains" in results.rows]
    parts = ["# Effective samples a second\n"]
    if done:
        parts.append(results.provenance() + "\n")
    parts.append(
        "Double exchange at J = 1, μ = 0. Self-learning Monte Carlo with the equivariant network, against what one "
        "would "
        "use instead. Every network is learned on the fly, from random spins, and frozen; chains then take turns "
        "block by "
        "block in one run, 8 chains each. A proposal is a nested chain: heat-bath sweeps of a linear model, decided by "
        "the network, all of it decided by the exact weight. Figures are for m_st². Evaluations count thermalising, "
        "tuning and "
        "learning; the force of exact HMC counts as one evaluation, though it costs about 2.5 of those without "
        "vectors.\n"
    )
    parts.append(_summary(results, systems, done))
    parts += [_section(name, systems[name], results) for name in done]
    return "\n".join(parts)


def _summary(results: ResultFile, systems: dict[str, Any], done: list[str]) -> str:
    header = (
        "system",
        "T",
        "evaluations to learn",
        "held-out s",
        "acceptance",
        "ESS / evaluation",
        "ESS / s: SLMC",
        "÷ exact HMC",
        "÷ exact local",
        "paid back after",
    )
    lines = []
    for name in done:
        learning, row = results.rows[f"{name}: learning"], results.rows[f"{name}: chains"]
        ours = row["slmc"]
        lines.append(
            (
                name,
                f"{systems[name].temperature:g}",
                f"{learning['exact_evaluations']:,}",
                f"{row['held_out_residual']:.3f}",
                f"{ours['acceptance']:.3f}",
                f"{ours['ess_per_evaluation']:.2f}",
                f"{ours['ess_per_second']:.3g}",
                _ratio(row, "hmc"),
                _ratio(row, "local"),
                f"{payback(learning, row):,.0f} ESS" if "hmc" in row else "",
            )
        )
    words = (
        "\n\n*Paid back after*: effective samples that exact HMC makes in the time of learning and sampling "
        "together; from "
        "there on the learned chain is ahead, its learning included.\n"
    )
    return table(header, lines) + words


def _ratio(row: dict[str, Any], other: str) -> str:
    if other not in row or not row[other]["ess_per_second"]:
        return ""
    return f"{row['slmc']['ess_per_second'] / row[other]['ess_per_second']:.1f}"


def payback(learning: dict[str, Any], row: dict[str, Any]) -> float:
    """Effective samples n at which learning_seconds + n / ours = n / theirs."""
    ours, theirs = row["slmc"]["ess_per_second"], row["hmc"]["ess_per_second"]
    return learning["seconds"] / (1 / theirs - 1 / ours)


def _section(name: str, system: Any, results: ResultFile) -> str:
    learning, row = results.rows[f"{name}: learning"], results.rows[f"{name}: chains"]
    n_layers, n_channels, n_hidden, _ = system.network
    inner, long = row["inner_chain"], row["long_inner_chain"]
    start = f", starting from the network of {system.start}" if system.start else ""
    share = row["seconds_per_network_evaluation"] / row["seconds_per_exact_evaluation"]
    parts = [
        f"\n## {name}, T = {system.temperature:g}\n",
        f"Made by `{row['made']['command']}` on {row['made']['date']}, commit {row['made']['commit']}.\n",
        f"**Learning.** Network of {n_layers} layers, {n_channels} channels, {n_hidden} hidden values "
        f"({learning['n_parameters']:,} parameters){start}: {learning['exact_evaluations']:,} exact evaluations and "
        f"{learning['seconds']:.0f} s, training included. Residual by round: "
        + ", ".join(f"{one['residual']:.3f} ({one['exact_evaluations']:,})" for one in learning["rounds"])
        + f" (evaluations). On {row['held_out_samples']:,} samples of the target that took no part in learning: s = "
        f"{row['held_out_residual']:.4f}, erfc(s/2) = {row['expected_acceptance']:.3f}.\n",
        f"**Inner chain.** Chosen by measurement: {int(inner['n_updates'])} updates of {inner['n_guide_updates']} "
        f"heat-bath sweeps of the linear model, "
        f"{inner['inner_seconds'] / inner['exact_seconds']:.2f} of an exact evaluation; one evaluation "
        f"of "
        f"the network costs {share:.3f} of it. A long one ({long['n_updates']} updates of {long['n_guide_updates']}): "
        f"acceptance {long['acceptance']:.3f} ± {long['error']:.3f} at a proposal autocorrelation of "
        f"{long['proposal_autocorrelation']:+.3f}.\n",
    ]
    chains = [one for one in CHAINS if one in row]
    lines = [_chain_line(one, row, system) for one in chains]
    header = (
        "chain",
        "steps a chain",
        "acceptance",
        "ESS / evaluation",
        "ESS / s",
        "m_st²",
        "m²",
        "energy",
        "log W",
        "R-hat",
    )
    parts.append(table(header, lines) + "\n")
    if "hmc_scan" in row:
        parts.append(_scan(row))
    if "local_ess_per_sweep" in row:
        parts.append(
            "The exact local chain ran only to be timed: its effective samples per sweep, "
            f"{row['local_ess_per_sweep']:.4f}, are those of the same sweeps of the network "
            f"({8 * system.n_local_sweeps:,} sweeps), whose "
            f"weight "
            "differs from the exact one by the residual above.\n"
        )
    return "\n".join(parts)


def _chain_line(one: str, row: dict[str, Any], system: Any) -> tuple[str, ...]:
    chain = row[one]
    found = chain["observables"]
    values = [
        notation(found[name]["value"], found[name]["error"]) if name in found and found[name]["error"] else ""
        for name in ("staggered_magnetization_squared", "magnetization_squared", "energy", "log_weight")
    ]
    if one == "local" and system.local_on_network:
        values = [""] * len(values)
    worst = max((entry["r_hat"] or 1.0) for entry in found.values())
    return (
        CHAINS[one],
        f"{chain['n_steps']:,}",
        f"{chain['acceptance']:.3f}",
        f"{chain['ess_per_evaluation']:.4f}",
        f"{chain['ess_per_second']:.4g}",
        *values,
        "" if one == "local" and system.local_on_network else f"{worst:.4f}",
    )


def _scan(row: dict[str, Any]) -> str:
    best = max(row["hmc_scan"], key=lambda line: line["estimated_ess_per_second"])
    tried = ", ".join(
        f"{line['n_leapfrog']} × {line['duration'] / line['n_leapfrog']:.2f}: {line['estimated_ess_per_second']:.3g}"
        for line in row["hmc_scan"]
    )
    return (
        f"Exact HMC was tuned first, over leapfrog steps × step size (estimated ESS / s): {tried}. Used: "
        f"{best['n_leapfrog']} × {best['duration'] / best['n_leapfrog']:.2f}.\n"
    )
