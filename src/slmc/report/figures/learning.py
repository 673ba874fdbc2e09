"""Figures of what was learned: residual and acceptance by round, predictions, the choice of the inner chain."""

import math

import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm

from slmc.report.drawing import AMBER, BLUE, CHAINS, INK, MUTED, SKY, Plot
from slmc.report.figures.axes import (
    from_zero,
    logarithmic,
    plain_logs,
)
from slmc.report.notation import plain
from slmc.report.stored import Stored
from slmc.selflearning.inner_chain import InnerLine


def learning(run: Stored) -> Plot:
    """Residual and acceptance of each round, loss and residual of each training step."""
    plot = Plot("learning", "Learning")
    residual = run.values("learning", "residual")
    if residual is None:
        if run.learns:
            plot.caption = (
                "No round of learning is stored: the run had not finished one, or it uses a model learned before."
            )
        return plot
    _learning_residual(plot, run, residual)
    _learning_acceptance(plot, run)
    _learning_errors(plot, run)
    trained = _learning_history(plot, run)
    stages = _learning_stages(plot, run)
    plot.caption = (
        "The held-out residual <i>s</i> = std(log <i>W</i> − log <i>W</i><sub>eff</sub>) should fall and level off. "
        "Training far below held-out means that the model has learned its data by heart: gather more. Still falling "
        "at the last round means that more rounds would pay. Acceptance measured in a round, with the model of the "
        "round before, should follow erfc(<i>s</i>/2); it may lie above, because a short inner chain proposes "
        "something close to where it started."
        + ("" if trained else " This model was fitted in one solve: it has no training steps to show.")
        + stages
    )
    return plot


def _learning_stages(plot: Plot, run: Stored) -> str:
    """The residual by the number of parameters, where learning went in stages; what its force costs, in words."""
    stages = run.values("learning", "stages")
    if stages is None:
        return ""
    with plot.panel("Residual by number of parameters") as axes:
        axes.plot(stages[:, 0], stages[:, 1], "o-", color=BLUE)
        axes.set(xlabel="parameters fitted", ylabel="residual $s$, held out")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        from_zero(axes)
    cost = run.summary.get("force_cost")
    return "" if cost is None else f" A force of the guide costs {plain(cost, 2)} of an exact one."


def _learning_residual(plot: Plot, run: Stored, residual: np.ndarray) -> None:
    evaluations = run.values("learning", "exact_evaluations")
    position = np.arange(1, len(residual) + 1) if evaluations is None else evaluations
    with plot.panel("Residual of the model after each round") as axes:
        axes.plot(position, residual, "o-", color=BLUE, label="held out")
        training = run.values("learning", "training_residual")
        if training is not None:
            axes.plot(position, training, "s--", color=AMBER, markerfacecolor="none", label="training")
        axes.set(xlabel="round" if evaluations is None else "exact evaluations spent", ylabel="residual $s$")
        from_zero(axes)
        if evaluations is None:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()


def _spent(run: Stored, n_rounds: int) -> tuple[np.ndarray, str]:
    """Where a round stands on an axis: exact evaluations spent when it ended, or its number."""
    evaluations = run.values("learning", "exact_evaluations")
    if evaluations is None:
        return np.arange(1, n_rounds + 1), "after round"
    return evaluations, "exact evaluations spent"


def _learning_acceptance(plot: Plot, run: Stored) -> None:
    expected = run.values("learning", "expected_acceptance")
    measured = run.values("learning", "acceptance")
    if expected is None and measured is None:
        return
    with plot.panel("Acceptance while learning") as axes:
        if expected is not None:
            position, _ = _spent(run, len(expected))
            axes.plot(position, expected, "--", color=MUTED, label="expected from $s$")
        if measured is not None:
            # What a round measures is the model that the round before it left.
            position, _ = _spent(run, len(measured))
            axes.plot(position[:-1], measured[1:], "o", color=BLUE, label="measured in the next round")
        _, words = _spent(run, 0)
        axes.set(xlabel=f"{words}, of the model", ylabel="acceptance", ylim=(0, 1.02), xlim=(0, None))
        axes.legend(loc="lower right")


def _learning_errors(plot: Plot, run: Stored) -> None:
    """The figures of the model that its system gives, of which each has units; those that all runs have have none."""
    members = run.records.children.get("learning")
    for name in () if members is None else map(str, members.data_vars):
        variable = run.variable("learning", name)
        units = "" if variable is None else str(variable.attrs.get("units", ""))
        values = run.values("learning", name)
        if not units or variable is None or values is None or values.ndim != 1:
            continue
        words = str(variable.attrs.get("description", name))
        with plot.panel(words[:1].upper() + words[1:]) as axes:
            position, label = _spent(run, len(values))
            axes.plot(position, values, "o-", color=BLUE)
            axes.set(xlabel=label, ylabel=f"error [{units}]")
            from_zero(axes)


def _learning_history(plot: Plot, run: Stored) -> bool:
    """Loss and held-out residual over all rounds; False where the model had no training steps."""
    history = run.values("learning", "history")
    if history is None or np.isnan(history[:, 2]).all():
        return False
    starts = np.flatnonzero(np.diff(history[:, 0], prepend=history[0, 0] - 1))
    longest = np.array([part[:, 1].max() for part in np.split(history, starts[1:])])
    offsets = np.repeat(np.cumsum(longest) - longest, np.diff([*starts, len(history)]))
    step = offsets + history[:, 1]
    for column, title, label, colour in (
        (2, "Training loss", "loss", AMBER),
        (3, "Held-out residual while training", "residual $s$", BLUE),
    ):
        known = np.isfinite(history[:, column])
        if not known.any():
            continue
        with plot.panel(title) as axes:
            axes.plot(step[known], history[known, column], "-", color=colour, linewidth=1.2)
            for start in (offsets[index] for index in starts[1:]):
                axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=":")
            axes.set(xlabel="training step, all rounds (dotted: a new round)", ylabel=label)
            if history[known, column].min() > 0:
                logarithmic(axes, history[known, column])
    return True


def parity(run: Stored) -> Plot:
    """Predicted against exact log-weight on held-out configurations, and the distribution of the difference."""
    plot = Plot("parity", "What the model predicts")
    predicted, exact = run.values("learning", "predicted"), run.values("learning", "exact")
    if predicted is None or exact is None or not np.isfinite(predicted + exact).any():
        if run.learns:
            plot.caption = "No held-out predictions are stored: learning had not finished a round."
        return plot
    known = np.isfinite(predicted) & np.isfinite(exact)
    predicted, exact = predicted[known], exact[known]
    difference = exact - predicted
    shift, residual = difference.mean(), difference.std()
    stride = -(-len(exact) // 700)
    with plot.panel("Held-out configurations") as axes:
        ends = [exact.min(), exact.max()]
        axes.plot(ends, ends, color=MUTED, linewidth=1)
        axes.plot(exact[::stride], (predicted + shift)[::stride], ".", color=BLUE, markersize=3.5, alpha=0.55)
        axes.set(xlabel=r"exact $\log W$", ylabel=r"predicted $\log W_{\mathrm{eff}}$ + const.")
        axes.locator_params(nbins=6)
    if residual > 0:
        _residual_histogram(plot, difference - shift, residual)
    explained = 1 - (residual / exact.std()) ** 2 if exact.std() > 0 else np.nan
    plot.caption = (
        f"{len(exact)} configurations from chains that took no part in training. Points hug the line if the model is "
        f"good: <i>s</i> = {plain(residual)} of a spread of {plain(exact.std())} in log <i>W</i> "
        f"({_explained(explained)}). Only differences count, so a constant is free. "
        "A residual wider in its tails than the Gaussian means that the chain will now and then stick for long."
    )
    return plot


def _explained(share: float) -> str:
    return f"{100 * share:.1f} % of the variance explained" if share > 0 else "no better than a constant"


def _residual_histogram(plot: Plot, difference: np.ndarray, residual: float) -> None:
    with plot.panel(r"Residual $\log W - \log W_{\mathrm{eff}}$ against a Gaussian") as axes:
        axes.hist(difference, bins=min(40, max(8, len(difference) // 12)), density=True, color=SKY, alpha=0.75)
        grid = np.linspace(*axes.get_xlim(), 200)
        axes.plot(
            grid, norm.pdf(grid, scale=residual), color=INK, linewidth=1.2, label=f"Gaussian, $s$ = {residual:.3g}"
        )
        axes.set(xlabel=r"$\log W - \log W_{\mathrm{eff}}$, less its mean", ylabel="density", xlim=(grid[0], grid[-1]))
        axes.set_ylim(0, 1.22 * axes.get_ylim()[1])
        axes.legend(loc="upper right")


def inner_chain(run: Stored) -> Plot:
    """Expected effective samples a second of every inner chain that was weighed, and what its proposals forget."""
    plot = Plot("inner", "The inner chain")
    weighed = run.variable("inner_chain", "weighed")
    if weighed is None:
        if run.variable("inner_chain", "force_seconds") is not None:
            plot.caption = "There is none: a proposal is a trajectory of a length set in the configuration."
        elif run.learns:
            plot.caption = "The inner chain was set in the configuration, not chosen by measurement."
        return plot
    lines = [InnerLine(*line) for line in weighed.values]
    names = str(weighed.attrs.get("description", "")).split("; ")
    by_candidate = {
        int(number): sorted((line for line in lines if line.candidate == number), key=lambda line: line.n_updates)
        for number in sorted({line.candidate for line in lines})
    }
    is_timed = all(math.isfinite(line.exact_seconds) for line in lines)
    yields = ("expected effective samples / s", lambda line: line.samples_a_second)
    if not is_timed:
        yields = ("expected effective samples / evaluation", lambda line: line.efficiency)
    for title, label, value in (
        ("What each would yield", *yields),
        ("What a proposal remembers", "autocorrelation of start and end", lambda line: line.autocorrelation),
    ):
        with plot.panel(title) as axes:
            for (number, chosen), colour in zip(by_candidate.items(), CHAINS, strict=False):
                axes.plot(
                    [line.n_updates for line in chosen],
                    [value(line) for line in chosen],
                    "o-",
                    color=colour,
                    markersize=3.5,
                    label=names[number].replace("_", " "),
                )
            axes.plot(lines[0].n_updates, value(lines[0]), "*", color=INK, markersize=10, label="chosen")
            counted = "inner updates in a proposal" if is_timed else "integrator steps in a trajectory"
            axes.set(xlabel=counted, ylabel=label, xscale="log")
            plain_logs(axes)
            axes.legend(loc="best")
    best = lines[0]
    if not is_timed:
        plot.caption = (
            f"Chosen: {names[int(best.candidate)].replace('_', ' ')}, for the most effective samples an exact "
            "evaluation. What trajectories remember was measured on the model when learning ended; the acceptance is "
            "the one that the residual lets expect of each length."
        )
        return plot
    plot.caption = (
        f"Chosen: {int(best.n_updates)} × {names[int(best.candidate)].replace('_', ' ')}, which cost "
        f"{best.inner_seconds / best.exact_seconds:.2f} exact evaluations a proposal "
        f"({1e3 * best.inner_seconds:.3g} ms against {1e3 * best.exact_seconds:.3g} ms a chain, all chains running). "
        "Times (the least of several in turns) and autocorrelations were measured when learning ended, and the "
        "acceptance is the one that the residual of what proposes lets expect"
        + (
            f"; all that makes the expected rate uncertain by {100 * best.error:.0f} %."
            if best.error == best.error
            else "."
        )
    )
    return plot
