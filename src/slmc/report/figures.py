"""The figures of the report, one function each: stored records in, a ``Plot`` out.

A function whose data do not exist returns a plot without panels whose caption says why (or is empty, where there is
nothing to miss).
"""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy.stats import norm, rankdata

from slmc.report.drawing import AMBER, BLUE, CHAINS, GREEN, INK, MUTED, SKY, VERMILION, Plot
from slmc.report.notation import concise, duration, plain, symbol
from slmc.report.stored import (
    Stored,
    binned_errors,
    correlations,
    mean_and_error,
    thinned,
)
from slmc.selflearning.inner_chain import InnerLine
from slmc.statistics import autocorrelation, autocorrelation_time

N_CHAINS_SHOWN = 4
N_POINTS_SHOWN = 300
LEAST_DRAWS = 16
SLOW = ("staggered_magnetization_squared", "magnetization_squared", "polyakov_loop", "log_weight")
TRACED = (*SLOW, "energy", "density", "plaquette", "condensate")
PARTS_OF_TIME = {
    "exact_weight": ("exact weight", VERMILION),
    "inner": ("inner chain", BLUE),
    "training": ("training", GREEN),
    "other": ("other", MUTED),
}
DECADES_APART = 50.0


def thermalisation(run: Stored) -> Plot:
    """log W of the first chains, from their starts on."""
    plot = Plot("thermalisation", "Thermalisation")
    series = run.series("thermalisation", "log_weight")
    if series is None:
        plot.caption = "No step of thermalisation is stored."
        return plot
    with plot.panel(r"$\log W$ from the start") as axes:
        _draw_chains(axes, series)
        axes.set(xlabel="thermalisation step", ylabel=r"exact log-weight $\log W$")
    plot.caption = (
        f"{_chains_shown(series)}All chains should have reached the same level well before the last of the "
        f"{series.shape[1]} steps; a slope at the end means that thermalisation was too short."
    )
    return plot


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
    trained = _learning_history(plot, run)
    plot.caption = (
        "The held-out residual <i>s</i> = std(log <i>W</i> − log <i>W</i><sub>eff</sub>) should fall and level off. "
        "Training far below held-out means that the model has learned its data by heart: gather more. Still falling "
        "at the last round means that more rounds would pay. Acceptance measured in a round, with the model of the "
        "round before, should follow erfc(<i>s</i>/2); it may lie above, because a short inner chain proposes "
        "something close to where it started."
        + ("" if trained else " This model was fitted in one solve: it has no training steps to show.")
    )
    return plot


def _learning_residual(plot: Plot, run: Stored, residual: np.ndarray) -> None:
    evaluations = run.values("learning", "exact_evaluations")
    position = np.arange(1, len(residual) + 1) if evaluations is None else evaluations
    with plot.panel("Residual of the model after each round") as axes:
        axes.plot(position, residual, "o-", color=BLUE, label="held out")
        training = run.values("learning", "training_residual")
        if training is not None:
            axes.plot(position, training, "s--", color=AMBER, markerfacecolor="none", label="training")
        axes.set(xlabel="round" if evaluations is None else "exact evaluations spent", ylabel="residual $s$")
        _from_zero(axes)
        if evaluations is None:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()


def _learning_acceptance(plot: Plot, run: Stored) -> None:
    expected = run.values("learning", "expected_acceptance")
    measured = run.values("learning", "acceptance")
    if expected is None and measured is None:
        return
    with plot.panel("Acceptance while learning") as axes:
        if expected is not None:
            axes.plot(
                np.arange(1, len(expected) + 1), expected, "--", color=MUTED, label=r"expected, $\mathrm{erfc}(s/2)$"
            )
        if measured is not None:
            # What a round measures is the model that the round before it left.
            axes.plot(np.arange(len(measured)), measured, "o", color=BLUE, label="measured in the next round")
        axes.set(xlabel="model after round", ylabel="acceptance", ylim=(0, 1.02), xlim=(0.5, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right")


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
                _logarithmic(axes, history[known, column])
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
        f"({100 * explained:.1f} % of the variance explained). Only differences count, so a constant is free. "
        "A residual wider in its tails than the Gaussian means that the chain will now and then stick for long."
    )
    return plot


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
    name = _first_moving(run, SLOW)
    if name is None:
        plot.caption = "Too few measurements are stored for an autocorrelation function."
        return plot
    found = []
    for group, label, colour, marker in (
        ("measurement", "this run", BLUE, "o"),
        ("baseline", "exact chain", VERMILION, "s"),
    ):
        series = run.series(group, name)
        if series is not None and series.shape[1] >= LEAST_DRAWS and np.ptp(series) > 0:
            found.append((series, autocorrelation(series), autocorrelation_time(series), label, colour, marker))
    title = symbol(name).mathtext
    with plot.panel(f"Autocorrelation of {title}") as axes:
        for _, correlation, time, label, colour, marker in found:
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
        for series, _, _, label, colour, marker in found:
            axes.loglog(*binned_errors(series), marker + "-", color=colour, markersize=4, label=label)
        axes.set(xlabel="bin length in steps", ylabel="error of the mean")
        _plain_logs(axes)
        axes.legend()
    plot.caption = (
        "ρ(<i>t</i>) should fall to zero within the run; τ is the integrated time in steps, and 2τ steps make one "
        "effective sample. The error rises with the bin length and levels off where bins have become independent: "
        "still rising at the right end means that the run is too short to know its errors."
    )
    if len(found) > 1:
        plot.caption += (
            " Steps do not cost the same: a proposal of this run takes one exact evaluation, a step of the exact chain "
            "usually many. The comparison with the exact chain above puts both on one scale."
        )
    return plot


def traces(run: Stored) -> Plot:
    """Series of the main observables by chain, the spread of the chains' means, and ranks of the slowest one."""
    plot = Plot("traces", "Chains")
    series = {name: run.series("measurement", name) for name in TRACED}
    moving = {name: values for name, values in series.items() if values is not None and np.ptp(values) > 0}
    if not moving:
        plot.caption = "No measurement is stored yet."
        return plot
    shown = dict(list(moving.items())[:4])
    for name, values in shown.items():
        r_hat = run.observables().get(name, {}).get("r_hat")
        note = "" if r_hat is None else rf"   $\hat{{R}}$ = {r_hat:.3f}"
        with plot.panel(f"{symbol(name).mathtext}, {symbol(name).words}{note}", height=2.4) as axes:
            _draw_chains(axes, values)
            axes.set(xlabel="measurement step", ylabel=_with_units(run, name))
    first = next(iter(moving.values()))
    if len(first) > 1:
        _chain_means(plot, shown)
        _ranks(plot, *next(iter(moving.items())))
    plot.caption = (
        f"{_chains_shown(first)}Chains should look alike and forget where they started: no slopes, no long plateaus. "
        "Chain means, in units of their own error, should scatter within ±2. Ranks pooled over chains should fall "
        "equally into all bins for every chain; a slope or a hump means that chains disagree."
    )
    return plot


def _chain_means(plot: Plot, shown: dict[str, np.ndarray]) -> None:
    with plot.panel("Chain means, in their own errors") as axes:
        width = 0.6 / len(shown)
        for index, (name, values) in enumerate(shown.items()):
            error = values.std() * np.sqrt(2 * autocorrelation_time(values) / values.shape[1])
            position = np.arange(1, len(values) + 1) + (index - (len(shown) - 1) / 2) * width
            axes.plot(
                position, (values.mean(1) - values.mean()) / error, "osD^"[index], color=CHAINS[index], markersize=4,
                label=symbol(name).mathtext,
            )  # fmt: skip
        axes.axhspan(-2, 2, color=MUTED, alpha=0.12, linewidth=0)
        reach = max(3.9, 1.25 * max(abs(end) for end in axes.get_ylim()))
        axes.set(xlabel="chain", ylabel=r"(mean − overall mean) / error", ylim=(-reach, reach))
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(ncols=4, loc="upper center", columnspacing=1.0, handletextpad=0.1)


def _ranks(plot: Plot, name: str, values: np.ndarray) -> None:
    n_bins = min(20, max(4, values.shape[1] // 20))
    ranks = (rankdata(values).reshape(values.shape) - 0.5) / values.size
    edges = np.linspace(0, 1, n_bins + 1)
    with plot.panel(f"Ranks of {symbol(name).mathtext} by chain") as axes:
        for chain in range(min(N_CHAINS_SHOWN, len(values))):
            counts = np.histogram(ranks[chain], edges)[0] * n_bins / values.shape[1]
            axes.stairs(counts, edges, color=CHAINS[chain], linewidth=1.4, label=f"chain {chain + 1}")
        axes.axhline(1, color=INK, linewidth=0.9, linestyle="--")
        axes.set(xlabel="rank among all chains / number of ranks", ylabel="count / expected")
        _from_zero(axes, room=1.3)
        axes.set_xlim(0, 1)
        axes.legend(ncols=4, loc="upper center", columnspacing=0.9, handlelength=0.9, handletextpad=0.4)


def comparison(run: Stored) -> Plot:
    """Every observable against the exact chain's, in combined errors, and what either chain costs."""
    plot = Plot("comparison", "Against the exact chain")
    ours, theirs = run.observables(), run.baseline().get("observables") or {}
    pairs = {
        name: (ours[name], theirs[name])
        for name in ours
        if name in theirs and all(_has_error(estimate) for estimate in (ours[name], theirs[name]))
    }
    if not pairs:
        if run.learns:
            plot.caption = (
                "No exact chain to compare with: ask for one with a <code>[baseline]</code> section in the "
                "configuration."
                if not run.baseline()
                else "The exact chain has no observable with an error in common with this run yet."
            )
        return plot
    with plot.panel("Difference from the exact chain", height=1.1 + 0.34 * len(pairs)) as axes:
        reach = 3.6
        for row, (our, their) in enumerate(pairs.values()):
            sigma = float(np.hypot(our["error"], their["error"]))
            difference = (our["value"] - their["value"]) / sigma
            reach = max(reach, abs(difference) + 1.4)
            axes.errorbar(0, row - 0.16, xerr=their["error"] / sigma, fmt="s", color=VERMILION, markersize=4)
            axes.errorbar(difference, row + 0.16, xerr=our["error"] / sigma, fmt="o", color=BLUE, markersize=5)
        axes.axvspan(-2, 2, color=MUTED, alpha=0.12, linewidth=0)
        axes.set_yticks(range(len(pairs)), [symbol(name).mathtext for name in pairs])
        axes.set(xlabel=r"difference / combined error $\sigma$", xlim=(-reach, reach), ylim=(len(pairs) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        # Proxies after the limits: empty error bars would otherwise take part in them.
        axes.plot([], [], "o-", color=BLUE, label="this run")
        axes.plot([], [], "s-", color=VERMILION, label="exact chain")
        axes.figure.legend(loc="outside lower center", ncols=2)
    _efficiency(plot, run)
    plot.caption = (
        "The learned model must not change any result: points scatter about zero, about one in twenty outside the "
        "band of ±2σ. Effective samples are those of the slowest observable; exact evaluations are what is expensive."
    )
    return plot


def _efficiency(plot: Plot, run: Stored) -> None:
    names = {"ess_per_exact_evaluation": "per exact\nevaluation", "ess_per_second": "per second"}
    both = {
        label: (run.summary[name], run.baseline()[name])
        for name, label in names.items()
        if run.summary.get(name) and run.baseline().get(name)
    }
    if not both:
        return
    with plot.panel("Effective samples") as axes:
        for row, (our, their) in enumerate(both.values()):
            for offset, value, colour, marker in ((-0.13, our, BLUE, "o"), (0.13, their, VERMILION, "s")):
                axes.plot(value, row + offset, marker, color=colour, markersize=7)
                axes.annotate(
                    plain(value, 2), (value, row + offset), (0, 7 if offset < 0 else -7), textcoords="offset points",
                    ha="center", va="bottom" if offset < 0 else "top",
                )  # fmt: skip
            axes.plot([our, their], [row, row], color=MUTED, linewidth=1, zorder=0)
        axes.set_xscale("log")
        ratios = [f"{label}\n× {plain(our / their, 2)}" for label, (our, their) in both.items()]
        axes.set_yticks(range(len(both)), ratios)
        low, high = min(map(min, both.values())), max(map(max, both.values()))
        axes.set(xlabel="effective samples", xlim=(low / 4, high * 4), ylim=(len(both) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        axes.plot([], [], "o", color=BLUE, label="this run")
        axes.plot([], [], "s", color=VERMILION, label="exact chain")
        axes.figure.legend(loc="outside lower center", ncols=2)


def structure(run: Stored) -> Plot:
    """S(q) by wave vector and spin correlations by distance; nothing, not even a caption, where there are no spins."""
    plot = Plot("structure", "Structure factor and correlations")
    values = run.values("measurement", "structure_factor")
    if values is None or values.ndim < 3:
        return plot
    blocks = values.reshape(-1, *values.shape[2:])
    blocks = blocks[np.isfinite(blocks).reshape(len(blocks), -1).all(1)]
    factor = blocks.mean(0)
    {1: _structure_line, 2: _structure_plane}.get(factor.ndim, _structure_slices)(plot, factor)
    _correlation_panel(plot, blocks, factor.ndim)
    peak = np.unravel_index(int(factor.argmax()), factor.shape)
    vector = ", ".join(_wave_number(int(n), extent) for n, extent in zip(peak, factor.shape, strict=True))
    plot.caption = (
        "<i>S</i>(<i>q</i>) = (1/<i>N</i>) Σ<sub><i>ij</i></sub> e<sup>−<i>iq</i>·(<i>r<sub>i</sub></i>−"
        "<i>r<sub>j</sub></i>)</sup> ⟨<i>S<sub>i</sub></i>·<i>S<sub>j</sub></i>⟩ is largest at <i>q</i> = "
        f"{vector if factor.ndim == 1 else f'({vector})'}, where it is {plain(float(factor.max()))}. "
        + _wrapping(factor.shape)
        + " Correlations are averaged over each shell of equal distance; error bars are from block means."
    )
    return plot


def _wrapping(shape: tuple[int, ...]) -> str:
    even = [extent % 2 == 0 for extent in shape if extent > 1]
    if any(even):
        sentence = "The picture wraps around: <i>q</i> = −π and <i>q</i> = π are the same wave vector."
    else:
        sentence = "The picture wraps around: its opposite edges touch."
    if len(shape) > 1 and len(set(shape[:2])) == 1:
        sentence += " It should look the same along both axes; if it does not, the chains are too short."
    if not all(even):
        sentence += " An odd extent has no two sublattices, and so no staggered magnetization."
    return sentence


def _structure_line(plot: Plot, factor: np.ndarray) -> None:
    with plot.panel("Structure factor $S(q)$") as axes:
        whole = _centred(factor)
        axes.plot(_wave_numbers(factor.shape[0]), whole, "o-", color=BLUE, markersize=4)
        axes.set(xlabel="$q$", ylabel="$S(q)$")
        axes.set_xticks(np.pi * np.array([-1, -0.5, 0, 0.5, 1]), ["−π", "−π/2", "0", "π/2", "π"])
        _from_zero(axes)


def _structure_plane(plot: Plot, factor: np.ndarray) -> None:
    _draw_plane(plot, factor, "Structure factor $S(q)$", _scale(factor))


def _structure_slices(plot: Plot, factor: np.ndarray) -> None:
    """The planes q_z = 0 and q_z = π (on an odd extent the nearest to it); axes beyond the third are at q = 0."""
    factor = factor.reshape(*factor.shape[:3], -1)[..., 0]
    for index in sorted({0, factor.shape[2] // 2}):
        at = _wave_number(index, factor.shape[2])
        _draw_plane(plot, factor[:, :, index], f"$S(q)$ in the plane $q_z$ = {at}", _scale(factor))


def _draw_plane(plot: Plot, plane: np.ndarray, title: str, scale: Normalize) -> None:
    with plot.panel(title, height=3.5) as axes:
        halves = [np.pi / extent for extent in plane.shape]
        ends = [_wave_numbers(extent)[-1] + half for extent, half in zip(plane.shape, halves, strict=True)]
        image = axes.imshow(
            _centred(plane).T, origin="lower", extent=(-ends[0], ends[0], -ends[1], ends[1]), norm=scale,
            cmap="viridis", interpolation="nearest", aspect="auto" if plane.shape[0] != plane.shape[1] else "equal",
        )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(np.pi * np.array([-1, -0.5, 0, 0.5, 1]), ["−π", "−π/2", "0", "π/2", "π"])
        axes.set(xlabel="$q_x$", ylabel="$q_y$")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.92)
        bar.outline.set_visible(False)
        bar.solids.set_rasterized(True)  # type: ignore[union-attr]
        if isinstance(scale, LogNorm):
            _plain_logs(bar.ax)


def _correlation_panel(plot: Plot, blocks: np.ndarray, n_dimensions: int) -> None:
    found = correlations(blocks, n_dimensions)
    if len(found.distances) < 2:
        return
    bipartite = all(extent % 2 == 0 or extent == 1 for extent in blocks.shape[1:])
    with plot.panel(r"Spin correlation by distance", height=3.5 if n_dimensions > 1 else 3.0) as axes:
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.plot(found.distances[1:], found.means[1:], color=MUTED, linewidth=0.8, zorder=1)
        groups = [(found.even, "same sublattice", "o", BLUE), (~found.even, "other sublattice", "s", VERMILION)]
        for members, label, marker, colour in groups if bipartite else [(found.means < np.inf, "all sites", "o", BLUE)]:
            chosen = members & (found.distances > 0)
            axes.errorbar(
                found.distances[chosen], found.means[chosen], found.errors[chosen], fmt=marker, color=colour,
                markersize=4.5, label=label,
            )  # fmt: skip
        axes.set(xlabel="distance $r$ in lattice constants", ylabel=r"$\langle S_0 \cdot S_r \rangle$", xlim=(0, None))
        if bipartite:
            axes.figure.legend(loc="outside lower center", ncols=2)


def inner_chain(run: Stored) -> Plot:
    """Expected effective samples a second of every inner chain that was weighed, and what its proposals forget."""
    plot = Plot("inner", "The inner chain")
    weighed = run.variable("inner_chain", "weighed")
    if weighed is None:
        if run.learns:
            plot.caption = "The inner chain was set in the configuration, not chosen by measurement."
        return plot
    lines = [InnerLine(*line) for line in weighed.values]
    names = str(weighed.attrs.get("description", "")).split("; ")
    by_candidate = {
        int(number): sorted((one for one in lines if one.candidate == number), key=lambda one: one.n_updates)
        for number in sorted({one.candidate for one in lines})
    }
    for title, label, value in (
        ("What each would yield", "expected effective samples / s", lambda one: one.samples_a_second),
        ("What a proposal remembers", "autocorrelation of start and end", lambda one: one.autocorrelation),
    ):
        with plot.panel(title) as axes:
            for (number, chosen), colour in zip(by_candidate.items(), CHAINS, strict=False):
                axes.plot(
                    [one.n_updates for one in chosen],
                    [value(one) for one in chosen],
                    "o-",
                    color=colour,
                    markersize=3.5,
                    label=names[number].replace("_", " "),
                )
            axes.plot(lines[0].n_updates, value(lines[0]), "*", color=INK, markersize=10, label="chosen")
            axes.set(xlabel="inner updates in a proposal", ylabel=label, xscale="log")
            _plain_logs(axes)
            axes.legend(loc="best")
    best = lines[0]
    plot.caption = (
        f"Chosen: {int(best.n_updates)} × {names[int(best.candidate)].replace('_', ' ')}, which cost "
        f"{best.inner_seconds / best.exact_seconds:.2f} exact evaluations a proposal "
        f"({1e3 * best.inner_seconds:.3g} ms against {1e3 * best.exact_seconds:.3g} ms a chain, all chains running). "
        "Times and autocorrelations were measured when learning ended, and the acceptance is the one that the residual "
        "lets expect."
    )
    return plot


def time_spent(run: Stored) -> Plot:
    """Seconds by what they were spent on, and by round of learning."""
    plot = Plot("time", "Where the time went")
    seconds = {
        name: float(value)
        for name, value in (run.summary.get("seconds") or {}).items()
        if value is not None and value > 0
    }
    if not seconds:
        plot.caption = "No times are stored yet."
        return plot
    total, left = sum(seconds.values()), 0.0
    with plot.panel(f"{duration(total)} in all", height=2.3) as axes:
        for name, value in seconds.items():
            words, colour = PARTS_OF_TIME.get(name, (name.replace("_", " "), SKY))
            label = f"{words}: {plain(value)} s ({100 * value / total:.0f} %)"
            axes.barh(0, value, left=left, color=colour, height=0.6, label=label)
            left += value
        axes.set(xlabel="seconds", yticks=[], ylim=(-0.45, 0.45), xlim=(0, total))
        axes.spines["left"].set_visible(False)
        axes.figure.legend(loc="outside lower left", ncols=2, columnspacing=1.0, handlelength=0.9)
    plot.caption = (
        "Exact evaluations should dominate: then every effective sample saved is time saved. If the inner chain does, "
        "shorten it or use a cheaper model; if training does, train fewer steps a round."
        if run.learns
        else "Exact evaluations should dominate. The rest is compiling, observables and writing records."
    )
    return plot


FIGURES: tuple[Callable[[Stored], Plot], ...] = (
    comparison, parity, acceptance, autocorrelations, traces, structure, learning, inner_chain,
    thermalisation, time_spent,
)  # fmt: skip
"""In the order of the page: the results first, then what stands behind them, then how the run got there."""


def _draw_chains(axes: Axes, series: np.ndarray) -> None:
    steps, values = thinned(series[:N_CHAINS_SHOWN], N_POINTS_SHOWN)
    for chain, colour in zip(values, CHAINS, strict=False):
        axes.plot(steps + 1, chain, color=colour, linewidth=0.8, alpha=0.85)
    axes.set_xlim(1, max(series.shape[1], 2))


def _chains_shown(series: np.ndarray) -> str:
    return f"Shown are {N_CHAINS_SHOWN} of {len(series)} chains. " if len(series) > N_CHAINS_SHOWN else ""


def _first_moving(run: Stored, names: tuple[str, ...]) -> str | None:
    """The first of the observables that is stored and changes."""
    for name in names:
        series = run.series("measurement", name)
        if series is not None and series.shape[1] >= LEAST_DRAWS and np.ptp(series) > 0:
            return name
    return None


def _with_units(run: Stored, name: str) -> str:
    units = run.attribute(name, "units")
    return symbol(name).mathtext + (f" [{units}]" if units not in ("", "1") else "")


def _has_error(estimate: dict[str, float | None]) -> bool:
    return estimate.get("value") is not None and bool(estimate.get("error"))


def _from_zero(axes: Axes, room: float = 1.0) -> None:
    axes.set_ylim(0, max(room * axes.get_ylim()[1], 1e-12))


def _logarithmic(axes: Axes, values: np.ndarray) -> None:
    axes.set_yscale("log")
    if values.max() < DECADES_APART * values.min():
        _plain_logs(axes)


def _plain_logs(axes: Axes) -> None:
    """Labels such as 0.02 instead of 2 × 10⁻², at 1, 2, 5 where few decades are shown."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < DECADES_APART * low else (1,)))
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: "")


def _centred(factor: np.ndarray) -> np.ndarray:
    """From −π to π: on an even extent the wave vector at −π is shown again at π, so that the picture is symmetric."""
    shifted = np.fft.fftshift(factor)
    for axis, extent in enumerate(factor.shape):
        if extent % 2 == 0:
            shifted = np.concatenate([shifted, shifted.take([0], axis)], axis)
    return shifted


def _wave_numbers(extent: int) -> np.ndarray:
    return np.arange(-(extent // 2), extent // 2 + 1) * 2 * np.pi / extent


def _wave_number(index: int, extent: int) -> str:
    """2πn/L in words, brought between −π and π."""
    fraction = 2 * ((index + (extent - 1) // 2) % extent - (extent - 1) // 2) / extent
    return {0.0: "0", 1.0: "π"}.get(fraction, f"{fraction:.3g}π".replace("-", "−"))


def _scale(factor: np.ndarray) -> Normalize:
    """Logarithmic where a Bragg peak would leave everything else black."""
    low, high = float(factor.min()), float(factor.max())
    return LogNorm(low, high) if low > 0 and high > 30 * low else Normalize(min(low, 0.0), high)
