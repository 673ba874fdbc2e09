"""One model learned once and used frozen at all points of a scan, beside models learned at each point.

    python benchmarks/learn_at.py

Writes ``benchmarks/results/learn_at.json`` and, from it, ``docs/results/learn_at.md``. Interrupted, it continues with
the scan that is missing.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from command import main
from result_file import ResultFile, table

import slmc
from slmc.statistics import notation


class Settings(NamedTuple):
    """The grid, the point at which the one model is learned, and how long the runs are."""

    shape: tuple[int, ...] = (6, 6)
    temperatures: tuple[float, ...] = (0.2, 0.1, 0.05)
    couplings: tuple[float, ...] = (0.8, 1.0, 1.2)
    learned_at: tuple[float, float] = (0.1, 1.0)
    n_updates: int = 10
    tuning: int = 40
    thermalise: int = 60
    learn: tuple[int, ...] = (100, 300)
    n_chains: int = 8
    n_steps: int = 400


QUICK = Settings((2, 2), (0.5, 0.2), (1.0,), (0.5, 1.0), 2, 10, 10, (20,), 4, 40)


def scanned(settings: Settings, once: bool) -> dict[str, Any]:
    """All points: with one model, or with one for each, which begins with that of the point beside."""
    temperature, coupling = settings.learned_at
    scan: dict[str, Any] = {
        "fields": {"target.temperature": settings.temperatures, "target.coupling": settings.couplings}
    }
    if once:
        scan["learn_at"] = {"target.temperature": [temperature], "target.coupling": [coupling]}
    chosen = {
        "scan": scan,
        "target": {"shape": settings.shape},
        "exact": {"n_steps": 3, "tuning_steps": settings.tuning},
        "thermalisation.n_steps": settings.thermalise,
        "model": {"name": "linear"},
        "inner": {"update": "heat-bath", "n_updates": settings.n_updates},
        "learning": {"n_rounds": len(settings.learn), "n_steps": settings.learn, "training_steps": 0},
        "measurement": {"n_chains": settings.n_chains, "n_steps": settings.n_steps, "observables": MEASURED},
        "baseline.n_steps": 0,
    }
    if settings.n_steps < 50:
        chosen["measurement"] |= {"block_size": 20}
    with tempfile.TemporaryDirectory() as folder:
        result = slmc.run("double_exchange", chosen, out=Path(folder) / "scan", quiet=True)
        return {"points": [_kept(point) for point in result.points]}  # type: ignore[union-attr]


MEASURED = ["magnetization_squared", "staggered_magnetization_squared", "energy"]


def _kept(point: dict[str, Any]) -> dict[str, Any]:
    names = ("temperature", "coupling", "acceptance", "residual", "exact_evaluations", "ess_per_exact_evaluation")
    return {name: point[name] for name in (*names, "observables", "verdict")} | {"model_of": point.get("model_of")}


ONCE, EACH = "one model", "a model at each point"


def make_all(results: ResultFile, settings: Settings) -> None:
    for name in (ONCE, EACH):
        results.make(name, scanned, settings, name == ONCE)


def write(results: ResultFile, settings: Settings) -> None:
    lines = []
    pairs = list(zip(results.rows[ONCE]["points"], results.rows[EACH]["points"], strict=True))
    for once, each in pairs:
        at = "learned here" if once["model_of"] is None else "frozen"
        cells = [f"{once['temperature']:g}", f"{once['coupling']:g}", at]
        for point in (once, each):
            ess = (point["ess_per_exact_evaluation"] or 0.0) * point["exact_evaluations"]["measurement"]
            total = sum(point["exact_evaluations"].values())
            energy = point["observables"]["energy"]
            cells += [
                f"{point['acceptance']:.3f}",
                f"{ess:.0f}",
                f"{total:,}",
                notation(energy["value"], energy["error"]),
            ]
        lines.append(tuple(cells))
    sums = [
        [sum(p["exact_evaluations"][kind] for p in points) for kind in KINDS] for points in zip(*pairs, strict=True)
    ]
    header = (
        *("T", "J", "model", "acceptance", "effective samples", "evaluations", "energy"),
        *("acceptance, own model", "effective samples", "evaluations", "energy"),
    )
    size = " × ".join(map(str, settings.shape))
    page = PAGE.format(
        provenance=results.provenance(),
        table=table(header, lines),
        size=size,
        temperature=settings.learned_at[0],
        coupling=settings.learned_at[1],
        n_updates=settings.n_updates,
        n_points=len(lines),
        once=f"{sum(sums[0]):,}",
        each=f"{sum(sums[1]):,}",
        before_once=f"{sums[0][0]:,}",
        before_each=f"{sums[1][0]:,}",
    )
    (results.page_folder / "learn_at.md").write_text(page)


KINDS = ("learning", "measurement")

PAGE = """# One model for a whole scan

{provenance}

Double exchange on {size} sites with the linear model, a proposal being {n_updates} heat-bath sweeps. With
`[scan.learn_at]` the model is learned at T = {temperature}, J = {coupling} alone; all other points propose with it,
frozen. A model keeps its H_eff and takes the temperature of the point, log W_eff = −H_eff/T. Beside it the same scan
with a model learned at each point, which begins with that of the point beside. Both are exact: only acceptances and
costs differ. Effective samples are those of m_st².

{table}

All {n_points} points together took {once} exact evaluations with one model ({before_once} of them before the
measurement) and {each} with a model at each point ({before_each}). What is left before the measurement is thermalising,
with the exact weight at every point.
"""


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": make_all}, write)
