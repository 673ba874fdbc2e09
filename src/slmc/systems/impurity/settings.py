"""What a configuration file may say about impurity models."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from slmc.selflearning import TrainingSettings
from slmc.system import Idle, Rounds, RunSettings, Settings, refuse_idle
from slmc.systems.impurity.anderson import default_capacity
from slmc.systems.impurity.levels import BathModel
from slmc.systems.impurity.measured import scalar_names
from slmc.systems.impurity.network_model import NetworkModel
from slmc.systems.impurity.pair_model import PairModel
from slmc.systems.impurity.poles import Poles

_MOST_VERTICES = 4096
"""Matrices of more vertices take hours an update."""

ImpurityModel = BathModel | PairModel | NetworkModel
"""The effective models."""


class ImpuritySettings(Settings):
    """The single-impurity Anderson model."""

    beta: PositiveFloat = Field(
        10.0, description="β, inverse temperature", json_schema_extra={"symbol": "β", "units": "1/energy"}
    )
    interaction: PositiveFloat = Field(
        4.0, description="U, between the two spins", json_schema_extra={"symbol": "U", "units": "energy"}
    )
    level: float = Field(
        0.0,
        description="x = ε_d + U/2 − μ, of the impurity; 0: half filling in a symmetric bath",
        json_schema_extra={"symbol": "x", "units": "energy"},
    )
    bath: Literal["semicircle", "levels", "file", "bethe"] = Field(
        "semicircle",
        description='what the impurity is coupled to; "bethe": the Bethe lattice, found while thermalising (DMFT)',
    )
    half_bandwidth: PositiveFloat = Field(
        2.0, description="D, of the semicircle or lattice", json_schema_extra={"symbol": "D", "units": "energy"}
    )
    coupling: PositiveFloat = Field(
        1.0,
        description="V, to the semicircle; D/2: the Bethe lattice without interaction",
        json_schema_extra={"symbol": "V", "units": "energy"},
    )
    energies: tuple[float, ...] = Field((), description="ε_k, of the levels of the bath")
    couplings: tuple[float, ...] = Field((), description="V_k, of the impurity to each level")
    file: str | None = Field(None, description="a table of Δ: τ Δ(τ), or ω Re Δ(iω) Im Δ(iω)")
    expansion: PositiveFloat = Field(1.0, description="K, of the expansion; more raises the order")
    capacity: PositiveInt | None = Field(
        None, le=_MOST_VERTICES, description="slots for vertices; left out: six standard deviations above K + βU/2"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ImpuritySettings":
        where = f'with bath = "{self.bath}"'
        refuse_idle(
            self,
            Idle(self.bath not in ("semicircle", "bethe"), ("half_bandwidth",), where),
            Idle(self.bath != "semicircle", ("coupling",), where),
            Idle(self.bath != "levels", ("energies", "couplings"), where),
            Idle(self.bath != "file", ("file",), where),
        )
        if self.bath == "file" and self.file is None:
            raise ValueError('bath = "file" needs target.file, a table of the hybridization function')
        if self.bath == "levels" and not 0 < len(self.energies) == len(self.couplings) <= 1000:
            raise ValueError(
                'bath = "levels" needs as many energies as couplings, 1 to 1000 of each; got '
                f"{len(self.energies)} and {len(self.couplings)}"
            )
        parameters = self.beta, self.interaction, self.expansion
        mean = self.expansion + self.beta * self.interaction / 2
        if mean > _MOST_VERTICES or default_capacity(*parameters) > _MOST_VERTICES:
            raise ValueError(
                f"β = {self.beta:g}, U = {self.interaction:g} and K = {self.expansion:g} need more than "
                f"{_MOST_VERTICES} vertices; lower one of them"
            )
        if self.beta * max(self.fastest, self.interaction) > 1e4:
            raise ValueError(
                f"β = {self.beta:g} times the largest energy, {max(self.fastest, self.interaction):g}, must not exceed "
                "10,000; lower one of them"
            )
        return self

    @property
    def fastest(self) -> float:
        """A bound of all energies without the interaction."""
        if self.bath == "semicircle":
            return abs(self.level) + self.half_bandwidth + self.coupling
        if self.bath == "bethe":
            return abs(self.level) + self.half_bandwidth + self.interaction
        if self.bath == "file":
            return abs(self.level)
        return max(abs(e) for e in (self.level, *self.energies)) + sum(v * v for v in self.couplings) ** 0.5


class ImpurityExactSettings(Settings):
    """The update that needs no model, sweeps of local updates: it thermalises and runs the baseline."""

    update: Literal["determinants", "levels"] = Field(
        "determinants",
        description='"determinants": of all vertices, by rank one; "levels": of a bath of few levels, window by window',
    )
    n_updates: PositiveInt | None = Field(
        None, description="local updates in a sweep (determinants); left out: twice K + βU/2"
    )
    every: int = Field(0, ge=0, description="mix one exact sweep in after every this many outer steps; 0: never")


class ImpurityModelSettings(Settings):
    """The effective model."""

    name: Literal["bath", "pair", "network"] = Field(
        "bath",
        description='"bath": an impurity with few levels; "pair": auxiliary spins that interact in pairs; "network": a '
        "small network for every vertex on top of pairs",
    )
    n_levels: int = Field(4, ge=2, le=8, description="levels, fitted to the propagator without interaction (bath)")
    n_polynomials: int = Field(8, ge=1, le=64, description="Chebyshev polynomials in J and in L (pair, network)")
    n_hidden: int = Field(6, ge=1, le=64, description="hidden units of the network (network)")
    by_order: bool = Field(True, description="whether the sum over pairs is divided by the number of vertices (pair)")
    file: str | None = Field(None, description="a stored model.eqx to start from; its form replaces the fields above")


class ImpurityInnerSettings(Settings):
    """The chain of the effective model that makes a proposal."""

    n_updates: PositiveInt | Literal["auto"] = Field(
        4, description='sweeps of the model in one proposal; "auto": for the most effective samples a second'
    )


class ImpurityLearningSettings(Settings):
    """Rounds of sampling and fitting by least squares."""

    n_rounds: int = Field(
        2, ge=0, description="rounds at most; fewer if the held-out residual stops improving; 0: exact updates alone"
    )
    n_steps: PositiveInt | Rounds = Field(
        50, description="steps per chain and round, all of them training data; or a list, one for each round"
    )
    held_out_share: float = Field(0.25, gt=0, lt=1, description="share of the chains kept out of the training data")

    @property
    def training(self) -> TrainingSettings:
        """No gradient steps: one solve is the whole fit."""
        return TrainingSettings(n_steps=0, force_weight=0)


class ImpurityRun(RunSettings):
    """A run of an impurity model."""

    system: Literal["impurity"] = Field("impurity", description="the physical system")
    target: ImpuritySettings = ImpuritySettings()
    exact: ImpurityExactSettings = ImpurityExactSettings()  # type: ignore[assignment]
    model: ImpurityModelSettings = ImpurityModelSettings()
    inner: ImpurityInnerSettings = ImpurityInnerSettings()
    learning: ImpurityLearningSettings = ImpurityLearningSettings()  # type: ignore[assignment]

    files: ClassVar[dict[str, str]] = {"model.file": "start.eqx", "target.file": "bath.txt"}

    @model_validator(mode="after")
    def _consistent(self) -> "ImpurityRun":
        self.check_wanted_errors(scalar_names(self.measurement.observables))
        model, update = self.model, self.exact.update
        form = "model.name", "model.n_levels", "model.n_polynomials", "model.by_order", "model.n_hidden"
        refuse_idle(
            self,
            Idle(model.file is not None, form, "beside model.file"),
            Idle(model.name != "bath", ("model.n_levels",), f'with model.name = "{model.name}"'),
            Idle(model.name == "bath", ("model.n_polynomials",), f'with model.name = "{model.name}"'),
            Idle(model.name != "pair", ("model.by_order",), f'with model.name = "{model.name}"'),
            Idle(model.name != "network", ("model.n_hidden",), f'with model.name = "{model.name}"'),
            Idle(
                self.exact.update != "determinants", ("exact.n_updates",), f'with exact.update = "{self.exact.update}"'
            ),
        )
        if self.target.bath == "bethe" and self.thermalisation.n_steps < 4 * self.measurement.block_size:
            raise ValueError(
                'target.bath = "bethe" finds the bath in the first half of the blocks of thermalisation; let '
                "thermalisation.n_steps be at least 4 times measurement.block_size"
            )
        if update == "levels" and self.target.bath != "levels":
            raise ValueError(
                f'exact.update = "levels" needs a bath of few levels, target.bath = "levels"; a {self.target.bath} has '
                'too many, so use "determinants"'
            )
        return self


def describe(model: ImpurityModel) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    if isinstance(model, BathModel):
        return {"name": "bath", "n_levels": len(model.energies)}
    if isinstance(model, NetworkModel):
        n_hidden, n_features = model.hidden.shape
        return {"name": "network", "n_polynomials": n_features // 2, "n_hidden": n_hidden}
    return {"name": "pair", "n_polynomials": model.coefficients.shape[1], "by_order": model.by_order}


def build_like(description: dict[str, Any]) -> ImpurityModel:
    """A model of the structure that ``describe`` tells, with numbers to be replaced."""
    constants = np.ones(3)
    if description["name"] == "bath":
        n_levels = description["n_levels"]
        return BathModel(Poles(np.zeros(n_levels), np.full(n_levels, 1 / n_levels)), constants)
    if description["name"] == "network":
        return NetworkModel(description["n_polynomials"], description["n_hidden"], constants)
    return PairModel(description["n_polynomials"], constants, bool(description["by_order"]))
