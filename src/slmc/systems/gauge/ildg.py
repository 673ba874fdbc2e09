"""Configurations in the ILDG format: LIME records with the links in binary and what describes them in XML."""

import re
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

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

_MAGIC = 0x456789AB
_HEADER = struct.Struct(">IHHQ128s")
_FORMAT, _DATA, _CHECKSUM, _RECORD, _NAME = (
    "ildg-format",
    "ildg-binary-data",
    "scidac-checksum",
    "scidac-record-xml",
    "ildg-data-lfn",
)


def write_ildg(path: str | Path, links: Links, logical_file_name: str = "") -> None:
    """Writes links in double precision with the SciDAC checksum and the plaquette (``usqcdInfo``).

    Records: ildg-format, scidac-record-xml, ildg-binary-data, ildg-data-lfn (if a name is given), scidac-checksum.
    Raises ``ValueError`` unless links are SU(3) in four dimensions.
    """
    check_su3(links, "ILDG")
    data = in_file_order(links).astype(">c16").tobytes()
    extents = dict(zip(("lx", "ly", "lz", "lt"), links.shape[1:5], strict=True))
    described = {"version": "1.0", "field": "su3gauge", "precision": "64", **extents}
    a, b = _checksums(data, int(np.prod(links.shape[1:5])))
    records = [
        (_FORMAT, _xml("ildgFormat", described, ' xmlns="http://www.lqcd.org/ildg"')),
        (_RECORD, _xml("usqcdInfo", {"version": "1.0", "plaq": f"{mean_plaquette(links):.15g}",
                                     "linktr": f"{mean_link_trace(links):.15g}"})),
        (_DATA, data),
        *([(_NAME, logical_file_name.encode())] if logical_file_name else []),
        (_CHECKSUM, _xml("scidacChecksum", {"version": "1.0", "suma": f"{a:x}", "sumb": f"{b:x}"})),
    ]  # fmt: skip
    with open(path, "wb") as file:
        for number, (kind, content) in enumerate(records):
            flags = 0x8000 * (number == 0) + 0x4000 * (number == len(records) - 1)
            file.write(_HEADER.pack(_MAGIC, 1, flags, len(content), kind.encode()))
            file.write(content + b"\0" * (-len(content) % 8))


def read_ildg(path: str | Path) -> Links:
    """The links of a file in 32 or 64 bits.

    Raises ``BrokenConfigurationError`` for a file that is not of this format or is cut short, where the checksum or the
    plaquette is not the one stored, and where links are not in SU(3). The format asks for neither checksum nor
    plaquette: without them links in SU(3) are all that is verified. A record of the user that holds no plaquette is
    left alone.
    """
    records = _records(path)
    if _FORMAT not in records or _DATA not in records:
        raise BrokenConfigurationError(f"{path} has no {_FORMAT} or no {_DATA} record; it is no ILDG configuration.")
    try:
        described = _fields(records[_FORMAT])
        shape = tuple(int(described[name]) for name in ("lx", "ly", "lz", "lt"))
        dtype = np.dtype({"32": ">f4", "64": ">f8"}[described["precision"]])
        if described["field"] != "su3gauge":
            raise KeyError(described["field"])
    except (KeyError, ValueError) as error:
        raise BrokenConfigurationError(
            f"{path}: the {_FORMAT} record lacks a field or has an unknown one: {error}."
        ) from error
    data, n_sites = records[_DATA], int(np.prod(shape))
    if len(data) != n_sites * 72 * dtype.itemsize:
        raise BrokenConfigurationError(
            f"{path}: the links do not fill a lattice of {shape}; the file is cut or damaged."
        )
    _verify_checksum(path, records, n_sites)
    numbers = np.frombuffer(data, dtype).astype(np.float64).reshape(*shape[::-1], 4, 3, 3, 2)
    matrices = numbers[..., 0] + 1j * numbers[..., 1]
    single_precision = dtype.itemsize == 4
    check_group(path, matrices, single_precision)
    links = links_from_file_order(matrices)
    stored = _stored_plaquette(records.get(_RECORD, b""))
    if stored is not None:
        check_plaquette(path, mean_plaquette(links), stored, single_precision)
    return links


def _stored_plaquette(record: bytes) -> str | None:
    """The plaquette as it is written; nothing where the record, free text by its standard, does not tell one."""
    try:
        stored = _fields(record)["plaq"]
        float(stored)
    except (KeyError, ValueError):
        return None
    return stored


def _verify_checksum(path: str | Path, records: dict[str, bytes], n_sites: int) -> None:
    if _CHECKSUM not in records:
        return
    try:
        fields = _fields(records[_CHECKSUM])
        stored = tuple(int(fields[name], 16) for name in ("suma", "sumb"))
    except (KeyError, ValueError) as error:
        raise BrokenConfigurationError(
            f"{path}: the {_CHECKSUM} record does not hold two sums in hexadecimal: {error}."
        ) from error
    found = _checksums(records[_DATA], n_sites)
    if found != stored:
        raise BrokenConfigurationError(
            f"{path}: the checksum is {found[0]:x} {found[1]:x}, not {stored[0]:x} {stored[1]:x}: it is damaged."
        )


def _checksums(data: bytes, n_sites: int) -> tuple[int, int]:
    """The two SciDAC sums: CRC-32 of each site's links, rotated by its number modulo 29 and 31, combined by XOR."""
    size, a, b = len(data) // n_sites, 0, 0
    for site in range(n_sites):
        crc = zlib.crc32(data[site * size : (site + 1) * size])
        a ^= _rotated(crc, site % 29)
        b ^= _rotated(crc, site % 31)
    return a, b


def _rotated(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & 0xFFFFFFFF


def _records(path: str | Path) -> dict[str, bytes]:
    """The LIME records by type; the first of each."""
    content, place = Path(path).read_bytes(), 0
    found: dict[str, bytes] = {}
    while place < len(content):
        if len(content) - place < _HEADER.size:
            raise BrokenConfigurationError(f"{path} ends inside a LIME header; it is cut or damaged.")
        magic, _, _, length, kind = _HEADER.unpack_from(content, place)
        if magic != _MAGIC:
            raise BrokenConfigurationError(f"{path} is not a LIME file, or is damaged at byte {place}.")
        place += _HEADER.size
        if len(content) - place < length:
            raise BrokenConfigurationError(f"{path} ends inside a LIME record; it is cut or damaged.")
        found.setdefault(kind.rstrip(b"\0").decode("ascii", "replace"), content[place : place + length])
        place += length + -length % 8
    return found


def _xml(root: str, fields: dict[str, object], attributes: str = "") -> bytes:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f'<?xml version="1.0" encoding="UTF-8"?><{root}{attributes}>{inside}</{root}>'.encode()


def _fields(record: bytes) -> dict[str, str]:
    """Names and texts of the elements of an XML record, namespaces left out; raises ``ValueError`` if it is no XML."""
    try:
        elements = ElementTree.fromstring(record.rstrip(b"\0").strip()).iter()
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"it is no XML ({error})") from error
    return {re.sub(r"^\{.*\}", "", one.tag): (one.text or "").strip() for one in elements}
