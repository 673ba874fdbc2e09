"""Configurations in the ILDG format: LIME records with the links in binary and what describes them in XML."""

import math
import re
import zlib
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from slmc.lattice import Shape
from slmc.systems.gauge.lime import Record, lime_records, write_lime
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.stored_links import (
    BrokenConfigurationError,
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

_FORMAT, _DATA, _CHECKSUM, _RECORD, _NAME = (
    "ildg-format",
    "ildg-binary-data",
    "scidac-checksum",
    "scidac-record-xml",
    "ildg-data-lfn",
)


class _Described(NamedTuple):
    """What the numbers of a file are."""

    shape: Shape
    n_colours: int
    bits: int

    @property
    def bytes_per_site(self) -> int:
        return self.n_colours**2 * self.bits


def write_ildg(path: str | Path, links: Links, logical_file_name: str = "") -> None:
    """Writes links as su{N}gauge in double precision, with the SciDAC checksum and the plaquette (``usqcdInfo``).

    Records: ildg-format, scidac-record-xml, ildg-binary-data, ildg-data-lfn (if a name is given), scidac-checksum.
    Raises ``ValueError`` unless there are four dimensions.
    """
    check_dimensions(links, "ILDG")
    data = in_file_order(links).astype(">c16").tobytes()
    extents = dict(zip(("lx", "ly", "lz", "lt"), links.shape[1:5], strict=True))
    described = {"version": "1.0", "field": f"su{links.shape[-1]}gauge", "precision": "64", **extents}
    a, b = _checksums(data, math.prod(links.shape[1:5]))
    records = [
        (_FORMAT, _xml("ildgFormat", described, ' xmlns="http://www.lqcd.org/ildg"')),
        (_RECORD, _xml("usqcdInfo", {"version": "1.0", "plaq": f"{mean_plaquette(links):.15g}",
                                     "linktr": f"{mean_link_trace(links):.15g}"})),
        (_DATA, data),
        *([(_NAME, logical_file_name.encode())] if logical_file_name else []),
        (_CHECKSUM, _xml("scidacChecksum", {"version": "1.0", "suma": f"{a:x}", "sumb": f"{b:x}"})),
    ]  # fmt: skip
    write_lime(path, records)


def read_ildg(path: str | Path, shape: Shape | None = None) -> Links:
    """The links of a file, su{N}gauge in 32 or 64 bits.

    ``shape``, which is otherwise compared, is needed where the file has no ildg-format record; N and the precision then
    follow from the length of the data. Raises ``BrokenConfigurationError`` for a file that is not of this format or is
    cut short, where the checksum or the plaquette is not the one stored, and where links are not in SU(N). The format
    asks for neither checksum nor plaquette: without them links in SU(N) are all that is verified, which an
    ``UnverifiedLinksWarning`` says. A record of the user that holds no plaquette is left alone.
    """
    return warned(stored_ildg(path, shape))


def stored_ildg(path: str | Path, shape: Shape | None = None) -> StoredLinks:
    """As ``read_ildg``, with the notes instead of warnings."""
    records = lime_records(path)
    if _DATA not in records:
        raise BrokenConfigurationError(f"{path} has no {_DATA} record; it is no ILDG configuration.")
    length = records[_DATA].length
    described = _described(path, records, shape)
    check_length(path, length, described.shape, described.bytes_per_site)
    data = records[_DATA].content()
    has_checksum = _verify_checksum(path, records, data, math.prod(described.shape))
    plaquette = _stored_plaquette(records.get(_RECORD))
    numbers = np.frombuffer(data, f">f{described.bits // 8}").astype(np.float64).view(np.complex128)
    matrices = numbers.reshape(*described.shape[::-1], 4, described.n_colours, described.n_colours)
    stored = on_the_group(path, matrices, described.bits, _notes(path, records, has_checksum, plaquette))
    if plaquette is not None:
        average = mean_plaquette(stored.links)
        check_average(path, average, plaquette, described.bits, "plaquette", verified=has_checksum)
    return stored


def _described(path: str | Path, records: dict[str, Record], shape: Shape | None) -> _Described:
    if _FORMAT not in records:
        return _from_length(path, records[_DATA].length, shape)
    try:
        fields = _fields(records[_FORMAT])
        extents = checked_extents(path, [int(fields[name]) for name in ("lx", "ly", "lz", "lt")])
        field = re.fullmatch(r"su(\d{1,3})gauge", fields["field"], re.ASCII)
        if field is None or int(field[1]) < 2 or fields["precision"] not in ("32", "64"):
            raise ValueError(f"field {fields['field']!r} in {fields['precision']!r} bits")
    except (KeyError, ValueError) as error:
        if isinstance(error, BrokenConfigurationError):
            raise
        raise BrokenConfigurationError(
            f"{path}: the {_FORMAT} record lacks a field or has an unknown one: {str(error)[:200]}."
        ) from error
    if shape is not None and tuple(shape) != extents:
        raise BrokenConfigurationError(f"{path} holds links of a lattice {list(extents)}, not {list(shape)}.")
    return _Described(extents, int(field[1]), int(fields["precision"]))


def _from_length(path: str | Path, length: int, shape: Shape | None) -> _Described:
    """N and precision: 4·N² complex numbers a site of 8 or 16 bytes, no length fits both, for √2 is irrational."""
    if shape is None:
        raise BrokenConfigurationError(
            f"{path} has no {_FORMAT} record: it does not tell its lattice. Give its shape, (x, y, z, t)."
        )
    extents = checked_extents(path, shape)
    per_link, rest = divmod(length, 4 * math.prod(extents))
    for bits in (64, 32):
        n_colours = math.isqrt(4 * per_link // bits)
        if rest == 0 and n_colours > 1 and n_colours**2 * bits == 4 * per_link:
            return _Described(extents, n_colours, bits)
    raise BrokenConfigurationError(
        f"{path}: {length} bytes are no SU(N) links on a lattice of {list(extents)}, in 32 or in 64 bits; give another "
        "shape, or the file is cut."
    )


def _notes(path: str | Path, records: dict[str, Record], has_checksum: bool, plaquette: str | None) -> tuple[str, ...]:
    if has_checksum or plaquette is not None:
        return ()
    missing = "neither checksum nor plaquette" if _FORMAT in records else "links alone"
    return (f"{path} holds {missing}: nothing was verified but that the links are in the group.",)


def _stored_plaquette(record: Record | None) -> str | None:
    """The plaquette as it is written; nothing where the record, free text by its standard, does not tell one."""
    try:
        stored = _fields(record)["plaq"] if record else ""
        float(stored)
    except (KeyError, ValueError):
        return None
    return stored


def _verify_checksum(path: str | Path, records: dict[str, Record], data: bytes, n_sites: int) -> bool:
    """Whether there is a checksum, which then is that of the data."""
    if _CHECKSUM not in records:
        return False
    try:
        fields = _fields(records[_CHECKSUM])
        stored = tuple(int(fields[name], 16) for name in ("suma", "sumb"))
    except (KeyError, ValueError) as error:
        raise BrokenConfigurationError(
            f"{path}: the {_CHECKSUM} record does not hold two sums in hexadecimal: {str(error)[:200]}."
        ) from error
    computed = _checksums(data, n_sites)
    if computed != stored:
        raise BrokenConfigurationError(
            f"{path}: the checksum is {computed[0]:x} {computed[1]:x}, not {fields['suma'][:40]} "
            f"{fields['sumb'][:40]}: it is damaged."
        )
    return True


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


def _xml(root: str, fields: dict[str, object], attributes: str = "") -> bytes:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f'<?xml version="1.0" encoding="UTF-8"?><{root}{attributes}>{inside}</{root}>'.encode()


def _fields(record: Record) -> dict[str, str]:
    """Names and texts of the elements of an XML record, namespaces left out; raises ``ValueError`` if it is no XML."""
    text = record.text().rstrip(b"\0").strip()
    # Entities defined in terms of each other grow without bound, whatever the size of the file.
    if b"<!DOCTYPE" in text:
        raise ValueError("it defines a document type")
    try:
        elements = list(ElementTree.fromstring(text).iter())
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"it is no XML ({error})") from error
    return {re.sub(r"^\{.*\}", "", element.tag): (element.text or "").strip() for element in elements}
