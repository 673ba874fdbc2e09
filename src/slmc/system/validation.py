"""Settings from nested dictionaries; what is wrong with them in one sentence."""

import copy
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from slmc.system.errors import UserError
from slmc.system.settings import Settings

Config = TypeVar("Config", bound=Settings)


def validated(data: dict[str, Any], kind: type[Config]) -> Config:
    """Settings from nested dictionaries; raises ``UserError`` naming the first field that is wrong."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(sentence(error.errors(), kind)) from None


def with_fields(data: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries with some values, named by dotted names, replaced. Raises ``UserError`` for a section."""
    copied: dict[str, Any] = copy.deepcopy(dict(data))
    for name, value in fields.items():
        *sections, last = name.split(".")
        place = copied
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"{section} is a value, not a section.")
        place[last] = value
    return copied


def sentence(errors: list[Any], kind: type[BaseModel]) -> str:
    """One sentence about the first field that is wrong; the forms that a field may take are joined by «or»."""
    error = errors[0]
    location = _field(error["loc"], kind)
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        allowed = _fields(kind, location[:-1])
        close = difflib.get_close_matches(location[-1], allowed, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(allowed)}."
        where = f"[{'.'.join(location[:-1])}]" if location[:-1] else "the file"
        return f"{name} is not a field of {where}; {hint}"
    if error["type"] == "model_type":
        return f"{name} is a section; write its fields as {name}.field = value or under [{name}]."
    same = [other["msg"] for other in errors if _field(other["loc"], kind) == location]
    messages = [message.removeprefix("Value error, ").rstrip(".") for message in dict.fromkeys(same)]
    message = " or ".join(message[0].lower() + message[1:] for message in messages)
    if error["type"] == "missing":
        return f"{name} is missing: {message}."
    if error["type"] == "value_error":
        return f"{name}: {message}." if name else f"{message}."
    return f"{name} = {error['input']!r} is not allowed: {message}."


def _field(location: tuple[Any, ...], kind: Any) -> list[str]:
    """The path of a field, without what pydantic adds about the members of a union or the items of a list."""
    path: list[str] = []
    for part in map(str, location):
        fields = getattr(kind, "model_fields", None)
        if fields is None:
            break
        path.append(part)
        kind = fields[part].annotation if part in fields else None
    return path


def _fields(kind: Any, location: list[str]) -> list[str]:
    for part in location:
        field = kind.model_fields.get(part)
        kind = field.annotation if field is not None else kind
    return list(getattr(kind, "model_fields", {}))
