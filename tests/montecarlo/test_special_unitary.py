"""SU(N): exponential, reprojection, Haar measure, momenta, against SciPy and known moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from slmc.montecarlo import SpecialUnitary
from slmc.montecarlo.special_unitary import antihermitian, as_matrices, as_points, exponential, multiply, reprojected

GROUPS = [2, 3, 4]


def algebra(seed, n, size, scale):
    rng = np.random.default_rng(seed)
    gaussian = rng.normal(size=(n, n, size)) + 1j * rng.normal(size=(n, n, size))
    found = np.array(antihermitian(jnp.asarray(gaussian)))
    return found * scale / np.linalg.norm(np.moveaxis(found, -1, 0), ord=2, axis=(1, 2))


def dense(matrices):
    return np.moveaxis(np.asarray(matrices), (0, 1), (-2, -1))


@pytest.mark.parametrize("n", GROUPS)
def test_exponential(n):
    """From zero to norm 8, and with degenerate eigenvalues."""
    scales = np.array([0, 1e-9, 1e-3, 0.09, 0.11, 1.0, 3.0, 8.0])
    x = algebra(1, n, len(scales), scales)
    found = exponential(jnp.asarray(x))
    expected = np.stack([scipy.linalg.expm(one) for one in dense(x)])
    np.testing.assert_allclose(dense(found), expected, atol=2e-14)
    degenerate = np.diag([1j] * (n - 1) + [-1j * (n - 1)])[:, :, None]
    np.testing.assert_allclose(
        dense(exponential(jnp.asarray(degenerate)))[0], scipy.linalg.expm(degenerate[:, :, 0]), atol=1e-14
    )


@pytest.mark.parametrize("n", GROUPS)
def test_derivative_of_the_exponential(n):
    """Also at zero and at degenerate eigenvalues, where closed forms divide zero by zero."""
    direction = jnp.asarray(algebra(2, n, 1, 1.0))
    degenerate = np.diag([0.5j] * (n - 1) + [-0.5j * (n - 1)])[:, :, None]
    for x in (np.zeros_like(degenerate), degenerate, algebra(3, n, 1, 1.3)):
        _, slope = jax.jvp(exponential, (jnp.asarray(x),), (direction,))
        expected = scipy.linalg.expm_frechet(x[:, :, 0], np.asarray(direction)[:, :, 0], compute_expm=False)
        np.testing.assert_allclose(dense(slope)[0], expected, atol=1e-13)


@pytest.mark.parametrize("n", GROUPS)
def test_reprojection(n):
    """What rounding moved comes back to the group, what is on it stays."""
    points = SpecialUnitary().random(jax.random.key(n), (50, 2, n, n))
    u = as_matrices(points)
    np.testing.assert_allclose(as_points(reprojected(u)), points, atol=1e-14)
    noise = 1e-8 * jax.random.normal(jax.random.key(9), points.shape, jnp.float64)
    back = dense(reprojected(as_matrices(points + noise)))
    np.testing.assert_allclose(
        back @ np.conj(np.swapaxes(back, -1, -2)), np.broadcast_to(np.eye(n), back.shape), atol=3e-14
    )
    np.testing.assert_allclose(np.linalg.det(back), 1, atol=3e-14)
    np.testing.assert_allclose(back, dense(u), atol=1e-6)


@pytest.mark.parametrize("n", GROUPS)
def test_random_matrices_are_haar_distributed(n):
    """⟨|tr U|²⟩ = 1, ⟨|tr U|⁴⟩ = 2, ⟨tr U²⟩ = 0 (−1 for SU(2)), and |U_ij|² = 1/N."""
    u = dense(as_matrices(SpecialUnitary().random(jax.random.key(1), (4000, 2, n, n))))
    trace = np.trace(u, axis1=-2, axis2=-1)
    square = np.trace(u @ u, axis1=-2, axis2=-1).real
    for values, expected in ((abs(trace) ** 2, 1), (abs(trace) ** 4, 2), (square, -1 if n == 2 else 0)):
        assert np.mean(values) == pytest.approx(expected, abs=5 * np.std(values) / np.sqrt(len(values)))
    np.testing.assert_allclose(np.mean(abs(u) ** 2, axis=0), 1 / n, atol=0.03)


@pytest.mark.parametrize("n", GROUPS)
def test_momenta_have_as_many_components_as_the_algebra(n):
    manifold = SpecialUnitary()
    points = manifold.random(jax.random.key(2), (5000, 2, n, n))
    kinetic = jnp.sum(manifold.draw_momentum(jax.random.key(3), points) ** 2, axis=(1, 2, 3))
    dimension = n**2 - 1
    assert float(jnp.mean(kinetic)) == pytest.approx(dimension, abs=5 * np.sqrt(2 * dimension / 5000))


def test_trajectories_do_not_leave_the_group():
    manifold = SpecialUnitary()
    points = manifold.random(jax.random.key(4), (3, 2, 3, 3))
    carry = points, manifold.draw_momentum(jax.random.key(5), points)
    (points, momentum), _ = jax.lax.scan(
        lambda c, _: (manifold.move(*c, jnp.asarray(0.3)), None), carry, None, length=2000
    )
    u = dense(as_matrices(points))
    np.testing.assert_allclose(np.linalg.det(u), 1, atol=1e-14)
    np.testing.assert_allclose(manifold.project(points, momentum), momentum, atol=1e-13)


def test_products_are_those_of_matrices():
    a, b = (as_matrices(SpecialUnitary().random(jax.random.key(k), (6, 2, 3, 3))) for k in (6, 7))
    np.testing.assert_allclose(dense(multiply(a, b)), dense(a) @ dense(b), atol=1e-15)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"ending in \(2, N, N\)"):
        SpecialUnitary().random(jax.random.key(0), (4, 3, 3))


@pytest.mark.parametrize("n", GROUPS)
def test_exponential_of_anything_large(n):
    """Against eigenvectors, up to what rounding of the argument leaves: |X| times its last digit."""
    scales = np.array([9.0, 40.0, 1e3, 1e6])
    x = algebra(4, n, len(scales), scales)
    degenerate = np.diag([1j] * (n - 1) + [-1j * (n - 1)])[:, :, None] * np.array([12.0, 1e4])
    x, scales = np.concatenate([x, degenerate], axis=2), np.append(scales, [12.0, 1e4])
    found = dense(exponential(jnp.asarray(x)))
    for one, exact, scale in zip(found, dense(x), scales, strict=True):
        angles, vectors = np.linalg.eigh(-1j * exact)
        np.testing.assert_allclose(one, vectors * np.exp(1j * angles) @ vectors.conj().T, atol=2e-12 * scale)
        np.testing.assert_allclose(one @ one.conj().T, np.eye(n), atol=2e-16 * scale + 1e-14)


def test_derivatives_of_the_exponential_of_something_large():
    """First and second, also where two eigenvalues meet."""
    direction = jnp.asarray(algebra(2, 3, 1, 1.0))
    degenerate = np.diag([9j, 9j, -18j])[:, :, None]
    for x in (jnp.asarray(degenerate), jnp.asarray(algebra(3, 3, 1, 20.0))):

        def slope(t, x=x):
            return jax.jvp(exponential, (x + t.astype(x.dtype) * direction,), (direction,))[1]

        zero, one = jnp.zeros(()), jnp.ones(())
        exact = scipy.linalg.expm_frechet(np.asarray(x)[:, :, 0], np.asarray(direction)[:, :, 0], compute_expm=False)
        np.testing.assert_allclose(dense(slope(zero))[0], exact, atol=1e-12)
        difference = (slope(1e-4 * one) - slope(-1e-4 * one)) / 2e-4
        np.testing.assert_allclose(jax.jvp(slope, (zero,), (one,))[1], difference, atol=1e-7)


def test_steps_of_any_size_stay_on_the_group():
    """What became zero rows, of finite weight, when steps were large."""
    manifold = SpecialUnitary()
    for n in GROUPS:
        points = manifold.random(jax.random.key(1), (8, 2, n, n))
        for step in (30.0, 1e4, 1e7):
            moved = manifold.perturb(jax.random.key(2), points, jnp.asarray(step))
            assert float(manifold.distance(np.asarray(moved))) < 1e-12
            assert float(manifold.distance(manifold.move(points, moved - points, jnp.asarray(step))[0])) < 1e-12


def test_smearing_far_beyond_its_range_is_not_a_number():
    from slmc.montecarlo.special_unitary import exponential_of_small

    small, large = (jnp.asarray(algebra(1, 3, 1, scale)) for scale in (3.0, 30.0))
    np.testing.assert_array_equal(exponential_of_small(small), exponential(small))
    assert np.all(np.isnan(exponential_of_small(large).real))
