"""Every update in the tables leaves its target invariant, one step from exact draws.

Those that do not, and are caught, are in test_wrong_twins.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exact_draws
import objects
import reference_double_exchange as reference
from slmc.testing import advanced, check_invariance

N_DRAWS = 16384


PAIR_STATISTICS = {"S1·S2": lambda spins: jnp.sum(spins[0] * spins[1]), "S1z": lambda spins: spins[0, 2]}
CASES = [(name, update) for name, solvable in objects.SOLVABLE.items() for update in solvable.updates]


@pytest.fixture(scope="session")
def pair():
    return exact_draws.double_exchange_pair(**objects.DOUBLE_EXCHANGE_PAIR)


@pytest.fixture(scope="session")
def energies(pair):
    return np.array([energy(c) for c in pair.grid])


@pytest.fixture(scope="session")
def pair_draws(pair):
    return jnp.asarray(pair.draw(np.random.default_rng(11), N_DRAWS))


@pytest.mark.parametrize("name", objects.PAIR_UPDATES)
def test_double_exchange_of_two_spins(name, pair, energies, pair_draws):
    """One step keeps the distribution; 40 steps from uniform spins, which are far from it, reach the integrated means.

    The first is the sharp test. The second is of a way through all states: fewer chains tell that.
    """
    target = objects.double_exchange_pair()
    update = objects.PAIR_UPDATES[name](target)
    check_invariance(jax.random.key(1), update, pair_draws, PAIR_STATISTICS)
    _, after = advanced(jax.random.key(2), update, objects.random_spins(5, 1024, 2), PAIR_STATISTICS, 40)
    cosines = after["S1·S2"]
    assert abs(pair.mean(lambda c: c)) > 8 / np.sqrt(3 * len(cosines))
    for values, exact in (
        (cosines, pair.mean(lambda c: c)),
        (np.interp(cosines, pair.grid, energies), pair.mean(lambda c: np.interp(c, pair.grid, energies))),
    ):
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - exact) < 4 * error


def energy(c):
    p = objects.DOUBLE_EXCHANGE_PAIR
    spins = exact_draws.at_cosine(c)
    return reference.observables(spins, [p["hopping"]], p["coupling"], p["mu"], p["temperature"])["energy"]


@pytest.mark.parametrize(("name", "update"), CASES)
def test_one_step_from_exact_draws(name, update):
    target, draws, statistics, updates, _ = objects.SOLVABLE[name]
    check_invariance(jax.random.key(3), updates[update](target()), draws(), statistics)
