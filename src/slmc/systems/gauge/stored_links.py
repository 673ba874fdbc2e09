"""What the file formats share: the order of numbers, what is verified on reading, and what is told of a file."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex

from slmc.lattice import Shape
from slmc.montecarlo.special_unitary import as_matrices, as_points, reprojected
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.observables import plaquette

FileOrder = Complex[np.ndarray, "t z y x 4 n n"]
"""All formats: x fastest, then y, z, t; at each site directions x, y, z, t, each a matrix by rows."""

_CHECKSUM_DECIDES = 1e-5
"""How far plaquette and link trace may be off where a checksum vouches for the links."""

_COARSEST_HEADER = 1e-3
"""A number rounded to fewer digits than this verifies nothing."""

_LONGEST_NUMBER = 40

_ROUNDED_OFF = 1e-12
_PROJECTED = {32: 1e-5, 64: 1e-6}
"""How far links may be off the group, by bits of a number: more is damage."""


class BrokenConfigurationError(ValueError):
    """A file of links that is not what it says."""


class UnverifiedLinksWarning(UserWarning):
    """What a reader of links should know of their file, which is no reason to refuse it."""


class StoredLinks(NamedTuple):
    """The links of a file, and what is to be said of them: each note is a sentence.

    ``bits`` is the precision in which they were written, 32 or 64.
    """

    links: Links
    bits: int
    notes: tuple[str, ...] = ()


def warned(stored: StoredLinks) -> Links:
    """The links, each note given as an ``UnverifiedLinksWarning``."""
    for note in stored.notes:
        warnings.warn(note, UnverifiedLinksWarning, stacklevel=3)
    return stored.links


def check_dimensions(links: Links, name: str) -> None:
    """Raises ``ValueError`` unless links are those of four dimensions, all that the formats know."""
    if len(links) != 4:
        raise ValueError(f"the {name} format holds links in 4 dimensions; got {len(links)} dimensions.")


def checked_extents(path: str | Path, extents: Sequence[int]) -> Shape:
    """Four positive extents; raises ``BrokenConfigurationError`` for others."""
    if len(extents) != 4 or any(extent < 1 for extent in extents):
        raise BrokenConfigurationError(f"{path}: a lattice has four positive extents, not {_shortened(extents)}.")
    return tuple(extents)


def check_length(path: str | Path, n_bytes: int, shape: Shape, bytes_per_site: int) -> None:
    """Raises ``BrokenConfigurationError`` unless a lattice of the shape takes as many bytes as there are.

    To be called before anything of the size that a header claims is allocated.
    """
    if n_bytes != math.prod(shape) * bytes_per_site:
        raise BrokenConfigurationError(
            f"{path}: {n_bytes} bytes of links do not fill a lattice of {_shortened(shape)}; the file is cut or "
            "damaged."
        )


def in_file_order(links: Links) -> FileOrder:
    """Complex matrices in the order of the files."""
    array = np.asarray(links)
    return np.transpose(array[..., 0, :, :] + 1j * array[..., 1, :, :], (4, 3, 2, 1, 0, 5, 6))


def links_from_file_order(matrices: FileOrder) -> Links:
    """The links that a file holds."""
    ordered = np.transpose(matrices, (4, 3, 2, 1, 0, 5, 6))
    return jnp.asarray(np.stack([ordered.real, ordered.imag], axis=-3), jnp.float64)


def mean_plaquette(links: Links) -> float:
    """The plaquette as headers have it, normalised to one."""
    return float(plaquette(links))


def mean_link_trace(links: Links) -> float:
    """Re tr U/N averaged over links."""
    return float(np.mean(np.trace(np.asarray(links)[..., 0, :, :], axis1=-2, axis2=-1)) / links.shape[-1])


def check_average(path: str | Path, average: float, written: str, bits: int, name: str, verified: bool) -> None:
    """Raises ``BrokenConfigurationError`` unless a number of the header is that of the links as far as it is rounded.

    ``verified`` links, whose checksum agrees, may differ by 1e-5: other codes average in single precision.
    """
    stored, tolerance = float(written), _CHECKSUM_DECIDES if verified or bits == 32 else 1e-9
    if not abs(average - stored) <= max(tolerance, _rounding(written)):
        raise BrokenConfigurationError(
            f"{path}: the {name} of the links is {average:.10g}, the file says {stored:.10g}; the links are damaged or "
            "in another order."
        )


def _rounding(text: str) -> float:
    """One unit of the last digit written, as headers are rounded."""
    if len(text) > _LONGEST_NUMBER:
        return 0.0
    mantissa, _, exponent = text.lower().partition("e")
    power = int(exponent or 0) - len(mantissa.partition(".")[2])
    return 10.0**power if power < math.log10(_COARSEST_HEADER) else 0.0


def on_the_group(path: str | Path, matrices: FileOrder, bits: int, notes: Sequence[str] = ()) -> StoredLinks:
    """The links of a file, projected on SU(N) where rounding has moved them off it.

    In double precision the projection, of links off by more than 1e-12, is told in a note; up to 1e-6 it stands for a
    trajectory that never projected. Raises ``BrokenConfigurationError`` for links further off, by |U U† − 1| and
    |det U − 1|.
    """
    n = matrices.shape[-1]
    with np.errstate(all="ignore"):
        unitarity = matrices @ np.conj(np.swapaxes(matrices, -1, -2)) - np.eye(n)
        off = max(float(np.max(abs(unitarity))), float(np.max(abs(np.linalg.det(matrices) - 1))))
    if not off <= _PROJECTED[bits]:
        raise BrokenConfigurationError(
            f"{path}: links are not in SU({n}), by {off:.1e}; they are damaged, or rounded to fewer digits than the "
            "file has."
        )
    links = links_from_file_order(matrices)
    if off <= _ROUNDED_OFF:
        return StoredLinks(links, bits, tuple(notes))
    # One Newton step squares the error, which leaves N > 3 in single precision short of rounding.
    links = as_points(reprojected(reprojected(as_matrices(links))))
    if bits == 64:
        notes = (*notes, f"{path}: links were off SU({n}) by {off:.1e} and are projected on it.")
    return StoredLinks(links, bits, tuple(notes))


def _shortened(values: Sequence[int]) -> str:
    """Extents for a sentence, huge ones as powers of ten."""
    return "×".join(str(value) if abs(value) < 10**9 else f"10^{len(hex(value)) * 1.204:.0f}" for value in values)
