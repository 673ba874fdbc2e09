"""Figures of the chains: thermalisation, acceptance, autocorrelation, traces."""

import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.stats import rankdata

from slmc.report.drawing import BLUE, CHAINS, INK, MUTED, SKY, VERMILION, Plot
from slmc.report.figures.axes import (
    LEAST_DRAWS,
    N_CHAINS_SHOWN,
    N_POINTS_SHOWN,
    chains_shown,
    draw_chains,
    from_zero,
    plain_logs,
    with_units,
)
from slmc.report.notation import concise
from slmc.report.stored import Stored, binned_errors, mean_and_error, thinned
from slmc.statistics import autocorrelation, autocorrelation_time


def thermalisation(run: Stored) -> Plot:
    """log W of the first chains, from their starts on."""
    plot = Plot("thermalisation", "Thermalisation")
    series = run.series("thermalisation", "log_weight")
    if series is None:
        plot.caption = "No step of thermalisation is stored."
        return plot
    with plot.panel(r"$\log W$ from the start") as axes:
        draw_chains(axes, series)
        axes.set(xlabel="thermalisation step", ylabel=r"exact log-weight $\log W$")
    plot.caption = (
        f"{chains_shown(series)}All chains should have reached the same level well before the last of the "
        f"{series.shape[1]} steps; a slope at the end means that thermalisation was too short."
    )
    return plot


def acceptance(run: Stored) -> Plot:
    """Acceptance over the measurement against what the residual lets expect, and the log-ratios it comes from."""
    plot = Plot("acceptance", "Acceptance")
    accepted = run.series("measurement", "accepted")
    if accepted is None:
        plot.caption = "No measurement is stored yet."
        return plot
    blocks = [block.mean() for block in np.array_split(accepted, min(40, accepted.shape[1]), axis=1)]
    position = (np.arange(len(blocks)) + 0.5) * accepted.shape[1] / len(blocks)
    running = np.cumsum(accepted.mean(0)) / np.arange(1, accepted.shape[1] + 1)
    with plot.panel("Acceptance while measuring") as axes:
        axes.plot(position, blocks, "o", color=SKY, markersize=3.5, label="blocks of steps")
        axes.plot(*thinned(running, N_POINTS_SHOWN), color=BLUE, label="running mean")
        expected = run.summary.get("expected_acceptance")
        if expected is not None:
            axes.axhline(expected, color=VERMILION, linestyle="--", linewidth=1.2, label=r"$\mathrm{erfc}(s/2)$")
        axes.set(xlabel="measurement step", ylabel="acceptance", ylim=(0, 1.02))
        axes.legend(loc="best", ncols=3, columnspacing=1.0, handletextpad=0.4)
    by_chain = accepted.mean(1)
    plot.caption = (
        f"The {'model is frozen' if run.learns else 'step size is fixed'}, so the acceptance must not drift. Chains "
        f"accept between {by_chain.min():.2f} and {by_chain.max():.2f}; one that lies far below the others is stuck."
    )
    ratios = run.series("measurement", "log_ratio")
    if ratios is not None:
        plot.caption += _log_ratios(plot, ratios)
    return plot


def _log_ratios(plot: Plot, ratios: np.ndarray) -> str:
    """The distribution of the log acceptance ratio and the sentence about its exponential mean."""
    finite = ratios[np.isfinite(ratios)]
    if not len(finite):
        return ""
    low, high = np.quantile(finite, [0.002, 0.998])
    with plot.panel("Log-ratio of the decisions") as axes:
        bins = np.linspace(low, high + 1e-9 * (1 + abs(high)), 41)
        axes.hist(np.clip(finite, low, high), bins=list(bins), density=True, color=SKY, alpha=0.75)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(xlabel=r"$\log r$ (accepted with probability min(1, $r$))", ylabel="density")
    # Clipped only to keep one wild ratio from overflowing; such a mean says nothing anyway.
    mean, error = mean_and_error(np.exp(np.clip(ratios, -700, 50)))
    return f" In equilibrium ⟨<i>r</i>⟩ = 1 exactly; here {concise(mean, error)}, a check of the whole update."


def autocorrelations(run: Stored) -> Plot:
    """Autocorrelation function and binning analysis of the slowest observable, beside the exact chain's."""
    plot = Plot("autocorrelation", "Autocorrelation")
    name = next((name for name in run.by_slowness() if _moves(run.series("measurement", name))), None)
    if name is None:
        plot.caption = "Too few measurements are stored for an autocorrelation function."
        return plot
    chains = []
    for group, label, colour, marker in (
        ("measurement", "this run", BLUE, "o"),
        ("baseline", "exact chain", VERMILION, "s"),
    ):
        series = run.series(group, name)
        if series is not None and _moves(series):
            chains.append((series, autocorrelation(series), autocorrelation_time(series), label, colour, marker))
    title = run.symbol(name).mathtext
    with plot.panel(f"Autocorrelation of {title}") as axes:
        for _, correlation, time, label, colour, marker in chains:
            reach = int(8 * time) if np.isfinite(time) else len(correlation)
            shown = correlation[1 : max(12, min(reach, len(correlation) // 2))]
            lags = np.unique(np.geomspace(1, len(shown), 60).astype(int))
            axes.semilogx(
                lags, shown[lags - 1], marker + "-", color=colour, markersize=3, label=rf"{label}, $\tau$ = {time:.3g}"
            )
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set(xlabel="distance $t$ in steps", ylabel=r"$\rho(t)$", ylim=(None, 1.02))
        axes.legend()
    with plot.panel(f"Error of {title} against bin length") as axes:
        for series, _, _, label, colour, marker in chains:
            axes.loglog(*binned_errors(series), marker + "-", color=colour, markersize=4, label=label)
        axes.set(xlabel="bin length in steps", ylabel="error of the mean")
        plain_logs(axes)
        axes.legend()
    plot.caption = (
        "ρ(<i>t</i>) should fall to zero within the run; τ is the integrated time in steps, and 2τ steps make one "
        "effective sample. The error rises with the bin length and levels off where bins have become independent: "
        "still rising at the right end means that the run is too short to know its errors."
    )
    if len(chains) > 1:
        plot.caption += (
            " Steps do not cost the same: a proposal of this run takes one exact evaluation, a step of the exact chain "
            "usually many. The comparison with the exact chain above puts both on one scale."
        )
    return plot


def traces(run: Stored) -> Plot:
    """Series of the main observables by chain, the spread of the chains' means, and ranks of the slowest one."""
    plot = Plot("traces", "Chains")
    series = {name: run.series("measurement", name) for name in run.traced()}
    moving = {name: values for name, values in series.items() if values is not None and np.ptp(values) > 0}
    if not moving:
        plot.caption = "No measurement is stored yet."
        return plot
    shown = dict(list(moving.items())[:4])
    for name, values in shown.items():
        r_hat = run.observables().get(name, {}).get("r_hat")
        note = "" if r_hat is None else rf"   $\hat{{R}}$ = {r_hat:.3f}"
        with plot.panel(f"{run.symbol(name).mathtext}, {run.symbol(name).words}{note}", height=2.4) as axes:
            draw_chains(axes, values)
            axes.set(xlabel="measurement step", ylabel=with_units(run, name))
    first = next(iter(moving.values()))
    if len(first) > 1:
        _chain_means(plot, run, shown)
        _ranks(plot, run, *next(iter(moving.items())))
    plot.caption = (
        f"{chains_shown(first)}Chains should look alike and forget where they started: no slopes, no long plateaus. "
        "Chain means, in units of their own error, should scatter within ±2. Ranks pooled over chains should fall "
        "equally into all bins for every chain; a slope or a hump means that chains disagree."
    )
    return plot


def _chain_means(plot: Plot, run: Stored, shown: dict[str, np.ndarray]) -> None:
    with plot.panel("Chain means, in their own errors") as axes:
        width = 0.6 / len(shown)
        for index, (name, values) in enumerate(shown.items()):
            error = values.std() * np.sqrt(2 * autocorrelation_time(values) / values.shape[1])
            position = np.arange(1, len(values) + 1) + (index - (len(shown) - 1) / 2) * width
            axes.plot(
                position, (values.mean(1) - values.mean()) / error, "osD^"[index], color=CHAINS[index], markersize=4,
                label=run.symbol(name).mathtext,
            )  # fmt: skip
        axes.axhspan(-2, 2, color=MUTED, alpha=0.12, linewidth=0)
        reach = max(3.9, 1.25 * max(abs(end) for end in axes.get_ylim()))
        axes.set(xlabel="chain", ylabel=r"(mean − overall mean) / error", ylim=(-reach, reach))
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(ncols=4, loc="upper center", columnspacing=1.0, handletextpad=0.1)


def _ranks(plot: Plot, run: Stored, name: str, values: np.ndarray) -> None:
    n_bins = min(20, max(4, values.shape[1] // 20))
    ranks = (rankdata(values).reshape(values.shape) - 0.5) / values.size
    edges = np.linspace(0, 1, n_bins + 1)
    with plot.panel(f"Ranks of {run.symbol(name).mathtext} by chain") as axes:
        for chain in range(min(N_CHAINS_SHOWN, len(values))):
            counts = np.histogram(ranks[chain], edges)[0] * n_bins / values.shape[1]
            axes.stairs(counts, edges, color=CHAINS[chain], linewidth=1.4, label=f"chain {chain + 1}")
        axes.axhline(1, color=INK, linewidth=0.9, linestyle="--")
        axes.set(xlabel="rank among all chains / number of ranks", ylabel="count / expected")
        from_zero(axes, room=1.3)
        axes.set_xlim(0, 1)
        axes.legend(ncols=4, loc="upper center", columnspacing=0.9, handlelength=0.9, handletextpad=0.4)


def _moves(series: np.ndarray | None) -> bool:
    """Whether there are enough draws to look at, and whether they change."""
    return series is not None and series.shape[1] >= LEAST_DRAWS and bool(np.ptp(series) > 0)
