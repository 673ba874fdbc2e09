"""Sweeps from local fields: compiled and spin by spin alike, one spin drawn as it should be."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from slmc.lattice import neighbours, rows_ahead
from slmc.montecarlo import Sphere, init_chains
from slmc.montecarlo.update import chain
from slmc.systems.spins import HeatBathSweep, Heisenberg, native
from slmc.systems.spins.heisenberg import filter_row
from slmc.systems.spins.sweeps import compiled_sweep, draw_along, reflect, scanned_sweep


@pytest.mark.parametrize(("shape", "n_shells"), [((4, 4), None), ((6,), 2), ((2, 4, 3), 3), ((3, 3), 0)])
@pytest.mark.parametrize(("name", "renew"), [("draw", draw_along), ("reflect", reflect)])
def test_compiled_and_scanned_sweeps_agree(name, renew, shape, n_shells):
    keys = jax.random.split(jax.random.key(3), 3)
    model = Heisenberg(shape, n_shells)
    couplings = 3 * jax.random.normal(keys[0], model.reduced_couplings.shape)
    model = eqx.tree_at(lambda one: one.reduced_couplings, model, couplings)
    n_sites = int(np.prod(shape))
    # One site without a spin.
    spins = Sphere().random(keys[1], (2, n_sites, 3)).at[:, 1].set(0.0)
    numbers = jax.random.uniform(keys[2], (2, n_sites, 2), jnp.float64)
    order = jnp.stack([jnp.arange(n_sites), jnp.arange(n_sites)[::-1]])
    compiled, scanned = (
        jax.jit(jax.vmap(partial(sweep, how, model)))(order, numbers, spins)
        for sweep, how in ((compiled_sweep, name), (scanned_sweep, renew))
    )
    np.testing.assert_allclose(compiled, scanned, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(compiled[:, 1], 0.0)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 10), (9,)])
def test_fields_from_rows_and_from_neighbours_draw_the_same_spins(shape):
    rng, n = np.random.default_rng(4), int(np.prod(shape))
    model = Heisenberg(shape, couplings=[0.7, -0.4])
    sites, shell, multiplicity = neighbours(shape, 2)
    window = np.arange(shape[-1] + 8 * -(-shape[-1] // 8)) % shape[-1]
    weights = filter_row(shape, model.reduced_couplings).reshape(-1, shape[-1])[:, window]
    spins = rng.normal(size=(n, 3))
    spins /= np.linalg.norm(spins, axis=1, keepdims=True)
    spins[5] = 0.0
    by_rows, by_neighbours = spins.copy(), spins.copy()
    strength = np.asarray(model.reduced_couplings)[shell - 1] * multiplicity
    native.draw_often_in_rows(rows_ahead(shape), np.ascontiguousarray(weights), np.uint64(9), 3, by_rows)
    native.draw_often(sites.astype(np.int32), strength, np.uint64(9), 3, by_neighbours)
    np.testing.assert_allclose(by_rows, by_neighbours, rtol=0, atol=1e-9)
    assert np.min(np.abs(by_rows - spins).sum(1)[[i for i in range(n) if i != 5]]) > 0
    np.testing.assert_array_equal(by_rows[5], 0.0)


@pytest.mark.parametrize("near", [True, False], ids=["neighbours", "rows"])
def test_a_chain_is_the_same_for_one_and_for_many_and_moves_where_numbers_differ(near):
    model = Heisenberg((8, 8), couplings=[1.5] if near else [0.1] * 14)
    update = HeatBathSweep(model)
    states = init_chains(update, Sphere().random(jax.random.key(0), (3, 8, 8, 3)))
    keys = jax.random.split(jax.random.key(1), 3)
    together = jax.vmap(lambda key, state: chain(key, update, state, 4))(keys, states)
    alone = [chain(key, update, jax.tree.map(lambda leaf, k=k: leaf[k], states), 4) for k, key in enumerate(keys)]
    for number, state in enumerate(alone):
        np.testing.assert_array_equal(together.configuration[number], state.configuration)
    same_start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0], leaf.shape), states)
    moved = jax.vmap(lambda key, state: chain(key, update, state, 4))(keys, same_start).configuration
    assert float(jnp.min(jnp.abs(moved[0] - moved[1]).sum(-1))) > 0


@pytest.mark.parametrize("field", [[0.3, -0.5, 0.1], [0.0, 0.0, -4.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
def test_a_drawn_spin_follows_its_field(field):
    """Cosine to the field from exp(h cos), azimuth uniform: two uniform numbers come back from the drawn spins."""
    field = jnp.asarray(field)
    numbers = jax.random.uniform(jax.random.key(1), (20_000, 2), jnp.float64)
    drawn = np.asarray(jax.vmap(lambda pair: draw_along(pair, field, field))(numbers))
    h = float(jnp.linalg.norm(field))
    axis = np.asarray(field) / h if h else np.array([0.0, 0.0, 1.0])
    cosine = drawn @ axis
    share = (np.exp(h * cosine) - np.exp(-h)) / (2 * np.sinh(h)) if h else (1 + cosine) / 2
    least = np.eye(3)[np.argmin(np.abs(axis))]
    first = np.cross(axis, least) / np.linalg.norm(np.cross(axis, least))
    azimuth = np.arctan2(drawn @ np.cross(axis, first), drawn @ first) / (2 * np.pi) + 0.5
    for uniform in (share, azimuth, (share + azimuth) % 1):
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3
