"""Constant pressure: ideal gas and harmonic crystal have known volumes; a wrong power of the volume is caught."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants, stats

from slmc import testing
from slmc.montecarlo import LEAPFROG, HamiltonianTrajectory, MetropolisHastings
from slmc.systems.atoms import ConstantPressure, breathing
from slmc.systems.atoms.pressure import GIGAPASCAL

N, BETA, VOLUME, N_DRAWS = 6, 4.0, 50.0, 3200
PLACES = np.random.default_rng(5).normal(size=(N, 3))
BULK, STIFFNESS = 0.05, 1.5
"""B in eV/Å³ and k in eV/Å² of the crystal U = ½ k Σ |r_i − V^{1/3} s_i⁰|² + B (V − V_0)²/2V_0."""

STATISTICS = {"volume": lambda x: x["log_volume"], "first": lambda x: x["scaled"][0, 0]}


def crystal(stiffness=STIFFNESS):
    def energy(positions, volume):
        away = positions - jnp.cbrt(volume / VOLUME) * jnp.asarray(PLACES)
        return stiffness / 2 * jnp.sum(away**2) + BULK * (volume - VOLUME) ** 2 / (2 * VOLUME)

    return energy


def nothing(positions, volume):
    return 0.0 * jnp.sum(positions) + 0.0 * volume


# 1/(β V_0), so that V/V_0 has the density of Gamma(N + 1).
UNIT = 1 / (BETA * VOLUME * GIGAPASCAL)


def draws(kind, rng):
    if kind == "gas":
        ratio = stats.gamma(N + 1).rvs(N_DRAWS, random_state=rng)
        return {"scaled": jnp.asarray(rng.normal(size=(N_DRAWS, N, 3))), "log_volume": jnp.asarray(np.log(ratio))}
    # p(V) ∝ exp(−β [P V + B (V − V_0)²/2V_0]) whatever N and k are.
    spread = np.sqrt(VOLUME / (BETA * BULK))
    mean = VOLUME - 0.4 * UNIT * GIGAPASCAL * VOLUME / BULK
    volume = stats.truncnorm((1e-9 - mean) / spread, np.inf, mean, spread).rvs(N_DRAWS, random_state=rng)
    away = rng.normal(size=(N_DRAWS, N, 3)) / np.sqrt(BETA * STIFFNESS)
    scaled = PLACES + away / np.cbrt(volume / VOLUME)[:, None, None]
    return {"scaled": jnp.asarray(scaled), "log_volume": jnp.asarray(np.log(volume / VOLUME))}


def of(kind, n_atoms=N, stiffness=STIFFNESS):
    energy, pressure = (nothing, UNIT) if kind == "gas" else (crystal(stiffness), 0.4 * UNIT)
    return ConstantPressure(energy, n_atoms, BETA, pressure, VOLUME)


def update(target, guide, rate=0.03):
    manifold = breathing(np.full(N, 12.0), BETA, rate)
    return MetropolisHastings(target, HamiltonianTrajectory(guide, manifold, jnp.asarray(4.0), 4))


@pytest.mark.parametrize(
    ("kind", "guide"), [("gas", 1.0), ("crystal", 1.0), ("crystal", 1.3)], ids=["ideal gas", "HMC", "SLHMC, k off"]
)
def test_volumes_are_those_that_are_known(kind, guide) -> None:
    """As sharp as the check that catches another power of the volume."""
    target = of(kind)
    proposing = target if guide == 1.0 else of(kind, stiffness=guide * STIFFNESS)
    sample = draws(kind, np.random.default_rng(1))
    steps = update(target, proposing, rate=0.06)
    found = testing.check_invariance(jax.random.key(2), steps, sample, STATISTICS, n_steps=12)
    assert found.moved > 0.3


@pytest.mark.parametrize("n_powers", [N - 1, N + 1], ids=["N", "N + 2"])
@pytest.mark.parametrize("kind", ["gas", "crystal"])
def test_another_power_of_the_volume_is_caught(kind, n_powers) -> None:
    """Sharp where trajectories have forgotten the volume: a few of them, and fast cells."""
    wrong, sample = of(kind, n_atoms=n_powers), draws(kind, np.random.default_rng(1))
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        testing.check_invariance(jax.random.key(2), update(wrong, wrong, rate=0.06), sample, STATISTICS, n_steps=12)


def test_a_gigapascal_is_in_units_of_atoms() -> None:
    assert pytest.approx(constants.giga * constants.angstrom**3 / constants.electron_volt, rel=1e-12) == GIGAPASCAL


def test_trajectories_are_reversible_and_forces_derivatives() -> None:
    target = of("crystal")
    manifold = breathing(np.full(N, 12.0), BETA, 0.03, holds_centre=True)
    x = jax.tree.map(lambda leaf: leaf[0], draws("crystal", np.random.default_rng(3)))
    testing.check_reversible_trajectory(jax.random.key(0), LEAPFROG, target, manifold, x, 3.0, 5)
    testing.check_force(jax.random.key(1), target, manifold, x)
    held = ConstantPressure(crystal(), N, BETA, 0.0, VOLUME, holds_centre=True)
    difference = ConstantPressure(crystal(), N, BETA, 0.0, VOLUME).log_weight(x) - held.log_weight(x)
    assert float(difference) == pytest.approx(float(x["log_volume"]))
    assert float(target.log_weight_and_observables(x)[1]["volume"]) == pytest.approx(
        VOLUME * np.exp(float(x["log_volume"]))
    )
    with pytest.raises(ValueError, match="volume"):
        ConstantPressure(nothing, N, BETA, 0.0, -1.0)
