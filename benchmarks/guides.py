"""What smearing a guide of self-learning hybrid Monte Carlo needs: held-out loss of stout, attention, and positions.

    python benchmarks/guides.py [MASS …]

SU(2), 4⁴, β = 2.7, four staggered flavours of m = 0.3; guides of the given masses (all by default) fitted to the change
of log W along trajectories, each with and without gauge couplings of its own and a scale. Writes
``benchmarks/results/guides.json`` and, from it, ``docs/results/guides.md``. Interrupted, it continues. For the times
run ``taskset -c 0 python benchmarks/guides.py``.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from command import Part, main
from gauge import labelled_changes, pseudofermion_hmc
from result_file import ResultFile, table
from timing import least_seconds

from slmc.montecarlo import Label
from slmc.selflearning import GaussNewtonSettings, expected_acceptance, fit_gauss_newton
from slmc.statistics import notation
from slmc.systems.gauge import (
    ActionChange,
    CaskSmearing,
    FermionGuide,
    GaugeAction,
    LoopAction,
    PseudofermionAction,
    Smearing,
    Solver,
    Staggered,
    StoutSmearing,
    random_links,
)
from slmc.systems.gauge.dynamical import GivenPseudofermion
from slmc.systems.gauge.guide import trained_part
from slmc.systems.gauge.smearing import LOOPS

LOOPS_OF_SMEARING = ("plaquette", "spatial Polyakov", "temporal Polyakov")


class Settings(NamedTuple):
    """Trajectories of ``length`` steps for each mass of a guide; labels to fit and as many more held out by chains."""

    shape: tuple[int, ...] = (4, 4, 4, 4)
    beta: float = 2.7
    mass: float = 0.3
    guides: tuple[tuple[float, int], ...] = ((0.4, 6), (0.5, 6), (0.75, 3))
    smearings: tuple[str, ...] = ("none", "stout", "CASK", "positions")
    n_layers: tuple[int, ...] = (1, 2, 4)
    seeds: tuple[int, ...] = (1, 2, 3)
    n_chains: int = 4
    n_labels: int = 384
    n_steps: int = 12


# The 236 labels of four chains are 60 steps, as many as come before them: one program.
QUICK = Settings((2, 2), 1.2, 0.3, ((0.5, 2),), ("none", "stout"), (1,), (1,), 4, 236, 2)


def smearing_of(kind: str, n_layers: int) -> Smearing | None:
    """Weights small enough for four layers and large enough for attention to have a gradient."""
    if kind == "none":
        return None
    if kind == "stout":
        return StoutSmearing(n_layers, LOOPS_OF_SMEARING, 0.02)
    return CaskSmearing(n_layers, LOOPS_OF_SMEARING, 0.05, "positions" if kind == "positions" else "links")


def guide_of(settings: Settings, mass: float, kind: str, n_layers: int) -> FermionGuide:
    gauge = GaugeAction(settings.shape, 2, settings.beta)
    operator, smearing = Staggered(settings.shape, 2, mass), smearing_of(kind, n_layers)
    fermions = PseudofermionAction(gauge, operator, smearing=smearing, solver=Solver(1e-9))
    return FermionGuide(LoopAction(gauge, LOOPS), fermions)


def smearing_alone(change: ActionChange) -> list[Any]:
    """What is trained of a guide without couplings and scale."""
    return trained_part(change)[2:]


def data(settings: Settings, length: int, seed: int) -> tuple[Label, Label, PseudofermionAction]:
    """Labelled trajectories to fit and held out, and the target."""
    gauge = GaugeAction(settings.shape, 2, settings.beta)
    action = PseudofermionAction(gauge, Staggered(settings.shape, 2, settings.mass), solver=Solver(1e-9))
    links = random_links(jax.random.key(seed), settings.shape, 2, settings.n_chains)
    update = pseudofermion_hmc(action, 0.12, length)
    _, labels, held_out = labelled_changes(update, action, links, settings.n_labels // settings.n_chains)
    return labels, held_out, action


def force_seconds(action: Any, ends: Any) -> float:
    """Seconds of one force of the links."""
    force = eqx.filter_jit(lambda action, links, phi: jax.grad(GivenPseudofermion(action, phi).log_weight)(links))
    start, phi = ends.start[0], ends.pseudofermion[0]
    return least_seconds(lambda: force(action, start, phi), 10)


def rows(results: ResultFile, settings: Settings, wanted: float) -> None:
    several = functools.cache(lambda length, seed: data(settings, length, seed))
    for mass, length in settings.guides:
        if mass != wanted:
            continue
        for kind in settings.smearings:
            for n_layers in settings.n_layers if kind != "none" else (0,):
                for own in (False, True):
                    if kind == "none" and not own:
                        continue
                    for seed in settings.seeds:
                        name = f"{mass} {kind} {n_layers} {'own' if own else 'bare'} {seed}"
                        results.make(name, _fitted, settings, mass, kind, n_layers, own, several, length, seed)


def _fitted(
    settings: Settings, mass: float, kind: str, n_layers: int, own: bool, several: Any, length: int, seed: int
) -> dict[str, Any]:
    labels, held_out, action = several(length, seed)
    change = ActionChange(guide_of(settings, mass, kind, n_layers))
    where = trained_part if own else smearing_alone
    steps = GaussNewtonSettings(settings.n_steps)
    found = fit_gauss_newton(change, labels, held_out, steps, where)
    guide = found.model.action
    return {
        "mass": mass, "kind": kind, "n_layers": n_layers, "own": own,
        "n_parameters": int(sum(np.size(leaf) for leaf in where(change))),
        "loss": found.residual**2, "loss before": float(found.history[0, 2] ** 2),
        "n_held_out": len(held_out.log_weight),
        "variance": float(np.var(held_out.log_weight)),
        "force seconds": force_seconds(guide, held_out.configuration),
        "exact force seconds": force_seconds(action, held_out.configuration),
        "parameters": [np.asarray(leaf).tolist() for leaf in where(found.model)],
    }  # fmt: skip


def page(results: ResultFile, folder: Any) -> None:
    """Writes guides.md: means over seeds, errors from them (of one seed: from the number of held-out pairs)."""
    lines, groups = [], dict.fromkeys(name.rsplit(" ", 1)[0] for name in results.rows)
    for group in groups:
        found = [row for name, row in results.rows.items() if name.rsplit(" ", 1)[0] == group]
        losses, first = np.array([row["loss"] for row in found]), found[0]
        error = losses[0] * np.sqrt(2 / max(1, first["n_held_out"] - 1)) if len(losses) == 1 else _error(losses)
        lines.append((
            f"{first['mass']:g}", first["kind"], str(first["n_layers"]), "yes" if first["own"] else "no",
            str(first["n_parameters"]), notation(float(losses.mean()), float(error)),
            f"{expected_acceptance(float(np.sqrt(losses.mean())) / np.sqrt(2)):.2f}",
            f"{np.mean([row['force seconds'] / row['exact force seconds'] for row in found]):.2f}",
        ))  # fmt: skip
    header = ("guide's m", "smearing", "layers", "own couplings and scale", "numbers", "held-out loss",
              "erfc(√(loss/8))", "force / exact force")  # fmt: skip
    words = (
        "The loss is the variance of the guide's error in the change of log W along a trajectory of HMC, on pairs held "
        'out; smearings have plaquettes and Polyakov lines in space and time. "positions" is attention without queries '
        "and keys. With couplings and a scale of its own a guide has four loops of the gauge action and a factor of "
        "the fermion term to fit besides."
    )
    text = "\n\n".join([
        "# Guides of self-learning hybrid Monte Carlo", results.provenance(), words, table(header, lines) + "\n"
    ])  # fmt: skip
    (folder / "guides.md").write_text(text)


def _error(losses: np.ndarray) -> float:
    return float(losses.std(ddof=1) / np.sqrt(len(losses)))


def part_of(mass: float) -> Part:
    """The guides of one mass."""
    return lambda results, settings: rows(results, settings, mass)


def parts(settings: Settings) -> dict[str, Part]:
    return {f"{mass:g}": part_of(mass) for mass, _ in settings.guides}


def write(results: ResultFile, settings: Settings) -> None:
    page(results, results.page_folder)


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), parts, write, choose="masses of guides to run")
