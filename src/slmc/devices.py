"""The devices of JAX, over which chains spread."""

import equinox as eqx
import jax
import numpy as np


def why_none() -> str:
    """What JAX says where it finds no device of the kind that its settings ask for; empty if it finds one."""
    try:
        jax.devices()
    except Exception as error:
        platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
        asked = f"JAX_PLATFORMS = {str(platforms)[:60]!r}" if platforms else "the settings of JAX"
        return (
            f"{asked}: no such device can be used here ({' '.join(str(error).split())[:200] or type(error).__name__})"
        )
    return ""


def is_confined() -> bool:
    """Whether chains have a single CPU device though the number was not chosen: JAX was used before the import."""
    chosen = jax.config.jax_num_cpu_devices not in (None, -1)  # type: ignore[attr-defined]
    return not chosen and len(jax.devices()) == 1 and jax.devices()[0].platform == "cpu"


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
