"""Figures of what is measured over all wave vectors of a torus."""

import numpy as np
from matplotlib.colors import LogNorm, Normalize

from slmc.report.drawing import BLUE, MUTED, VERMILION, Plot
from slmc.report.figures.axes import (
    from_zero,
    plain_logs,
)
from slmc.report.notation import plain
from slmc.report.stored import Stored, correlations


def structure(run: Stored) -> Plot:
    """A field over all wave vectors, and correlations by distance; nothing, not even a caption, where there is none."""
    plot = Plot("structure", "Structure factor and correlations")
    name = run.drawn_as("wave vectors")
    values = None if name is None else run.values("measurement", name)
    if name is None or values is None or values.ndim < 3:
        return plot
    blocks = values.reshape(-1, *values.shape[2:])
    blocks = blocks[np.isfinite(blocks).reshape(len(blocks), -1).all(1)]
    factor, symbol = blocks.mean(0), run.symbol(name)
    title = f"{symbol.words[:1].upper()}{symbol.words[1:]} {symbol.mathtext}"
    {1: _structure_line, 2: _structure_plane}.get(factor.ndim, _structure_slices)(plot, factor, title)
    _correlation_panel(plot, blocks, factor.ndim)
    peak = np.unravel_index(int(factor.argmax()), factor.shape)
    vector = ", ".join(_wave_number(int(n), extent) for n, extent in zip(peak, factor.shape, strict=True))
    plot.caption = (
        f"{symbol.html} is largest at <i>q</i> = "
        f"{vector if factor.ndim == 1 else f'({vector})'}, where it is {plain(float(factor.max()))}. "
        + _wrapping(factor.shape)
        + " Correlations, its Fourier transform, are averaged over each shell of equal distance; error bars are from "
        "block means."
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
        sentence += " An odd extent has no two sublattices."
    return sentence


def _structure_line(plot: Plot, factor: np.ndarray, title: str) -> None:
    with plot.panel(title) as axes:
        whole = _centred(factor)
        axes.plot(_wave_numbers(factor.shape[0]), whole, "o-", color=BLUE, markersize=4)
        axes.set(xlabel="$q$")
        axes.set_xticks(np.pi * np.array([-1, -0.5, 0, 0.5, 1]), ["−π", "−π/2", "0", "π/2", "π"])
        from_zero(axes)


def _structure_plane(plot: Plot, factor: np.ndarray, title: str) -> None:
    _draw_plane(plot, factor, title, _scale(factor))


def _structure_slices(plot: Plot, factor: np.ndarray, title: str) -> None:
    """The planes q_z = 0 and q_z = π (on an odd extent the nearest to it); axes beyond the third are at q = 0."""
    factor = factor.reshape(*factor.shape[:3], -1)[..., 0]
    for index in sorted({0, factor.shape[2] // 2}):
        at = _wave_number(index, factor.shape[2])
        _draw_plane(plot, factor[:, :, index], f"{title} in the plane $q_z$ = {at}", _scale(factor))


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
            plain_logs(bar.ax)


def _correlation_panel(plot: Plot, blocks: np.ndarray, n_dimensions: int) -> None:
    by_shell = correlations(blocks, n_dimensions)
    if len(by_shell.distances) < 2:
        return
    bipartite = all(extent % 2 == 0 or extent == 1 for extent in blocks.shape[1:])
    with plot.panel("Correlation by distance", height=3.5 if n_dimensions > 1 else 3.0) as axes:
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.plot(by_shell.distances[1:], by_shell.means[1:], color=MUTED, linewidth=0.8, zorder=1)
        groups = [(by_shell.even, "same sublattice", "o", BLUE), (~by_shell.even, "other sublattice", "s", VERMILION)]
        for members, label, marker, colour in (
            groups if bipartite else [(by_shell.means < np.inf, "all sites", "o", BLUE)]
        ):
            chosen = members & (by_shell.distances > 0)
            axes.errorbar(
                by_shell.distances[chosen], by_shell.means[chosen], by_shell.errors[chosen], fmt=marker, color=colour,
                markersize=4.5, label=label,
            )  # fmt: skip
        axes.set(xlabel="distance $r$ in lattice constants", ylabel="correlation $C(r)$", xlim=(0, None))
        if bipartite:
            axes.figure.legend(loc="outside lower center", ncols=2)


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
