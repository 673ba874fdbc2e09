"""Dynamical fermions with their exact determinant: the target of small lattices, and the oracle of everything else."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from slmc.montecarlo.special_unitary import as_matrices
from slmc.montecarlo.target import LogWeight, MeasuredTarget, Target
from slmc.numbers import positive
from slmc.systems.gauge.even_odd import real_part_of_product
from slmc.systems.gauge.fermion_operator import FermionOperator, check_denominator, shifted_square
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.smearing import Smearing


class FermionDeterminant(MeasuredTarget):
    """Gauge field and fermions, the latter integrated out exactly.

        log W = −S_g[U] + (n_flavours / n_tastes) log det A[U],

    A that of the operator (``FermionOperator``): for staggered fermions n_tastes = 4 and det A = det M, for Wilson
    fermions n_tastes = 2 and det A = det M†M. Flavours are counted as in four dimensions on all lattices: staggered
    fermions in two have half as many tastes. An odd number of Wilson flavours takes |det M|, not its sign. With
    ``smearing`` the fermions see smeared links. The cost is that of a Cholesky factor, O(V³): for small lattices.
    With ``denominator``, another operator of the same kind, det A is divided by its determinant: the Pauli–Villars
    fields of domain walls, ``operator.with_mass(1.0)``. Observable: ``"trace_inverse"``, tr A⁻¹, from which the
    condensate of staggered fermions follows (``staggered_condensate``). Raises ``ValueError`` unless the number of
    flavours is positive.

    Target of self-learning Monte Carlo in arXiv:2010.11900, eq. (2).
    """

    gauge: Target
    operator: FermionOperator
    n_flavours: Float[Array, ""] = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float64))
    smearing: Smearing | None = None
    denominator: FermionOperator | None = None

    def __check_init__(self) -> None:
        positive(self.n_flavours, "n_flavours")
        check_denominator(self.operator, self.denominator)

    def log_weight(self, links: Links) -> LogWeight:
        """log W of a gauge field."""
        value = log_det(*self._dense_factor(links, self.operator))
        return self.gauge.log_weight(links) + self._power * (value - self._log_det_below(links))

    def log_weight_and_observables(self, links: Links) -> tuple[LogWeight, dict[str, Array]]:
        """log W and tr A⁻¹."""
        lower = jnp.linalg.cholesky(shifted_square(*self._dense_factor(links, self.operator)))
        log_det_ratio = _log_det_of(lower) - self._log_det_below(links)
        log_weight = self.gauge.log_weight(links) + self._power * log_det_ratio
        return log_weight, {"trace_inverse": _trace_of_inverse(lower)}

    @property
    def _power(self) -> Float[Array, ""]:
        return self.n_flavours / self.operator.n_tastes

    def _log_det_below(self, links: Links) -> Float[Array, ""]:
        """log det A of the denominator."""
        if self.denominator is None:
            return jnp.zeros(())
        return log_det(*self._dense_factor(links, self.denominator))

    def _dense_factor(
        self, links: Links, operator: FermionOperator
    ) -> tuple[Float[Array, ""], Complex[Array, "state other"]]:
        seen = links if self.smearing is None else self.smearing.smeared(links)
        return operator.dense_factor(operator.prepare(as_matrices(seen)))


@jax.custom_jvp
def log_det(shift: Float[Array, ""], matrix: Complex[Array, "state other"]) -> Float[Array, ""]:
    """log det A of A = s + X X†; d log det A = ds tr A⁻¹ + 2 Re tr X†A⁻¹dX. Not a number where A is not positive."""
    return _log_det_of(jnp.linalg.cholesky(shifted_square(shift, matrix)))


@log_det.defjvp
def _log_det_jvp(primals, tangents):
    (shift, matrix), (shift_tangent, tangent) = primals, tangents
    lower = jnp.linalg.cholesky(shifted_square(shift, matrix))
    gradient = 2 * jax.scipy.linalg.cho_solve((lower, True), matrix)
    change = real_part_of_product(gradient, tangent) + _trace_of_inverse(lower) * shift_tangent.astype(lower.real.dtype)
    return _log_det_of(lower), change


def _log_det_of(lower: Complex[Array, "state state"]) -> Float[Array, ""]:
    """log det A of the Cholesky factor of A."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(lower).real))


def _trace_of_inverse(lower: Complex[Array, "state state"]) -> Float[Array, ""]:
    """tr A⁻¹ of the Cholesky factor of A."""
    inverse = jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(lower), dtype=lower.dtype), lower=True)
    return real_part_of_product(inverse, inverse)
