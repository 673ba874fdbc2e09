"""Every test runs with shapes checked, strict promotion of ranks and types, two CPU devices, warnings as errors."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import caches
import undrawn

# Programs are compiled once for all processes of a test run, those that tests start included, and kept for the next
# run. Set before JAX and Numba are imported; the processes that share the work inherit it.
caches.share()
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Compiling takes most of the time of the tests, and less of it without optimising. Tests that compare bits between
# processes leave this out.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# A flag that XLA does not know ends the process; from jaxlib 0.11 on the first is one.
os.environ.setdefault(
    "XLA_FLAGS",
    ("--xla_cpu_use_fusion_emitters=false " if version("jaxlib").startswith("0.10.") else "")
    + "--xla_cpu_parallel_codegen_split_count=1",
)
# On import NetKet would set a mesh of all devices for the whole process.
os.environ.setdefault("NETKET_SHARDING", "0")

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

BENEATH = (
    "arviz_stats.base",
    "equinox",
    "jinja2",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "netket",
    "numba.extending",
    "optax.contrib",
    "orbax.checkpoint",
    "pydantic",
    "rich.progress",
    "scipy.interpolate",
    "scipy.optimize",
    "scipy.sparse.linalg",
    "scipy.stats",
    "threadpoolctl",
    "typer",
    "xarray",
    "zarr",
)
"""What the package imports, from the libraries that it is made of."""

GIVE_BACK = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Gives free memory back to the system, where the C library is that of GNU."""

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

caches.compile_loops_once()
# Whatever the package imports while its hook is at work is compiled from source again: a third of the time of a start.
for library in BENEATH:
    if find_spec(library.split(".")[0]):
        import_module(library)

# Shapes and types in the signatures of the package are checked at run time from here on.
install_import_hook("slmc", "runtime_checks.check")

import slmc  # noqa: E402, F401

# What is imported stays, and tracing makes millions of short-lived objects: collecting took a twentieth of the time.
gc.freeze()
gc.set_threshold(20_000, 50, 100)

TAKEN_OUT = [
    folder.name
    for folder in (Path(__file__).parent / "systems").iterdir()
    if any(folder.glob("test_*.py")) and find_spec(f"slmc.systems.{folder.name}") is None
]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """A system may be taken out with its entry point: its own tests go with it."""
    return True if collection_path.parent.name == "systems" and collection_path.name in TAKEN_OUT else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """So do its examples, pages and benchmarks, which carry its name."""
    items[:] = [item for item in items if not any(name in item.nodeid for name in TAKEN_OUT)]


@pytest.fixture(name="slmc")
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process; returns exit code, output and errors."""
    from slmc.cli import main

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["slmc", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def as_users_call() -> Iterator[None]:
    """Without the types checked, as the package is used: what is then refused it refuses itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module", autouse=True)
def _undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures of reports are composed and not drawn, which takes most of the time of a small run, but in tests of them.

    A module that looks at figures says ``DRAWS = True``.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "DRAWS", False):
            from slmc.report import drawing

            patch.setattr(drawing, "Figure", undrawn.figure())
        yield


@pytest.fixture(scope="module", autouse=True)
def _forget_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Programs are forgotten after a file where they take much room, lest those of the next be compiled anew.

    A file that looks at what is compiled, or changes what is, says ``TRACED_ANEW = True``: nothing is known before it.
    """
    if getattr(request.module, "TRACED_ANEW", False):
        jax.clear_caches()
    yield
    if takes_much_room():
        jax.clear_caches()
        gc.collect()
        if GIVE_BACK:  # what programs were compiled with would stay with the process
            GIVE_BACK(0)


def takes_much_room() -> bool:
    """Whether the process has half of the 65,530 regions of memory that Linux allows it, or more than 1.5 GiB.

    With some versions of JAX every compiled program has regions of its own. Where nothing can be known: always.
    """
    try:
        n_regions = Path("/proc/self/maps").read_bytes().count(b"\n")
        n_pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return True
    return n_regions > 32_765 or n_pages * os.sysconf("SC_PAGE_SIZE") > 3 * 2**29
