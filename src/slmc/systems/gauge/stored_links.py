"""What the file formats share: the order of numbers, and what is verified on reading."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex

from slmc.systems.gauge.links import Links
from slmc.systems.gauge.observables import plaquette

FileOrder = Complex[np.ndarray, "t z y x 4 3 3"]
"""Both formats: x fastest, then y, z, t; at each site directions x, y, z, t, each a matrix by rows."""


class BrokenConfigurationError(ValueError):
    """A file of links that is not what it says."""


def check_su3(links: Links, name: str) -> None:
    """Raises ``ValueError`` unless links are SU(3) in four dimensions, all that the formats know."""
    if len(links) != 4 or links.shape[-1] != 3:
        raise ValueError(
            f"the {name} format holds SU(3) in 4 dimensions; got SU({links.shape[-1]}) in {len(links)} dimensions."
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
    """Re tr U/3 averaged over links."""
    return float(np.mean(np.trace(np.asarray(links)[..., 0, :, :], axis1=-2, axis2=-1)) / links.shape[-1])


def check_plaquette(
    path: str | Path, found: float, written: str, single_precision: bool, name: str = "plaquette"
) -> None:
    """Raises ``BrokenConfigurationError`` unless the two agree as far as links and text are rounded."""
    stored, tolerance = float(written), 1e-5 if single_precision else 1e-9
    if not abs(found - stored) <= max(tolerance, _rounding(written)):
        raise BrokenConfigurationError(
            f"{path}: the {name} of the links is {found:.10g}, the file says {stored:.10g}; the links are damaged or "
            "in another order."
        )


def _rounding(text: str) -> float:
    """One unit of the last digit written, as headers are rounded."""
    digits = text.lower().split("e")[0].partition(".")[2]
    exponent = int(text.lower().partition("e")[2] or 0)
    return 10.0 ** (exponent - len(digits))


def check_group(path: str | Path, matrices: FileOrder, single_precision: bool) -> None:
    """Raises ``BrokenConfigurationError`` unless every link is in SU(3), |U U† − 1| and |det U − 1| within rounding.

    All that there is to notice damage by in a file without checksum and plaquette.
    """
    unitarity = matrices @ np.conj(np.swapaxes(matrices, -1, -2)) - np.eye(3)
    rows = np.moveaxis(matrices, -2, 0)
    determinant = np.sum(np.cross(rows[0], rows[1]) * rows[2], axis=-1)
    found = max(float(np.max(abs(unitarity))), float(np.max(abs(determinant - 1))))
    if not found <= (1e-5 if single_precision else 1e-10):
        raise BrokenConfigurationError(
            f"{path}: links are not in SU(3), by {found:.1e}; they are damaged, or rounded to fewer digits than the "
            "file has."
        )
