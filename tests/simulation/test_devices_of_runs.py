"""The same records whatever the number of devices over which chains spread."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import jax
import slmc
from slmc import runs
from slmc.montecarlo import chains
from slmc.simulation import Records

runs._write_report = lambda opened: opened.directory / "report.html"
settings = {
    "target.shape": [2], "exact.update": "local", "exact.tuning_steps": 4, "learning.n_rounds": 0,
    "thermalisation.n_steps": 4, "baseline.n_steps": 0, "measurement.n_chains": 24, "measurement.n_steps": 8,
    "measurement.block_size": 4, "measurement.n_thermalise": 4,
}
assert len(jax.devices()) == 8
found = []
for n_devices in (2, 3, 8):
    chains._devices = lambda n_devices=n_devices: jax.devices()[:n_devices]
    result = runs.run("double_exchange_small", settings, Path(sys.argv[1]) / str(n_devices), quiet=True)
    records = Records(result.directory / "records.zarr", read_only=True)
    found.append({name: values.tobytes() for group in ("thermalisation", "measurement")
                  for name, values in records.read(group).items()})
assert found[0] and found[0] == found[1] == found[2]
"""


def test_two_three_and_eight_devices_give_the_same_records(tmp_path: Path) -> None:
    left_out = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"JAX_NUM_CPU_DEVICES": "8", "PJRT_NPROC": "16"}
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-2000:]


def test_one_device_is_two() -> None:
    """On a single one XLA rounds the last bit differently."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-c", "import slmc, jax, json; print(json.dumps(len(jax.devices())))"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout) == 2
