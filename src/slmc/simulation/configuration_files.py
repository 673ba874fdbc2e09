"""Configurations that a run writes as files of their own: each once, whatever interrupts the run."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax

from slmc.montecarlo import Configuration
from slmc.system import ConfigurationFiles, UserError

CONFIGURATIONS = "configurations"
"""Name of the folder in the directory of a run."""


def write_configurations(
    directory: Path, files: ConfigurationFiles, configurations: Configuration, n_steps: int
) -> None:
    """Writes those of all chains, on a leading axis, after ``n_steps`` of the measurement, if it is the time for it.

    They are written before the checkpoint that counts them. A block that is computed again gives the same bytes, and
    finds its files: none is ever replaced. Raises ``UserError`` for a file of another content under the name of one.
    """
    if not n_steps or n_steps % files.every:
        return
    folder, host = directory / CONFIGURATIONS, jax.device_get(configurations)
    folder.mkdir(exist_ok=True)
    for chain in range(len(jax.tree.leaves(host)[0])):
        path = folder / _name(files, chain, n_steps)
        unfinished = folder / f".{path.name}.{os.getpid()}"
        try:
            files.write(unfinished, jax.tree.map(lambda leaf, place=chain: leaf[place], host), chain, n_steps)
            _put(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    _synchronise(folder)


def missing_configurations(directory: Path, files: ConfigurationFiles, n_chains: int, n_steps: int) -> list[str]:
    """Names of those that a run of so many recorded steps has written, and that are not there."""
    folder = directory / CONFIGURATIONS
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return [name for name in _names(files, n_chains, n_steps) if name not in there]


def _names(files: ConfigurationFiles, n_chains: int, n_steps: int) -> Iterator[str]:
    for step in range(files.every, n_steps + 1, files.every):
        for chain in range(n_chains):
            yield _name(files, chain, step)


def _name(files: ConfigurationFiles, chain: int, step: int) -> str:
    return f"chain{chain}-{step:06d}{files.suffix}"


def _put(unfinished: Path, path: Path) -> None:
    """Gives a whole file its name. The directory of a run belongs to one process, so that nobody comes between."""
    if not path.exists():
        _synchronise(unfinished)
        os.replace(unfinished, path)
    elif path.read_bytes() != unfinished.read_bytes():
        raise UserError(
            f"{path} is not the configuration that this run writes there, and is not replaced; move it elsewhere and "
            "continue with slmc resume."
        )


def _synchronise(path: Path) -> None:
    """What a checkpoint counts on must outlast a power cut, as the checkpoint does."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
