"""What the command line does with ``system = "double_exchange"``: its settings, and the problem that they describe."""

from pathlib import Path
from typing import ClassVar, Literal

import jax
from pydantic import Field, model_validator

from slmc.selflearning import LearningSettings, TrainingSettings
from slmc.simulation import RunSettings, ScanSettings, TrainingSection, UserError, load_model
from slmc.systems.spins import Heisenberg
from slmc.systems.spins.problem import SpinProblem, scalar_names
from slmc.systems.spins.settings import (
    DoubleExchangeSettings,
    EffectiveModel,
    InnerSettings,
    ModelSettings,
    build_like,
)

_MODEL_KEY = 98


class DoubleExchangeConfig(RunSettings):
    """A run of the double-exchange model."""

    system: Literal["double_exchange"] = Field("double_exchange", description="the physical system")
    target: DoubleExchangeSettings = DoubleExchangeSettings()
    model: ModelSettings = ModelSettings()
    inner: InnerSettings = InnerSettings()
    learning: TrainingSection = TrainingSection()
    scan: ScanSettings = ScanSettings()

    may_change: ClassVar[tuple[str, ...]] = (*RunSettings.may_change, "scan")
    came_later: ClassVar[tuple[str, ...]] = ("target.weight",)

    @model_validator(mode="after")
    def _consistent(self) -> "DoubleExchangeConfig":
        self.check_wanted_errors(scalar_names(self.measurement.observables, self.target.shape))
        linear_guide = self.inner.nested == "linear"
        if (
            self.inner.update == "heat-bath"
            and not linear_guide
            and self.model.name != "linear"
            and not self.model.file
        ):
            raise ValueError(
                f'inner.update = "heat-bath" needs model.name = "linear" or inner.nested = "linear"; use "hmc" for a '
                f"{self.model.name}"
            )
        if self.learning.training_steps == 0 and self.model.name != "linear" and self.model.file is None:
            raise ValueError(
                f'learning.training_steps = 0 needs model.name = "linear"; a {self.model.name} must be trained'
            )
        if linear_guide and self.model.name == "linear" and self.model.file is None:
            raise ValueError('inner.nested = "linear" needs a better model than a linear one outside; use "network"')
        n_chains = self.measurement.n_chains
        if n_chains % self.target.n_samples:
            raise ValueError(
                f"measurement.n_chains = {n_chains} must be a multiple of target.n_samples = {self.target.n_samples}"
            )
        return self


def build(config: DoubleExchangeConfig, directory: Path = Path()) -> SpinProblem:
    """The problem that a configuration describes; ``model.file`` is relative to ``directory``.

    Raises ``UserError`` naming the field that is wrong.
    """
    learning, training_steps = config.learning, config.learning.training_steps
    training = TrainingSettings(
        n_steps=training_steps if isinstance(training_steps, int) else training_steps[0],
        batch_size=learning.batch_size,
        learning_rate=learning.learning_rate,
        weight_decay=learning.weight_decay,
        force_weight=learning.force_weight,
        single_precision=learning.single_precision,
        optimiser=learning.optimiser,
    )
    return SpinProblem(
        target=config.target.build(),
        model=_model(config, directory) if config.learns else None,
        exact_update=config.exact.update,
        exact_steps=config.exact.n_steps,
        exact_integrator=config.exact.integrator,
        inner=config.inner,
        learning=LearningSettings(
            n_rounds=learning.n_rounds,
            n_steps=learning.n_steps,
            n_updates=None if config.inner.n_updates == "auto" else config.inner.n_updates,
            inner_acceptance=config.inner.acceptance,
            held_out_share=learning.held_out_share,
            training=training,
            training_steps=None if isinstance(training_steps, int) else training_steps,
        ),
        names=scalar_names(config.measurement.observables, config.target.shape),
        filling=config.target.filling,
        concentration=config.target.concentration,
        n_samples=config.target.n_samples,
    )


def _model(config: DoubleExchangeConfig, directory: Path) -> EffectiveModel:
    """The model to start learning from."""
    shape, temperature = config.target.shape, config.target.temperature
    # The runner folds phases into the key of the seed; the model has one of its own.
    key = jax.random.fold_in(jax.random.key(config.seed), _MODEL_KEY)
    try:
        model = config.model.build(shape, temperature, key)
        if config.model.file is not None:
            model = load_model(directory / config.model.file, build_like).on_lattice(shape, temperature)
    except ValueError as error:
        raise UserError(f"model.{error}") from None
    nested = config.inner.nested == "linear"
    needs_linear = (config.inner.update == "heat-bath" and not nested) or not config.learning.training_steps
    if needs_linear and not isinstance(model, Heisenberg):
        raise UserError(
            f"model.file = {config.model.file} holds no linear model, so that inner.update must not be heat-bath and "
            "learning.training_steps not 0."
        )
    if nested and isinstance(model, Heisenberg):
        raise UserError(f'model.file = {config.model.file} holds a linear model, so that inner.nested must be "no".')
    return model
