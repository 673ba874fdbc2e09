"""What a system measures of files that hold configurations, whoever wrote them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slmc.system.settings import Settings

Measured = Mapping[str, float | complex | np.ndarray]
"""Numbers and arrays by the names of what they are."""


class OfFile(NamedTuple):
    """What was measured of a file, and sentences on what is to be known of it."""

    values: Measured
    notes: tuple[str, ...] = ()


class FileMeasurement(NamedTuple):
    """How a system measures files: ``recognises`` those it can read, by how they begin.

    ``settings`` is what may be asked for, ``measure(path, settings, number)`` does it for one file, the ``number``-th.
    ``of_all(values)`` is derived from what was measured of several; ``descriptions`` say what names mean. ``measure``
    raises ``ValueError`` or ``OSError`` for a file that cannot be read.
    """

    settings: type[Settings]
    recognises: Callable[[Path], bool]
    measure: Callable[[Path, Any, int], OfFile]
    of_all: Callable[[list[Measured]], Measured]
    descriptions: Mapping[str, str]
