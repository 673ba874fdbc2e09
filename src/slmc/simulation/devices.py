"""Which devices a run uses."""

import os

import equinox as eqx
import jax
import numpy as np


def use_all_cores() -> None:
    """One CPU device per core that this process may use, so that chains spread over them; at least two.

    Two on a single core too, because the bits of a run are the same on any number of devices but one. Must come before
    JAX is used for the first time; does nothing where ``jax_num_cpu_devices`` is set already or a GPU is in charge.
    """
    if jax.config.jax_num_cpu_devices in (None, -1):  # type: ignore[attr-defined]
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jax.config.update("jax_num_cpu_devices", max(2, n_cores))


def forget_failed_programs() -> None:
    """Keeps JAX from telling once more, when the process ends, of a compiled program that raised an error.

    For every device it remembers the last program that may call the host, and waits for it at the end; here one that
    succeeds takes the place of one that did not.
    """
    for device in jax.local_devices():
        jax.block_until_ready(_harmless(jax.device_put(np.zeros(()), device)))


@eqx.filter_jit
def _harmless(x: jax.Array) -> jax.Array:
    return eqx.error_if(x, x < 0, "cannot happen")
