"""Small files of a run: written as a whole or not at all, with checksums where they are read again."""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray


def write_whole(path: Path, text: str) -> None:
    """Writes a text, so that whatever happens there is the old file or the new one."""
    unfinished = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", errors="replace")
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def signed(about: dict[str, Any]) -> str:
    """JSON with a checksum of itself, which ``is_signed`` compares."""
    return json.dumps({**about, "crc32": zlib.crc32(json.dumps(about).encode())})


def is_signed(about: dict[str, Any]) -> bool:
    """Whether what was read fits its checksum; what earlier versions wrote has none."""
    rest = {name: value for name, value in about.items() if name != "crc32"}
    return "crc32" not in about or about["crc32"] == zlib.crc32(json.dumps(rest).encode())


def checksum(path: Path) -> int | None:
    """That of the content of a file; ``None`` where there is none that can be read."""
    if not path.is_file():
        return None
    total = 0
    try:
        with path.open("rb") as file:
            while content := file.read(2**20):
                total = zlib.crc32(content, total)
    except OSError:
        return None
    return total


def write_arrays(path: Path, arrays: Mapping[str, xarray.DataArray]) -> None:
    """Writes measured values as NumPy's npz: each under its name, and its draws under ``NAME.draw``."""
    content = {name: values.values for name, values in arrays.items()}
    content |= {f"{name}.draw": values["draw"].values for name, values in arrays.items()}
    with path.open("wb") as file:
        np.savez(file, **content)  # type: ignore[arg-type]
