"""Projection of any wave function on a symmetry sector of the lattice."""

import functools
import itertools
import math
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
    full extent does for any ψ. On small lattices one ψ stands for all that these symmetries join, so that energies rely
    on it.

    At small J2 the ground state of the J1-J2 model is in the even sector of all of them where N is a multiple of 4, and
    also on rings of N = 4n + 2 with the Marshall rotation; without it, on these rings, it has momentum π, is odd under
    the flip and even under the point group. At large J2 it can be elsewhere: on the ring of 8 at J2 = 0.6 and on the
    ring of 12 at J2 ≥ 1 it has momentum π and is odd under reflections, a sector that is not offered here; project on
    fewer symmetries then.

    Costs |G| evaluations of ψ. In an odd sector, configurations that a symmetry maps to themselves have amplitude zero
    but for rounding: log ψ is −∞ or about 36 below that of others. A whole sector can be empty (``check_sector``).
    Elsewhere log ψ is finite wherever ψ is. It is complex also where that of ``wave_function`` is real.
    """

    wave_function: nn.Module
    shape: Shape
    translations: int = 1
    point_group: bool = False
    spin_flip: int = 0
    momentum_pi: bool = False

    @property
    def group(self) -> "SymmetryGroup":
        """G, as far as ψ does not have it already."""
        return symmetry_group(self.shape, self.translations, self.point_group, self.spin_flip, self.momentum_pi)

    @property
    def full_group(self) -> "SymmetryGroup":
        """Symmetries of ψ_P: G, with translations through the whole (square) lattice where it holds any."""
        translations = math.gcd(*self.shape) if self.translations > 1 else 1
        return symmetry_group(self.shape, translations, self.point_group, self.spin_flip, self.momentum_pi)

    @nn.compact
    def __call__(self, spins: Spins) -> LogAmplitude:
        group = self.group
        images = spins[..., group.permutations]
        flips = jnp.broadcast_to(jnp.asarray(group.signs, spins.dtype)[:, None], images.shape)
        terms = self.wave_function(images * flips)
        # A sum with negative characters has no real logarithm.
        terms = terms.astype(jnp.promote_types(terms.dtype, jnp.complex64))
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


def check_sector(
    shape: Shape, with_translations: bool, with_point_group: bool, spin_flip: int, momentum_pi: bool
) -> None:
    """Raises ``ValueError`` if no state of total S^z = 0 has these symmetries: ψ_P would be zero everywhere.

    The dimension of a sector is Σ_g χ(g) n_g / |G|, with n_g the number of configurations that g maps to themselves,
    and translations through the whole lattice.
    """
    if spin_flip >= 0 and not momentum_pi:
        return  # the uniform superposition is in it
    translations = shape[0] if with_translations else 1
    group = symmetry_group(shape, translations, with_point_group, spin_flip, momentum_pi)
    elements = zip(group.permutations, group.signs, group.characters, strict=True)
    if not sum(int(character) * _n_fixed(permutation, int(sign)) for permutation, sign, character in elements):
        raise ValueError(
            f"no state of total S^z = 0 on the lattice {list(shape)} has these symmetries together (momentum "
            f"{'π' if momentum_pi else '0'}, {'odd' if spin_flip < 0 else 'even'}): project on fewer of them"
        )


def _n_fixed(permutation: np.ndarray, sign: int) -> int:
    """Configurations of as many up as down spins with σ = sign · σ[permutation]."""
    lengths = _cycle_lengths(permutation)
    if sign < 0:  # spins alternate along each cycle
        return 0 if any(length % 2 for length in lengths) else 2 ** len(lengths)
    # Ways to choose cycles whose lengths add up to N/2: a coefficient of Π (1 + x^length), x a power of two beyond all.
    bits, ways = len(permutation) + 1, 1
    for length in lengths:
        ways += ways << (bits * length)
    return (ways >> (bits * (len(permutation) // 2))) & ((1 << bits) - 1)


def _cycle_lengths(permutation: np.ndarray) -> list[int]:
    left, lengths = set(range(len(permutation))), []
    while left:
        first = place = left.pop()
        lengths.append(1)
        while (place := int(permutation[place])) != first:
            left.remove(place)
            lengths[-1] += 1
    return lengths


def _distinct(permutations: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Without repetitions, which small extents have: there a reflection can be the identity."""
    return [np.array(sites) for sites in dict.fromkeys(tuple(each.tolist()) for each in permutations)]
