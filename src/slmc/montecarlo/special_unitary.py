"""The group SU(N): matrices with components first, their exponential, and the manifold on which trajectories run.

Inside, matrices have their two components first and the sites they belong to last: every operation is then one long
loop over sites, whatever N.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slmc.montecarlo.manifolds import SiteManifold

Matrices = Complex[Array, "n n *sites"]
"""Complex n×n matrices, one for every site."""

GroupPoints = Float[Array, "*sites 2 n n"]
"""The same as real arrays, as configurations store them: real part, then imaginary part."""

_N_TERMS = 24
_N_SQUARINGS = 2


class SpecialUnitary(SiteManifold):
    """SU(N), real and imaginary part of each matrix in the last three axes (2, N, N).

    The metric is that of the embedding, |dU|² = tr dU†dU. A momentum is the velocity P = X U with X antihermitian and
    traceless, so p²/2 = −tr X²/2, and free motion is U(t) = exp(t X) U with X constant. In the convention
    U̇ = i π_a T_a U with kinetic energy π²/2 and tr T_a T_b = δ_ab/2 times are longer by √2: a step of ε there is one
    of ε/√2 here.

    The exponential is in closed form for N = 2 and a Cayley–Hamilton series for N = 3, exact to rounding for
    |t X| ≤ 8; moved matrices are projected back on the group, lest rounding add up.
    """

    point_ndim = 3

    def project(self, position, vector):
        u = as_matrices(position)
        return as_points(multiply(_velocity(u, as_matrices(vector)), u))

    def move(self, position, momentum, time):
        u = as_matrices(position)
        velocity = _velocity(u, as_matrices(momentum))
        moved = reprojected(multiply(exponential(_scaled(time, velocity)), u))
        return as_points(moved), as_points(multiply(velocity, moved))

    def perturb(self, key, position, step_size):
        noise = as_matrices(jax.random.normal(key, position.shape, position.dtype))
        rotation = exponential(_scaled(step_size, antihermitian(noise)))
        return as_points(reprojected(multiply(rotation, as_matrices(position))))

    def random(self, key, shape):
        """Matrices from the Haar measure. Raises ``ValueError`` unless ``shape`` ends in (2, N, N)."""
        if len(shape) < 3 or shape[-3] != 2 or shape[-2] != shape[-1] or shape[-1] < 2:
            raise ValueError(f"a configuration of SU(N) matrices has a shape ending in (2, N, N), N > 1; got {shape}.")
        gaussian = as_matrices(jax.random.normal(key, shape, jnp.float64))
        if shape[-1] > 3:
            unitary, triangular = jnp.linalg.qr(jnp.moveaxis(gaussian, (0, 1), (-2, -1)))
            diagonal = jnp.diagonal(triangular, axis1=-2, axis2=-1)
            gaussian = jnp.moveaxis(unitary * (diagonal / _complex(jnp.abs(diagonal)))[..., None, :], (-2, -1), (0, 1))
        return as_points(reprojected(gaussian))


def as_matrices(points: GroupPoints) -> Matrices:
    """Complex matrices, components first, of the real arrays that configurations are."""
    parts = jnp.moveaxis(points, (-3, -2, -1), (0, 1, 2))
    return jax.lax.complex(parts[0], parts[1])


def as_points(matrices: Matrices) -> GroupPoints:
    """The real arrays that configurations are, of complex matrices with components first."""
    return jnp.moveaxis(jnp.stack([matrices.real, matrices.imag]), (0, 1, 2), (-3, -2, -1))


def multiply(
    first: Complex[Array, "rows inner *sites"], second: Complex[Array, "inner columns *sites"]
) -> Complex[Array, "rows columns *sites"]:
    """The matrix product at every site."""
    return jnp.sum(first[:, :, None] * second[None], axis=1)


def dagger(matrices: Matrices) -> Matrices:
    """The Hermitian conjugate at every site."""
    return jnp.conj(jnp.swapaxes(matrices, 0, 1))


def trace(matrices: Matrices) -> Complex[Array, "*sites"]:
    """The trace at every site."""
    return sum((matrices[k, k] for k in range(1, len(matrices))), matrices[0, 0])


def identity(n: int, n_axes: int, dtype=jnp.complex128) -> Matrices:
    """The unit matrix with ``n_axes`` axes of length one, to broadcast over sites."""
    return jnp.eye(n, dtype=dtype).reshape(n, n, *(1,) * n_axes)


def antihermitian(matrices: Matrices) -> Matrices:
    """The traceless antihermitian part, (A − A†)/2 − tr(A − A†)/2N: the projection on the Lie algebra."""
    n = len(matrices)
    part = (matrices - dagger(matrices)) / 2
    return part - trace(part)[None, None] / n * identity(n, matrices.ndim - 2, matrices.dtype)


def exponential(algebra: Matrices) -> Matrices:
    """exp(X) of traceless antihermitian X, differentiable everywhere.

    N = 2: cos r + (sin r/r) X with r² = det X. N = 3: by X³ = t X + d, t = tr X²/2, d = det X, every power is a
    combination of 1, X and X²; 24 terms of the series of exp(X/4), squared twice (compare Morningstar, Peardon, PRD 69,
    054501 (2004), section III, whose closed form has removable singularities that derivatives do not survive).
    Otherwise by scaling and squaring.
    """
    n = len(algebra)
    if n == 2:
        cosine, sine = _cosine_and_sine((algebra[0, 0] * algebra[1, 1] - algebra[0, 1] * algebra[1, 0]).real)
        return (
            _complex(cosine)[None, None] * identity(2, algebra.ndim - 2, algebra.dtype)
            + _complex(sine)[None, None] * algebra
        )
    if n == 3:
        return _exponential_of_three(algebra)
    found = jax.scipy.linalg.expm(jnp.moveaxis(algebra, (0, 1), (-2, -1)))
    return jnp.moveaxis(found, (-2, -1), (0, 1))


def reprojected(matrices: Matrices) -> Matrices:
    """The nearby element of SU(N), for matrices that rounding has moved off it.

    N = 2: the quaternion, normalised; N = 3: Gram–Schmidt of two rows, the third their cross product; otherwise a
    Newton step towards the unitary matrix, and the determinant's phase divided out.
    """
    n = len(matrices)
    if n == 2:
        a = (matrices[0, 0] + jnp.conj(matrices[1, 1])) / 2
        b = (matrices[0, 1] - jnp.conj(matrices[1, 0])) / 2
        norm = _complex(jnp.sqrt(_squared(a) + _squared(b)))
        a, b = a / norm, b / norm
        return jnp.stack([jnp.stack([a, b]), jnp.stack([-jnp.conj(b), jnp.conj(a)])])
    if n == 3:
        first = _normalised(matrices[0])
        second = matrices[1] - jnp.sum(jnp.conj(first) * matrices[1], axis=0)[None] * first
        second = _normalised(second)
        return jnp.stack([first, second, jnp.conj(jnp.cross(first, second, axis=0))])
    correction = 3 * identity(n, matrices.ndim - 2, matrices.dtype) - multiply(dagger(matrices), matrices)
    unitary = multiply(matrices, correction) / 2
    phase = jnp.angle(jnp.linalg.det(jnp.moveaxis(unitary, (0, 1), (-2, -1)))) / n
    return unitary * jnp.exp(jax.lax.complex(jnp.zeros_like(phase), -phase))[None, None]


def _velocity(u: Matrices, tangent: Matrices) -> Matrices:
    """X of the tangent vector X U."""
    return antihermitian(multiply(tangent, dagger(u)))


def _scaled(factor: Array, matrices: Matrices) -> Matrices:
    return _complex(jnp.asarray(factor)) * matrices


def _complex(values: Array) -> Array:
    return jax.lax.complex(values, jnp.zeros_like(values))


def _squared(values: Array) -> Array:
    return values.real**2 + values.imag**2


def _normalised(rows: Array) -> Array:
    return rows / _complex(jnp.sqrt(jnp.sum(_squared(rows), axis=0)))[None]


def _cosine_and_sine(squared: Array) -> tuple[Array, Array]:
    """cos r and sin(r)/r as smooth functions of r²."""
    small = squared < 1e-2
    r = jnp.sqrt(jnp.where(small, 1.0, squared))
    series = [sum((-squared) ** k / math.factorial(2 * k + odd) for k in range(5)) for odd in (0, 1)]
    return jnp.where(small, series[0], jnp.cos(r)), jnp.where(small, series[1], jnp.sin(r) / r)


def _exponential_of_three(algebra: Matrices) -> Matrices:
    x = algebra / 2**_N_SQUARINGS
    squared = multiply(x, x)
    half_trace = trace(squared) / 2
    determinant = sum((x[0, k] * _minor(x, k) for k in (1, 2)), x[0, 0] * _minor(x, 0))

    # Horner's rule: S ← 1 + X S/k with S = a + b X + c X². A loop, lest XLA compute the sum anew for every element.
    def add(coefficients: tuple[Array, Array, Array], inverse: Array) -> tuple[tuple[Array, Array, Array], None]:
        a, b, c = coefficients
        return (1 + inverse * c * determinant, inverse * (a + c * half_trace), inverse * b), None

    start = jnp.ones_like(half_trace), jnp.zeros_like(half_trace), jnp.zeros_like(half_trace)
    inverses = jnp.asarray(1 / np.arange(_N_TERMS, 0, -1), algebra.dtype)
    (a, b, c), _ = jax.lax.scan(add, start, inverses)
    found = a[None, None] * identity(3, algebra.ndim - 2, algebra.dtype) + b[None, None] * x + c[None, None] * squared
    for _ in range(_N_SQUARINGS):
        found = multiply(found, found)
    return found


def _minor(x: Matrices, column: int) -> Array:
    """The cofactor of the element of the first row."""
    left, right = (column + 1) % 3, (column + 2) % 3
    return x[1, left] * x[2, right] - x[1, right] * x[2, left]


__all__ = [
    "GroupPoints",
    "Matrices",
    "SpecialUnitary",
    "antihermitian",
    "as_matrices",
    "as_points",
    "dagger",
    "exponential",
    "identity",
    "multiply",
    "reprojected",
    "trace",
]
