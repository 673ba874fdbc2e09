"""The learned potential has the symmetries of atoms, its forces are its slope, and it learns."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from slmc import testing
from slmc.montecarlo import Flat, Label, SinglePrecision, log_weight_and_force
from slmc.selflearning import TrainingSettings, fit
from slmc.system import load_model, save_model
from slmc.systems.atoms import FromEnergy, LennardJones, MomentPotential, SoftSphere, structure_of
from slmc.systems.atoms.calculator import LearnedCalculator
from slmc.systems.atoms.problem import build_like, describe

SMALL = {"n_radial": 4, "n_channels": 3, "n_hidden": 5}


def potential(atoms, beta=1.0, reach=4.0, sphere=None, seed=0):
    cell = structure_of(atoms, least_distance=0.0).cell
    return MomentPotential(cell, beta, reach, *SMALL.values(), sphere, key=jax.random.key(seed))


@eqx.filter_jit
def energy(model, x):
    return model.energy(x)


def triclinic():
    """Two atoms in a cell much smaller than the cut-off."""
    atoms = bulk("NaCl", "rocksalt", a=4.2)
    rng = np.random.default_rng(0)
    atoms.set_cell(np.array(atoms.cell) + 0.2 * rng.normal(size=(3, 3)), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=(2, 3))
    return atoms


def ethanol():
    atoms = molecule("CH3CH2OH")
    return atoms, jnp.asarray(atoms.positions + 0.03 * np.random.default_rng(1).normal(size=(9, 3)))


def test_a_small_cell_is_an_eighth_of_its_supercell() -> None:
    atoms = triclinic()
    large = atoms.repeat(2)
    one, eight = (float(energy(potential(a), jnp.asarray(a.positions))) for a in (atoms, large))
    assert one == pytest.approx(eight / 8, abs=1e-12)


def test_wrapped_atoms_are_the_same() -> None:
    atoms = triclinic()
    model, x = potential(atoms), jnp.asarray(atoms.positions)
    shift = jnp.asarray(np.array([[1, 0, -2], [0, 3, 1]]) @ np.array(atoms.cell))
    assert float(energy(model, x + shift)) == pytest.approx(float(energy(model, x)), abs=1e-12)


def test_molecules_may_be_turned_mirrored_and_moved_and_like_atoms_exchanged() -> None:
    atoms, x = ethanol()
    model = potential(atoms)
    turn = jnp.asarray(-Rotation.random(random_state=1).as_matrix())
    here = float(energy(model, x))
    assert float(energy(model, x @ turn + jnp.ones((1, 3)))) == pytest.approx(here, abs=1e-12)
    like = np.flatnonzero(atoms.numbers == 1)[:2]
    exchanged = x.at[like].set(x[like[::-1]])
    assert float(energy(model, exchanged)) == pytest.approx(here, abs=1e-12)
    assert abs(float(energy(model, x[::-1])) - here) > 1e-6


@pytest.mark.parametrize("periodic", [True, False])
def test_forces_are_the_slope(periodic: bool) -> None:
    atoms, x = (triclinic(), jnp.asarray(triclinic().positions)) if periodic else ethanol()
    model = potential(atoms, sphere=None if periodic else SoftSphere(0.8))
    testing.check_force(jax.random.key(2), model, Flat(), x, n_directions=2)


def test_nothing_is_left_at_the_cut_off() -> None:
    """Energy, force and curvature of two atoms go to zero together."""
    atoms = molecule("O2")
    model = potential(atoms)

    def along(r):
        return model.energy(jnp.asarray([[0.0, 0, 0], [1.0, 0, 0]]) * r)

    def with_derivatives(r):
        return along(r), jax.grad(along)(r), jax.grad(jax.grad(along))(r)

    compiled = jax.jit(with_derivatives)
    (alone, _, _), near, inside = (compiled(r) for r in (5.0, 4.0 - 1e-5, 2.0))
    np.testing.assert_allclose(near, (alone, 0, 0), atol=1e-3)
    assert all(abs(value) > 1e-4 for value in (inside[0] - alone, *inside[1:]))


def test_it_learns_lennard_jones_from_energies_and_forces(tmp_path) -> None:
    rng = np.random.default_rng(3)
    atoms = molecule("CH4")
    atoms.numbers[:] = 18
    target = FromEnergy(LennardJones(0.1, 1.6), 10.0)
    x = jnp.asarray(1.7 * atoms.positions + 0.08 * rng.normal(size=(160, 5, 3)))
    labels = Label(x, *jax.lax.map(lambda x: log_weight_and_force(target, x), x))
    cell = structure_of(atoms, least_distance=0.0).cell
    model = MomentPotential(cell, 10.0, 5.0, 6, 3, 8, key=jax.random.key(4)).standardised(np.asarray(x))
    training, held_out = (
        jax.tree.map(lambda leaf, part=part: leaf[part], labels) for part in (slice(128), slice(128, None))
    )
    settings = TrainingSettings(n_steps=100, batch_size=32, weight_decay=0.0, single_precision=True, learning_rate=1e-2)
    result = fit(jax.random.key(5), model, training, held_out, Flat(), settings)
    assert result.residual < 0.35 * float(np.std(held_out.log_weight))
    # To a file and back, to another size, and as a calculator.
    save_model(tmp_path / "model.eqx", result.model, describe(result.model))
    again = load_model(tmp_path / "model.eqx", build_like)
    np.testing.assert_array_equal(again.log_weight(x[0]), result.model.log_weight(x[0]))
    atoms.positions = np.asarray(x[0])
    atoms.calc = LearnedCalculator(again)
    assert atoms.get_potential_energy() == pytest.approx(float(result.model.energy(x[0])), abs=1e-9)
    force = np.asarray(jax.grad(result.model.log_weight)(x[0])) / 10.0
    np.testing.assert_allclose(atoms.get_forces(), force, atol=1e-7)
    atoms.pop()
    assert np.isfinite(atoms.get_potential_energy())
    single = SinglePrecision(result.model).log_weight(x[0])
    assert float(single) == pytest.approx(float(result.model.log_weight(x[0])), abs=1e-3)
    with pytest.raises(ValueError, match=r"does not know the elements of atomic numbers \[1, 8\]"):
        again.on_atoms(structure_of(molecule("H2O")).cell, 1.0, None)
