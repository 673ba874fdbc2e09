"""What keeps the learned potential from letting atoms fall into each other, where it has seen nothing."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.systems.atoms.cell import Cell

_COULOMB = 14.399645
"""e²/4πε₀ in eV Å."""

_SHARES = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
_REACH = 0.9
"""Of the sum of covalent radii: shorter than any bond."""


def repulsion(cell: Cell, distances: Float[Array, "atom atom image"]) -> Float[Array, ""]:
    """Screened nuclear repulsion of Ziegler, Biersack, Littmark (1985) in eV, smoothly cut off below bond lengths.

    U = ½ Σ_ij Z_i Z_j e²/(4πε₀ r) φ(r/a) f(r/R),   a = 0.46850/(Z_i^0.23 + Z_j^0.23) Å,   f as in the potential
    """
    charges, radii = np.array(cell.numbers, float), np.array(cell.radii)
    dtype = distances.dtype
    screening = 0.46850 / (charges[:, None] ** 0.23 + charges[None, :] ** 0.23)
    strength = jnp.asarray(_COULOMB * charges[:, None] * charges[None, :], dtype)[..., None]
    x = jnp.minimum(distances / jnp.asarray(_REACH * (radii[:, None] + radii[None, :]), dtype)[..., None], 1.0)
    scaled = distances / jnp.asarray(screening, dtype)[..., None]
    screened = sum(share * jnp.exp(-rate * scaled) for share, rate in _SHARES)
    cut = 1 - x**3 * (10 - x * (15 - 6 * x))
    return jnp.sum(strength / distances * screened * cut) / 2
