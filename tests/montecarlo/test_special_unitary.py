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
