"""Links from any file that is known, with what is to be said of it."""

from pathlib import Path

from slmc.lattice import Shape
from slmc.systems.gauge.ildg import stored_ildg
from slmc.systems.gauge.lime import LIME_MAGIC
from slmc.systems.gauge.nersc import BEGIN, stored_nersc
from slmc.systems.gauge.stored_links import BrokenConfigurationError, StoredLinks


def is_configuration(path: str | Path) -> bool:
    """Whether a file begins like those that ``read_links`` reads. Raises ``OSError`` for one that cannot be read."""
    with open(path, "rb") as file:
        start = file.read(len(BEGIN))
    return start == BEGIN.encode() or start.startswith(LIME_MAGIC)


def read_links(path: str | Path, shape: Shape | None = None) -> StoredLinks:
    """The links of a NERSC or an ILDG file, told apart by how they begin.

    ``shape`` is needed for a LIME file of links alone, and otherwise compared. Raises ``BrokenConfigurationError`` as
    ``read_nersc`` and ``read_ildg`` do and for another lattice, ``OSError`` for a file that cannot be read.
    """
    with open(path, "rb") as file:
        is_nersc = file.read(len(BEGIN)) == BEGIN.encode()
    if not is_nersc:
        return stored_ildg(path, shape)
    stored = stored_nersc(path)
    of_file = stored.links.shape[1:5]
    if shape is not None and tuple(shape) != of_file:
        raise BrokenConfigurationError(f"{path} holds links of a lattice {list(of_file)}, not {list(shape)}.")
    return stored
