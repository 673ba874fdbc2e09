"""Configurations that are dictionaries: spins, and coordinates that pull on them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import exact_draws
from slmc.montecarlo import (
    OMELYAN,
    Flat,
    HamiltonianTrajectory,
    LocalSweep,
    MetropolisHastings,
    Product,
    Sequence,
    Sphere,
    Target,
)
from slmc.selflearning import CumulativeUpdate
from tables import Solvable, Weight, WithoutRatio

MANIFOLD = Product({"positions": Flat(), "spins": Sphere()})
N_DRAWS = 16384


class PulledSpins(Target):
    """log W = −½ K Σ x_i² − L x_1 x_2 + h Σ S_i^z + g Σ tanh(x_i) S_i^x + J S_1·S_2, of two of each.

    Linear in its parameters, and the last two terms are bounded.
    """

    stiffness: Float[Array, ""]
    link: Float[Array, ""]
    field: Float[Array, ""]
    pull: Float[Array, ""]
    exchange: Float[Array, ""]

    def log_weight(self, configuration):
        x, spins = configuration["positions"], configuration["spins"]
        elastic = -self.stiffness * jnp.sum(x**2) / 2 - self.link * x[0] * x[1]
        pulled = self.pull * jnp.sum(jnp.tanh(x) * spins[:, 0])
        return elastic + self.field * jnp.sum(spins[:, 2]) + pulled + self.exchange * jnp.sum(spins[0] * spins[1])


def pulled_spins(stiffness=1.3, link=0.6, field=0.8, pull=0.9, exchange=0.4):
    return PulledSpins(*(jnp.asarray(value) for value in (stiffness, link, field, pull, exchange)))


def other():
    """Wrong on purpose: what it lacks must be made good by the decision."""
    return pulled_spins(1.0, 0.0, 0.3, 0.2, -0.2)


def configurations(seed, *leading):
    rng = np.random.default_rng(seed)
    spins = exact_draws.unit_vectors(rng, *leading, 2)
    return {"positions": jnp.asarray(rng.normal(size=(*leading, 2))), "spins": jnp.asarray(spins)}


@functools.cache
def draws():
    """Gaussian coordinates and spins in a field, kept with the probability that their coupling gives them."""
    target, rng, n = pulled_spins(), np.random.default_rng(31), 16 * N_DRAWS
    k, link, h, g, j = (float(leaf) for leaf in jax.tree.leaves(target))
    x = exact_draws.correlated_gaussian(rng, np.array([[k, link], [link, k]]), n)
    spins = exact_draws.in_a_field(rng, h, n, 2)
    coupling = g * np.sum(np.tanh(x) * spins[..., 0], 1) + j * np.sum(spins[:, 0] * spins[:, 1], -1)
    kept = np.log(rng.uniform(size=n)) < coupling - (2 * abs(g) + abs(j))
    assert kept.sum() > N_DRAWS
    return {"positions": jnp.asarray(x[kept][:N_DRAWS]), "spins": jnp.asarray(spins[kept][:N_DRAWS])}


STATISTICS = {
    "x1": lambda c: c["positions"][0],
    "x1 - x2": lambda c: c["positions"][0] - c["positions"][1],
    "S1z": lambda c: c["spins"][0, 2],
    "S1·S2": lambda c: jnp.sum(c["spins"][0] * c["spins"][1]),
    "tanh(x1) S1x": lambda c: jnp.tanh(c["positions"][0]) * c["spins"][0, 0],
    "tanh(x2) S2x": lambda c: jnp.tanh(c["positions"][1]) * c["spins"][1, 0],
}


def hmc(target, step_size=0.5, n_steps=4, guide=None, manifold=MANIFOLD):
    guide = target if guide is None else guide
    return MetropolisHastings(target, HamiltonianTrajectory(guide, manifold, step_size, n_steps, OMELYAN))


def local(target, step_size=1.0):
    return LocalSweep(target, MANIFOLD, step_size)


def slmc(target, inner, n_updates=2):
    return MetropolisHastings(target, CumulativeUpdate(inner, n_updates))


class OneMomentum(Product):
    """Wrong: the same random numbers are momenta of spins and of positions."""

    def draw_momentum(self, key, position):
        numbers = jax.random.normal(key, position["spins"].shape, jnp.float64)
        return self.project(position, {"positions": numbers[:, 0], "spins": numbers})


SOLVABLE = {
    "spins and positions": Solvable(
        pulled_spins,
        draws,
        STATISTICS,
        {
            "local": local,
            "HMC": hmc,
            "SLHMC": lambda target: hmc(target, guide=other()),
            "SLMC, local": lambda target: slmc(target, local(other())),
            "SLMC, HMC": lambda target: slmc(target, hmc(other())),
            "nested SLMC": lambda target: slmc(target, slmc(other(), local(pulled_spins(1.1)), 1)),
            "Sequence": lambda target: Sequence((local(target, 0.5), hmc(target))),
        },
        {
            "SLMC without its ratio": lambda target: MetropolisHastings(
                target, WithoutRatio(CumulativeUpdate(local(other()), 2))
            ),
            "HMC without its ratio": lambda target: MetropolisHastings(
                target, WithoutRatio(HamiltonianTrajectory(target, MANIFOLD, 0.9, 4))
            ),
            "positions that the decision does not see": lambda target: hmc(pulled_spins(pull=0.0)),
            "one momentum for all parts": lambda target: hmc(target, manifold=OneMomentum(MANIFOLD.parts)),
        },
    )
}


def turned(configuration):
    """Half a turn of the spins about z, and all positions mirrored."""
    return {
        "positions": -configuration["positions"],
        "spins": configuration["spins"] * jnp.asarray([[-1.0, -1.0, 1.0]]),
    }


def exchanged(configuration):
    return jax.tree.map(lambda leaf: leaf[::-1], configuration)


WEIGHTS = {"spins and positions": lambda: Weight(pulled_spins(), MANIFOLD, configurations(1), (turned, exchanged))}
