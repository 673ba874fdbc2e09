"""The linear effective model: a classical Heisenberg model with any number of neighbour shells."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.lattice import Shape, Shells, check_shape, shells, shells_of_origin
from slmc.montecarlo.target import LogWeight, Target
from slmc.numbers import finite
from slmc.systems.spins.filters import DENSE_UP_TO, spectral_sum
from slmc.systems.spins.observables import Spins
from slmc.systems.spins.parameters import check_temperature, couplings_by_shell


class Heisenberg(Target):
    """H = −Σ_n J_n Σ_⟨ij⟩_n S_i·S_j + E_0 at one temperature: log W = −H/T.

    ``couplings`` are J_1, J_2, … (energy units, any number of shells up to all of the torus), ``constant`` is E_0;
    kept as the numbers J/T and E_0/T, which are what is learned. The temperature is not learned. Each displacement
    vector of a shell counts as half a bond, so that pairs reached by two displacements around the torus count twice
    (see ``slmc.lattice.shells``) and couplings keep their meaning on every lattice size. Linear in its parameters:
    fit it with ``slmc.selflearning.fit_linear``.

    Give ``couplings``, or ``n_shells`` (default: all shells) to start from zero couplings. Raises ``ValueError`` for
    more shells than the torus has, for a temperature that is not positive, and for parameters that are not finite.
    """

    shape: Shape = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    reduced_couplings: Float[Array, " shell"]
    reduced_constant: Float[Array, ""]

    def __init__(
        self,
        shape: Shape = (6, 6),
        n_shells: int | None = None,
        couplings: Sequence[float] | Float[Array, " shell"] | None = None,
        constant: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        self.shape, self.temperature = check_shape(shape), check_temperature(temperature)
        self.reduced_couplings = couplings_by_shell(self.shape, n_shells, couplings) / self.temperature
        self.reduced_constant = jnp.asarray(finite(constant, "constant"), jnp.float64) / self.temperature

    @property
    def couplings(self) -> Float[Array, " shell"]:
        return self.reduced_couplings * self.temperature

    @property
    def constant(self) -> Float[Array, ""]:
        return self.reduced_constant * self.temperature

    def log_weight(self, spins: Spins) -> LogWeight:
        """−H/T of a configuration."""
        flat = spins.reshape(-1, 3)
        if len(flat) <= DENSE_UP_TO:
            fields = filter_matrix(self.shape, self.reduced_couplings) @ flat
            return jnp.sum(flat * fields) / 2 - self.reduced_constant
        return (
            spectral_sum(self.shape, filter_row(self.shape, self.reduced_couplings), flat) / 2 - self.reduced_constant
        )

    def on_lattice(self, shape: Shape, temperature: float | None = None) -> "Heisenberg":
        """The same couplings by distance on another lattice (and at another temperature); unknown shells get zero."""
        couplings = carry_over(self.couplings, self.shape, shape)
        moved = Heisenberg(shape, None, couplings, 0.0, self.temperature if temperature is None else temperature)
        return eqx.tree_at(lambda model: model.reduced_constant, moved, self.constant / moved.temperature)


def filter_row(shape: Shape, weights: Float[Array, " shell"]) -> Float[Array, " site"]:
    """The first row of ``filter_matrix``, from which translations make all others."""
    return _by_shell(shells_of_origin(shape), weights, on_site=False)


def filter_matrix(
    shape: Shape, weights: Float[Array, "*kept shell"], on_site: bool = False
) -> Float[Array, "*kept site site"]:
    """The matrix W with (W x)_i = Σ_n w_n Σ_{j in shell n of i} x_j.

    Shells count from 1, or from 0 (the site itself) with ``on_site``. Leading axes of ``weights`` are kept.
    """
    return _by_shell(shells(shape), weights, on_site)


def _by_shell(pairs: Shells, weights: Float[Array, "*kept shell"], on_site: bool) -> Array:
    """The weight with which one site of each pair enters the sum of the other."""
    n_listed = weights.shape[-1]
    index = pairs.shell if on_site else pairs.shell - 1
    known = (index >= 0) & (index < n_listed)
    factor = jnp.asarray(np.where(known, pairs.multiplicity, 0), weights.dtype)
    if n_listed == 0:
        return jnp.zeros((*weights.shape[:-1], *index.shape), weights.dtype)
    return weights[..., np.where(known, index, 0)] * factor.reshape((1,) * (weights.ndim - 1) + factor.shape)


def carry_over(weights: Float[Array, "*kept shell"], old: Shape, new: Shape, on_site: bool = False) -> Array:
    """Weights by shell of one lattice as weights by shell of another, matched by distance; unknown shells get zero."""
    first = 0 if on_site else 1
    known = {d: k for k, d in enumerate(shells(old).squared_distances[first:][: weights.shape[-1]])}
    result = np.zeros((*weights.shape[:-1], len(shells(new).squared_distances) - first))
    reach = -1
    for k, distance in enumerate(shells(new).squared_distances[first:]):
        if distance in known:
            result[..., k] = np.asarray(weights)[..., known[distance]]
            reach = k
    return jnp.asarray(result[..., : reach + 1])
