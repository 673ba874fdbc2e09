"""Checkpoints: everything needed to continue to the bit, written atomically by orbax.

A checkpoint is the list of array leaves of the run's state and of the lengths of its records. The structure is built
anew from the configuration, so no code is ever loaded from a file.
"""

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from slmc.system import UserError

FORMAT = 1
_KEPT = 2


_ROOM = 2**20
"""Bytes for what a checkpoint says about itself."""


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
        with _plain(self.directory) as directory:
            self._writer.save(directory / self._path(number).name, args=ocp.args.PyTreeSave(tree))
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
            f"move {path} elsewhere and resume: the run goes on from the checkpoint before it."
            if len(numbers) > 1
            else "start the run again in a new directory (the records stay readable)."
        )
        likes, structure = jax.tree.flatten(template)
        try:
            with _plain(self.directory) as directory:
                self._check_size(directory / path.name, likes)
                tree = self._writer.restore(directory / path.name)
            about = json.loads(np.asarray(tree["about"]).tobytes().decode())
            is_ours = about["format"] == FORMAT and about["n_leaves"] == len(likes)
            empty = {int(i): _without_elements(*form) for i, form in about["empty"].items()}
            places = range(len(likes)) if is_ours else ()
            leaves = [empty[i] if i in empty else np.asarray(tree[f"leaf{i}"]) for i in places]
        except (Exception, MemoryError) as error:
            raise UserError(
                f"the checkpoint {path} is damaged and cannot be read ({type(error).__name__}); {advice}"
            ) from None
        if not is_ours:
            raise UserError(f"the checkpoint {path} was written by another version of slmc; {advice}")
        if about["identity"] != self.identity:
            raise UserError(self._other)
        alike = [
            jnp.asarray(leaf) if isinstance(like, jax.Array) else leaf for leaf, like in zip(leaves, likes, strict=True)
        ]
        return jax.tree.unflatten(structure, alike), about["lengths"]

    def _check_size(self, path: Path, likes: list[Any]) -> None:
        """Raises ``ValueError`` for arrays larger than the run's own, before there is room made for them.

        A run's arrays do not grow while it goes on; compressed files say nothing of what they unpack to.
        """
        stored = self._writer.metadata(path).item_metadata.tree
        sizes = [math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(stored)]
        if sum(sizes) > sum(np.asarray(like).nbytes for like in likes) + _ROOM:
            raise ValueError("arrays larger than those of the run")

    def lengths(self) -> dict[str, int] | None:
        """The lengths of the records at the latest checkpoint, and nothing else of it; ``None`` without one.

        Raises ``UserError`` if it cannot be read.
        """
        numbers = self.numbers()
        if not numbers:
            return None
        arguments = ocp.args.PyTreeRestore(item={"about": 0}, partial_restore=True)
        try:
            with _plain(self.directory) as directory:
                tree = self._writer.restore(directory / self._path(numbers[-1]).name, args=arguments)
            return json.loads(np.asarray(tree["about"]).tobytes().decode())["lengths"]
        except (Exception, MemoryError) as error:
            path = self._path(numbers[-1])
            raise UserError(f"the checkpoint {path} is damaged and cannot be read ({type(error).__name__}).") from None

    def numbers(self) -> list[int]:
        """Numbers of the complete checkpoints, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"


def _without_elements(shape: list[int], dtype: str) -> np.ndarray:
    if 0 not in shape:
        raise ValueError("an array without elements that has some")
    return np.zeros(shape, dtype)


@contextlib.contextmanager
def _plain(directory: Path) -> Iterator[Path]:
    """The directory by a name that orbax does not take for a pattern, as it does brackets: a link if need be."""
    absolute = directory.absolute()
    if not set("[]*?") & set(str(absolute)):
        yield absolute
        return
    absolute.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        link = Path(elsewhere) / "checkpoints"
        link.symlink_to(absolute, target_is_directory=True)
        yield link
