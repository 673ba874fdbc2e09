"""Settings of a run: what a TOML file may say, validated; the parts that do not depend on the system."""

import difflib
import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from slmc.selflearning.on_the_fly import n_held_out
from slmc.settings import Settings
from slmc.simulation.errors import UserError

Rounds = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
"""A number for each round; the last holds for all further ones."""

LEAST_LABELS = 32
"""Configurations without which ``slmc.selflearning.fit`` does not begin."""


class ExactSettings(Settings):
    """The update that needs no model: it thermalises, gives the first training data, and runs the baseline."""

    update: Literal["hmc", "local"] = Field("hmc", description="hmc: trajectories with the exact force; local: sweeps")
    n_steps: PositiveInt = Field(5, description="integrator steps of a trajectory (hmc)")
    integrator: Literal["leapfrog", "omelyan", "fourth-order"] = Field("leapfrog", description="of a trajectory (hmc)")
    acceptance: float = Field(0.8, gt=0, lt=1, description="acceptance to which its step size is tuned")
    tuning_steps: PositiveInt = Field(150, description="updates per chain in which that is done, before thermalising")
    every: int = Field(0, ge=0, description="mix one exact update in after every this many outer steps; 0: never")


class ThermalisationSettings(Settings):
    """The start, with the exact update."""

    n_steps: PositiveInt = Field(200, description="exact updates per chain")


class LearningSection(Settings):
    """Rounds of sampling and fitting."""

    n_rounds: int = Field(
        4, ge=0, description="rounds at most; fewer if the held-out residual stops improving; 0: exact updates alone"
    )
    n_steps: PositiveInt | Rounds = Field(
        100, description="steps per chain and round, all of them training data; or a list, one for each round"
    )
    force_weight: float = Field(3.0, ge=0, description="weight of the force residual; 0: log-weights alone")
    held_out_share: float = Field(0.25, gt=0, lt=1, description="share of the chains kept out of the training data")


class TrainingSection(LearningSection):
    """Rounds of sampling and training."""

    training_steps: NonNegativeInt | Rounds = Field(
        600, description="optimiser steps in a round, or a list; 0: least squares (linear model)"
    )
    batch_size: int = Field(128, ge=32, description="configurations in a step, a multiple of 32")
    learning_rate: PositiveFloat = Field(3e-3, description="at the start of a round; falls to zero along a cosine")
    weight_decay: float = Field(1e-4, ge=0)
    optimiser: Literal["adamw", "muon"] = Field("adamw", description='"muon" trains networks faster')
    single_precision: bool = Field(False, description="evaluate the model in float32 while training; decisions never")

    @field_validator("batch_size")
    @classmethod
    def _whole_groups(cls, batch_size: int) -> int:
        if batch_size % 32:
            raise ValueError(f"must be a multiple of 32; got {batch_size}")
        return batch_size


class MeasurementSettings(Settings):
    """Sampling with the frozen model: what counts."""

    n_chains: int = Field(8, ge=2, description="chains, at least 2")
    n_steps: PositiveInt = Field(1000, description="outer steps per chain at most, rounded up to whole blocks")
    n_thermalise: int = Field(50, ge=0, description="outer steps with the frozen model before measuring")
    block_size: int = Field(50, ge=4, description="outer steps between writing records and a checkpoint")
    observables: tuple[str, ...] | None = Field(None, description="names of those to measure; left out: all")
    wanted_error: dict[str, PositiveFloat] = Field({}, description="stop when these observables are known this well")
    wall_time: PositiveFloat | None = Field(None, description="seconds after which to stop and leave a checkpoint")


class BaselineSettings(Settings):
    """An exact chain without any learned model, in the same run, to compare with."""

    n_steps: int = Field(0, ge=0, description="exact updates per chain; 0: none")


class ScanSettings(Settings):
    """Several temperatures in one run, each starting from the model learned at the one before."""

    temperatures: tuple[PositiveFloat, ...] = Field(
        (), description="instead of target.temperature, in this order (high to low learns best); empty: no scan"
    )

    @field_validator("temperatures")
    @classmethod
    def _distinct(cls, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(temperatures)) < len(temperatures):
            raise ValueError(f"each temperature must be listed once; got {list(temperatures)}")
        return temperatures


class RunSettings(Settings):
    """What every run has; a system adds its name and the sections [target], [model] and [inner].

    With ``learning.n_rounds = 0`` it is a run without a model: the exact update alone, which then is what counts.
    """

    may_change: ClassVar[tuple[str, ...]] = (
        "title",
        "measurement.n_steps",
        "measurement.wanted_error",
        "measurement.wall_time",
        "baseline.n_steps",
    )
    """What may change while a run is interrupted: how long it goes on, and nothing that would change a bit before."""

    came_later: ClassVar[tuple[str, ...]] = ()
    """Fields and sections that a run's identity leaves out at their default: earlier checkpoints do not know them."""

    system: str
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    exact: ExactSettings = ExactSettings()
    thermalisation: ThermalisationSettings = ThermalisationSettings()
    learning: LearningSection = LearningSection()
    measurement: MeasurementSettings = MeasurementSettings()
    baseline: BaselineSettings = BaselineSettings()

    @property
    def learns(self) -> bool:
        """Whether there is an effective model."""
        return self.learning.n_rounds > 0

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Sections that have no meaning in this run."""
        return () if self.learns else ("model", "inner", "baseline")

    @property
    def identity(self) -> str:
        """A digest of all settings but those that may change while a run is interrupted."""
        unset = [name for name in self.came_later if _is_default(self, name)]
        data = self.model_dump_json(exclude=_nested((*self.may_change, *unset)))
        return hashlib.sha256(data.encode()).hexdigest()

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "RunSettings":
        """A run without a model has no use for what says how to learn one and how to propose with it."""
        if self.learns:
            return self
        sections = {name: getattr(self, name) for name in ("model", "inner", "learning") if hasattr(self, name)}
        given = [one for name, section in sections.items() for one in changed_fields(name, section)]
        given += [name for name in ("exact.every", "baseline.n_steps") if not _is_default(self, name)]
        given.remove("learning.n_rounds")
        if given:
            raise ValueError(no_effect(given, "in a run without a model (learning.n_rounds = 0)"))
        return self

    @model_validator(mode="after")
    def _enough_to_learn_from(self) -> "RunSettings":
        if not self.learns:
            return self
        learning, n_chains = self.learning, self.measurement.n_chains
        first_steps = learning.n_steps if isinstance(learning.n_steps, int) else learning.n_steps[0]
        if first_steps * (n_chains - n_held_out(n_chains, learning.held_out_share)) < LEAST_LABELS:
            raise ValueError(
                f"learning.n_steps = {first_steps} (first round) with measurement.n_chains = {n_chains} gives fewer "
                f"than the {LEAST_LABELS} configurations that training needs; raise one of them"
            )
        return self

    def check_wanted_errors(self, names: tuple[str, ...]) -> None:
        """Raises ``ValueError`` for an error wanted of something that is not measured."""
        for name in self.measurement.wanted_error:
            if name not in names:
                raise ValueError(f"measurement.wanted_error: {name!r} is not measured; measured are {', '.join(names)}")


def changed_fields(name: str, section: Settings) -> list[str]:
    """The dotted names of the fields of a section that are not at their defaults."""
    return [f"{name}.{field}" for field in type(section).model_fields if not _is_default(section, field)]


def no_effect(names: list[str], where: str) -> str:
    """The sentence about settings that cannot take effect."""
    *most, last = names
    listed = f"{', '.join(most)} and {last} have" if most else f"{last} has"
    return f"{listed} no effect {where}; leave {'them' if most else 'it'} out"


def _is_default(settings: BaseModel, name: str) -> bool:
    """Whether a field, given by its dotted name, is at its default."""
    first, _, rest = name.partition(".")
    value = getattr(settings, first)
    return _is_default(value, rest) if rest else value == type(settings).model_fields[first].default


def _nested(names: tuple[str, ...]) -> dict[str, Any]:
    """Dotted names as the nested dictionary in which pydantic wants them."""
    found: dict[str, Any] = {}
    for name in names:
        first, _, rest = name.partition(".")
        found[first] = found.get(first, {}) | _nested((rest,)) if rest else True
    return found


Config = TypeVar("Config", bound=Settings)


def load_config(path: Path, kind: type[Config], overrides: list[str] | None = None, seed: int | None = None) -> Config:
    """The validated settings of a TOML file, with ``section.field=value`` overrides applied.

    Raises ``UserError`` with one sentence that names the field and what is allowed.
    """
    try:
        data = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    for override in overrides or []:
        _override(data, override)
    if seed is not None:
        data["seed"] = seed
    return validated(data, kind)


def system_of(path: Path) -> str:
    """The ``system`` a TOML file names, empty where it names none or cannot be read: ``load_config`` then says why."""
    try:
        return str(tomllib.loads(path.read_text()).get("system", ""))
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError):
        return ""


def validated(data: dict[str, Any], kind: type[Config]) -> Config:
    """Settings from nested dictionaries; raises ``UserError`` naming the first field that is wrong."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(_sentence(error.errors(), kind)) from None


def _override(data: dict[str, Any], text: str) -> None:
    name, separator, value = text.partition("=")
    *sections, field = name.strip().split(".")
    if not separator or not field:
        raise UserError(f"--set {text} is not of the form section.field=value, for instance target.temperature=0.1.")
    place = data
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise UserError(f"--set {text}: {section} is a value, not a section.")
    try:
        place[field] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        place[field] = value.strip()


def _sentence(errors: list[Any], kind: type[BaseModel]) -> str:
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
    same = [one["msg"] for one in errors if _field(one["loc"], kind) == location]
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
