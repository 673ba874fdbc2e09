"""Optimised wave functions against exact diagonalisation; runs from a file, resumed, diverging; NetKet's own models."""

import json
import signal
import sys
from pathlib import Path

import netket as nk
import numpy as np
import optax
import pytest
import xarray

from killing import stopped_at
from slmc.cli import main
from slmc.report import write_optimisation_report
from slmc.simulation import (
    WAVE_FUNCTION,
    Optimisation,
    Records,
    Reporter,
    run_blocks,
    stored_run,
    summarise_optimisation,
)
from slmc.system import StepSettings, load_model
from slmc.systems.wavefunctions import NetKetProblem, build_like, exact_energy, exact_ground_state, fidelity, j1j2

RING = """
system = "wavefunction"
title = "a ring of eight"
seed = 3
[hamiltonian]
shape = [8]
j2 = 0.3
[model]
attention = "dot-product"
n_layers = 1
n_features = 8
n_heads = 2
initial_scale = 0.3
projection = ["translations", "point_group", "spin_flip"]
[sampling]
n_samples = 128
n_chains = 64
power = 1.0
[reconfiguration]
learning_rate = 0.05
momentum = 0.8
max_change = 0.1
[optimisation]
n_steps = 60
block_size = 15
measurement_blocks = 4
measurement_draws = 32
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "ring.toml"
    path.write_text(RING)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, config) -> Path:
    directory = tmp_path_factory.mktemp("ring") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["slmc", "run", str(config), "--out", str(directory), "-q"])
        with pytest.raises(SystemExit) as exit_:
            main()
    assert not exit_.value.code
    return directory


def test_a_run_finds_the_ground_state_with_its_signs(finished, slmc):
    code, out, _ = slmc("info", finished, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["phase"] == "done"
    assert found["exact_energy"] == pytest.approx(exact_energy((8,), 0.3))
    assert found["relative_error"] < 2e-3
    energy = found["energy"]
    # Variational: not below the ground state but for the error of the estimate.
    assert energy["value"] > found["exact_energy"] - 5 * energy["error"]
    values = load_model(finished / WAVE_FUNCTION, build_like).log_amplitude(j1j2((8,), 0.3).hilbert.all_states())
    assert fidelity(values, exact_ground_state((8,), 0.3).amplitudes) > 0.999
    # The error bar against the exact expectation value of the stored wave function.
    amplitudes = np.exp(np.asarray(values))
    matrix = j1j2((8,), 0.3).hamiltonian.to_dense()
    exact = np.vdot(amplitudes, matrix @ amplitudes).real / np.vdot(amplitudes, amplitudes).real / 8
    assert abs(energy["value"] - exact) < 4 * energy["error"]


def test_records_and_report_of_a_run(finished, slmc):
    with xarray.open_datatree(finished / "records.zarr", engine="zarr", consolidated=False) as tree:
        assert tree["optimisation/energy"].shape == (60,)
        assert tree["attention/input_dependence"].shape == (5, 1, 2)
        assert tree["attention/attention_map"].shape == (5, 1, 2, 4)
        assert tree["measurement/energy"].shape == (64, 128)
        assert tree["attention/step"].values.tolist() == [0, 15, 30, 45, 60]
    (finished / "report.html").unlink()
    assert slmc("report", finished)[0] == 0
    page = (finished / "report.html").read_text()
    for part in (
        'id="energy"',
        'id="variance"',
        'id="input-dependence"',
        'id="attention-maps"',
        "V-score",
        "exact ground state",
    ):
        assert part in page
    code, out, _ = slmc("info", finished)
    assert code == 0
    assert "relative error" in out
    assert "verdict" in out


def test_a_killed_and_stopped_run_continues_to_the_same_bits(finished, config, tmp_path, slmc):
    directory = tmp_path / "run"
    path = directory / "config.toml"
    started = ["run", config, "--out", directory, "-q", "--set=optimisation.wall_time=1000"]
    assert stopped_at(directory / "checkpoints" / "000001", *started)[0] == -signal.SIGKILL
    path.write_text(path.read_text().replace("wall_time = 1000.0", "wall_time = 0.001"))
    code, out, _ = slmc("resume", directory)  # for one block
    assert code == 75
    assert "stopped by the wall time" in out
    assert len(Records(directory / "records.zarr", read_only=True).read("optimisation")["energy"]) in (30, 45)
    path.write_text(path.read_text().replace("wall_time = 0.001\n", ""))
    # What a crash leaves behind the last checkpoint.
    Records(directory / "records.zarr")._root["optimisation/energy"].append(np.full(3, 1e9))
    assert slmc("resume", directory, "-q")[0] == 0
    one, other = (Records(place / "records.zarr", read_only=True) for place in (finished, directory))
    for group in ("optimisation", "attention", "measurement"):
        expected, found = one.read(group), other.read(group)
        assert set(expected) == set(found)
        for name, values in expected.items():
            np.testing.assert_array_equal(values, found[name], err_msg=f"{group}/{name}")
    assert (finished / WAVE_FUNCTION).read_bytes() == (directory / WAVE_FUNCTION).read_bytes()


def test_a_wrong_learning_rate_stops_with_the_last_good_state_kept(config, tmp_path, slmc):
    directory = tmp_path / "run"
    few = ["--set=optimisation.n_steps=60", "--set=optimisation.block_size=5", "--set=optimisation.wall_time=0.001"]
    assert slmc("run", config, "--out", directory, "-q", *few)[0] == 75
    text = (directory / "config.toml").read_text().replace("wall_time = 0.001\n", "")
    wild = text.replace("learning_rate = 0.05", "learning_rate = 1e300").replace(
        "max_change = 0.1", "max_change = 1e300"
    )
    (directory / "config.toml").write_text(wild)
    code, _, errors = slmc("resume", directory)
    assert code == 2
    assert "not finite" in errors
    assert "the state after step 5 is kept" in errors
    assert "lower reconfiguration.learning_rate or max_change" in errors
    assert len(Records(directory / "records.zarr", read_only=True).read("optimisation")["energy"]) == 5
    assert "not finite" in (directory / "report.html").read_text()
    (directory / "config.toml").write_text(text.replace("n_steps = 60", "n_steps = 10"))
    assert slmc("resume", directory, "-q")[0] == 0
    found = Records(directory / "records.zarr", read_only=True)
    assert np.isfinite(found.read("optimisation")["energy"]).all()
    assert found.read("measurement")["energy"].shape == (64, 128)


class Worsening:
    """A driver whose energy only rises; what ``NetKetProblem.advance`` reads of it."""

    class _State:
        class hilbert:  # noqa: N801
            size = 8

        class sampler:  # noqa: N801
            machine_pow = 2.0

    state = _State()

    def run(self, n_steps, callback, **_):
        for step in range(n_steps):
            stats = nk.stats.Stats(mean=-1.0 + 0.01 * step, error_of_mean=0.01, variance=1.0)
            callback(step, {"Energy": stats}, self)


def test_a_diverging_energy_is_noticed():
    with pytest.raises(FloatingPointError, match="diverges: at step 33 "):
        NetKetProblem(Worsening(), None).advance(40)


def test_a_state_of_netkets_own_in_our_run_and_report(tmp_path):
    physics = j1j2((8,), 0.3)
    sampler = nk.sampler.MetropolisExchange(physics.hilbert, graph=physics.graph, n_chains=32)
    state = nk.vqs.MCState(sampler, nk.models.RBM(alpha=1, param_dtype=complex), n_samples=128, seed=1)
    driver = nk.driver.VMC_SR(
        physics.hamiltonian, optax.sgd(0.02), diag_shift=1e-2, variational_state=state, use_ntk=True
    )
    problem = NetKetProblem(driver, physics.hamiltonian, exact_energy=exact_energy((8,), 0.3))
    settings = StepSettings(n_steps=20, block_size=10, measurement_blocks=2)
    assert run_blocks(Optimisation(tmp_path, settings, problem, Reporter(quiet=True)))
    summary = summarise_optimisation(stored_run(tmp_path))
    assert summary["n_parameters"] == problem.n_parameters == 80
    about = {**summary, "title": "RBM", "directory": "rbm", "version": "0"}
    write_optimisation_report(Records(tmp_path / "records.zarr").tree(), about, "an RBM", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert 'id="energy"' in page
    assert 'id="attention-maps"' not in page
    assert "No attention weights are stored" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hamiltonian.shape=[4,6]", "must be [L] or [L, L]"),
        ("model.n_heads=5", "must be a multiple of model.n_heads"),
        ("model.patch=3", "must divide the extents"),
        ("model.attention=none", "model.attention"),
        ('model.projection=["spin_flip"] model.momentum=pi', 'needs "translations"'),
        ("model.projection=[] model.parity=odd", 'needs "spin_flip"'),
        ("sampling.global_flips=0.5 sampling.lattice_symmetries=0.5", "must leave a share for exchanges"),
        ("sampling.n_samples=100", "must be a multiple of sampling.n_chains"),
        ("reconfiguration.diag_shift=0", "reconfiguration.diag_shift"),
        ("optimisation.steps=5", "did you mean n_steps"),
    ],
)
def test_wrong_settings_are_named(change, message, config, tmp_path, slmc):
    changes = [f"--set={one}" for one in change.split()]
    code, _, errors = slmc("run", config, "--out", tmp_path / "run", *changes)
    assert code == 2
    assert message in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wavefunction_small", "wavefunction_6x6", "wavefunction_10x10"])
def test_shipped_configurations_are_valid(name, slmc):
    code, out, _ = slmc("init", name)
    assert code == 0
    assert "[reconfiguration]" in out


def test_the_configuration_of_the_large_lattice_runs_at_small_size(tmp_path, slmc):
    small = ["hamiltonian.shape=[4,4]", "model.n_layers=1", "model.n_features=10", "sampling.n_samples=64"]
    few = [
        "sampling.n_chains=64",
        "sampling.chunk_size=32",
        "optimisation.n_steps=10",
        "optimisation.measurement_blocks=1",
    ]
    options = [f"--set={one}" for one in small + few]
    assert slmc("run", "wavefunction_10x10", "--out", tmp_path / "run", "-q", *options)[0] == 0
    assert len(Records(tmp_path / "run" / "records.zarr", read_only=True).read("optimisation")["energy"]) == 10
