"""Where the tests keep compiled programs between runs: ``$XDG_CACHE_HOME/slmc/tests``, by default in ``~/.cache``.

Programs of XLA are told apart by what they are made of. Numba looks at the file of the outermost loop alone, so its
folder has the name of a digest of all files with loops: what another version compiled is never taken for this one's,
and what this one compiled serves every checkout of it. To measure without what an earlier run left:
``XDG_CACHE_HOME=$(mktemp -d) pytest``.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parents[1] / "src" / "slmc"
DAYS = 14
"""Programs are kept that long."""


def folder() -> Path:
    """The folder of all caches of the tests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slmc" / "tests"


def share() -> None:
    """Tells JAX and Numba where compiled programs are kept, unless they have been told; old ones are deleted."""
    for variable, name in (("JAX_COMPILATION_CACHE_DIR", f"xla-{_machine()}"), ("NUMBA_CACHE_DIR", _loops())):
        if variable not in os.environ:
            path = folder() / name
            path.mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str(path)
            if variable == "NUMBA_CACHE_DIR":
                _serve_every_checkout(path)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _forget(time.time() - DAYS * 24 * 3600)


def compile_loops_once() -> None:
    """Of several processes that want the same loop, one compiles it and the others wait for what it keeps.

    To be called before the package is imported.
    """
    if "NUMBA_CACHE_DIR" not in os.environ:
        return
    import numba

    cfunc = numba.cfunc

    def in_turn(*arguments: Any, **named: Any) -> Callable[[Any], Any]:
        compiled = cfunc(*arguments, **named)

        def locked(function: Any) -> Any:
            # Loops of a system call each other; those of two systems are compiled at the same time.
            name = f"lock-{function.__module__.rpartition('.')[0]}"
            with Path(os.environ["NUMBA_CACHE_DIR"], name).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return compiled(function)

        return locked

    numba.cfunc = in_turn


def _serve_every_checkout(cache: Path) -> None:
    """Numba keeps the loops of a folder of sources under its name and a digest of its path: links to one place for all.

    Versions that look at the times of files, not at what is in them, compile for each checkout anew.
    """
    for sources in sorted({path.parent for path, _ in _with_loops()}):
        digest = hashlib.sha1(str(sources).encode(), usedforsecurity=False).hexdigest()
        shared = cache / "-".join(("slmc", *sources.relative_to(SOURCES).parts))
        shared.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (cache / f"{sources.name}_{digest}").symlink_to(shared.name)


def _machine() -> str:
    """A digest of the processor, for which programs are made: a home may be shared by several."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]


def _loops() -> str:
    """The name for a digest of all files with loops, and of those beside them from which loops have their constants."""
    with_loops = _with_loops()
    beside = {path.parent for path, _ in with_loops} - {SOURCES}
    texts = dict(with_loops)
    for sources in beside:
        texts |= {path: path.read_bytes() for path in sources.glob("*.py")}
    digest = hashlib.sha256()
    for _, text in sorted(texts.items()):
        digest.update(text)
    return f"numba-{digest.hexdigest()[:12]}"


@functools.cache
def _with_loops() -> tuple[tuple[Path, bytes], ...]:
    """Files of the package with loops, and what is in them."""
    texts = ((path, path.read_bytes()) for path in sorted(SOURCES.rglob("*.py")))
    return tuple((path, text) for path, text in texts if b"numba" in text)


def _forget(before: float) -> None:
    """Deletes what was made before a time, and folders in which nothing was."""
    for path in folder().iterdir() if folder().is_dir() else ():
        if path.name.startswith("numba-") and path.stat().st_mtime < before:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder().glob("xla-*/*"):
        try:
            if path.stat().st_mtime < before:
                path.unlink()
        except OSError:  # another run deletes it
            continue
