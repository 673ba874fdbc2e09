"""What the command line does with ``system = "gauge"``: its settings, and the problem that they describe."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from slmc.selflearning import LearningSettings, TrainingSettings
from slmc.simulation import RunSettings, UserError, load_model
from slmc.simulation.config import changed_fields, no_effect
from slmc.systems.gauge import EffectiveAction, Links, unit_links
from slmc.systems.gauge.links import check_even
from slmc.systems.gauge.problem import GaugeProblem, scalar_names, stored_links
from slmc.systems.gauge.settings import (
    EffectiveActionSettings,
    GaugeInnerSettings,
    GaugeSettings,
    GaugeTarget,
    PseudofermionSettings,
    build_like,
)


class GaugeConfig(RunSettings):
    """A run of SU(N) lattice gauge theory."""

    system: Literal["gauge"] = Field("gauge", description="the physical system")
    target: GaugeSettings = GaugeSettings()
    model: EffectiveActionSettings = EffectiveActionSettings()
    inner: GaugeInnerSettings = GaugeInnerSettings()
    pseudofermions: PseudofermionSettings = PseudofermionSettings()

    may_change: ClassVar[tuple[str, ...]] = (*RunSettings.may_change, "pseudofermions.max_iterations")
    came_later: ClassVar[tuple[str, ...]] = ("target.determinant", "pseudofermions")

    @model_validator(mode="after")
    def _consistent(self) -> "GaugeConfig":
        self.check_wanted_errors(scalar_names(self.measurement.observables, self.target.fermions))
        self._check_pseudofermions()
        self._check_heat_bath()
        self._nothing_idle()
        return self

    def _check_heat_bath(self) -> None:
        if self.inner.update != "heat-bath":
            return
        if self.model.file is None and (self.model.rectangles or self.model.polyakov_loops):
            raise ValueError(
                'inner.update = "heat-bath" needs an action of plaquettes alone: set model.rectangles = false and '
                'model.polyakov_loops = false, or use "hmc"'
            )
        try:
            check_even(self.target.shape, 'inner.update = "heat-bath"')
        except ValueError as error:
            raise ValueError(f"target.shape: {error}") from None

    def _nothing_idle(self) -> None:
        """Options that the chosen updates would never read are refused."""
        trajectory = ("inner.n_steps", "inner.integrator", "inner.acceptance")
        exact_trajectory = ("exact.n_steps", "exact.integrator")
        inner, exact = self.inner, self.exact
        cases = (
            (inner.update == "heat-bath", "inner", trajectory, 'with inner.update = "heat-bath"'),
            (inner.n_updates == "auto", "inner", trajectory[:1], 'with inner.n_updates = "auto", which chooses it'),
            (exact.update == "local", "exact", exact_trajectory, 'with exact.update = "local"'),
        )
        for applies, section, idle, where in cases:
            given = [name for name in changed_fields(section, getattr(self, section)) if name in idle]
            if applies and given:
                raise ValueError(no_effect(given, where))

    def _check_pseudofermions(self) -> None:
        if self.target.determinant == "exact":
            changed = changed_fields("pseudofermions", self.pseudofermions)
            if changed:
                raise ValueError(no_effect(changed, 'without target.determinant = "pseudofermions"'))
            return
        if self.learns:
            raise ValueError(
                'target.determinant = "pseudofermions" needs learning.n_rounds = 0, since an effective action knows '
                'the links alone; set that, or use determinant = "exact"'
            )
        if self.exact.update != "hmc":
            raise ValueError(
                f'target.determinant = "pseudofermions" needs exact.update = "hmc"; got {self.exact.update!r}'
            )


def build(config: GaugeConfig, directory: Path = Path()) -> GaugeProblem:
    """The problem that a configuration describes; its files are relative to ``directory``.

    Raises ``UserError`` naming the field that is wrong.
    """
    learning = config.learning
    return GaugeProblem(
        target=_target(config),
        model=_model(config, directory) if config.learns else None,
        keeps_model=config.model.file is not None,
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
            training=TrainingSettings(n_steps=0),
        ),
        force_weight=learning.force_weight,
        names=scalar_names(config.measurement.observables, config.target.fermions),
        start=_start(config.target, directory),
        n_gauge_steps=config.pseudofermions.n_gauge_steps,
    )


def _target(config: GaugeConfig) -> GaugeTarget:
    try:
        return config.target.build(config.pseudofermions)
    except ValueError as error:
        raise UserError(f"target.n_flavours = {config.target.n_flavours:g}: {error}") from None


def _model(config: GaugeConfig, directory: Path) -> EffectiveAction:
    target, file = config.target, config.model.file
    if file is None:
        return config.model.build(target.shape, target.n_colours)
    model = load_model(directory / file, build_like)
    if model.n_colours != target.n_colours:
        raise UserError(f"model.file = {file} is of SU({model.n_colours}), but target.n_colours = {target.n_colours}.")
    if config.inner.update == "heat-bath" and model.plaquette_coupling is None:
        raise UserError(f"model.file = {file} holds more than plaquettes, so that inner.update must not be heat-bath.")
    try:
        return model.on_lattice(target.shape)
    except ValueError as error:
        raise UserError(f"model.file = {file}: {error}") from None


def _start(target: GaugeSettings, directory: Path) -> Links | None:
    """The links from which all chains start, ``None`` for random ones."""
    if target.file is None:
        return None if target.start == "hot" else unit_links(target.shape, target.n_colours)
    try:
        return stored_links(directory / target.file, target.shape)
    except ValueError as error:
        raise UserError(f"target.file: {error}") from None
    except OSError as error:
        raise UserError(f"target.file = {target.file} cannot be read: {error.strerror}.") from None
