"""Killed at any time, a run that is resumed gives the same bits as one that was left alone."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from killing import assert_same_run, stopped_at
from slmc.simulation.records import Records
from undrawn import COMMAND

SETTINGS = """
system = "double_exchange"
seed = 5
[target]
shape = [2, 2]
coupling = 2.0
temperature = 0.2
[model]
name = "network"
n_layers = 1
n_channels = 2
n_hidden = 3
[inner]
nested = "linear"
update = "heat-bath"
n_guide_updates = 2
n_updates = 3
[exact]
n_steps = 3
[thermalisation]
n_steps = 120
[learning]
n_rounds = 3
n_steps = [30, 40, 50]
training_steps = 100
optimiser = "muon"
single_precision = true
[measurement]
n_chains = 8
n_steps = 120
n_thermalise = 20
block_size = 20
[baseline]
n_steps = 60
"""

# Bits are compared as users get them.
QUICK_COMPILATION = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in QUICK_COMPILATION}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run([*COMMAND, "run", str(config), "--out", str(directory), "-q"], check=True, env=ENVIRONMENT)
    return directory


def phase_of(directory: Path) -> str:
    """The phase a run is in: what its last checkpoint says."""
    try:
        return json.loads((directory / "progress.json").read_text())["phase"]
    except (OSError, ValueError):
        return "thermalise" if (directory / "config.toml").exists() else "not started"


def test_stopped_and_killed_in_every_phase_a_run_gives_the_same_bits(
    tmp_path: Path, config: Path, undisturbed: Path
) -> None:
    """One run: SIGTERM while it thermalises, SIGINT while it learns, then SIGKILL in a block of each later phase.

    In the end its records are cut as by a crash between two writes, of different lengths and with no checkpoint for
    them, and it goes on with four devices in place of one a core.
    """
    directory = tmp_path / "run"
    stages = [("thermalise", 3, signal.SIGTERM)]
    stages += [("learn", 8, signal.SIGINT), ("measure", 13, signal.SIGKILL), ("baseline", 19, signal.SIGKILL)]
    command = ["run", str(config), "--out", str(directory)]
    for phase, number, kind in stages:
        marker = directory / "checkpoints" / f"{number:06d}"
        code, output = stopped_at(marker, *command, by=kind, environment=ENVIRONMENT)
        assert phase_of(directory) == phase
        if kind != signal.SIGKILL:
            assert code == 75
            assert f"stopped by {kind.name}; continue with: slmc resume" in output
        else:
            assert code == -signal.SIGKILL
        command = ["resume", str(directory)]
    latest = max((directory / "checkpoints").iterdir())
    shutil.rmtree(latest)
    Records(directory / "records.zarr")._root["baseline/energy"].append(np.full((8, 7), 1e9), axis=1)
    subprocess.run([*COMMAND, *command, "-q"], check=True, env={**ENVIRONMENT, "JAX_NUM_CPU_DEVICES": "4"})
    assert_same_run(undisturbed, directory)
