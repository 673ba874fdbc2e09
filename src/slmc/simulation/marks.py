"""What a checkpoint says of its run beside the state: by it is judged what else is on disk."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Marks(NamedTuple):
    """The phase by its name; of the records, by path, lengths of what grows and checksums of how all is described.

    ``files`` are checksums of other files of the run, ``kept`` numbers of older checkpoints that are still needed.
    """

    phase: str = ""
    lengths: Mapping[str, int] = _NOTHING
    forms: Mapping[str, int] = _NOTHING
    files: Mapping[str, int] = _NOTHING
    kept: tuple[int, ...] = ()

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Marks":
        """From what is stored; earlier versions stored lengths alone."""
        marks = cls(**{name: stored[name] for name in cls._fields if name in stored})
        return marks._replace(kept=tuple(marks.kept))

    def know(self, path: str, grows: bool) -> bool:
        """Whether a variable of the records was there and complete; others are being written, or a crash left them."""
        return path in self.lengths if grows else not self.forms or path in self.forms
