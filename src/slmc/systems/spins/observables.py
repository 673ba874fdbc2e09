"""Observables of classical spins, each a function of one configuration ``(*shape, 3)``.

Averages over sites are averages over spins: sites without one (zero vectors, see ``diluted``) do not count.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.lattice import Shape, shells, staggered_sign
from slmc.montecarlo.manifolds import occupied

Spins = Float[Array, "*lattice 3"]


def n_spins(spins: Spins) -> Float[Array, ""]:
    """N, the number of sites that hold a spin."""
    return jnp.sum(jnp.asarray(occupied(spins), spins.dtype))


def magnetization(spins: Spins) -> Float[Array, ""]:
    """|m|, m = (1/N) Σ_i S_i."""
    return jnp.sqrt(magnetization_squared(spins))


def magnetization_squared(spins: Spins) -> Float[Array, ""]:
    """m²."""
    return jnp.sum((jnp.sum(spins.reshape(-1, 3), axis=0) / n_spins(spins)) ** 2)


def staggered_magnetization(spins: Spins) -> Float[Array, ""]:
    """|m_st|, m_st = (1/N) Σ_i (−1)^{x+y+…} S_i. Raises ``ValueError`` on odd extents."""
    return jnp.sqrt(staggered_magnetization_squared(spins))


def staggered_magnetization_squared(spins: Spins) -> Float[Array, ""]:
    """m_st². Raises ``ValueError`` on odd extents."""
    sign = jnp.asarray(staggered_sign(spins.shape[:-1]), spins.dtype)
    return magnetization_squared(spins * sign[..., None])


def structure_factor(spins: Spins) -> Float[Array, "*lattice"]:
    """S(q) = (1/N) Σ_ij e^{−iq·(r_i − r_j)} S_i·S_j on the grid q_a = 2π n_a / L_a, n_a = 0 … L_a − 1."""
    amplitudes = jnp.fft.fftn(spins, axes=tuple(range(spins.ndim - 1)))
    return jnp.sum(jnp.abs(amplitudes) ** 2, axis=-1) / n_spins(spins)


def correlation_by_distance(factor: Float[np.ndarray, "..."], shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the neighbour shells and ⟨S_i·S_j⟩ averaged over each, from the structure factor.

    Leading axes (chains, draws) of ``factor`` are kept. Shell 0 is the site itself, where the value is 1. On a diluted
    lattice the average is over all sites at a distance from a spin, with zero for those without one.
    """
    axes = tuple(range(factor.ndim - len(shape), factor.ndim))
    by_displacement = np.fft.ifftn(factor, axes=axes).real.reshape(*factor.shape[: axes[0]], -1)
    by_distance = shells(shape)
    members = by_distance.shell[0][None, :] == np.arange(by_distance.n_shells + 1)[:, None]
    means = by_displacement @ (members / members.sum(1, keepdims=True)).T
    return np.sqrt(by_distance.squared_distances), means


def binder_ratio(squared: np.ndarray) -> float:
    """⟨m⁴⟩ / ⟨m²⟩² from samples of m²: 5/3 for a disordered three-component order parameter, 1 in full order."""
    return float(np.mean(squared**2) / np.mean(squared) ** 2)


def specific_heat(grand_energy: np.ndarray, energy_variance: np.ndarray, temperature: float, n_sites: int) -> float:
    """c = β² (var k + ⟨Σ_n (E_n − μ)² f_n (1 − f_n)⟩) / N at constant μ, from samples of a spin-fermion target.

    It is d⟨k⟩/dT per site with k = Σ_n (E_n − μ) f_n: the second term is the electrons' own fluctuation.
    """
    return float((np.var(grand_energy) + np.mean(energy_variance)) / temperature**2 / n_sites)
