"""The page and the figure of the scaling benchmark, from its stored rows alone."""

from pathlib import Path
from typing import Any

import numpy as np
from exact_labels import N_LEAPFROG
from model_families import ALL_SHELLS, PAPER, Family
from power_law import Curve, fitted, power_laws
from result_file import ResultFile, table

from slmc.statistics import notation

TITLES = {
    "paper": "1 head, 6 shells in Q, K, V, nearest-neighbour head (the paper's form)",
    "all-shells": "1 head, all shells in Q, K, V and head",
}
INDEPENDENT = {1: 1.14, 2: 0.86, 3: 0.62, 4: 0.59}
"""Residuals computed with independent code for the paper's form, one seed (the table of the anchor in REFERENCES)."""


def draw(curves: dict[str, Curve], settings: Any, path: Path) -> None:
    """Left: s² against parameters with the fits. Right: acceptance against layers. Bars: spread over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "slmc", "svg.fonttype": "none"}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
        # Okabe and Ito's colours, told apart also by marker.
        styles = {"paper": ("#0072B2", "o"), "all-shells": ("#D55E00", "s")}
        for name, found in curves.items():
            _draw_family(left, right, found, TITLES[name], styles[name], settings)
        left.set(
            xscale="log",
            yscale="log",
            xlabel="parameters n (small numbers: layers L)",
            ylabel="held-out s² = var(log W − log W_eff)",
        )
        right.set(xlabel="layers L", ylabel=f"acceptance, inner length {settings.n_updates} trajectories", ylim=(0, 1))
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(curves), fontsize=8)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _draw_family(left: Any, right: Any, found: Curve, title: str, style: tuple[str, str], settings: Any) -> None:
    colour, marker = style
    n = found.n_parameters[0]
    bars = {"color": colour, "marker": marker, "capsize": 3}
    mean, error = _mean_and_spread(found.squared_residual)
    left.errorbar(n, mean, error, linestyle="none", label=title, **bars)
    if settings.max_layers > 1:
        law = fitted(found, 1, settings.n_bootstrap)
        label = f"s² ∝ n^(−a), a = {notation(law.exponent, law.error)}, L ≥ 1"
        left.plot(n[1:], law.prefactor * n[1:] ** -law.exponent, color=colour, linestyle="--", label=label)
    for depth, (x, y) in enumerate(zip(n, mean, strict=True)):
        left.annotate(f"{depth}", (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8, color=colour)
    mean, error = _mean_and_spread(found.acceptance)
    right.errorbar(range(len(mean)), mean, error, **bars)


def _mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def page(results: ResultFile, curves: dict[str, Curve], settings: Any) -> str:
    """The Markdown page."""
    size = "×".join(str(extent) for extent in settings.data.shape)
    data = settings.data
    n_training, n_held_out = (data.n_chains - data.n_held_out) * data.n_draws, data.n_held_out * data.n_draws
    parts = [
        "# Residual and acceptance against depth and parameters",
        f"Double-exchange model, {size} sites, t = 1, J = 1, μ = 0, T = 0.05. {results.provenance()}",
        "![Held-out residual against parameters, acceptance against layers](scaling.svg)",
        f"The paper's scaling figure remade. Every model is fitted to the same {n_training:,} configurations of exact "
        f"HMC; s² is the variance of log W − log W_eff on {n_held_out:,} configurations of {data.n_held_out} other "
        "chains. A model of L layers starts from the trained one of L − 1 layers with a new layer close to the "
        "identity between its layers and its head (in trial runs at these learning rates, models of three and of "
        "six layers collapsed from some random starts). Then the head is solved by least squares, all is trained by "
        f"{settings.training_steps} AdamW steps of 128 configurations (force weight {settings.force_weight:g}), of "
        "which the evaluation with the least held-out residual is kept, and the head is solved again. So depth L has "
        "had L times the training of depth 1, and s is slightly optimistic by selection. "
        f"Learning rate: {rates(PAPER)} for the first family, {rates(ALL_SHELLS)} for the second. "
        f"Acceptance: {settings.n_chains} chains of {settings.n_exact_steps} proposals, each {settings.n_updates} HMC "
        f"trajectories of the model ({N_LEAPFROG} leapfrog steps). Errors: standard deviation over seeds (residual), "
        "error of the mean over seeds and chains (acceptance).",
    ]
    for name, found in curves.items():
        parts += [
            f"## {TITLES[name]}",
            f"{found.n_seeds} seeds.",
            depth_table(name, found),
            law_words(found, settings),
            stuck_words(found),
            comparison_words(name, found),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rates(family: Family) -> str:
    return f"{family.learning_rate:g} up to L = {family.full_rate_layers}, then falling as 1/L"


def depth_table(name: str, found: Curve) -> str:
    lines = []
    residuals = np.sqrt(found.squared_residual)
    for depth, n in enumerate(found.n_parameters[0]):
        line = [str(depth), str(int(n))]
        for values in (residuals, found.squared_residual):
            mean, spread = (found[depth] for found in _mean_and_spread(values))
            line.append(notation(mean, spread if spread > 1e-9 * mean else None))
        error = float(np.sqrt(np.mean(found.acceptance_error[:, depth] ** 2) / found.n_seeds))
        line += [notation(found.acceptance[:, depth].mean(), error), f"{found.autocorrelation[:, depth].mean():.2f}"]
        if name == "paper":
            line.append(f"{INDEPENDENT[depth]:.2f}" if depth in INDEPENDENT else "")
        lines.append(tuple(line))
    header = ["L", "parameters", "s", "s²", "acceptance", "proposal autocorrelation of m_st²"]
    if name == "paper":
        header.append("s, independent code, one seed")
    return table(tuple(header), lines)


def law_words(found: Curve, settings: Any) -> str:
    """The fitted exponents; the bootstrap needs more than one seed and the fit more than one depth."""
    laws = power_laws(found, settings)
    words = [
        f"a = {notation(law['exponent'], law['error'])} for {name.replace('>=', ' ≥ ')}" for name, law in laws.items()
    ]
    return (
        f"s² ∝ n^(−a): {'; '.join(words)}. Errors by bootstrap over {found.n_seeds} seeds: the scatter between seeds "
        "alone, not the deviation of the points from a straight line."
        if words
        else ""
    )


def stuck_words(found: Curve) -> str:
    """How often a new layer brought nothing: there the optimiser, not the form of the model, sets the residual."""
    ratio = found.squared_residual[:, 1:] / found.squared_residual[:, :-1]
    stuck = [f"L = {depth} ({n})" for depth, n in enumerate((ratio > 0.99).sum(0), start=1) if n]
    if not stuck:
        return ""
    return (
        f"Training the new layer lowered s² by less than 1 % at {', '.join(stuck)} (number of seeds in brackets): "
        "AdamW at this rate did not improve on its start, so these depths show the optimiser and not what the form can "
        "do."
    )


def comparison_words(name: str, found: Curve) -> str:
    """Where the residuals differ from those of the independent code."""
    if name != "paper":
        return ""
    residuals = np.sqrt(found.squared_residual).mean(0)
    found_at = {depth: s for depth, s in INDEPENDENT.items() if depth < len(residuals)}
    words = ", ".join(f"{residuals[depth] - s:+.2f} at L = {depth}" for depth, s in found_at.items())
    return (
        f"Our mean s minus that of the independent code: {words}. Its configurations and schedule are not ours, and it "
        "states one seed, so its own scatter is not known."
    )
