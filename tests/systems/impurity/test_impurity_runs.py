"""``slmc run`` with impurity models: from file to report, interruptions, wrong fields in one sentence."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from killing import assert_same_run, killed_before_checkpoint, stopped_at
from slmc import runs
from slmc.simulation.records import Records
from slmc.system import UserError, load_model
from slmc.systems.impurity import NetworkModel
from slmc.systems.impurity.measured import HIDDEN, NAMES
from slmc.systems.impurity.settings import build_like

Slmc = Callable[..., tuple[int, str, str]]

TINY = [
    "--set=target.beta=4.0",
    "--set=target.interaction=2.0",
    "--set=thermalisation.n_steps=40",
    "--set=model.n_levels=2",
    "--set=inner.n_updates=2",
    "--set=learning.n_rounds=1",
    "--set=learning.n_steps=20",
    "--set=measurement.n_chains=4",
    "--set=measurement.n_steps=40",
    "--set=measurement.n_thermalise=5",
    "--set=measurement.block_size=20",
    "--set=baseline.n_steps=20",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from slmc.cli import app

    directory = tmp_path_factory.mktemp("finished") / "run"
    app(["run", "impurity", "--out", str(directory), "-q", *TINY], standalone_mode=False)
    return directory


def test_a_run_and_what_it_tells(slmc: Slmc, finished: Path) -> None:
    code, out, _ = slmc("info", finished, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["phase"] == "done"
    assert found["figure_of_merit"] == "spin_susceptibility"
    assert {*NAMES} - {"self_energy"} <= set(found["observables"])
    assert {"self_energy_im", "quasiparticle_weight"} <= set(found["observables"])
    assert not set(found["observables"]) & set(HIDDEN)
    assert found["observables"]["density"]["value"] == pytest.approx(1)
    assert found["acceptance"] > 0.5
    assert found["residual"] < 0.5
    series = Records(finished / "records.zarr").read("measurement")
    assert series["green"].shape == (4, 2, 2, 33)
    page = (finished / "report.html").read_text()
    assert "spin susceptibility" in page
    assert 'id="imaginary_time"' in page
    assert "magnetization squared" not in page


def test_killed_and_resumed_it_gives_the_same_bits(tmp_path: Path, finished: Path) -> None:
    """By the system while learning; then between records and checkpoint while measuring."""
    from slmc.cli import app

    directory = tmp_path / "run"
    marker = directory / "checkpoints" / "000002"
    assert stopped_at(marker, "run", "impurity", "--out", directory, "-q", *TINY)[0] == -signal.SIGKILL
    command = ["resume", str(directory), "-q"]
    with killed_before_checkpoint(5):
        app(command, standalone_mode=False)
    app(command, standalone_mode=False)
    assert_same_run(finished, directory)


def test_the_network_model_in_a_run(slmc: Slmc, tmp_path: Path) -> None:
    """It is learned, stored and read back."""
    few = [word for word in TINY if "n_levels" not in word and "baseline" not in word]
    fields = ["--set=model.name=network", "--set=model.n_polynomials=3", "--set=model.n_hidden=2"]
    code, _, errors = slmc("run", "impurity", "--out", tmp_path / "run", "-q", *few, *fields)
    assert code == 0, errors
    model = load_model(tmp_path / "run" / "model.eqx", build_like)
    assert isinstance(model, NetworkModel)
    assert model.hidden.shape == (2, 6)
    assert np.any(model.outer != 0)


def test_a_stored_model_starts_at_another_temperature(slmc: Slmc, tmp_path: Path, finished: Path) -> None:
    small = [word for word in TINY if "beta" not in word and "n_levels" not in word]
    file = f"--set=model.file={finished / 'model.eqx'}"
    code, _, errors = slmc("run", "impurity", "--out", tmp_path / "run", "-q", *small, "--set=target.beta=5.0", file)
    assert code == 0, errors


WRONG = {
    "interaction": ({"interaction": -1.0}, "target.interaction = -1.0 is not allowed"),
    "no levels": ({"bath": "levels"}, 'bath = "levels" needs as many energies as couplings'),
    "odd levels": ({"bath": "levels", "energies": [0.1], "couplings": [1.0, 1.0]}, "got 1 and 2"),
    "idle levels": ({"energies": [0.1]}, "target.energies has no effect|energies has no effect"),
    "too cold": ({"beta": 1e6}, "lower one of them"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_targets_are_one_sentence(name: str) -> None:
    fields, words = WRONG[name]
    with pytest.raises(UserError, match=words) as found:
        runs.settings_of({"system": "impurity", "target": fields})
    assert "\n" not in str(found.value)


def test_fields_that_do_nothing_are_refused() -> None:
    for section, words in (
        ({"model": {"name": "pair", "n_levels": 3}}, "model.n_levels has no effect"),
        ({"model": {"n_polynomials": 3}}, "model.n_polynomials has no effect"),
        ({"exact": {"update": "levels"}}, "needs a bath of few levels"),
    ):
        with pytest.raises(UserError, match=words):
            runs.settings_of({"system": "impurity", **section})


def test_a_full_array_is_one_sentence(slmc: Slmc, tmp_path: Path) -> None:
    code, _, errors = slmc("run", "impurity", "--out", tmp_path / "run", "-q", *TINY, "--set=target.capacity=6")
    assert code == 2
    assert "the array of 6 vertices is full; raise target.capacity" in " ".join(errors.split())
