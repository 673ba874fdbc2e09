"""Configuration files read: a TOML file, and what is overridden in it."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slmc.system import UserError, with_fields


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises ``UserError`` if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None


def with_overrides(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The same with ``section.field=value`` overrides applied; raises ``UserError`` for one of another form."""
    for text in overrides:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not name.rpartition(".")[2]:
            raise UserError(
                f"--set {text} is not of the form section.field=value, for instance target.temperature=0.1."
            )
        try:
            data = with_fields(data, {name: _parsed(value)})
        except UserError as error:
            raise UserError(f"--set {text}: {error}") from None
    return data


def _parsed(value: str) -> Any:
    """A value as TOML reads it, or the text itself where it is not TOML: names need no quotes."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value
