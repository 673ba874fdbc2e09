"""Calculators in processes of their own: their numbers are ASE's, and what goes wrong is counted and survived."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.data import covalent_radii

from slmc import testing
from slmc.montecarlo import Flat, HamiltonianTrajectory, MetropolisHastings
from slmc.system import UserError
from slmc.systems.atoms import CalculatorPool, CalculatorSettings, Cell, Confined, Massive, calculated, structure_of

PAIR = Atoms("Ar2", positions=[[0, 0, -2], [0, 0, 2]])


@pytest.fixture(autouse=True)
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers the calculator ``springs``."""
    metadata = tmp_path / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[slmc.calculators]\nsprings = broken_calculators:Springs\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parent}")


def pool_of(atoms, name="springs", n_workers=1, **settings):
    parameters = settings.pop("parameters", {})
    return CalculatorPool(structure_of(atoms).cell, CalculatorSettings(name, parameters, n_workers, **settings))


def moved(atoms, n, size=0.05, seed=0):
    positions = structure_of(atoms).positions
    return positions + size * np.random.default_rng(seed).normal(size=(n, *positions.shape))


def test_numbers_are_those_of_ase() -> None:
    atoms = bulk("Cu", cubic=True)
    batch = moved(atoms, 5)
    pool = pool_of(atoms, "emt", n_workers=2)
    energies, forces = pool(batch)
    for x, energy, force in zip(batch, energies, forces, strict=True):
        atoms.positions = x
        atoms.calc = EMT()
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(force, atoms.get_forces(), atol=1e-7)
    again = pool(batch[::-1])
    np.testing.assert_array_equal(again[0][::-1], energies)
    assert pool.counts["evaluations"] == 14
    assert not pool.remark
    assert not pool.doubt
    pool.close()


def test_tblite_is_found_by_its_name() -> None:
    tblite = pytest.importorskip("tblite.ase", reason="tblite is not installed")
    water = molecule("H2O")
    parameters = {"method": "GFN2-xTB", "verbosity": 0, "accuracy": 0.01}
    pool = pool_of(water, "tblite", parameters=parameters)
    batch = moved(water, 2)
    energies, forces = pool(batch)
    for x, energy, force in zip(batch, energies, forces, strict=True):
        water.positions = x
        water.calc = tblite.TBLite(**parameters)
        assert energy == pytest.approx(water.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(force, water.get_forces(), atol=1e-7)
    target = calculated(pool, 1.0)
    testing.check_force(jax.random.key(0), target, Flat(), jnp.asarray(batch[0]), 1e-5, n_directions=1)
    pool.close()


@pytest.mark.parametrize(
    ("does", "kind"),
    [("raises", "raised an error"), ("is nan", "gave no finite numbers"), ("dies", "ended its process"),
     ("hangs", "took too long")],
)  # fmt: skip
def test_what_fails_has_weight_zero_and_is_counted(does: str, kind: str) -> None:
    pool = pool_of(PAIR, parameters={"does": does, "at": 0.5}, timeout=1.0 if does == "hangs" else 30.0, max_failures=1)
    batch = moved(PAIR, 4)
    batch[2, 0, 0] = 0.6
    energies, forces = pool(batch)
    np.testing.assert_array_equal(np.isfinite(energies), [True, True, False, True])
    assert np.all(forces[2] == 0)
    assert np.all(np.isfinite(pool(batch[:2])[0]))
    assert pool.counts[kind] == 1
    assert kind in pool.remark
    assert "weight zero" in pool.remark
    pool.close()


def test_too_many_failures_end_the_run() -> None:
    pool = pool_of(PAIR, parameters={"does": "raises", "at": 0.5}, max_failures=0.02)
    batch = moved(PAIR, 3)
    batch[:, 0, 0] = 0.6
    with pytest.raises(UserError, match=r"failed in 3 of .*max_failures = 0.02 .*RuntimeError: SCF did not conv"):
        pool(batch)
    pool.close()


def test_an_energy_that_depends_on_history_is_refused() -> None:
    pool = pool_of(PAIR, parameters={"does": "remembers"}, fresh=False)
    with pytest.raises(UserError, match="depends on its history"):
        pool(moved(PAIR, 1))
    pool.close()


def test_halved_forces_are_told_and_change_no_average() -> None:
    """Two atoms on springs: exact draws are still exact draws after a trajectory of forces that are half as strong."""
    beta, n_draws = 4.0, 600
    cell = structure_of(PAIR, least_distance=0.0).cell
    pool = CalculatorPool(cell, CalculatorSettings("springs", {"scale": 0.5}, 1))
    target = Confined(calculated(pool, beta), beta)
    update = MetropolisHastings(target, HamiltonianTrajectory(target, Massive([40, 40], beta), 20.0, 2))
    draws = jnp.asarray(np.random.default_rng(1).normal(size=(n_draws, 2, 3)) / np.sqrt(beta))
    found = testing.check_invariance(
        jax.random.key(0), update, draws, {"U": lambda x: jnp.sum(x**2), "x": lambda x: x[0, 0]}
    )
    assert found.moved > 0.2
    assert "are not the derivatives of its energy" in pool.doubt
    pool.close()


def test_a_calculator_that_cannot_be_made_is_told() -> None:
    with pytest.raises(UserError, match="cannot be used: TypeError"):
        pool_of(PAIR, parameters={"no_such": 1})(moved(PAIR, 1))
    with pytest.raises(UserError, match="there is no calculator 'nobody'"):
        pool_of(PAIR, "nobody")(moved(PAIR, 1))


def test_atoms_too_near_never_reach_the_calculator() -> None:
    pool = pool_of(PAIR)
    batch = moved(PAIR, 3)
    batch[1] = batch[1, :1]
    batch[2, 0, 0] = np.nan
    np.testing.assert_array_equal(np.isfinite(pool(batch)[0]), [True, False, False])
    assert pool.counts["atoms too near"] == 2
    pool.close()


def test_images_are_near_too() -> None:
    cell = Cell((18, 18), 4 * np.eye(3) + np.tri(3, k=-1), (1.0, 1.0))
    inside = np.array([[[0.1, 0, 0], [2, 2, 2]]])
    assert cell.are_apart(inside)[0]
    assert not cell.are_apart(np.array([[[0.1, 0, 0], [3.9, 0, 0]]]))[0]
    assert not cell.are_apart(inside * 0 + cell.vectors.sum(0) * np.array([0, 3])[:, None])[0]
    assert np.all(np.array(covalent_radii)[[18]] > 0)
