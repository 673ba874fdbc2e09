"""Each public check is shown to be able to fail: one deliberately wrong twin, or more, of what it approves of."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exact_draws
import objects
from slmc.montecarlo import (
    LEAPFROG,
    Flat,
    HamiltonianTrajectory,
    Info,
    Integrator,
    LocalSweep,
    MetropolisHastings,
    MicrocanonicalTrajectory,
    Proposal,
    Signs,
    State,
    Target,
    TwoTimeScaleTrajectory,
    Update,
    run,
)
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import DoubleExchange, HeatBathSweep, Heisenberg
from slmc.systems.spins.sweeps import draw_along
from slmc.testing import (
    check_detailed_balance,
    check_equivariance,
    check_force,
    check_invariance,
    check_reversible_trajectory,
    check_symmetry,
)
from tables import WithoutRatio

N_DRAWS = 16384
SIDES = {"S1·S2": lambda spins: jnp.sum(spins[0] * spins[1]), "S1·S3": lambda spins: jnp.sum(spins[0] * spins[2])}
COORDINATES = {"x1": lambda x: x[0], "x1 + x2": jnp.sum, "x1² - x2²": lambda x: x[0] ** 2 - x[1] ** 2}


def first(x):
    return x[0]


def second(x):
    return x[1]


@pytest.fixture(scope="module")
def ring_draws():
    log_weights, bound = exact_draws.ring_of_four(objects.RING)
    return jnp.asarray(exact_draws.by_rejection(np.random.default_rng(21), log_weights, bound, (4,), N_DRAWS))


@pytest.fixture(scope="module")
def gaussian_draws():
    return jnp.asarray(exact_draws.correlated_gaussian(np.random.default_rng(22), objects.PRECISION, 8 * N_DRAWS))


# --- updates that do not leave their target invariant ---------------------------------------------------------------


class WithInverseRatio(Proposal):
    """The proposal ratio upside down."""

    proposal: Proposal

    def propose(self, key, configuration):
        proposed, ratio = self.proposal.propose(key, configuration)
        return proposed, -ratio


class ModelChangedInMidChain(Proposal):
    """The inner chain changes its model half way; the ratio knows one of the two only."""

    early: Update
    late: Update

    def propose(self, key, configuration):
        start = self.early.init(configuration)
        middle, _ = run(key, self.early, start, 1)
        end, _ = run(jax.random.fold_in(key, 1), self.late, self.late.init(middle.configuration), 1)
        return end.configuration, start.log_weight - self.early.target.log_weight(end.configuration)


class AlwaysAccepted(Update):
    """Takes every proposal without a decision."""

    target: Target
    proposal: Proposal

    @property
    def reversible(self):
        return True

    def step(self, key, state):
        proposed = self.init(self.proposal.propose(key, state.configuration)[0])
        return proposed, Info(jnp.ones(()), jnp.zeros(()))


class FixedOrderHeatBath(Update):
    """A heat-bath sweep in one fixed order: invariant, not reversible, although it says so."""

    target: Heisenberg
    sign: float = 1.0

    @property
    def reversible(self):
        return True

    def step(self, key, state):
        spins = state.configuration
        numbers = jax.random.uniform(key, (4, 2), jnp.float64)
        for site in range(4):
            field = self.sign * jax.grad(self.target.log_weight)(spins)[site]
            spins = spins.at[site].set(draw_along(numbers[site], field, spins[site]))
        log_weight = self.target.log_weight(spins)
        return State(spins, log_weight, state.observables), Info(jnp.ones(()), jnp.zeros(()))


class FixedOrderGaussian(Update):
    """Heat bath of one coordinate after the other, in one fixed order, claiming to be reversible."""

    target: objects.Gaussian

    @property
    def reversible(self):
        return True

    def step(self, key, state):
        x, a = state.configuration, self.target.precision
        for i, subkey in enumerate(jax.random.split(key)):
            mean = -a[i, 1 - i] * x[1 - i] / a[i, i]
            x = x.at[i].set(mean + jax.random.normal(subkey, dtype=jnp.float64) / jnp.sqrt(a[i, i]))
        return self.init(x), Info(jnp.ones(()), jnp.zeros(()))


class Drifting(Flat):
    """A perturbation that is not symmetric."""

    def perturb(self, key, position, step_size):
        return position + step_size * jnp.abs(jax.random.normal(key, position.shape, position.dtype) + 0.5) - 0.3


class NotVolumePreserving(Proposal):
    """Euler's method: position and momentum moved at once; the ratio K(p) − K(p') forgets the Jacobian."""

    guide: Target

    def propose(self, key, configuration):
        start = momentum = jax.random.normal(key, configuration.shape, configuration.dtype)
        for _ in range(3):
            force = jax.grad(self.guide.log_weight)(configuration)
            configuration, momentum = configuration + 0.4 * momentum, momentum + 0.4 * force
        return configuration, (jnp.sum(start**2) - jnp.sum(momentum**2)) / 2


class Lazy(Update):
    """Leaves everything invariant by doing nothing."""

    target: Target

    @property
    def reversible(self):
        return True

    def step(self, key, state):
        return state, Info(jnp.zeros(()), jnp.zeros(()))


SYMPLECTIC_EULER = Integrator((1.0, 0.0), (1.0,), 1)
SPHERICAL = objects.SPHERE


def cumulative(n_updates=2):
    return CumulativeUpdate(HeatBathSweep(objects.other_ring()), n_updates)


def trajectory(target, integrator=LEAPFROG):
    return HamiltonianTrajectory(target, Flat(), 0.8, 2, integrator)


def microcanonical(target, manifold, integrator=LEAPFROG):
    return MicrocanonicalTrajectory(target, manifold, 0.8, 2, integrator)


def two_time_scales(target, integrator=LEAPFROG):
    return TwoTimeScaleTrajectory(target, objects.other_gaussian(), Flat(), 0.8, 2, 2, integrator)


class OfMoreDimensions(Flat):
    """A plane that claims to have three dimensions."""

    def dimension(self, position):
        return 3


def _without_multiplicity(ring):
    return Heisenberg((4,), couplings=ring.reduced_couplings * jnp.array([1.0, 0.5]))


WRONG_ON_RING = {
    "forgotten ratio of SLMC": lambda ring: MetropolisHastings(ring, WithoutRatio(cumulative())),
    "inverted ratio of SLMC": lambda ring: MetropolisHastings(ring, WithInverseRatio(cumulative())),
    "accepted without decision": lambda ring: AlwaysAccepted(ring, cumulative()),
    "model changed in mid-chain": lambda ring: MetropolisHastings(
        ring,
        ModelChangedInMidChain(HeatBathSweep(objects.other_ring()), HeatBathSweep(Heisenberg((4,), 2, [1.5, 0.0]))),
    ),
    "wrong sign of the heat bath's field": lambda ring: FixedOrderHeatBath(ring, -1.0),
    "forgotten multiplicity": lambda ring: HeatBathSweep(_without_multiplicity(ring)),
    "forgotten multiplicity, three in one call": lambda ring: objects.InOneCall(
        HeatBathSweep(_without_multiplicity(ring))
    ),
}

WRONG_ON_GAUSSIAN = {
    "forgotten kinetic energy of HMC": lambda target: MetropolisHastings(target, WithoutRatio(trajectory(target))),
    "not symmetric in time": lambda target: MetropolisHastings(target, trajectory(target, SYMPLECTIC_EULER)),
    "two time scales, not symmetric in time": lambda target: MetropolisHastings(
        target, two_time_scales(target, SYMPLECTIC_EULER)
    ),
    "two time scales, forgotten kinetic energy": lambda target: MetropolisHastings(
        target, WithoutRatio(two_time_scales(target))
    ),
    "microcanonical, forgotten volume": lambda target: MetropolisHastings(
        target, WithoutRatio(microcanonical(target, Flat()))
    ),
    "microcanonical, wrong dimension": lambda target: MetropolisHastings(
        target, microcanonical(target, OfMoreDimensions())
    ),
    "microcanonical, not symmetric in time": lambda target: MetropolisHastings(
        target, microcanonical(target, Flat(), SYMPLECTIC_EULER)
    ),
    "not volume preserving": lambda target: MetropolisHastings(target, NotVolumePreserving(target)),
    "one-sided local steps": lambda target: LocalSweep(target, Drifting(), 0.8),
    "fixed-order sweep behind the guard": lambda target: MetropolisHastings(
        target, CumulativeUpdate(FixedOrderGaussian(strongly_correlated()), 1)
    ),
}


def strongly_correlated():
    return objects.Gaussian(jnp.asarray([[1.0, 0.9], [0.9, 1.0]]))


@pytest.mark.parametrize("name", WRONG_ON_RING)
def test_invariance_on_the_ring_fails(name, ring_draws):
    with pytest.raises(AssertionError, match="does not leave its target invariant: p = "):
        check_invariance(jax.random.key(6), WRONG_ON_RING[name](objects.ring()), ring_draws, SIDES)


@pytest.mark.parametrize("name", WRONG_ON_GAUSSIAN)
def test_invariance_of_the_gaussian_fails(name, gaussian_draws):
    with pytest.raises(AssertionError, match="does not leave its target invariant: p = "):
        check_invariance(jax.random.key(7), WRONG_ON_GAUSSIAN[name](objects.gaussian()), gaussian_draws, COORDINATES)


WRONG = [(name, twin) for name, solvable in objects.SOLVABLE.items() for twin in solvable.wrong]


@pytest.mark.parametrize(("name", "twin"), WRONG)
def test_invariance_of_the_tables_fails(name, twin):
    target, draws, statistics, _, wrong = objects.SOLVABLE[name]
    with pytest.raises(AssertionError, match="does not leave its target invariant: p = "):
        check_invariance(jax.random.key(10), wrong[twin](target()), draws(), statistics)


def test_discrete_invariance_fails():
    target = objects.ising()
    draws = exact_draws.ising_chain(np.random.default_rng(23), 0.4, np.asarray(target.field), 4, N_DRAWS)
    inner = LocalSweep(objects.other_ising(), Signs(), 1.0)
    wrong = MetropolisHastings(target, WithoutRatio(CumulativeUpdate(inner, 2)))
    state = {"state": lambda spins: jnp.sum(jnp.asarray(spins > 0, jnp.int64) * 2 ** jnp.arange(4))}
    with pytest.raises(AssertionError, match="p = "):
        check_invariance(jax.random.key(8), wrong, jnp.asarray(draws), state)


def test_an_update_that_stays_fails(gaussian_draws):
    with pytest.raises(AssertionError, match=r"only 0\.0% of the chains moved"):
        check_invariance(jax.random.key(9), Lazy(objects.gaussian()), gaussian_draws, COORDINATES)


def test_guard_refuses_what_is_not_reversible():
    class Honest(FixedOrderGaussian):
        @property
        def reversible(self):
            return False

    with pytest.raises(ValueError, match="detailed balance"):
        CumulativeUpdate(Honest(objects.gaussian()))


# --- the other checks -----------------------------------------------------------------------------------------------


def test_detailed_balance(gaussian_draws):
    """A sweep in random direction keeps it; one in fixed order is invariant all the same, and does not."""
    target = objects.gaussian()
    check_detailed_balance(jax.random.key(1), LocalSweep(target, Flat(), 1.0), gaussian_draws, first, second)
    check_detailed_balance(
        jax.random.key(1),
        objects.slmc(target, LocalSweep(objects.other_gaussian(), Flat(), 1.0)),
        gaussian_draws,
        first,
        second,
    )
    fixed_order = FixedOrderGaussian(target)
    check_invariance(jax.random.key(2), fixed_order, gaussian_draws, COORDINATES)
    with pytest.raises(AssertionError, match="does not keep detailed balance: p = "):
        check_detailed_balance(jax.random.key(3), fixed_order, gaussian_draws, first, second)


def test_detailed_balance_of_spin_sweeps(ring_draws):
    def early(spins):
        return spins[0, 2]

    def late(spins):
        return spins[3, 2]

    ring = Heisenberg((4,), couplings=list(objects.RING))
    for update in (HeatBathSweep(ring), objects.palindrome(ring), LocalSweep(ring, SPHERICAL, 1.5)):
        check_detailed_balance(jax.random.key(4), update, ring_draws, early, late)


def test_detailed_balance_fails_where_chains_stay(gaussian_draws):
    with pytest.raises(AssertionError, match="no chain moved"):
        check_detailed_balance(jax.random.key(1), Lazy(objects.gaussian()), gaussian_draws, first, second)


class InAField(Target):
    """Not invariant under rotations."""

    target: Target

    def log_weight(self, spins):
        return self.target.log_weight(spins) + 0.1 * jnp.sum(spins[..., 2])


def rotated(spins):
    return spins @ jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_force_fails():
    class Doubled(Target):
        """The gradient is twice what it should be."""

        target: Target

        def log_weight(self, spins):
            value = self.target.log_weight(spins)
            return value + value - jax.lax.stop_gradient(value)

    target = DoubleExchange((2, 2), temperature=0.3)
    spins = objects.random_spins(1, 2, 2)
    check_force(jax.random.key(0), target, SPHERICAL, spins)
    with pytest.raises(AssertionError, match="is not the derivative"):
        check_force(jax.random.key(0), Doubled(target), SPHERICAL, spins)


def test_symmetry_fails():
    target, spins = DoubleExchange((2, 2), temperature=0.3), objects.random_spins(2, 2, 2)
    check_symmetry(target, spins, rotated)
    with pytest.raises(AssertionError, match="is not invariant"):
        check_symmetry(InAField(target), spins, rotated)


def test_equivariance_fails():
    model, spins = objects.MODELS["Transformer, dot-product"]((2, 2)), objects.random_spins(3, 2, 2)
    check_equivariance(model.effective_spins, spins, rotated)
    with pytest.raises(AssertionError, match="is not equivariant"):
        check_equivariance(lambda x: jax.nn.relu(model.effective_spins(x)), spins, lambda x: -rotated(x))


def test_reversibility_fails():
    model, spins = objects.random_heisenberg((2, 2)), objects.random_spins(4, 2, 2)
    with pytest.raises(AssertionError, match="is not reversible"):
        check_reversible_trajectory(jax.random.key(0), SYMPLECTIC_EULER, model, SPHERICAL, spins, 0.1, 5)
    still = eqx.tree_at(lambda m: m.reduced_couplings, model, jnp.zeros_like(model.reduced_couplings))
    with pytest.raises(AssertionError, match="does not move"):
        check_reversible_trajectory(jax.random.key(0), LEAPFROG, still, SPHERICAL, spins, 0.0, 5)
