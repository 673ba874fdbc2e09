"""What one evaluation costs against the number of sites: exact weight, force, network, linear model; 4×4 to 40×40.

    python benchmarks/cost.py

Writes ``benchmarks/results/cost.json`` and, from it, ``docs/results/cost.md`` and ``.svg``. Interrupted, it continues.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from command import main
from exact_labels import SPHERE
from matplotlib import pyplot
from result_file import ResultFile, table
from timing import least_seconds

from slmc.lattice import n_sites
from slmc.montecarlo import SinglePrecision
from slmc.systems.spins import DoubleExchange, EquivariantNetwork


class Settings(NamedTuple):
    """Sizes of the square lattices, and from which number of sites on exponents are fitted."""

    sizes: tuple[int, ...] = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40)
    fitted_from: int = 100
    network: tuple[int, int, int, int | None] = (2, 12, 32, 3)


QUICK = Settings((2, 4, 6), 4, (1, 2, 3, 1))

SERIES = {
    "exact": "exact log W (eigenvalues)",
    "exact force": "exact force (eigenvectors)",
    "network": "network log W",
    "network force": "network log W and force",
    "network force, single precision": "the same in float32",
    "linear force": "linear model, log W and force, all displacements",
}


def functions(size: int, settings: Settings) -> dict[str, Callable[[jax.Array], Any]]:
    """What is timed, by name, for one configuration."""
    shape = (size, size)
    target = DoubleExchange(shape)
    n_layers, n_channels, n_hidden, reach = settings.network
    network = EquivariantNetwork(shape, n_layers, n_channels, n_hidden, reach, key=jax.random.key(0))
    linear = EquivariantNetwork(shape, 1, 1, 1, key=jax.random.key(0)).linear

    def linear_log_weight(spins: jax.Array) -> jax.Array:
        return linear(shape, None, spins.reshape(-1, 3).T)

    return {
        "exact": target.log_weight,
        "exact force": jax.value_and_grad(target.log_weight),
        "network": network.log_weight,
        "network force": jax.value_and_grad(network.log_weight),
        "network force, single precision": jax.value_and_grad(SinglePrecision(network).log_weight),
        "linear force": jax.value_and_grad(linear_log_weight),
    }


def measured(size: int, settings: Settings) -> dict[str, float]:
    """Seconds of one evaluation for one configuration, one core, out of a program that does four at once."""
    spins = SPHERE.random(jax.random.key(1), (4, size, size, 3))
    return {name: _seconds(function, spins) for name, function in functions(size, settings).items()}


def _seconds(function: Callable[[jax.Array], Any], spins: jax.Array) -> float:
    """The least of several runs of a program that repeats cheap evaluations and does a dear one once."""
    one = jax.jit(jax.vmap(function))
    jax.block_until_ready(one(spins[:1]))
    once = _timed(one, spins[:1])
    if once > 0.5:
        return once
    n_repeats = 10

    def repeated(spins: jax.Array) -> jax.Array:
        def body(moved: jax.Array, _: None) -> tuple[jax.Array, None]:
            total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(jax.vmap(function)(moved)))
            return moved * (1 + 1e-300 * total), None

        return jax.lax.scan(body, spins, length=n_repeats)[0]

    program = jax.jit(repeated)
    return least_seconds(lambda: program(spins), 5) / (n_repeats * len(spins))


def _timed(program: Callable[[jax.Array], Any], spins: jax.Array) -> float:
    started = time.perf_counter()
    jax.block_until_ready(program(spins))
    return time.perf_counter() - started


def exponent(results: ResultFile, settings: Settings, name: str) -> tuple[float, float]:
    """Slope of log(seconds) against log(sites) and its standard error, from ``fitted_from`` sites on."""
    sizes = [size for size in settings.sizes if n_sites((size, size)) >= settings.fitted_from]
    x = np.log([size**2 for size in sizes])
    y = np.log([results.rows[f"{size}x{size}"][name] for size in sizes])
    slope, offset = np.polyfit(x, y, 1)
    scatter = np.sum((y - slope * x - offset) ** 2) / max(1, len(x) - 2)
    return float(slope), float(np.sqrt(scatter / np.sum((x - x.mean()) ** 2)))


def draw(results: ResultFile, settings: Settings, path: Any) -> None:
    """The log-log figure."""
    figure, axes = pyplot.subplots(figsize=(7, 4.6), layout="constrained")
    sites = [size**2 for size in settings.sizes]
    for name, words in SERIES.items():
        slope, error = exponent(results, settings, name)
        seconds = [results.rows[f"{size}x{size}"][name] for size in settings.sizes]
        axes.loglog(sites, seconds, "o-", markersize=4, label=f"{words}: $N^{{{slope:.2f}({100 * error:.0f})}}$")
    axes.set(xlabel="sites $N$", ylabel="seconds per configuration, one core")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def page(results: ResultFile, settings: Settings) -> str:
    """What the documentation shows."""
    rows = results.rows
    lines = []
    for size in settings.sizes:
        row = rows[f"{size}x{size}"]
        ratios = (row["exact"] / row["network"], row["exact force"] / row["network force"])
        times = [f"{1e3 * row[name]:.3g}" for name in SERIES]
        lines.append((f"{size}×{size}", *times, *(f"{ratio:.3g}" for ratio in ratios)))
    header = ("lattice", *SERIES.values(), "exact / network, log W", "exact / network, with force")
    n_layers, n_channels, n_hidden, reach = settings.network
    return "\n".join(
        [
            "# Cost against size\n",
            results.provenance() + "\n",
            "![Seconds of one evaluation against the number of sites](cost.svg)\n",
            f"Milliseconds of one evaluation of one configuration on one core. The network has {n_layers} layers, "
            f"{n_channels} channels, {n_hidden} hidden values and filters that reach {reach} sites. Exponents in the "
            f"figure are fitted from {settings.fitted_from} sites on; their errors are those of the fit.\n",
            table(header, lines),
            "",
        ]
    )


def measure_all(results: ResultFile, settings: Settings) -> None:
    for size in settings.sizes:
        results.make(f"{size}x{size}", measured, size, settings)


def write(results: ResultFile, settings: Settings) -> None:
    draw(results, settings, results.page_folder / "cost.svg")
    (results.page_folder / "cost.md").write_text(page(results, settings))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write, on_one_device=["all"])
