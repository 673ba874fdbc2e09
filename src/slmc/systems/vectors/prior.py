"""What is known of parameters before: their distribution, and the coordinates in which they are sampled.

Every parameter x is a function of a coordinate z, and chains live in z. The prior of z is then a standard normal
distribution, or, for parameters about which nothing is assumed, flat in x.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

Vector = Float[Array, " parameter"]

Kind = Literal["normal", "uniform", "log-normal", "flat", "positive"]


class Parameter(NamedTuple):
    """One parameter: how it is made of its coordinate z.

    | kind | x | prior of x |
    |---|---|---|
    | ``"normal"`` | first + second·z | mean and standard deviation |
    | ``"uniform"`` | first + (second − first)·Φ(z) | constant between two bounds |
    | ``"log-normal"`` | exp(first + second·z) | mean and standard deviation of log x |
    | ``"flat"`` | first + second·z | none: about where it is, and how wide |
    | ``"positive"`` | second·exp(z) | none, but x > 0: about how large |
    """

    kind: Kind
    first: float
    second: float


def normal(mean: float = 0.0, deviation: float = 1.0) -> Parameter:
    """A parameter with a normal distribution."""
    return Parameter("normal", mean, _positive(deviation, "deviation"))


def uniform(lower: float, upper: float) -> Parameter:
    """A parameter between two bounds, all values alike; also for a weight without a prior on a bounded interval.

    Raises ``ValueError`` unless lower < upper.
    """
    if not lower < upper:
        raise ValueError(f"a uniform parameter needs lower < upper; got {lower} and {upper}.")
    return Parameter("uniform", lower, upper)


def log_normal(mean: float = 0.0, deviation: float = 1.0) -> Parameter:
    """A positive parameter whose logarithm has a normal distribution."""
    return Parameter("log-normal", mean, _positive(deviation, "deviation"))


def flat(centre: float = 0.0, width: float = 1.0) -> Parameter:
    """A parameter about which the weight says everything; ``centre`` and ``width`` only say where chains start."""
    return Parameter("flat", centre, _positive(width, "width"))


def positive(size: float = 1.0) -> Parameter:
    """A positive parameter about which the weight says everything; chains start at about ``size``."""
    return Parameter("positive", 0.0, _positive(size, "size"))


KINDS = {"normal": normal, "uniform": uniform, "log-normal": log_normal, "flat": flat, "positive": positive}
"""What makes a parameter, by its kind."""


class Prior(eqx.Module):
    """The parameters x(z) of a coordinate vector z, and the logarithm of the density of z that they have before.

    ``Prior.of({"k": uniform(0, 1), "c": log_normal()})`` has independent parameters with names, and
    ``Prior.gaussian(mean, covariance)`` correlated ones, x = mean + L z with L the Cholesky factor.
    """

    first: Vector
    second: Vector
    mixing: Float[Array, "parameter parameter"] | None
    kinds: tuple[str, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, parameters: Mapping[str, Parameter]) -> "Prior":
        """Independent parameters. Raises ``ValueError`` where there is none."""
        if not parameters:
            raise ValueError("a prior needs at least one parameter.")
        listed = list(parameters.values())
        first, second = (jnp.asarray([getattr(one, name) for one in listed], float) for name in ("first", "second"))
        return cls(first, second, None, tuple(one.kind for one in listed), tuple(parameters))

    @classmethod
    def standard(cls, dimension: int) -> "Prior":
        """``dimension`` independent standard normal parameters x0, x1, …"""
        return cls.of({f"x{number}": normal() for number in range(dimension)})

    @classmethod
    def gaussian(cls, mean: Any, covariance: Any, names: tuple[str, ...] | None = None) -> "Prior":
        """Normal parameters with a covariance. Raises ``ValueError`` unless that is positive definite."""
        mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
        if covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                f"a covariance of {len(mean)} parameters is a matrix {(len(mean),) * 2}; got one of shape "
                f"{covariance.shape}."
            )
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            raise ValueError("the covariance of a prior must be positive definite; this one is not.") from None
        names = names or tuple(f"x{number}" for number in range(len(mean)))
        ones = jnp.ones(len(mean))
        return cls(jnp.asarray(mean), ones, jnp.asarray(factor), ("normal",) * len(mean), names)

    @property
    def dimension(self) -> int:
        return len(self.names)

    def parameters(self, z: Vector) -> Vector:
        """x(z)."""
        if self.mixing is not None:
            return self.first + self.mixing @ z
        line = self.first + self.second * z
        made = {
            "normal": line,
            "flat": line,
            "uniform": self.first + (self.second - self.first) * ndtr(z),
            "log-normal": jnp.exp(line),
            "positive": self.second * jnp.exp(z),
        }
        x = line
        for kind in set(self.kinds) - {"normal", "flat"}:
            x = jnp.where(np.array([one == kind for one in self.kinds]), made[kind], x)
        return x

    def coordinates(self, x: Any) -> Vector:
        """z(x), the inverse of ``parameters``."""
        from scipy.special import ndtri

        first, second, x = np.asarray(self.first), np.asarray(self.second), np.asarray(x, float)
        if self.mixing is not None:
            return jnp.asarray(np.linalg.solve(np.asarray(self.mixing), x - first))
        inverse = {
            "normal": lambda i: (x[i] - first[i]) / second[i],
            "flat": lambda i: (x[i] - first[i]) / second[i],
            "uniform": lambda i: ndtri((x[i] - first[i]) / (second[i] - first[i])),
            "log-normal": lambda i: (np.log(x[i]) - first[i]) / second[i],
            "positive": lambda i: np.log(x[i] / second[i]),
        }
        return jnp.asarray([inverse[kind](number) for number, kind in enumerate(self.kinds)])

    def log_density(self, z: Vector) -> Float[Array, ""]:
        """The logarithm of what the prior, and dx where there is none, make of dz, up to a constant."""
        return log_density(self.kinds, z)


def has_density(kinds: tuple[str, ...]) -> np.ndarray:
    """1 for parameters with a prior, 0 for those about which nothing is assumed."""
    return np.array([kind not in ("flat", "positive") for kind in kinds], float)


def log_density(kinds: tuple[str, ...], z: Vector) -> Float[Array, ""]:
    """The logarithm of the density of z for parameters of these kinds, up to a constant."""
    are_positive = np.array([kind == "positive" for kind in kinds], float)
    return -jnp.sum(has_density(kinds) * z**2) / 2 + jnp.sum(are_positive * z)


def _positive(value: float, name: str) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be positive; got {value}.")
    return value
