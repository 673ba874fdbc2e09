"""Configuration files read: a TOML file, and what is overridden in it."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slmc.system import UserError, shortened, with_fields

_LONGEST = 2**20
"""Bytes of a configuration file, at most."""


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises ``UserError`` if it cannot be read, is empty or is not TOML."""
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise UserError(f"{path} is longer than {_LONGEST} bytes; that is no configuration.")
        data = tomllib.loads(content.decode())
    except RecursionError:
        raise UserError(f"{path} is nested too deeply; no section lies more than a few deep.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not valid TOML: it is not text in UTF-8.") from None
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise UserError(f"{path} is not valid TOML: {shortened(str(error))}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if not data:
        raise UserError(f"{path} is empty; say at least which system it is about.")
    return data


def with_overrides(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The same with ``section.field=value`` overrides applied; raises ``UserError`` for one of another form."""
    for text in overrides:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not name.rpartition(".")[2]:
            raise UserError(
                f"--set {shortened(text)} is not of the form section.field=value, for instance target.temperature=0.1."
            )
        try:
            data = with_fields(data, {name: _parsed(value)})
        except UserError as error:
            raise UserError(f"--set {shortened(text)}: {error}") from None
    return data


def _parsed(value: str) -> Any:
    """A value as TOML reads it, or the text itself where it is not TOML: names need no quotes."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value
    except (RecursionError, ValueError):
        raise UserError("the value is nested too deeply, or has too many digits.") from None
