"""Dynamical fermions with their exact determinant: the target of small lattices, and the oracle of everything else."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from slmc.montecarlo.special_unitary import as_matrices
from slmc.montecarlo.target import LogWeight, MeasuredTarget, Target
from slmc.systems.gauge.fermion_operator import FermionOperator
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.smearing import StoutSmearing


class FermionDeterminant(MeasuredTarget):
    """Gauge field and fermions, the latter integrated out exactly.

        log W = −S_g[U] + (n_flavours / n_tastes) log det A[U],

    A that of the operator (``FermionOperator``): for staggered fermions n_tastes = 4 and det A = det M, for Wilson
    fermions n_tastes = 2 and det A = det M†M. Flavours are counted as in four dimensions on all lattices: staggered
    fermions in two have half as many tastes. An odd number of Wilson flavours takes |det M|, not its sign. With
    ``smearing`` the fermions see smeared links. The cost is that of a Cholesky factor, O(V³): for small lattices.
    Observable: ``"trace_inverse"``, tr A⁻¹, from which the condensate follows (``staggered_condensate``).

    Target of self-learning Monte Carlo in arXiv:2010.11900, eq. (2).
    """

    gauge: Target
    operator: FermionOperator
    n_flavours: Float[Array, ""] = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float64))
    smearing: StoutSmearing | None = None

    def log_weight(self, links: Links) -> LogWeight:
        """log W of a gauge field."""
        power = self.n_flavours / self.operator.n_tastes
        return self.gauge.log_weight(links) + power * log_det(self._matrix(links))

    def log_weight_and_observables(self, links: Links) -> tuple[LogWeight, dict[str, Array]]:
        """log W and tr A⁻¹."""
        matrix = self._matrix(links)
        factor = jnp.linalg.cholesky(matrix)
        inverse = jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True)
        power = self.n_flavours / self.operator.n_tastes
        log_weight = self.gauge.log_weight(links) + power * _log_det_of_factor(factor)
        return log_weight, {"trace_inverse": jnp.sum(inverse.real**2 + inverse.imag**2)}

    def _matrix(self, links: Links) -> Complex[Array, "state state"]:
        seen = links if self.smearing is None else self.smearing.smeared(links)
        return self.operator.dense(self.operator.prepare(as_matrices(seen)))


@jax.custom_jvp
def log_det(matrix: Complex[Array, "state state"]) -> Float[Array, ""]:
    """log det of a Hermitian positive matrix; d log det A = tr(A⁻¹ dA). Not a number where A is not positive."""
    return _log_det_of_factor(jnp.linalg.cholesky(matrix))


@log_det.defjvp
def _log_det_jvp(primals, tangents):
    (matrix,), (tangent,) = primals, tangents
    factor = jnp.linalg.cholesky(matrix)
    inverse = jax.scipy.linalg.cho_solve((factor, True), jnp.eye(len(factor), dtype=factor.dtype))
    change = jnp.sum(inverse.T.real * tangent.real - inverse.T.imag * tangent.imag)
    return _log_det_of_factor(factor), change


def _log_det_of_factor(factor: Complex[Array, "state state"]) -> Float[Array, ""]:
    return 2 * jnp.sum(jnp.log(jnp.diagonal(factor).real))
