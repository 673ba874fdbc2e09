"""Observables of spins against loops over pairs of sites."""

import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc.systems.spins import observables


def test_magnetizations():
    spins = np.asarray(objects.random_spins(1, 4, 6))
    uniform, staggered = np.zeros(3), np.zeros(3)
    for x in range(4):
        for y in range(6):
            uniform += spins[x, y] / 24
            staggered += (-1) ** (x + y) * spins[x, y] / 24
    assert float(observables.magnetization(jnp.asarray(spins))) == pytest.approx(np.linalg.norm(uniform), rel=1e-12)
    assert float(observables.magnetization_squared(jnp.asarray(spins))) == pytest.approx(uniform @ uniform, rel=1e-12)
    found = observables.staggered_magnetization(jnp.asarray(spins))
    assert float(found) == pytest.approx(np.linalg.norm(staggered), rel=1e-12)


def test_staggered_magnetization_needs_two_sublattices():
    with pytest.raises(ValueError, match="has an odd extent"):
        observables.staggered_magnetization(objects.random_spins(1, 3, 4))


def test_structure_factor_and_correlations():
    shape = (4, 3)
    spins = np.asarray(objects.random_spins(2, *shape))
    factor = np.asarray(observables.structure_factor(jnp.asarray(spins)))
    sites = [(x, y) for x in range(4) for y in range(3)]
    for n in range(4):
        for m in range(3):
            expected = sum(
                np.cos(2 * np.pi * (n * (a[0] - b[0]) / 4 + m * (a[1] - b[1]) / 3)) * (spins[a] @ spins[b])
                for a in sites
                for b in sites
            )
            assert factor[n, m] == pytest.approx(expected / 12, abs=1e-12)
    distances, correlations = observables.correlation_by_distance(factor, shape)
    for distance, correlation in zip(distances, correlations, strict=True):
        pairs = [
            spins[a] @ spins[b]
            for a in sites
            for b in sites
            if abs(
                min((a[0] - b[0]) % 4, (b[0] - a[0]) % 4) ** 2
                + min((a[1] - b[1]) % 3, (b[1] - a[1]) % 3) ** 2
                - distance**2
            )
            < 1e-9
        ]
        assert correlation == pytest.approx(np.mean(pairs), abs=1e-12)
    assert correlations[0] == pytest.approx(1.0)
    _, several = observables.correlation_by_distance(np.stack([factor, factor])[None], shape)
    np.testing.assert_allclose(several[0, 1], correlations)


def test_binder_ratio():
    rng = np.random.default_rng(3)
    disordered = np.sum(rng.normal(size=(400_000, 3)) ** 2, axis=1)
    assert observables.binder_ratio(disordered) == pytest.approx(5 / 3, abs=0.02)
    assert observables.binder_ratio(np.full(10, 0.3)) == pytest.approx(1.0)
