"""Every update of the gauge field keeps its target: from exact draws of small tori, and against exact averages."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects_gauge
import reference_gauge as reference
from objects_gauge import (
    BETA,
    FLAVOURS,
    MASS,
    N_DRAWS,
    STATISTICS,
    TORUS,
    effective_loops,
    fermion_target,
    gauge_target,
    hmc,
    kept_by,
    kept_by_determinant,
    polyakov,
)
from slmc.montecarlo import (
    OMELYAN,
    MetropolisHastings,
    Sequence,
    State,
    chains,
    decision_of,
    init_chains,
    run_chains,
)
from slmc.selflearning import CumulativeUpdate
from slmc.systems.gauge import (
    CaskSmearing,
    DomainWall,
    Dynamical,
    EffectiveAction,
    FermionDeterminant,
    FermionGuide,
    GaugeAction,
    GaugeHeatBath,
    LoopAction,
    PseudofermionAction,
    PseudofermionProduct,
    PseudofermionTrajectory,
    RefreshPseudofermions,
    Staggered,
    StoutSmearing,
    random_links,
)
from slmc.systems.gauge.gamma_matrices import gamma_matrices
from slmc.systems.gauge.guide_learner import RecordedTrajectories
from slmc.systems.gauge.observables import plaquette
from slmc.testing import check_detailed_balance, check_invariance


@pytest.fixture(autouse=True)
def _large_groups(monkeypatch):
    """Averages over many chains do not depend on how many of them a program advances, and the time it takes does."""
    monkeypatch.setattr(chains, "GROUP_SIZE", 64)


def with_pseudofermion(statistic):
    return lambda configuration: statistic(configuration.links)


@pytest.fixture(scope="module")
def gauge_draws():
    return objects_gauge.gauge_draws()


@pytest.fixture(scope="module")
def many_draws():
    return objects_gauge.many_draws()


@pytest.fixture(scope="module")
def fermion_draws():
    return objects_gauge.fermion_draws()


@pytest.mark.parametrize("over_relaxation", [False, True])
def test_a_negative_coupling(over_relaxation, gauge_draws):
    """As a fit may find one: U_0 → −U_0 in every other row turns every plaquette of SU(2) round, and so β."""
    rows = jnp.asarray([[1.0, -1.0], [1.0, -1.0]])[..., None, None, None]
    draws = gauge_draws.at[:, 0].set(rows[None] * gauge_draws[:, 0])
    updates = objects_gauge.SOLVABLE["gauge action"].updates
    update = updates["over-relaxation" if over_relaxation else "heat bath"](GaugeAction(TORUS, 2, -BETA))
    check_invariance(jax.random.key(15), update, draws, STATISTICS)


@pytest.mark.parametrize("over_relaxation", [False, True])
def test_sweeps_keep_detailed_balance(over_relaxation, gauge_draws):
    update = GaugeHeatBath(gauge_target(), over_relaxation)
    check_detailed_balance(jax.random.key(4), update, gauge_draws, squared_loop(0), squared_loop(1))


def pseudofermion_update(target, guide=None, n_gauge_steps=0):
    guide = target if guide is None else guide
    trajectory = PseudofermionTrajectory(guide, 0.5, 2, OMELYAN, n_gauge_steps)
    return Sequence((RefreshPseudofermions(target), MetropolisHastings(target, trajectory)))


def recorded(target, guide, kind=RecordedTrajectories):
    """The update with which a guide is learned."""
    return kind(target, PseudofermionTrajectory(guide, 0.5, 2, OMELYAN))


def heavier():
    smearing = StoutSmearing(1, ("plaquette",), [[0.1]])
    return PseudofermionAction(gauge_target(), Staggered(TORUS, 2, 0.8), FLAVOURS, smearing)


def attending():
    """A guide of every kind of trained number."""
    smearing = CaskSmearing(1, ("plaquette",), [[[0.1], [0.2], [0.1], [0.1]]])
    fermions = PseudofermionAction(gauge_target(), Staggered(TORUS, 2, 0.8), FLAVOURS, smearing)
    return FermionGuide(LoopAction(gauge_target(), ("plaquette",), 0.2), fermions, 1.3)


PSEUDOFERMION_UPDATES = {
    "RHMC": pseudofermion_update,
    "RHMC, two time scales": lambda target: pseudofermion_update(target, n_gauge_steps=2),
    "SLHMC while it learns": lambda target: recorded(target, heavier()),
    "SLHMC, attention, scale and couplings": lambda target: pseudofermion_update(target, attending()),
}


def walls(mass=0.4):
    return DomainWall(TORUS, 2, mass, 1.6, 2, 1.5, 0.5)


def walls_action(operator=walls, denominator=None, smearing=None):
    """Two flavours of domain walls, with Pauli–Villars fields unless the denominator is another."""
    below = walls(1.0) if denominator is None else denominator
    return PseudofermionAction(gauge_target(), operator(), smearing=smearing, denominator=below)


def hasenbusch():
    none, heavier = GaugeAction(TORUS, 2, 0.0), walls(0.7)
    light = PseudofermionAction(none, walls(), denominator=heavier)
    return PseudofermionProduct(gauge_target(), light, PseudofermionAction(none, heavier, denominator=walls(1.0)))


WALL_UPDATES = {
    "Pauli–Villars": lambda: pseudofermion_update(walls_action()),
    "Hasenbusch, two time scales": lambda: pseudofermion_update(hasenbusch(), n_gauge_steps=2),
    "SLHMC, heavier and smeared": lambda: pseudofermion_update(
        walls_action(), walls_action(lambda: walls(0.7), None, StoutSmearing(1, ("plaquette",), [[0.1]]))
    ),
}


@pytest.fixture(scope="module")
def wall_draws(many_draws):
    """Kept by |det D_ov|² of dense matrices."""
    gamma_5 = np.kron(np.eye(4), np.diag([1.0, 1.0, -1.0, -1.0]))
    kernels = reference.wilson_kernel(many_draws, 1.6, gamma_matrices(2))
    overlap = reference.overlap_matrix(kernels, gamma_5, 0.4, 2, 1.5, 0.5)
    return kept_by(many_draws, 2 * np.linalg.slogdet(overlap)[1])


def with_fields(target, links):
    return Dynamical(links, target.no_pseudofermion(len(links)))


@pytest.mark.parametrize("name", WALL_UPDATES)
def test_domain_walls(name, wall_draws):
    assert len(wall_draws) > N_DRAWS / 8
    update = WALL_UPDATES[name]()
    statistics = {key: with_pseudofermion(one) for key, one in STATISTICS.items()}
    check_invariance(jax.random.key(18), update, with_fields(update.target, wall_draws), statistics)


def test_domain_walls_without_pauli_villars_fields_are_caught(wall_draws):
    """The fifth dimension's own fermions left in the weight."""
    target = PseudofermionAction(gauge_target(), walls())
    statistics = {key: with_pseudofermion(one) for key, one in STATISTICS.items()}
    with pytest.raises(AssertionError, match="invariant"):
        check_invariance(
            jax.random.key(19), pseudofermion_update(target), with_fields(target, wall_draws), statistics, 8
        )


@pytest.mark.parametrize("name", PSEUDOFERMION_UPDATES)
def test_pseudofermions(name, fermion_draws):
    target = PseudofermionAction(gauge_target(), Staggered(TORUS, 2, MASS), FLAVOURS)
    statistics = {key: with_pseudofermion(one) for key, one in STATISTICS.items()}
    update = PSEUDOFERMION_UPDATES[name](target)
    check_invariance(jax.random.key(6), update, with_fields(target, fermion_draws), statistics)


def test_more_flavours_than_tastes_take_several_fields(many_draws):
    """Heavier than the others, so that enough draws are kept."""
    target = PseudofermionAction(gauge_target(), Staggered(TORUS, 2, 3 * MASS), 8.0)
    assert (target.n_fields, target.power) == (2, 1.0)
    draws = kept_by_determinant(many_draws, 3 * MASS, 8.0)
    assert len(draws) > N_DRAWS / 8
    statistics = {key: with_pseudofermion(one) for key, one in STATISTICS.items()}
    check_invariance(jax.random.key(17), pseudofermion_update(target), with_fields(target, draws), statistics)


def test_exponential_of_the_energy_error_averages_to_one(gauge_draws, fermion_draws):
    """⟨exp(−ΔH)⟩ = 1 from exact draws, where ΔH itself is not small."""
    action = PseudofermionAction(gauge_target(), Staggered(TORUS, 2, MASS), FLAVOURS)
    kept = fermion_draws[: len(fermion_draws) // 128 * 128]
    for update, draws in (
        (hmc(gauge_target(), 0.6, 3), gauge_draws),
        (pseudofermion_update(action), with_fields(action, kept)),
    ):
        _, infos = run_chains(jax.random.key(13), update, init_chains(update, draws), 1)
        ratios = decision_of(update)(infos).log_ratio
        values = np.exp(np.asarray(ratios)[:, 0])
        assert np.std(values) > 0.02
        assert np.mean(values) == pytest.approx(1, abs=4 * np.std(values) / np.sqrt(len(values)))


# --- exact averages on larger tori -----------------------------------------------------------------------------------


def observe(state: State, info):
    return plaquette(state.configuration)


@pytest.mark.parametrize(("n", "beta"), [(2, 2.2), (3, 5.0)])
@pytest.mark.parametrize("name", ["heat bath", "HMC"])
def test_plaquette_is_that_of_the_character_expansion(name, n, beta):
    target, n_chains = GaugeAction((4, 4), n, beta), 256
    update = GaugeHeatBath(target) if name == "heat bath" else hmc(target, 0.35, 5)
    states = init_chains(update, random_links(jax.random.key(7), (4, 4), n, n_chains))
    _, series = run_chains(jax.random.key(8), update, states, 60, observe)
    by_chain = np.asarray(series)[:, 20:].mean(1)
    error = by_chain.std(ddof=1) / np.sqrt(n_chains)
    assert error < 2e-3
    assert by_chain.mean() == pytest.approx(reference.torus_plaquette(n, beta, 16), abs=4 * error)


# --- wrong twins: each check is seen to fail -------------------------------------------------------------------------


class ForgottenLoops(CumulativeUpdate):
    """The Polyakov loops that drive the inner chain left out of the ratio."""

    def propose(self, key, links):
        moved, _ = CumulativeUpdate.propose(self, key, links)
        seen = eqx.tree_at(lambda model: model.polyakov, effective_loops(), jnp.zeros(2))
        return moved, seen.log_weight(links) - seen.log_weight(moved)


def test_slmc_that_forgets_the_polyakov_loops_is_caught(fermion_draws):
    update = MetropolisHastings(fermion_target(), ForgottenLoops(hmc(effective_loops(), 0.5, 3), 2))
    with pytest.raises(AssertionError, match="invariant"):
        check_invariance(jax.random.key(16), update, fermion_draws, STATISTICS, n_steps=8)


def test_a_pseudofermion_of_another_mass_is_caught(fermion_draws):
    target = PseudofermionAction(gauge_target(), Staggered(TORUS, 2, 5 * MASS), FLAVOURS)
    statistics = {key: with_pseudofermion(one) for key, one in STATISTICS.items()}
    with pytest.raises(AssertionError, match="invariant"):
        check_invariance(
            jax.random.key(11), pseudofermion_update(target), with_fields(target, fermion_draws), statistics, 4
        )


class Undecided(RecordedTrajectories):
    """Every trajectory of the guide is where the chain goes."""

    def step(self, key, state):
        _, info = RecordedTrajectories.step(self, key, state)
        ends = info.label.configuration
        return self.init(Dynamical(ends.end, ends.pseudofermion)), info


def test_trajectories_of_a_guide_without_a_decision_are_caught(fermion_draws):
    target = PseudofermionAction(gauge_target(), Staggered(TORUS, 2, MASS), FLAVOURS)
    statistics = {key: with_pseudofermion(one) for key, one in STATISTICS.items()}
    update = recorded(target, heavier(), Undecided)
    with pytest.raises(AssertionError, match="invariant"):
        check_invariance(jax.random.key(20), update, with_fields(target, fermion_draws), statistics, 4)


class OneWay(GaugeHeatBath):
    """Reflections always in the same order: they keep the target but not detailed balance."""

    def _orders(self):
        return tuple(part[:1] for part in GaugeHeatBath._orders(self))


def squared_loop(direction):
    return lambda links: polyakov(direction)(links) ** 2


def share_returned(update, draws):
    """How many chains two steps lead back to where they started."""
    states, _ = run_chains(jax.random.key(12), update, init_chains(update, draws), 2, observe)
    return float(jnp.mean(jnp.max(jnp.abs(states.configuration - draws), axis=(1, 2, 3, 4, 5, 6)) < 1e-9))


def test_reflections_lead_back_as_often_as_there(gauge_draws):
    """Nothing is drawn but the order: a way there of probability ½ needs a way back of probability ½, which no
    comparison of averages on so small a torus would notice."""
    draws = gauge_draws[:1024]
    assert share_returned(GaugeHeatBath(gauge_target(), over_relaxation=True), draws) == pytest.approx(0.5, abs=0.06)


def test_reflections_in_one_order_are_caught(gauge_draws):
    assert share_returned(OneWay(gauge_target(), over_relaxation=True), gauge_draws[:1024]) < 0.01


@pytest.mark.parametrize("n", [2, 3])
def test_reflections_move_far_and_keep_the_action(n):
    """A sweep there and back would be no move at all."""
    target = GaugeAction((4, 2), n, 2.0)
    update = GaugeHeatBath(target, over_relaxation=True)
    before = init_chains(update, random_links(jax.random.key(14), (4, 2), n, 4))
    after, _ = run_chains(jax.random.key(15), update, before, 1, observe)
    np.testing.assert_allclose(after.log_weight, before.log_weight, rtol=1e-10)
    assert float(jnp.mean(jnp.abs(after.configuration - before.configuration))) > 0.2


@pytest.mark.parametrize(
    "target",
    [
        lambda: GaugeAction((4, 4), 2, 1.0, "Iwasaki"),
        lambda: EffectiveAction((4, 4), 2, 1.0, polyakov_loops=True),
        lambda: FermionDeterminant(GaugeAction((2, 2), 2, 1.0), Staggered((2, 2), 2, 1.0), 4.0),
    ],
)
def test_a_heat_bath_refuses_what_it_cannot_draw(target):
    with pytest.raises(ValueError, match="plaquettes alone"):
        GaugeHeatBath(target())


def test_a_heat_bath_refuses_an_odd_lattice():
    with pytest.raises(ValueError, match="even extents"):
        GaugeHeatBath(GaugeAction((3, 4), 2, 1.0))
