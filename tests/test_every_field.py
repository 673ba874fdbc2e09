"""Every field of every configuration of every installed system, with values of every kind: taken as it is, or one
sentence that names it. Nothing is converted, nothing goes unread, no value makes a traceback."""

import math
import resource
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from slmc import runs
from slmc.simulation import read_toml, size, to_toml
from slmc.system import RunSettings, UserError, ready_made, system_named, system_names, with_fields

NESTED: Any = 0
for _ in range(60):
    NESTED = [NESTED]

VALUES = [
    *(True, False, "1", "", "x" * 5000, "é\n[red]×", -1, 0, 1, 7, 1.0, 1.5, -0.5, 2**31, 2**63 - 1, 2**63),
    *(10**30, 10**400, 1e-320, 1e308, math.nan, math.inf, -math.inf, [], {}, [1], [1, 2], [True], ["1"], [0], [-4, 4]),
    *([4] * 40, [10**6] * 4, [[4, 4]], NESTED, {"x": 1}, {"x": {"y": [1]}}, "2026-01-01", None, [None], "auto", "all"),
]

Field = tuple[str, str]


def fields_of(kind: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and annotations of all fields, those of sections included; sections themselves too."""
    for name, field in kind.model_fields.items():
        yield path + name, field.annotation
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields_of(field.annotation, f"{path}{name}.")


def admits(annotation: Any, value: Any) -> bool:
    """Whether a value is of one of the types that an annotation names, without being converted."""
    if annotation is Any:
        return True
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(admits(one, value) for one in arguments)
    if origin is Literal:
        return any(type(one) is type(value) and one == value for one in arguments)
    if origin is tuple:
        items = arguments[0] if arguments else Any
        return isinstance(value, list | tuple) and all(admits(items, one) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(admits(arguments[1], one) for one in value.values())
    if hasattr(annotation, "__metadata__"):
        return admits(arguments[0], value)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return isinstance(value, dict)
    if annotation is float:
        return type(value) in (int, float)
    return annotation is type(value) or (annotation is type(None) and value is None)


def settings_with(data: dict[str, Any], name: str, value: Any) -> Any:
    """The settings, or the sentence that refuses them."""
    try:
        return runs.settings_of(with_fields(data, {name: value}))
    except UserError as error:
        return str(error)


def is_sentence(text: str) -> bool:
    return bool(text) and len(text) < 1000 and "\n" not in text and "Traceback" not in text and text.endswith(".")


BASES = {(data := read_toml(path))["system"]: data for _, path in sorted(ready_made().items(), reverse=True)}
"""A configuration of every system."""


def test_every_installed_system_is_walked() -> None:
    assert set(BASES) == set(system_names())


@pytest.mark.parametrize("name", sorted(BASES))
def test_every_field_with_every_value(name: str) -> None:
    data = BASES[name]
    kind = system_named(data["system"]).settings
    n_taken = 0
    for field, annotation in fields_of(kind):
        for value in VALUES:
            found = settings_with(data, field, value)
            if isinstance(found, str):
                assert is_sentence(found), (field, value, found)
                continue
            n_taken += 1
            assert admits(annotation, value) or (field, value) in SHORT, f"{field} = {value!r} was converted"
            assert runs.settings_of(read_back(found)) == found, f"{field} = {value!r} is not what config.toml holds"
    assert n_taken > 50


SHORT = [("model.momentum", 0)]
"""Numbers that stand for a text, as documented."""


def read_back(settings: Any) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(to_toml(settings, without=getattr(settings, "without_effect", ())))


@pytest.mark.parametrize("name", sorted(BASES))
def test_unknown_fields_are_refused_everywhere(name: str) -> None:
    kind = system_named(BASES[name]["system"]).settings
    sections = [
        "",
        *(f"{field}." for field, one in fields_of(kind) if isinstance(one, type) and issubclass(one, BaseModel)),
    ]
    for section in sections:
        assert "is not a field of" in settings_with(BASES[name], f"{section}no_such_field", 1)


SIZES = {
    "measurement.n_chains": (10**9, 2**62),
    "measurement.n_thermalise": (10**12,),
    "measurement.block_size": (10**12, 2**62),
    "learning.n_steps": (10**10,),
    "learning.n_rounds": (10**10,),
    "inner.n_updates": (10**15,),
}


@pytest.mark.parametrize("field", sorted(SIZES))
def test_what_no_machine_holds_or_ends_is_refused_before_it_begins(tmp_path: Path, field: str) -> None:
    """Of every system that samples, in the time that a sentence takes."""
    for system, base in BASES.items():
        if not issubclass(system_named(system).settings, RunSettings):
            continue
        small = {"shape": [2, 2]} if "shape" in base["target"] else {}
        data = {**base, "target": {**base["target"], **small}}
        for number in SIZES[field]:
            found = settings_with(data, field, number)
            if isinstance(found, str):
                assert is_sentence(found)
                continue
            with pytest.raises(UserError, match="ask for less"):
                runs._check(found, runs._built(found, tmp_path))


@pytest.fixture
def _little_memory() -> Iterator[None]:
    """A gigabyte more than the process has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("shape", [[30000, 30000], [2**40, 2**40], [120, 120]])
def test_lattices_that_do_not_fit_are_refused_before_they_take_memory(tmp_path: Path, shape: list[int]) -> None:
    for system, base in BASES.items():
        if not issubclass(system_named(system).settings, RunSettings) or "shape" not in base["target"]:
            continue
        found = settings_with({**base, "target": {**base["target"]}}, "target.shape", shape)
        if isinstance(found, str):
            assert is_sentence(found)
        elif shape[0] > 1000:
            with pytest.raises(UserError, match=r"at most|ask for less"):
                runs._check(found, runs._built(found, tmp_path))


def test_an_evaluation_that_does_not_fit_is_refused() -> None:
    """Matrices of all pairs of 16,000 sites: nothing of it is computed or allocated."""
    settings = runs.settings_of({"system": "gauge", "target": {"shape": [60, 60, 60, 60]}})
    with pytest.raises(UserError, match=r"would take at least .* GiB of memory, and there are"):
        size.check_size(settings, runs._built(settings, Path()))
    assert 2**28 < size.available() < 2**50
