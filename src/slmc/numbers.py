"""Numbers given by a user, checked: whole ones, finite ones, positive ones. What is being traced has no value yet."""

import operator
from typing import Any

import jax
import numpy as np


def count(value: Any, name: str, least: int = 0) -> int:
    """The value as an ``int``. Raises ``ValueError`` unless it is a whole number and at least ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number; got {value!r}.") from None
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be a whole number; got {value!r}.")
    if number < least:
        raise ValueError(f"{name} must be at least {least}; got {number}.")
    return number


def positive_count(value: Any, name: str) -> int:
    """``count`` with 1 as the least."""
    return count(value, name, 1)


def finite(value: Any, name: str) -> Any:
    """The value itself. Raises ``ValueError`` unless it is a finite real number, or an array or list of such."""
    if not _is_traced(value) and not np.all(np.isfinite(_real(value, name))):
        raise ValueError(f"{name} must be finite; got {_short(value)}.")
    return value


def positive(value: Any, name: str) -> Any:
    """``finite``, and positive."""
    if not _is_traced(finite(value, name)) and not np.all(_real(value, name) > 0):
        raise ValueError(f"{name} must be positive; got {_short(value)}.")
    return value


def not_negative(value: Any, name: str) -> Any:
    """``finite``, and not negative."""
    if not _is_traced(finite(value, name)) and not np.all(_real(value, name) >= 0):
        raise ValueError(f"{name} must not be negative; got {_short(value)}.")
    return value


def share(value: Any, name: str) -> Any:
    """The value itself. Raises ``ValueError`` unless it lies between 0 and 1, both excluded."""
    if not _is_traced(finite(value, name)) and not np.all((_real(value, name) > 0) & (_real(value, name) < 1)):
        raise ValueError(f"{name} must lie between 0 and 1; got {_short(value)}.")
    return value


def _real(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" and array.size:
        raise ValueError(f"{name} must be a real number; got {_short(value)}.")
    return array


def _is_traced(value: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}…"
