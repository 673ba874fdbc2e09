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


def cosine(spins):
    return jnp.sum(spins[0] * spins[1])


def height(spins):
    return spins[0, 2]


PAIR_STATISTICS = {"S1·S2": cosine, "S1z": height}
RING_STATISTICS = {
    "S1·S2": cosine,
    "S2·S3": lambda spins: jnp.sum(spins[1] * spins[2]),
    "S4·S1": lambda spins: jnp.sum(spins[3] * spins[0]),
    "S1·S3": lambda spins: jnp.sum(spins[0] * spins[2]),
    "S1·(S2×S3)": lambda spins: jnp.sum(spins[0] * jnp.cross(spins[1], spins[2])),
    "S4z": lambda spins: spins[3, 2],
}
GAUSSIAN_STATISTICS = {"x1": lambda x: x[0], "x2": lambda x: x[1], "x1 + x2": jnp.sum, "x1 - x2": lambda x: x[0] - x[1]}
ISING_STATISTICS = {"state": lambda spins: jnp.sum(jnp.asarray(spins > 0, jnp.int64) * 2 ** jnp.arange(4))}


@pytest.fixture(scope="session")
def pair():
    return exact_draws.double_exchange_pair(**objects.DOUBLE_EXCHANGE_PAIR)


@pytest.fixture(scope="session")
def pair_draws(pair):
    return jnp.asarray(pair.draw(np.random.default_rng(11), N_DRAWS))


@pytest.fixture(scope="session")
def ring_draws():
    log_weights, bound = exact_draws.ring_of_four(objects.RING)
    return jnp.asarray(exact_draws.by_rejection(np.random.default_rng(12), log_weights, bound, (4,), N_DRAWS))


@pytest.mark.parametrize("name", objects.PAIR_UPDATES)
def test_double_exchange_of_two_spins(name, pair, pair_draws):
    """One step keeps the distribution; 40 steps from uniform spins reach it, with the integrated means."""
    target = objects.double_exchange_pair()
    update = objects.PAIR_UPDATES[name](target)
    check_invariance(jax.random.key(1), update, pair_draws, PAIR_STATISTICS)
    _, after = advanced(jax.random.key(2), update, objects.random_spins(5, 4096, 2), PAIR_STATISTICS, 40)
    cosines = after["S1·S2"]
    for values, exact in (
        (cosines, pair.mean(lambda c: c)),
        (np.interp(cosines, pair.grid, [energy(c) for c in pair.grid]), pair.mean(energy)),
    ):
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - exact) < 4 * error


def energy(c):
    p = objects.DOUBLE_EXCHANGE_PAIR
    spins = exact_draws.at_cosine(c)
    return reference.observables(spins, [p["hopping"]], p["coupling"], p["mu"], p["temperature"])["energy"]


@pytest.mark.parametrize("name", objects.RING_UPDATES)
def test_ring_of_four_spins(name, ring_draws):
    check_invariance(jax.random.key(3), objects.RING_UPDATES[name](objects.ring()), ring_draws, RING_STATISTICS)


@pytest.mark.parametrize("name", objects.GAUSSIAN_UPDATES)
def test_gaussian(name):
    draws = jnp.asarray(exact_draws.correlated_gaussian(np.random.default_rng(13), objects.PRECISION, N_DRAWS))
    update = objects.GAUSSIAN_UPDATES[name](objects.gaussian())
    check_invariance(jax.random.key(4), update, draws, GAUSSIAN_STATISTICS)


@pytest.mark.parametrize("name", objects.ISING_UPDATES)
def test_ising_states(name):
    target = objects.ising()
    rng = np.random.default_rng(14)
    draws = exact_draws.ising_chain(rng, float(target.coupling), np.asarray(target.field), 4, N_DRAWS)
    check_invariance(jax.random.key(5), objects.ISING_UPDATES[name](target), jnp.asarray(draws), ISING_STATISTICS)
