"""Runs that are stopped where a test wants it, and whether they come to the same bits."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.records import Records
from undrawn import COMMAND, STOP


def stopped_at(
    checkpoint: Path,
    *arguments: str | Path,
    by: signal.Signals = signal.SIGKILL,
    environment: dict[str, str] | None = None,
) -> tuple[int, str]:
    """The command line in a process of its own, which gets a signal in the block after a checkpoint; exit code, output.

    The process has as many devices as this one, so that bits can be compared with those of runs in this process.
    """
    command = [*COMMAND, *map(str, arguments)]
    given = os.environ if environment is None else environment
    given = {"JAX_NUM_CPU_DEVICES": str(len(jax.devices("cpu"))), **given, STOP: f"{by.value} {checkpoint}"}
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=given)
    return ended.returncode, ended.stdout


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@contextlib.contextmanager
def killed_before_checkpoint(fatal: int) -> Iterator[None]:
    """A run in this process, within, ends between the records of a block and the checkpoint of that number."""
    save = Checkpoints.save

    def killed(self: Checkpoints, number: int, *rest: object) -> None:
        if number == fatal:
            raise Killed
        save(self, number, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(Killed):
            yield


def assert_same_run(one: Path, other: Path) -> None:
    """Records of every phase, and the model, to the bit."""
    for group in ("thermalisation", "learning", "measurement", "baseline"):
        expected, found = (Records(path / "records.zarr").read(group) for path in (one, other))
        assert expected
        assert set(expected) == set(found)
        for name, values in expected.items():
            np.testing.assert_array_equal(values, found[name], err_msg=f"{group}/{name}")
    assert (one / "model.eqx").read_bytes() == (other / "model.eqx").read_bytes()
