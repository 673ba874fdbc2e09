"""The HTML page of a variational run: energy and variance against step, and what attention does meanwhile."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes

from slmc.report.drawing import AMBER, BLUE, CHAINS, MUTED, VERMILION, Plot
from slmc.report.notation import concise, duration, plain
from slmc.report.page import Tile, render, write_atomically
from slmc.report.stored import Stored, finite_only

PHASES = ("optimise", "measure", "done")
N_MAPS_SHOWN = 64
N_SMOOTHED = 20


def write_optimisation_report(records: xarray.DataTree, summary: dict[str, Any], config: str, path: Path) -> None:
    """Writes the report of a variational run, finished or not, as one HTML file that needs nothing else.

    ``records`` are the groups of ``records.zarr``, ``summary`` what ``summarise_optimisation`` returns with ``title``,
    ``directory`` and ``version``, ``config`` a text to show below. It serves any problem that is variational.
    """
    summary = finite_only(summary)
    run = Stored(records, summary)
    plots = [energy(run), variance(run), dependence(run), maps(run)]
    done = summary["phase"] == "done"
    doubtful = bool(summary["warnings"]) or summary["verdict"] != "ok"
    page = render(
        "optimisation.html",
        summary=summary,
        status="unfinished" if not done else "caution" if doubtful else "good",
        phases=PHASES,
        reached=PHASES.index(summary["phase"]),
        tiles=_tiles(summary),
        rows=_rows(summary),
        plots=plots,
        left_out=[plot for plot in plots if not plot.panels],
        config=config,
    )
    write_atomically(page, Path(path))


def _tiles(summary: dict[str, Any]) -> list[Tile]:
    energy, seconds = summary["energy"] or {}, summary["seconds_per_step"]
    spent = sum(value or 0.0 for value in summary["seconds"].values())
    exact = summary["exact_energy"]
    against = "exact energy not known" if exact is None else f"against {exact:.6f}"
    return [
        Tile(
            _with_units("energy a site", summary["units"]),
            concise(energy.get("value"), energy.get("error")),
            "with the final parameters",
        ),
        Tile("relative error", plain(summary["relative_error"], 2), against),
        Tile("V-score", plain(summary["v_score"], 2), "N Var(H) / E², 0 for an eigenstate"),
        Tile("parameters", plain(summary["n_parameters"]), f"{summary['n_sites']} sites"),
        Tile("steps", plain(summary["n_steps"]), f"{duration(spent)} in all"),
        Tile("seconds a step", plain(seconds, 2), "without compiling"),
    ]


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    energy = summary["energy"]
    if energy is None:
        return []
    rows = [(_with_units("energy a site", summary["units"]), concise(energy["value"], energy["error"]))]
    if summary["exact_energy"] is not None:
        rows.append(("exact ground state", f"{summary['exact_energy']:.7f}"))
        rows.append(("relative error", plain(summary["relative_error"], 2)))
    rows.append((_with_units("variance of the energy", summary["units"], "²"), plain(summary["variance"], 3)))
    rows.append(("V-score", plain(summary["v_score"], 3)))
    rows.append(("R-hat of the energy", plain(energy["r_hat"], 4)))
    rows.append(("effective samples", plain(None if energy["ess"] is None else round(energy["ess"]))))
    return rows


def energy(run: Stored) -> Plot:
    """Energy a site against step, and its relative error where the exact energy is known."""
    plot = Plot("energy", "Energy while optimising")
    energies = run.values("optimisation", "energy")
    if energies is None:
        plot.caption = "No step is stored."
        return plot
    exact = run.summary.get("exact_energy")
    steps = np.arange(1, len(energies) + 1)
    smooth = _smoothed(energies)
    with plot.panel("Energy a site") as axes:
        axes.plot(steps, energies, color=BLUE, linewidth=0.7, alpha=0.5)
        axes.plot(steps, smooth, color=BLUE, label=f"mean of {N_SMOOTHED} steps")
        if exact is not None:
            axes.axhline(exact, color=VERMILION, linestyle="--", linewidth=1.2, label="exact")
        low, high = min(np.nanmin(energies), exact or np.inf), np.nanmax(energies[len(energies) // 10 :])
        axes.set(
            xlabel="step",
            ylabel=_with_units("$E / N$", run.summary.get("units", "")),
            ylim=(low - 0.05 * abs(high - low), high + 0.05 * abs(high - low)),
        )
        axes.legend()
    if exact is not None:
        with plot.panel("Relative error of the energy") as axes:
            axes.plot(steps, np.abs(energies - exact) / abs(exact), ".", color=BLUE, markersize=2, alpha=0.5)
            axes.plot(steps, np.abs(smooth - exact) / abs(exact), color=BLUE)
            axes.set(xlabel="step", ylabel=r"$|E - E_0| / |E_0|$", yscale="log")
    plot.caption = (
        "Energies are those of the parameters before each step, from the samples of that step; a single step is "
        "noisy, so the result is measured anew with the final parameters. A level that still falls asks for more steps."
    )
    return plot


def variance(run: Stored) -> Plot:
    """Variance as V-score, and the acceptance of the sampler."""
    plot = Plot("variance", "Variance and sampling")
    score = run.values("optimisation", "v_score")
    if score is None:
        plot.caption = "No step is stored."
        return plot
    steps = np.arange(1, len(score) + 1)
    with plot.panel(r"V-score, $N\,\mathrm{Var}(H) / E^2$") as axes:
        axes.plot(steps, score, color=BLUE, linewidth=0.9)
        axes.set(xlabel="step", ylabel="V-score", yscale="log")
    accepted = run.values("optimisation", "acceptance")
    if accepted is not None:
        with plot.panel("Acceptance of the sampler") as axes:
            axes.plot(steps, accepted, color=AMBER, linewidth=0.9)
            axes.set(xlabel="step", ylabel="acceptance", ylim=(0, 1.02))
    plot.caption = (
        "The variance vanishes for an eigenstate of H, whatever its energy; it falls with the error of the energy."
    )
    return plot


def dependence(run: Stored) -> Plot:
    """Relative spread of attention weights over configurations, per layer and head."""
    plot = Plot("input-dependence", "Dependence of attention on the input")
    spread, steps = run.values("attention", "input_dependence"), run.values("attention", "step")
    if spread is None or steps is None:
        plot.caption = "No attention weights are stored: the model has none, or its token lattice was not given."
        return plot
    if not np.any(spread):
        plot.caption = (
            "Zero for all layers and heads: the attention weights of this model do not see the configuration."
        )
        return plot
    for layer in range(spread.shape[1]):
        with plot.panel(f"Layer {layer + 1}") as axes:
            for head in range(spread.shape[2]):
                axes.plot(steps, spread[:, layer, head], color=CHAINS[head % len(CHAINS)], linewidth=1.2)
            axes.set(xlabel="step", ylabel="input-dependence", ylim=(0, None))
    plot.caption = (
        "Spread of the attention weights over configurations relative to their mean, one line a head: "
        "√(Σ Var α<sub>ij</sub> / Σ ⟨α<sub>ij</sub>⟩²). At zero, queries and keys do nothing that positions could not."
    )
    return plot


def maps(run: Stored) -> Plot:
    """Mean attention weight by displacement at the last observation, a picture for each head."""
    plot = Plot("attention-maps", "Attention maps")
    weights = run.values("attention", "attention_map")
    if weights is None:
        plot.caption = "No attention weights are stored: the model has none, or its token lattice was not given."
        return plot
    last = weights[-1]
    largest = float(np.abs(last).max())
    pictures = [(layer, head) for layer in range(last.shape[0]) for head in range(last.shape[1])]
    for layer, head in pictures[:N_MAPS_SHOWN]:
        with plot.panel(f"Layer {layer + 1}, head {head + 1}", height=2.7) as axes:
            _draw_map(axes, last[layer, head], largest)
    left = len(pictures) - N_MAPS_SHOWN
    plot.caption = (
        "Mean weight that a patch gives to the patch at a displacement from it, over configurations and patches, at "
        f"the last observation; red is positive, blue negative, the same scale everywhere (largest {largest:.2g})."
        + (f" {left} more heads are stored in the records." if left > 0 else "")
    )
    return plot


def _draw_map(axes: Axes, values: np.ndarray, largest: float) -> None:
    picture = np.atleast_2d(values)
    # Displacement zero in the middle.
    picture = np.roll(picture, [size // 2 for size in picture.shape], axis=(0, 1))
    axes.grid(visible=False)
    axes.imshow(picture, cmap="RdBu_r", vmin=-largest, vmax=largest, origin="lower", interpolation="nearest")
    rows, columns = picture.shape
    axes.set_xticks(range(columns), [str(column - columns // 2) for column in range(columns)])
    axes.set_yticks(range(rows), [str(row - rows // 2) for row in range(rows)])
    axes.set(xlabel="patches", ylabel="patches" if rows > 1 else "")
    axes.tick_params(color=MUTED)


def _smoothed(values: np.ndarray) -> np.ndarray:
    """The mean of the last ``N_SMOOTHED`` values at each place."""
    sums = np.cumsum(np.r_[0.0, values])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - N_SMOOTHED)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _with_units(words: str, units: str | None, power: str = "") -> str:
    return f"{words} / {units}{power}" if units else words
