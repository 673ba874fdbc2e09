"""Sweeps from Green's functions against sweeps whose every decision diagonalises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exact_draws
import objects
import reference_double_exchange as reference
from slmc.lattice import neighbours
from slmc.montecarlo import Update
from slmc.systems.spins import DoubleExchange, GreensFunctionSweep, green_kernel
from slmc.systems.spins.green_sweep import _sublattice_signs
from slmc.systems.spins.poles import pole_table
from slmc.testing import check_invariance


@pytest.mark.parametrize(
    ("shape", "hopping", "mu"),
    [((4, 4), (1.0,), 0.0), ((2, 4), (1.0,), 0.0), ((4, 4), (1.0,), -0.7), ((3, 3), (1.0, 0.4), 0.0)],
)
def test_decisions_are_those_of_the_weight(shape, hopping, mu):
    coupling, temperature, n_sweeps = -1.7, 0.2, 3
    rng = np.random.default_rng(5)
    target = DoubleExchange(shape, hopping, coupling, mu, temperature, "poles")
    spins = np.array(objects.random_spins(3, *shape)).reshape(-1, 3)
    spins[2] = 0
    noise = np.concatenate(
        [0.8 * rng.normal(size=(n_sweeps, len(spins), 3)), np.log(rng.random((n_sweeps, len(spins), 1)))], axis=-1
    )
    backwards = np.array([0, 1, 0], np.uint8)
    expected, n_accepted = by_diagonalisation(shape, hopping, coupling, mu, temperature, noise, backwards, spins)
    sites, shell, multiplicity = neighbours(shape, len(hopping))
    hops = -np.asarray(hopping)[shell - 1] * multiplicity
    numbers = np.concatenate([[temperature, mu, abs(coupling) / 2, coupling / 2], hops])
    turned = spins.copy()
    tables = sites.astype(np.int32), _sublattice_signs(target), pole_table().packed()
    share = green_kernel.sweep(*tables, numbers, noise, backwards, turned)
    np.testing.assert_allclose(turned, expected, atol=1e-12)
    assert 0 < n_accepted < n_sweeps * (len(spins) - 1)
    assert share == pytest.approx(n_accepted / (n_sweeps * (len(spins) - 1)))


def by_diagonalisation(shape, hopping, coupling, mu, temperature, noise, backwards, spins):
    """The same sweeps with NumPy's eigenvalues; the spins and how many proposals were accepted."""

    def log_weight(spins):
        levels = np.linalg.eigvalsh(reference.hamiltonian(spins.reshape(*shape, 3), list(hopping), coupling))
        return np.logaddexp(0, -(levels - mu) / temperature).sum()

    spins, n_accepted = spins.copy(), 0
    for numbers, reverse in zip(noise, backwards, strict=True):
        for site in range(len(spins))[:: -1 if reverse else 1]:
            if spins[site].any():
                turned = spins.copy()
                turned[site] += numbers[site, :3]
                turned[site] /= np.linalg.norm(turned[site])
                if numbers[site, 3] < log_weight(turned) - log_weight(spins):
                    spins, n_accepted = turned, n_accepted + 1
    return spins, n_accepted


class OfAnotherTarget(Update):
    """Decides by the Green's functions of one target and claims another."""

    target: DoubleExchange
    update: GreensFunctionSweep

    @property
    def reversible(self):
        return True

    def step(self, key, state):
        return self.update.step(key, state)


def test_green_functions_of_another_target_are_noticed():
    target = objects.double_exchange_pair()
    pair = exact_draws.double_exchange_pair(**objects.DOUBLE_EXCHANGE_PAIR)
    draws = jnp.asarray(pair.draw(np.random.default_rng(11), 16384))
    cosine = {"S1·S2": lambda spins: jnp.sum(spins[0] * spins[1])}
    check_invariance(jax.random.key(1), GreensFunctionSweep(target, 0.8, 2), draws, cosine)
    wrong = DoubleExchange((2,), 0.5, 2.0, -0.4, 0.2, "poles")
    with pytest.raises(AssertionError, match="does not leave its target invariant: p = "):
        check_invariance(jax.random.key(1), OfAnotherTarget(target, GreensFunctionSweep(wrong, 0.8, 2)), draws, cosine)


def test_what_a_sweep_says_of_itself():
    target = DoubleExchange((4, 4), weight="poles")
    update = GreensFunctionSweep(target, 0.5, 3)
    assert update.evaluations_per_step(objects.random_spins(1, 4, 4)) == 48
    with pytest.raises(ValueError, match="use LocalSweep"):
        GreensFunctionSweep(DoubleExchange((4, 4), weight="diagonalisation"), 0.5)
