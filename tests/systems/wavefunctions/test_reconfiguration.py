"""Our stochastic reconfiguration: NetKet's steps at power two, exact averages at others, limited steps."""

import jax
import jax.numpy as jnp
import netket as nk
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from slmc.statistics import estimate
from slmc.systems.wavefunctions import (
    NetKetProblem,
    Reconfiguration,
    SymmetryProjection,
    VisionTransformer,
    j1j2,
    stochastic_reconfiguration,
)
from slmc.systems.wavefunctions.local_energies import few_orbits, local_energies, log_amplitudes, merged, orbits_of
from slmc.systems.wavefunctions.stochastic_reconfiguration import importance_weights

TRACED_ANEW = True
"""It changes what is compiled."""

PHYSICS = j1j2((8,), 0.3)
MODEL = VisionTransformer((8,), n_layers=1, n_features=4, n_heads=2)


def new_state(n_samples, power=2.0):
    sampler = nk.sampler.ExactSampler(PHYSICS.hilbert, machine_pow=power)
    return nk.vqs.MCState(sampler, MODEL, n_samples=n_samples, seed=1, sampler_seed=2)


def driver(state, rate=0.02, shift=1e-3, **more):
    return Reconfiguration(PHYSICS.hamiltonian, state, rate, shift, **more)


def exact(state):
    """Energy, and log ψ, over the whole basis."""
    values = np.asarray(state.log_value(PHYSICS.hilbert.all_states()))
    amplitudes = np.exp(values - values.real.max())
    matrix = PHYSICS.hamiltonian.to_dense()
    return np.vdot(amplitudes, matrix @ amplitudes).real / np.vdot(amplitudes, amplitudes).real, values


# Twice as many rows as samples: once fewer than the parameters, once more.
@pytest.mark.parametrize("n_samples", [32, 256])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_steps_are_those_of_netket_at_power_two(n_samples, momentum):
    ours, theirs = new_state(n_samples), new_state(n_samples)
    assert (2 * n_samples > ours.n_parameters) == (n_samples == 256)
    assert_same_steps(ours, theirs, momentum)


def test_orbits_on_the_square_lattice():
    def state_of(space, model):
        return nk.vqs.MCState(nk.sampler.MetropolisLocal(space), model, n_samples=256, seed=1)

    def projection(shape):
        return SymmetryProjection(VisionTransformer(shape, 1, 4, 2), shape, 2, point_group=True, spin_flip=1)

    square = state_of(nk.hilbert.Spin(0.5, 16, total_sz=0), projection((4, 4)))
    assert len(few_orbits(square, 256).representatives) == 107
    oblong = state_of(nk.hilbert.Spin(0.5, 8), projection((2, 4)))
    spins = oblong.hilbert.all_states()
    assert few_orbits(oblong, len(spins)) is not None
    np.testing.assert_allclose(np.exp(log_amplitudes(oblong, spins) - oblong.log_value(spins)), 1, rtol=1e-10)
    # Other spaces do not hold ±1, larger ones too many states.
    assert few_orbits(state_of(nk.hilbert.Qubit(16), projection((4, 4))), 10**6) is None
    assert few_orbits(state_of(nk.hilbert.Spin(0.5, 36, total_sz=17), projection((6, 6))), 10**6) is None


def test_merging_is_exact_for_other_powers_and_parts(monkeypatch):
    def step():
        state = projected_state(64, translations=2, point_group=True, spin_flip=1)
        state.sampler, state.chunk_size = nk.sampler.ExactSampler(PHYSICS.hilbert, machine_pow=1.0), 4
        return ravel_pytree(driver(state, momentum=0.5).compute_loss_and_update()[1])[0]

    found = step()
    monkeypatch.setattr(stochastic_reconfiguration, "few_orbits", lambda state, n_samples: None)
    np.testing.assert_allclose(found, step(), rtol=1e-6, atol=1e-10)


def test_merging_samples_of_an_orbit_leaves_the_steps_as_they_are(monkeypatch):
    symmetries = {"translations": 2, "point_group": True, "spin_flip": 1}
    ours, theirs = projected_state(64, **symmetries), projected_state(64, **symmetries)
    assert few_orbits(ours, 64) is not None
    assert_same_steps(ours, theirs, 0.8)

    def forgetful(orbits, spins, energies, weights):
        spins, energies, weights = merged(orbits, spins, energies, weights)
        return spins, energies, (weights > 0) / jnp.sum(weights > 0)

    monkeypatch.setattr(stochastic_reconfiguration, "merged", forgetful)
    ours, theirs = projected_state(64, **symmetries), projected_state(64, **symmetries)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_steps(ours, theirs, 0.8)


def assert_same_steps(ours, theirs, momentum):
    start = ravel_pytree(ours.parameters)[0]
    mine = driver(ours, momentum=momentum)
    reference = nk.driver.VMC_SR(
        PHYSICS.hamiltonian,
        optax.sgd(0.02),
        diag_shift=1e-3,
        momentum=momentum or None,
        variational_state=theirs,
        use_ntk=True,
        on_the_fly=False,
        mode="complex",
    )
    for one in (mine, reference):
        one.run(3, show_progress=False, out=())
    found, expected = (ravel_pytree(state.parameters)[0] for state in (ours, theirs))
    assert float(jnp.abs(expected - start).max()) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_energies_of_every_power_are_those_of_the_square(power):
    state = new_state(8_000, power)
    stats, _ = driver(state).compute_loss_and_update()
    energy, values = exact(state)
    assert abs(stats.mean.real - energy) < 4 * stats.error_of_mean
    probabilities = np.asarray(jax.nn.softmax(2 * values.real))
    np.testing.assert_allclose(np.sum(importance_weights(state, PHYSICS.hilbert.all_states())), 1)
    # Without its weights another power gives another energy.
    plain = np.asarray(state.local_estimators(PHYSICS.hamiltonian).data)
    error = plain.real.std() / np.sqrt(plain.size)
    assert (abs(plain.real.mean() - energy) > 5 * error) == (power < 2)
    local = PHYSICS.hamiltonian.to_dense() @ np.exp(values) / np.exp(values)
    variance = np.sum(probabilities * np.abs(local - energy) ** 2)
    assert float(stats.variance) == pytest.approx(variance, rel=0.1)


def test_steps_do_not_depend_on_the_power_where_all_is_sampled(monkeypatch):
    # A small shift would let every configuration be fitted, whatever its weight.
    def step(power):
        return ravel_pytree(driver(new_state(10_000, power), shift=100.0).compute_loss_and_update()[1])[0]

    def far(one):
        return float(jnp.linalg.norm(one - expected) / jnp.linalg.norm(expected))

    expected = step(2.0)
    assert far(step(1.0)) < 0.1
    # A twin that forgets the weights.
    monkeypatch.setattr(
        stochastic_reconfiguration, "importance_weights", lambda state, spins: jnp.full(len(spins), 1 / len(spins))
    )
    assert far(step(1.0)) > 0.2


@pytest.mark.parametrize("chunk_size", [None, 64, 4])
def test_local_energies_are_those_of_netket(chunk_size):
    state = new_state(300)
    state.chunk_size = chunk_size
    spins = state.samples.reshape(-1, 8)
    expected = np.ravel(state.local_estimators(PHYSICS.hamiltonian).data)
    np.testing.assert_allclose(local_energies(state, PHYSICS.hamiltonian, spins), expected, rtol=1e-12)


def projected_state(n_samples, **symmetries):
    model = SymmetryProjection(MODEL, (8,), **symmetries)
    return nk.vqs.MCState(nk.sampler.ExactSampler(PHYSICS.hilbert), model, n_samples=n_samples, seed=1)


@pytest.mark.parametrize(
    ("symmetries", "n_orbits"),
    [
        # Necklaces of 4 black and 4 white beads: 10 under rotations, 8 also under reflections, 7 also under exchange
        # of the colours; alone, that leaves 70 / 2.
        ({"translations": 2}, 10),
        ({"translations": 2, "point_group": True}, 8),
        ({"translations": 2, "point_group": True, "spin_flip": 1}, 7),
        ({"spin_flip": 1}, 35),
        ({"translations": 2, "spin_flip": -1}, None),
        ({"translations": 2, "momentum_pi": True}, None),
    ],
)
def test_one_evaluation_for_each_orbit_gives_the_local_energies_of_netket(symmetries, n_orbits, monkeypatch):
    state = projected_state(300, **symmetries)
    spins = state.samples.reshape(-1, 8)
    expected = np.ravel(state.local_estimators(PHYSICS.hamiltonian).data)
    amplitudes = state.log_value(spins)
    orbits = few_orbits(state, len(spins))
    assert (None if orbits is None else len(orbits.representatives)) == n_orbits
    np.testing.assert_allclose(local_energies(state, PHYSICS.hamiltonian, spins), expected, rtol=1e-10)
    np.testing.assert_allclose(np.exp(log_amplitudes(state, spins) - amplitudes), 1, rtol=1e-10)
    # Flips lead out of a space of another magnetisation.
    magnetised = nk.hilbert.Spin(0.5, 8, total_sz=1)
    other = nk.vqs.MCState(nk.sampler.ExactSampler(magnetised), state.model, n_samples=300, seed=1)
    drawn = other.samples.reshape(-1, 8)
    found = log_amplitudes(other, drawn)
    np.testing.assert_allclose(np.exp(found - other.log_value(drawn)), 1, rtol=1e-10)
    if n_orbits is not None:
        assert few_orbits(other, 300) is not None
        # Fewer configurations than orbits are evaluated themselves.
        assert few_orbits(state, n_orbits - 1) is None
        # A twin that takes a sector of more symmetry than ψ has.
        all_of_them = SymmetryProjection(MODEL, (8,), 2, point_group=True, spin_flip=1)
        monkeypatch.setattr(SymmetryProjection, "full_group", all_of_them.full_group)
        orbits_of.cache_clear()
        wrong = local_energies(state, PHYSICS.hamiltonian, spins)
        orbits_of.cache_clear()
        assert np.allclose(wrong, expected, rtol=1e-10) == (n_orbits == 7)


def test_a_step_changes_log_psi_by_no_more_than_asked():
    state = new_state(64)
    mine = driver(state, rate=1.0, max_change=0.01)
    spins = state.samples.reshape(-1, 8)
    before = state.log_value(spins)
    mine.run(1, show_progress=False, out=())
    change = np.asarray(state.log_value(spins) - before)
    assert np.sqrt(np.mean(np.abs(change - change.mean()) ** 2)) == pytest.approx(0.01, rel=0.1)


def test_a_real_wave_function_takes_the_steps_of_netket():
    physics = j1j2((8,), 0.3, marshall=True)

    def state():
        model = nk.models.RBM(param_dtype=float)
        return nk.vqs.MCState(nk.sampler.ExactSampler(physics.hilbert), model, n_samples=64, seed=1, sampler_seed=2)

    ours, theirs = state(), state()
    Reconfiguration(physics.hamiltonian, ours, 0.02, 1e-2).run(2, show_progress=False, out=())
    nk.driver.VMC_SR(
        physics.hamiltonian, optax.sgd(0.02), diag_shift=1e-2, variational_state=theirs, use_ntk=False, on_the_fly=False
    ).run(2, show_progress=False, out=())
    found, expected, start = (ravel_pytree(one.parameters)[0] for one in (ours, theirs, state()))
    assert float(jnp.abs(expected - start).max()) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_error_of_the_energy_is_its_spread():
    """Also where the local energies have large imaginary parts: amplitudes nearly equal."""
    model = VisionTransformer((8,), n_layers=1, n_features=4, n_heads=2, initial_scale=0.3)
    sampler = nk.sampler.ExactSampler(PHYSICS.hilbert, machine_pow=1.0)
    one = driver(nk.vqs.MCState(sampler, model, n_samples=64, seed=1, sampler_seed=2))
    found = []
    for _ in range(200):
        one.state.reset()
        found.append(one.compute_loss_and_update()[0])
    spread = np.std([stats.mean.real for stats in found])
    assert np.mean([stats.error_of_mean for stats in found]) == pytest.approx(spread, rel=0.2)
    assert np.sqrt(found[0].variance / 64) > 2 * spread


def test_a_measurement_draws_from_the_square_and_leaves_the_driver_as_it_was():
    state = nk.vqs.MCState(
        nk.sampler.MetropolisExchange(PHYSICS.hilbert, graph=PHYSICS.graph, n_chains=256, machine_pow=1.0),
        MODEL,
        n_samples=256,
        seed=1,
        sampler_seed=2,
    )
    problem = NetKetProblem(driver(state), PHYSICS.hamiltonian)
    identity = problem.identity
    measured = problem.measure(16)["energy"].values
    energy, _ = exact(state)
    found = estimate(measured)
    assert abs(found.value - energy / 8) < 4 * found.error
    assert problem.identity == identity
    # Continued, the next draws are the same.
    kept = problem.state()
    expected = problem.measure(4)["energy"].values
    problem.restore(kept)
    np.testing.assert_array_equal(problem.measure(4)["energy"].values, expected)
    # The twin: what the chains of the first power would have said.
    assert abs(float(np.sum(local_mean(state, 1.0))) - energy) / 8 > 8 * found.error


def local_mean(state, power):
    """Shares of the energy by configuration, drawn from a power of |ψ|, without weights."""
    _, values = exact(state)
    local = PHYSICS.hamiltonian.to_dense() @ np.exp(values) / np.exp(values)
    return np.asarray(jax.nn.softmax(power * values.real)) * local.real


def test_other_drivers_are_refused_chains_of_another_power():
    theirs = nk.driver.VMC_SR(
        PHYSICS.hamiltonian, optax.sgd(0.02), diag_shift=1e-3, variational_state=new_state(16, 1.0), use_ntk=True
    )
    with pytest.raises(ValueError, match="VMC_SR takes averages as if its chains sampled"):
        NetKetProblem(theirs, PHYSICS.hamiltonian)


def test_a_sampler_without_chains_can_be_measured():
    problem = NetKetProblem(driver(new_state(64)), PHYSICS.hamiltonian, token_shape=(4,))
    assert problem.advance(2)["effective_samples"].values == pytest.approx(64)
    assert problem.observe()["attention_map"].values.shape == (1, 1, 2, 4)
    assert problem.measure(8)["energy"].values.shape == (1, 8)


def test_complex_parameters_are_refused():
    state = nk.vqs.MCState(
        nk.sampler.ExactSampler(PHYSICS.hilbert), nk.models.RBM(param_dtype=complex), n_samples=16, seed=1
    )
    with pytest.raises(ValueError, match="real parameters"):
        driver(state)


def test_a_symmetric_product_in_parts_is_the_whole_product(monkeypatch):
    monkeypatch.setattr(stochastic_reconfiguration, "_LARGE", 3)
    for n_rows in (5, 6, 13, 24):
        rows = jax.random.normal(jax.random.key(n_rows), (n_rows, 7))
        np.testing.assert_allclose(stochastic_reconfiguration._gram(rows), rows @ rows.T, atol=1e-14)
