"""What ``slmc measure`` does with gauge fields in files."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.system import FileMeasurement, Idle, OfFile, Settings, changed_fields, refuse_idle
from slmc.systems.gauge.configuration_files import is_configuration, read_links
from slmc.systems.gauge.domain_wall import DomainWall
from slmc.systems.gauge.fermion_settings import FERMION_WORDS, FermionName, WallSettings, check_fermions, operator_of
from slmc.systems.gauge.gradient_flow import flow_scales
from slmc.systems.gauge.links import check_lattice
from slmc.systems.gauge.measurement import DESCRIPTIONS, LinkMeasurement, measured_links
from slmc.systems.gauge.observables import noisy_sources, residual_mass
from slmc.systems.gauge.solvers import STANDARD_SOLVER, Solver

Values = Mapping[str, float | complex | np.ndarray]


class FileSettings(Settings):
    """What to measure of files of links, besides plaquette, rectangle and Polyakov loop."""

    shape: tuple[PositiveInt, ...] | None = Field(
        None, description="extents x, y, z, t, of LIME files that do not tell them"
    )
    wilson_loops: tuple[NonNegativeInt, NonNegativeInt] = Field(
        (0, 0), description="Wilson loops up to so many links in space and in time; 0: none"
    )
    flow_time: float = Field(0.0, ge=0, description="where the gradient flow ends: scales, charge; 0: no flow")
    flow_step: PositiveFloat = Field(0.02, description="of the flow")
    fermions: FermionName = Field("none", description=f"condensate and pion correlator: {FERMION_WORDS}")
    mass: PositiveFloat | None = Field(None, description="in lattice units (staggered, domain-wall)")
    kappa: PositiveFloat | None = Field(None, description="hopping parameter (wilson)")
    domain_wall: WallSettings = WallSettings()
    n_sources: PositiveInt = Field(4, description="Gaussian sources of the condensate")
    seed: int = Field(0, ge=0, lt=2**63, description="of those sources, which differ from file to file")
    solver_tolerance: float = Field(STANDARD_SOLVER.tolerance, ge=1e-14, le=1e-4, description="relative residual")
    max_iterations: PositiveInt = Field(STANDARD_SOLVER.max_iterations, description="of conjugate gradients")

    @field_validator("shape")
    @classmethod
    def _a_lattice(cls, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if shape is None else check_lattice(shape)

    @model_validator(mode="after")
    def _consistent(self) -> "FileSettings":
        check_fermions(self)
        solved = ("n_sources", "seed", "solver_tolerance", "max_iterations")
        wall = tuple(changed_fields("domain_wall", self.domain_wall))
        refuse_idle(
            self,
            Idle(self.fermions == "none", solved, "without fermions"),
            Idle(self.fermions != "domain-wall", wall, 'without fermions = "domain-wall"'),
            Idle(self.flow_time == 0, ("flow_step",), "without flow_time"),
        )
        if min(self.wilson_loops) == 0 < max(self.wilson_loops):
            raise ValueError("wilson_loops needs both a largest distance and a largest time, or neither")
        if 0 < self.flow_time < self.flow_step:
            raise ValueError(f"flow_time = {self.flow_time:g} is shorter than a step, flow_step = {self.flow_step:g}")
        return self


def measure_file(path: Path, settings: FileSettings, number: int) -> OfFile:
    """Everything that is asked for, of the links in one file. Raises ``ValueError`` as ``read_links`` does."""
    stored = read_links(path, settings.shape)
    links = stored.links
    operator = operator_of(settings, links.shape[1:5], links.shape[-1], settings.domain_wall)
    what = LinkMeasurement(
        settings.wilson_loops,
        settings.flow_time,
        settings.flow_step,
        operator,
        settings.n_sources,
        Solver(settings.solver_tolerance, settings.max_iterations),
    )
    key = jax.random.fold_in(jax.random.key(settings.seed), number)
    values = measured_links(links, what, key)
    if isinstance(operator, DomainWall):
        sources = noisy_sources(jax.random.fold_in(key, 1), operator, settings.n_sources)
        values["residual_mass"] = float(residual_mass(operator, links, sources, what.solver))
    return OfFile(values, stored.notes)


def of_all(values: list[Values]) -> Values:
    """Scales of the average flow: those of single configurations are biased."""
    if "flow_energy" not in values[0]:
        return {}
    times = np.asarray(values[0]["flow_time"])
    t_0, w_0 = flow_scales(times, np.mean([np.asarray(one["flow_energy"]) for one in values], axis=0))
    return {"t_0": t_0, "w_0": w_0}


GAUGE_FILES = FileMeasurement(FileSettings, is_configuration, measure_file, of_all, DESCRIPTIONS)
