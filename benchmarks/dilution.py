"""Site-diluted double exchange: acceptance, disorder averages, and couplings of the linear model by distance.

    python benchmarks/dilution.py

Writes ``benchmarks/results/dilution.json`` and, from it, ``docs/results/dilution.md`` and ``.svg``. Interrupted, it
continues.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from command import main
from cubic import prepared, timed
from exact_labels import SPHERE
from matplotlib import pyplot
from result_file import ResultFile, table

from slmc.lattice import shells
from slmc.selflearning import expected_acceptance, learn
from slmc.statistics import estimate, notation
from slmc.systems.spins import DoubleExchange, Heisenberg, diluted

COUPLINGS = {
    "weak": {"coupling": 1.0, "chemical_potential": 0.0, "temperature": 0.05},
    "strong": {"coupling": 16.0, "chemical_potential": -8.3, "temperature": 0.1},
}


class Settings(NamedTuple):
    """The lattice, concentrations, samples of the disorder and chains of all of them."""

    shape: tuple[int, int] = (8, 8)
    concentrations: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    n_samples: int = 8
    n_chains: int = 16
    n_updates: int = 10
    n_labels: tuple[int, ...] = (60, 60, 60)
    n_steps: int = 400


QUICK = Settings((2, 2), (1.0, 0.5), 2, 4, 2, (16, 16), 40)


def measured(kind: str, concentration: float, settings: Settings) -> dict[str, Any]:
    """One model for all samples, and the disorder average of m²."""
    target = DoubleExchange(settings.shape, **COUPLINGS[kind])
    key = jax.random.key(int(1000 * concentration))
    n_samples = settings.n_samples if concentration < 1 else 1
    starts = SPHERE.random(key, (settings.n_chains, *settings.shape, 3))
    starts = diluted(jax.random.fold_in(key, 1), starts, concentration, n_samples)
    learner, chains = prepared(key, target, starts, settings.n_labels, settings.n_updates)
    model = Heisenberg(settings.shape, temperature=float(target.temperature))
    learned = learn(key, learner, model, chains.configuration, 100)
    series, accepted, _ = timed(learned.update, learned.chains, settings.n_steps)
    residual = learned.reports[-1].residual
    return {
        "residual": residual,
        "expected_acceptance": expected_acceptance(residual),
        "acceptance": float(accepted.mean()),
        "distances": np.sqrt(shells(settings.shape).squared_distances[1:]).tolist(),
        "couplings": np.asarray(learned.model.couplings).tolist(),
        "magnetization_squared": estimate(series, n_samples)._asdict(),
    }


def draw(rows: dict[str, Any], settings: Settings, path: Any) -> None:
    """Couplings against distance, one panel for each strength of the coupling."""
    figure, panels = pyplot.subplots(1, len(COUPLINGS), figsize=(9, 3.8), layout="constrained")
    for axes, (kind, couplings) in zip(panels, COUPLINGS.items(), strict=True):
        for concentration in settings.concentrations:
            row = rows[f"{kind} {concentration:g}"]
            axes.plot(row["distances"], row["couplings"], "o-", markersize=4, label=f"$c = {concentration:g}$")
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(
            xlabel="distance",
            ylabel="$J_n / t$",
            title=f"$J = {couplings['coupling']:g}$, $T = {couplings['temperature']:g}$",
        )
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def page(results: ResultFile, settings: Settings) -> str:
    """What the documentation shows."""
    lines = []
    for kind, couplings in COUPLINGS.items():
        for concentration in settings.concentrations:
            row = results.rows[f"{kind} {concentration:g}"]
            m2 = row["magnetization_squared"]
            noise = m2["monte_carlo_error"]
            lines.append(
                (
                    f"{couplings['coupling']:g}",
                    f"{concentration:g}",
                    f"{row['residual']:.3f}",
                    f"{row['acceptance']:.3f}",
                    f"{row['expected_acceptance']:.3f}",
                    notation(m2["value"], m2["error"]),
                    "–" if noise is None else f"{noise:.1g}",
                )
            )
    header = ("J", "concentration", "s", "acceptance", "erfc(s/2)", "⟨m²⟩", "of the error Monte Carlo")
    width, height = settings.shape
    return "\n".join(
        [
            "# Diluted lattices\n",
            results.provenance() + "\n",
            f"Double exchange on {width}×{height} sites with spins on a random share of them (electrons live on all), "
            f"{settings.n_samples} samples of the disorder, {settings.n_chains} chains. One two-body model with a "
            "coupling for every distance is learned for all samples of a concentration (arXiv:2005.06992 does so at "
            "strong coupling); m² is per spin. Its error is that of the average over samples; the last column is the "
            "part that longer chains would make smaller.\n",
            table(header, lines),
            "\n![Couplings against distance](dilution.svg)\n",
            "At J = 1 the couplings change sign with distance, as those of Ruderman, Kittel, Kasuya and Yosida; at "
            "strong coupling that between nearest neighbours is ferromagnetic, grows with dilution and outweighs all "
            "others.\n",
            "On diluted lattices s is pooled over samples: it counts that log W has a mean of its own in each, which "
            "the model cannot know and no decision sees. The acceptance is therefore above erfc(s/2).\n",
            "`examples/06_dilution.py` does this by hand, `slmc run diluted` from a file.\n",
        ]
    )


def measure_all(results: ResultFile, settings: Settings) -> None:
    for kind in COUPLINGS:
        for concentration in settings.concentrations:
            results.make(f"{kind} {concentration:g}", measured, kind, concentration, settings)


def write(results: ResultFile, settings: Settings) -> None:
    draw(results.rows, settings, results.page_folder / "dilution.svg")
    (results.page_folder / "dilution.md").write_text(page(results, settings))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write)
