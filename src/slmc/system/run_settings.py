"""The base of the settings of a run that samples: the sections that do not depend on the system."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from slmc.selflearning import LearningSettings, TrainingSettings
from slmc.selflearning.on_the_fly import n_held_out
from slmc.system.scan_settings import ScanSettings, check_points
from slmc.system.settings import Idle, Settings, changed_fields, is_default, refuse_idle, value_of
from slmc.system.stopping import StoppingRules
from slmc.system.validation import with_fields

Rounds = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
"""A number for each round; the last holds for all further ones."""

LEAST_LABELS = 32
"""Configurations without which ``slmc.selflearning.fit`` does not begin."""


class ExactSettings(Settings):
    """The update that needs no model: it thermalises, gives the first training data, and runs the baseline."""

    update: Literal["hmc", "microcanonical", "local"] = Field(
        "hmc", description="hmc, microcanonical: trajectories with the exact force; local: sweeps"
    )
    n_steps: PositiveInt = Field(5, description="integrator steps of a trajectory")
    integrator: Literal["leapfrog", "omelyan", "fourth-order"] = Field("leapfrog", description="of a trajectory")
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

    @property
    def training(self) -> TrainingSettings:
        """No gradient steps: one solve is the whole fit."""
        return TrainingSettings(n_steps=0)


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

    @property
    def training(self) -> TrainingSettings:
        """How a round trains."""
        steps = self.training_steps
        return TrainingSettings(
            n_steps=steps if isinstance(steps, int) else steps[0],
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            force_weight=self.force_weight,
            single_precision=self.single_precision,
            optimiser=self.optimiser,
        )


InnerProposal = Literal["chain", "trajectory"]
"""What a proposal is: a chain of updates of the model, or one trajectory of it without a decision of its own."""

PROPOSAL_WORDS = '"chain": n_updates updates of the model (SLMC); "trajectory": one trajectory of it, undecided (SLHMC)'


class InnerSection(Settings):
    """The chain of the effective model that makes a proposal; what a system adds to it comes beside these."""

    proposal: InnerProposal = Field("chain", description=PROPOSAL_WORDS)
    n_updates: PositiveInt | Literal["auto"] = Field(
        10, description='updates in one proposal; "auto": for the most effective samples a second, as measured'
    )
    acceptance: float = Field(0.8, gt=0, lt=1, description="acceptance to which its step size is tuned, if it has one")


class MeasuredSteps(Settings):
    """How much is measured, and of what."""

    n_chains: int = Field(8, ge=1, description="chains; at least 2 where a model learns")
    n_steps: PositiveInt = Field(1000, description="outer steps per chain at most, rounded up to whole blocks")
    n_thermalise: int = Field(50, ge=0, description="outer steps with the frozen model before measuring")
    block_size: int = Field(50, ge=4, description="outer steps between writing records and a checkpoint")
    observables: tuple[str, ...] | None = Field(None, description="names of those to measure; left out: all")
    keep_every: NonNegativeInt = Field(
        0, description="outer steps after each of which configurations are kept in the records; 0: none are"
    )

    @model_validator(mode="after")
    def _kept_in_whole_blocks(self) -> "MeasuredSteps":
        """Blocks are what runs are made of: each keeps as many, or there is one after every so many blocks."""
        every, block = self.keep_every, self.block_size
        if every and every % block and block % every:
            raise ValueError(f"keep_every must divide block_size = {block}, or be a multiple of it; got {every}")
        if every > -(-self.n_steps // block) * block:
            raise ValueError(
                f"keep_every = {every} keeps nothing in n_steps = {self.n_steps}; take less, or 0 for none"
            )
        return self


class MeasurementSettings(StoppingRules, MeasuredSteps):
    """Sampling with the frozen model: what counts."""


class BaselineSettings(Settings):
    """An exact chain without any learned model, in the same run, to compare with."""

    n_steps: int = Field(0, ge=0, description="exact updates per chain; 0: none")


class RunSettings(Settings):
    """What every run has; a system adds its name and the sections [target], [model] and [inner].

    ``files`` tells which fields name files, and under which names a run keeps copies of them; a star in a name stands
    for the name of the file, which tells readers its format.

    With ``learning.n_rounds = 0`` it is a run without a model: the exact update alone, which then is what counts. With
    ``frozen`` the model comes from a file and stays as it is; nothing is evaluated to learn.
    """

    may_change: ClassVar[tuple[str, ...]] = (
        "title",
        "measurement.n_steps",
        *(f"measurement.{name}" for name in StoppingRules.model_fields),
        "baseline.n_steps",
        "scan",
    )
    """What may change while a run is interrupted: how long it goes on, and nothing that would change a bit before."""

    files: ClassVar[dict[str, str]] = {}

    came_later: ClassVar[dict[str, Any]] = {}
    """Fields and sections that earlier runs did not know, with what such runs did; identities leave them out there."""

    system: str
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    frozen: bool = Field(False, description="propose with the model in model.file as it is, and learn nothing")
    exact: ExactSettings = ExactSettings()
    thermalisation: ThermalisationSettings = ThermalisationSettings()
    learning: LearningSection = LearningSection()
    measurement: MeasurementSettings = MeasurementSettings()
    baseline: BaselineSettings = BaselineSettings()
    scan: ScanSettings = ScanSettings()

    @property
    def learns(self) -> bool:
        """Whether there is an effective model."""
        return self.learning.n_rounds > 0

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Sections that have no meaning in this run."""
        idle = () if self.learns else ("model", "inner", "baseline")
        return idle if self.scan.fields else (*idle, "scan")

    @property
    def learning_settings(self) -> LearningSettings:
        """What the sections [learning] and [inner] say, as ``selflearning`` wants it."""
        learning, inner = self.learning, getattr(self, "inner", InnerSection())
        steps = getattr(learning, "training_steps", 0)
        return LearningSettings(
            n_rounds=1 if self.frozen else learning.n_rounds,
            n_steps=1 if self.frozen else learning.n_steps,
            n_updates=None if inner.n_updates == "auto" else inner.n_updates,
            inner_acceptance=getattr(inner, "acceptance", 0.8),
            held_out_share=learning.held_out_share,
            training=learning.training,
            training_steps=None if isinstance(steps, int) else steps,
            proposal=getattr(inner, "proposal", "chain"),
        )

    @property
    def identity(self) -> str:
        """A digest of all settings but those that may change while a run is interrupted."""
        unset = [name for name, before in self.came_later.items() if value_of(self, name) == before]
        # Earlier runs, of whatever system, kept nothing and had no other proposals, and no fields for it.
        unset += [] if self.frozen else ["frozen"]
        unset += [] if self.measurement.keep_every else ["measurement.keep_every"]
        unset += ["inner.proposal"] if getattr(getattr(self, "inner", None), "proposal", "") == "chain" else []
        data = self.model_dump_json(exclude=nested((*self.may_change, *unset)))
        return hashlib.sha256(data.encode()).hexdigest()

    @model_validator(mode="after")
    def _trajectories_are_no_chains(self) -> "RunSettings":
        """A proposal of one trajectory has no number of updates to set, and needs trajectories to begin with."""
        inner: Any = getattr(self, "inner", None)
        if getattr(inner, "proposal", "chain") == "chain":
            return self
        if getattr(inner, "update", "hmc") != "hmc" or getattr(inner, "nested", "no") != "no":
            raise ValueError(
                'inner.proposal = "trajectory" needs inner.update = "hmc", not nested; use that, or "chain"'
            )
        number = isinstance(inner.n_updates, int)
        refuse_idle(self, Idle(number, ("inner.n_updates",), 'with inner.proposal = "trajectory"'))
        return self

    @model_validator(mode="after")
    def _frozen_models_come_from_files(self) -> "RunSettings":
        """What proposes unlearned must be all there, in a file; nothing is chosen that labels would be needed for."""
        where = "scan.learn_at" if self.scan.learn_at else "frozen = true"
        if not (self.frozen or self.scan.learn_at):
            return self
        model, inner = getattr(self, "model", None), getattr(self, "inner", None)
        if not self.learns:
            raise ValueError(f"{where} is for runs with a model; learning.n_rounds must not be 0")
        if not hasattr(model, "file"):
            raise ValueError(f"{where} needs a model that can come from a file, which that of {self.system} cannot")
        if getattr(inner, "n_updates", None) == "auto":
            raise ValueError(f'inner.n_updates = "auto" is chosen while learning; with {where} give a number')
        if getattr(inner, "nested", "no") != "no":
            raise ValueError(f'{where} needs inner.nested = "no", for the guide of a nested chain is in no file')
        if self.scan.learn_at and any(name.startswith("model.") for name in self.scan.names):
            raise ValueError("scan.learn_at is not for scans over fields of [model]: each form learns its own model")
        if self.frozen and model.file is None:  # type: ignore[union-attr]
            raise ValueError("frozen = true needs the model that proposes; name it in model.file")
        refuse_idle(self, Idle(self.frozen, tuple(changed_fields("learning", self.learning)), f"with {where}"))
        return self

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "RunSettings":
        """A run without a model has no use for what says how to learn one and how to propose with it."""
        if self.learns:
            return self
        sections = {name: getattr(self, name) for name in ("model", "inner", "learning") if hasattr(self, name)}
        given = [changed for name, section in sections.items() for changed in changed_fields(name, section)]
        given += [name for name in ("exact.every", "baseline.n_steps") if not is_default(self, name)]
        given.remove("learning.n_rounds")
        refuse_idle(self, Idle(True, tuple(given), "in a run without a model (learning.n_rounds = 0)"))
        return self

    @model_validator(mode="after")
    def _nothing_of_training_without_it(self) -> "RunSettings":
        section = self.learning
        if isinstance(section, TrainingSection):
            steps = section.training_steps
            untrained = not any(steps if isinstance(steps, tuple) else (steps,))
            names = ("batch_size", "learning_rate", "weight_decay", "optimiser", "single_precision")
            idle = tuple(f"learning.{name}" for name in names)
            refuse_idle(self, Idle(self.learns and untrained, idle, "with learning.training_steps = 0"))
        return self

    @model_validator(mode="after")
    def _enough_to_learn_from(self) -> "RunSettings":
        if not self.learns or self.frozen:
            return self
        learning, n_chains = self.learning, self.measurement.n_chains
        if n_chains < 2:
            raise ValueError(
                f"measurement.n_chains = {n_chains}: learning needs at least 2 chains, one of them held out; a single "
                "chain is for runs without a model (learning.n_rounds = 0)"
            )
        first_steps = learning.n_steps if isinstance(learning.n_steps, int) else learning.n_steps[0]
        if first_steps * (n_chains - n_held_out(n_chains, learning.held_out_share)) < LEAST_LABELS:
            raise ValueError(
                f"learning.n_steps = {first_steps} (first round) with measurement.n_chains = {n_chains} gives fewer "
                f"than the {LEAST_LABELS} configurations that training needs; raise one of them"
            )
        return self

    @model_validator(mode="after")
    def _right_at_every_point(self) -> "RunSettings":
        """A scan is refused before it begins, not when it comes to a point that is wrong."""
        check_points(self)
        return self

    def check_wanted_errors(self, names: tuple[str, ...]) -> None:
        """Raises ``ValueError`` for an error wanted of something that is not measured."""
        self.measurement.check_names(names)


def kept_files(settings: Settings) -> dict[str, str]:
    """The names under which the directory of a run keeps the files that its settings name, by fields."""
    kept = {}
    for field, name in getattr(settings, "files", {}).items():
        file = value_of(settings, field)
        if "*" not in name:
            kept[field] = name
        elif file is not None:
            start, _, end = name.partition("*")
            inner = Path(file).name
            # In its own directory a run already has it under that name.
            kept[field] = inner if inner.startswith(start) and inner.endswith(end) else f"{start}{inner}{end}"
    return kept


def as_begun(data: Mapping[str, Any], kind: type[Settings]) -> dict[str, Any]:
    """A run's stored configuration, with what it did before there was a field for it; sections that are not stored have
    no effect in the run."""
    later = getattr(kind, "came_later", {})
    before = {name: value for name, value in later.items() if not isinstance(value, Settings)}
    missing = {
        name: value for name, value in before.items() if name.split(".")[0] in data and not _is_given(data, name)
    }
    return with_fields(data, missing)


def _is_given(data: Any, name: str) -> bool:
    first, _, rest = name.partition(".")
    if not isinstance(data, Mapping) or first not in data:
        return False
    return _is_given(data[first], rest) if rest else True


def nested(names: tuple[str, ...]) -> dict[str, Any]:
    """Dotted names as the nested dictionary in which pydantic wants them."""
    tree: dict[str, Any] = {}
    for name in names:
        first, _, rest = name.partition(".")
        tree[first] = tree.get(first, {}) | nested((rest,)) if rest else True
    return tree


class ProblemSettings(RunSettings):
    """Settings of a run of a problem that was built in Python, which says for itself what is sampled."""

    system: Literal["python"] = Field("python", description="a problem that was built in Python")
    inner: InnerSection = InnerSection()
    learning: TrainingSection = TrainingSection()
