"""Held-out residual of the network against the number of exact evaluations, with and without forces.

    python benchmarks/data_efficiency.py

Writes ``benchmarks/results/data_efficiency.json`` and, from it, ``docs/results/data_efficiency.md`` and ``.svg``.
Interrupted, it continues.
"""

from typing import Any, NamedTuple

import jax
from exact_labels import SPHERE, TEMPERATURE, DataSettings, ExactData, exact_data
from matplotlib import pyplot
from result_file import ResultFile, arguments, folders, table, use_all_cores

from slmc.montecarlo import Target
from slmc.selflearning import TrainingSettings, expected_acceptance, fit, fit_linear, residual
from slmc.systems.spins import EquivariantNetwork, Heisenberg
from slmc.systems.spins.problem import linear_part


class Settings(NamedTuple):
    """Numbers of labelled configurations; network; steps of the optimiser; weights of the forces that are compared."""

    data: DataSettings = DataSettings()
    n_labels: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    network: tuple[int, int, int] = (2, 8, 16)
    n_steps: int = 1500
    force_weights: tuple[float, ...] = (100.0, 3.0, 0.0)


QUICK = Settings(DataSettings((4, 4), 4, 1, 20, 1, 20), (32, 48), (1, 2, 3), 4, (100.0, 0.0))

WORDS = {100.0: "forces, weight 100", 3.0: "forces, weight 3", 0.0: "log-weights alone"}


def measured(n_labels: int, force_weight: float, settings: Settings, data: ExactData) -> dict[str, Any]:
    """Linear model, and network trained from it, on the first labels of all chains in turn."""
    labels = _thinned(data, n_labels)
    n_layers, n_channels, n_hidden = settings.network
    linear = fit_linear(Heisenberg(settings.data.shape, temperature=TEMPERATURE), labels, SPHERE, force_weight)
    key = jax.random.key(1)
    model: Target = EquivariantNetwork(
        settings.data.shape, n_layers, n_channels, n_hidden, temperature=TEMPERATURE, key=key
    )
    model = fit_linear(model, labels, SPHERE, force_weight, where=linear_part)
    training = TrainingSettings(
        n_steps=settings.n_steps,
        batch_size=32,
        learning_rate=2e-2,
        weight_decay=0.03,
        force_weight=force_weight,
        evaluate_every=min(50, settings.n_steps),
        patience=10**6,
        single_precision=True,
        optimiser="muon",
    )
    # Chosen while training on a part of the held-out chains, quoted on the rest.
    half = len(data.held_out.log_weight) // 2
    parts = (slice(half), slice(half, None))
    chosen_on, quoted_on = (jax.tree.map(lambda leaf, s=s: leaf[s], data.held_out) for s in parts)
    result = fit(key, model, labels, chosen_on, SPHERE, training)
    found = residual(result.model, quoted_on)
    return {
        "residual": found,
        "training_residual": result.training_residual,
        "expected_acceptance": expected_acceptance(found),
        "linear_residual": residual(linear, quoted_on),
    }


def _thinned(data: ExactData, n_labels: int) -> Any:
    """Evenly spread over chains and time."""
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
            f"and {n_hidden} hidden values, {settings.n_steps} steps of Muon, one seed. Configurations are "
            "samples of exact chains, three trajectories apart. The linear model in the last column is solved with the "
            "forces of the first. The force of a configuration comes with its diagonalisation.\n",
            table(header, lines),
            "",
        ]
    )


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    settings = QUICK if options.quick else Settings()
    result_folder, page_folder = folders(options)
    results = ResultFile(result_folder / "data_efficiency.json", settings._asdict())
    if not options.report_only:
        use_all_cores()
        data = exact_data(settings.data)
        for n_labels in settings.n_labels:
            for force_weight in settings.force_weights:
                if name_of(n_labels, force_weight) not in results.rows:
                    row = measured(n_labels, force_weight, settings, data)
                    results.add(name_of(n_labels, force_weight), row)
    draw(results, settings, page_folder / "data_efficiency.svg")
    (page_folder / "data_efficiency.md").write_text(page(results, settings))


if __name__ == "__main__":
    main()
