"""Configurations in the NERSC archive format (Gauge Connection), SU(3) in four dimensions."""

from pathlib import Path

import numpy as np

from slmc.systems.gauge.links import Links
from slmc.systems.gauge.stored_links import (
    BrokenConfigurationError,
    check_group,
    check_plaquette,
    check_su3,
    in_file_order,
    links_from_file_order,
    mean_link_trace,
    mean_plaquette,
)

BEGIN, _END = "BEGIN_HEADER", "END_HEADER"
_LONGEST_HEADER = 65536


def write_nersc(path: str | Path, links: Links, fields: dict[str, str] | None = None) -> None:
    """Writes links as 4D_SU3_GAUGE_3x3, big-endian double precision, with checksum, plaquette and link trace.

    x runs fastest, then y, z, t; at each site the four directions x, y, z, t, each a 3×3 matrix by rows. ``fields`` are
    further header lines (``ENSEMBLE_ID``, ``SEQUENCE_NUMBER``, …). Raises ``ValueError`` unless links are SU(3) in four
    dimensions.
    """
    check_su3(links, "NERSC")
    data = in_file_order(links).astype(">c16").tobytes()
    header = {
        "HDR_VERSION": "1.0",
        "DATATYPE": "4D_SU3_GAUGE_3x3",
        "STORAGE_FORMAT": "1.0",
        **{f"DIMENSION_{k + 1}": str(extent) for k, extent in enumerate(links.shape[1:5])},
        "LINK_TRACE": f"{mean_link_trace(links):.15g}",
        "PLAQUETTE": f"{mean_plaquette(links):.15g}",
        **{f"BOUNDARY_{k + 1}": "PERIODIC" for k in range(4)},
        "CHECKSUM": f"{_checksum(data):x}",
        "FLOATING_POINT": "IEEE64BIG",
        **(fields or {}),
    }
    lines = [BEGIN, *(f"{name} = {value}" for name, value in header.items()), _END, ""]
    Path(path).write_bytes("\n".join(lines).encode("ascii") + data)


def read_nersc(path: str | Path) -> Links:
    """The links of a file, 4D_SU3_GAUGE (two rows, the third restored) or 4D_SU3_GAUGE_3x3, 32 or 64 bits.

    Raises ``BrokenConfigurationError`` for a file that is not of this format or is cut short, where checksum, plaquette
    or link trace are not those of the header, and where links are not in SU(3).
    """
    content = Path(path).read_bytes()
    header, data = _header(content, path)
    try:
        shape = tuple(int(header[f"DIMENSION_{k}"]) for k in (1, 2, 3, 4))
        rows = {"4D_SU3_GAUGE": 2, "4D_SU3_GAUGE_3x3": 3}[header["DATATYPE"]]
        kind = {"IEEE64BIG": ">f8", "IEEE64LITTLE": "<f8", "IEEE32BIG": ">f4", "IEEE32": ">f4", "IEEE32LITTLE": "<f4"}
        dtype = np.dtype(kind[header["FLOATING_POINT"]])
        checksum = int(header["CHECKSUM"], 16)
        for name in ("PLAQUETTE", "LINK_TRACE"):
            float(header[name])
    except (KeyError, ValueError) as error:
        raise BrokenConfigurationError(f"{path}: the header lacks a field or has an unknown one: {error}.") from error
    size = int(np.prod(shape)) * 4 * rows * 3 * 2 * dtype.itemsize
    if len(data) != size:
        raise BrokenConfigurationError(
            f"{path}: {len(data)} bytes of links where {size} belong; the file is cut or damaged."
        )
    found = _checksum(data, dtype)
    if found != checksum:
        raise BrokenConfigurationError(
            f"{path}: the checksum is {found:x}, the header says {checksum:x}; the file is damaged."
        )
    numbers = np.frombuffer(data, dtype).astype(np.float64)
    matrices = numbers.reshape(*shape[::-1], 4, rows, 3, 2)
    matrices = matrices[..., 0] + 1j * matrices[..., 1]
    if rows == 2:
        third = np.conj(np.cross(matrices[..., 0, :], matrices[..., 1, :]))
        matrices = np.concatenate([matrices, third[..., None, :]], axis=-2)
    single_precision = dtype.itemsize == 4
    check_group(path, matrices, single_precision)
    links = links_from_file_order(matrices)
    check_plaquette(path, mean_plaquette(links), header["PLAQUETTE"], single_precision)
    check_plaquette(path, mean_link_trace(links), header["LINK_TRACE"], single_precision, "link trace")
    return links


def _header(content: bytes, path: str | Path) -> tuple[dict[str, str], bytes]:
    start, end = BEGIN.encode(), _END.encode()
    place = content.find(end, 0, _LONGEST_HEADER)
    if not content.startswith(start) or place < 0:
        raise BrokenConfigurationError(f"{path} is not a NERSC configuration: it has no {BEGIN} … {_END}.")
    lines = content[len(start) : place].decode("ascii", "replace").splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    after = content.index(b"\n", place) + 1
    return {name.strip(): value.strip() for name, value in fields.items()}, content[after:]


def _checksum(data: bytes, dtype: np.dtype | None = None) -> int:
    """The sum of all 32-bit words modulo 2³²."""
    order = "<u4" if dtype is not None and dtype.byteorder == "<" else ">u4"
    return int(np.sum(np.frombuffer(data, order), dtype=np.uint64) % 2**32)
