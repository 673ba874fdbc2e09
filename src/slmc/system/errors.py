"""Errors for people: one sentence, what was wrong, what is allowed, what to do."""


class UserError(Exception):
    """Something the user can put right. The command line prints its sentence and exits with code 2."""


def shortened(text: str, length: int = 100) -> str:
    """A text that somebody gave, on one line and cut."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def brief(value: object, length: int = 60) -> str:
    """How a value is shown in a sentence: as Python writes it, cut."""
    try:
        words = repr(value)
    except ValueError:  # integers of more digits than Python writes
        words = f"a number of {value.bit_length()} bits" if isinstance(value, int) else "a value that cannot be shown"
    return words if len(words) <= length else f"{words[: length - 1]}…"


def sentence_of(error: BaseException) -> str | None:
    """What a compiled program complained of; ``None`` for every other error.

    Complaints come through ``equinox.error_if``, whose ``EquinoxRuntimeError`` holds them between two stack traces, or
    as a ``UserError`` of a function of the host that it called, at the end of the traceback in its text.
    """
    for kind in ("EquinoxRuntimeError: ", "\nUserError: "):
        _, marker, rest = str(error).rpartition(kind)
        if marker:
            return rest.split("\n\n")[0].strip()
    return None
