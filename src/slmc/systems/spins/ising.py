"""Classical Ising spins: two-body models of any range and the plaquette model, targets and effective models alike."""

import abc
import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.lattice import Shape, check_shape, coordinates, neighbours, shells_of_origin, sites_at
from slmc.montecarlo.target import LogWeight, Target
from slmc.numbers import finite
from slmc.systems.spins.parameters import check_temperature, couplings_by_shell

IsingSpins = Float[Array, "*lattice"]
"""+1 or −1 at every site."""


class IsingTarget(Target):
    """A weight of Ising spins that is linear in each of them, as every function of ±1 can be written.

    To write your own: give it a field ``shape``, write ``log_weight`` without squares of a spin, and list in
    ``interacting`` the sites whose spins enter the local field of a site.
    """

    shape: eqx.AbstractVar[Shape]

    @abc.abstractmethod
    def interacting(self) -> np.ndarray:
        """Sites that interact with each site, shape (n_sites, any number)."""

    def local_fields(self, spins: IsingSpins) -> IsingSpins:
        """h_i = ∂ log W/∂s_i, so that flipping s_i changes log W by −2 s_i h_i."""
        return jax.grad(self.log_weight)(spins)


class Ising(IsingTarget):
    """H = −Σ_n J_n Σ_⟨ij⟩_n s_i s_j + E_0 at one temperature: log W = −H/T, on a torus of any dimension.

    ``couplings`` are J_1, J_2, … by neighbour shell (energy units), kept as J/T; each displacement vector of a shell
    counts as half a bond (see ``slmc.lattice.shells``). Linear in its parameters: fit it with
    ``slmc.selflearning.fit_linear`` on the manifold ``Signs``.

    Give ``couplings``, or ``n_shells`` to start from zero couplings. Raises ``ValueError`` for more shells than the
    torus has and for a temperature that is not positive.
    """

    shape: Shape = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    reduced_couplings: Float[Array, " shell"]
    reduced_constant: Float[Array, ""]

    def __init__(
        self,
        shape: Shape,
        n_shells: int | None = None,
        couplings: Sequence[float] | Float[Array, " shell"] | None = None,
        constant: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        self.shape, self.temperature = check_shape(shape), check_temperature(temperature)
        if couplings is None and n_shells is None:
            n_shells = 1
        self.reduced_couplings = couplings_by_shell(self.shape, n_shells, couplings) / self.temperature
        self.reduced_constant = jnp.asarray(finite(constant, "constant"), jnp.float64) / self.temperature

    @property
    def couplings(self) -> Float[Array, " shell"]:
        """J_1, J_2, …"""
        return self.reduced_couplings * self.temperature

    def log_weight(self, spins: IsingSpins) -> LogWeight:
        """−H/T of a configuration."""
        total = -self.reduced_constant
        for shell, bonds in _bonds_by_shell(self.shape, len(self.reduced_couplings)):
            for shift, weight in bonds:
                total = total + self.reduced_couplings[shell - 1] * weight * jnp.sum(spins * _shifted(spins, shift))
        return total

    def interacting(self) -> np.ndarray:
        return neighbours(self.shape, len(self.reduced_couplings))[0]

    def on_lattice(self, shape: Shape, temperature: float | None = None) -> "Ising":
        """The same couplings on another lattice, and the same H at another temperature.

        Raises ``ValueError`` if there are more couplings than the lattice has shells.
        """
        temperature = self.temperature if temperature is None else temperature
        constant = float(self.reduced_constant) * self.temperature
        return Ising(shape, None, self.couplings, constant * np.prod(shape) / np.prod(self.shape), temperature)


class PlaquetteIsing(IsingTarget):
    """H = −J Σ_⟨ij⟩ s_i s_j − K Σ_□ s_i s_j s_k s_l, over nearest neighbours and elementary squares: log W = −H/T.

    The first model of self-learning Monte Carlo (arXiv:1610.03137; on the square lattice K/J = 0.2 orders at
    T_c = 2.493 J). In d dimensions squares lie in all d (d−1)/2 planes. Raises ``ValueError`` for a temperature that
    is not positive.
    """

    shape: Shape = eqx.field(static=True)
    temperature: Float[Array, ""]
    coupling: Float[Array, ""]
    plaquette_coupling: Float[Array, ""]

    def __init__(
        self,
        shape: Shape,
        coupling: float = 1.0,
        plaquette_coupling: float = 0.2,
        temperature: float = 2.493,
    ) -> None:
        self.shape = check_shape(shape)
        self.temperature = jnp.asarray(check_temperature(temperature), jnp.float64)
        self.coupling = jnp.asarray(finite(coupling, "coupling"), jnp.float64)
        self.plaquette_coupling = jnp.asarray(finite(plaquette_coupling, "plaquette_coupling"), jnp.float64)

    def log_weight(self, spins: IsingSpins) -> LogWeight:
        """−H/T of a configuration."""
        axes = [axis for axis, extent in enumerate(self.shape) if extent > 1]
        along = {axis: spins * jnp.roll(spins, -1, axis) for axis in axes}
        pairs = sum((jnp.sum(products) for products in along.values()), jnp.zeros(()))
        squares = sum(
            (jnp.sum(along[a] * jnp.roll(along[a], -1, b)) for a, b in itertools.combinations(axes, 2)), jnp.zeros(())
        )
        return (self.coupling * pairs + self.plaquette_coupling * squares) / self.temperature

    def interacting(self) -> np.ndarray:
        steps = itertools.product((-1, 0, 1), repeat=len(self.shape))
        near = np.array([step for step in steps if 1 <= np.count_nonzero(step) <= 2]).reshape(-1, len(self.shape))
        return sites_at(self.shape, near)


def _bonds_by_shell(shape: Shape, n_shells: int) -> list[tuple[int, list[tuple[tuple[int, ...], float]]]]:
    """For each shell the displacements, one of each pair ±d, and the number of bonds a site has along it."""
    of_origin, sites = shells_of_origin(shape), coordinates(shape)
    result = []
    for shell in range(1, n_shells + 1):
        weights: dict[tuple[int, ...], float] = {}
        for site in np.flatnonzero(of_origin.shell == shell):
            there = tuple(int(x) for x in sites[site])
            back = tuple(int(x) for x in -sites[site] % np.array(shape))
            pair = min(there, back)
            weights[pair] = weights.get(pair, 0.0) + of_origin.multiplicity[site] / 2
        result.append((shell, list(weights.items())))
    return result


def _shifted(spins: IsingSpins, shift: tuple[int, ...]) -> IsingSpins:
    return jnp.roll(spins, [-step for step in shift], range(len(shift)))
