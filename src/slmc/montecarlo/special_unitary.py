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
_LARGE = 64.0
"""−tr X² beyond which the series of N = 3 is replaced; it is exact to rounding up to there."""

_MOST_SQUARINGS = 24


class SpecialUnitary(SiteManifold):
    """SU(N), real and imaginary part of each matrix in the last three axes (2, N, N).

    The metric is that of the embedding, |dU|² = tr dU†dU. A momentum is the velocity P = X U with X antihermitian and
    traceless, so p²/2 = −tr X²/2, and free motion is U(t) = exp(t X) U with X constant. In the convention
    U̇ = i π_a T_a U with kinetic energy π²/2 and tr T_a T_b = δ_ab/2 times are longer by √2: a step of ε there is one
    of ε/√2 here.

    The exponential is exact to rounding for any N and any |t X|; moved matrices are projected back on the group, lest
    rounding add up.
    """

    point_ndim = 3
    farthest = 10.0

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

    def dimension(self, position):
        return (position.shape[-1] ** 2 - 1) * self.n_points(position)

    def distance(self, position):
        """The largest element of U U† − 1, or |det U − 1| if that is larger."""
        numpy = position.__array_namespace__()
        parts = position.astype(np.complex128)
        u = parts[..., 0, :, :] + 1j * parts[..., 1, :, :]
        unit = numpy.broadcast_to(numpy.eye(u.shape[-1]).astype(u.dtype), u.shape)
        unitarity = numpy.max(numpy.abs(u @ numpy.conj(numpy.swapaxes(u, -1, -2)) - unit), initial=0.0)
        with np.errstate(invalid="ignore"):
            determinant = numpy.linalg.det(u)
        return numpy.maximum(unitarity, numpy.max(numpy.abs(determinant - 1), initial=0.0))


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
    054501 (2004), section III, whose closed form has removable singularities that derivatives do not survive), and a
    closed form beyond |X| = 8 (``_exponential_of_large``). Otherwise by scaling and squaring, up to |X| of about 10^8
    and NaN beyond.
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
    matrices = jax.scipy.linalg.expm(jnp.moveaxis(algebra, (0, 1), (-2, -1)), max_squarings=_MOST_SQUARINGS)
    return jnp.moveaxis(matrices, (-2, -1), (0, 1))


def exponential_of_small(algebra: Matrices) -> Matrices:
    """``exponential`` for what is differentiated often: NaN for N = 3 and |X| > 8, where that needs another formula."""
    if len(algebra) != 3:
        return exponential(algebra)
    is_large = jnp.sum(_squared(algebra), axis=(0, 1)) > _LARGE
    return jnp.where(is_large[None, None], jnp.nan, _exponential_by_series(algebra))


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


def _sitewise(factors: Array, matrices: Array) -> Array:
    return _complex(factors)[None, None] * matrices


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


@jax.custom_jvp
def _exponential_of_three(algebra: Matrices) -> Matrices:
    """The series, and the closed form where the series does not reach.

    A loop of at most one turn, not a condition, which would compute both for all chains of a group. It has no
    derivative in reverse, hence the rule below.
    """
    is_large = jnp.sum(_squared(algebra), axis=(0, 1)) > _LARGE

    def replaced(carry: tuple[Array, Matrices]) -> tuple[Array, Matrices]:
        return jnp.asarray(False), jnp.where(is_large[None, None], _exponential_of_large(algebra), carry[1])

    start = jnp.any(is_large), _exponential_by_series(algebra)
    return jax.lax.while_loop(lambda carry: carry[0], replaced, start)[1]


@_exponential_of_three.defjvp
def _exponential_of_three_jvp(primals: tuple[Matrices], tangents: tuple[Matrices]) -> tuple[Matrices, Matrices]:
    return jax.jvp(_exponential_everywhere, primals, tangents)


def _exponential_everywhere(algebra: Matrices) -> Matrices:
    """The same by selection: differentiable to any order."""
    is_large = (jnp.sum(_squared(algebra), axis=(0, 1)) > _LARGE)[None, None]
    # Each formula sees a harmless argument where the other is used, lest what overflows there reach derivatives.
    harmless = jnp.diag(jnp.asarray([1j, -1j, 0], algebra.dtype)).reshape(3, 3, *(1,) * (algebra.ndim - 2))
    large = _exponential_of_large(jnp.where(is_large, algebra, harmless))
    return jnp.where(is_large, large, _exponential_by_series(jnp.where(is_large, 0.0, algebra)))


def _exponential_by_series(algebra: Matrices) -> Matrices:
    x = algebra / 2**_N_SQUARINGS
    squared = multiply(x, x)
    half_trace, determinant = trace(squared) / 2, _determinant(x)

    # Horner's rule: S ← 1 + X S/k with S = a + b X + c X². A loop, lest XLA compute the sum anew for every element.
    def add(coefficients: tuple[Array, Array, Array], inverse: Array) -> tuple[tuple[Array, Array, Array], None]:
        a, b, c = coefficients
        return (1 + inverse * c * determinant, inverse * (a + c * half_trace), inverse * b), None

    start = jnp.ones_like(half_trace), jnp.zeros_like(half_trace), jnp.zeros_like(half_trace)
    inverses = jnp.asarray(1 / np.arange(_N_TERMS, 0, -1), algebra.dtype)
    (a, b, c), _ = jax.lax.scan(add, start, inverses)
    result = a[None, None] * identity(3, algebra.ndim - 2, algebra.dtype) + b[None, None] * x + c[None, None] * squared
    for _ in range(_N_SQUARINGS):
        result = multiply(result, result)
    return result


def _exponential_of_large(algebra: Matrices) -> Matrices:
    """exp(i m H) of X = i m H, whatever m, for H that is not zero; m is the largest element of X.

    The eigenvalue θ of H that is largest in size is apart from the others: their sum is −θ, their product
    g = θ² − tr H²/2 is not negative. With P the projector on θ, Q = 1 − P and B = Q (H + θ/2),

        exp(i m H) = e^{imθ} P + e^{−imθ/2} (cos(mδ) Q + i sin(mδ)/δ B),   δ² = tr B²/2,
              P = (H² + θ H + g)/(2 θ² + g).
    """
    m = jax.lax.stop_gradient(jnp.max(jnp.abs(algebra), axis=(0, 1)))
    h = -1j * algebra / _complex(m)[None, None]
    squared, unit = multiply(h, h), identity(3, algebra.ndim - 2, algebra.dtype)
    half_trace = trace(squared).real / 2
    theta = _largest_root(half_trace, _determinant(h).real)
    g = theta**2 - half_trace
    inverse = 1 / (2 * theta**2 + g)
    p = _sitewise(inverse, squared) + _sitewise(theta * inverse, h) + _sitewise(g * inverse, unit)
    b = h + _sitewise(theta / 2, unit) - _sitewise(1.5 * theta, p)
    cosine, sine = _cosine_and_sine(m**2 * jnp.sum(_squared(b), axis=(0, 1)) / 2)
    rest = _sitewise(cosine, unit - p) + 1j * _sitewise(m * sine, b)
    return _phase(m * theta) * p + _phase(-m * theta / 2) * rest


def _largest_root(s: Array, d: Array) -> Array:
    """The root of θ³ − s θ − d that is largest in size, where all three are real and s is positive.

    Two Newton steps from a constant give it the right derivatives up to the third.
    """
    radius = jnp.sqrt(jax.lax.stop_gradient(s) / 3)
    cosine = jnp.clip(jnp.abs(d) / (2 * radius**3), 0.0, 1.0)
    theta = jnp.where(d < 0, -2.0, 2.0) * radius * jnp.cos(jnp.arccos(cosine) / 3)
    theta = jax.lax.stop_gradient(theta)  # the arc cosine has no derivative at 1, where the other two roots meet
    for _ in range(2):
        theta = theta - (theta**3 - s * theta - d) / (3 * theta**2 - s)
    return theta


def _phase(angle: Array) -> Array:
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))[None, None]


def _determinant(x: Matrices) -> Array:
    return sum((x[0, k] * _minor(x, k) for k in (1, 2)), x[0, 0] * _minor(x, 0))


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
    "exponential_of_small",
    "identity",
    "multiply",
    "reprojected",
    "trace",
]
