"""Checkpoints: everything needed to continue to the bit, written atomically by orbax.

A checkpoint is the list of array leaves of the run's state, and what it says of the records and files beside it, all
with checksums. The structure is built anew from the configuration, so no code is ever loaded from a file.
"""

import contextlib
import functools
import json
import math
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from slmc.simulation.files import is_signed, signed
from slmc.simulation.marks import Marks
from slmc.system import UserError

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

FORMAT = 1
_KEPT = 2


_ROOM = 2**20
"""Bytes for what a checkpoint says about itself."""


class Checkpoints:
    """Numbered checkpoints in a directory, the two latest kept, and those that the latest asks for.

    ``identity`` says which settings they belong to (``None`` reads them whatever that is), ``free`` names those that
    may change nevertheless; ``other`` is the sentence about those of another identity, for runs that have no file of
    settings.
    """

    def __init__(self, directory: Path, identity: str | None, free: str, other: str | None = None) -> None:
        self.directory, self.identity = directory, identity
        self.other = other or changed_settings(directory.parent, free)

    @functools.cached_property
    def _writer(self) -> "ocp.Checkpointer":
        import orbax.checkpoint as ocp  # takes longer to import than all else

        return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())

    def save(self, number: int, state: Any, marks: Marks) -> None:
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        # Orbax refuses arrays without elements; their shape says all there is to know.
        empty = {i: (leaf.shape, leaf.dtype.name) for i, leaf in enumerate(leaves) if not leaf.size}
        about = {
            "format": FORMAT,
            "identity": self.identity,
            "n_leaves": len(leaves),
            "empty": empty,
            "leaves_crc32": _checksum(leaves),
            "n_bytes": sum(leaf.nbytes for leaf in leaves),
            **{name: dict(mark) if isinstance(mark, Mapping) else mark for name, mark in marks._asdict().items()},
        }
        tree = {f"leaf{i}": leaf for i, leaf in enumerate(leaves) if leaf.size}
        tree["about"] = np.frombuffer(signed(about).encode(), np.uint8)
        writer = self._writer
        import orbax.checkpoint as ocp

        with _plain(self.directory) as directory:
            writer.save(directory / self._path(number).name, args=ocp.args.PyTreeSave(tree))
        for old in self.numbers()[:-_KEPT]:
            if old not in marks.kept:
                shutil.rmtree(self._path(old), ignore_errors=True)

    def restore(self, template: Any, number: int | None = None) -> tuple[Any, Marks] | None:
        """The latest state, or that of a ``number``, in the structure of ``template``; ``None`` without one.

        Raises ``UserError`` if it is damaged, of another version or of other settings.
        """
        path = self._latest() if number is None else self._path(number)
        if path is None:
            return None
        likes, structure = jax.tree.flatten(template)
        with self._reading(path), _plain(self.directory) as directory:
            self._check_size(directory / path.name, sum(np.asarray(like).nbytes for like in likes))
            tree = self._writer.restore(directory / path.name)
            about = _read_about(tree)
            if self.identity not in (None, about["identity"]):
                raise UserError(self.other)
            if about["format"] != FORMAT or about["n_leaves"] != len(likes):
                raise UserError(f"the checkpoint {path} was written by another version of slmc; {self._advice()}")
            leaves = _leaves(tree, about)
        alike = [
            jnp.asarray(leaf) if isinstance(like, jax.Array) else leaf for leaf, like in zip(leaves, likes, strict=True)
        ]
        return jax.tree.unflatten(structure, alike), Marks.of(about)

    def _check_size(self, path: Path, at_most: int) -> None:
        """Raises ``ValueError`` for arrays larger than the run's own, before there is room made for them.

        A run's arrays do not grow while it goes on; compressed files say nothing of what they unpack to.
        """
        stored = self._writer.metadata(path).item_metadata.tree
        sizes = [math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(stored)]
        if sum(sizes) > at_most + _ROOM:
            raise ValueError("arrays larger than those of the run")

    def marks(self) -> Marks | None:
        """What the latest checkpoint says, without its state; ``None`` without one.

        Raises ``UserError`` if it is damaged or of other settings.
        """
        while (path := self._latest()) is not None:
            try:
                with self._reading(path), _plain(self.directory) as directory:
                    about = _read_about(self._restored(directory / path.name))
            except UserError:
                if path != self._latest():  # a run that is going on has replaced it meanwhile
                    continue
                raise
            if not belongs(about["identity"], self.identity):
                raise UserError(self.other)
            return Marks.of(about)
        return None

    def damage(self) -> str:
        """What is wrong with the state of the latest checkpoint, without going on from it; empty if nothing is."""
        path = self._latest()
        if path is None:
            return ""
        try:
            with self._reading(path), _plain(self.directory) as directory:
                about = _read_about(self._restored(directory / path.name))
                if "n_bytes" in about:  # earlier versions told neither size nor checksum
                    self._check_size(directory / path.name, about["n_bytes"])
                    _leaves(self._writer.restore(directory / path.name), about)
        except UserError as error:
            return f"{error}".rstrip(".")
        return ""

    def _restored(self, path: Path) -> Any:
        """What a checkpoint says of itself alone."""
        stored = self._writer.metadata(path).item_metadata.tree["about"]
        if math.prod(stored.shape) > _ROOM:
            raise ValueError("a description far too long")
        import orbax.checkpoint as ocp

        return self._writer.restore(path, args=ocp.args.PyTreeRestore(item={"about": 0}, partial_restore=True))

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Whatever goes wrong on reading is damage, and told in one sentence."""
        try:
            yield
        except UserError:
            raise
        except (Exception, MemoryError) as error:
            raise UserError(
                f"the checkpoint {path} is damaged and cannot be read ({type(error).__name__}); {self._advice()}"
            ) from None

    def _advice(self) -> str:
        numbers = self.numbers()
        if len(numbers) > 1:
            return (
                f"move {self._path(numbers[-1])} elsewhere and resume: the run goes on from the checkpoint before it."
            )
        return "restore it from a copy, or start the run again in a new directory (the records stay as they are)."

    def numbers(self) -> list[int]:
        """Numbers of the complete checkpoints, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def _latest(self) -> Path | None:
        numbers = self.numbers()
        return self._path(numbers[-1]) if numbers else None

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}"


def changed_settings(directory: Path, free: str) -> str:
    """The sentence about a run whose settings are not those it was begun with."""
    return (
        f"config.toml in {directory} was changed since the run began, in more than {free}, or what lies beside it is "
        "of another run; restore it, or start a new run with slmc run."
    )


def _read_about(tree: Any) -> dict[str, Any]:
    about = json.loads(np.asarray(tree["about"]).tobytes().decode())
    if not is_signed(about):
        raise ValueError("a description that does not fit its checksum")
    return about


def _leaves(tree: Any, about: dict[str, Any]) -> list[np.ndarray]:
    """The arrays of a state. Raises ``ValueError`` if they do not fit their checksum."""
    empty = {int(i): _without_elements(*form) for i, form in about["empty"].items()}
    leaves = [empty[i] if i in empty else np.asarray(tree[f"leaf{i}"]) for i in range(about["n_leaves"])]
    if "leaves_crc32" in about and _checksum(leaves) != about["leaves_crc32"]:
        raise ValueError("numbers that do not fit their checksum")
    return leaves


def belongs(identity: str, wanted: str | None) -> bool:
    """Whether identities agree; of a problem that was built in Python and is not at hand, that of the settings."""
    return wanted is None or identity == wanted or identity.split(" ")[0] == wanted


def _checksum(leaves: list[np.ndarray]) -> int:
    total = 0
    for leaf in leaves:
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return total


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
