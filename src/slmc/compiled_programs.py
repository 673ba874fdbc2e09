"""Programs that XLA has compiled stay in the user's cache folder: a second start does not compile them again."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

LARGEST = 2**29
"""Bytes that the folder holds; beyond, programs that were not used for longest are deleted."""

_SHORTEST = 0.1
"""Seconds that a program takes to compile to be worth a file."""


def keep() -> None:
    """From here on programs go to ``folder()`` and come from there.

    Unless JAX was told of a folder (JAX_COMPILATION_CACHE_DIR), which then is used as JAX does. Without a folder
    that can be written nothing is kept, and nothing is said: all is compiled as before.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return
    _make_room(place)
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # What JAX did before it knew of the folder, it would go on doing.
    compilation_cache.reset_cache()


def folder() -> Path:
    """Below XDG_CACHE_HOME or ``~/.cache``, a folder for each kind of processor: many machines may share a home."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "slmc" / f"programs-{_kind_of_processor()}"


def _kind_of_processor() -> str:
    """A digest of what the processor can do, which programs are compiled for."""
    text = repr(os.uname()[4:]) if hasattr(os, "uname") else ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        text += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _make_room(place: Path) -> None:
    """Deletes the files that were read or written longest ago, until half of the room is free."""
    with contextlib.suppress(OSError):
        files = [(file.stat(), file) for file in place.iterdir() if file.is_file()]
        total = sum(status.st_size for status, _ in files)
        if total <= LARGEST:
            return
        for status, file in sorted(files, key=lambda entry: max(entry[0].st_atime, entry[0].st_mtime)):
            file.unlink(missing_ok=True)
            total -= status.st_size
            if total <= LARGEST / 2:
                return
