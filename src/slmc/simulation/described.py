"""What the records say of themselves: how observables are written, drawn and judged, as attributes beside the numbers.

Units and descriptions are attributes of each variable, and so is the rest of ``Observable.attributes``. Attributes of a
group tell in ``observables`` their order, in ``derived`` what is derived from them, and ``figure_of_merit`` and
``n_samples``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray

from slmc.simulation.records import Records
from slmc.statistics import Estimate
from slmc.system import LOG_WEIGHT, Problem, estimates_of


def describe(records: Records, group: str, problem: Problem) -> None:
    """Writes beside a group what a problem says of what is in it."""
    attributes = {name: about.attributes for name, about in problem.described.items()}
    records.describe(group, attributes, _group_attributes(problem))


def _group_attributes(problem: Problem) -> dict[str, Any]:
    return {
        "observables": [about.name for about in problem.observables],
        "derived": {about.name: about.attributes for about in problem.derived},
        "figure_of_merit": problem.figure_of_merit.name,
        "n_samples": problem.n_samples,
        **({"equation": problem.equation} if problem.equation else {}),
    }


class Measured(NamedTuple):
    """What was measured: names that are shown, the figure of merit, samples of the disorder, the problem if known."""

    names: list[str]
    figure_of_merit: str
    n_samples: int
    problem: Problem | None

    def estimates(self, series: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
        """Of all that is shown; what is derived needs the problem."""
        if not series:
            return {}
        if self.problem is not None:
            return self.problem.estimates(series)
        return estimates_of(self.names, series, self.n_samples)

    def estimate_of_merit(self, series: Mapping[str, np.ndarray]) -> Estimate:
        """That of the observable whose effective samples are quoted."""
        return estimates_of([self.figure_of_merit], series, self.n_samples)[self.figure_of_merit]


def measured(records: Records, problem: Problem | None) -> Measured:
    """What a run measures, from its problem, or from what its records say where there is no problem at hand."""
    if problem is not None:
        names = [observable.name for observable in problem.observables if observable.shown]
        return Measured(names, problem.figure_of_merit.name, problem.n_samples, problem)
    about, attributes = records.attributes("measurement")
    names = [name for name in about.get("observables", ()) if attributes.get(name, {}).get("shown", True)]
    return Measured(names, about.get("figure_of_merit", LOG_WEIGHT.name), int(about.get("n_samples", 1)), None)


def described_tree(records: Records, problem: Problem | None) -> xarray.DataTree:
    """The records with all that is known of them: those of runs begun by earlier versions do not tell everything."""
    tree = records.tree()
    if problem is None:
        return tree
    for group in tree.children.values():
        group.attrs = {**_group_attributes(problem), **group.attrs}
        for name, variable in group.data_vars.items():
            about = problem.described.get(str(name))
            if about is not None:
                variable.attrs = {**about.attributes, **variable.attrs}
    return tree
