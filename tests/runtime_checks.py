"""The type checker that the import hook in conftest.py applies to the package."""

import functools
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As for static checkers (PEP 484), an int may stand where a float is asked for."""


def check(function: Any) -> Any:
    """The function, checked; what checks it is made when it is first called, for most are never called in a file."""
    if isinstance(function, type) or not callable(function):
        return _check(function)
    checked: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def checking(*arguments: Any, **named: Any) -> Any:
        if not checked:
            checked.append(_check(function))
        return checked[0](*arguments, **named)

    return checking
