"""What the exact double-exchange weight costs: poles against a diagonalisation, on one core; with what error.

    python benchmarks/weight.py

Writes ``benchmarks/results/weight.json`` and, from it, ``docs/results/weight.md``. Interrupted, it continues.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from command import main
from exact_labels import SPHERE
from result_file import ResultFile, table

from slmc.systems.spins import DoubleExchange
from slmc.systems.spins.elimination import elimination


class Point(NamedTuple):
    """A lattice with its parameters."""

    shape: tuple[int, ...]
    coupling: float = 1.0
    chemical_potential: float = 0.0
    temperature: float = 0.05
    hopping: tuple[float, ...] = (1.0,)

    @property
    def name(self) -> str:
        lattice = "×".join(map(str, self.shape))
        hopping = "" if len(self.hopping) == 1 else f", t = {self.hopping[0]:g}, {self.hopping[1]:g}"
        return f"{lattice}, J = {self.coupling:g}, μ = {self.chemical_potential:g}, T = {self.temperature:g}{hopping}"

    def target(self, weight: str) -> DoubleExchange:
        return DoubleExchange(
            self.shape, self.hopping, self.coupling, self.chemical_potential, self.temperature, weight
        )


class Settings(NamedTuple):
    """The points, the shortest and longest time for a measurement in seconds, and the points for the accuracy."""

    points: tuple[Point, ...] = (
        *(Point((size, size)) for size in (4, 6, 8, 12, 16, 24, 32, 40)),
        Point((6, 6), 16.0, -8.3, 0.1),
        Point((16, 16), 16.0, -8.3, 0.1),
        Point((12, 12), 1.0, 0.0, 0.2),
        Point((12, 12), 1.0, 0.0, 0.01),
        Point((4, 4, 4)),
        Point((6, 6, 6)),
        Point((8, 8, 8)),
        Point((15, 15), 1.0, -0.5),
        Point((12, 12), 1.0, 0.0, 0.05, (1.0, 0.3)),
    )
    seconds: float = 1.0
    largest_diagonalised: int = 600
    n_configurations: int = 4
    temperatures: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    couplings: tuple[tuple[float, float], ...] = (
        (0.0, 0.0),
        (1.0, 0.0),
        (1.0, 0.5),
        (4.0, -1.2),
        (16.0, 0.0),
        (16.0, -8.3),
    )
    accuracy_shape: tuple[int, ...] = (8, 8)


QUICK = Settings((Point((2, 2)), Point((4, 4), 1.0, 0.3)), 0.01, 600, 2, (0.1,), ((1.0, 0.0), (1.0, 0.5)), (4, 4))


def timed(point: Point, settings: Settings) -> dict[str, Any]:
    """Seconds of one evaluation of one configuration by either way, the least of many, taken in turns."""
    target, oracle = point.target("poles"), point.target("diagonalisation")
    spins = SPHERE.random(jax.random.key(1), (*point.shape, 3))
    programs = {
        "poles": target.log_weight,
        "poles with force": jax.value_and_grad(target.log_weight),
        "poles with observables": target.log_weight_and_observables,
    }
    if np.prod(point.shape) <= settings.largest_diagonalised:
        programs["diagonalisation"] = oracle.log_weight
        programs["diagonalisation with force"] = jax.value_and_grad(oracle.log_weight)
    compiled = {name: _compiled(program, spins) for name, program in programs.items()}
    started = time.perf_counter()
    elimination.__wrapped__(point.shape, len(point.hopping))
    prepared = time.perf_counter() - started
    row = dict.fromkeys(compiled, np.inf)
    until = time.perf_counter() + settings.seconds * len(compiled)
    n_rounds = 0
    while n_rounds < 3 or time.perf_counter() < until:
        for name, program in compiled.items():
            row[name] = min(row[name], _seconds(program))
        n_rounds += 1
    plan = elimination(point.shape, len(point.hopping))
    return {
        **row,
        "chosen": point.target("auto").weight,
        "products": plan.n_products,
        "preparation": prepared,
        "error bound": target.error_bound,
    }


def _compiled(program: Callable[[jax.Array], Any], spins: jax.Array) -> Callable[[], Any]:
    """Evaluations one after the other inside one program, as in a chain, and how many there are."""
    once = jax.jit(lambda spins: program(spins))
    jax.block_until_ready(once(spins))
    n_repeats = int(np.clip(0.03 / _seconds(lambda: (once(spins), 1)), 1, 300))

    def repeated(spins: jax.Array) -> jax.Array:
        def body(moved: jax.Array, _: None) -> tuple[jax.Array, None]:
            total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(program(moved)))
            return moved * (1 + 1e-300 * total), None

        return jax.lax.scan(body, spins, length=n_repeats)[0]

    many = jax.jit(repeated)
    jax.block_until_ready(many(spins))
    return lambda: (many(spins), n_repeats)


def _seconds(program: Callable[[], Any]) -> float:
    started = time.perf_counter()
    result, n_repeats = program()
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / n_repeats


def accuracy(temperature: float, coupling: float, mu: float, settings: Settings) -> dict[str, Any]:
    """Largest differences between the two ways over random, ferromagnetic, Néel and spiral spins."""
    spins = _configurations(settings)
    found = {}
    for weight in ("poles", "diagonalisation"):
        target = DoubleExchange(settings.accuracy_shape, 1.0, coupling, mu, temperature, weight)
        function = eqx.filter_jit(
            lambda target, spins: (
                jax.lax.map(jax.value_and_grad(target.log_weight), spins),
                jax.lax.map(target.log_weight_and_observables, spins)[1],
            )
        )
        found[weight] = function(target, spins)
    (log_weights, forces), observables = found["poles"]
    (exact, exact_forces), exact_observables = found["diagonalisation"]
    return {
        "error bound": DoubleExchange(settings.accuracy_shape, 1.0, coupling, mu, temperature, "poles").error_bound,
        "log weight": float(jnp.abs(log_weights - exact).max()),
        "of": float(jnp.abs(exact).max()),
        "force": float(jnp.abs(forces - exact_forces).max()),
        "of force": float(jnp.abs(exact_forces).max()),
        **{name: float(jnp.abs(value - exact_observables[name]).max()) for name, value in observables.items()},
    }


def _configurations(settings: Settings) -> jax.Array:
    shape = settings.accuracy_shape
    random = SPHERE.random(jax.random.key(2), (settings.n_configurations, *shape, 3))
    position = np.indices(shape)
    up = np.zeros((*shape, 3)) + np.array([0.0, 0.6, 0.8])
    angle = 2 * np.pi * position[-1] / shape[-1]
    spiral = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    return jnp.concatenate([random, jnp.asarray([up, np.where(position.sum(0) % 2, -1, 1)[..., None] * up, spiral])])


def page(results: ResultFile, settings: Settings) -> str:
    """What the documentation shows."""
    return "\n".join(
        [
            "# Cost of the exact weight\n",
            results.provenance() + "\n",
            "Milliseconds of one exact evaluation of one configuration on one core, the least of many in turns: "
            "log W alone, with the force on all spins, and with the electronic observables (energy, density, quantum "
            "variance of the energy). A diagonalisation gives the observables for nothing; with the force it needs the "
            "eigenvectors. The method is described in [the exact weight](../explanation/weight.md).\n",
            table(_HEADER, [_line(point, results.rows[point.name]) for point in settings.points]),
            "",
            "The order of elimination is found once for a lattice, in the seconds of the last column.\n",
            "## Error\n",
            f"Largest differences to a diagonalisation on {_lattice(settings.accuracy_shape)} over "
            f"{settings.n_configurations} random configurations, a ferromagnet, the Néel state and a spiral. At J = 0 "
            "levels lie at μ = 0, and at |J| = 2 |μ| the levels of an isolated site do. Energies are in units of the "
            "hopping; energy and density are per site. The bound leaves out rounding, which both ways have: a level "
            "that is off by 1e-15 moves log W by 1e-15/T.\n",
            table(_ERROR_HEADER, _error_lines(results, settings)),
            "",
        ]
    )


_TIMES = ("diagonalisation", "poles", "diagonalisation with force", "poles with force", "poles with observables")
_HEADER = (
    "lattice",
    "diagonalisation",
    "poles",
    "ratio",
    "diagonalisation with force",
    "poles with force",
    "ratio",
    "poles with observables",
    "bound of the error of log W",
    "chosen",
    "preparation (s)",
)
_ERROR_HEADER = ("T", "J", "μ", "bound", "log W", "of", "force", "of", "energy", "density", "energy variance")


def _line(point: Point, row: dict[str, Any]) -> tuple[str, ...]:
    exact, fast, exact_force, fast_force, observables = (
        f"{1e3 * row[name]:.3g}" if name in row else "" for name in _TIMES
    )
    return (
        point.name,
        exact,
        fast,
        _ratio(row, "diagonalisation", "poles"),
        exact_force,
        fast_force,
        _ratio(row, "diagonalisation with force", "poles with force"),
        observables,
        f"{row['error bound']:.0e}",
        row["chosen"],
        f"{row['preparation']:.2g}",
    )


def _ratio(row: dict[str, Any], one: str, other: str) -> str:
    return f"{row[one] / row[other]:.0f}" if one in row else ""


def _error_lines(results: ResultFile, settings: Settings) -> list[tuple[str, ...]]:
    lines = []
    for temperature in settings.temperatures:
        for coupling, mu in settings.couplings:
            row = results.rows[_error_name(temperature, coupling, mu)]
            numbers = [row[name] for name in ("log weight", "of", "force", "of force")]
            numbers += [row[name] for name in ("energy", "density", "energy_variance")]
            lines.append((f"{temperature:g}", f"{coupling:g}", f"{mu:g}", *map(_short, [row["error bound"], *numbers])))
    return lines


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1g}"


def _error_name(temperature: float, coupling: float, mu: float) -> str:
    return f"error at T = {temperature:g}, J = {coupling:g}, μ = {mu:g}"


def _lattice(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def measure_all(results: ResultFile, settings: Settings) -> None:
    for point in settings.points:
        results.make(point.name, timed, point, settings)
    for temperature in settings.temperatures:
        for coupling, mu in settings.couplings:
            name = _error_name(temperature, coupling, mu)
            results.make(name, accuracy, temperature, coupling, mu, settings)


def write(results: ResultFile, settings: Settings) -> None:
    (results.page_folder / "weight.md").write_text(page(results, settings))


if __name__ == "__main__":
    main(__file__, __doc__, (Settings(), QUICK), {"all": measure_all}, write, on_one_device=["all"])
