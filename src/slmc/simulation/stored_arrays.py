"""What a directory of records may hold, looked at before any of it is opened: nothing that runs, nothing that is huge.

Only zarr's third format is read, with arrays of float64 packed by the few codecs that ``Records`` writes or has
written; the second format can name codecs that run code from the file. No array may be larger than its files can hold.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmc.simulation.marks import Marks
from slmc.system import UserError

GROWING = ("draw", "block", "round", "evaluation", "step")
"""Dimensions along which something is appended."""

_CODECS = {"bytes", "zstd", "crc32c", "sharding_indexed"}
_LARGEST_METADATA = 2**20
LARGEST_CHUNK = 2**28
"""Bytes of metadata of one array, and of one chunk of numbers."""

_NOT_STORED = 2**26
"""Bytes of chunks that need not have a file: those that hold nothing but NaN were not always written."""


class DamagedRecordsError(UserError):
    """Records that are not what was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"the records {path} are damaged: {what}; no result can be trusted. Restore them from a copy, or make the "
            "run anew in another directory."
        )


def check_files(path: Path, marks: Marks | None = None) -> None:
    """Raises ``DamagedRecordsError`` unless a directory is a group of zarr's third format with nothing in it, at any
    depth, but such groups and arrays as are described above.

    Files must be there for as much as the ``marks`` of a checkpoint know of; without ``marks``, for all.
    """
    _check_node(path, path, marks)


def _check_node(path: Path, directory: Path, marks: Marks | None) -> None:
    """Checks the group or array in a directory, and what a group holds."""
    name = "." if directory == path else str(directory.relative_to(path))
    if not (directory / "zarr.json").is_file():
        raise DamagedRecordsError(path, f"there is no zarr.json of format 3 in {name}")
    metadata = _metadata(path, directory / "zarr.json")
    if metadata.get("zarr_format") != 3 or metadata.get("node_type") not in ("group", "array"):
        raise DamagedRecordsError(path, f"{name} is neither a group nor an array of zarr format 3")
    if metadata["node_type"] == "group":
        for child in sorted(directory.iterdir()):
            if child.is_dir() and not _is_left_behind(path, child, marks):
                _check_node(path, child, marks)
        return
    try:
        fault = _fault_of(directory, name, metadata, marks)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        fault = "its description makes no sense"
    if fault:
        raise DamagedRecordsError(path, f"{name}: {fault}")


def _is_left_behind(path: Path, directory: Path, marks: Marks | None) -> bool:
    """Whether a crash ended the making of a group or array, of which no checkpoint knows."""
    if marks is None or any((directory / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        return False
    name = str(directory.relative_to(path))
    return not any(known == name or known.startswith(f"{name}/") for known in (*marks.lengths, *marks.forms))


def _metadata(path: Path, file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_METADATA:
            raise DamagedRecordsError(path, f"{file.relative_to(path)} is far too long")
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise DamagedRecordsError(path, f"{file.relative_to(path)} cannot be read") from None
    if not isinstance(metadata, dict):
        raise DamagedRecordsError(path, f"{file.relative_to(path)} describes nothing")
    return metadata


def _fault_of(directory: Path, name: str, metadata: dict[str, Any], marks: Marks | None) -> str:
    """What is wrong with an array; empty if nothing is."""
    if metadata["data_type"] != "float64" or metadata.get("storage_transformers"):
        return f"its numbers are of another type than float64, {metadata['data_type']!r:.40}"
    unknown = set(_codec_names(metadata["codecs"])) - _CODECS
    if unknown:
        return f"it is packed by codecs that slmc does not write, {', '.join(sorted(unknown)):.60}"
    grid, keys = metadata["chunk_grid"], metadata["chunk_key_encoding"]
    if (
        grid["name"] != "regular"
        or keys["name"] != "default"
        or keys.get("configuration", {}).get("separator", "/") != "/"
    ):
        return "its chunks are not laid out as slmc does"
    shape, chunk = metadata["shape"], grid["configuration"]["chunk_shape"]
    if len(shape) != len(chunk) or not all(type(n) is int and n >= 0 for n in shape):
        return "its shape is none"
    if not all(type(n) is int and n > 0 for n in chunk) or 8 * math.prod(chunk) > LARGEST_CHUNK:
        return "its chunks are of a size that slmc does not write"
    n_files = sum(1 for file in (directory / "c").rglob("*") if file.is_file()) if (directory / "c").is_dir() else 0
    if 8 * math.prod(shape) > 8 * math.prod(chunk) * n_files + _NOT_STORED:
        return f"it claims to hold {shape} numbers, more than its files can"
    growing = [name in GROWING for name in metadata.get("dimension_names") or [""] * len(shape)]
    if marks is not None:
        if not marks.know(name, any(growing)):
            return ""
        known = marks.lengths.get(name, 0)
        shape = [min(size, known) if grows else size for size, grows in zip(shape, growing, strict=True)]
    return _missing(directory, metadata, shape, chunk)


def _codec_names(codecs: list[dict[str, Any]]) -> Iterator[str]:
    for codec in codecs:
        yield str(codec["name"])
        inside = codec.get("configuration", {})
        for name in ("codecs", "index_codecs"):
            yield from _codec_names(inside.get(name, []))


def _missing(directory: Path, metadata: dict[str, Any], shape: list[int], chunk: list[int]) -> str:
    """Which file is missing, of arrays with checksums, all chunks of which are written."""
    if "crc32c" not in _codec_names(metadata["codecs"]):
        return ""
    counts = [math.ceil(size / step) for size, step in zip(shape, chunk, strict=True)]
    for number in range(math.prod(counts)):
        place = []
        for count in reversed(counts):
            number, index = divmod(number, count)
            place.append(str(index))
        if not directory.joinpath("c", *reversed(place)).is_file():
            return f"the file c/{'/'.join(reversed(place))} is missing"
    return ""
