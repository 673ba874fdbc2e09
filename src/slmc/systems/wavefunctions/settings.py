"""What a configuration file may say about wave functions."""

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import numpy as np
from flax import linen as nn
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.lattice import Shape, n_sites
from slmc.system import Settings, StepSettings, VariationalSettings
from slmc.systems.wavefunctions.symmetry import SymmetryProjection, check_sector
from slmc.systems.wavefunctions.wavefunction import LogAmplitude, Spins, VisionTransformer

Projection = Literal["translations", "point_group", "spin_flip"]


_MOST_SITES = 4096
"""Of a wave function, whose Hamiltonian lists all pairs of neighbours in Python."""


class HamiltonianSettings(Settings):
    """The J1-J2 Heisenberg model, J1 = 1."""

    shape: tuple[PositiveInt, ...] = Field((4, 4), description="extents of the periodic lattice: a square or a chain")
    j2: float = Field(0.5, description="J2 / J1")
    marshall: bool = Field(False, description="rotate one sublattice by π about z (the Marshall sign of J2 = 0)")

    @field_validator("shape")
    @classmethod
    def _square_or_chain(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) not in (1, 2) or len(set(shape)) > 1 or shape[0] % 2 or shape[0] < 4:
            raise ValueError(f"must be [L] or [L, L] with L even and at least 4; got {list(shape)}")
        if n_sites(shape) > _MOST_SITES:
            raise ValueError(f"at most {_MOST_SITES} sites are possible; got {n_sites(shape)}")
        return shape


class ModelSettings(Settings):
    """The Vision Transformer."""

    attention: Literal["factored", "dot-product", "decoupled"] = Field(
        "factored", description='"factored" (positions alone), "dot-product" or "decoupled"'
    )
    n_layers: PositiveInt = Field(2, description="encoder blocks")
    n_features: PositiveInt = Field(16, description="numbers in a token, a multiple of n_heads")
    n_heads: PositiveInt = Field(4, description="attention heads")
    patch: PositiveInt = Field(2, description="sites in a patch, in each direction")
    projection: tuple[Projection, ...] = Field(
        (),
        description='symmetries to project on: "translations", "point_group", "spin_flip"; costs as many evaluations',
    )
    initial_scale: PositiveFloat = Field(
        1.0, description="of the head's output before the first step; small: all amplitudes nearly equal"
    )
    single_precision: bool = Field(
        False, description="the encoder in float32, for large networks on GPUs: log ψ is off by about 1e-5"
    )
    momentum: Literal["0", "pi"] = Field("0", description='momentum to project on, "pi" in every direction, or "0"')
    parity: Literal["even", "odd"] = Field("even", description="under the flip of all spins, if that is projected on")

    @field_validator("momentum", mode="before")
    @classmethod
    def _as_text(cls, momentum: Any) -> Any:
        return "0" if momentum == 0 and type(momentum) is int else momentum

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSettings":
        if self.n_features % self.n_heads:
            raise ValueError(
                f"model.n_features = {self.n_features} must be a multiple of model.n_heads = {self.n_heads}"
            )
        if self.momentum == "pi" and ("translations" not in self.projection or self.patch % 2):
            raise ValueError('model.momentum = "pi" needs "translations" in model.projection and an even model.patch')
        if self.parity == "odd" and "spin_flip" not in self.projection:
            raise ValueError('model.parity = "odd" needs "spin_flip" in model.projection')
        return self

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        """The wave function on a lattice. Raises ``ValueError`` if patches do not tile it or a sector is empty."""
        if any(extent % self.patch for extent in shape):
            raise ValueError(f"model.patch = {self.patch} must divide the extents of hamiltonian.shape = {list(shape)}")
        bare = VisionTransformer(
            shape,
            self.n_layers,
            self.n_features,
            self.n_heads,
            self.attention,
            self.patch,
            self.initial_scale,
            self.single_precision,
        )
        if not self.projection:
            return bare
        parity = 1 if self.parity == "even" else -1
        translations = self.patch if "translations" in self.projection else 1
        spin_flip = parity if "spin_flip" in self.projection else 0
        sector = ("point_group" in self.projection, spin_flip, self.momentum == "pi")
        check_sector(shape, translations > 1, *sector)
        return SymmetryProjection(bare, shape, translations, *sector)


class SamplingSettings(Settings):
    """NetKet's exchange sampler."""

    n_samples: PositiveInt = Field(512, description="configurations in a step, a multiple of n_chains")
    n_chains: PositiveInt = Field(256, description="Markov chains")
    power: float = Field(
        2.0,
        gt=0,
        le=2,
        description="p of the sampled |ψ|^p while optimising; below 2, small amplitudes are seen more",
    )
    max_distance: PositiveInt = Field(2, description="largest graph distance over which two spins are exchanged")
    sweep_size: PositiveInt | None = Field(None, description="exchanges between draws; left out: the number of sites")
    global_flips: float = Field(0.1, ge=0, lt=1, description="share of moves that flip all spins instead")
    lattice_symmetries: float = Field(
        0.0, ge=0, lt=1, description="share of moves that translate, turn or reflect the configuration instead"
    )
    n_thermalise: int = Field(100, ge=0, description="draws thrown away before the first step")
    n_discard: int = Field(1, ge=0, description="draws thrown away after each change of the parameters")
    chunk_size: PositiveInt = Field(256, description="evaluations of the network at once, a power of two")

    @field_validator("chunk_size")
    @classmethod
    def _power_of_two(cls, chunk_size: int) -> int:
        if chunk_size & (chunk_size - 1):
            raise ValueError(f"must be a power of two; got {chunk_size}")
        return chunk_size

    @model_validator(mode="after")
    def _consistent(self) -> "SamplingSettings":
        if self.global_flips + self.lattice_symmetries >= 1:
            raise ValueError("sampling.global_flips and sampling.lattice_symmetries must leave a share for exchanges")
        if self.n_samples % self.n_chains:
            raise ValueError(
                f"sampling.n_samples = {self.n_samples} must be a multiple of sampling.n_chains = {self.n_chains}"
            )
        return self


class ReconfigurationSettings(Settings):
    """Stochastic reconfiguration in the space of samples."""

    learning_rate: PositiveFloat = Field(0.02, description="at the beginning")
    final_share: float = Field(0.1, gt=0, le=1, description="of the learning rate at the end, reached along a cosine")
    diag_shift: PositiveFloat = Field(1e-3, description="added to the diagonal of the matrix of overlaps, at first")
    max_change: PositiveFloat = Field(
        0.3, description="of log ψ in a step, root mean square; the learning rate is lowered where it would be more"
    )
    momentum: float = Field(
        0.0, ge=0, lt=1, description="share of the last step kept in directions that the samples leave open (SPRING)"
    )
    final_diag_shift: PositiveFloat | None = Field(
        None, description="at the end, reached geometrically; left out: the same"
    )


class WaveFunctionRun(VariationalSettings):
    """A Vision-Transformer wave function of the J1-J2 Heisenberg model."""

    may_change: ClassVar[tuple[str, ...]] = (*VariationalSettings.may_change, "reconfiguration")

    system: Literal["wavefunction"] = Field("wavefunction", description="the physical system")
    title: str = ""
    seed: int = Field(0, ge=0, lt=2**31)
    hamiltonian: HamiltonianSettings = HamiltonianSettings()
    model: ModelSettings = ModelSettings()
    sampling: SamplingSettings = SamplingSettings()
    reconfiguration: ReconfigurationSettings = ReconfigurationSettings()
    optimisation: StepSettings = StepSettings()


def describe(model: ModelSettings, shape: tuple[int, ...]) -> dict[str, Any]:
    """What ``build_like`` needs to make a wave function of the same form."""
    return {"shape": list(shape), **model.model_dump()}


class StoredWaveFunction(eqx.Module):
    """A wave function with its parameters, as in the file of a run.

    ``module`` is the Flax module and ``parameters`` what NetKet wants as ``variables={"params": parameters}``.
    """

    module: nn.Module = eqx.field(static=True)
    shape: Shape = eqx.field(static=True)
    parameters: Any

    def log_amplitude(self, spins: Spins) -> LogAmplitude:
        """log ψ of configurations ±1, which is not normalised."""
        return jax.jit(self.module.apply)({"params": self.parameters}, spins)


def build_like(description: dict[str, Any]) -> StoredWaveFunction:
    """A wave function of the form that ``describe`` told of: ``load_model(run / "wavefunction.eqx", build_like)``."""
    form = dict(description)
    shape = tuple(form.pop("shape"))
    module = ModelSettings(**form).build(shape)
    return StoredWaveFunction(module, shape, module.init(jax.random.key(0), np.ones((1, n_sites(shape))))["params"])
