"""Held-out residual of the network against the number of exact evaluations, with and without forces; its variants.

    python benchmarks/data_efficiency.py

Writes ``benchmarks/results/data_efficiency.json`` and, from it, ``docs/results/data_efficiency.md`` and ``.svg``.
Interrupted, it continues.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from command import main
from exact_labels import SPHERE, TEMPERATURE, DataSettings, ExactData, exact_data
from matplotlib import pyplot
from matplotlib.ticker import NullLocator
from result_file import ResultFile, table

from slmc.montecarlo import Target
from slmc.selflearning import TrainingSettings, expected_acceptance, fit, fit_linear, residual
from slmc.systems.spins import EquivariantNetwork, EquivariantTransformer, Heisenberg
from slmc.systems.spins.problem import linear_part


class Settings(NamedTuple):
    """Numbers of labels; network; steps of the optimiser; weights of the forces and, for each, learning rates tried."""

    data: DataSettings = DataSettings()
    n_labels: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096)
    network: tuple[int, int, int] = (2, 8, 16)
    n_steps: int = 800
    force_weights: tuple[float, ...] = (100.0, 3.0, 0.0)
    learning_rates: tuple[float, ...] = (2e-2, 6e-3, 2e-3)
    variant_labels: int = 3000
    variant_steps: int = 1500
    n_variants: int = 10


class Variant(NamedTuple):
    """A model and how it is trained, different from the network above in one respect."""

    words: str
    make: Callable[[tuple[int, int], jax.Array], Target]
    optimiser: str = "muon"
    learning_rate: float = 2e-2
    weight_decay: float = 0.03


def _network(n_layers: int, n_channels: int, n_hidden: int, reach: int | None = None) -> Callable[..., Target]:
    def make(shape: tuple[int, int], key: jax.Array) -> Target:
        return EquivariantNetwork(shape, n_layers, n_channels, n_hidden, reach, TEMPERATURE, key=key)

    return make


def _transformer(attention: str) -> Callable[..., Target]:
    def make(shape: tuple[int, int], key: jax.Array) -> Target:
        return EquivariantTransformer(shape, 2, 4, attention=attention, temperature=TEMPERATURE, key=key)

    return make


VARIANTS = {
    "one layer": Variant("1 layer, 8 channels, 16 hidden", _network(1, 8, 16)),
    "standard": Variant("2 layers, 8 channels, 16 hidden", _network(2, 8, 16)),
    "wide": Variant("2 layers, 12 channels, 32 hidden", _network(2, 12, 32)),
    "three layers": Variant("3 layers, 8 channels, 16 hidden", _network(3, 8, 16)),
    "more channels": Variant("2 layers, 16 channels, 16 hidden", _network(2, 16, 16)),
    "more hidden": Variant("2 layers, 8 channels, 48 hidden", _network(2, 8, 48)),
    "short filters": Variant("2 layers, 8 channels, 16 hidden, filters that reach 1 site", _network(2, 8, 16, 1)),
    "AdamW": Variant("2 layers, 8 channels, 16 hidden, AdamW", _network(2, 8, 16), "adamw", 1e-2),
    "dot-product": Variant(
        "Transformer, 2 layers, 4 heads, all shells, AdamW", _transformer("dot-product"), "adamw", 3e-3, 1e-4
    ),
    "factored": Variant("the same with factored attention, AdamW", _transformer("factored"), "adamw", 3e-3, 1e-4),
}

QUICK = Settings(DataSettings((4, 4), 4, 1, 20, 1, 20), (32, 48), (1, 2, 3), 4, (100.0, 0.0), (2e-2,), 32, 4, 1)

WORDS = {100.0: "forces, weight 100", 3.0: "forces, weight 3", 0.0: "log-weights alone"}


def measured(
    variant: Variant, n_labels: int, force_weight: float, settings: Settings, data: ExactData
) -> dict[str, Any]:
    """Linear model, and another one trained from it, on labels spread evenly over chains and time."""
    labels = _thinned(data, n_labels)
    linear = fit_linear(Heisenberg(settings.data.shape, temperature=TEMPERATURE), labels, SPHERE, force_weight)
    key = jax.random.key(1)
    model = fit_linear(variant.make(settings.data.shape, key), labels, SPHERE, force_weight, where=linear_part)
    training = TrainingSettings(
        n_steps=settings.n_steps,
        batch_size=32,
        learning_rate=variant.learning_rate,
        weight_decay=variant.weight_decay,
        force_weight=force_weight,
        evaluate_every=min(50, settings.n_steps),
        patience=10**6,
        single_precision=True,
        optimiser=variant.optimiser,
    )
    # Chosen while training on a part of the held-out chains, quoted on the rest.
    half = len(data.held_out.log_weight) // 2
    parts = (slice(half), slice(half, None))
    chosen_on, quoted_on = (jax.tree.map(lambda leaf, s=s: leaf[s], data.held_out) for s in parts)
    started = time.perf_counter()
    result = fit(key, model, labels, chosen_on, SPHERE, training)
    seconds = time.perf_counter() - started
    found = residual(result.model, quoted_on)
    return {
        "residual": found,
        "chosen_residual": result.residual,
        "learning_rate": variant.learning_rate,
        "training_residual": result.training_residual,
        "expected_acceptance": expected_acceptance(found),
        "linear_residual": residual(linear, quoted_on),
        "n_parameters": sum(leaf.size for leaf in jax.tree.leaves(model)),
        "seconds": seconds,
    }


def at_the_best_rate(n_labels: int, force_weight: float, settings: Settings, data: ExactData) -> dict[str, Any]:
    """The network trained at several rates, and the one kept that the held-out data for choosing prefer."""
    variants = [Variant("", _network(*settings.network), learning_rate=rate) for rate in settings.learning_rates]
    rows = [measured(variant, n_labels, force_weight, settings, data) for variant in variants]
    return min(rows, key=lambda row: row["chosen_residual"])


def _thinned(data: ExactData, n_labels: int) -> Any:
    stride = len(data.training.log_weight) / n_labels
    lines = [int(number * stride) for number in range(n_labels)]
    return jax.tree.map(lambda leaf: leaf[lines], data.training)


def name_of(n_labels: int, force_weight: float) -> str:
    return f"{n_labels} labels, force weight {force_weight:g}"


def draw(results: ResultFile, settings: Settings, path: Any) -> None:
    figure, axes = pyplot.subplots(figsize=(6.5, 4.2), layout="constrained")
    for force_weight in settings.force_weights:
        found = [results.rows[name_of(n, force_weight)] for n in settings.n_labels]
        axes.loglog(settings.n_labels, [one["residual"] for one in found], "o-", label=WORDS[force_weight])
    linear = [results.rows[name_of(n, settings.force_weights[0])]["linear_residual"] for n in settings.n_labels]
    axes.loglog(settings.n_labels, linear, "k:", label="linear model, all shells")
    axes.set(xlabel="labelled configurations (exact evaluations)", ylabel="held-out residual $s$")
    axes.set_xticks(settings.n_labels, [str(n) for n in settings.n_labels])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def page(results: ResultFile, settings: Settings) -> str:
    """What the documentation shows."""
    lines = []
    for n in settings.n_labels:
        found = [results.rows[name_of(n, weight)] for weight in settings.force_weights]
        lines.append((str(n), *(f"{one['residual']:.3f}" for one in found), f"{found[0]['linear_residual']:.3f}"))
    header = ("labels", *(f"s, {WORDS[weight]}" for weight in settings.force_weights), "s, linear model")
    n_layers, n_channels, n_hidden = settings.network
    return "\n".join(
        [
            "# Residual against exact evaluations\n",
            results.provenance() + "\n",
            "![Held-out residual against the number of labels](data_efficiency.svg)\n",
            f"Double exchange on 6×6 at J = 1, μ = 0, T = 0.05. Network of {n_layers} layers, {n_channels} channels "
            f"and {n_hidden} hidden values, {settings.n_steps} steps of Muon, one seed, at the best of the learning "
            f"rates {', '.join(f'{rate:g}' for rate in settings.learning_rates)} (chosen on other held-out data than s "
            "is quoted on). Configurations are samples of exact chains, three trajectories apart. The linear model in "
            "the last column is solved with the forces of the first. The force of a configuration comes with its "
            "diagonalisation.\n",
            table(header, lines),
            "\n## Variants\n",
            f"The same with {settings.variant_labels} labels and force weight {settings.force_weights[0]:g}, "
            f"{settings.variant_steps} steps of the optimiser, 32 configurations each, one seed. Seconds are those of "
            "training, compiling included.\n",
            table(("model", "parameters", "s", "erfc(s/2)", "seconds"), _variant_lines(results)),
            "",
        ]
    )


def _variant_lines(results: ResultFile) -> list[tuple[str, ...]]:
    found = ((variant.words, results.rows.get(name)) for name, variant in VARIANTS.items())
    return [
        (
            words,
            f"{one['n_parameters']:,}",
            f"{one['residual']:.3f}",
            f"{one['expected_acceptance']:.3f}",
            f"{one['seconds']:.0f}",
        )
        for words, one in found
        if one
    ]


def measure_all(results: ResultFile, settings: Settings) -> None:
    data = exact_data(settings.data)
    for n_labels in settings.n_labels:
        for force_weight in settings.force_weights:
            name = name_of(n_labels, force_weight)
            results.make(name, at_the_best_rate, n_labels, force_weight, settings, data)
    longer = settings._replace(n_steps=settings.variant_steps)
    for name, variant in list(VARIANTS.items())[: settings.n_variants]:
        results.make(name, measured, variant, settings.variant_labels, settings.force_weights[0], longer, data)


def write(results: ResultFile, settings: Settings) -> None:
    draw(results, settings, results.page_folder / "data_efficiency.svg")
    (results.page_folder / "data_efficiency.md").write_text(page(results, settings))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write)
