"""Where a configuration lives: momenta, straight lines and local steps on it."""

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Manifold(eqx.Module):
    """A Riemannian manifold of whole configurations: what they are moved along.

    A configuration is an array on a ``SiteManifold``, and a pytree of arrays on a ``Product`` of several. To write your
    own, subclass ``SiteManifold``.
    """

    @property
    @abc.abstractmethod
    def largest_step(self) -> float:
        """The step size beyond which steps only go round the manifold; infinite where there is none."""

    @abc.abstractmethod
    def distance(self, position: Any) -> Any:
        """How far a configuration is off the manifold, at its worst point: 0 up to rounding, NaN if it is no number.

        Written for NumPy and for JAX arrays alike.
        """

    @abc.abstractmethod
    def project(self, position: Any, vector: Any) -> Any:
        """The part of a vector of the embedding space that is tangent to the manifold at a position."""

    @abc.abstractmethod
    def move(self, position: Any, momentum: Any, time: Float[Array, ""]) -> tuple[Any, Any]:
        """Free motion for a time: position and momentum carried along the geodesic."""

    @abc.abstractmethod
    def perturb(self, key: Key[Array, ""], position: Any, step_size: Float[Array, ""]) -> Any:
        """A symmetric random step of about the given size."""

    @abc.abstractmethod
    def random(self, key: Key[Array, ""], shape: Any) -> Any:
        """Points to start chains from, ``shape`` being that of the whole array (of each array of a product)."""

    @abc.abstractmethod
    def draw_momentum(self, key: Key[Array, ""], position: Any) -> Any:
        """A momentum from the Gaussian exp(−p²/2) on the tangent space."""

    @abc.abstractmethod
    def dimension(self, position: Any) -> Any:
        """Of the tangent space at a configuration: the mean of p² over momenta that are drawn."""

    @abc.abstractmethod
    def n_points(self, configuration: Any) -> int:
        """Points (sites) in a configuration of one chain."""

    @abc.abstractmethod
    def perturb_point(
        self, key: Key[Array, ""], position: Any, point: Int[Array, ""], step_size: Float[Array, ""]
    ) -> Any:
        """The configuration with one point, of ``n_points``, perturbed."""


class SiteManifold(Manifold):
    """One copy of a manifold for every site of a configuration.

    A configuration is an array whose last ``point_ndim`` axes hold the embedding coordinates of one point.
    ``farthest`` is the step size beyond which steps only go round the manifold, if there is one.

    To write your own: ``move`` must be the geodesic flow, exactly reversible (moving, turning the momentum
    round and moving again leads back) and volume preserving; ``perturb`` must be symmetric,
    q(x'|x) = q(x|x'). If a momentum of unit variance is not a velocity, ``impulse(position, force)`` says how a force
    changes it.
    """

    point_ndim: eqx.AbstractClassVar[int]
    farthest: ClassVar[float] = math.inf

    @property
    def largest_step(self) -> float:
        return self.farthest

    def n_points(self, configuration: Any) -> int:
        shape = configuration.shape
        return math.prod(shape[: len(shape) - self.point_ndim])

    def draw_momentum(self, key: Key[Array, ""], position: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.project(position, jax.random.normal(key, position.shape, position.dtype))

    def perturb_point(
        self, key: Key[Array, ""], position: Float[Array, "..."], point: Int[Array, ""], step_size: Float[Array, ""]
    ) -> Float[Array, "..."]:
        points = position.reshape(-1, *position.shape[position.ndim - self.point_ndim :])
        moved = self.perturb(key, points[point], step_size)
        return points.at[point].set(moved).reshape(position.shape)


class Product(Manifold):
    """A manifold for each part of a configuration that is a dictionary, a named tuple or another pytree of arrays.

    ``Product({"spins": Sphere(), "positions": Flat()})`` is the manifold of ``{"spins": array, "positions": array}``.
    The metric is the sum of the parts' metrics: one time and one step size serve all.
    """

    parts: Any

    def project(self, position: Any, vector: Any) -> Any:
        return self._over(lambda part, x, v: part.project(x, v), position, vector)

    def impulse(self, position: Any, force: Any) -> Any:
        """That of every part."""
        return self._over(lambda part, x, f: impulse(part, x, f), position, force)

    def move(self, position: Any, momentum: Any, time: Float[Array, ""]) -> tuple[Any, Any]:
        moved = self._list(lambda part, x, p: part.move(x, p, time), position, momentum)
        return self._tree([x for x, _ in moved]), self._tree([p for _, p in moved])

    def perturb(self, key: Key[Array, ""], position: Any, step_size: Float[Array, ""]) -> Any:
        return self._over(lambda part, key, x: part.perturb(key, x, step_size), self._keys(key), position)

    def random(self, key: Key[Array, ""], shape: Any) -> Any:
        return self._over(lambda part, key, shape: part.random(key, shape), self._keys(key), shape)

    def draw_momentum(self, key: Key[Array, ""], position: Any) -> Any:
        return self._over(lambda part, key, x: part.draw_momentum(key, x), self._keys(key), position)

    @property
    def largest_step(self) -> float:
        return min(part.largest_step for part in self._manifolds)

    def dimension(self, position: Any) -> Any:
        return sum(self._list(lambda part, x: part.dimension(x), position))

    def distance(self, position: Any) -> Any:
        return max(self._list(lambda part, x: part.distance(x), position))

    def n_points(self, configuration: Any) -> int:
        return sum(self._list(lambda part, x: part.n_points(x), configuration))

    def perturb_point(
        self, key: Key[Array, ""], position: Any, point: Int[Array, ""], step_size: Float[Array, ""]
    ) -> Any:
        first, changed = 0, []
        for part, x in zip(self._manifolds, self._list(lambda _, x: x, position), strict=True):
            n_points = part.n_points(x)
            here = (point >= first) & (point < first + n_points)
            moved = part.perturb_point(key, x, jnp.clip(point - first, 0, n_points - 1), step_size)
            changed.append(jax.tree.map(lambda new, old, here=here: jnp.where(here, new, old), moved, x))
            first += n_points
        return self._tree(changed)

    @property
    def _manifolds(self) -> list[Manifold]:
        return jax.tree.leaves(self.parts, is_leaf=_is_manifold)

    def _tree(self, values: list[Any]) -> Any:
        return jax.tree.unflatten(jax.tree.structure(self.parts, is_leaf=_is_manifold), values)

    def _keys(self, key: Key[Array, ""]) -> Any:
        return self._tree(list(jax.random.split(key, len(self._manifolds))))

    def _list(self, function: Any, *trees: Any) -> list[Any]:
        structure: Any = jax.tree.structure(self.parts, is_leaf=_is_manifold)
        parts = [structure.flatten_up_to(tree) for tree in trees]
        return [function(*arguments) for arguments in zip(self._manifolds, *parts, strict=True)]

    def _over(self, function: Any, *trees: Any) -> Any:
        return self._tree(self._list(function, *trees))


def impulse(manifold: Manifold, position: Any, force: Any) -> Any:
    """How a force ∂ log W/∂x changes a momentum in unit time: its tangential part, unless a manifold says otherwise.

    Where momenta are not velocities (particles with masses) a manifold has a method of this name.
    """
    of_its_own = getattr(manifold, "impulse", None)
    return manifold.project(position, force) if of_its_own is None else of_its_own(position, force)


def squared_norm(vector: Any) -> Float[Array, ""]:
    """Σ v², over all components of a vector of the embedding space."""
    first, *others = (jnp.sum(leaf**2) for leaf in jax.tree.leaves(vector))
    return sum(others, first)


def _is_manifold(part: Any) -> bool:
    return isinstance(part, Manifold)


class Flat(SiteManifold):
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

    def dimension(self, position):
        return position.size

    def distance(self, position):
        return abs(0 * position).max(initial=0.0)


class Sphere(SiteManifold):
    """Unit vectors (classical spins): points S with |S| = 1 in the last axis.

    Geodesic flow is rotation along great circles, S(t) = S cos(|p|t) + (p/|p|) sin(|p|t): Byrne, Girolami,
    Scand. J. Stat. 40, 825 (2013). A zero vector stands for a site without a spin (a diluted lattice): nothing is
    tangent to it and nothing moves it.
    """

    point_ndim = 1
    farthest = 10.0

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

    def dimension(self, position):
        return (position.shape[-1] - 1) * jnp.sum(occupied(position))

    def distance(self, position):
        numpy = position.__array_namespace__()
        length = numpy.sqrt(numpy.sum(position**2, axis=-1))
        return numpy.max(numpy.where(length == 0, 0.0, numpy.abs(length - 1)), initial=0.0)


class Signs(SiteManifold):
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

    def dimension(self, position):
        return 0

    def distance(self, position):
        numpy = position.__array_namespace__()
        return numpy.max(numpy.where(position == 0, 0.0, numpy.abs(numpy.abs(position) - 1)), initial=0.0)


def occupied(vectors: Float[Array, "... n"]) -> Bool[Array, "... 1"]:
    """Where there is a vector at all: a zero vector stands for a site without a spin."""
    return jnp.any(vectors != 0, axis=-1, keepdims=True)


def _normalise(vectors: Float[Array, "... n"]) -> Float[Array, "... n"]:
    length = jnp.sqrt(jnp.sum(vectors**2, axis=-1, keepdims=True))
    return vectors / jnp.where(length > 0, length, 1.0)
