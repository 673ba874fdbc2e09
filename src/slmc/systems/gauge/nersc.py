"""Configurations in the NERSC archive format (Gauge Connection), SU(N) in four dimensions."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slmc.lattice import Shape
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.stored_links import (
    BrokenConfigurationError,
    FileOrder,
    StoredLinks,
    check_average,
    check_dimensions,
    check_length,
    checked_extents,
    in_file_order,
    mean_link_trace,
    mean_plaquette,
    on_the_group,
    warned,
)

BEGIN, _END = "BEGIN_HEADER", "END_HEADER"
_LONGEST_HEADER = 65536

_NUMBERS = {
    "IEEE64BIG": (">f8",),
    "IEEE64LITTLE": ("<f8",),
    "IEEE32BIG": (">f4",),
    "IEEE32LITTLE": ("<f4",),
    "IEEE64": (">f8", "<f8"),
    "IEEE32": (">f4", "<f4"),
}
"""What ``FLOATING_POINT`` may say; where it leaves the order of bytes open the checksum decides."""


class _Header(NamedTuple):
    """What a header says, checked as far as it can be without the links."""

    shape: Shape
    n_colours: int
    n_rows: int
    numbers: tuple[str, ...]
    checksum: int
    averages: dict[str, str]


def write_nersc(path: str | Path, links: Links, fields: dict[str, str] | None = None) -> None:
    """Writes links as 4D_SU{N}_GAUGE_{N}x{N}, big-endian double precision, with checksum, plaquette and link trace.

    x runs fastest, then y, z, t; at each site the four directions x, y, z, t, each a matrix by rows. ``fields`` are
    further header lines (``ENSEMBLE_ID``, ``SEQUENCE_NUMBER``, …). Raises ``ValueError`` unless there are four
    dimensions.
    """
    check_dimensions(links, "NERSC")
    data, n = in_file_order(links).astype(">c16"), links.shape[-1]
    header = {
        "HDR_VERSION": "1.0",
        "DATATYPE": f"4D_SU{n}_GAUGE_{n}x{n}",
        "STORAGE_FORMAT": "1.0",
        **{f"DIMENSION_{k + 1}": str(extent) for k, extent in enumerate(links.shape[1:5])},
        "LINK_TRACE": f"{mean_link_trace(links):.15g}",
        "PLAQUETTE": f"{mean_plaquette(links):.15g}",
        **{f"BOUNDARY_{k + 1}": "PERIODIC" for k in range(4)},
        "CHECKSUM": f"{_checksum(data.tobytes(), '>u4'):x}",
        "FLOATING_POINT": "IEEE64BIG",
        **(fields or {}),
    }
    lines = [BEGIN, *(f"{name} = {value}" for name, value in header.items()), _END, ""]
    Path(path).write_bytes("\n".join(lines).encode("ascii") + data.tobytes())


def read_nersc(path: str | Path) -> Links:
    """The links of a file, 4D_SU{N}_GAUGE_{N}x{N} or 4D_SU3_GAUGE (two rows, the third restored), 32 or 64 bits.

    Big- and little-endian; ``IEEE64`` and ``IEEE32`` alone mean the order whose checksum agrees. Raises
    ``BrokenConfigurationError`` for a file that is not of this format or is cut short, where checksum, plaquette or
    link trace are not those of the header, and where links are not in SU(N). Links that are off it by rounding are
    projected (``on_the_group``), in double precision with an ``UnverifiedLinksWarning``.
    """
    return warned(stored_nersc(path))


def stored_nersc(path: str | Path) -> StoredLinks:
    """As ``read_nersc``, with the notes instead of warnings."""
    header, data = _parts(path)
    dtype = _order_of_bytes(path, data, header)
    bits = 8 * dtype.itemsize
    stored = on_the_group(path, _matrices(data, dtype, header), bits)
    averages = {"PLAQUETTE": mean_plaquette(stored.links), "LINK_TRACE": mean_link_trace(stored.links)}
    for name, value in averages.items():
        check_average(path, value, header.averages[name], bits, name.lower().replace("_", " "), verified=True)
    return stored


def _parts(path: str | Path) -> tuple[_Header, bytes]:
    """Header and links; nothing is read that is longer than the header says."""
    with open(path, "rb") as file:
        start = file.read(_LONGEST_HEADER)
        place = start.find(_END.encode())
        if not start.startswith(BEGIN.encode()) or place < 0:
            raise BrokenConfigurationError(f"{path} is not a NERSC configuration: it has no {BEGIN} … {_END}.")
        try:
            header = _parsed(path, start[len(BEGIN) : place])
        except (KeyError, ValueError) as error:
            if isinstance(error, BrokenConfigurationError):
                raise
            raise BrokenConfigurationError(
                f"{path}: the header lacks a field or has an unknown one: {str(error)[:200]}."
            ) from error
        begin = start.find(b"\n", place) + 1
        bytes_per_site = 8 * header.n_rows * header.n_colours * np.dtype(header.numbers[0]).itemsize
        check_length(path, Path(path).stat().st_size - begin, header.shape, bytes_per_site)
        file.seek(begin)
        return header, file.read()


def _parsed(path: str | Path, text: bytes) -> _Header:
    lines = text.decode("ascii", "replace").splitlines()
    fields = {name.strip(): value.strip() for name, value in (line.split("=", 1) for line in lines if "=" in line)}
    shape = checked_extents(path, [int(fields[f"DIMENSION_{k}"]) for k in (1, 2, 3, 4)])
    n_colours, n_rows = _colours(fields["DATATYPE"])
    checksum = int(fields["CHECKSUM"], 16)
    averages = {name: fields[name] for name in ("PLAQUETTE", "LINK_TRACE")}
    for value in averages.values():
        float(value)
    return _Header(shape, n_colours, n_rows, _NUMBERS[fields["FLOATING_POINT"]], checksum, averages)


def _colours(datatype: str) -> tuple[int, int]:
    """N and the number of rows that are stored."""
    if datatype == "4D_SU3_GAUGE":
        return 3, 2
    match = re.fullmatch(r"4D_SU(\d{1,3})_GAUGE_(\d{1,3})x(\d{1,3})", datatype, re.ASCII)
    sizes = [int(digits) for digits in match.groups()] if match else []
    if not match or sizes[0] < 2 or len(set(sizes)) > 1:
        raise ValueError(f"DATATYPE = {datatype}")
    return sizes[0], sizes[0]


def _order_of_bytes(path: str | Path, data: bytes, header: _Header) -> np.dtype:
    """The type of the numbers by which the checksum is that of the header."""
    sums = {}
    for numbers in header.numbers:
        sums[numbers] = _checksum(data, f"{numbers[0]}u4")
        if sums[numbers] == header.checksum:
            return np.dtype(numbers)
    words = " or ".join(f"{value:x}" for value in sums.values())
    raise BrokenConfigurationError(
        f"{path}: the checksum is {words}, the header says {f'{header.checksum:x}'[:40]}; the file is damaged."
    )


def _matrices(data: bytes, dtype: np.dtype, header: _Header) -> FileOrder:
    numbers = np.frombuffer(data, dtype).astype(np.float64)
    matrices = numbers.view(np.complex128).reshape(*header.shape[::-1], 4, header.n_rows, header.n_colours)
    if header.n_rows == header.n_colours:
        return matrices
    third = np.conj(np.cross(matrices[..., 0, :], matrices[..., 1, :]))
    return np.concatenate([matrices, third[..., None, :]], axis=-2)


def _checksum(data: bytes, word: str) -> int:
    """The sum of all 32-bit words modulo 2³²."""
    return int(np.sum(np.frombuffer(data, word), dtype=np.uint64) % 2**32)
