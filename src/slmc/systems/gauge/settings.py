"""What a configuration file may say about gauge theory."""

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from slmc.montecarlo import INTEGRATORS
from slmc.selflearning.on_the_fly import n_held_out
from slmc.system import (
    PROPOSAL_WORDS,
    Idle,
    InnerProposal,
    MeasurementSettings,
    RunSettings,
    Settings,
    changed_fields,
    refuse_idle,
)
from slmc.systems.gauge.cask_smearing import CaskSmearing
from slmc.systems.gauge.determinant import FermionDeterminant
from slmc.systems.gauge.domain_wall import DomainWall
from slmc.systems.gauge.fermion_operator import FermionOperator
from slmc.systems.gauge.fermion_settings import (
    FERMION_WORDS,
    FERMIONS,
    FermionName,
    WallSettings,
    check_fermions,
    operator_of,
)
from slmc.systems.gauge.gauge_action import RECTANGLE_COEFFICIENTS, EffectiveAction, GaugeAction
from slmc.systems.gauge.guide import FermionGuide, LoopAction
from slmc.systems.gauge.guide_learner import TrainedParts
from slmc.systems.gauge.links import check_even, check_lattice
from slmc.systems.gauge.measured import scalar_names
from slmc.systems.gauge.pseudofermions import PseudofermionAction
from slmc.systems.gauge.smearing import LOOPS, Smearing, StoutSmearing
from slmc.systems.gauge.solvers import STANDARD_SOLVER, Solver
from slmc.systems.gauge.wilson_fermion import Wilson

Loop = Literal["plaquette", "rectangle", "spatial Polyakov", "temporal Polyakov"]
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
    fermions: FermionName = Field("none", description=FERMION_WORDS)
    determinant: Literal["exact", "pseudofermions"] = Field(
        "exact", description='"exact", for small lattices, or "pseudofermions" (by HMC alone: learning.n_rounds = 0)'
    )
    mass: PositiveFloat | None = Field(
        None, description="in lattice units (staggered, domain-wall)", json_schema_extra={"symbol": "m"}
    )
    kappa: PositiveFloat | None = Field(
        None, description="hopping parameter κ (wilson)", json_schema_extra={"symbol": "κ"}
    )
    n_flavours: PositiveFloat | None = Field(None, description="left out: 4 (staggered) or 2 (wilson, domain-wall)")
    start: Literal["hot", "cold"] = Field("hot", description='links from the Haar measure ("hot") or all 1 ("cold")')
    file: str | None = Field(None, description="a NERSC or ILDG configuration to start from instead")

    @field_validator("shape")
    @classmethod
    def _two_to_four_dimensions(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        return check_lattice(shape)

    @model_validator(mode="after")
    def _consistent(self) -> "GaugeSettings":
        check_fermions(self)
        if self.n_flavours is not None and self.fermions == "none":
            raise ValueError('n_flavours has no meaning with fermions = "none"; leave it out')
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
            raise ValueError('determinant = "pseudofermions" needs fermions = "staggered", "wilson" or "domain-wall"')
        if self.fermions != "staggered" and (self.n_flavours or Wilson.n_tastes) % Wilson.n_tastes:
            raise ValueError(
                f"n_flavours = {self.n_flavours:g}: there are pseudofermions for even numbers of "
                f"{FERMIONS[self.fermions].words} flavours alone, since the rational functions of other numbers need a "
                "lower bound of the spectrum, which these fermions have not; use n_flavours = 2, or "
                'determinant = "exact"'
            )

    def build(
        self, pseudofermions: PseudofermionSettings | None = None, wall: WallSettings | None = None
    ) -> GaugeTarget:
        """The target. Raises ``ValueError`` where no rational function is good enough (pseudofermions)."""
        gauge = GaugeAction(self.shape, self.n_colours, self.beta, self.improvement)
        operator = self.operator(wall)
        if operator is None:
            return gauge
        denominator = operator.with_mass(1.0) if isinstance(operator, DomainWall) else None
        if self.determinant == "pseudofermions":
            numbers = pseudofermions or PseudofermionSettings()
            solver = Solver(numbers.solver_tolerance, numbers.max_iterations)
            return PseudofermionAction(gauge, operator, self.n_flavours, solver=solver, denominator=denominator)
        n_flavours = jnp.asarray(self.n_flavours or operator.n_tastes, jnp.float64)
        return FermionDeterminant(gauge, operator, n_flavours, denominator=denominator)

    def operator(self, wall: WallSettings | None = None) -> FermionOperator | None:
        """The Dirac operator, if there are fermions."""
        return operator_of(self, self.shape, self.n_colours, wall or WallSettings())


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


class GuideSettings(Settings):
    """The guide that drives the trajectories of SLHMC: a cheaper fermion on trained smeared links."""

    smearing: Literal["none", "stout", "cask"] | None = Field(
        None, description='"none", "stout" or "cask" (attention); left out: no guide'
    )
    mass: PositiveFloat | None = Field(
        None, description="of its fermions (staggered, domain-wall); left out: the target's"
    )
    kappa: PositiveFloat | None = Field(None, description="of its fermions (wilson); left out: the target's")
    n_wall_layers: PositiveInt | None = Field(
        None, description="of its fifth dimension (domain-wall); left out: the target's"
    )
    n_layers: PositiveInt = Field(2, description="layers of smearing")
    loops: tuple[Loop, ...] = Field(
        ("plaquette", "spatial Polyakov", "temporal Polyakov"), min_length=1, description="whose staples smear"
    )
    couplings: tuple[Loop, ...] = Field(
        ("plaquette", "rectangle", "spatial Polyakov", "temporal Polyakov"),
        description="loops of its gauge action with couplings of its own; []: none",
    )
    scale: bool = Field(True, description="with a factor of the fermions' part, trained too")
    solver_tolerance: float = Field(1e-8, ge=1e-14, le=1e-3, description="relative residual of its solutions")

    @field_validator("loops", "couplings")
    @classmethod
    def _each_once(cls, loops: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(loops)) < len(loops):
            raise ValueError("each loop may be named once")
        return loops

    @property
    def smears(self) -> bool:
        return self.smearing in ("stout", "cask")

    def build(self, target: PseudofermionAction, settings: "GaugeSettings", wall: WallSettings) -> FermionGuide:
        """The guide before it is trained: its smearing nearly nothing, no couplings, scale 1."""
        mine = settings.model_copy(
            update={name: getattr(self, name) or getattr(settings, name) for name in ("mass", "kappa")}
        )
        wall = wall.model_copy(update={"n_layers": self.n_wall_layers or wall.n_layers})
        operator = operator_of(mine, settings.shape, settings.n_colours, wall)
        assert operator is not None
        solver = Solver(self.solver_tolerance, target.solver.max_iterations)
        fermions = PseudofermionAction(
            target.gauge, operator, settings.n_flavours, self._smearing(), solver,
            denominator=operator.with_mass(1.0) if isinstance(operator, DomainWall) else None,
        )  # fmt: skip
        return FermionGuide(LoopAction(target.gauge, self.couplings or LOOPS[:1]), fermions)

    def _smearing(self) -> Smearing | None:
        """Weights near zero: attention has no gradient at zero itself, where all its scores vanish."""
        if self.smearing == "stout":
            return StoutSmearing(self.n_layers, self.loops, 0.02)
        return CaskSmearing(self.n_layers, self.loops, 0.05) if self.smearing == "cask" else None

    @property
    def trained(self) -> TrainedParts:
        """Which of its numbers are fitted."""
        return TrainedParts(self.smears, self.scale, bool(self.couplings))

    @property
    def n_parameters(self) -> int:
        """How many numbers these are."""
        lines = {"stout": 1, "cask": 4}.get(self.smearing or "", 0)
        return lines * self.n_layers * len(self.loops) + self.scale + len(self.couplings)


assert set(LOOPS) == set(Loop.__args__)  # type: ignore[attr-defined]


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


class GaugeMeasurement(MeasurementSettings):
    """Sampling that counts, and the gauge fields that it writes."""

    configurations: Literal["none", "nersc", "ildg"] = Field(
        "none", description='files of the links in DIR/configurations: "none", "nersc" or "ildg"'
    )
    every: PositiveInt | None = Field(
        None, description="outer steps between them, a multiple of block_size; left out: block_size"
    )

    @model_validator(mode="after")
    def _at_the_ends_of_blocks(self) -> "GaugeMeasurement":
        if self.every is not None and self.every % self.block_size:
            raise ValueError(
                f"every = {self.every} is no multiple of block_size = {self.block_size}, and links are written where "
                f"checkpoints are; set block_size = {self.every}, or another multiple"
            )
        return self


class GaugeRun(RunSettings):
    """A run of SU(N) lattice gauge theory."""

    system: Literal["gauge"] = Field("gauge", description="the physical system")
    target: GaugeSettings = GaugeSettings()
    model: EffectiveActionSettings = EffectiveActionSettings()
    inner: GaugeInnerSettings = GaugeInnerSettings()
    pseudofermions: PseudofermionSettings = PseudofermionSettings()
    guide: GuideSettings = GuideSettings()
    domain_wall: WallSettings = WallSettings()
    measurement: GaugeMeasurement = GaugeMeasurement()

    may_change: ClassVar[tuple[str, ...]] = (*RunSettings.may_change, "pseudofermions.max_iterations")
    files: ClassVar[dict[str, str]] = {"model.file": "start.eqx", "target.file": "start.links"}
    came_later: ClassVar[dict[str, Any]] = {
        "target.determinant": "exact",
        "pseudofermions": PseudofermionSettings(),
        "guide": GuideSettings(),
        "domain_wall": WallSettings(),
        "measurement.configurations": "none",
        "measurement.every": None,
    }

    @model_validator(mode="after")
    def _consistent(self) -> "GaugeRun":
        self.check_wanted_errors(scalar_names(self.measurement.observables, self.target.fermions))
        self._check_guide()
        self._check_pseudofermions()
        self._check_heat_bath()
        self._check_files()
        self._nothing_idle()
        return self

    @property
    def has_guide(self) -> bool:
        """Whether a guide is learned, to drive trajectories."""
        return self.guide.smearing is not None

    def _check_guide(self) -> None:
        guide, fermions = self.guide, self.target.fermions
        given = tuple(changed_fields("guide", guide))
        refuse_idle(
            self,
            Idle(not self.has_guide, given, "without guide.smearing"),
            Idle(not self.learns, given, "in a run without a model (learning.n_rounds = 0)"),
            Idle(not guide.smears, ("guide.n_layers", "guide.loops"), 'with guide.smearing = "none"'),
            Idle(fermions == "wilson", ("guide.mass",), 'with target.fermions = "wilson"'),
            Idle(fermions != "wilson", ("guide.kappa",), f'with target.fermions = "{fermions}"'),
            Idle(fermions != "domain-wall", ("guide.n_wall_layers",), f'with target.fermions = "{fermions}"'),
        )
        if not self.has_guide:
            return
        if self.target.determinant != "pseudofermions":
            raise ValueError(
                "guide.smearing: a guide drives trajectories with pseudofermions; set target.determinant = "
                '"pseudofermions", or leave [guide] out'
            )
        model, inner = changed_fields("model", self.model), ("inner.update", "inner.proposal", "inner.n_updates")
        refuse_idle(
            self,
            Idle(True, (*model, *inner, "learning.force_weight"), "with a guide, which drives trajectories"),
        )
        if not guide.n_parameters:
            raise ValueError(
                'guide: with smearing = "none", couplings = [] and scale = false there is nothing to learn; allow one'
            )
        learning, n_chains = self.learning, self.measurement.n_chains
        first = learning.n_steps if isinstance(learning.n_steps, int) else learning.n_steps[0]
        n_labels = first * (n_chains - n_held_out(n_chains, learning.held_out_share))
        if n_labels <= 2 * guide.n_parameters:
            raise ValueError(
                f"learning.n_steps = {first} (first round) makes {n_labels} trajectories to fit the "
                f"{guide.n_parameters} numbers of the guide to, which needs more than twice as many; raise it"
            )

    def _check_files(self) -> None:
        if self.measurement.configurations != "none" and len(self.target.shape) != 4:
            raise ValueError(
                f'measurement.configurations = "{self.measurement.configurations}": such files hold lattices of 4 '
                f"extents; got target.shape = {list(self.target.shape)}"
            )

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
            Idle(
                self.measurement.configurations == "none",
                ("measurement.every",),
                'without measurement.configurations = "nersc" or "ildg"',
            ),
            Idle(inner.update == "heat-bath", trajectory, 'with inner.update = "heat-bath"'),
            Idle(inner.n_updates == "auto", trajectory[:1], 'with inner.n_updates = "auto", which chooses it'),
            Idle(
                self.target.fermions != "domain-wall",
                tuple(changed_fields("domain_wall", self.domain_wall)),
                'without target.fermions = "domain-wall"',
            ),
            Idle(self.exact.update == "local", ("exact.n_steps", "exact.integrator"), 'with exact.update = "local"'),
        )

    def _check_pseudofermions(self) -> None:
        if self.target.determinant == "exact":
            changed = tuple(changed_fields("pseudofermions", self.pseudofermions))
            refuse_idle(self, Idle(True, changed, 'without target.determinant = "pseudofermions"'))
            return
        if self.learns and not self.has_guide:
            raise ValueError(
                'target.determinant = "pseudofermions" needs learning.n_rounds = 0, since an effective action knows '
                'the links alone; set that, give a [guide] to learn, or use determinant = "exact"'
            )
        if self.exact.update != "hmc":
            raise ValueError(
                f'target.determinant = "pseudofermions" needs exact.update = "hmc"; got {self.exact.update!r}'
            )


def describe_guide(config: GaugeRun) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a guide of the same structure."""
    target = config.target.model_copy(update={"file": None, "start": "hot"})
    sections = {"target": target, "guide": config.guide, "domain_wall": config.domain_wall}
    return {"name": "guide", **{name: section.model_dump(mode="json") for name, section in sections.items()}}


def describe(model: EffectiveAction) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    return {
        "name": "effective action",
        "shape": model.shape,
        "n_colours": model.n_colours,
        "rectangles": model.rectangle is not None,
        "polyakov_loops": model.polyakov is not None,
    }


def build_like(description: dict[str, Any]) -> EffectiveAction | FermionGuide:
    """A model of the structure that ``describe`` tells, with numbers to be replaced."""
    form = dict(description)
    if form.pop("name") == "guide":
        target, wall = GaugeSettings(**form["target"]), WallSettings(**form["domain_wall"])
        action = target.build(wall=wall)
        assert isinstance(action, PseudofermionAction)
        return GuideSettings(**form["guide"]).build(action, target, wall)
    return EffectiveAction(tuple(form.pop("shape")), form.pop("n_colours"), **form)
