"""The learned potential: moments of the neighbours of each atom, their invariants, a small network for each element."""

import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo import Target
from slmc.montecarlo.chains import over_chains
from slmc.numbers import positive, positive_count
from slmc.systems.atoms.calculated import Coordinates, SoftSphere
from slmc.systems.atoms.cell import SMALLEST_SCALE, Cell
from slmc.systems.atoms.repulsion import repulsion

_WEIGHTS = np.sqrt([1, 1, 1, 2, 2, 2])
"""Of the six components of a symmetric 3×3 tensor, xx, yy, zz, xy, xz, yz, so that products sum over all nine."""

_LEAST_SPREAD = 1e-3


class MomentPotential(Target):
    """log W = −β (Σ_i E_i + constant + U_repulsion + U_sphere), E_i a function of the neighbours of atom i.

    Moments of channel c are sums over neighbours j within ``reach``, u the unit vector towards j,

        A_c = Σ_j g_c(r_ij),  A_c^a = Σ_j g_c(r_ij) u^a,  A_c^ab = Σ_j g_c(r_ij) (u^a u^b − δ_ab/3),
        g_c(r) = f(r/reach) Σ_k w_ck sin(kπ r/reach)/r,   f(x) = 1 − 10x³ + 15x⁴ − 6x⁵

    with weights w for each pair of elements; f and its first two derivatives vanish at the cut-off. E_i is a linear
    function, and a network of two layers, of the invariants A_c, A_c·A_d, A_c:A_d, A_c·A_c·A_c (two vectors and a
    tensor), tr A_c³ and |A_c·A_c|² of the standardised kind, with parameters for each element: products of up to four
    moments, as in Shapeev, Multiscale Model. Simul. 14, 1153 (2016). Invariant under translations, rotations,
    reflections and permutations of like atoms. Short distances are repulsive by ``repulsion``.

    Positions in Å, energies in eV. Raises ``ValueError`` for a reach or numbers that are not positive. It has no
    charges: what decays slowly beyond ``reach`` is not described. ``elements`` are the atomic numbers that it knows, by
    default those in the cell.
    """

    radial: Float[Array, "element element basis channel"]
    weights: tuple[Float[Array, "element inputs outputs"], ...]
    biases: tuple[Float[Array, "element outputs"], ...]
    linear: Float[Array, "element feature"]
    mean: Float[Array, "element feature"]
    spread: Float[Array, "element feature"]
    constant: Float[Array, ""]
    cell: Cell = eqx.field(static=True)
    beta: float = eqx.field(static=True)
    reach: float = eqx.field(static=True)
    elements: tuple[int, ...] = eqx.field(static=True)
    sphere: SoftSphere | None = None

    def __init__(
        self,
        cell: Cell,
        beta: float,
        reach: float = 5.0,
        n_radial: int = 10,
        n_channels: int = 8,
        n_hidden: int = 32,
        sphere: SoftSphere | None = None,
        elements: tuple[int, ...] | None = None,
        *,
        key: Key[Array, ""],
    ) -> None:
        positive(reach, "reach")
        sizes = [positive_count(n, name) for n, name in ((n_radial, "n_radial"), (n_channels, "n_channels"))]
        self.cell, self.beta, self.reach, self.sphere = cell, float(beta), float(reach), sphere
        self.elements = tuple(sorted(set(cell.numbers))) if elements is None else elements
        if missing := set(cell.numbers) - set(self.elements):
            raise ValueError(f"the potential does not know the elements of atomic numbers {sorted(missing)}.")
        n_elements, n_features = len(self.elements), n_channels * (n_channels + 5)
        keys = jax.random.split(key, 4)
        self.radial = jax.random.normal(keys[0], (n_elements, n_elements, *sizes)) / np.sqrt(n_radial)
        layers = [n_features, positive_count(n_hidden, "n_hidden"), n_hidden, 1]
        pairs = list(itertools.pairwise(layers))
        shapes = [(n_elements, *pair) for pair in pairs]
        self.weights = tuple(
            jax.random.normal(key, shape) * (scale / np.sqrt(shape[1]))
            for key, shape, scale in zip(keys[1:], shapes, (1.0, 1.0, 0.1), strict=True)
        )
        self.biases = tuple(jnp.zeros((n_elements, shape[2])) for shape in shapes)
        self.linear = jnp.zeros((n_elements, n_features))
        self.mean, self.spread = jnp.zeros((n_elements, n_features)), jnp.ones((n_elements, n_features))
        self.constant = jnp.zeros(())

    def log_weight(self, configuration: Coordinates) -> Float[Array, ""]:
        energy = self.energy(configuration)
        if self.sphere is not None:
            energy = energy + self.sphere.energy(configuration)
        return -self.beta * energy

    def energy(self, positions: Coordinates, scale: Float[Array, ""] | None = None) -> Float[Array, ""]:
        """The potential energy in eV, that of the sphere left out; with a ``scale``, in a cell that is as many times as
        large. Where it is smaller than ``SMALLEST_SCALE`` some of the farthest images are missing."""
        distances, directions = self._neighbours(positions, scale)
        total = self.constant + repulsion(self.cell, distances)
        features = self._invariants(distances, directions)
        for element, members in enumerate(self._members):
            mean, spread = jax.lax.stop_gradient((self.mean[element], self.spread[element]))
            own = jnp.asarray(np.eye(self.cell.n_atoms)[members], features.dtype) @ features
            h = (own - mean[None]) / spread[None]
            total = total + jnp.sum(h @ self.linear[element])
            for layer, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
                h = h @ weights[element] + biases[element][None]
                h = h if layer + 1 == len(self.weights) else jax.nn.silu(h)
            total = total + jnp.sum(h)
        return total

    def standardised(
        self, positions: Float[np.ndarray, "copy atom 3"], scales: Float[np.ndarray, " copy"] | None = None
    ) -> "MomentPotential":
        """The potential with invariants of mean 0 and spread 1 over configurations, by element: for its first fit."""
        scales = np.ones(len(positions)) if scales is None else scales
        features = np.asarray(over_chains(_features, (positions, scales), self, group_size=32))
        mean = [np.mean(features[:, members], axis=(0, 1)) for members in self._members]
        spread = [np.std(features[:, members], axis=(0, 1)) for members in self._members]
        floor = [np.maximum(s, _LEAST_SPREAD) for s in spread]
        return eqx.tree_at(
            lambda model: (model.mean, model.spread), self, (jnp.asarray(np.stack(mean)), jnp.asarray(np.stack(floor)))
        )

    def on_atoms(self, cell: Cell, beta: float, sphere: SoftSphere | None) -> "MomentPotential":
        """The same potential for other atoms. Raises ``ValueError`` for elements that it does not know."""
        n_radial, n_channels = self.radial.shape[2:]
        sizes = {"n_radial": n_radial, "n_channels": n_channels, "n_hidden": self.weights[0].shape[2]}
        kinds = {"sphere": sphere, "elements": self.elements}
        like = MomentPotential(cell, beta, self.reach, **sizes, **kinds, key=jax.random.key(0))  # type: ignore[arg-type]
        return eqx.tree_at(_parameters, like, _parameters(self))

    def features(self, positions: Coordinates, scale: Float[Array, ""] | None = None) -> Float[Array, "atom feature"]:
        """The invariants of every atom, as they are."""
        return self._invariants(*self._neighbours(positions, scale))

    @property
    def _members(self) -> list[np.ndarray]:
        numbers = np.array(self.cell.numbers)
        return [np.flatnonzero(numbers == element) for element in self.elements]

    def _neighbours(
        self, positions: Coordinates, scale: Float[Array, ""] | None
    ) -> tuple[Float[Array, "atom atom image"], Array]:
        """Distances and unit vectors to all images within reach; an atom is no neighbour of itself."""
        cell, dtype = self.cell, positions.dtype
        difference = (positions[None, :, :] - positions[:, None, :])[:, :, None, :]
        if cell.is_periodic:
            rows = jnp.asarray(cell.vectors, dtype)
            images = jnp.asarray(cell.images(self.reach / (1.0 if scale is None else SMALLEST_SCALE)), dtype)
            inside = difference if scale is None else difference / scale
            nearest = jnp.round(inside @ jnp.asarray(np.linalg.inv(cell.vectors), dtype))
            shifts = jax.lax.stop_gradient(images[None, None] - nearest) @ rows
            difference = difference + (shifts if scale is None else scale * shifts)
        own = np.eye(cell.n_atoms, dtype=bool)[:, :, None] & (np.arange(difference.shape[2]) == 0)
        beyond = jnp.asarray([2 * self.reach, 0, 0], dtype)
        difference = jnp.where(own[..., None], beyond[None, None, None], difference)
        distances = jnp.sqrt(jnp.sum(difference**2, axis=-1))
        return distances, difference / distances[..., None]

    def _invariants(self, distances: Array, directions: Array) -> Float[Array, "atom feature"]:
        """Written out in components, and without indices but slices: three times as fast as a compiled program."""
        moments = self._moments(distances, directions)
        vectors, tensors = moments[..., 1:4], moments[..., 4:]
        scalars, x, y, z, xx, yy, zz, xy, xz, yz = (moments[..., place] for place in range(10))
        products = [
            jnp.sum(leaf[:, channel : channel + 1] * leaf[:, channel:], axis=-1)
            for leaf in (vectors, tensors * jnp.asarray(_WEIGHTS, tensors.dtype)[None, None])
            for channel in range(leaf.shape[1])
        ]
        turned = xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z
        cubes = xx * (xx**2 + 3 * (xy**2 + xz**2)) + yy * (yy**2 + 3 * (xy**2 + yz**2))
        cubes = cubes + zz * (zz**2 + 3 * (xz**2 + yz**2)) + 6 * xy * xz * yz
        along = turned[0] * x + turned[1] * y + turned[2] * z
        return jnp.concatenate([scalars, *products, along, cubes, sum(part**2 for part in turned)], axis=-1)

    def _moments(self, distances: Array, directions: Array) -> Float[Array, "atom channel 10"]:
        """Scalars, vectors, and the six components of the symmetric tensors."""
        n_atoms, (n_elements, _, n_radial, n_channels) = self.cell.n_atoms, self.radial.shape
        x = jnp.minimum(distances / self.reach, 1.0)
        cut = 1 - x**3 * (10 - x * (15 - 6 * x))
        waves = jnp.pi * jnp.arange(1, n_radial + 1, dtype=distances.dtype)
        basis = jnp.sin(x[..., None] * waves[None, None, None]) * (cut / distances)[..., None]
        a, b, c = directions[..., 0], directions[..., 1], directions[..., 2]
        products = [jnp.ones_like(a), a, b, c, a * a - 1 / 3, b * b - 1 / 3, c * c - 1 / 3, a * b, a * c, b * c]
        angular = jnp.stack(products, axis=-1).reshape(n_atoms, -1, 10)
        # Of every pair of atoms the channels of all pairs of elements, of which one is taken: a product of matrices.
        channels = jnp.transpose(self.radial, (2, 0, 1, 3)).reshape(n_radial, -1)
        of_all = (basis.reshape(-1, n_radial) @ channels).reshape(n_atoms, -1, n_elements**2, n_channels)
        is_element = np.equal(self.elements, np.array(self.cell.numbers)[:, None])
        is_pair = is_element[:, None, :, None] & np.repeat(is_element, distances.shape[2], axis=0)[None, :, None, :]
        chosen = jnp.asarray(is_pair.reshape(n_atoms, -1, n_elements**2), of_all.dtype)
        radial = jnp.sum(of_all * chosen[..., None], axis=2)
        return jnp.swapaxes(radial, 1, 2) @ angular


def _parameters(model: MomentPotential) -> Any:
    arrays = model.radial, model.weights, model.biases, model.linear, model.mean, model.spread
    return *arrays, model.constant


def _features(model: MomentPotential, copy: tuple[Coordinates, Array]) -> Array:
    positions, scale = copy
    return model.features(positions, scale if model.cell.is_periodic else None)


@functools.cache
def _compiled() -> Any:
    return eqx.filter_jit(lambda model, positions: jax.value_and_grad(model.energy)(positions))


def energy_and_forces(model: MomentPotential, positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy in eV, forces in eV/Å: of the potential alone, the sphere left out."""
    energy, gradient = _compiled()(model, jnp.asarray(positions))
    return float(energy), -np.asarray(gradient)
