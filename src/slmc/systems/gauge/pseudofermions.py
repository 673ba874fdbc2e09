"""Pseudofermions: a determinant as a Gaussian integral over bosonic fields, sampled together with the links."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from slmc.montecarlo.hamiltonian import HamiltonianTrajectory
from slmc.montecarlo.integrators import LEAPFROG, Integrator
from slmc.montecarlo.manifolds import Manifold
from slmc.montecarlo.metropolis import Proposal
from slmc.montecarlo.special_unitary import SpecialUnitary, as_matrices
from slmc.montecarlo.target import LogWeight, Target
from slmc.montecarlo.update import Info, State, Update, same
from slmc.numbers import count, positive, positive_count
from slmc.systems.gauge.dynamical import Dynamical, GivenPseudofermion, PseudofermionField, PseudofermionTarget
from slmc.systems.gauge.even_odd import Hopping, real_part_of_product
from slmc.systems.gauge.fermion_operator import FermionField, FermionOperator, check_denominator, gaussian_field
from slmc.systems.gauge.links import Links
from slmc.systems.gauge.multiple_scales import DrivenManifold
from slmc.systems.gauge.rational import Rational, rational_power
from slmc.systems.gauge.smearing import Smearing
from slmc.systems.gauge.solvers import STANDARD_SOLVER, Solver, conjugate_gradient, multi_shift


class PseudofermionAction(PseudofermionTarget):
    """Links and pseudofermions together, whose marginal distribution of links has the fermion determinant.

        log W = −S_g[U] − Σ_i φ_i† A[U]^(−α) φ_i,   ∫dφ exp(−φ†A^(−α)φ) ∝ det A^α

    with ``n_fields`` = n fields, as few as make ``power`` = α = n_flavours/(n n_tastes) at most one. For α = 1 (four
    staggered tastes, two Wilson flavours, and their multiples) A⁻¹φ is one conjugate-gradient solution: Gottlieb, Liu,
    Toussaint, Renken, Sugar, PRD 35, 2531 (1987). Otherwise A^(−α) is a rational function, solved by multi-shift CG:
    RHMC, Clark, Kennedy, PRL 98, 051601 (2007). Its relative error, at most ``rational_tolerance`` over the whole
    ``spectrum``, is the only thing that is not exact; ``rational_error`` tells it.

    With ``denominator`` = another operator of the same kind, A_d = B_d B_d†, the weight is a ratio of determinants,

        log W = −S_g[U] − Σ_i (B_d φ_i)† A[U]⁻¹ B_d φ_i,   ∫dφ exp(…) ∝ det A/det A_d,

    φ drawn as B_d⁻¹B χ. With mass 1 it makes the Pauli–Villars fields of domain walls; a heavier fermion is the first
    half of Hasenbusch's preconditioning, Phys. Lett. B 519, 177 (2001), whose other half is det A_d by a field of its
    own: ``PseudofermionProduct``. It needs whole powers of det A and a square B: Wilson or domain-wall fermions.

    ``spectrum`` bounds the eigenvalues of A; the operator's own bounds by default. Raises ``ValueError`` where those
    do not exclude zero and a rational function is needed. ``RefreshPseudofermions`` notices eigenvalues outside.

    Observable: ``"trace_inverse"``, an unbiased estimate of tr A⁻¹ from the solutions that the weight needs anyway,
    averaged over fields. Given the links φ is noise with ⟨φφ†⟩ = A^α, so that

        tr A⁻¹ = ⟨φ†A^(−1−α)φ⟩ = ⟨|A⁻¹φ|²⟩                         α = 1,
                               = (1/α) Σ_k r_k ⟨|(A + σ_k)⁻¹φ|²⟩   with A^(−α) = r_0 + Σ_k r_k/(A + σ_k),

    which is ∂ log W/∂m² over n α where A = m² + …. ``staggered_condensate`` turns it into ψ̄ψ.

    The gradient is exact for the solution found: with X = A⁻¹φ the weight is X†AX − 2 Re φ†X, stationary in X, so that
    only A is differentiated. Parameters of ``smearing`` are differentiated, those of action and operator are not.
    """

    gauge: Target
    operator: FermionOperator
    smearing: Smearing | None
    denominator: FermionOperator | None
    solver: Solver
    n_fields: int = eqx.field(static=True)
    power: float = eqx.field(static=True)
    action_power: Rational | None
    draw_power: Rational | None
    rational_error: float = eqx.field(static=True)

    def __init__(
        self,
        gauge: Target,
        operator: FermionOperator,
        n_flavours: float | None = None,
        smearing: Smearing | None = None,
        solver: Solver = STANDARD_SOLVER,
        spectrum: tuple[float, float] | None = None,
        rational_tolerance: float = 1e-11,
        denominator: FermionOperator | None = None,
    ) -> None:
        self.gauge, self.operator, self.smearing, self.solver = gauge, operator, smearing, solver
        self.denominator = denominator
        check_denominator(operator, denominator)
        total = 1.0 if n_flavours is None else positive(n_flavours, "n_flavours") / operator.n_tastes
        positive(rational_tolerance, "rational_tolerance")
        # The best rational approximations of x^(−α) with α > 1 have complex poles, which no multi-shift CG can take.
        self.n_fields = math.ceil(total)
        self.power = alpha = total / self.n_fields
        self.action_power, self.draw_power, self.rational_error = None, None, 0.0
        if denominator is not None and (alpha != 1 or operator.noise_shape != operator.field_shape):
            raise ValueError(
                f"a denominator needs Wilson or domain-wall fermions, in multiples of {operator.n_tastes} flavours: no "
                "rational functions, and a factor of A that has an inverse."
            )
        if alpha != 1:
            lower, upper = spectrum or tuple(float(bound) for bound in operator.spectrum())
            if not lower > 0:
                raise ValueError(
                    "a rational approximation needs a positive lower bound of the spectrum of A, and this operator has "
                    "none of its own; give spectrum=(lower, upper)."
                )
            action = rational_power(-alpha, lower, upper, rational_tolerance)
            draw = rational_power(alpha / 2, lower, upper, rational_tolerance)
            self.action_power, self.draw_power = action.rational, draw.rational
            self.rational_error = max(action.error, draw.error)

    @property
    def pseudofermion_shape(self) -> tuple[int, ...]:
        """The shape of φ: one field of the operator, or several on a leading axis."""
        return self._for_each_field(self.operator.field_shape)

    def no_pseudofermion(self, *leading: int) -> FermionField:
        return jnp.zeros((*leading, *self.pseudofermion_shape), jnp.complex128)

    @property
    def drawn_within(self) -> float | None:
        """That of the rational functions, which holds while all eigenvalues of A lie in the ``spectrum``."""
        return None if self.draw_power is None else 1e3 * (self.rational_error + self.solver.tolerance)

    def log_weight(self, configuration: Dynamical) -> LogWeight:
        """log W of links and pseudofermions."""
        links, _ = configuration
        return jax.lax.stop_gradient(self.gauge).log_weight(links) + self.fermion_log_weight(configuration)

    def fermion_log_weight(self, configuration: Dynamical) -> LogWeight:
        """−Σ_i φ_i†A^(−α)φ_i, or −Σ_i (B_d φ_i)†A⁻¹B_d φ_i."""
        return self.fermion_log_weight_and_trace(configuration)[0]

    def log_weight_and_observables(self, configuration: Dynamical) -> tuple[LogWeight, dict[str, Array]]:
        """log W and the estimate of tr A⁻¹."""
        log_weight, trace = self.fermion_log_weight_and_trace(configuration)
        return self.gauge.log_weight(configuration.links) + log_weight, {"trace_inverse": trace}

    def fermion_log_weight_and_trace(self, configuration: Dynamical) -> tuple[LogWeight, Float[Array, ""]]:
        """What the pseudofermions add to log W, and the estimate of tr A⁻¹."""
        hopping, phi = self.hopping(configuration.links), configuration.pseudofermion
        assert not isinstance(phi, tuple), "one action has one array of pseudofermions; several are a product's"
        if self.n_fields == 1:
            return self._of_one_field(hopping, phi)
        log_weights, traces = jax.vmap(self._of_one_field, (None, 0))(hopping, phi)
        return jnp.sum(log_weights), jnp.mean(traces)

    def _of_one_field(self, hopping: Hopping, phi: FermionField) -> tuple[LogWeight, Float[Array, ""]]:
        if self.denominator is not None:
            phi = jax.lax.stop_gradient(self.denominator).factor(hopping, phi)
        operator, fixed, fixed_phi = jax.lax.stop_gradient((self.operator, hopping, phi))

        def normal(field: FermionField) -> FermionField:
            return operator.normal(fixed, field)

        if self.action_power is None:
            x = jax.lax.stop_gradient(conjugate_gradient(normal, fixed_phi, self.solver).x)
            log_weight = real_part_of_product(x, operator.normal(hopping, x)) - 2 * real_part_of_product(phi, x)
            return log_weight, real_part_of_product(x, x)
        power = jax.lax.stop_gradient(self.action_power)
        xs = jax.lax.stop_gradient(multi_shift(normal, fixed_phi, power.shifts, self.solver).x)

        def pole(x: FermionField, shift: Array) -> Array:
            ax = operator.normal(hopping, x) + _complex(shift) * x
            return real_part_of_product(x, ax) - 2 * real_part_of_product(phi, x)

        poles = jnp.sum(power.residues * jax.vmap(pole)(xs, power.shifts))
        norms = jax.vmap(real_part_of_product)(xs, xs)
        log_weight = poles - power.constant * real_part_of_product(phi, phi)
        return log_weight, jnp.sum(power.residues * norms) / self.power

    def draw_pseudofermion(self, key: Key[Array, ""], links: Links) -> FermionField:
        """φ from its distribution given the links."""
        return self.coloured(self.noise(key), links)

    def noise(self, key: Key[Array, ""]) -> FermionField:
        shape = self.operator.noise_shape if self.draw_power is None else self.operator.field_shape
        return gaussian_field(key, self._for_each_field(shape))

    def coloured(self, chi: FermionField, links: Links) -> FermionField:
        """φ of χ with ⟨χχ†⟩ = 1: B χ with A = B B†, r(A) χ with r(x) ≈ x^(α/2), or B_d⁻¹B χ."""
        hopping = self.hopping(links)
        if self.n_fields == 1:
            return self._coloured_field(hopping, chi)
        return jax.vmap(self._coloured_field, (None, 0))(hopping, chi)

    def _coloured_field(self, hopping: Hopping, chi: FermionField) -> FermionField:
        if self.denominator is not None:
            return self._inverse_factor(hopping, self.operator.factor(hopping, chi))
        if self.draw_power is None:
            return self.operator.factor(hopping, chi)
        power = self.draw_power
        xs = multi_shift(lambda field: self.operator.normal(hopping, field), chi, power.shifts, self.solver).x
        residues = _complex(power.residues).reshape(-1, *(1,) * chi.ndim)
        return _complex(power.constant) * chi + jnp.sum(residues * xs, axis=0)

    def _inverse_factor(self, hopping: Hopping, field: FermionField) -> FermionField:
        """B_d⁻¹ = B_d†A_d⁻¹."""
        below = self.denominator
        assert below is not None
        solution = conjugate_gradient(lambda x: below.normal(hopping, x), field, self.solver).x
        return below.adjoint_factor(hopping, solution)

    def _for_each_field(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.n_fields == 1 else (self.n_fields, *shape)

    def hopping(self, links: Links) -> Hopping:
        """The links as the operator sees them."""
        seen = links if self.smearing is None else self.smearing.smeared(links)
        return self.operator.prepare(as_matrices(seen))


class RefreshPseudofermions(Update):
    """Draws φ anew from its distribution given the links: a heat bath, which keeps detailed balance.

    Where rational functions take part, φ†A^(−α)φ must be the χ†χ of the noise that φ was made of, which holds only
    while all eigenvalues of A lie in the ``spectrum`` of the target. Raises ``RuntimeError`` (through
    ``equinox.error_if``) where it does not hold to 1000 times the errors of rational functions and solver.
    """

    target: PseudofermionTarget

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        links, chi = state.configuration.links, self.target.noise(key)
        drawn = self.init(Dynamical(links, self.target.coloured(chi, links)))
        if self.target.drawn_within is not None:
            drawn = drawn._replace(log_weight=self._checked(drawn, chi, self.target.drawn_within))
        return drawn, Info(jnp.ones(()), jnp.zeros(()))

    def _checked(self, drawn: State, chi: PseudofermionField, within: float) -> LogWeight:
        """The log-weight, which the exact evaluation has made already, so that the check costs no solution."""
        difference = self.target.gauge.log_weight(drawn.configuration.links) - drawn.log_weight
        expected = sum((real_part_of_product(leaf, leaf) for leaf in jax.tree.leaves(chi)), jnp.zeros(()))
        return eqx.error_if(
            drawn.log_weight,
            jnp.abs(difference - expected) > within * expected,
            "eigenvalues of A lie outside the spectrum for which the rational functions of PseudofermionAction were "
            "made; give a wider spectrum=(lower, upper).",
        )


class PseudofermionTrajectory(Proposal):
    """A Hamiltonian trajectory of the links with pseudofermions held fixed: the proposal of HMC with fermions.

    ``Sequence((RefreshPseudofermions(target), MetropolisHastings(target, PseudofermionTrajectory(guide=target, …))))``
    is hybrid Monte Carlo; with another ``guide`` (heavier fermions on trained smeared links) it is SLHMC, Nagai,
    Tomiya, PRD 111, 074501 (2025). ``n_gauge_steps`` > 0 integrates the gauge action with that many finer steps of the
    same kind inside each drift: multiple time scales, Sexton, Weingarten, Nucl. Phys. B 380, 665 (1992). Raises
    ``ValueError`` for fewer than one step.
    """

    guide: PseudofermionTarget
    step_size: Float[Array, ""] = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float64))
    n_steps: int = eqx.field(static=True, default=10)
    integrator: Integrator = eqx.field(static=True, default=LEAPFROG)
    n_gauge_steps: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        positive(self.step_size, "step_size")
        positive_count(self.n_steps, "n_steps")
        count(self.n_gauge_steps, "n_gauge_steps")

    @property
    def manifold(self) -> Manifold:
        """Where the links live."""
        return SpecialUnitary()

    def propose(self, key: Key[Array, ""], configuration: Dynamical) -> tuple[Dynamical, Float[Array, ""]]:
        links, phi = configuration
        manifold: Manifold = SpecialUnitary()
        if self.n_gauge_steps:
            manifold = DrivenManifold(manifold, self.guide.gauge, self.n_gauge_steps, self.integrator)
        guide = GivenPseudofermion(self.guide, phi, with_gauge=not self.n_gauge_steps)
        trajectory = HamiltonianTrajectory(guide, manifold, self.step_size, self.n_steps, self.integrator)
        moved, log_proposal_ratio = trajectory.propose(key, links)
        return Dynamical(moved, phi), log_proposal_ratio

    @property
    def n_forces(self) -> int:
        """Fermion forces that one trajectory evaluates."""
        return self.n_steps * len(self.integrator.kicks)

    def evaluations_of(self, target: Target) -> int:
        """Evaluations of a target that one trajectory makes: its forces if the target is the guide."""
        return self.n_forces if same(self.guide, target) else 0


def _complex(values: Array) -> Array:
    return jax.lax.complex(values, jnp.zeros_like(values))
