"""Runs of atoms: every evaluation is a label, others read the files, kill -9 leaves the same bits."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.io import read

import slmc
from slmc import runs
from slmc.simulation import to_toml
from slmc.system import UserError
from slmc.systems.atoms.measured import BOLTZMANN

CLUSTER = """
system = "atoms"
seed = 3
[target]
symbols = ["Ar", "Ar", "Ar"]
positions = [[0, 0, 0], [3.8, 0, 0], [1.9, 3.3, 0]]
temperature = 40.0
calculator = "lj"
parameters = { sigma = 3.4, epsilon = 0.0104, rc = 20.0 }
sphere_radius = 5.0
workers = 1
[exact]
n_steps = 3
tuning_steps = 3
[thermalisation]
n_steps = 4
[model]
reach = 7.0
n_radial = 4
n_channels = 3
n_hidden = 4
[inner]
n_steps = 6
[learning]
n_rounds = 2
n_steps = [12, 8]
training_steps = 20
[measurement]
n_chains = 4
n_steps = 16
n_thermalise = 8
block_size = 8
[geometry]
distances = { first = [0, 1] }
angles = { corner = [1, 0, 2] }
"""


def settings(**changed):
    data = tomllib.loads(CLUSTER)
    for name, value in changed.items():
        section, _, field = name.partition("__")
        data[section] = {**data[section], field: value}
    return data


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "cluster.toml").write_text(CLUSTER)
    return slmc.run(folder / "cluster.toml", out=folder / "run", quiet=True)


def test_a_run_measures_and_leaves_files_that_others_read(result) -> None:
    assert result.is_complete
    observables = result.observables
    assert set(observables) == {"energy", "radius_of_gyration", "first", "corner", "heat_capacity"}
    assert 3 < observables["first"].value < 5
    trajectory = read(result.directory / "trajectory.extxyz", ":")
    assert len(trajectory) == 4 * 16
    measured = result.records["measurement"]
    frame = measured["positions"].values[1, 3]
    np.testing.assert_allclose(trajectory[16 + 3].positions, frame, atol=1e-7)
    assert trajectory[16 + 3].get_potential_energy() == pytest.approx(float(measured["energy"][1, 3]))
    assert measured["pairs_Ar-Ar"].shape == (4, 2, 100)
    # Every pair is counted once; those beyond the reach are not.
    assert 0 < float(measured["pairs_Ar-Ar"].values[0, 0].sum()) * 0.06 < 3 + 1e-9


def test_all_that_is_evaluated_on_exact_trajectories_is_a_label(result) -> None:
    from ase.calculators.lj import LennardJones

    labels = read(result.directory / "training.extxyz", ":")
    # Three of four chains train: 12 steps of 3 forces and a decision, then 8 of one evaluation.
    assert len(labels) == 3 * (12 * 4 + 8)
    for atoms in labels[::50]:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=20.0)
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-6)


def test_the_rounds_tell_of_energies_and_forces(result) -> None:
    rounds = result.records["learning"]
    assert rounds["energy_error"].attrs["units"] == "meV/atom"
    for name in ("energy_error", "force_error"):
        assert rounds[name].shape == (2,)
        assert np.all(rounds[name].values > 0)
    report = (result.directory / "report.html").read_text()
    for words in ("Error of the energy an atom", "Ar-Ar distances", "First chain, at the end"):
        assert words in report


def test_a_calculator_can_be_the_guide(tmp_path: Path, result) -> None:
    """Argon guided by argon of another depth: the residual is that of the difference, and nothing is trained."""
    data = settings(
        model__guide="lj",
        model__parameters={"sigma": 3.4, "epsilon": 0.0084, "rc": 20.0},
        learning__n_steps=[12],
        learning__n_rounds=1,
    )
    for name in ("reach", "n_radial", "n_channels", "n_hidden"):
        del data["model"][name]
    del data["learning"]["training_steps"]
    (tmp_path / "guided.toml").write_text(to_toml(runs.settings_of(data)))
    guided = slmc.run(tmp_path / "guided.toml", out=tmp_path / "run", quiet=True)
    assert 0.2 < guided.summary["acceptance"] <= 1
    assert guided.summary["residual"] > 1e-3
    energies = [one.observables["energy"] for one in (guided, result)]
    assert abs(energies[0].value - energies[1].value) < 0.05
    with pytest.raises(UserError, match="a calculator was the guide"):
        _ = guided.model
    with pytest.raises(AttributeError):
        _ = guided.calculator


def test_labels_of_others_are_trained_on(tmp_path: Path, result) -> None:
    """The labels that one run leaves are there from the start in another, to the digits of the file."""
    file = result.directory / "training.extxyz"
    problem = runs._built(runs.settings_of(settings(learning__labels=str(file))), Path())
    given, frames = problem.fit.labels, read(file, ":")
    assert len(given.log_weight) == len(frames)
    log_weight, force = jax.value_and_grad(problem.target.log_weight)(jnp.asarray(given.configuration[3]))
    assert given.log_weight[3] == pytest.approx(float(log_weight), abs=1e-4)
    np.testing.assert_allclose(given.force[3], force, atol=1e-3)
    data = settings(learning__labels=str(file), learning__n_rounds=1, measurement__n_steps=8)
    (tmp_path / "more.toml").write_text(to_toml(runs.settings_of(data)))
    more = slmc.run(tmp_path / "more.toml", out=tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "labels-training.extxyz").is_file()
    assert len(read(more.directory / "training.extxyz", ":")) == len(frames) + 3 * 12 * 4
    other = read(file, 0)
    other.write(tmp_path / "bare.extxyz", columns=["symbols", "positions"], write_results=False)
    with pytest.raises(UserError, match="frame 0 has no energy and forces"):
        runs._built(runs.settings_of(settings(learning__labels=str(tmp_path / "bare.extxyz"))), Path())


def test_temperatures_are_exchanged(tmp_path: Path) -> None:
    """One model serves all; a swap costs no evaluation, so a step costs one for each temperature."""
    data = settings(target__temperatures=[80.0, 40.0], learning__n_rounds=1)
    del data["target"]["temperature"]
    (tmp_path / "ladder.toml").write_text(to_toml(runs.settings_of(data)))
    ladder = slmc.run(tmp_path / "ladder.toml", out=tmp_path / "run", quiet=True)
    measured = ladder.records["measurement"]
    energies = {80.0: measured["energy_1"].values, 40.0: measured["energy_2"].values}
    reduced = sum(energy / (BOLTZMANN * temperature) for temperature, energy in energies.items())
    # No atom of these few steps is outside the sphere, so that the energies are all there is.
    np.testing.assert_allclose(np.ptp(measured["log_weight"].values + reduced), 0, atol=1e-6)
    assert {"heat_capacity_1", "heat_capacity_2", "radius_of_gyration_2"} <= set(ladder.observables)
    assert ladder.summary["exact_evaluations"]["measurement"] == 4 * 16 * 2
    assert np.any(measured["walkers"].values[:, :, 0] == 1)
    coldest = read(ladder.directory / "trajectory.extxyz", "5")
    assert coldest.get_potential_energy() == pytest.approx(float(measured["energy_2"][0, 5]))
    np.testing.assert_allclose(coldest.positions, measured["positions"].values[0, 5], atol=1e-7)
    # The labels of both are one set: what exact trajectories of three chains evaluated.
    assert len(read(ladder.directory / "training.extxyz", ":")) == 2 * 3 * 12 * 4
    assert ladder.calculator().model is not None


def test_the_frozen_model_is_a_calculator(result) -> None:
    atoms = read(result.directory / "trajectory.extxyz", "0")
    atoms.calc = result.calculator()
    energy = atoms.get_potential_energy()
    assert energy == pytest.approx(float(result.model.energy(jnp.asarray(atoms.positions))), abs=1e-9)
    assert abs(energy) < 1
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = result.nothing


def test_a_structure_comes_from_a_file_and_goes_with_the_run(tmp_path: Path) -> None:
    from ase.build import bulk

    bulk("Cu", cubic=True).write(tmp_path / "POSCAR")
    target = {"structure": str(tmp_path / "POSCAR"), "calculator": "emt", "temperature": 300.0, "workers": 1}
    data = {
        "system": "atoms",
        "target": target,
        "exact": {"n_steps": 2, "tuning_steps": 2},
        "thermalisation": {"n_steps": 4},
        "learning": {"n_rounds": 0},
        "measurement": {"n_chains": 2, "n_steps": 8, "n_thermalise": 0, "block_size": 4},
    }
    (tmp_path / "copper.toml").write_text(to_toml(runs.settings_of(data)))
    result = slmc.run(tmp_path / "copper.toml", out=tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "start-POSCAR").is_file()
    assert {"energy", "displacement", "heat_capacity"} == set(result.observables)
    (tmp_path / "POSCAR").unlink()
    assert slmc.info(tmp_path / "run")["phase"] == "done"
    centre = result.records["measurement"]["positions"].values.mean(axis=2)
    np.testing.assert_allclose(centre, centre[:, :1] + 0 * centre, atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"target__calculator": "nobody"}, "target.calculator = 'nobody' is unknown"),
        ({"target__sphere_radius": None}, "sphere_radius is missing"),
        ({"target__symbols": ["Ar", "Ar", "Xx"]}, "no element 'Xx'"),
        ({"target__positions": [[0, 0, 0], [0.1, 0, 0], [9, 9, 9]]}, "two atoms are nearer than 0.5 times"),
        ({"target__cell": [[9, 0, 0], [0, 9, 0], [0, 0, 9]]}, "sphere_radius has no meaning for a periodic"),
        ({"target__repeat": [2, 1, 1]}, "target.repeat needs a periodic structure"),
        ({"geometry__distances": {"far": [0, 7]}}, "names atom 7, but there are 3 atoms"),
        ({"geometry__distances": {"same": [1, 1]}}, "must name different atoms"),
        ({"inner__proposal": "chain", "inner__n_steps": "auto"}, 'needs inner.proposal = "trajectory"'),
        ({"inner__n_updates": 3}, 'inner.n_updates has no effect with inner.proposal = "trajectory"'),
        ({"measurement__observables": ["nothing"]}, "'nothing' is unknown"),
        ({"measurement__observables": ["displacement"]}, "'displacement' is unknown"),
        ({"target__temperatures": [40.0]}, "temperatures lists two or more, from high to low"),
        ({"target__temperatures": [80.0, 40.0]}, "temperature has no effect with temperatures"),
        (
            {
                "model__guide": "nobody",
                "model__reach": 5.0,
                "model__n_radial": 10,
                "model__n_channels": 8,
                "model__n_hidden": 32,
                "learning__training_steps": 1000,
            },
            "model.guide = 'nobody' is unknown",
        ),
        ({"model__guide": "emt"}, "no effect with a model.guide"),
        ({"model__parameters": {"sigma": 1.0}}, "no effect without model.guide"),
        ({"target__structure": "POSCAR"}, "give the atoms either by structure"),
        ({"model__file": "model.eqx", "model__reach": 7.0}, "no effect with a model.file"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(changed: dict, words: str) -> None:
    data = settings(**changed)
    data = {name: {k: v for k, v in one.items() if v is not None} if isinstance(one, dict) else one
            for name, one in data.items()}  # fmt: skip
    with pytest.raises(UserError) as error:
        runs._built(runs.settings_of(data), Path())
    assert words in str(error.value)


def test_a_file_that_is_no_structure_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.cif").write_text("nothing")
    for name, words in (("x.cif", "cannot be read as a structure"), ("y.cif", "is no file")):
        data = {"system": "atoms", "target": {"structure": str(tmp_path / name)}}
        with pytest.raises(UserError, match=words):
            runs._built(runs.settings_of(data), Path())


def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path: Path, result) -> None:
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    command = [
        sys.executable,
        "-m",
        "slmc.cli",
        "run",
        str(tmp_path / "cluster.toml"),
        "--out",
        str(tmp_path / "run"),
        "-q",
    ]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "run" / "records.zarr" / "thermalisation"
    until = time.monotonic() + 300
    while not records.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = slmc.resume(tmp_path / "run", quiet=True)
    for name in ("energy", "positions", "log_ratio", "accepted"):
        np.testing.assert_array_equal(
            again.records["measurement"][name].values, result.records["measurement"][name].values
        )


def test_a_calculator_that_cannot_be_made_ends_the_run_in_a_sentence(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = settings(target__calculator="lj", target__parameters={"sigma": "long"})
    (tmp_path / "wrong.toml").write_text(to_toml(runs.settings_of(data)))
    code, _, said = request.getfixturevalue("slmc")("run", tmp_path / "wrong.toml", "--out", tmp_path / "run")
    assert code == 2
    assert "target.calculator = 'lj' cannot be used: TypeError: can't multiply" in said
    assert "slmc resume" in said
    assert "Traceback" not in said
