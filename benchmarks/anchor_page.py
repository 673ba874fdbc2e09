"""The page of the anchor benchmark, from its stored rows alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from exact_labels import N_LEAPFROG
from model_families import ALL_SHELLS, FORCE_WEIGHT, FOUR_HEADS, PAPER, PAPER_LONG_HEAD
from result_file import ResultFile, table

from slmc.statistics import notation

SYMBOLS = {
    "staggered_magnetization": "⟨\\|m_st\\|⟩",
    "staggered_magnetization_squared": "⟨m_st²⟩",
    "magnetization": "⟨\\|m\\|⟩",
    "magnetization_squared": "⟨m²⟩",
    "energy": "energy per site (t)",
    "log_weight": "⟨log W⟩",
}
TITLES = {
    "learned": "SLMC, frozen Transformer",
    "exact-hamiltonian": "exact HMC",
    "exact-local": "exact local Metropolis",
}


def page(results: ResultFile, settings: Any, models: list[tuple[str, str]]) -> str:
    """The Markdown page; ``models`` are the rows of the acceptance table with their descriptions."""
    size = "×".join(str(extent) for extent in settings.data.shape)
    parts = [
        f"# The {size} anchor",
        f"Double-exchange model, {size} sites, t = 1, J = 1, μ = 0, T = 0.05. {results.provenance()}",
        agreement_section(results.rows, settings),
        acceptance_section(results.rows, settings, models),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def agreement_section(rows: dict[str, Any], settings: Any) -> str:
    """Observables of every chain, differences in standard errors, effective samples."""
    chains = {name: rows[name] for name in TITLES if name in rows}
    if "learned" not in chains or len(chains) < 2:
        return ""
    others = [name for name in chains if name != "learned"]
    lines = []
    for observable, symbol in SYMBOLS.items():
        found = {name: chain["observables"][observable] for name, chain in chains.items()}
        differences = [f"{sigmas(found['learned'], found[name]):+.1f}" for name in others]
        lines.append((symbol, *(notation(one["value"], one["error"]) for one in found.values()), *differences))
    header = ("", *(TITLES[name] for name in chains), *(f"SLMC − {TITLES[name]} (σ)" for name in others))
    return "\n\n".join(
        (
            "## The learned chain against exact chains without a model",
            agreement_words(chains, settings),
            table(header, lines),
            "How well each chain did it (ESS: effective samples of the mean; R-hat: rank-normalised, split; worst and "
            "best over the six observables above):",
            table(("", *(TITLES[name] for name in chains)), quality_lines(chains)),
            "Wall time includes everything the frozen chain does (inner chains and exact decisions), and nothing of "
            "thermalising, learning or compiling. On a busy machine CPU seconds, summed over cores, "
            "are the fairer clock.",
        )
    )


def sigmas(one: dict[str, float], other: dict[str, float]) -> float:
    """Difference of two independent estimates in units of its standard error."""
    return (one["value"] - other["value"]) / float(np.hypot(one["error"], other["error"]))


def agreement_words(chains: dict[str, Any], settings: Any) -> str:
    learned = chains["learned"]
    learnt = learned["learning"]
    words = (
        f"All from random spins, {settings.n_chains} chains each. **SLMC**: Transformer of 2 layers and 4 heads over "
        f"all shells, learned on the fly (at most {settings.n_rounds} rounds, {learnt['exact_evaluations']:,} exact "
        f"evaluations, held-out residual s = {learnt['residual']:.3f}), then frozen; a proposal is "
        f"{settings.n_updates} HMC trajectories of the model ({N_LEAPFROG} leapfrog steps each); "
        f"{learned['n_steps']:,} steps a chain, "
        f"acceptance {learned['acceptance']:.2f} (erfc(s/2) = {learnt['expected_acceptance']:.2f}). "
    )
    if "exact-hamiltonian" in chains:
        exact = chains["exact-hamiltonian"]
        words += (
            f"**Exact HMC**: no model, trajectories of {N_LEAPFROG} leapfrog steps of {exact['step_size']:.2f}, "
            f"{exact['n_steps']:,} a chain, acceptance "
            f"{exact['acceptance']:.2f}. "
        )
    if "exact-local" in chains:
        local = chains["exact-local"]
        words += (
            f"**Exact local Metropolis**: no model, {local['n_steps']:,} sweeps a chain, acceptance "
            f"{local['acceptance']:.2f}, every one-site decision a full diagonalisation."
        )
    return words.strip()


def quality_lines(chains: dict[str, Any]) -> list[tuple[str, ...]]:
    found = list(chains.values())
    reference = chains.get("exact-hamiltonian", found[-1])

    def line(words: str, value: Callable[[dict[str, Any]], str]) -> tuple[str, ...]:
        return (words, *(value(chain) for chain in found))

    def spread(quantity: str, digits: int) -> Callable[[dict[str, Any]], str]:
        return lambda chain: " … ".join(
            f"{pick(one[quantity] for one in chain['observables'].values()):.{digits}f}" for pick in (min, max)
        )

    def rate(chain: dict[str, Any], per: str) -> float:
        return chain["observables"]["staggered_magnetization_squared"]["ess"] / chain[per]

    return [
        line("R-hat", spread("r_hat", 4)),
        line("ESS", spread("ess", 0)),
        line("exact evaluations", lambda chain: f"{chain['exact_evaluations']:,}"),
        line("ESS of m_st² per exact evaluation", lambda chain: f"{rate(chain, 'exact_evaluations'):.4f}"),
        *(
            line(
                f"ESS of m_st² per {words}, relative to exact HMC",
                lambda chain, per=per: f"{rate(chain, per) / rate(reference, per):.2f}",
            )
            for words, per in (
                ("exact evaluation", "exact_evaluations"),
                ("second", "seconds"),
                ("CPU second", "cpu_seconds"),
            )
        ),
    ]


def acceptance_section(rows: dict[str, Any], settings: Any, models: list[tuple[str, str]]) -> str:
    """The table of effective models."""
    lengths = [str(length) for length, _ in settings.acceptance_steps]
    lines = []
    for name, words in models:
        if name not in rows:
            continue
        row = rows[name]
        cells = [notation(row["acceptance"][n]["value"], row["acceptance"][n]["error"]) for n in lengths]
        autocorrelation = f"{row['acceptance'][lengths[-1]]['proposal_autocorrelation']:.2f}"
        lines.append(
            (
                words,
                str(row["n_parameters"]),
                f"{row['residual']:.3f}",
                f"{row['expected_acceptance']:.2f}",
                *cells,
                autocorrelation,
            )
        )
    if not lines:
        return ""
    data = settings.data
    n_training = (data.n_chains - data.n_held_out) * data.n_draws
    rates = ", ".join(f"{family.learning_rate:g}" for family in (FOUR_HEADS, ALL_SHELLS, PAPER, PAPER_LONG_HEAD))
    rates += " for the four forms in the order of the table"
    header = (
        "effective model",
        "parameters",
        "held-out residual s",
        "erfc(s/2)",
        *(f"acceptance, inner length {n}" for n in lengths),
        f"proposal autocorrelation of m_st² at {lengths[-1]}",
    )
    return "\n\n".join(
        (
            "## What each effective model accepts",
            f"Inner length n: one proposal is n HMC trajectories of the effective model ({N_LEAPFROG} leapfrog steps, "
            "step size tuned towards an inner acceptance of 0.8). Short inner chains propose something close to where "
            "they started and accept more; only the last length, where the proposal has forgotten its start, is "
            f"comparable with erfc(s/2). Fitted to {n_training:,} labelled configurations of exact HMC; s from "
            f"{data.n_held_out * data.n_draws:,} of {data.n_held_out} other chains. Linear models: one least-squares "
            f"solve. Transformers: least squares for the head, {settings.training_steps} AdamW steps of 128 "
            f"configurations (force weight {FORCE_WEIGHT:g}; learning rate {rates}), least squares for the head again; "
            f"one seed. Acceptance over {settings.n_chains} chains, its error from the spread over chains.",
            table(header, lines),
        )
    )
