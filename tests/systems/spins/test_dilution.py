"""Sites without a spin: nothing moves them, and what is left is sampled as if they were not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
import reference_double_exchange as reference
from slmc.montecarlo import HamiltonianTrajectory, LocalSweep, MetropolisHastings, Sequence, Sphere
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import (
    DoubleExchange,
    EquivariantNetwork,
    EquivariantTransformer,
    HeatBathSweep,
    Heisenberg,
    OverRelaxationSweep,
    diluted,
)
from slmc.systems.spins.observables import magnetization_squared, n_spins, structure_factor
from slmc.testing import check_invariance

COUPLING, N_DRAWS = 1.5, 16384


def open_chain(seed=1):
    """Exact draws of three spins in a row, on a ring of four whose last site is empty."""
    rng = np.random.default_rng(seed)

    def neighbour(spins):
        """A unit vector at cosine c, of density ∝ exp(K c), to each of the given ones."""
        u = rng.uniform(size=len(spins))
        cosine = 1 + np.log(u + (1 - u) * np.exp(-2 * COUPLING)) / COUPLING
        aside = rng.normal(size=spins.shape)
        aside -= (aside * spins).sum(1, keepdims=True) * spins
        aside /= np.linalg.norm(aside, axis=1, keepdims=True)
        return cosine[:, None] * spins + np.sqrt(1 - cosine**2)[:, None] * aside

    middle = rng.normal(size=(N_DRAWS, 3))
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    spins = np.stack([neighbour(middle), middle, neighbour(middle), np.zeros_like(middle)], axis=1)
    return jnp.asarray(spins)


RING = Heisenberg((4,), couplings=[COUPLING])
WRONG = Heisenberg((4,), couplings=[0.7 * COUPLING, 0.2])
STATISTICS = {
    "first bond": lambda spins: jnp.dot(spins[0], spins[1]),
    "ends": lambda spins: jnp.dot(spins[0], spins[2]),
    "component": lambda spins: spins[1, 2],
}


def trajectory(guide):
    return HamiltonianTrajectory(guide, Sphere(), 0.5, 4)


def proposed_by(model):
    return MetropolisHastings(RING, CumulativeUpdate(HeatBathSweep(model), 2))


def network():
    model = EquivariantNetwork((4,), 2, 3, 4, key=jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), model)


UPDATES = {
    "local": lambda: LocalSweep(RING, Sphere(), 0.8),
    "HMC": lambda: MetropolisHastings(RING, trajectory(RING)),
    "SLHMC, Transformer": lambda: MetropolisHastings(
        RING, trajectory(EquivariantTransformer((4,), 1, 1, initial_scale=1.0, key=jax.random.key(2)))
    ),
    "SLMC, heat bath": lambda: proposed_by(WRONG),
    "SLMC, network": lambda: MetropolisHastings(
        RING, CumulativeUpdate(MetropolisHastings(network(), trajectory(network())), 2)
    ),
    "over-relaxation": lambda: Sequence(
        (OverRelaxationSweep(RING), HeatBathSweep(RING), OverRelaxationSweep(RING))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UPDATES)
def test_what_is_left_is_sampled_as_if_empty_sites_were_not_there(name):
    update = UPDATES[name]()
    found = check_invariance(jax.random.key(3), update, open_chain(), STATISTICS)
    assert found.moved > 0.3
    states = jax.vmap(update.init)(open_chain()[:32])
    states, _ = jax.vmap(update.step)(jax.random.split(jax.random.key(4), 32), states)
    np.testing.assert_array_equal(states.configuration[:, 3], 0.0)


def test_a_model_that_fills_the_empty_site_is_caught():
    """The wrong twin: the ratio of a proposal that believes in a spin at the empty site."""

    class Filled(Heisenberg):
        def log_weight(self, spins):
            return super().log_weight(spins.at[3].set(jnp.array([0.0, 0.0, 1.0])))

    filled = Filled((4,), couplings=[COUPLING])
    update = MetropolisHastings(RING, CumulativeUpdate(HeatBathSweep(filled), 3))
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        check_invariance(jax.random.key(3), update, open_chain(), STATISTICS)


def test_electrons_live_on_all_sites():
    spins = np.array(diluted(jax.random.key(1), objects.random_spins(1, 2, 4, 4), 0.4))[0]
    target = DoubleExchange((4, 4), 0.9, 2.5, -0.3, 0.1)
    expected = reference.log_weight(spins, [0.9], 2.5, -0.3, 0.1)
    assert float(target.log_weight(jnp.asarray(spins))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", objects.MODELS)
def test_models_stay_symmetric_and_smooth(name):
    model = objects.MODELS[name]((4, 4))
    spins = diluted(jax.random.key(2), objects.random_spins(2, 1, 4, 4), 0.5)[0]
    value, force = jax.value_and_grad(lambda x: model.log_weight(x))(spins)
    assert np.isfinite(force).all()
    moved = jnp.roll(spins, 1, 0).transpose(1, 0, 2) @ jnp.diag(jnp.array([1.0, -1.0, 1.0]))
    assert float(model.log_weight(moved)) == pytest.approx(float(value), abs=1e-10)


def test_samples_share_their_sites_and_differ_from_each_other():
    spins = diluted(jax.random.key(3), objects.random_spins(3, 6, 4, 6), 0.3, 3)
    occupied = np.any(np.asarray(spins) != 0, axis=-1)
    assert (occupied.sum((1, 2)) == round(0.3 * 24)).all()
    np.testing.assert_array_equal(occupied[::2], occupied[1::2])
    assert len({one.tobytes() for one in occupied}) == 3
    assert not np.array_equal(spins[0], spins[1])


@pytest.mark.parametrize(
    ("concentration", "n_samples", "words"), [(0.0, 1, "between 0 and 1"), (1.2, 1, "between"), (0.5, 4, "divided")]
)
def test_wrong_dilution_is_told(concentration, n_samples, words):
    with pytest.raises(ValueError, match=words):
        diluted(jax.random.key(0), objects.random_spins(3, 6, 4, 4), concentration, n_samples)


def test_magnetizations_are_per_spin():
    spins = jnp.zeros((4, 4, 3)).at[0, :3, 2].set(1.0)
    assert float(n_spins(spins)) == 3
    assert float(magnetization_squared(spins)) == pytest.approx(1.0)
    assert float(structure_factor(spins)[0, 0]) == pytest.approx(3.0)
