"""Site-diluted lattices: spins on a random share of the sites, electrons on all of them.

A site without a spin holds a zero vector. Every target and effective model then has the right weight without a change
(S_i = 0 neither couples to electrons nor to other spins), every update leaves the site as it is, and the disorder
lives in the configurations: chains of many samples run as one program and share one effective model, as in Kohshiro,
Nagai, J. Phys. Soc. Jpn. 90, 034711 (2021), arXiv:2005.06992.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.lattice import n_sites
from slmc.numbers import positive_count


def diluted(
    key: Key[Array, ""], spins: Float[Array, "chain *lattice 3"], concentration: float, n_samples: int = 1
) -> Float[Array, "chain *lattice 3"]:
    """Configurations with spins left on round(``concentration`` · N) random sites, at least one.

    The chains are divided among ``n_samples`` samples of the disorder, those of one sample next to each other.
    Raises ``ValueError`` for a concentration outside (0, 1] and for a number of chains that samples do not divide.
    """
    if not 0 < concentration <= 1:
        raise ValueError(f"concentration must lie between 0 and 1; got {concentration}.")
    n_chains, shape = len(spins), spins.shape[1:-1]
    if n_chains % positive_count(n_samples, "n_samples"):
        raise ValueError(f"{n_chains} chains cannot be divided among {n_samples} samples; give a multiple of them.")
    n_kept = max(1, round(concentration * n_sites(shape)))
    ranks = jax.vmap(lambda key: jax.random.permutation(key, n_sites(shape)))(jax.random.split(key, n_samples))
    occupied = jnp.repeat(ranks < n_kept, n_chains // n_samples, axis=0).reshape(n_chains, *shape, 1)
    return jnp.where(occupied, spins, 0.0)
