"""Runs at constant pressure and with quantum nuclei: their weights are those of the calculator, killed ones go on."""

import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read

import slmc
from killing import killed_before_checkpoint
from slmc import runs, testing
from slmc.montecarlo import evaluations_per_step
from slmc.simulation import to_toml
from slmc.system import UserError, load_model
from slmc.systems.atoms import CalculatorPool, CalculatorSettings, structure_of
from slmc.systems.atoms.calculated import CalculatedInCell
from slmc.systems.atoms.measured import BOLTZMANN
from slmc.systems.atoms.problem import build_like

TEMPERATURE, PRESSURE, N_BEADS = 300.0, 2.0, 4
BETA = 1 / (BOLTZMANN * TEMPERATURE)
GIGAPASCAL = 1 / 160.21766208

SMALL = """
system = "atoms"
seed = 5
[exact]
n_steps = 2
tuning_steps = 2
[thermalisation]
n_steps = 2
[model]
reach = 4.0
n_radial = 3
n_channels = 2
n_hidden = 3
[inner]
n_steps = 3
[learning]
n_rounds = 1
n_steps = 12
training_steps = 4
[measurement]
n_chains = 4
n_steps = 8
n_thermalise = 2
block_size = 4
keep_every = 4
"""

COPPER = {
    "symbols": ["Cu"] * 4,
    "positions": bulk("Cu", cubic=True).positions.tolist(),
    "cell": np.diag([3.61] * 3).tolist(),
    "temperature": TEMPERATURE,
    "calculator": "emt",
    "ensemble": "npt",
    "pressure": PRESSURE,
    "workers": 1,
}
NEON = {
    "symbols": ["Ne", "Ne", "H"],
    "positions": [[0, 0, 0], [3.2, 0, 0], [1.6, 2.7, 0]],
    "temperature": 20.0,
    "calculator": "lj",
    "parameters": {"sigma": 2.8, "epsilon": 0.0031, "rc": 20.0},
    "sphere_radius": 5.0,
    "n_beads": N_BEADS,
    "workers": 1,
}


def settings(target, **changed):
    data = tomllib.loads(SMALL) | {"target": {name: value for name, value in target.items() if value is not None}}
    for name, value in changed.items():
        section, _, field = name.partition("__")
        data[section] = {**data[section], field: value}
        if value is None:
            del data[section][field]
    return data


def run(folder: Path, data):
    (folder / "run.toml").write_text(to_toml(runs.settings_of(data)))
    return slmc.run(folder / "run.toml", out=folder / "run", quiet=True)


@pytest.fixture(scope="module")
def copper(tmp_path_factory: pytest.TempPathFactory):
    return run(tmp_path_factory.mktemp("copper"), settings(COPPER))


@pytest.fixture(scope="module")
def neon(tmp_path_factory: pytest.TempPathFactory):
    return run(tmp_path_factory.mktemp("neon"), settings(NEON))


def test_what_is_recorded_at_a_pressure_is_what_was_weighed(copper) -> None:
    assert copper.is_complete
    assert {"energy", "volume", "density", "displacement", "heat_capacity", "compressibility", "expansion"} == set(
        copper.observables
    )
    measured = copper.records["measurement"]
    energy, volume, log_weight = (measured[name].values for name in ("energy", "volume", "log_weight"))
    expected = -BETA * (energy + PRESSURE * GIGAPASCAL * volume) + 4 * np.log(volume / 3.61**3)
    np.testing.assert_allclose(log_weight, expected, rtol=1e-7)
    frames = read(copper.directory / "trajectory.extxyz", ":")
    atoms = frames[8 + 3]
    assert atoms.get_volume() == pytest.approx(volume[1, 3], rel=1e-6)
    told = atoms.get_potential_energy()
    atoms.calc = EMT()
    assert atoms.get_potential_energy() == pytest.approx(told, abs=1e-5)
    np.testing.assert_allclose(measured["density"].values * volume, 4 * 63.546 * 1.66053907, rtol=1e-6)
    report = (copper.directory / "report.html").read_text()
    for words in ("<i>V</i>", "<i>ρ</i>", "<i>κ<sub>T</sub></i>", "First chain, at the end"):
        assert words in report


def test_labels_at_a_pressure_tell_how_the_energy_changes_with_the_volume(copper) -> None:
    labels = read(copper.directory / "training.extxyz", ":")
    assert len(labels) == 3 * 12 * 3
    for atoms in labels[::20]:
        told, forces, slope = atoms.get_potential_energy(), atoms.get_forces(), atoms.info["V_dU_dV"]
        atoms.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(told, abs=1e-5)
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-5)
        assert slope == pytest.approx(atoms.get_volume() * np.sum(atoms.get_stress()[:3]) / 3, abs=1e-5)


def test_rings_are_weighed_bead_by_bead(neon) -> None:
    assert neon.is_complete
    shown = {"energy", "potential", "kinetic", "ring_Ne", "ring_H", "radius_of_gyration"}
    assert shown == set(neon.observables)
    assert neon.observables["ring_H"].value > neon.observables["ring_Ne"].value
    measured = neon.records["measurement"]
    beads = measured["beads"].values.reshape(4, 8, N_BEADS, 3, 3)
    np.testing.assert_allclose(beads.mean(2), measured["positions"].values, atol=1e-12)
    seen = read(neon.directory / "trajectory.extxyz", "0")
    energies = []
    for x in beads[2, 5]:
        seen.positions, seen.calc = x, LennardJones(**NEON["parameters"])
        energies.append(seen.get_potential_energy())
    assert float(measured["potential"][2, 5]) == pytest.approx(np.mean(energies), abs=1e-9)
    springs = N_BEADS * seen.get_masses()[:, None] * (np.roll(beads[2, 5], -1, axis=0) - beads[2, 5]) ** 2
    beta = 1 / (BOLTZMANN * NEON["temperature"])
    expected = -beta * np.mean(energies) - np.sum(springs) / (2 * beta * 4.180159276e-3)
    assert float(measured["log_weight"][2, 5]) == pytest.approx(expected, rel=1e-7)
    energy = measured["potential"].values + measured["kinetic"].values
    np.testing.assert_allclose(measured["energy"].values, energy, rtol=1e-12)


def test_labels_of_rings_have_the_forces_on_every_bead(neon) -> None:
    labels = read(neon.directory / "training.extxyz", ":")
    # Two forces on the way and a decision, of three of four chains.
    assert len(labels) == 3 * 12 * 3 * N_BEADS
    ring = [atoms for atoms in labels if atoms.info["ring"] == 7]
    energies = []
    for atoms in ring:
        forces = atoms.get_forces()
        atoms.calc = LennardJones(**NEON["parameters"])
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-6)
        energies.append(atoms.get_potential_energy())
    assert ring[0].info["mean_energy"] == pytest.approx(np.mean(energies), abs=1e-6)


def test_the_model_of_either_is_a_potential_for_classical_atoms(copper, neon) -> None:
    for result, target in ((copper, COPPER), (neon, NEON)):
        model = load_model(result.directory / "model.eqx", build_like)
        atoms = read(result.directory / "trajectory.extxyz", "0")
        atoms.calc = result.calculator()
        assert np.all(np.isfinite(atoms.get_forces()))
        assert type(model) is type(result.model)
        data = settings(target, model__file=str(result.directory / "model.eqx"))
        for name in ("reach", "n_radial", "n_channels", "n_hidden"):
            del data["model"][name]
        built = runs._built(runs.settings_of(data), Path())
        assert jax.tree.structure(built.model) == jax.tree.structure(result.model)


@pytest.mark.parametrize("target", [COPPER, NEON], ids=["npt", "beads"])
def test_forces_are_derivatives_and_every_one_counts(target) -> None:
    problem = runs._built(runs.settings_of(settings(target)), Path())
    start = jax.tree.map(lambda leaf: leaf[0], problem.start(jax.random.key(0), 2))
    testing.check_force(
        jax.random.key(1), problem.target, problem.manifold, start, 1e-5, n_directions=2, step_size=0.02
    )
    # Two steps and a decision, each of them one configuration.
    assert evaluations_per_step(problem.exact(problem.target), start) == 3


@pytest.mark.parametrize("name", ["copper", "neon"])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(name, request, tmp_path) -> None:
    whole = request.getfixturevalue(name)
    with killed_before_checkpoint(5):
        run(tmp_path, settings(COPPER if name == "copper" else NEON))
    again = slmc.resume(tmp_path / "run", quiet=True)
    for group in ("learning", "measurement"):
        for leaf in whole.records[group]:
            np.testing.assert_array_equal(again.records[group][leaf].values, whole.records[group][leaf].values)


def test_pressure_is_that_of_the_energy_where_there_is_no_stress(monkeypatch, tmp_path) -> None:
    """One more energy in its place. And a stress that is not the derivative is doubted."""
    atoms = bulk("Cu", cubic=True)
    metadata = tmp_path / "cells-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cells\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[slmc.calculators]\ncells = broken_calculators:Cells\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parent}")
    structure = structure_of(atoms)
    volume = structure.cell.volume
    for parameters, doubted in (({}, False), ({"stress": 1.0}, False), ({"stress": 0.25}, True)):
        pool = CalculatorPool(structure.cell, CalculatorSettings("cells", parameters, breathes=True))
        energy = CalculatedInCell(pool, volume)
        slope = jax.grad(energy, argnums=1)(jnp.asarray(structure.positions), jnp.asarray(1.1 * volume))
        # U is a function of V alone: forces are none, and all of dU/dV is the cell's.
        told = 1.0 if not parameters else parameters["stress"]
        assert float(slope) == pytest.approx(told * 2.0 * 0.1 * 1.1 * volume / (1.1 * volume), rel=1e-2)
        assert ("not the derivative of its energy" in pool.doubt) is doubted
        pool.close()


@pytest.mark.parametrize(
    ("target", "changed", "words"),
    [
        (NEON | {"n_beads": None, "ensemble": "npt", "pressure": 0.0}, {}, "needs a periodic structure"),
        (COPPER, {"target__cell": None}, "needs a periodic structure"),
        (COPPER, {"target__pressure": None}, "needs a pressure in GPa"),
        (COPPER, {"target__ensemble": "nvt"}, "pressure has no effect at constant volume"),
        (COPPER, {"target__n_beads": 4}, "n_beads is not possible with ensemble"),
        (COPPER, {"exact__update": "local"}, 'exact.update = "local" is not possible with target.ensemble'),
        (COPPER, {"learning__labels": "x.extxyz"}, "learning.labels is not possible with target.ensemble"),
        (NEON, {"target__n_beads": 1}, "n_beads must be 2 or more; got 1"),
        (NEON, {"target__n_beads": 0}, "n_beads must be 2 or more; got 0"),
        (NEON, {"measurement__observables": ["ring_He"]}, "'ring_He' is unknown"),
        (NEON, {"measurement__observables": ["volume"]}, "'volume' is unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_sentence(target, changed, words) -> None:
    with pytest.raises(UserError) as error:
        runs._built(runs.settings_of(settings(target, **changed)), Path())
    assert words in str(error.value)


def test_a_molecule_has_no_pressure_whatever_file_it_comes_from(tmp_path) -> None:
    data = settings(COPPER, target__structure=str(tmp_path / "x.xyz"))
    for name in ("symbols", "positions", "cell"):
        del data["target"][name]
    (tmp_path / "x.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.8\n")
    with pytest.raises(UserError, match="this one has no cell"):
        runs._built(runs.settings_of(data), Path())
