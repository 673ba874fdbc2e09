"""What a configuration file may say about expensive weights of vectors."""

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from slmc.system import Idle, InnerSection, Rounds, RunSettings, Settings, TrainingSection, refuse_idle

Described = tuple[Literal["normal", "uniform", "log-normal", "flat", "positive"], float, float]


class VectorTarget(Settings):
    """The log-likelihood, by the name under which an installed package offers it, or behind a UM-Bridge server."""

    log_likelihood: str | None = Field(None, description="by the name that an installed package gives it")
    options: dict[str, Any] = Field({}, description="of that log-likelihood")
    url: str | None = Field(None, description='or a UM-Bridge server, "http://localhost:4242"')
    model: str = Field("posterior", description="name of the model on that server")
    config: dict[str, Any] = Field({}, description="of the model on that server")
    observed: tuple[float, ...] | None = Field(
        None, description="data with which its outputs are compared; left out: its one output is the log-likelihood"
    )
    noise: PositiveFloat = Field(1.0, description="standard deviation of the data")
    parameters: dict[str, Described] = Field(
        {},
        description='prior, {k = ["normal", mean, deviation], c = ["uniform", lower, upper]}, "log-normal", "flat", '
        '"positive"; left out: as the package says',
    )
    gradients: bool = Field(True, description="use derivatives where there are any")
    slow: str | None = Field(None, description="parameter whose effective samples are quoted; left out: the first")
    workers: NonNegativeInt = Field(0, description="processes (requests to a server) at a time; 0: one after the other")
    timeout: PositiveFloat = Field(3600.0, description="seconds after which an evaluation by a worker has failed")
    max_failures: float = Field(0.1, ge=0, le=1, description="share of failed evaluations that ends the run")

    @model_validator(mode="after")
    def _consistent(self) -> "VectorTarget":
        if (self.log_likelihood is None) == (self.url is None):
            raise ValueError("give either log_likelihood, the name of one that is installed, or the url of a server")
        for_server = ("model", "config", "observed", "noise")
        refuse_idle(
            self,
            Idle(self.url is None, for_server, "without a url"),
            Idle(self.url is not None, ("options",), "with a url"),
            Idle(self.observed is None, ("noise",), "without observed data"),
        )
        if self.url is not None and not self.parameters:
            raise ValueError("parameters must say how the inputs of the model on a server are distributed before")
        for name, (kind, first, second) in self.parameters.items():
            if kind == "uniform" and not first < second:
                raise ValueError(f"parameters.{name:.40} needs lower < upper; got {first} and {second}")
            if kind != "uniform" and not second > 0:
                raise ValueError(f"parameters.{name:.40} needs a positive second number; got {second}")
        return self


class VectorExact(Settings):
    """The update that needs no model: it thermalises, gives the first training data, and runs the baseline."""

    update: Literal["hmc", "random walk", "crank-nicolson"] = Field(
        "hmc",
        description="hmc: with gradients and a mass matrix; random walk: adaptive Metropolis; crank-nicolson: pCN",
    )
    n_steps: PositiveInt = Field(5, description="integrator steps of a trajectory")
    acceptance: float = Field(
        0.8, gt=0, lt=1, description="to which its step size is tuned; left out: 0.8 of hmc, 0.25 of others"
    )
    tuning_steps: PositiveInt = Field(150, description="updates per chain in which that is done, before thermalising")
    every: int = Field(0, ge=0, description="mix one exact update in after every this many outer steps; 0: never")

    @model_validator(mode="before")
    @classmethod
    def _as_usual(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("update") in ("random walk", "crank-nicolson"):
            return {"acceptance": 0.25, **data}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "VectorExact":
        refuse_idle(self, Idle(self.update != "hmc", ("n_steps",), f'with exact.update = "{self.update}"'))
        return self


class VectorModel(Settings):
    """The effective model of the log-likelihood; the prior is known."""

    form: Literal["polynomial", "network"] = Field(
        "polynomial", description="polynomial: by least squares; network: one on top of it, trained"
    )
    degree: int = Field(2, ge=1, le=6, description="of the polynomial")
    n_hidden: PositiveInt = Field(64, description="units in a layer of the network")
    n_layers: int = Field(2, ge=1, le=8, description="layers of the network")

    @model_validator(mode="after")
    def _consistent(self) -> "VectorModel":
        refuse_idle(self, Idle(self.form == "polynomial", ("n_hidden", "n_layers"), 'with model.form = "polynomial"'))
        return self


class VectorInner(InnerSection):
    """The chain of the effective model that makes a proposal: trajectories with a mass matrix."""

    n_steps: PositiveInt = Field(8, description="integrator steps of a trajectory of the model")


class VectorLearning(TrainingSection):
    """Rounds of sampling and fitting; forces count where there are gradients."""

    training_steps: NonNegativeInt | Rounds = Field(
        0, description="optimiser steps in a round, or a list (network); 0: least squares alone"
    )


class VectorRun(RunSettings):
    """A run of an expensive weight of a vector."""

    system: Literal["vectors"] = Field("vectors", description="the system")
    target: VectorTarget
    exact: VectorExact = VectorExact()  # type: ignore[assignment]
    model: VectorModel = VectorModel()
    inner: VectorInner = VectorInner()
    learning: VectorLearning = VectorLearning()

    may_change: ClassVar[tuple[str, ...]] = (
        *RunSettings.may_change,
        *(f"target.{name}" for name in ("workers", "timeout", "max_failures")),
    )

    @model_validator(mode="after")
    def _consistent(self) -> "VectorRun":
        solved = self.model.form == "polynomial" and self.learns
        refuse_idle(self, Idle(solved, ("learning.training_steps",), 'with model.form = "polynomial"'))
        if self.learns and not solved and self.learning.training_steps == 0:
            raise ValueError('model.form = "network" is trained: set learning.training_steps, to 600 for instance')
        return self
