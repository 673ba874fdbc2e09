"""The documentation page of benchmarks/gauge.py, from its stored rows; parts that were not run are left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from result_file import ResultFile, table

from slmc.statistics import notation

NAMES = ("plaquette", "Polyakov loop", "Polyakov loop²", "Polyakov loop⁴", "condensate")

SLOW_DETERMINANTS = "0832841"
"""A commit whose determinants were slow, for rows that are not measured anew yet."""


def page(results: ResultFile, settings: Any) -> None:
    """Writes gauge.md, and gauge_slhmc.svg where there are rows for it."""
    rows, folder = results.rows, results.page_folder
    parts = [_pure, _quenched, _fermions, _slmc, _slhmc, _cost]
    text = ["# Lattice gauge theory\n", results.provenance() + "\n", *(part(rows) for part in parts)]
    text.append(_gpu(results.path.with_name("gpu.json")))
    if any(name.startswith("slhmc") and "history" in row for name, row in rows.items()):
        _draw(rows, folder / "gauge_slhmc.svg")
    (folder / "gauge.md").write_text("\n".join(one for one in text if one).rstrip() + "\n")


def shown(row: dict[str, Any], name: str) -> str:
    found = row["estimates"][name]
    return notation(found["value"], found["error"])


def _deviation(row: dict[str, Any], expected: float, error: float = 0.0, name: str = "plaquette") -> str:
    found = row["estimates"][name]
    return f"{(found['value'] - expected) / np.hypot(found['error'], error):+.1f} σ"


def _pure(rows: dict[str, Any]) -> str:
    lines = [
        (name.removeprefix("torus "), f"{row['beta']:g}", shown(row, "plaquette"), f"{row['exact']:.6f}",
         _deviation(row, row["exact"]))
        for name, row in rows.items() if name.startswith("torus")
    ]  # fmt: skip
    strong = [
        (name.removeprefix("strong "), f"{row['beta']:g}", shown(row, "plaquette"), f"{row['leading']:.4f}",
         f"{row['one_plaquette'] + 4 * row['one_plaquette'] ** 5:.5f}",
         _deviation(row, row["one_plaquette"] + 4 * row["one_plaquette"] ** 5),
         _deviation(row, row["one_plaquette"]))
        for name, row in rows.items() if name.startswith("strong")
    ]  # fmt: skip
    text = []
    if lines:
        text += ["## Two dimensions\n\nPlaquette on a periodic torus against the character expansion.\n",
                 table(("group, update", "β", "plaquette", "exact", "deviation"), lines), ""]  # fmt: skip
    if strong:
        header = ("group", "β", "plaquette", "β/4 or β/18", "u + 4u⁵", "deviation", "deviation from u alone")
        text += ["## Strong coupling in four dimensions\n\nu: one plaquette alone; 4u⁵: the cubes on it.\n",
                 table(header, strong), ""]  # fmt: skip
    return "\n".join(text)


def _quenched(rows: dict[str, Any]) -> str:
    found = {name: row for name, row in rows.items() if name.startswith("quenched")}
    if not found:
        return ""
    lines = [
        (name.removeprefix("quenched "), f"{row['beta']:g}", shown(row, "plaquette"), f"{row['expected']}",
         f"{row['acceptance']:.2f}", f"{row['estimates']['plaquette']['ess']:.0f}", f"{row['seconds']:.0f} s")
        for name, row in found.items()
    ]  # fmt: skip
    header = ("group, update", "β", "plaquette", "reference", "acceptance", "effective samples", "time")
    return "## Quenched\n\n" + table(header, lines) + "\n"


def _fermions(rows: dict[str, Any]) -> str:
    found = {name.removeprefix("fermions "): row for name, row in rows.items() if name.startswith("fermions")}
    if not found:
        return ""
    three = ("plaquette", "Polyakov loop", "condensate")
    lines = [
        (name, *(shown(row, one) for one in three), " / ".join(_effective(row, one) for one in three),
         f"{row['acceptance']:.2f}", f"{row['rational_error']:.0e}" if "RHMC" in name else "")
        for name, row in found.items()
    ]  # fmt: skip
    partners = [
        (row, found[name.replace("determinant", other)])
        for name, row in found.items()
        for other in ("pseudofermions", "RHMC")
        if "determinant" in name and name.replace("determinant", other) in found
    ]
    header = (
        "lattice, β, method, flavours",
        "plaquette",
        "Polyakov loop",
        "condensate",
        "effective samples of each",
        "acceptance",
        "rational error",
    )
    text = "## Pseudofermions, RHMC and the exact determinant\n\nSU(2), staggered, HMC by the Omelyan integrator. "
    text += "Trajectories of length 1.8 with the gauge action on finer steps; those of pseudofermions are guided by "
    text += "forces of residual 1e-5 and decided with 1e-9. Every chain starts from quenched links. "
    text += "An exclamation mark says that chains disagree (R-hat > 1.05), so that the error is too small.\n\n"
    text += table(header, lines) + "\n"
    return text + _agreement("the determinant", partners, three)


def _effective(row: dict[str, Any], name: str) -> str:
    """Effective samples, with an exclamation mark where chains disagree."""
    found = row["estimates"][name]
    doubt = "!" if found["r_hat"] is not None and found["r_hat"] > 1.05 else ""
    return f"{found['ess'] or np.nan:.0f}{doubt}"


def _agreement(what: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]], names: tuple[str, ...]) -> str:
    """How far the estimates of pairs of rows are apart, in their errors."""
    apart = []
    for one, other in pairs:
        for name in names:
            a, b = one["estimates"][name], other["estimates"][name]
            apart.append((a["value"] - b["value"]) / np.hypot(a["error"], b["error"]))
    if not apart:
        return ""
    squared = float(np.sum(np.square(apart)))
    return (
        f"\nDifferences from {what}: χ² = {squared:.1f} for {len(apart)} comparisons, the largest "
        f"{np.max(np.abs(apart)):.1f} σ.\n"
    )


def _slmc(rows: dict[str, Any]) -> str:
    found = {name.removeprefix("slmc "): row for name, row in rows.items() if name.startswith("slmc")}
    if not found:
        return ""
    lines, learned = [], []
    for name, row in found.items():
        loop = row["estimates"]["Polyakov loop"]
        ess = loop["ess"] or np.nan
        lines.append((name, *(shown(row, one) for one in NAMES), f"{row['acceptance']:.2f}",
                      _effective(row, "Polyakov loop"), f"{row['n_draws'] / 2 / ess:.2g}",
                      f"{ess / row['seconds']:.2g}"))  # fmt: skip
        if "residual" in row:
            coefficients = "; ".join(np.array2string(np.asarray(one), precision=4) for one in row["coefficients"])
            learned.append(
                (name, f"{row['residual']:.2f}", f"{row['acceptance']:.2f}", coefficients, str(row["evaluations"]))
            )
    header = ("method", *NAMES, "acceptance", "effective samples of the Polyakov loop", "its τ", "a second")
    text = (
        "## Self-learning Monte Carlo\n\nSU(2), 4⁴, β = 2.3, four staggered flavours of mass 0.5, exact determinant; "
        "all in one run, chains of equal number. τ is the integrated autocorrelation time in steps: trajectories of "
        "HMC, proposals of self-learning Monte Carlo.\n\n"
    )
    if any(row.get("made", {}).get("commit") == SLOW_DETERMINANTS for row in found.values()):
        text += (
            f"Since these rows were made (commit {SLOW_DETERMINANTS}) exact determinants and their forces have become "
            "several times as fast, from which HMC and self-learning gain by different factors: the last column tells "
            "of the code of then.\n\n"
        )
    text += table(header, lines) + "\n"
    reference = found.get("HMC, determinant")
    others = [(reference, row) for row in found.values() if reference is not None and row is not reference]
    text += _agreement("HMC with the determinant", others, NAMES) + "\n"
    header = (
        "effective action",
        "held-out residual s",
        "acceptance",
        "β_plaq; β_rect; β_Pol",
        "exact evaluations to learn",
    )
    return text + table(header, learned) + "\n"


def _slhmc(rows: dict[str, Any]) -> str:
    found = {name.removeprefix("slhmc "): row for name, row in rows.items() if name.startswith("slhmc")}
    if not found:
        return ""
    lines = []
    for name, row in found.items():
        for kind in ("untrained", "trained") if "history" in row else ("",):
            one = row[kind] if kind else row
            loss = f"{_held_out(row, kind):.3g}" if kind else ""
            label = f"guide of mass {name}, {kind}" if kind else "HMC"
            values = [shown(one, which) for which in ("plaquette", "Polyakov loop", "condensate")]
            lines.append((label, f"{row['length']:.2f}", loss, f"{one['acceptance']:.3f}", *values))
    header = ("method", "trajectory", "held-out loss", "acceptance", "plaquette", "Polyakov loop", "condensate")
    text = "## Self-learning hybrid Monte Carlo\n\nSU(2), β = 2.7, m = 0.3; the guide has heavier fermions on links "
    text += (
        "smeared by two trained layers. The loss is the variance of the guide's error in the change of log W along a "
    )
    text += "trajectory, whose pseudofermion is fixed.\n\n" + table(header, lines) + "\n"
    if "HMC" in found:
        others = [(found["HMC"], row[kind]) for row in found.values() if "history" in row for kind in ("trained",)]
        text += _agreement("HMC, of the trained guides", others, ("plaquette", "Polyakov loop", "condensate"))
    return text + "\n![Loss and acceptance](gauge_slhmc.svg)\n" if len(lines) > 1 else text


def _held_out(row: dict[str, Any], kind: str) -> float:
    """The loss before training, or that of the model that was kept."""
    residuals = [residual for _, _, residual in row["history"]]
    return (residuals[0] if kind == "untrained" else min(residuals)) ** 2


def _draw(rows: dict[str, Any], path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    found = {
        name.removeprefix("slhmc "): row for name, row in rows.items() if name.startswith("slhmc") and "history" in row
    }
    for name, row in found.items():
        history = np.array(row["history"])
        left.plot(history[:, 0], history[:, 2] ** 2, "o-", markersize=3, label=f"$m = {name}$")
    left.set(xlabel="training step", ylabel="held-out loss", yscale="log")
    left.legend(frameon=False)
    masses = [float(name) for name in found]
    for kind in ("untrained", "trained"):
        right.plot(masses, [row[kind]["acceptance"] for row in found.values()], "o-", label=kind)
    right.set(xlabel="mass of the guide", ylabel="acceptance")
    right.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def _cost(rows: dict[str, Any]) -> str:
    found = {name.removeprefix("cost "): row for name, row in rows.items() if name.startswith("cost")}
    if not found:
        return ""
    text = ["## Cost\n"]
    lines = [(f"quenched SU(3), 4⁴, leapfrog of 20 steps, {n} chain(s)", f"{1e3 * found[f'HMC {n}']['seconds']:.1f} ms")
             for n in (1, 8) if f"HMC {n}" in found]  # fmt: skip
    if "Wilson" in found:
        label = "two-flavour Wilson, β = 5.5, κ = 0.141139, 20 steps, relative residual 1e-10, from quenched links"
        lines.append((label, f"{found['Wilson']['seconds']:.2f} s"))
    text += [table(("trajectory of one chain", "time"), lines), ""]
    bandwidth = found.get("bandwidth", {}).get("bytes_per_second")
    sizes = [(name, row) for name, row in found.items() if name.startswith("Dslash")]
    if sizes and bandwidth:
        header = ("lattice", "quenched trajectory", *(f"{kind} {what}" for kind in ("staggered", "Wilson")
                  for what in ("M†M", "floor")))  # fmt: skip
        lines = [
            (name.removeprefix("Dslash "), f"{1e3 * row['trajectory']:.0f} ms",
             *(f"{1e6 * value:.0f} µs" for kind in ("staggered", "Wilson")
               for value in (row[kind], row[f"{kind} bytes"] / bandwidth)))
            for name, row in sizes
        ]  # fmt: skip
        text.append(
            "A = M†M acts on one parity: for staggered fermions it is one Dslash of the whole lattice, for Wilson "
            f"fermions two. The floor is the time to read links and fields at {bandwidth / 1e9:.1f} GB/s, the "
            "bandwidth measured.\n"
        )
        text.append(table(header, lines))
    return "\n".join(text) + "\n"


def _gpu(path: Path) -> str:
    """The rows of ``benchmarks/gpu.py gauge``, where it has run."""
    stored = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    rows = {name: row for name, row in stored["rows"].items() if name.startswith("SU(3)")}
    if not rows:
        return ""
    lines = [
        (name.removeprefix("SU(3) "), f"{1e3 * row['trajectory']:.2f} ms",
         *(f"{1e6 * row[kind]:.0f} µs" if name.endswith("batch 1") else "" for kind in ("staggered", "Wilson")))
        for name, row in rows.items()
    ]  # fmt: skip
    text = (
        f"## The same program on a GPU\n\nMade by `{stored['command']}` on {stored['date']}: one "
        f"{stored['settings']['device']}, jax {stored['versions']['jax']}. Quenched SU(3) as above, time of one "
        "trajectory of one chain among as many as the batch. M†M acts on one field, which is too little for this GPU: "
        "its times are those of starting the kernels, and scatter by half.\n\n"
    )
    return text + table(("lattice, batch", "trajectory", "staggered M†M", "Wilson M†M"), lines) + "\n"
