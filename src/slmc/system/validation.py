"""Settings from nested dictionaries; what is wrong with them in one sentence."""

import copy
import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from pydantic import BaseModel, ValidationError

from slmc.system.errors import UserError, brief, shortened
from slmc.system.settings import IdleFieldsError, Settings

_DEEPEST = 8
"""Sections inside each other, at most."""

_MOST_KINDS = 10
"""Of reasons for which fields are idle, one after the other, at most."""

Config = TypeVar("Config", bound=Settings)


def validated(data: dict[str, Any], kind: type[Config]) -> Config:
    """Settings from nested dictionaries; raises ``UserError`` naming the first field that is wrong.

    Nothing is converted: neither ``"1"`` nor ``true`` is a number, and a number is no text.
    """
    try:
        # What is strict with JSON takes lists for tuples and dictionaries for sections, as there is nothing else.
        text = json.dumps(data, default=_as_json)
    except (RecursionError, ValueError):
        raise UserError("the configuration is nested too deeply; no section lies more than a few deep.") from None
    try:
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise UserError(sentence(error.errors(), kind)) from None


def without_idle(data: dict[str, Any], kind: type[BaseModel], given: Collection[str]) -> dict[str, Any]:
    """The dictionaries without fields that cannot take effect, unless they are ``given``.

    Whoever chooses another model in place of a file's does not want to leave out one by one what that one had.
    """
    for _ in range(_MOST_KINDS):
        try:
            # What single points of a scan make of the fields is said of the points.
            alone = {name: section for name, section in data.items() if name != "scan"}
            kind.model_validate_json(json.dumps(alone, default=_as_json), strict=True)
        except ValidationError as error:
            idle = error.errors()[0].get("ctx", {}).get("error")
            if not isinstance(idle, IdleFieldsError) or set(idle.names) & set(given):
                return data
            for name in idle.names:
                section, _, field = name.partition(".")
                data = {**data, section: {k: v for k, v in data[section].items() if k != field}}
        except (RecursionError, ValueError):
            return data
    return data


def _as_json(value: Any) -> Any:
    """Values that a configuration file cannot hold, as one that it can."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return np.asarray(value).tolist()
    return str(value)


def with_fields(data: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries with some values, named by dotted names, replaced. Raises ``UserError`` for a section."""
    try:
        copied: dict[str, Any] = copy.deepcopy(dict(data))
    except RecursionError:
        raise UserError("the configuration is nested too deeply; no section lies more than a few deep.") from None
    for name, value in fields.items():
        *sections, last = name.split(".")
        if len(sections) > _DEEPEST:
            raise UserError(f"{brief(name)} lies too deep; fields are named section.field.")
        place = copied
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"{brief(section)} is a value, not a section.")
        place[last] = value
    return copied


def sentence(errors: list[Any], kind: type[BaseModel]) -> str:
    """One sentence about the first field that is wrong; the forms that a field may take are joined by «or»."""
    error = errors[0]
    location = _field(error["loc"], kind)
    name = shortened(".".join(location))
    if error["type"] == "extra_forbidden":
        allowed = _fields(kind, location[:-1])
        close = difflib.get_close_matches(location[-1], allowed, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(allowed)}."
        where = f"[{shortened('.'.join(location[:-1]))}]" if location[:-1] else "the file"
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
    return f"{name} = {brief(error['input'])} is not allowed: {message}."


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
