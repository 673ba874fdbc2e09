"""The section [scan]: which points of which fields a run goes through, each a run of its own."""

import functools
import hashlib
import itertools
import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, Strict, field_validator, model_validator

from slmc.system.errors import UserError, brief
from slmc.system.settings import Settings, is_default, no_effect
from slmc.system.validation import validated, with_fields

if TYPE_CHECKING:
    from slmc.system.run_settings import RunSettings


MOST_POINTS = 10_000
"""Points of a scan, at most; each is a directory."""


class Range(Settings):
    """Evenly spaced values, both ends among them."""

    start: float = Field(strict=True)
    stop: float = Field(strict=True)
    n: int = Field(strict=True, description="how many", ge=1, le=MOST_POINTS)

    @property
    def values(self) -> tuple[float, ...]:
        if self.n == 1:
            return (self.start,)
        steps = self.n - 1
        # Rounded to what the ends are written with: 0.1 + 2 (0.2 − 0.1) is to be 0.3.
        digits = 14 - math.ceil(math.log10(max(abs(self.start), abs(self.stop), 1e-300)))
        between = (((steps - k) * self.start + k * self.stop) / steps for k in range(self.n))
        return tuple(round(value, digits) for value in between)


class ScanSettings(Settings):
    """Several points in one run, each a run of its own."""

    fields: dict[str, Annotated[Range, Strict(False)] | tuple[Any, ...]] = Field(
        {},
        description='values of fields, {"target.temperature" = [0.5, 0.3]} or a range {start = 0.1, stop = 0.5, n = 5}'
        "; empty: no scan",
    )
    points: Literal["grid", "list"] = Field(
        "grid", description='"grid": every value with every other; "list": the first of each, the second of each, …'
    )
    start: Literal["neighbour", "none"] = Field(
        "neighbour",
        description='"neighbour": learning starts from the model of a point beside; "none": anew everywhere',
    )
    learn_at: dict[str, tuple[Any, ...]] = Field(
        {},
        description='where a model is learned, {"target.temperature" = [0.1]}: at points whose fields have one of '
        "these values; the others propose with the frozen model of the nearest; empty: every point learns",
    )

    @model_validator(mode="before")
    @classmethod
    def _temperatures(cls, data: Any) -> Any:
        """``temperatures = […]`` is short for the field ``target.temperature``; lists of values are tuples."""
        for name in ("fields", "learn_at"):
            if isinstance(data, dict) and isinstance(section := data.get(name), dict):
                listed = {field: tuple(v) if isinstance(v, list) else v for field, v in section.items()}
                data = {**data, name: listed}
        if not isinstance(data, dict) or "temperatures" not in data:
            return data
        rest = {name: value for name, value in data.items() if name != "temperatures"}
        if "fields" in rest:
            raise ValueError('give temperatures, or fields with "target.temperature" among them, not both')
        values = data["temperatures"]
        values = tuple(values) if isinstance(values, list) else values
        return {**rest, "fields": {"target.temperature": values} if values else {}}

    @field_validator("fields")
    @classmethod
    def _distinct(cls, fields: dict[str, Range | tuple[Any, ...]]) -> dict[str, Range | tuple[Any, ...]]:
        for name, values in fields.items():
            listed = _listed(values)
            if not listed:
                raise ValueError(f"{name} lists no value; give at least one")
            if any(listed.count(value) > 1 for value in listed):
                raise ValueError(f"each value of {name} must be listed once; got {list(listed)}")
        return fields

    @model_validator(mode="after")
    def _of_one_length(self) -> "ScanSettings":
        lengths = {name: len(_listed(values)) for name, values in self.fields.items()}
        given = [name for name in ("points", "start", "learn_at") if not is_default(self, name)]
        if not self.fields and given:
            raise ValueError(no_effect(given, "without fields to scan over"))
        if self.points == "list" and len(set(lengths.values())) > 1:
            raise ValueError(f'points = "list" needs equally many values of every field; got {lengths}')
        if math.prod(self.extents) > MOST_POINTS:
            raise ValueError(f"fields make {math.prod(self.extents)} points; at most {MOST_POINTS} are possible")
        return self

    @model_validator(mode="after")
    def _learned_somewhere(self) -> "ScanSettings":
        if not self.learn_at:
            return self
        if not is_default(self, "start"):
            raise ValueError(no_effect(["start"], "with learn_at, whose points learn anew"))
        for name, values in self.learn_at.items():
            if name not in self.fields:
                raise ValueError(f"learn_at: {brief(name)} is not scanned over; scanned are {', '.join(self.fields)}")
            known = _listed(self.fields[name])
            if not values or any(value not in known for value in values):
                raise ValueError(f"learn_at: {name} must list some of the values {list(known)}; got {list(values)}")
        if not self.learning_points:
            raise ValueError("learn_at: no point of the list has these values together, so that nothing is learned")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The fields, by their dotted names."""
        return tuple(self.fields)

    @property
    def extents(self) -> tuple[int, ...]:
        """Numbers of values: of each field of a grid, or of the list."""
        lengths = [len(_listed(values)) for values in self.fields.values()]
        return tuple(lengths) if self.points == "grid" else tuple(lengths[:1])

    @property
    def all_points(self) -> tuple[dict[str, Any], ...]:
        """The fields of every point; of a grid the last field runs fastest."""
        listed = [_listed(values) for values in self.fields.values()]
        together = itertools.product(*listed) if self.points == "grid" else zip(*listed, strict=True)
        return tuple(dict(zip(self.fields, values, strict=True)) for values in together) if listed else ()

    @functools.cached_property
    def learning_points(self) -> tuple[int, ...]:
        """Numbers of the points at which a model is learned, where ``learn_at`` names them."""
        points = enumerate(self.all_points)
        return tuple(k for k, fields in points if all(fields[name] in v for name, v in self.learn_at.items()))

    def learns_at(self, number: int) -> bool:
        """Whether a point learns a model of its own."""
        return not self.learn_at or number in self.learning_points

    def source(self, number: int) -> int | None:
        """The point whose model a point starts from or, where it does not learn, proposes with; ``None`` for its own.

        That is the neighbour or, with ``learn_at``, the point that learns which is the fewest values away, the first
        of several.
        """
        if not self.learn_at:
            return self.neighbour(number)
        if self.learns_at(number):
            return None
        return min(self.learning_points, key=lambda other: self._steps_between(number, other))

    def _steps_between(self, one: int, other: int) -> int:
        """By how many values two points differ, all axes together."""
        places = np.unravel_index([one, other], self.extents)
        return sum(abs(int(first) - int(second)) for first, second in places)

    def neighbour(self, number: int) -> int | None:
        """The point whose model is the start of a point's: one back along the last axis along which there is one.

        There is none in a scan over the model itself: a stored model would bring its form with it.
        """
        if self.start == "none" or any(name.startswith("model.") for name in self.names):
            return None
        stride = 1
        for extent in reversed(self.extents):
            if number // stride % extent:
                return number - stride
            stride *= extent
        return None


def _listed(values: Range | tuple[Any, ...]) -> tuple[Any, ...]:
    return values.values if isinstance(values, Range) else values


def point_settings(settings: "RunSettings", number: int) -> "RunSettings":
    """The settings of one point of a scan: an ordinary run with a seed of its own.

    The seed follows from that of the scan and from the values of the point, so that scans with other seeds share
    nothing, and a point has the same whatever other points there are. Raises ``ValueError`` naming the field that is
    wrong there.
    """
    fields = settings.scan.all_points[number]
    data = with_fields(settings.model_dump(exclude={"scan"}), fields)
    try:
        point = validated(data, type(settings))
    except UserError as error:
        raise ValueError(f"scan, {_words(fields)}: {error}") from None
    return point.model_copy(update={"seed": _seed(settings.seed, point, tuple(fields))})


def _seed(seed: int, point: "RunSettings", names: tuple[str, ...]) -> int:
    """63 bits of a digest of the seed and of the point's values."""
    values = {name: functools.reduce(getattr, name.split("."), point) for name in sorted(names)}
    text = json.dumps([seed, values], default=lambda section: section.model_dump())
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 2**63


def check_points(settings: "RunSettings") -> None:
    """Raises ``ValueError`` for fields that cannot be scanned over, and for points whose settings are wrong."""
    for name in settings.scan.names:
        if name.split(".")[0] in ("scan", "seed", "title", "system") or not _is_field(settings, name):
            raise ValueError(
                f"scan.fields: {brief(name)} is no field that can be scanned over; give dotted names such as "
                '"target.temperature"'
            )
    for number in range(len(settings.scan.all_points)):
        try:
            point_settings(settings, number)
        except UserError as error:
            raise ValueError(str(error)) from None


def _is_field(settings: Any, name: str) -> bool:
    first, _, rest = name.partition(".")
    if first not in getattr(type(settings), "model_fields", {}):
        return False
    return _is_field(getattr(settings, first), rest) if rest else not isinstance(getattr(settings, first), Settings)


def field_about(settings: Any, name: str) -> dict[str, str]:
    """Symbol and units of a field, as its declaration says them; its own name and no units where it says nothing."""
    first, _, rest = name.partition(".")
    declared = type(settings).model_fields[first]
    if rest:
        return field_about(getattr(settings, first), rest)
    extra = declared.json_schema_extra if isinstance(declared.json_schema_extra, dict) else {}
    return {"symbol": str(extra.get("symbol", first)), "units": str(extra.get("units", ""))}


def _words(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {brief(value)}" for name, value in fields.items())
