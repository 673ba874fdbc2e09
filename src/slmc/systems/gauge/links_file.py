"""Links from a file of another code, whichever of the formats it has."""

from pathlib import Path

from slmc.lattice import Shape
from slmc.montecarlo.special_unitary import as_matrices, as_points, reprojected
from slmc.systems.gauge.ildg import read_ildg
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.nersc import BEGIN, read_nersc


def links_of_file(path: Path, shape: Shape) -> Links:
    """The links of a NERSC or an ILDG file, projected on the group where they were written in single precision.

    Raises ``ValueError`` for a file that is damaged, of neither format, or of another lattice, ``OSError`` for one that
    cannot be read.
    """
    with path.open("rb") as file:
        is_nersc = file.read(len(BEGIN)) == BEGIN.encode()
    links = read_nersc(path) if is_nersc else read_ildg(path)
    if links.shape[1:5] != tuple(shape):
        raise ValueError(f"{path} holds links of a lattice {list(links.shape[1:5])}, not {list(shape)}.")
    return as_points(reprojected(as_matrices(links)))
