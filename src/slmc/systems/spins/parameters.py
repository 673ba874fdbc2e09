"""Parameters that several spin models have, checked: the temperature, couplings by neighbour shell."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.lattice import Shape, resolve_n_shells
from slmc.numbers import finite, positive


def check_temperature(temperature: float) -> float:
    """The temperature as a float; raises ``ValueError`` unless it is positive and finite."""
    return float(positive(temperature, "temperature"))


def couplings_by_shell(
    shape: Shape, n_shells: int | None, couplings: Sequence[float] | Float[Array, " shell"] | None
) -> Float[Array, " shell"]:
    """J_1, J_2, … as given, or zeros for ``n_shells`` shells (``None``: all of the torus).

    Raises ``ValueError`` for more couplings or shells than the torus has, for couplings that are not finite, and if
    both are given and do not agree.
    """
    if couplings is None:
        return jnp.zeros(resolve_n_shells(shape, n_shells), jnp.float64)
    if n_shells is not None and n_shells != len(couplings):
        raise ValueError(f"n_shells is {n_shells} but {len(couplings)} couplings are given; leave n_shells out.")
    resolve_n_shells(shape, len(couplings), "the number of couplings")
    return jnp.asarray(finite(couplings, "couplings"), jnp.float64)
