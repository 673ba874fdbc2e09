"""What a configuration file may say about gauge theory."""

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.montecarlo import INTEGRATORS
from slmc.system import PROPOSAL_WORDS, Idle, InnerProposal, RunSettings, Settings, changed_fields, refuse_idle
from slmc.systems.gauge.determinant import FermionDeterminant
from slmc.systems.gauge.fermion_operator import FermionOperator
from slmc.systems.gauge.gauge_action import RECTANGLE_COEFFICIENTS, EffectiveAction, GaugeAction
from slmc.systems.gauge.links import check_even, check_lattice
from slmc.systems.gauge.measured import scalar_names
from slmc.systems.gauge.pseudofermions import PseudofermionAction
from slmc.systems.gauge.solvers import STANDARD_SOLVER, Solver
from slmc.systems.gauge.staggered_fermion import Staggered
from slmc.systems.gauge.wilson_fermion import Wilson

GaugeTarget = GaugeAction | FermionDeterminant | PseudofermionAction


class PseudofermionSettings(Settings):
    """How pseudofermions are sampled and their linear equations solved."""

    n_gauge_steps: int = Field(
        0, ge=0, description="finer steps of the gauge force inside each drift of a trajectory; 0: one time scale"
    )
    solver_tolerance: float = Field(
        STANDARD_SOLVER.tolerance, ge=1e-14, le=1e-4, description="relative residual at which a solution is complete"
    )
    max_iterations: PositiveInt = Field(
        STANDARD_SOLVER.max_iterations,
        description="of conjugate gradients, after which the run ends; may be raised before slmc resume",
    )


class GaugeSettings(Settings):
    """SU(N) gauge theory, with fermions by their exact determinant, by pseudofermions, or without."""

    shape: tuple[PositiveInt, ...] = Field(
        (4, 4, 4, 4), description="extents of the periodic lattice, time last; 2 to 4"
    )
    n_colours: int = Field(2, ge=2, description="N of SU(N)")
    beta: float = Field(2.3, description="2N/g²", json_schema_extra={"symbol": "β"})
    improvement: Literal["Wilson", "tree-level Symanzik", "Iwasaki", "DBW2"] = Field(
        "Wilson", description='of the gauge action: "Wilson", "tree-level Symanzik", "Iwasaki" or "DBW2"'
    )
    fermions: Literal["none", "staggered", "wilson"] = Field("none", description='"none", "staggered" or "wilson"')
    determinant: Literal["exact", "pseudofermions"] = Field(
        "exact", description='"exact", for small lattices, or "pseudofermions" (by HMC alone: learning.n_rounds = 0)'
    )
    mass: PositiveFloat | None = Field(
        None, description="in lattice units (staggered)", json_schema_extra={"symbol": "m"}
    )
    kappa: PositiveFloat | None = Field(
        None, description="hopping parameter κ (wilson)", json_schema_extra={"symbol": "κ"}
    )
    n_flavours: PositiveFloat | None = Field(None, description="left out: 4 (staggered) or 2 (wilson)")
    start: Literal["hot", "cold"] = Field("hot", description='links from the Haar measure ("hot") or all 1 ("cold")')
    file: str | None = Field(None, description="a NERSC or ILDG configuration to start from instead")

    @field_validator("shape")
    @classmethod
    def _two_to_four_dimensions(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        return check_lattice(shape)

    @model_validator(mode="after")
    def _consistent(self) -> "GaugeSettings":
        needed = {"none": (), "staggered": ("mass",), "wilson": ("kappa",)}[self.fermions]
        allowed = (*needed, "n_flavours") if needed else ()
        for name in ("mass", "kappa", "n_flavours"):
            given = getattr(self, name) is not None
            if name in needed and not given:
                raise ValueError(f'{name} is missing: fermions = "{self.fermions}" needs it, for instance {name} = 0.1')
            if given and name not in allowed:
                raise ValueError(f'{name} has no meaning with fermions = "{self.fermions}"; leave it out')
        if self.determinant == "pseudofermions":
            self._check_pseudofermions()
        if self.fermions != "none":
            try:
                check_even(self.shape, f'fermions = "{self.fermions}"')
            except ValueError as error:
                raise ValueError(f"shape = {list(self.shape)}: {error}") from None
        if self.file is not None and self.start != "hot":
            raise ValueError(f'start = "{self.start}" has no effect with a file to start from; leave one of them out')
        if self.file is not None and len(self.shape) != 4:
            raise ValueError(f"file: NERSC and ILDG files hold lattices of 4 extents; got shape = {list(self.shape)}")
        return self

    def _check_pseudofermions(self) -> None:
        if self.fermions == "none":
            raise ValueError('determinant = "pseudofermions" needs fermions = "staggered" or "wilson"')
        if self.fermions == "wilson" and (self.n_flavours or Wilson.n_tastes) % Wilson.n_tastes:
            raise ValueError(
                f"n_flavours = {self.n_flavours:g}: there are pseudofermions for even numbers of Wilson flavours "
                "alone, since the rational functions of other numbers need a lower bound of the spectrum, which Wilson "
                'fermions have not; use n_flavours = 2, or determinant = "exact"'
            )

    def build(self, pseudofermions: PseudofermionSettings | None = None) -> GaugeTarget:
        """The target. Raises ``ValueError`` where no rational function is good enough (pseudofermions)."""
        gauge = GaugeAction(self.shape, self.n_colours, self.beta, self.improvement)
        operator = self.operator()
        if operator is None:
            return gauge
        if self.determinant == "pseudofermions":
            numbers = pseudofermions or PseudofermionSettings()
            solver = Solver(numbers.solver_tolerance, numbers.max_iterations)
            return PseudofermionAction(gauge, operator, self.n_flavours, solver=solver)
        return FermionDeterminant(gauge, operator, jnp.asarray(self.n_flavours or operator.n_tastes, jnp.float64))

    def operator(self) -> FermionOperator | None:
        """The Dirac operator, if there are fermions."""
        if self.mass is not None:
            return Staggered(self.shape, self.n_colours, self.mass)
        return None if self.kappa is None else Wilson(self.shape, self.n_colours, self.kappa)


assert set(RECTANGLE_COEFFICIENTS) == set(GaugeSettings.model_fields["improvement"].annotation.__args__)  # type: ignore[union-attr]


class EffectiveActionSettings(Settings):
    """The effective action: plaquettes, and more if asked for."""

    rectangles: bool = Field(True, description="with rectangles")
    polyakov_loops: bool = Field(True, description="with Polyakov loops in every direction")
    file: str | None = Field(
        None, description="a stored model.eqx to propose with as it is, nothing fitted; it replaces the fields above"
    )

    def build(self, shape: tuple[int, ...], n_colours: int) -> EffectiveAction:
        """The action with all its coefficients zero."""
        return EffectiveAction(shape, n_colours, rectangles=self.rectangles, polyakov_loops=self.polyakov_loops)


class GaugeInnerSettings(Settings):
    """The chain of the effective action that makes a proposal."""

    update: Literal["hmc", "heat-bath"] = Field(
        "hmc", description='"hmc", or "heat-bath" with over-relaxation (plaquettes alone, even extents)'
    )
    proposal: InnerProposal = Field("chain", description=PROPOSAL_WORDS)
    n_updates: PositiveInt | Literal["auto"] = Field(
        10, description='updates in one proposal; "auto": for the most effective samples a second, as measured'
    )
    n_steps: PositiveInt = Field(5, description='integrator steps of a trajectory (hmc; chosen if n_updates = "auto")')
    integrator: Literal["leapfrog", "omelyan", "fourth-order"] = Field("omelyan", description="of a trajectory (hmc)")
    acceptance: float = Field(0.8, gt=0, lt=1, description="acceptance to which the step size is tuned (hmc)")


assert set(INTEGRATORS) == set(GaugeInnerSettings.model_fields["integrator"].annotation.__args__)  # type: ignore[union-attr]


class GaugeRun(RunSettings):
    """A run of SU(N) lattice gauge theory."""

    system: Literal["gauge"] = Field("gauge", description="the physical system")
    target: GaugeSettings = GaugeSettings()
    model: EffectiveActionSettings = EffectiveActionSettings()
    inner: GaugeInnerSettings = GaugeInnerSettings()
    pseudofermions: PseudofermionSettings = PseudofermionSettings()

    may_change: ClassVar[tuple[str, ...]] = (*RunSettings.may_change, "pseudofermions.max_iterations")
    files: ClassVar[dict[str, str]] = {"model.file": "start.eqx", "target.file": "start.links"}
    came_later: ClassVar[dict[str, Any]] = {"target.determinant": "exact", "pseudofermions": PseudofermionSettings()}

    @model_validator(mode="after")
    def _consistent(self) -> "GaugeRun":
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
        trajectory, inner = ("inner.n_steps", "inner.integrator", "inner.acceptance"), self.inner
        refuse_idle(
            self,
            Idle(inner.update == "heat-bath", trajectory, 'with inner.update = "heat-bath"'),
            Idle(inner.n_updates == "auto", trajectory[:1], 'with inner.n_updates = "auto", which chooses it'),
            Idle(self.exact.update == "local", ("exact.n_steps", "exact.integrator"), 'with exact.update = "local"'),
        )

    def _check_pseudofermions(self) -> None:
        if self.target.determinant == "exact":
            changed = tuple(changed_fields("pseudofermions", self.pseudofermions))
            refuse_idle(self, Idle(True, changed, 'without target.determinant = "pseudofermions"'))
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


def describe(model: EffectiveAction) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    return {
        "name": "effective action",
        "shape": model.shape,
        "n_colours": model.n_colours,
        "rectangles": model.rectangle is not None,
        "polyakov_loops": model.polyakov is not None,
    }


def build_like(description: dict[str, Any]) -> EffectiveAction:
    """A model of the structure that ``describe`` tells, with numbers to be replaced."""
    form = dict(description)
    del form["name"]
    return EffectiveAction(tuple(form.pop("shape")), form.pop("n_colours"), **form)
