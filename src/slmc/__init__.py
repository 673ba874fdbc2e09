"""Self-learning Monte Carlo: a learned model proposes, the exact weight accepts or rejects.

Importing the package switches JAX to float64, which every decision needs, gives each matrix one BLAS thread and JAX a
CPU device for every core; where JAX has a GPU plugin, XLA's products by Triton are switched off. Import slmc before JAX
is first used, or some of this comes too late. JAX itself is imported when something is asked for that needs it.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from slmc import starting

starting.begin()

if "OPENBLAS_NUM_THREADS" not in os.environ:
    # Small matrices gain nothing from threads and lose a factor of 20 to their waiting on a busy machine. Libraries
    # read this when they are loaded; those that are loaded already, or do not read it, are told.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, user_api="blas")
# XLA's thread pool has one thread a core by default. Batched LAPACK calls of as many CPU devices block all of them and
# wait for ever, so there are twice as many (see ``montecarlo.chains``). More than that only look for work and slow the
# cores down.
os.environ.setdefault("PJRT_NPROC", str(max(4, 2 * (os.cpu_count() or 1))))
if not (os.environ["PJRT_NPROC"].isdecimal() and int(os.environ["PJRT_NPROC"])):
    raise ValueError(
        f"the environment variable PJRT_NPROC must be a whole number; got {os.environ['PJRT_NPROC'][:60]!r}"
    )
# On GPUs XLA hands some products of float64 matrices to Triton, which cannot compile them (jaxlib 0.11); cuBLAS can.
if find_spec("jax_plugins") and "xla_gpu_enable_triton_gemm" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_enable_triton_gemm=false"
starting.configure_jax()

if TYPE_CHECKING:
    from slmc import report
    from slmc.montecarlo import (
        HamiltonianTrajectory,
        LocalSweep,
        MetropolisHastings,
        Sequence,
        Sphere,
        Target,
        Update,
        init_chains,
        run_chains,
        tune_step_size,
    )
    from slmc.runs import info, measure, resume, run, scan
    from slmc.selflearning import CumulativeUpdate, Learner, fit, fit_linear, learn

__version__ = "0.1.0"

__all__ = [
    "CumulativeUpdate",
    "HamiltonianTrajectory",
    "Learner",
    "LocalSweep",
    "MetropolisHastings",
    "Sequence",
    "Sphere",
    "Target",
    "Update",
    "fit",
    "fit_linear",
    "info",
    "init_chains",
    "learn",
    "measure",
    "report",
    "resume",
    "run",
    "run_chains",
    "scan",
    "tune_step_size",
]

_RUNS = ("info", "measure", "resume", "run", "scan")
_LEARNING = ("CumulativeUpdate", "Learner", "fit", "fit_linear", "learn")
_PARTS = ("devices", "montecarlo", "report", "selflearning")


def __getattr__(name: str) -> Any:
    """What is asked for is imported then: the command line and small scripts do not wait for what they do not use."""
    if name in _PARTS:
        return import_module(f"slmc.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'slmc' has no attribute {name!r}")
    part = "runs" if name in _RUNS else "selflearning" if name in _LEARNING else "montecarlo"
    found = getattr(import_module(f"slmc.{part}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
