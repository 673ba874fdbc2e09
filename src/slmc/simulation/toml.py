"""Settings written as TOML, with the sentence of each field as a comment."""

import json
import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel


def to_toml(settings: BaseModel, comments: bool = False, without: Collection[str] = ()) -> str:
    """Top-level values first, then a table per section; ``None`` is left out (or a comment), so are those ``without``.

    What a class declares itself comes before what it inherits.
    """
    lines, sections = [], []
    fields = type(settings).model_fields
    for name in sorted(fields, key=lambda name: name not in type(settings).__annotations__):
        if name in without:
            continue
        field = fields[name]
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            heading = f"\n[{name}]"
            about = (type(value).__doc__ or "").strip()
            if comments and about:
                heading = f"\n# {about.splitlines()[0]}{heading}"
            sections.append(f"{heading}\n{to_toml(value, comments)}")
            continue
        line = f"{name} = {_format(value)}" if value is not None else f"# {name} ="
        if value is None and not comments:
            continue
        if comments and field.description:
            line = f"{line:<28} # {field.description}"
        lines.append(line)
    return "\n".join(lines) + "\n" + "".join(sections)


def _format(value: Any) -> str:
    if isinstance(value, BaseModel):
        return _format(value.model_dump())
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_format(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_format(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
