"""Conjugate gradients: one right-hand side, one or many shifts; the residual is checked."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int

from slmc.numbers import positive, positive_count
from slmc.systems.gauge.even_odd import real_part_of_product
from slmc.systems.gauge.fermion_operator import FermionField

Operator = Callable[[FermionField], FermionField]


class Solver(eqx.Module):
    """When conjugate gradients stop: at a relative residual |b − A x|/|b|, or with an error after too many iterations.

    After the last iteration the residual is computed anew, and must be no larger than 10 times ``tolerance``; the
    recursion that stops the iteration drifts away from it. A larger one raises ``RuntimeError`` (through
    ``equinox.error_if``) with what to do, in whatever program it happens; ``slmc run`` tells its sentence and stops. A
    residual that is not a number, of links that are none, is no error: the weight of such links is none either, and
    decisions reject it. Raises ``ValueError`` unless both numbers are positive.
    """

    tolerance: float = eqx.field(static=True, default=1e-10)
    max_iterations: int = eqx.field(static=True, default=2000)

    def __check_init__(self) -> None:
        positive(self.tolerance, "tolerance")
        positive_count(self.max_iterations, "max_iterations")


STANDARD_SOLVER = Solver()


class Solution(NamedTuple):
    """x, the number of iterations, and the true relative residual (of each shift)."""

    x: FermionField
    n_iterations: Int[Array, ""]
    residual: Float[Array, "*shift"]


def conjugate_gradient(apply: Operator, b: FermionField, solver: Solver = STANDARD_SOLVER) -> Solution:
    """A x = b for Hermitian positive A, started from x = 0, as the reversibility of a trajectory demands.

    Hestenes, Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952).
    """
    squared = real_part_of_product(b, b)
    wanted = solver.tolerance**2 * squared

    def unfinished(carry) -> Array:
        return (carry[3] > wanted) & (carry[4] < solver.max_iterations)

    def iterate(carry):
        x, r, p, r_squared, n = carry
        ap = apply(p)
        alpha = r_squared / real_part_of_product(p, ap)
        x, r = x + _complex(alpha) * p, r - _complex(alpha) * ap
        new = real_part_of_product(r, r)
        return x, r, r + _complex(new / r_squared) * p, new, n + 1

    start = jnp.zeros_like(b), b, b, squared, jnp.asarray(0)
    x, _, _, _, n_iterations = jax.lax.while_loop(unfinished, iterate, start)
    residual = _relative(b - apply(x), squared)
    return Solution(_checked(x, residual, solver), n_iterations, residual)


def multi_shift(
    apply: Operator, b: FermionField, shifts: Float[Array, " shift"], solver: Solver = STANDARD_SOLVER
) -> Solution:
    """(A + σ_k) x_k = b for all shifts σ_k ≥ 0, in the iterations that the smallest takes.

    Jegerlehner, hep-lat/9612014; x has a leading axis of shifts. The iteration runs on the smallest shift, whose
    residual is the largest.
    """
    least = jnp.min(shifts)
    offsets = shifts - least
    squared = real_part_of_product(b, b)
    wanted = solver.tolerance**2 * squared

    def unfinished(carry) -> Array:
        return (carry.r_squared > wanted) & (carry.n < solver.max_iterations)

    def iterate(carry: _Shifted) -> _Shifted:
        ap = apply(carry.p) + _complex(least) * carry.p
        alpha = carry.r_squared / real_part_of_product(carry.p, ap)
        # ζ_{n+1} by the three-term recursion of shifted residuals, r_k = ζ_k r.
        ratio = alpha * carry.beta / carry.alpha
        zeta = (
            carry.zeta
            * carry.zeta_old
            / (ratio * (carry.zeta_old - carry.zeta) + carry.zeta_old * (1 + alpha * offsets))
        )
        # A shift solved long ago, whose ζ would underflow, is left alone.
        solved = jnp.abs(zeta) < 1e-80
        zeta = jnp.where(solved, carry.zeta, zeta)
        alphas = jnp.where(solved, 0.0, alpha * zeta / carry.zeta)
        xs = carry.xs + _over_shifts(alphas, b) * carry.ps
        r = carry.r - _complex(alpha) * ap
        new = real_part_of_product(r, r)
        beta = new / carry.r_squared
        ps = _over_shifts(zeta, b) * r[None] + _over_shifts(beta * (zeta / carry.zeta) ** 2, b) * carry.ps
        return _Shifted(xs, ps, r, r + _complex(beta) * carry.p, new, zeta, carry.zeta, alpha, beta, carry.n + 1)

    many = jnp.broadcast_to(b[None], (len(shifts), *b.shape))
    ones, one = jnp.ones_like(shifts), jnp.ones_like(least)
    start = _Shifted(jnp.zeros_like(many), many, b, b, squared, ones, ones, one, 0 * one, jnp.asarray(0))
    end = jax.lax.while_loop(unfinished, iterate, start)
    residuals = jax.vmap(lambda x, sigma: _relative(b - apply(x) - _complex(sigma) * x, squared))(end.xs, shifts)
    return Solution(_checked(end.xs, residuals, solver), end.n, residuals)


class _Shifted(NamedTuple):
    xs: Complex[Array, "shift *field"]
    ps: Complex[Array, "shift *field"]
    r: Complex[Array, "*field"]
    p: Complex[Array, "*field"]
    r_squared: Float[Array, ""]
    zeta: Float[Array, " shift"]
    zeta_old: Float[Array, " shift"]
    alpha: Float[Array, ""]
    beta: Float[Array, ""]
    n: Int[Array, ""]


def _checked(x: FermionField, residual: Float[Array, "*shift"], solver: Solver) -> FermionField:
    # Not a number: the links are none, those of a trajectory whose step is far too long. x then is none either, and so
    # the weight, which every decision rejects; the chain goes on from where it was, as it does without fermions.
    return eqx.error_if(
        x,
        jnp.any(residual > 10 * solver.tolerance),
        f"conjugate gradients did not reach a relative residual of {solver.tolerance:g} in {solver.max_iterations} "
        "iterations; raise max_iterations, or take a larger tolerance or a larger mass (a smaller κ).",
    )


def _relative(residual: FermionField, squared: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.sqrt(real_part_of_product(residual, residual) / jnp.where(squared > 0, squared, 1.0))


def _over_shifts(values: Float[Array, " shift"], field: FermionField) -> Array:
    return _complex(values).reshape(-1, *(1,) * field.ndim)


def _complex(values: Array) -> Array:
    return jax.lax.complex(values, jnp.zeros_like(values))
