"""Checkpoints: everything needed to continue to the bit, written atomically by orbax.

A checkpoint is the list of array leaves of the run's state and of the lengths of its records. The structure is built
anew from the configuration, so no code is ever loaded from a file.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from slmc.system import UserError

FORMAT = 1
_KEPT = 2


class Checkpoints:
    """Numbered checkpoints in a directory, the two latest kept.

    ``identity`` says which settings they belong to, ``free`` names those that may change nevertheless; ``other`` is the
    sentence about those of another identity, for runs that have no file of settings.
    """

    def __init__(self, directory: Path, identity: str, free: str, other: str | None = None) -> None:
        self.directory, self.identity = directory, identity
        self._other = other or (
            f"config.toml beside {directory} was changed since the run began, in more than {free}; "
            "restore it, or start a new run with slmc run."
        )
        self._writer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())

    def save(self, number: int, state: Any, lengths: dict[str, int]) -> None:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        # Orbax refuses arrays without elements; their shape says all there is to know.
        empty = {i: (leaf.shape, leaf.dtype.name) for i, leaf in enumerate(leaves) if not leaf.size}
        about = json.dumps(
            {
                "format": FORMAT,
                "identity": self.identity,
                "lengths": lengths,
                "n_leaves": len(leaves),
                "empty": empty,
            }
        )
        tree = {f"leaf{i}": leaf for i, leaf in enumerate(leaves) if leaf.size}
        tree["about"] = np.frombuffer(about.encode(), np.uint8)
        self._writer.save(self._path(number).absolute(), args=ocp.args.PyTreeSave(tree))
        for old in self.numbers()[:-_KEPT]:
            shutil.rmtree(self._path(old), ignore_errors=True)

    def restore(self, template: Any) -> tuple[Any, dict[str, int]] | None:
        """The latest state, in the structure of ``template``, and the lengths of the records; ``None`` without one.

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
            empty = {int(i): np.zeros(*form) for i, form in about["empty"].items()}
            leaves = [empty[i] if i in empty else np.asarray(tree[f"leaf{i}"]) for i in range(about["n_leaves"])]
        except Exception as error:
            raise UserError(
                f"the checkpoint {path} is damaged and cannot be read ({type(error).__name__}); {advice}"
            ) from None
        likes, structure = jax.tree.flatten(template)
        if about["format"] != FORMAT or len(leaves) != len(likes):
            raise UserError(f"the checkpoint {path} was written by another version of slmc; {advice}")
        if about["identity"] != self.identity:
            raise UserError(self._other)
        alike = [
            jnp.asarray(leaf) if isinstance(like, jax.Array) else leaf for leaf, like in zip(leaves, likes, strict=True)
        ]
        return jax.tree.unflatten(structure, alike), about["lengths"]

    def numbers(self) -> list[int]:
        """Numbers of the complete checkpoints, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"
