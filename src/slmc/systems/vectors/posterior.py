"""What is sampled: a prior and an expensive log-likelihood, or any expensive log-weight of a vector."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.montecarlo import MeasuredTarget, SiteManifold, Target
from slmc.systems.vectors.prior import Prior, Vector


class JaxFunction(Target):
    """A log-weight that is a function of x written in JAX."""

    function: Callable[[Array], Array] = eqx.field(static=True)

    def log_weight(self, configuration: Vector) -> Float[Array, ""]:
        return jnp.asarray(self.function(configuration), jnp.float64).reshape(())


class Posterior(MeasuredTarget):
    """log W(z) = log L(x(z)) + log of the prior's density in z.

    ``likelihood`` is a target of the parameters x. ``factor`` is no part of the weight: a matrix of which the exact
    update and the inner chain make their steps, F Fᵀ being proportional to the covariance of z (see ``Shaped``). It is
    found while thermalising, then fixed. An evaluation also tells log L, as ``log_likelihood``.
    """

    prior: Prior
    likelihood: Target
    factor: Float[Array, "parameter parameter"]

    def log_weight(self, configuration: Vector) -> Float[Array, ""]:
        return self.log_weight_and_observables(configuration)[0]

    def log_weight_and_observables(self, configuration: Vector) -> tuple[Float[Array, ""], dict[str, Array]]:
        log_likelihood = self.likelihood.log_weight(self.prior.parameters(configuration))
        return self.prior.log_density(configuration) + log_likelihood, {"log_likelihood": log_likelihood}


class Shaped(SiteManifold):
    """Euclidean space in which steps have the shape of a matrix F: moving by p means moving by F p.

    With a momentum of unit variance this is Hamiltonian dynamics with the mass matrix (F Fᵀ)⁻¹, ẋ = F p, ṗ = Fᵀ f;
    random steps have the covariance F Fᵀ. Forces are compared by their components Fᵀ f: with F Fᵀ the covariance of
    what is sampled, all directions count alike.
    """

    factor: Float[Array, "parameter parameter"]
    point_ndim = 0

    def project(self, position, vector):
        return vector @ self.factor

    def move(self, position, momentum, time):
        return position + time * (self.factor @ momentum), momentum

    def perturb(self, key, position, step_size):
        return position + step_size * (self.factor @ jax.random.normal(key, position.shape, position.dtype))

    def random(self, key, shape):
        return jax.random.normal(key, shape, jnp.float64)

    def draw_momentum(self, key, position):
        return jax.random.normal(key, position.shape, position.dtype)

    def dimension(self, position):
        return position.size

    def distance(self, position):
        return abs(0 * position).max(initial=0.0)


def factor_of(
    draws: np.ndarray, known: np.ndarray | None = None, share: float = 1.0
) -> Float[Array, "parameter parameter"]:
    """The Cholesky factor of the covariance of some draws, (draw, parameter), blended by ``share`` into a known one.

    Few draws are held near a small multiple of the identity, as Stan does.
    """
    n_draws, dimension = draws.shape
    covariance = np.cov(draws, rowvar=False, bias=True).reshape(dimension, dimension)
    covariance = (n_draws * covariance + 5e-3 * np.eye(dimension)) / (n_draws + 5)
    if known is not None:
        covariance = share * covariance + (1 - share) * known @ known.T
    return jnp.asarray(np.linalg.cholesky(covariance))
