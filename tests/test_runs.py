"""Runs from Python: the bits of the command line, problems built in Python, configurations that are dictionaries."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slmc as package
from slmc import HamiltonianTrajectory, MetropolisHastings, Target, fit_linear, runs
from slmc.montecarlo import Flat, HostTarget, Product, Sphere, evaluations_per_step
from slmc.simulation import Records, points_of
from slmc.system import Fit, Observable, Problem, UserError, system_named

SMALL = {
    "exact.tuning_steps": 10,
    "thermalisation.n_steps": 20,
    "learning.n_rounds": 2,
    "learning.n_steps": 20,
    "learning.training_steps": 0,
    "inner.n_updates": 2,
    "measurement": {"n_chains": 4, "n_steps": 60, "block_size": 20, "n_thermalise": 20},
}
GROUPS = ("thermalisation", "learning", "measurement")


def assert_same_records(one: Path, other: Path) -> None:
    for group in GROUPS:
        first, second = (Records(path / "records.zarr", read_only=True).read(group) for path in (one, other))
        assert first
        assert set(first) == set(second)
        for name, values in first.items():
            np.testing.assert_array_equal(values, second[name], err_msg=f"{group}/{name}")


def test_the_same_bits_as_the_command(slmc: Any, tmp_path: Path) -> None:
    settings = {**SMALL, "target.shape": [2, 2], "model.name": "linear", "inner.update": "heat-bath"}
    result = package.run(
        "double_exchange_small", {**settings, "baseline.n_steps": 0}, tmp_path / "python", seed=3, quiet=True
    )
    options = {**{k: v for k, v in settings.items() if k != "measurement"}, "baseline.n_steps": 0}
    options |= {f"measurement.{name}": value for name, value in SMALL["measurement"].items()}  # type: ignore[attr-defined]
    overrides = [f"--set={name}={value}" for name, value in options.items()]
    assert slmc("run", "double_exchange_small", "--out", tmp_path / "command", "--seed=3", "-q", *overrides)[0] == 0
    assert_same_records(tmp_path / "python", tmp_path / "command")
    assert result.is_complete
    assert result.report.is_file()
    assert result.observables["energy"].error > 0
    assert result.records["measurement"]["energy"].attrs["mathtext"] == "$e$"
    assert result.model.shape == (2, 2)
    assert "energy" in repr(result)
    assert "<table>" in result._repr_html_()


# --- a problem built in Python, whose configurations are dictionaries ---------------------------------------------


class Compass(Target):
    """A spin whose field is carried by a coordinate: log W = −x²/2 + a x S_z + b S_x."""

    a: jax.Array
    b: jax.Array

    def log_weight(self, configuration):
        x, spin = configuration["x"], configuration["spin"]
        return -jnp.sum(x**2) / 2 + self.a * jnp.sum(x * spin[:, 2]) + self.b * jnp.sum(spin[:, 0])


MANIFOLD = Product({"x": Flat(), "spin": Sphere()})
N = 3


def hmc(target):
    return MetropolisHastings(target, HamiltonianTrajectory(target, MANIFOLD, jnp.asarray(0.3), n_steps=4))


def compass(b: float = 1.0, **others: Any) -> Problem:
    fields: dict[str, Any] = {
        "target": Compass(jnp.asarray(0.5), jnp.asarray(b)),
        "manifold": MANIFOLD,
        "start": lambda key, n: MANIFOLD.random(key, {"x": (n, N), "spin": (n, N, 3)}),
        "exact": hmc,
        "observables": (
            Observable("S_x", lambda c: jnp.mean(c["spin"][:, 0]), slow=True),
            Observable("x S_z", lambda c: jnp.mean(c["x"] * c["spin"][:, 2])),
        ),
        "model": Compass(jnp.zeros(()), jnp.zeros(())),
        "inner": {"trajectories": hmc},
        "fit": Fit(solve=lambda model, labels: fit_linear(model, labels, MANIFOLD)),
    }
    return Problem(**fields | others)


def exact_means(a: float, b: float) -> tuple[float, float]:
    """⟨S_x⟩ and ⟨x S_z⟩: integrating x out leaves exp(a² S_z²/2 + b S_x) on the sphere."""
    z, w = np.polynomial.legendre.leggauss(200)
    phi = 2 * np.pi * np.arange(400) / 400
    sx = np.sqrt(1 - z**2)[:, None] * np.cos(phi)
    weight = w[:, None] * np.exp(a**2 * z[:, None] ** 2 / 2 + b * sx)
    return float((weight * sx).sum() / weight.sum()), float((weight * a * z[:, None] ** 2).sum() / weight.sum())


def test_a_dictionary_is_learned_sampled_stopped_and_resumed(tmp_path: Path) -> None:
    settings = {**SMALL, "measurement": {**SMALL["measurement"], "n_steps": 600, "block_size": 200}}  # type: ignore[dict-item]
    whole = package.run(compass(), settings, tmp_path / "whole", quiet=True)
    model = whole.model
    np.testing.assert_allclose([model.a, model.b], [0.5, 1.0], atol=1e-8)
    assert whole.summary["acceptance"] == pytest.approx(1.0)
    for found, exact in zip(whole.observables.values(), exact_means(0.5, 1.0), strict=True):
        assert abs(found.value - exact) < 4 * found.error

    stopped = {**settings, "measurement": {**settings["measurement"], "wall_time": 1e-9}}
    cut = package.run(compass(), stopped, tmp_path / "cut", quiet=True)
    assert not cut.is_complete
    with pytest.raises(UserError, match="built in Python; continue it there"):
        package.resume(tmp_path / "cut")
    with pytest.raises(UserError, match="restore"):
        package.resume(tmp_path / "cut", compass(b=2.0))
    while not cut.is_complete:
        cut = package.resume(tmp_path / "cut", compass(), quiet=True)
    assert_same_records(tmp_path / "whole", tmp_path / "cut")
    # Without the problem the records know what there is to know.
    assert package.info(tmp_path / "cut")["observables"] == package.info(tmp_path / "whole", compass())["observables"]
    assert package.report(tmp_path / "cut").read_text().count('class="plot"') >= 6


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "draw", "log_weight", "x" * 101, "a\nb", "zarr.json"])
def test_names_that_no_record_can_have_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="observable"):
        compass(observables=(Observable(name, lambda c: c["x"][0]),))


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"model": None}, {"learning.n_rounds": 2}, "needs a problem with a model"),
        ({"inner": {}}, {}, "needs an inner update"),
        ({}, {"measurement.wanted_error": {"nothing": 0.1}}, "'nothing' is not measured"),
        ({"n_samples": 3}, {}, "must be a multiple of n_samples = 3"),
        ({"start": lambda key, n: {"x": jnp.zeros((2, N)), "spin": jnp.ones((2, N, 3))}}, {}, "n_chains = 8"),
        ({"start": lambda key, n: {"x": jnp.full((n, N), jnp.nan), "spin": jnp.ones((n, N, 3))}}, {}, "not finite"),
        ({}, {"target.temperature": 1.0}, "target is not a field"),
    ],
)
def test_a_problem_that_does_not_fit_is_told_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        package.run(compass(**changes), settings, tmp_path / "run", quiet=True)


def test_odd_names_are_recorded_and_drawn(tmp_path: Path) -> None:
    names = ("⟨x⟩ [a.u.]", "$x$_1", "<b>bold", "x^2", "100 %")
    observables = tuple(
        Observable(name, lambda c, k=k: c["x"][k % N] + k, mathtext="$broken", html="<script>")
        for k, name in enumerate(names)
    )
    settings = {**SMALL, "learning": {"n_rounds": 0}, "measurement": SMALL["measurement"]}
    for field in ("learning.n_rounds", "learning.n_steps", "learning.training_steps", "inner.n_updates"):
        settings.pop(field, None)
    result = package.run(compass(observables=observables, model=None), settings, tmp_path / "run[1] x", quiet=True)
    assert tuple(result.observables) == names
    page = result.report.read_text()
    assert "<script" not in page
    assert "<b>bold" not in page


def test_a_host_target_with_a_host_guide_costs_one_evaluation() -> None:
    def weights(batch):
        return -(batch**2).sum(1) / 2

    def weights_and_forces(batch):
        return weights(batch), -batch

    target, guide = (
        HostTarget(function, weights_and_forces) for function in (weights, lambda batch: weights(batch) / 2)
    )
    x = jnp.zeros(3)
    assert evaluations_per_step(MetropolisHastings(target, HamiltonianTrajectory(guide, Flat(), 0.3)), x) == 1
    assert evaluations_per_step(MetropolisHastings(target, HamiltonianTrajectory(target, Flat(), 0.3)), x) == 6


def test_a_stored_configuration_without_a_weight_means_what_it_meant(tmp_path: Path) -> None:
    """The weight came later than some runs, and its default is another than what they did."""
    fields = {**SMALL, "target.shape": [2, 2], "model.name": "linear", "target.weight": "diagonalisation"}
    fields["measurement"] = {**SMALL["measurement"], "wall_time": 1e-3}  # type: ignore[dict-item]
    package.run("double_exchange_small", fields, tmp_path / "run", quiet=True)
    path = tmp_path / "run" / "config.toml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("weight =", "wall_time ="))]
    path.write_text("\n".join(kept))
    resumed = package.resume(tmp_path / "run", quiet=True)
    assert resumed.is_complete
    assert resumed.problem.target.weight == "diagonalisation"
    assert package.run(
        "double_exchange_small", {**fields, "measurement": SMALL["measurement"]}, tmp_path / "whole", quiet=True
    )
    assert_same_records(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("scan", [False, True])
def test_stored_fields_that_nothing_reads_are_taken_as_they_are(scan: bool) -> None:
    """Earlier versions took them, and they belong to the identity of a run."""
    data: dict[str, Any] = {"system": "double_exchange", "model": {"name": "linear", "n_heads": 2}}
    if scan:
        data["scan"] = {"fields": {"target.temperature": [0.2, 0.3]}}
    with pytest.raises(UserError, match=r"model\.n_heads has no effect"):
        runs.settings_of(data)
    begun = runs.settings_of(data, begun=True)
    assert begun.model.n_heads == 2
    if scan:
        assert [point.settings.model.n_heads for point in points_of(Path("nowhere"), begun)] == [2, 2]


def test_electronic_observables_are_left_out_where_nobody_wants_them(tmp_path: Path) -> None:
    measured = {"observables": ["staggered_magnetization_squared"]}
    build = runs.settings_of({"system": "double_exchange", "measurement": measured})
    target = system_named("double_exchange").build(build, tmp_path).target
    spins = Sphere().random(jax.random.key(0), (6, 6, 3))
    assert target.log_weight_and_observables(spins)[1] == {}
    everything = system_named("double_exchange").build(runs.settings_of({"system": "double_exchange"}), tmp_path)
    log_weight, observables = everything.target.log_weight_and_observables(spins)
    assert set(observables) == {"energy", "density", "grand_energy", "energy_variance"}
    assert log_weight == target.log_weight(spins)
