"""The examples that have no benchmark of their own: what they print, and a figure of what they found.

    python benchmarks/examples.py

Runs ``examples/05_own_target.py`` and ``examples/07_replica_exchange.py`` as they are and writes
``benchmarks/results/examples.json`` and ``docs/results/own_target.md``, ``replica_exchange.md`` with their figures.
"""

import contextlib
import io
import re
import runpy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from command import main
from matplotlib import pyplot
from matplotlib.figure import Figure
from result_file import ROOT, ResultFile

from slmc.montecarlo import round_trips

SMALLER = ((r"shape, n_chains, n_steps = .*", "shape, n_chains, n_steps = (2, 2), 4, 20"),)


def executed(name: str, quick: bool) -> tuple[dict[str, Any], str]:
    """The variables an example leaves behind, and what it prints; its files are written where this is called."""
    source = (ROOT / "examples" / name).read_text()
    for pattern, replacement in SMALLER if quick else ():
        source = re.sub(pattern, replacement, source)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        path = Path(name)
        path.write_text(source)
        variables = runpy.run_path(str(path))
    return variables, printed.getvalue()


def draw_own_target(found: dict[str, Any]) -> Figure:
    """Exact against effective log-weight of held-out configurations, and the couplings that were learned."""
    learning = found["result"].records["learning"]
    exact, effective = learning["exact"].values, learning["predicted"].values
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained")
    left.plot(effective - effective.mean(), exact - exact.mean(), "o", markersize=4)
    left.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
    left.set(xlabel=r"$\log W_\mathrm{eff}$, centred", ylabel=r"$\log W$, centred")
    couplings = np.asarray(found["result"].model.couplings)
    places = np.arange(len(couplings))
    right.bar(places - 0.2, couplings[:, 0], 0.4, label="$S_i \\cdot S_j$")
    right.bar(places + 0.2, couplings[:, 1], 0.4, label="$(S_i \\cdot r)(S_j \\cdot r)$")
    right.set_xticks(places, ["nearest", "diagonal"])
    right.set(ylabel="coupling / T")
    right.axhline(0, color="0.6", linewidth=0.8)
    right.legend(frameon=False)
    return figure


def draw_replica_exchange(found: dict[str, Any]) -> Figure:
    """The ladder from round to round, and where the walkers of one chain went."""
    learned, swapped = found["learned"], np.asarray(found["swapped"])[0]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained")
    for number, report in enumerate(learned.reports, 1):
        middle = np.sqrt(report.temperatures[1:] * report.temperatures[:-1])
        left.plot(middle, report.swap_acceptance, "o-", label=f"round {number}")
    left.set(xlabel="temperature between the pair", ylabel="swap acceptance", xscale="log", ylim=(0, 1))
    left.legend(frameon=False)
    walkers = round_trips(swapped).walkers[:200]
    for walker in range(walkers.shape[1]):
        place = np.argmax(walkers == walker, axis=1)
        right.plot(place, linewidth=0.8)
    right.set_yticks(range(walkers.shape[1]), [f"{t:.3f}" for t in learned.temperatures])
    right.set(xlabel="step", ylabel="temperature of each walker")
    return figure


PAGES: dict[str, tuple[str, str, str, Callable[[dict[str, Any]], Figure]]] = {
    "own_target": (
        "05_own_target.py",
        "A target of your own: dipolar magnet",
        "A classical magnet with exchange and dipolar forces between all pairs, whose weight is NumPy code outside "
        "JAX. The effective model has four numbers. Left: exact and effective log-weight of held-out "
        "configurations; right: what was learned. The chain that proposes with it and the exact one agree within their "
        "errors.",
        draw_own_target,
    ),
    "replica_exchange": (
        "07_replica_exchange.py",
        "Replica exchange of learned updates",
        "At each temperature a linear model of its own proposes, and neighbours swap. Left: the acceptance of swaps "
        "in each round of learning, between which the temperatures move; right: where the walkers of one chain go.",
        draw_replica_exchange,
    ),
}


def make(results: ResultFile, settings: dict[str, Any], name: str) -> None:
    """Runs an example in a folder of its own, unless its row is there, and draws its figure."""
    if name in results.rows:
        return
    script, _, _, draw = PAGES[name]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        variables, printed = executed(script, settings["quick"])
        figure = draw(variables)
    figure.savefig(results.page_folder / f"{name}.svg")
    pyplot.close(figure)
    results.add(name, {"script": script, "printed": printed})


def write(results: ResultFile, settings: dict[str, Any]) -> None:
    for name, (script, title, text, _) in PAGES.items():
        page = [
            f"# {title}\n",
            results.provenance() + "\n",
            text + "\n",
            f"![{title}]({name}.svg)\n",
            f"`python examples/{script}` prints:\n",
            f"```\n{results.rows[name]['printed'].rstrip()}\n```",
            "",
        ]
        (results.page_folder / f"{name}.md").write_text("\n".join(page))


PARTS = {name: partial(make, name=name) for name in PAGES}

if __name__ == "__main__":
    main(__file__, __doc__, ({"quick": False}, {"quick": True}), PARTS, write)
