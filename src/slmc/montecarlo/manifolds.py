"""Where a configuration lives: momenta, straight lines and local steps on it."""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key


class Manifold(eqx.Module):
    """A Riemannian manifold, one copy for every site of a configuration.

    A configuration is an array whose last ``point_ndim`` axes hold the embedding coordinates of one point.
    ``largest_step`` is the step size beyond which steps only go round the manifold; tuning stays below.

    To write your own: ``move`` must be the geodesic flow, exactly reversible (moving, turning the momentum
    round and moving again leads back) and volume preserving; ``perturb`` must be symmetric,
    q(x'|x) = q(x|x').
    """

    point_ndim: eqx.AbstractClassVar[int]
    largest_step: ClassVar[float] = math.inf

    @abc.abstractmethod
    def project(self, position: Float[Array, "..."], vector: Float[Array, "..."]) -> Float[Array, "..."]:
        """The part of a vector of the embedding space that is tangent to the manifold at a position."""

    @abc.abstractmethod
    def move(
        self, position: Float[Array, "..."], momentum: Float[Array, "..."], time: Float[Array, ""]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Free motion for a time: position and momentum carried along the geodesic."""

    @abc.abstractmethod
    def perturb(
        self, key: Key[Array, ""], position: Float[Array, "..."], step_size: Float[Array, ""]
    ) -> Float[Array, "..."]:
        """A symmetric random step of about the given size."""

    @abc.abstractmethod
    def random(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Points to start chains from, ``shape`` being that of the whole array."""

    @abc.abstractmethod
    def distance(self, position: Float[Array | np.ndarray, "..."]) -> Float[Array | np.ndarray | np.generic, ""]:
        """How far a configuration is off the manifold, at its worst point: 0 up to rounding, NaN if it is no number.

        Written for NumPy and for JAX arrays alike.
        """

    def n_points(self, shape: tuple[int, ...]) -> int:
        """Points (sites) in a configuration of the given array shape."""
        return math.prod(shape[: len(shape) - self.point_ndim])

    def draw_momentum(self, key: Key[Array, ""], position: Float[Array, "..."]) -> Float[Array, "..."]:
        """A momentum from the Gaussian exp(−p²/2) on the tangent space."""
        return self.project(position, jax.random.normal(key, position.shape, position.dtype))


class Flat(Manifold):
    """Euclidean space: every component of the configuration is a coordinate of its own."""

    point_ndim = 0

    def project(self, position, vector):
        return vector

    def move(self, position, momentum, time):
        return position + time * momentum, momentum

    def perturb(self, key, position, step_size):
        return position + step_size * jax.random.normal(key, position.shape, position.dtype)

    def random(self, key, shape):
        return jax.random.normal(key, shape, jnp.float64)

    def distance(self, position):
        return abs(0 * position).max(initial=0.0)


class Sphere(Manifold):
    """Unit vectors (classical spins): points S with |S| = 1 in the last axis.

    Geodesic flow is rotation along great circles, S(t) = S cos(|p|t) + (p/|p|) sin(|p|t): Byrne, Girolami,
    Scand. J. Stat. 40, 825 (2013). A zero vector stands for a site without a spin (a diluted lattice): nothing is
    tangent to it and nothing moves it.
    """

    point_ndim = 1
    largest_step = 10.0

    def project(self, position, vector):
        tangent = vector - jnp.sum(position * vector, axis=-1, keepdims=True) * position
        return jnp.where(occupied(position), tangent, 0.0)

    def move(self, position, momentum, time):
        speed = jnp.sqrt(jnp.sum(momentum**2, axis=-1, keepdims=True))
        angle = speed * time
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        direction = momentum / jnp.where(speed > 0, speed, 1.0)
        moved = position * cosine + direction * sine
        turned = momentum * cosine - position * speed * sine
        # Rounding would let |S| and the tangent condition drift over many steps.
        moved = _normalise(moved)
        return moved, self.project(moved, turned)

    def perturb(self, key, position, step_size):
        moved = _normalise(position + step_size * jax.random.normal(key, position.shape, position.dtype))
        return jnp.where(occupied(position), moved, 0.0)

    def random(self, key, shape):
        return _normalise(jax.random.normal(key, shape, jnp.float64))

    def distance(self, position):
        numpy = position.__array_namespace__()
        length = numpy.sqrt(numpy.sum(position**2, axis=-1))
        return numpy.max(numpy.where(length == 0, 0.0, numpy.abs(length - 1)), initial=0.0)


class Signs(Manifold):
    """Ising spins: +1 or −1 at every site (0: a site without one).

    Nothing is tangent to two points, so that there are no forces or momenta.
    """

    point_ndim = 0

    def project(self, position, vector):
        return jnp.zeros_like(vector)

    def move(self, position, momentum, time):
        return position, momentum

    def perturb(self, key, position, step_size):
        return -position

    def random(self, key, shape):
        return jax.random.rademacher(key, shape, jnp.float64)

    def distance(self, position):
        numpy = position.__array_namespace__()
        return numpy.max(numpy.where(position == 0, 0.0, numpy.abs(numpy.abs(position) - 1)), initial=0.0)


def occupied(vectors: Float[Array, "... n"]) -> Bool[Array, "... 1"]:
    """Where there is a vector at all: a zero vector stands for a site without a spin."""
    return jnp.any(vectors != 0, axis=-1, keepdims=True)


def _normalise(vectors: Float[Array, "... n"]) -> Float[Array, "... n"]:
    length = jnp.sqrt(jnp.sum(vectors**2, axis=-1, keepdims=True))
    return vectors / jnp.where(length > 0, length, 1.0)
