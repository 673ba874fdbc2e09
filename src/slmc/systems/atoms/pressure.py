"""Atoms at constant pressure: the volume of a cell of fixed shape fluctuates with them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.montecarlo import MeasuredTarget, Product, SiteManifold
from slmc.numbers import positive, positive_count
from slmc.systems.atoms.calculated import Coordinates
from slmc.systems.atoms.masses import Massive

GIGAPASCAL = 6.241509074460763e-3
"""In eV/Å³."""

SCALED, LOG_VOLUME = "scaled", "log_volume"
"""The parts of a configuration: positions s in Å as they are at the volume V_0, and λ = ln(V/V_0)."""

Breathing = dict[str, Array]


def positions_and_volume(configuration: Breathing, volume: float) -> tuple[Coordinates, Float[Array, ""]]:
    """r = e^{λ/3} s in Å and V = V_0 e^λ in Å³, V_0 = ``volume``."""
    log_volume = configuration[LOG_VOLUME]
    return jnp.exp(log_volume / 3) * configuration[SCALED], volume * jnp.exp(log_volume)


class ConstantPressure(MeasuredTarget):
    """The isothermal–isobaric ensemble of N atoms in a cell of fixed shape, in s and λ = ln(V/V_0):

        log W(s, λ) = −β [U(r, V) + P V] + n λ,   r = e^{λ/3} s,   V = V_0 e^λ

    with n = N + 1, of which N come from dr = (V/V_0)^N ds and one from dV = V dλ; with the centre of mass held, which
    takes three coordinates out, n = N. ``energy(positions, volume)`` is U in eV, ``beta`` in 1/eV, ``pressure`` P in
    GPa, ``volume`` V_0 in Å³. ``energy`` and ``volume`` come with the weight. Kobayashi, Nagai, Itakura, Shiga,
    J. Chem. Phys. 155, 034106 (2021). Raises ``ValueError`` for beta or volume that are not positive.
    """

    energy: Callable[[Coordinates, Float[Array, ""]], Float[Array, ""]]
    n_atoms: int = eqx.field(static=True)
    beta: float = eqx.field(static=True)
    pressure: float = eqx.field(static=True)
    volume: float = eqx.field(static=True)
    holds_centre: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        positive_count(self.n_atoms, "n_atoms")
        positive(self.beta, "beta")
        positive(self.volume, "volume")

    def log_weight(self, configuration: Breathing) -> Float[Array, ""]:
        return self.log_weight_and_observables(configuration)[0]

    def log_weight_and_observables(self, configuration: Breathing) -> tuple[Float[Array, ""], dict[str, Array]]:
        positions, volume = positions_and_volume(configuration, self.volume)
        energy = self.energy(positions, volume)
        n_powers = self.n_atoms + (0 if self.holds_centre else 1)
        work = self.pressure * GIGAPASCAL * volume
        log_weight = -self.beta * (energy + work) + n_powers * configuration[LOG_VOLUME]
        return log_weight, {"energy": energy, "volume": volume}


class LogVolume(SiteManifold):
    """λ = ln(V/V_0) with a momentum of unit variance: dλ/dt = rate · p, dp/dt = rate · ∂ log W/∂λ, ``rate`` in 1/fs.

    Averages don't depend on it. λ goes about as far as it spreads, 1/√N or less, while atoms cross theirs.
    """

    rate: Float[Array, ""]
    point_ndim = 0

    def project(self, position, vector):
        return vector

    def impulse(self, position, force):
        """How a force ∂ log W/∂λ changes the momentum in a femtosecond."""
        return self.rate * force

    def move(self, position, momentum, time):
        return position + time * self.rate * momentum, momentum

    def perturb(self, key, position, step_size):
        return position + step_size * jax.random.normal(key, position.shape, position.dtype)

    def random(self, key, shape):
        return jax.random.normal(key, shape, jnp.float64)

    def dimension(self, position):
        return position.size

    def distance(self, position):
        return abs(0 * position).max(initial=0.0)


def breathing(masses: Any, beta: float, rate: float, holds_centre: bool = False) -> Product:
    """Where atoms with masses move, and the volume of their cell with them; ``rate`` of ``LogVolume`` in 1/fs."""
    cell = LogVolume(jnp.asarray(positive(rate, "rate"), jnp.float64))
    return Product({SCALED: Massive(masses, beta, holds_centre), LOG_VOLUME: cell})
