"""Checkpoints: everything needed to continue to the bit, written atomically by orbax.

A checkpoint is the list of array leaves of the run's state and of the lengths of its records. The structure is built
anew from the configuration, so no code is ever loaded from a file.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from slmc.simulation.errors import UserError

FORMAT = 1
_KEPT = 2


class Checkpoints:
    """Numbered checkpoints in a directory, the two latest kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())

    def save(self, number: int, state: Any, lengths: dict[str, int]) -> None:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        about = json.dumps({"format": FORMAT, "lengths": lengths, "n_leaves": len(leaves)})
        tree = {"about": np.frombuffer(about.encode(), np.uint8), **{f"leaf{i}": leaf for i, leaf in enumerate(leaves)}}
        self._writer.save(self._path(number).absolute(), args=ocp.args.PyTreeSave(tree))
        for old in self.numbers()[:-_KEPT]:
            shutil.rmtree(self._path(old), ignore_errors=True)

    def restore(self, template: Any) -> tuple[Any, dict[str, int]] | None:
        """The latest state, in the structure of ``template``, and the lengths of the records; ``None`` if there is none.

        Raises ``UserError`` if it is damaged or of another version.
        """
        numbers = self.numbers()
        if not numbers:
            return None
        path = self._path(numbers[-1])
        advice = (
            f"delete {path} and resume from the one before it."
            if len(numbers) > 1
            else "start the run again in a new directory (the records stay readable)."
        )
        try:
            tree = self._writer.restore(path.absolute())
            about = json.loads(np.asarray(tree["about"]).tobytes().decode())
            leaves = [np.asarray(tree[f"leaf{i}"]) for i in range(about["n_leaves"])]
        except Exception as error:
            raise UserError(f"the checkpoint {path} is damaged and cannot be read ({type(error).__name__}); {advice}") from None
        structure = jax.tree.structure(template)
        if about["format"] != FORMAT or len(leaves) != structure.num_leaves:
            raise UserError(f"the checkpoint {path} was written by another version of slmc; {advice}")
        return jax.tree.unflatten(structure, leaves), about["lengths"]

    def numbers(self) -> list[int]:
        """Numbers of the complete checkpoints, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"
