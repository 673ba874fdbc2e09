"""Classical Heisenberg spins coupled to electrons: the double-exchange (Kondo lattice) model.

    H = −t Σ_⟨ij⟩α (c†_iα c_jα + h.c.) + (J/2) Σ_i S_i·σ_i,      W(S) = Π_n (1 + exp(−β(E_n(S) − μ)))

over the 2N one-body levels E_n, with |S_i| = 1 and k_B = 1. Basis of the one-body space: site-major, spin
up before spin down.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy.optimize import brentq

from slmc.lattice import Shape, check_shape, n_sites, resolve_n_shells, shell_sum_matrices
from slmc.montecarlo.target import LogWeight, MeasuredTarget
from slmc.numbers import finite, positive
from slmc.systems.spins.hermitian import eigenvalues
from slmc.systems.spins.observables import Spins

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


class DoubleExchange(MeasuredTarget):
    """The double-exchange model at one temperature: target with log W = Σ_n log(1 + exp(−β(E_n − μ))).

    Energies are in the units of ``hopping``. ``hopping`` is t, or one value per neighbour shell (t_1, t_2, …);
    shells and their multiplicity are those of ``slmc.lattice.shells``. ``coupling`` is J, ``temperature`` is
    1/β. The weight comes from a full diagonalisation, O(N³); its gradient is the exact force

        ∂ log W/∂S_iμ = −β (J/2) Σ_n f(E_n) ψ_n†(i) σ_μ ψ_n(i)

    (Hellmann–Feynman; f the Fermi function), finite at degeneracies too. log W is invariant under global
    rotations and reflections of the spins and under the symmetries of the torus.

    Raises ``ValueError`` for a shape, temperature or number of hoppings that is not allowed, and for parameters that
    are not finite.
    """

    shape: Shape = eqx.field(static=True)
    hopping: Float[Array, " shell"]
    coupling: Float[Array, ""]
    chemical_potential: Float[Array, ""]
    temperature: Float[Array, ""]

    def __init__(
        self,
        shape: Shape = (6, 6),
        hopping: float | Sequence[float] = 1.0,
        coupling: float = 1.0,
        chemical_potential: float = 0.0,
        temperature: float = 0.05,
    ) -> None:
        self.shape = check_shape(shape)
        self.hopping = jnp.atleast_1d(jnp.asarray(finite(hopping, "hopping"), jnp.float64))
        self.coupling = jnp.asarray(finite(coupling, "coupling"), jnp.float64)
        self.chemical_potential = jnp.asarray(finite(chemical_potential, "chemical_potential"), jnp.float64)
        self.temperature = jnp.asarray(positive(temperature, "temperature"), jnp.float64)
        if not len(self.hopping):
            raise ValueError("hopping must list at least one value, that of nearest neighbours; got none.")
        resolve_n_shells(self.shape, len(self.hopping), "the number of hoppings")

    @property
    def n_sites(self) -> int:
        return n_sites(self.shape)

    def hopping_matrix(self) -> Float[Array, "site site"]:
        """−Σ_n t_n A_n, the one-body hopping of either spin."""
        matrices = jnp.asarray(shell_sum_matrices(self.shape, len(self.hopping)))
        return -jnp.einsum("n,nij->ij", self.hopping, matrices)

    def hamiltonian(self, spins: Spins) -> Complex[Array, "level level"]:
        """The one-body Hamiltonian, 2N × 2N, without the chemical potential."""
        return _hamiltonian(self.coupling / 2 * spins.reshape(-1, 3), self.hopping_matrix())

    def log_weight(self, spins: Spins) -> LogWeight:
        """Σ_n log(1 + exp(−β(E_n − μ)))."""
        fields = self.coupling / 2 * spins.reshape(-1, 3)
        return _log_weight(fields, self.hopping_matrix(), 1 / self.temperature, self.chemical_potential)

    def log_weight_and_observables(self, spins: Spins) -> tuple[LogWeight, dict[str, Array]]:
        """log W and, from the same spectrum, the electronic observables of this configuration of spins:

        - ``energy``: Σ_n E_n f_n / N, in units of the hopping per site
        - ``density``: Σ_n f_n / N, electrons per site, between 0 and 2
        - ``grand_energy``: k = Σ_n (E_n − μ) f_n, of the whole lattice, and ``energy_variance``: its quantum
          variance Σ_n (E_n − μ)² f_n (1 − f_n); they give the specific heat at constant μ.
        """
        levels = eigenvalues(self.hamiltonian(spins))
        excess = levels - self.chemical_potential
        occupation = jax.nn.sigmoid(-excess / self.temperature)
        log_weight = jnp.sum(jax.nn.softplus(-excess / self.temperature))
        return log_weight, {
            "energy": jnp.sum(levels * occupation) / self.n_sites,
            "density": jnp.sum(occupation) / self.n_sites,
            "grand_energy": jnp.sum(excess * occupation),
            "energy_variance": jnp.sum(excess**2 * occupation * (1 - occupation)),
        }

    def at_filling(self, filling: float, spins: Float[Array, "chain ..."]) -> "DoubleExchange":
        """The target with the chemical potential at which the mean density over given configurations is ``filling``.

        The mean depends on the configurations: alternate with sampling until μ settles, then keep it fixed (a
        weight that changes while samples count is not a weight). Raises ``ValueError`` unless 0 < filling < 2.
        """
        if not 0 < filling < 2:
            raise ValueError(f"filling must lie between 0 and 2 electrons per site; got {filling}.")
        levels = np.asarray(_levels(self, spins))
        reach = 50 * float(self.temperature)

        def excess(mu: float) -> float:
            argument = np.clip((levels - mu) / float(self.temperature), -700, 700)
            return float(np.mean(2 / (1 + np.exp(argument)))) - filling

        mu = brentq(excess, levels.min() - reach, levels.max() + reach, xtol=1e-12)
        return eqx.tree_at(lambda target: target.chemical_potential, self, jnp.asarray(mu))


@eqx.filter_jit
def _levels(target: DoubleExchange, spins: Float[Array, "chain ..."]) -> Float[Array, "chain level"]:
    return jax.lax.map(lambda one: eigenvalues(target.hamiltonian(one)), spins)


def _hamiltonian(fields: Float[Array, "site 3"], hopping: Float[Array, "site site"]) -> Complex[Array, "n n"]:
    sites = fields.shape[0]
    exchange = jnp.einsum("ic,cab->iab", fields.astype(jnp.complex128), jnp.asarray(PAULI))
    diagonal = jnp.eye(sites, dtype=jnp.complex128)[:, None, :, None] * exchange[:, :, None, :]
    kinetic = hopping[:, None, :, None] * jnp.eye(2)[None, :, None, :]
    return (kinetic.astype(jnp.complex128) + diagonal).reshape(2 * sites, 2 * sites)


@jax.custom_jvp
def _log_weight(
    fields: Float[Array, "site 3"], hopping: Float[Array, "site site"], beta: Float[Array, ""], mu: Float[Array, ""]
) -> LogWeight:
    return jnp.sum(jax.nn.softplus(-beta * (eigenvalues(_hamiltonian(fields, hopping)) - mu)))


def _log_weight_jvp(primals, tangents):
    """Hellmann–Feynman: dE_n = ⟨n|dH|n⟩ summed with the weights f_n never divides by level spacings."""
    fields, hopping, beta, mu = primals
    d_fields, d_hopping, d_beta, d_mu = tangents
    sites = fields.shape[0]
    levels, vectors = jnp.linalg.eigh(_hamiltonian(fields, hopping), symmetrize_input=False)
    excess = levels - mu
    occupation = jax.nn.sigmoid(-beta * excess)
    change = jnp.zeros(())
    psi = vectors.reshape(sites, 2, 2 * sites)
    occupied = psi * occupation.astype(jnp.complex128)[None, None, :]
    if _is_nonzero(d_fields):
        on_site = jnp.einsum("ian,ibn->iab", psi.conj(), occupied)
        spin_density = jnp.einsum("iab,cab->ic", on_site, jnp.asarray(PAULI)).real
        change = change - beta * jnp.sum(spin_density * d_fields)
    if _is_nonzero(d_hopping):
        bond_density = jnp.einsum("ian,jan->ij", psi.conj(), occupied).real
        change = change - beta * jnp.sum(bond_density * d_hopping)
    if _is_nonzero(d_beta):
        change = change - jnp.sum(occupation * excess) * d_beta
    if _is_nonzero(d_mu):
        change = change + beta * jnp.sum(occupation) * d_mu
    return jnp.sum(jax.nn.softplus(-beta * excess)), change


def _is_nonzero(tangent) -> bool:
    return not isinstance(tangent, jax.custom_derivatives.SymbolicZero)


_log_weight.defjvp(_log_weight_jvp, symbolic_zeros=True)
