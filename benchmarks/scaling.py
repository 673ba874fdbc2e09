"""The scaling benchmark: held-out residual and acceptance against the number of layers and of parameters.

    python benchmarks/scaling.py

Writes ``benchmarks/results/scaling.json`` and, from it, ``docs/results/scaling.md`` and ``scaling.svg``.
Interrupted, it continues.
"""

import hashlib
import time
from typing import Any, NamedTuple

import equinox as eqx
from command import main
from exact_labels import DataSettings, ExactData, anchor, cache_folder, exact_data
from model_families import ALL_SHELLS, PAPER, Family, accepted, described, trained, training
from power_law import curve, power_laws
from result_file import ResultFile
from scaling_page import draw, page

from slmc.systems.spins import EquivariantTransformer

FAMILIES: dict[str, Family] = {"paper": PAPER, "all-shells": ALL_SHELLS}


class Settings(NamedTuple):
    """Sizes of everything. ``n_updates`` is the inner length in trajectories, ``n_exact_steps`` are per chain."""

    data: DataSettings = DataSettings()
    n_seeds: int = 3
    max_layers: int = 6
    training_steps: int = 400
    force_weight: float = 3.0
    n_chains: int = 8
    n_updates: int = 10
    n_exact_steps: int = 40
    n_bootstrap: int = 2000


QUICK = Settings(
    data=DataSettings((4, 4), 4, 1, 20, 1, 20),
    n_seeds=1,
    max_layers=1,
    training_steps=20,
    n_chains=4,
    n_updates=2,
    n_exact_steps=5,
    n_bootstrap=50,
)


def measure_all(results: ResultFile, settings: Settings) -> None:
    """Every row that is not there yet, seed by seed, shallow to deep; the page is rewritten after each curve."""
    data = exact_data(settings.data)
    for seed in range(settings.n_seeds):
        for name in FAMILIES:
            measure_curve(results, settings, data, name, seed)
            results.content.setdefault("power_laws", {})[name] = power_laws(curve(results, settings, name), settings)
            results.store()
            write(results, settings)


def measure_curve(results: ResultFile, settings: Settings, data: ExactData, name: str, seed: int) -> None:
    """All depths of one family from one seed; each depth starts from the trained model one layer shallower."""
    family = FAMILIES[name]
    model = family.model(settings.data.shape, 0, seed)
    for n_layers in range(settings.max_layers + 1):
        row = f"{name}/seed-{seed}/L-{n_layers}"
        stored = cache_folder() / f"scaling-{_fingerprint(results)}-{row.replace('/', '-')}.eqx"
        if n_layers:
            model = family.deepened(model, 1000 * seed + n_layers)
        if row in results.rows and stored.exists():
            model = eqx.tree_deserialise_leaves(stored, model)
            continue
        started = time.perf_counter()
        schedule = training(family, settings.training_steps, settings.force_weight, n_layers)
        model = trained(seed, model, data, schedule)
        seconds = time.perf_counter() - started
        eqx.tree_serialise_leaves(stored, model)
        results.add(row, measured(model, data, settings, seed) | {"training_seconds": seconds})


def _fingerprint(results: ResultFile) -> str:
    return hashlib.sha256(repr(results.settings).encode()).hexdigest()[:12]


def measured(model: EquivariantTransformer, data: ExactData, settings: Settings, seed: int) -> dict[str, Any]:
    target = anchor(settings.data.shape)
    steps = {settings.n_updates: settings.n_exact_steps}
    return described(model, data) | accepted(seed, target, model, data, steps, settings.n_chains)


def write(results: ResultFile, settings: Settings) -> None:
    curves = {name: curve(results, settings, name) for name in FAMILIES}
    curves = {name: found for name, found in curves.items() if found.n_seeds}
    if curves:
        draw(curves, settings, results.page_folder / "scaling.svg")
        (results.page_folder / "scaling.md").write_text(page(results, curves, settings))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write)
