"""The page written from the rows of the efficiency benchmark."""

from typing import Any

from result_file import ResultFile, rounded, table

from slmc.statistics import notation

CHAINS = {
    "slmc": "SLMC, network",
    "linear": "SLMC, linear guide alone",
    "hmc": "exact HMC",
    "two scales": "exact HMC, two time scales",
    "microcanonical": "exact microcanonical",
    "local": "exact local, Green's functions",
}
RIVALS = ("hmc", "two scales", "microcanonical", "local")
"""Chains that propose with the exact weight alone, or, on two time scales, with its force."""

ABOUT = (
    "Double exchange at J = 1, μ = 0, T = 0.05. Self-learning Monte Carlo with the equivariant network and with "
    "the linear model alone, against the best exact chains that we know, all with [the same exact "
    "weight](../explanation/weight.md). Every network is learned on the fly and frozen; chains then take turns "
    "block by block in one run, 8 chains each. With the network a proposal is a nested chain: heat-bath sweeps of "
    "a linear model, decided by the network, all of it decided by the exact weight; without it the sweeps are "
    "decided by the exact weight at once. HMC on two time scales has the force of the same linear model on the "
    "finer one. Exact local sweeps decide by Green's functions. Figures are for m_st². Evaluations count "
    "thermalising, tuning and learning; the force of a trajectory counts as one evaluation, though it costs about "
    "2.3 of those without, and a local sweep as one for every site, though it costs less.\n"
)


def page(results: ResultFile, systems: dict[str, Any]) -> str:
    """Summary tables, then one section for each system whose chains have run."""
    done = [name for name in systems if "scans" in results.rows.get(f"{name}: chains", {})]
    parts = ["# Effective samples a second\n"]
    if done:
        parts.append(results.provenance() + "\n")
    parts += [ABOUT, "Effective samples a second of all chains on two cores:\n", _summary(results, done)]
    parts += ["\n\nThe same a core-second:\n", _rates(results, done, "ess_per_core_second", 3)]
    parts += ["\n\nThe same for an exact evaluation:\n", _rates(results, done, "ess_per_evaluation", 2)]
    parts += ["\n\nWhat learning cost, and what the models are worth:\n", _models(results, done)]
    parts += [_section(name, systems[name], results) for name in done]
    return "\n".join(parts)


def _rates(results: ResultFile, done: list[str], what: str, digits: int) -> str:
    lines = [(name, *(_rate(results.rows[f"{name}: chains"], one, what, digits) for one in CHAINS)) for name in done]
    return table(("system", *CHAINS.values()), lines)


def _rate(row: dict[str, Any], chain: str, what: str, digits: int) -> str:
    return rounded(row[chain][what], digits) if chain in row and row[chain][what] else ""


def _summary(results: ResultFile, done: list[str]) -> str:
    header = ("system", *CHAINS.values(), "network ÷ linear", "best ÷ best exact")
    lines = []
    for name in done:
        row = results.rows[f"{name}: chains"]
        cells = [_rate(row, one, "ess_per_second", 3) for one in CHAINS]
        lines.append((name, *cells, f"{_of(row, ('slmc',)) / _of(row, ('linear',)):.2f}", _best_ratio(row)))
    return table(header, lines)


def _of(row: dict[str, Any], chains: tuple[str, ...]) -> float:
    """The most effective samples a second of some chains."""
    return max((row[one]["ess_per_second"] or 0.0 for one in chains if one in row), default=0.0)


def _best_ratio(row: dict[str, Any]) -> str:
    best = _of(row, RIVALS)
    return f"{_of(row, ('slmc', 'linear')) / best:.1f}" if best else ""


def payback(learning: dict[str, Any], row: dict[str, Any]) -> float | None:
    """Effective samples n at which learning_seconds + n / ours = n / theirs, the best of theirs; none if never."""
    ours, theirs = _of(row, ("slmc", "linear")), _of(row, RIVALS)
    return learning["seconds"] / (1 / theirs - 1 / ours) if 0 < theirs < ours else None


def _models(results: ResultFile, done: list[str]) -> str:
    header = (
        "system",
        "evaluations to learn",
        "seconds to learn",
        "held-out s, network",
        "acceptance",
        "held-out s, linear",
        "acceptance",
        "chosen",
        "paid back after",
    )
    lines = []
    for name in done:
        learning, row = results.rows[f"{name}: learning"], results.rows[f"{name}: chains"]
        after = payback(learning, row)
        lines.append(
            (
                name,
                f"{learning['exact_evaluations']:,}",
                f"{learning['seconds']:.0f}",
                f"{row['held_out_residual']:.3f}",
                f"{row['slmc']['acceptance']:.3f}",
                f"{row['held_out_residual_linear']:.3f}",
                f"{row['linear']['acceptance']:.3f}",
                learning["chosen"],
                "" if after is None else f"{after:,.0f} ESS",
            )
        )
    words = (
        "\n\n*Chosen*: what the run itself took for faster when learning ended. *Paid back after*: effective samples "
        "that the best exact chain makes in the time of learning and sampling together; from there on the learned "
        "chain is ahead, its learning included.\n"
    )
    return table(header, lines) + words


def _section(name: str, system: Any, results: ResultFile) -> str:
    learning, row = results.rows[f"{name}: learning"], results.rows[f"{name}: chains"]
    n_layers, n_channels, n_hidden, _ = system.network
    inner, long = row["inner_chains"], row["long_inner_chain"]
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
        f"{row['held_out_residual']:.4f}, erfc(s/2) = {row['expected_acceptance']:.3f}; of the linear model s = "
        f"{row['held_out_residual_linear']:.4f}.\n",
        f"**Inner chains.** Chosen by measurement: {int(inner['network']['n_updates'])} updates of "
        f"{inner['network']['n_guide_updates']} heat-bath sweeps of the linear model, {_cost(inner['network'])} of an "
        f"exact evaluation; without the network {int(inner['linear']['n_updates'])} sweeps, {_cost(inner['linear'])}. "
        f"One evaluation of the network costs {share:.3f} of an exact one. A long inner chain ({long['n_updates']} "
        f"updates of {long['n_guide_updates']}): "
        f"acceptance {long['acceptance']:.3f} ± {long['error']:.3f} at a proposal "
        f"autocorrelation of {long['proposal_autocorrelation']:+.3f}.\n",
    ]
    lines = [_chain_line(one, row) for one in CHAINS if one in row]
    header = (
        "chain",
        "steps a chain",
        "acceptance",
        "ESS / evaluation",
        "ESS / s",
        "ESS / core s",
        "m_st²",
        "m²",
        "log W",
        "R-hat",
    )
    parts.append(table(header, lines) + "\n")
    parts += [_scan(CHAINS[kind], lines) for kind, lines in row["scans"].items()]
    return "\n".join(parts)


def _cost(line: dict[str, Any]) -> str:
    return f"{line['inner_seconds'] / line['exact_seconds']:.2f}"


def _chain_line(one: str, row: dict[str, Any]) -> tuple[str, ...]:
    chain = row[one]
    found = chain["observables"]
    values = [
        notation(found[name]["value"], found[name]["error"]) if found[name]["error"] else ""
        for name in ("staggered_magnetization_squared", "magnetization_squared", "log_weight")
    ]
    worst = max((entry["r_hat"] or 1.0) for entry in found.values())
    return (
        CHAINS[one],
        f"{chain['n_steps']:,}",
        f"{chain['acceptance']:.3f}",
        _rate(row, one, "ess_per_evaluation", 3),
        _rate(row, one, "ess_per_second", 4),
        _rate(row, one, "ess_per_core_second", 4),
        *values,
        f"{worst:.4f}",
    )


def _scan(name: str, lines: list[dict[str, Any]]) -> str:
    best = max(lines, key=lambda line: line["estimated_ess_per_second"])
    tried = ", ".join(f"{_words(line)}: {rounded(line['estimated_ess_per_second'], 3)}" for line in lines)
    return (
        f"{name[0].upper() + name[1:]} was tuned first, over steps × step size (estimated ESS / s): {tried}. Used: "
        f"{_words(best)}.\n"
    )


def _words(line: dict[str, Any]) -> str:
    fine = f" ({line['n_fine']} fine)" if line["n_fine"] > 1 else ""
    return f"{line['n_steps']} × {line['step_size']:.2f}{fine}"
