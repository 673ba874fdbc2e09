"""The figure of replica exchange: how often neighbours swap, and where walkers go."""

import numpy as np

from slmc.montecarlo import round_trips
from slmc.report.drawing import BLUE, CHAINS, Plot
from slmc.report.notation import plain
from slmc.report.stored import Stored, thinned

N_WALKERS_SHOWN = 4
N_STEPS_SHOWN = 400


def ladder(run: Stored) -> Plot:
    """Swap acceptance of each pair of rungs and the paths of some walkers; nothing where there are no replicas."""
    plot = Plot("ladder", "The ladder")
    name = run.drawn_as("walkers")
    walkers = None if name is None else run.values("measurement", name)
    if walkers is None or walkers.ndim != 3 or walkers.shape[1] < 2:
        return plot
    swapped = walkers[:, 1:, :-1] != walkers[:, :-1, :-1]
    swapped &= walkers[:, 1:, :-1] == walkers[:, :-1, 1:]
    n_pairs = swapped.shape[2]
    with plot.panel("Swaps of neighbouring rungs") as axes:
        # Every pair is tried in half of the steps.
        axes.plot(np.arange(1, n_pairs + 1) + 0.5, 2 * swapped.mean((0, 1)), "o-", color=BLUE)
        axes.set(xlabel="between rungs", ylabel="acceptance of swaps", ylim=(0, 1.02), xlim=(1, n_pairs + 1))
        axes.set_xticks(range(1, n_pairs + 2))
    with plot.panel("Walkers of the first chain") as axes:
        places = np.argsort(walkers[0], axis=1).T + 1
        for walker, colour in zip(places[:: max(1, len(places) // N_WALKERS_SHOWN)], CHAINS, strict=False):
            steps, path = thinned(walker[None], N_STEPS_SHOWN)
            axes.plot(steps + 1, path[0], color=colour, linewidth=0.9)
        axes.set(xlabel="measurement step", ylabel="rung")
        axes.set_yticks(range(1, n_pairs + 2))
    n_trips = sum(round_trips(chain).n_round_trips for chain in swapped)
    n_walkers = walkers.shape[0] * walkers.shape[2]
    plot.caption = (
        f"{plain(n_trips)} round trips, from one end of the ladder to the other and back, by {n_walkers} walkers in "
        f"{walkers.shape[1]} steps. Swaps should be equally likely everywhere; a pair that hardly swaps cuts the "
        "ladder in two, and without round trips the chains learn nothing from the other rungs."
    )
    return plot
