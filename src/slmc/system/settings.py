"""How a section of a configuration file is declared: fields with defaults, limits and a sentence each."""

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from slmc.system.errors import brief


class Settings(BaseModel):
    """Base of all sections: unknown fields are errors, values are immutable.

    A field that is worth scanning over may say in ``json_schema_extra`` its ``symbol`` and its ``units``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _of_sizes_that_exist(self) -> "Settings":
        """Raises ``ValueError`` for numbers larger than machines count."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            for number in value if isinstance(value, tuple | list) else (value,):
                if isinstance(number, int) and abs(number) >= 2**63:
                    raise ValueError(f"{name} is larger than any number of things, {brief(number, 30)}")
        return self


def changed_fields(name: str, section: Settings) -> list[str]:
    """The dotted names of the fields of a section that are not at their defaults."""
    return [f"{name}.{field}" for field in type(section).model_fields if not is_default(section, field)]


def no_effect(names: list[str], where: str) -> str:
    """The sentence about settings that cannot take effect."""
    *most, last = names
    listed = f"{', '.join(most)} and {last} have" if most else f"{last} has"
    return f"{listed} no effect {where}; leave {'them' if most else 'it'} out"


class Idle(NamedTuple):
    """Fields, by their dotted names, that nothing reads where it ``applies``; ``where`` says so in words."""

    applies: bool
    fields: tuple[str, ...]
    where: str


class IdleFieldsError(ValueError):
    """Fields, by their dotted ``names``, that were given and cannot take effect."""

    def __init__(self, names: list[str], where: str) -> None:
        super().__init__(no_effect(names, where))
        self.names = tuple(names)


_taken: ContextVar[bool] = ContextVar("whether idle fields are taken as they are", default=False)


@contextlib.contextmanager
def idle_fields_taken() -> Iterator[None]:
    """Within it nothing is refused for being idle: what a run was begun with is what it is, and belongs to its name."""
    before = _taken.set(True)
    try:
        yield
    finally:
        _taken.reset(before)


def refuse_idle(settings: BaseModel, *cases: Idle) -> None:
    """Raises ``IdleFieldsError`` for fields that were given and cannot take effect."""
    for case in cases:
        given = [name for name in case.fields if case.applies and not is_default(settings, name)]
        if given and not _taken.get():
            raise IdleFieldsError(given, case.where)


def value_of(settings: BaseModel, name: str) -> Any:
    """The value of a field, given by its dotted name."""
    return functools.reduce(getattr, name.split("."), settings)


def is_default(settings: BaseModel, name: str) -> bool:
    """Whether a field, given by its dotted name, is at its default."""
    first, _, rest = name.partition(".")
    value = getattr(settings, first)
    return is_default(value, rest) if rest else value == type(settings).model_fields[first].default
