"""Ising models on a 4×4 lattice, all of whose 65,536 states are listed: exact draws, updates, wrong twins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from slmc.lattice import neighbours
from slmc.montecarlo import Flat, LocalSweep, MetropolisHastings, Signs
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import (
    CheckerboardSweep,
    Ising,
    PlaquetteIsing,
    SwendsenWangProposal,
    SwendsenWangUpdate,
    WolffProposal,
    WolffUpdate,
)
from tables import Solvable, Weight, WithoutRatio

SHAPE = (4, 4)
N_DRAWS = 16384
STATES = jnp.asarray(2.0 * ((np.arange(2**16)[:, None] >> np.arange(15, -1, -1)) & 1) - 1).reshape(-1, *SHAPE)
STATISTICS = {
    "magnetisation": lambda spins: jnp.asarray(jnp.sum(spins), jnp.int64),
    "neighbours": lambda spins: jnp.asarray(
        jnp.sum(spins * jnp.roll(spins, 1, 0)) + jnp.sum(spins * jnp.roll(spins, 1, 1)), jnp.int64
    ),
    "squares": lambda spins: jnp.asarray(
        jnp.sum(spins * jnp.roll(spins, 1, 0) * jnp.roll(spins, 1, 1) * jnp.roll(spins, (1, 1), (0, 1))), jnp.int64
    ),
    "corner": lambda spins: jnp.asarray(spins[0, 0] + 2 * spins[1, 1] + 4 * spins[0, 2], jnp.int64),
}


def signs(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).choice([-1.0, 1.0], shape))


@functools.cache
def draws(make, seed=7):
    """Independent draws of the target that ``make()`` gives, from the list of all states."""
    log_weights = np.asarray(jax.vmap(make().log_weight)(STATES))
    weights = np.exp(log_weights - log_weights.max())
    return STATES[np.random.default_rng(seed).choice(len(weights), N_DRAWS, p=weights / weights.sum())]


def near():
    return Ising(SHAPE, couplings=[1.0], temperature=2.6)


def three_shells():
    return Ising(SHAPE, couplings=[1.245, -0.09, -0.014], temperature=2.493)


def antiferromagnet():
    return Ising(SHAPE, couplings=[-1.0, 0.3], temperature=2.2)


def plaquette():
    return PlaquetteIsing(SHAPE, 1.0, 0.2, 2.493)


def strong_plaquettes():
    return PlaquetteIsing(SHAPE, 0.2, 0.6, 1.6)


def slmc(target, inner, n_updates):
    return MetropolisHastings(target, CumulativeUpdate(inner, n_updates))


class WithoutSurface(WolffProposal):
    """Wrong: the bonds across the surface of the ball are forgotten."""

    def propose(self, key, configuration):
        proposed, _ = super().propose(key, configuration)
        pairs = [jnp.sum(spins * jnp.roll(spins, -1, axis)) for spins in (configuration, proposed) for axis in range(2)]
        return proposed, self.reduced_coupling * (pairs[0] + pairs[1] - pairs[2] - pairs[3])


class OtherBonds(WolffProposal):
    """Wrong: clusters grow as if the coupling were larger than the ratio says."""

    def propose(self, key, configuration):
        larger = WolffProposal(1.3 * self.reduced_coupling, self.radius)
        proposed, ratio = larger.propose(key, configuration)
        return proposed, ratio / 1.3


class TwoColours(PlaquetteIsing):
    """Wrong: says that only nearest neighbours interact."""

    def interacting(self):
        return neighbours(self.shape, 1)[0]


def solvable(make, updates, wrong=None):
    return Solvable(make, functools.partial(draws, make), STATISTICS, updates, wrong or {})


SOLVABLE = {
    "Ising": solvable(
        near,
        {
            "checkerboard": CheckerboardSweep,
            "Wolff": WolffUpdate,
            "restricted Wolff": lambda target: WolffUpdate(target, radius=1.0),
            "Swendsen–Wang": SwendsenWangUpdate,
        },
        {
            "ball without surface": lambda target: MetropolisHastings(
                target, WithoutSurface(jnp.asarray(1 / 2.6), 1.0)
            ),
            "other bonds": lambda target: MetropolisHastings(target, OtherBonds(jnp.asarray(1 / 2.6))),
        },
    ),
    "Ising, three shells": solvable(
        three_shells,
        {
            "checkerboard": CheckerboardSweep,
            "Wolff": WolffUpdate,
            "restricted Wolff": lambda target: WolffUpdate(target, radius=1.5),
            "Swendsen–Wang": SwendsenWangUpdate,
        },
    ),
    "Ising, antiferromagnet": solvable(antiferromagnet, {"Wolff": WolffUpdate}),
    "plaquette Ising": solvable(
        plaquette,
        {
            "local": lambda target: LocalSweep(target, Signs(), 1.0),
            "checkerboard": CheckerboardSweep,
            "Wolff proposal": lambda target: MetropolisHastings(target, WolffProposal(jnp.asarray(0.5))),
            "Swendsen–Wang proposal": lambda target: MetropolisHastings(target, SwendsenWangProposal(jnp.asarray(0.3))),
            "SLMC, Wolff": lambda target: slmc(target, WolffUpdate(near()), 3),
            "SLMC, restricted Wolff": lambda target: slmc(target, WolffUpdate(near(), 1.5), 3),
            "SLMC, Wolff, three shells": lambda target: slmc(target, WolffUpdate(three_shells()), 3),
        },
        {
            "SLMC without its ratio": lambda target: MetropolisHastings(
                target, WithoutRatio(CumulativeUpdate(CheckerboardSweep(near()), 3))
            ),
        },
    ),
    "plaquette Ising, strong plaquettes": solvable(
        strong_plaquettes,
        {"checkerboard": CheckerboardSweep},
        {"too few colours": lambda target: CheckerboardSweep(TwoColours(SHAPE, 0.2, 0.6, 1.6))},
    ),
}


def moved(spins):
    return jnp.roll(spins, (1, 2), (0, 1))


def transposed(spins):
    return jnp.swapaxes(spins, 0, 1)


def reversed_(spins):
    return -spins


def weight(target, shape):
    """Log W is a polynomial of the spins, whose derivatives, the local fields, are compared in flat space."""
    symmetries = (moved, reversed_, transposed) if shape[0] == shape[1] else (moved, reversed_)
    return Weight(target, Flat(), signs(2, *shape), symmetries)


WEIGHTS = {
    "Ising, three shells": lambda: weight(Ising((4, 6), couplings=[0.7, -0.3, 0.2], temperature=1.3), (4, 6)),
    "plaquette Ising": lambda: weight(PlaquetteIsing((4, 4), 0.8, 0.3, 1.7), (4, 4)),
    "plaquette Ising, three dimensions": lambda: weight(PlaquetteIsing((3, 3, 2), 0.8, 0.3, 1.7), (3, 3, 2)),
}
