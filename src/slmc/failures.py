"""What went wrong, in one sentence for people, and the exit code of the command."""

import errno
import tempfile
import traceback

from slmc.starting import REFUSED
from slmc.system import UserError, shortened

BROKEN = 1
"""Exit code where the fault is in slmc itself."""

_LONGEST = 1000

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("No space left", "File too large", "Disk quota exceeded")
_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc", "Unable to allocate", "Cannot allocate memory")


def told(error: BaseException) -> tuple[str, int]:
    """The sentence about an error, cut, and the exit code. The traceback of one that is nobody's fault is kept."""
    words = str(error)
    if isinstance(error, UserError | FloatingPointError):
        return shortened(words, _LONGEST), REFUSED
    if (isinstance(error, OSError) and error.errno in _FULL) or _contains(words, _FULL_WORDS):
        return (
            "the disk is full, or a file would be larger than is allowed; make room and continue with slmc resume DIR "
            "(what was measured is kept)."
        ), REFUSED
    if isinstance(error, MemoryError) or _contains(words, _MEMORY_WORDS):
        return (
            "there is not enough memory; use fewer chains (measurement.n_chains), shorter blocks "
            "(measurement.block_size) or a smaller system. What was measured is kept."
        ), REFUSED
    if isinstance(error, OSError) and error.strerror:
        where = f"{shortened(str(error.filename))}: " if error.filename is not None else ""
        return f"{where}{error.strerror}.", REFUSED
    return _broken(error), BROKEN


def _contains(words: str, parts: tuple[str, ...]) -> bool:
    return any(part in words for part in parts)


def _broken(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="slmc-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(text)
        kept = f"where it happened is in {file.name}, which helps in a report"
    except OSError:
        kept = "and its traceback could not be written"
    return f"slmc failed ({type(error).__name__}: {shortened(str(error), 200)}); {kept}. What was measured is kept."
