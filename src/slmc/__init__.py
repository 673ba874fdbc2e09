"""Self-learning Monte Carlo: a learned model proposes, the exact weight accepts or rejects.

Importing the package switches JAX to float64, which every decision needs, gives each matrix one BLAS thread and JAX a
CPU device for every core; where JAX has a GPU plugin, XLA's products by Triton are switched off. Import slmc before JAX
is first used, or some of this comes too late.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from slmc import starting

starting.begin()

import jax  # noqa: E402
import scipy.linalg  # noqa: E402, F401  (loads the BLAS that jaxlib calls, so that its threads can be limited)
from threadpoolctl import threadpool_limits  # noqa: E402

jax.config.update("jax_enable_x64", True)
if "OPENBLAS_NUM_THREADS" not in os.environ:
    # Small matrices gain nothing from threads and lose a factor of 20 to their waiting on a busy machine.
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

from slmc import devices  # noqa: E402

devices.use_all_cores()

from slmc.montecarlo import (  # noqa: E402
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
from slmc.selflearning import CumulativeUpdate, Learner, fit, fit_linear, learn  # noqa: E402

if TYPE_CHECKING:
    from slmc import report
    from slmc.runs import info, resume, run, scan

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
    "report",
    "resume",
    "run",
    "run_chains",
    "scan",
    "tune_step_size",
]


def __getattr__(name: str) -> Any:
    """What runs and reports is imported when it is asked for: scripts that do by hand what a run does never need it."""
    if name in ("info", "resume", "run", "scan"):
        return getattr(import_module("slmc.runs"), name)
    if name == "report":
        return import_module("slmc.report")
    raise AttributeError(f"module 'slmc' has no attribute {name!r}")
