"""LIME: the container of ILDG configurations, a file of records that each have a type and a length."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from slmc.systems.gauge.stored_links import BrokenConfigurationError

_MAGIC = 0x456789AB
LIME_MAGIC = struct.pack(">I", _MAGIC)
"""The bytes with which every record begins, and so every file."""

_HEADER = struct.Struct(">IHHQ128s")
_LONGEST_TEXT = 2**20
"""Records that describe something are read up to this length; those longer are data."""


class Record(NamedTuple):
    """Where the content of a record lies in its file."""

    path: Path
    place: int
    length: int

    def content(self) -> bytes:
        """The bytes, which lie inside of the file: no more is allocated than it has."""
        with self.path.open("rb") as file:
            file.seek(self.place)
            return file.read(self.length)

    def text(self) -> bytes:
        """The bytes of a record that describes something; raises ``ValueError`` where it is too long for that."""
        if self.length > _LONGEST_TEXT:
            raise ValueError(f"it has {self.length} bytes, more than a description takes")
        return self.content()


def write_lime(path: str | Path, records: Sequence[tuple[str, bytes]]) -> None:
    """Writes records of the given types and contents as one message."""
    with open(path, "wb") as file:
        for number, (kind, content) in enumerate(records):
            flags = 0x8000 * (number == 0) + 0x4000 * (number == len(records) - 1)
            file.write(_HEADER.pack(_MAGIC, 1, flags, len(content), kind.encode()))
            file.write(content + b"\0" * (-len(content) % 8))


def lime_records(path: str | Path) -> dict[str, Record]:
    """The records by type; the first of each. Raises ``BrokenConfigurationError`` for a file that is cut or no LIME."""
    path = Path(path)
    size = path.stat().st_size
    records: dict[str, Record] = {}
    with path.open("rb") as file:
        while file.tell() < size:
            kind, record = _next(path, file, size)
            records.setdefault(kind, record)
            file.seek(record.place + record.length + -record.length % 8)
    return records


def _next(path: Path, file: BinaryIO, size: int) -> tuple[str, Record]:
    place = file.tell()
    header = file.read(_HEADER.size)
    if header[:4] != _MAGIC.to_bytes(4, "big")[: len(header)]:
        raise BrokenConfigurationError(f"{path} is not a LIME file, or is damaged at byte {place}.")
    if len(header) < _HEADER.size:
        raise BrokenConfigurationError(f"{path} ends inside a LIME header; it is cut or damaged.")
    _, _, _, length, kind = _HEADER.unpack(header)
    if size - file.tell() < length:
        raise BrokenConfigurationError(f"{path} ends inside a LIME record; it is cut or damaged.")
    return kind.rstrip(b"\0").decode("ascii", "replace"), Record(path, file.tell(), length)
