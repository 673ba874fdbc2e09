"""Effective models of the log-likelihood in the coordinates z, on top of the prior, which is known.

Both are functions of y = F⁻¹(z − centre), F Fᵀ the covariance of the labels at the time of the fit, and follow y only
to where there are labels: beyond, a model knows nothing. Terms up to degree 2 are held where |y| exceeds √d by 6, all
others where it does by 2, so that what was fitted nearby grows no peaks far away; the prior takes over there.
"""

import functools
import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.montecarlo import Target
from slmc.montecarlo.update import Label
from slmc.systems.vectors.posterior import factor_of
from slmc.systems.vectors.prior import Vector, has_density, log_density

MOST_MONOMIALS = 3000
"""Of a polynomial: more cannot be solved for in reasonable time."""

_FARTHEST, _FARTHEST_OF_HIGHER = 6.0, 2.0
"""How far |y| may exceed its usual size √d where quadratic terms, and all higher ones, follow it."""

_CHUNK, _RIDGE = 32, 1e-10
"""Labels whose features are computed by one call, and what keeps a fit to fewer numbers than coefficients small."""

_FAR_BELOW = 20.0
"""Labels whose log W is this much and d below the largest say where nothing is, and would rule a fit of squares."""


class Polynomial(Target):
    """log W(z) = log prior(z) + Σ_m c_m Π_{i∈m} y_i over all monomials m up to a degree: linear in its parameters.

    Of degree 2 it is exact for a Gaussian posterior. Raises ``ValueError`` for more monomials than ``MOST_MONOMIALS``.
    """

    centre: Vector
    whitening: Float[Array, "parameter parameter"]
    coefficients: Float[Array, " monomial"]
    kinds: tuple[str, ...] = eqx.field(static=True)
    degree: int = eqx.field(static=True)

    def __init__(self, kinds: tuple[str, ...], degree: int = 2) -> None:
        self.kinds, self.degree = kinds, degree
        self.centre, self.whitening = jnp.zeros(len(kinds)), jnp.eye(len(kinds))
        if (n := n_monomials(len(kinds), degree)) > MOST_MONOMIALS:
            raise ValueError(
                f"a polynomial of degree {degree} in {len(kinds)} parameters has {n} coefficients, more than "
                f"{MOST_MONOMIALS}; take a lower degree."
            )
        self.coefficients = jnp.zeros(n)

    def log_weight(self, configuration: Vector) -> Float[Array, ""]:
        y = self.standardised(configuration)
        return self._known(configuration, y) + self.coefficients @ self._features(y)

    def _features(self, y: Vector) -> Float[Array, " monomial"]:
        low, high = _monomials(len(self.kinds), self.degree)
        return jnp.concatenate([_products(held(y, _FARTHEST), low), _products(held(y, _FARTHEST_OF_HIGHER), high)])

    def standardised(self, z: Vector) -> Vector:
        """y. Where the labels are is no parameter to be trained."""
        centre, whitening = jax.lax.stop_gradient((self.centre, self.whitening))
        return whitening @ (z - centre)

    def _known(self, z: Vector, y: Vector) -> Float[Array, ""]:
        """The prior; where there is none, walls far out, or the chain of the model would have no end."""
        beyond = jnp.maximum(jnp.abs(y) - math.sqrt(len(y)) - _FARTHEST, 0.0)
        return log_density(self.kinds, z) - self._is_open * jnp.sum(beyond**2)

    @property
    def _is_open(self) -> float:
        """1 if there are parameters without a prior."""
        return 1.0 - float(has_density(self.kinds).min())

    def solved(self, labels: Label, force_weight: float) -> "Polynomial":
        """Centred on the labels, and fitted to them by least squares; without forces where ``force_weight`` is 0."""
        labels = worth_fitting(labels)
        z = np.asarray(labels.configuration)
        factor = np.asarray(factor_of(z))
        parts = jnp.asarray(z.mean(0)), jnp.asarray(np.linalg.inv(factor)), jnp.zeros_like(self.coefficients)
        model = eqx.tree_at(lambda model: (model.centre, model.whitening, model.coefficients), self, parts)
        return eqx.tree_at(
            lambda model: model.coefficients, model, jnp.asarray(_least_squares(model, labels, factor, force_weight))
        )

    def describe(self) -> dict[str, Any]:
        """What ``build_like`` needs to know."""
        return {"form": "polynomial", "degree": self.degree, "kinds": list(self.kinds)}


class Network(Target):
    """A polynomial of degree 2, or 1, and beside it a perceptron of y; trained by gradient steps.

    log W(z) = polynomial(z) + v·h_n, h_k = tanh(A_k h_{k−1} + b_k), h_0 = y, held where labels end. It starts as the
    polynomial: v = 0.
    """

    polynomial: Polynomial
    weights: tuple[Float[Array, "out in"], ...]
    biases: tuple[Float[Array, " out"], ...]
    readout: Float[Array, " out"]

    def __init__(
        self,
        kinds: tuple[str, ...],
        n_hidden: int = 64,
        n_layers: int = 2,
        degree: int | None = None,
        *,
        key: Key[Array, ""],
    ) -> None:
        if degree is None:
            degree = 2 if n_monomials(len(kinds), 2) <= MOST_MONOMIALS else 1
        self.polynomial = Polynomial(kinds, degree)
        widths = (len(kinds), *(n_hidden,) * n_layers)
        keys = jax.random.split(key, n_layers)
        self.weights = tuple(
            jax.random.normal(key, (out, inside), jnp.float64) / math.sqrt(inside)
            for key, inside, out in zip(keys, widths[:-1], widths[1:], strict=True)
        )
        self.biases = tuple(jnp.zeros(n_hidden) for _ in range(n_layers))
        self.readout = jnp.zeros(n_hidden)

    def log_weight(self, configuration: Vector) -> Float[Array, ""]:
        hidden = held(self.polynomial.standardised(configuration), _FARTHEST_OF_HIGHER)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = jnp.tanh(weight @ hidden + bias)
        return self.polynomial.log_weight(configuration) + self.readout @ hidden

    def solved(self, labels: Label, force_weight: float) -> "Network":
        """The polynomial fitted, the perceptron as it is."""
        return eqx.tree_at(lambda model: model.polynomial, self, self.polynomial.solved(labels, force_weight))

    def describe(self) -> dict[str, Any]:
        """What ``build_like`` needs to know."""
        about = {"form": "network", "n_hidden": len(self.readout), "n_layers": len(self.weights)}
        return {**self.polynomial.describe(), **about}


def build_like(description: dict[str, Any]) -> Polynomial | Network:
    """A model of the structure that ``describe`` tells, with numbers to be replaced."""
    kinds, degree = tuple(description["kinds"]), description["degree"]
    if description["form"] == "polynomial":
        return Polynomial(kinds, degree)
    return Network(kinds, description["n_hidden"], description["n_layers"], degree, key=jax.random.key(0))


def _least_squares(model: Polynomial, labels: Label, factor: np.ndarray, force_weight: float) -> np.ndarray:
    """The coefficients that minimise var(log W − log W_θ) + (force_weight/d) ⟨|Fᵀ(f − f_θ)|²⟩, F that of the labels.

    As ``fit_linear``, whose derivatives by the coefficients would take as many passes as there are coefficients; here
    they are functions of y, of which there are few.
    """
    configurations, n_labels = np.asarray(labels.configuration), len(labels.log_weight)
    n, dimension = len(model.coefficients), configurations.shape[1]
    features, right_hand = np.zeros((n_labels, n)), np.zeros(n_labels)
    normal, right = np.zeros((n, n)), np.zeros(n)
    for start in range(0, n_labels, _CHUNK):
        # The last chunk is filled up by repetition, so that data that grow reuse the compiled program.
        members = np.minimum(np.arange(start, start + _CHUNK), n_labels - 1)
        new = slice(start, min(start + _CHUNK, n_labels))
        chunk = jax.device_get(_of_chunk(model, jnp.asarray(configurations[members])))
        values, slopes, known, force = (part[: new.stop - start] for part in chunk)
        features[new], right_hand[new] = values, np.asarray(labels.log_weight)[new] - known
        if force_weight > 0:
            wanted = (np.asarray(labels.force)[new] - force) @ factor
            rows = slopes.transpose(0, 2, 1).reshape(-1, n)
            normal += rows.T @ rows
            right += rows.T @ wanted.reshape(-1)
    scale = force_weight / dimension
    centred = features - features.mean(0)
    normal = scale * normal + centred.T @ centred
    right = scale * right + centred.T @ (right_hand - right_hand.mean())
    # In units of each feature's own size, what never varies stays at zero.
    size = np.sqrt(np.maximum(np.diag(normal), np.finfo(float).tiny))
    scaled = normal / np.outer(size, size) + _RIDGE * np.eye(n)
    return np.asarray(np.linalg.solve(scaled, right / size) / size)


@eqx.filter_jit
def _of_chunk(model: Polynomial, configurations: Array) -> Any:
    """Features and their derivatives by y, log W without them, and its force."""

    def row(z: Vector) -> Any:
        y = model.standardised(z)
        known, force = jax.value_and_grad(model.log_weight)(z)
        return model._features(y), jax.jacfwd(model._features)(y), known, force

    return jax.vmap(row)(configurations)


def worth_fitting(labels: Label) -> Label:
    """The labels without those far below the best, but at least the better half."""
    log_weights = np.asarray(labels.log_weight)
    far_below = log_weights.max() - _FAR_BELOW - labels.configuration.shape[1]
    kept = log_weights >= min(far_below, float(np.median(log_weights)))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[kept], labels)


def held(y: Vector, beyond: float) -> Vector:
    """y, smoothly held at the length √d + ``beyond``."""
    squared = jnp.sum(y**2) / (math.sqrt(len(y)) + beyond) ** 2
    return y * (1 + squared**8) ** (-1 / 16)


def n_monomials(dimension: int, degree: int) -> int:
    """Monomials of degrees 1 to ``degree``."""
    return math.comb(dimension + degree, degree) - 1


def _products(y: Vector, places: np.ndarray) -> Float[Array, " monomial"]:
    return jnp.prod(jnp.concatenate([jnp.ones(1), y])[places], axis=1)


@functools.lru_cache(maxsize=16)
def _monomials(dimension: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the factors of every monomial, from 1, 0 being the factor one: up to degree 2, and the higher ones."""
    places = itertools.combinations_with_replacement(range(dimension + 1), max(degree, 1))
    listed = np.array([place for place in places if any(place)])
    n_factors = np.count_nonzero(listed, axis=1)
    return listed[n_factors <= 2], listed[n_factors > 2]
