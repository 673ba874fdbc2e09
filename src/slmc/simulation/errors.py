"""Errors for people: one sentence, what was wrong, what is allowed, what to do."""


class UserError(Exception):
    """Something the user can put right. The command line prints its sentence and exits with code 2."""


class Stopped(Exception):  # noqa: N818 (not an error)
    """A request to stop (a signal, the wall time) that arrived in the middle of a block."""
