"""The compiled loops of the network against its own array operations, and their bits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest

import objects
from slmc import lanes
from slmc.systems.spins import EquivariantNetwork


@pytest.mark.parametrize(
    ("shape", "sizes", "reach"),
    [
        ((6, 6), (2, 4, 5), None),
        ((6, 6), (3, 3, 4), 1),
        ((9,), (2, 5, 3), None),
        ((3, 5), (2, 4, 5), 2),
        ((2, 3, 4), (1, 2, 6), None),
        ((2, 2), (2, 1, 1), None),
        ((4, 1), (2, 2, 2), None),
        ((8, 17), (2, 4, 5), 3),
    ],
)
def test_compiled_loops_are_the_array_operations(shape, sizes, reach):
    network = objects.random_network(shape, *sizes, reach=reach, seed=3)
    spins = objects.random_spins(2, *shape)
    expected = network.by_arrays(spins)
    assert abs(float(network.linear.couplings.sum())) > 0
    np.testing.assert_allclose(eqx.filter_jit(network.log_weight)(spins), expected, rtol=1e-12, atol=1e-12)


def test_derivatives_are_those_of_the_array_operations():
    network, spins = objects.random_network((4, 4)), objects.random_spins(1, 4, 4)
    value, force = jax.value_and_grad(network.log_weight)(spins)
    np.testing.assert_allclose(force, jax.grad(network.by_arrays)(spins), rtol=1e-12)
    assert value == network.log_weight(spins)
    by_parameters = [jax.grad(lambda model, of=of: of(model)(spins))(network) for of in (_compiled, _arrays)]
    for leaf, expected in zip(*map(jax.tree.leaves, by_parameters), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-12)


def _compiled(model):
    return model.log_weight


def _arrays(model):
    return model.by_arrays


def test_bits_do_not_depend_on_the_company():
    network, spins = objects.random_network((6, 6)), objects.random_spins(1, 5, 6, 6)
    alone = np.array([eqx.filter_jit(network.log_weight)(chain) for chain in spins])
    np.testing.assert_array_equal(jax.jit(jax.vmap(network.log_weight))(spins), alone)


@pytest.mark.parametrize("axes", [(0, None), (None, 0)])
def test_every_chain_gets_its_own_network(axes):
    networks = [objects.random_network((4, 4), seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    spins = objects.random_spins(1, 2, 4, 4)
    inner, outer = axes

    def of(network, chain):
        return network.log_weight(chain)

    table = jax.vmap(jax.vmap(of, (inner, outer)), (outer, inner))(stacked, spins)
    expected = np.array([[of(network, chain) for network in networks] for chain in spins])
    np.testing.assert_array_equal(table if inner == 0 else table.T, expected)


def test_networks_that_are_not_compiled_say_so_and_differ_in_the_last_bits_alone():
    network, spins = objects.random_network((6, 6)), objects.random_spins(1, 6, 6)
    slow = network.on_lattice((6, 6), compiled=False)
    assert isinstance(slow, EquivariantNetwork)
    assert slow.on_lattice((4, 4)).compiled is False
    assert slow.log_weight(spins) == slow.by_arrays(spins)
    assert abs(slow.log_weight(spins) - network.log_weight(spins)) < 1e-12


@numba.njit
def _exponentials(x, result):
    for n in range(0, len(x), 8):
        value = lanes.exponential(lanes.load_anywhere(np.uint64(x.ctypes.data) + np.uint64(8 * n)))
        for k in range(8):
            result[n + k] = lanes.lane(value, k)


def test_exponential_of_lanes():
    x = np.concatenate(
        [np.linspace(-700, 700, 4000), np.linspace(-1, 1, 4000), [-1e4, 1e4, 0, 5e-324, -800, 800, 3, 4]]
    )
    result = np.empty(len(x))
    _exponentials(x, result)
    np.testing.assert_allclose(result, np.exp(np.clip(x, -700, 700)), rtol=4e-16)
