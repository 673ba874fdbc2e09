"""Projection of any wave function on a symmetry sector of the lattice."""

import functools
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.scipy.special import logsumexp

from slmc.lattice import Shape, n_sites, point_group
from slmc.systems.wavefunctions.wavefunction import LogAmplitude, Spins


class SymmetryProjection(nn.Module):
    """ψ_P(σ) = (1/|G|) Σ_g χ(g) ψ(gσ), with real characters χ.

    G is made of translations by 0 … ``translations`` − 1 sites in every direction, with character −1 a site where
    ``momentum_pi`` is set (momentum π in every direction) and else +1; of the point group of the torus, if
    ``point_group`` is set, in its trivial representation; and of the flip of all spins with character ``spin_flip``,
    +1 or −1 (0: without). ``translations`` must be a period of ψ: for a ``VisionTransformer`` its patch suffices, the
    full extent does for any ψ. The ground state of the J1-J2 model is even in all of them where N is a multiple of
    4; on rings of N = 4n + 2 it has momentum π and is odd under the flip.

    Costs |G| evaluations of ψ. In an odd sector configurations that a symmetry maps to themselves have amplitude
    zero exactly, log ψ = −∞; otherwise log ψ is finite wherever ψ is.
    """

    wave_function: nn.Module
    shape: Shape
    translations: int = 1
    point_group: bool = False
    spin_flip: int = 0
    momentum_pi: bool = False

    @nn.compact
    def __call__(self, spins: Spins) -> LogAmplitude:
        group = symmetry_group(self.shape, self.translations, self.point_group, self.spin_flip, self.momentum_pi)
        images = spins[..., group.permutations]
        flips = jnp.broadcast_to(jnp.asarray(group.signs, spins.dtype)[:, None], images.shape)
        terms = self.wave_function(images * flips)
        characters = jnp.asarray(group.characters / len(group.characters), terms.dtype)
        return logsumexp(terms, axis=-1, b=jnp.broadcast_to(characters, terms.shape))


class SymmetryGroup(NamedTuple):
    """Elements gσ = sign · σ[permutation] with their characters."""

    permutations: np.ndarray
    signs: np.ndarray
    characters: np.ndarray


@functools.lru_cache(maxsize=64)
def symmetry_group(
    shape: Shape, translations: int, with_point_group: bool, spin_flip: int, momentum_pi: bool
) -> SymmetryGroup:
    """The elements that ``SymmetryProjection`` sums over.

    Raises ``ValueError`` for a period that does not divide the extents, or one that momentum π does not have.
    """
    if translations < 1 or any(extent % translations for extent in shape):
        raise ValueError(f"translations must divide the extents of the lattice {shape}; got {translations}.")
    if momentum_pi and (translations % 2 or any(extent % 2 for extent in shape)):
        raise ValueError(f"momentum π needs an even number of translations on even extents; got {translations}.")
    if spin_flip not in (-1, 0, 1):
        raise ValueError(f"spin_flip must be 1 (even), -1 (odd) or 0 (not projected); got {spin_flip}.")
    sites = np.arange(n_sites(shape)).reshape(shape)
    shifts = list(itertools.product(range(translations), repeat=len(shape)))
    moves = [np.roll(sites, shift, axis=tuple(range(len(shape)))).ravel() for shift in shifts]
    turns = _distinct(point_group(shape)) if with_point_group else [sites.ravel()]
    flips = [1, -1] if spin_flip else [1]
    permutations, signs, characters = [], [], []
    for (shift, move), turn, flip in itertools.product(zip(shifts, moves, strict=True), turns, flips):
        permutations.append(turn[move])
        signs.append(flip)
        characters.append((-1.0) ** (sum(shift) * momentum_pi) * (spin_flip if flip < 0 else 1))
    return SymmetryGroup(np.stack(permutations), np.array(signs), np.array(characters))


def _distinct(permutations: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Without repetitions, which small extents have: there a reflection can be the identity."""
    return [np.array(one) for one in dict.fromkeys(tuple(each.tolist()) for each in permutations)]
