"""Parameters that several spin models have, checked: the temperature, couplings by neighbour shell."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.lattice import Shape, resolve_n_shells


def check_temperature(temperature: float) -> float:
    """The temperature as a float; raises ``ValueError`` unless it is positive."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}.")
    return float(temperature)


def couplings_by_shell(
    shape: Shape, n_shells: int | None, couplings: Sequence[float] | Float[Array, " shell"] | None
) -> Float[Array, " shell"]:
    """J_1, J_2, … as given, or zeros for ``n_shells`` shells (``None``: all of the torus).

    Raises ``ValueError`` for more couplings or shells than the torus has, and if both are given and do not agree.
    """
    if couplings is None:
        return jnp.zeros(resolve_n_shells(shape, n_shells), jnp.float64)
    if n_shells is not None and n_shells != len(couplings):
        raise ValueError(f"n_shells is {n_shells} but {len(couplings)} couplings are given; leave n_shells out.")
    resolve_n_shells(shape, len(couplings), "the number of couplings")
    return jnp.asarray(couplings, jnp.float64)
