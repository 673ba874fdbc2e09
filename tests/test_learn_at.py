"""One model learned once: points of a scan that do not learn propose with it, frozen, and are exact all the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import objects
from killing import killed_before_checkpoint
from slmc import HamiltonianTrajectory, Learner, MetropolisHastings, init_chains, runs
from slmc.montecarlo import Flat
from slmc.montecarlo.update import same_target
from slmc.selflearning import LearningSettings
from slmc.simulation.scan import points_of
from slmc.system import UserError, load_model, validated
from slmc.systems.spins.ising_settings import build_like
from slmc.systems.spins.settings import DoubleExchangeRun
from slmc.testing import check_invariance

Slmc = Callable[..., tuple[int, str, str]]

TEMPERATURES = (2.2, 2.5, 2.9)
SMALL = [
    "--set=target.shape=[4,4]",
    f"--set=scan.temperatures={list(TEMPERATURES)}",
    '--set=scan.learn_at={"target.temperature" = [2.5]}',
    "--set=thermalisation.n_steps=50",
    "--set=inner.update=checkerboard",
    "--set=inner.n_updates=3",
    "--set=learning.n_rounds=1",
    "--set=learning.n_steps=50",
    "--set=measurement.n_chains=8",
    "--set=measurement.n_steps=400",
    "--set=measurement.block_size=100",
    "--set=measurement.n_thermalise=20",
    "--set=baseline.n_steps=0",
    '--set=measurement.observables=["energy"]',
]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("learn at") / "scan"
    runs.run(
        "plaquette_ising", out=directory, quiet=True, overrides=[option.removeprefix("--set=") for option in SMALL]
    )
    return directory


def points(slmc: Slmc, directory: Path) -> list[dict[str, Any]]:
    return json.loads(slmc("info", directory, "--json")[1])["points"]


def exact_energy(temperature: float) -> float:
    """Of a site of the 4×4 torus with J = 1 and K = 0.2, by enumeration."""
    spins = 1.0 - 2.0 * (np.arange(2**16)[:, None] >> np.arange(16) & 1).reshape(-1, 4, 4)
    right, down = np.roll(spins, 1, 1), np.roll(spins, 1, 2)
    energies = -(spins * (right + down) + 0.2 * spins * right * down * np.roll(right, 1, 2)).sum((1, 2))
    weights = np.exp(-(energies - energies.min()) / temperature)
    return float(energies @ weights / weights.sum() / 16)


def test_frozen_points_evaluate_nothing_to_learn_and_are_exact(slmc: Slmc, scan: Path) -> None:
    found = points(slmc, scan)
    assert [point["temperature"] for point in found] == list(TEMPERATURES)
    learned = found[1]
    for point in found:
        assert point["phase"] == "done"
        is_frozen = point is not learned
        assert point.get("model_of") == ("T = 2.5" if is_frozen else None)
        assert (point["residual"] is None) == is_frozen
        before = point["exact_evaluations"]["learning"]
        assert (before < learned["exact_evaluations"]["learning"]) == is_frozen
        assert point["exact_evaluations"]["measurement"] == 8 * 400
        assert point["acceptance"] > 0.2
        energy = point["observables"]["energy"]
        assert abs(energy["value"] - exact_energy(point["temperature"])) < 4.5 * energy["error"]
    csv = (scan / "table.csv").read_text().splitlines()
    assert csv[0].split(",")[-2:] == ["verdict", "model_of"]
    assert csv[1].endswith(",T = 2.5")
    assert csv[2].endswith(",")
    assert "frozen model" in (scan / "report.html").read_text()


def test_frozen_models_are_the_learned_one_at_another_temperature(scan: Path) -> None:
    learned = load_model(scan / "T=2.5" / "model.eqx", build_like)
    for temperature in TEMPERATURES:
        model = load_model(scan / f"T={temperature}" / "model.eqx", build_like)
        np.testing.assert_allclose(model.couplings, learned.couplings, rtol=1e-12)
        start = scan / f"T={temperature}" / "start.eqx"
        assert start.exists() == (temperature != 2.5)
        assert not start.exists() or start.read_bytes() == (scan / "T=2.5" / "model.eqx").read_bytes()


def test_an_interrupted_frozen_point_gives_the_same_bits(slmc: Slmc, scan: Path, tmp_path: Path) -> None:
    """It is killed while it measures, and resumed."""
    again = tmp_path / "scan"
    shutil.copytree(scan, again)
    shutil.rmtree(again / "T=2.9")
    shutil.rmtree(again / "records.zarr" / "T=2.9")
    with killed_before_checkpoint(4):
        slmc("resume", again, "-q")
    assert slmc("resume", again, "-q") == (0, "", "")
    one, other = records(scan), records(again)
    assert set(one) == set(other)
    for name, values in one.items():
        np.testing.assert_array_equal(other[name], values, err_msg=name)


def records(directory: Path) -> dict[str, np.ndarray]:
    with xarray.open_datatree(directory / "records.zarr", engine="zarr", consolidated=False) as tree:
        return {
            f"{node.path}/{name}": np.asarray(values)
            for node in tree.subtree
            for name, values in node.data_vars.items()
            if "inner_chain" not in node.path
        }


def test_a_run_of_its_own_may_be_frozen(scan: Path, tmp_path: Path) -> None:
    """It keeps a copy of the model."""
    file = scan / "T=2.5" / "model.eqx"
    settings = {"frozen": True, "model.file": str(file), "target.shape": [4, 4]}
    begun = runs.begin("plaquette_ising", settings, tmp_path / "run")
    assert isinstance(begun, runs.Run)
    assert begun.settings.frozen
    assert begun.settings.learning_settings.n_steps == 1
    assert (tmp_path / "run" / "start.eqx").read_bytes() == file.read_bytes()


GRID = {"target.temperature": [0.5, 0.3, 0.2], "target.coupling": [1.0, 2.0, 3.0, 4.0]}


def sources(learn_at: dict[str, list[float]], **more: Any) -> list[int | None]:
    data = {"scan": {"fields": GRID, "learn_at": learn_at, **more}, "inner": {"n_updates": 5}}
    settings = validated(data, DoubleExchangeRun)
    found = points_of(Path(), settings)
    assert [point.settings.frozen for point in found] == [settings.scan.source(k) is not None for k in range(12)]
    assert [point.settings.model.file for point in found] == [
        None if settings.scan.source(k) is None else "start.eqx" for k in range(12)
    ]
    return [settings.scan.source(k) for k in range(12)]


def test_the_model_is_that_of_the_nearest_point_that_learns() -> None:
    nothing = None
    assert sources({"target.temperature": [0.3], "target.coupling": [2.0]}) == [5] * 5 + [nothing] + [5] * 6
    # Both ends of each row: what is as near to both takes the first.
    by_row = sources({"target.coupling": [1.0, 4.0]})
    assert by_row == [nothing, 0, 3, nothing, nothing, 4, 7, nothing, nothing, 8, 11, nothing]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scan": {"learn_at": {"target.temperature": [0.5]}}}, "learn_at has no effect without fields to scan over"),
        ({"scan": {"learn_at": {"target.shape": [1]}}}, "'target.shape' is not scanned over; scanned are"),
        ({"scan": {"learn_at": {"target.coupling": [5.0]}}}, "must list some of the values [1.0, 2.0, 3.0, 4.0]"),
        ({"scan": {"learn_at": {"target.coupling": [1.0]}, "start": "none"}}, "start has no effect with learn_at"),
        (
            {"inner": {"n_updates": "auto"}},
            'inner.n_updates = "auto" is chosen while learning; with scan.learn_at give',
        ),
        ({"learning": {"n_rounds": 0}}, "scan.learn_at is for runs with a model; learning.n_rounds must not be 0"),
        ({"inner": {"nested": "linear"}, "model": {"name": "network"}}, 'needs inner.nested = "no"'),
        ({"scan": {"fields": {"model.n_layers": [1, 2]}, "learn_at": {"model.n_layers": [1]}}}, "not for scans over"),
        ({"scan": {}, "frozen": True}, "frozen = true needs the model that proposes; name it in model.file"),
        (
            {"scan": {}, "frozen": True, "model": {"file": "m.eqx"}, "learning": {"n_steps": 7}},
            "learning.n_steps has no effect with frozen = true; leave it out",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(changes: dict[str, Any], words: str) -> None:
    data: dict[str, Any] = {"scan": {"fields": GRID, "learn_at": {"target.coupling": [1.0]}}, "inner": {"n_updates": 5}}
    for name, section in changes.items():
        data[name] = {**data.get(name, {}), **section} if isinstance(section, dict) and section else section
    if words.startswith("learn_at has no effect"):
        del data["scan"]["fields"]
    with pytest.raises(UserError) as refused:
        validated(data, DoubleExchangeRun)
    assert words in str(refused.value)


PRECISION = np.array([[2.0, 0.8], [0.8, 1.0]])
TARGET, MODEL = objects.Gaussian(jnp.asarray(PRECISION)), objects.Gaussian(jnp.asarray([[1.5, 0.0], [0.0, 1.5]]))


def hmc(target: Any) -> MetropolisHastings:
    return MetropolisHastings(target, HamiltonianTrajectory(target, Flat(), jnp.asarray(1e-3), 4))


@pytest.fixture(scope="module")
def adopted() -> tuple[MetropolisHastings, Any]:
    """The update that proposes with a model which was given, and the state of what has learned nothing."""
    chains = init_chains(hmc(TARGET), Flat().random(jax.random.key(0), (8, 2)))
    learner = Learner(TARGET, Flat(), hmc(TARGET), hmc, settings=LearningSettings(n_rounds=1, n_steps=1, n_updates=3))
    state, warnings = learner.adopted(jax.random.key(1), learner.begin(MODEL, chains))
    assert warnings == ()
    return learner.update(state), state


def test_a_model_that_is_adopted_stays_as_it_is_and_its_chain_is_tuned(adopted: tuple[Any, Any]) -> None:
    _, state = adopted
    assert same_target(state.model, MODEL)
    assert 0.2 < float(state.inner_step_size) < 3.0
    assert (int(state.exact_evaluations), int(state.n_rounds), len(state.labels.log_weight)) == (0, 0, 0)


def test_what_proposes_with_an_adopted_model_leaves_the_target_invariant(adopted: tuple[Any, Any]) -> None:
    """The wrong twin decides with the weight of the point at which the model was learned."""
    update, _ = adopted
    draws = np.linalg.solve(np.linalg.cholesky(PRECISION).T, np.random.default_rng(2).normal(size=(2, 8192))).T
    statistics = {"x": lambda x: x[0], "xy": lambda x: x[0] * x[1], "r": lambda x: jnp.sum(x**2)}
    check_invariance(jax.random.key(3), update, jnp.asarray(draws), statistics)
    wrong = eqx.tree_at(lambda update: update.target, update, objects.Gaussian(jnp.asarray(0.7 * PRECISION)))
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        check_invariance(jax.random.key(3), wrong, jnp.asarray(draws), statistics, n_steps=4)
