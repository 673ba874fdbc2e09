"""Errors for people: one sentence, what was wrong, what is allowed, what to do."""


class UserError(Exception):
    """Something the user can put right. The command line prints its sentence and exits with code 2."""


def sentence_of(error: BaseException) -> str | None:
    """What a compiled program complained of through ``equinox.error_if``; ``None`` for every other error.

    Equinox raises ``EquinoxRuntimeError``, a ``RuntimeError`` whose text holds the complaint between two stack traces.
    """
    _, marker, rest = str(error).rpartition("EquinoxRuntimeError: ")
    return rest.split("\n\n")[0].strip() if marker else None
