"""Importing the package gives JAX a device for every core, also where a system that is loaded later starts JAX."""

import os
import subprocess
import sys


def printed(script: str) -> list[str]:
    """The words that a script prints, in a process without what the tests set."""
    set_here = ("JAX_NUM_CPU_DEVICES", "NETKET_SHARDING")
    environment = {name: value for name, value in os.environ.items() if name not in set_here}
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout.split()


def test_wave_functions_start_jax_on_import_and_find_all_devices():
    script = (
        "import slmc, jax, slmc.devices; from slmc.runs import settings_of; settings_of({'system': 'wavefunction'}); "
        "print(len(jax.devices()), slmc.devices.is_confined(), jax.sharding.get_abstract_mesh().empty)"
    )
    n_devices, confined, without_mesh = printed(script)
    assert int(n_devices) >= 2
    assert confined == "False"
    assert without_mesh == "True"


def test_jax_that_was_used_before_stays_as_it_is():
    script = (
        "import jax.numpy as jnp; jnp.zeros(1); import slmc, jax, slmc.devices; "
        "print(len(jax.devices()), slmc.devices.is_confined())"
    )
    assert printed(script) == ["1", "True"]
