"""Classical Heisenberg spins coupled to electrons: the double-exchange (Kondo lattice) model.

    H = −t Σ_⟨ij⟩α (c†_iα c_jα + h.c.) + (J/2) Σ_i S_i·σ_i,      W(S) = Π_n (1 + exp(−β(E_n(S) − μ)))

over the 2N one-body levels E_n, with |S_i| = 1 and k_B = 1. Basis of the one-body space: site-major, spin
up before spin down.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slmc.lattice import Shape, check_shape, n_sites, resolve_n_shells, shell_sum_matrices
from slmc.montecarlo.target import LogWeight, MeasuredTarget
from slmc.numbers import finite, positive
from slmc.systems.spins import pole_weight
from slmc.systems.spins.hermitian import eigenvalues
from slmc.systems.spins.observables import Spins
from slmc.systems.spins.pole_weight import Electrons
from slmc.systems.spins.poles import pole_table

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])

ExactWeight = Literal["poles", "diagonalisation"]


class DoubleExchange(MeasuredTarget):
    """The double-exchange model at one temperature: target with log W = Σ_n log(1 + exp(−β(E_n − μ))).

    Energies are in the units of ``hopping``. ``hopping`` is t, or one value per neighbour shell (t_1, t_2, …);
    shells and their multiplicity are those of ``slmc.lattice.shells``. ``coupling`` is J, ``temperature`` is
    1/β. The gradient is the exact force

        ∂ log W/∂S_iμ = −β (J/2) Σ_n f(E_n) ψ_n†(i) σ_μ ψ_n(i)

    (Hellmann–Feynman; f the Fermi function), finite at degeneracies too. log W is invariant under global
    rotations and reflections of the spins and under the symmetries of the torus.

    ``weight`` says how log W is computed on a CPU: by a ``"diagonalisation"``, O(N³), or by sparse factorisations at a
    few ``"poles"``, many times faster (``pole_weight``) and off by at most ``error_bound``; ``"auto"`` takes poles
    wherever they are cheaper and parameters have values (inside a compiled program they have not). On other devices and
    for derivatives by the parameters it is always a diagonalisation.
    Electronic observables, which a diagonalisation gives for nothing, cost as much again as log W by poles: without
    ``observables`` poles leave them out. Poles serve spins no longer than 1.05 and temperatures not far below 0.001;
    beyond, log W is not a number.

    Raises ``ValueError`` for a shape, temperature, weight or number of hoppings that is not allowed, and for parameters
    that are not finite.
    """

    shape: Shape = eqx.field(static=True)
    hopping: Float[Array, " shell"]
    coupling: Float[Array, ""]
    chemical_potential: Float[Array, ""]
    temperature: Float[Array, ""]
    weight: ExactWeight = eqx.field(static=True)
    observables: bool = eqx.field(static=True)

    def __init__(
        self,
        shape: Shape = (6, 6),
        hopping: float | Sequence[float] = 1.0,
        coupling: float = 1.0,
        chemical_potential: float = 0.0,
        temperature: float = 0.05,
        weight: str = "auto",
        observables: bool = True,
    ) -> None:
        self.shape = check_shape(shape)
        self.hopping = jnp.atleast_1d(jnp.asarray(finite(hopping, "hopping"), jnp.float64))
        self.coupling = jnp.asarray(finite(coupling, "coupling"), jnp.float64)
        self.chemical_potential = jnp.asarray(finite(chemical_potential, "chemical_potential"), jnp.float64)
        self.temperature = jnp.asarray(positive(temperature, "temperature"), jnp.float64)
        if not len(self.hopping):
            raise ValueError("hopping must list at least one value, that of nearest neighbours; got none.")
        resolve_n_shells(self.shape, len(self.hopping), "the number of hoppings")
        self.weight = self._resolved(weight)
        self.observables = observables

    def _resolved(self, weight: str) -> ExactWeight:
        """``weight`` with "auto" decided; raises ``ValueError`` if it is unknown or needs poles beyond their reach."""
        if weight not in ("auto", "poles", "diagonalisation"):
            raise ValueError(f'weight must be "auto", "poles" or "diagonalisation"; got {weight!r}.')
        if weight == "diagonalisation" or (weight == "auto" and self._is_traced()):
            return "diagonalisation"
        reach, limit = self._reach(), pole_table().reach[-1]
        if weight == "poles" and not reach <= limit:
            raise ValueError(
                f'weight = "poles" serves levels up to |E − μ| = {limit:g} T, and here they may reach {reach:.4g} T; '
                'raise the temperature or use "diagonalisation".'
            )
        real = float(self.chemical_potential) == 0
        cheaper = pole_weight.is_cheaper(self.shape, len(self.hopping), real)
        return "poles" if weight == "poles" or (reach <= limit and cheaper) else "diagonalisation"

    def _is_traced(self) -> bool:
        """Whether parameters have no values yet, inside a compiled program: the reach of poles is not known then."""
        return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((self.hopping, self.temperature)))

    def _reach(self) -> float:
        numbers = (float(value) for value in (self.coupling, self.chemical_potential, self.temperature))
        return pole_weight.reach(self.shape, np.asarray(self.hopping), *numbers)

    @property
    def error_bound(self) -> float:
        """What log W can be off by, rounding apart: 0 for a diagonalisation."""
        if self.weight == "diagonalisation":
            return 0.0
        return float(2 * self.n_sites * pole_table().error[pole_table().row(self._reach())])

    @property
    def n_sites(self) -> int:
        return n_sites(self.shape)

    def hopping_matrix(self) -> Float[Array, "site site"]:
        """−Σ_n t_n A_n, the one-body hopping of either spin."""
        return _hopping_matrix(self.shape, self.hopping)

    def hamiltonian(self, spins: Spins) -> Complex[Array, "level level"]:
        """The one-body Hamiltonian, 2N × 2N, without the chemical potential."""
        return _hamiltonian(self.coupling / 2 * spins.reshape(-1, 3), self.hopping_matrix())

    def log_weight(self, spins: Spins) -> LogWeight:
        """Σ_n log(1 + exp(−β(E_n − μ)))."""
        if self.weight == "poles":
            return _log_weight_by_poles(self.shape, *self._electrons(spins))
        return _log_weight(*_diagonalised(self.shape, self._electrons(spins)))

    def log_weight_and_observables(self, spins: Spins) -> tuple[LogWeight, dict[str, Array]]:
        """log W and, from the same spectrum or determinants, the electronic observables of this configuration of spins:

        - ``energy``: Σ_n E_n f_n / N, in units of the hopping per site
        - ``density``: Σ_n f_n / N, electrons per site, between 0 and 2
        - ``grand_energy``: k = Σ_n (E_n − μ) f_n, of the whole lattice, and ``energy_variance``: its quantum
          variance Σ_n (E_n − μ)² f_n (1 − f_n); they give the specific heat at constant μ.
        """
        if self.weight == "poles" and not self.observables:
            return self.log_weight(spins), {}
        electrons = self._electrons(spins)
        if self.weight == "diagonalisation":
            return _observables_of_levels(self.shape, electrons)
        return jax.lax.platform_dependent(
            electrons,
            cpu=partial(pole_weight.log_weight_and_observables, self.shape),
            default=partial(_observables_of_levels, self.shape),
        )

    def _electrons(self, spins: Spins) -> Electrons:
        half_coupling = jax.lax.stop_gradient(jnp.abs(self.coupling) / 2)
        fields = self.coupling / 2 * spins.reshape(-1, 3)
        return Electrons(fields, self.hopping, half_coupling, self.temperature, self.chemical_potential)

    def at_filling(self, filling: float, spins: Float[Array, "chain ..."]) -> "DoubleExchange":
        """The target with the chemical potential at which the mean density over given configurations is ``filling``.

        The mean depends on the configurations: alternate with sampling until μ settles, then keep it fixed (a
        weight that changes while samples count is not a weight). Raises ``ValueError`` unless 0 < filling < 2.
        """
        from scipy.optimize import brentq  # slow to import

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
    return jax.lax.map(lambda of_chain: eigenvalues(target.hamiltonian(of_chain)), spins)


def _hopping_matrix(shape: Shape, hopping: Float[Array, " shell"]) -> Float[Array, "site site"]:
    return -jnp.einsum("n,nij->ij", hopping, jnp.asarray(shell_sum_matrices(shape, len(hopping))))


def _diagonalised(shape: Shape, electrons: Electrons) -> tuple[Array, Array, Array, Array]:
    """The arguments of ``_log_weight``."""
    hopping = _hopping_matrix(shape, electrons.hopping)
    return electrons.fields, hopping, 1 / electrons.temperature, electrons.chemical_potential


def _observables_of_levels(shape: Shape, electrons: Electrons) -> tuple[LogWeight, dict[str, Array]]:
    levels = eigenvalues(_hamiltonian(electrons.fields, _hopping_matrix(shape, electrons.hopping)))
    excess, sites = levels - electrons.chemical_potential, n_sites(shape)
    occupation = jax.nn.sigmoid(-excess / electrons.temperature)
    return jnp.sum(jax.nn.softplus(-excess / electrons.temperature)), {
        "energy": jnp.sum(levels * occupation) / sites,
        "density": jnp.sum(occupation) / sites,
        "grand_energy": jnp.sum(excess * occupation),
        "energy_variance": jnp.sum(excess**2 * occupation * (1 - occupation)),
    }


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


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_weight_by_poles(shape: Shape, *electrons: Array) -> LogWeight:
    return jax.lax.platform_dependent(
        Electrons(*electrons),
        cpu=partial(pole_weight.log_weight, shape),
        default=lambda electrons: _log_weight(*_diagonalised(shape, electrons)),
    )


def _log_weight_by_poles_jvp(shape, primals, tangents):
    """The force comes from the same factors as log W."""
    electrons = Electrons(*primals)
    d_fields, d_hopping, _, d_temperature, d_mu = tangents
    log_weight, change = _log_weight_by_poles(shape, *electrons), jnp.zeros(())
    if _is_nonzero(d_fields):
        log_weight, force = jax.lax.platform_dependent(
            electrons, cpu=partial(pole_weight.log_weight_and_force, shape), default=partial(_with_force, shape)
        )
        change = change + jnp.sum(force * d_fields)
    others = {"hopping": d_hopping, "temperature": d_temperature, "chemical_potential": d_mu}
    others = {name: tangent for name, tangent in others.items() if _is_nonzero(tangent)}
    if others:
        change = change + _change_by_parameters(shape, electrons, others)
    return log_weight, change


def _with_force(shape: Shape, electrons: Electrons) -> tuple[LogWeight, Array]:
    def of_fields(fields: Array) -> LogWeight:
        return _log_weight(*_diagonalised(shape, electrons._replace(fields=fields)))

    return jax.value_and_grad(of_fields)(electrons.fields)


def _change_by_parameters(shape: Shape, electrons: Electrons, tangents: dict[str, Array]) -> Array:
    """Of log W, by a diagonalisation: rarely wanted, and poles have no density on bonds."""

    def of_parameters(parameters: dict[str, Array]) -> LogWeight:
        return _log_weight(*_diagonalised(shape, electrons._replace(**parameters)))

    parameters = {name: getattr(electrons, name) for name in tangents}
    return jax.jvp(of_parameters, (parameters,), (tangents,))[1]


_log_weight_by_poles.defjvp(_log_weight_by_poles_jvp, symbolic_zeros=True)
