"""A ring of anharmonic oscillators: log W = −Σ_i [k (x_{i+1} − x_i)²/2 + m x_i²/2 + g x_i⁴]."""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float
from pydantic import Field, PositiveFloat, PositiveInt

from slmc import HamiltonianTrajectory, MetropolisHastings, Target, fit_linear
from slmc.montecarlo import Flat
from slmc.system import Derived, Fit, InnerSection, Observable, Problem, RunSettings, Settings, System, TrainingSection


class Oscillators(Target):
    """The exact weight. The Gaussian one with g = 0 is its effective model: linear in its parameters."""

    stiffness: Float[Array, ""]
    mass: Float[Array, ""]
    anharmonicity: Float[Array, ""]

    def log_weight(self, x):
        bonds, squares = jnp.sum((x - jnp.roll(x, 1)) ** 2), jnp.sum(x**2)
        return -self.stiffness * bonds / 2 - self.mass * squares / 2 - self.anharmonicity * jnp.sum(x**4)


class Gaussian(Target):
    """Pairs of neighbours and single sites, with couplings to be learned."""

    couplings: Float[Array, " 2"]

    def log_weight(self, x):
        return -self.couplings[0] * jnp.sum((x - jnp.roll(x, 1)) ** 2) / 2 - self.couplings[1] * jnp.sum(x**2) / 2


class TargetSettings(Settings):
    """The ring."""

    length: PositiveInt = Field(8, description="oscillators")
    stiffness: PositiveFloat = Field(1.0, description="of neighbours", json_schema_extra={"symbol": "k", "units": "1"})
    mass: float = Field(1.0, description="of the quadratic term")
    anharmonicity: float = Field(0.1, gt=0, description="of the quartic term", json_schema_extra={"symbol": "g"})


class OscillatorRun(RunSettings):
    """A run of the ring."""

    system: Literal["oscillators"] = "oscillators"
    target: TargetSettings = TargetSettings()
    inner: InnerSection = InnerSection(n_updates=4)
    learning: TrainingSection = TrainingSection(n_rounds=2, training_steps=0)


def hmc(target, n_steps=4):
    return MetropolisHastings(target, HamiltonianTrajectory(target, Flat(), jnp.asarray(0.3), n_steps))


def build(settings, directory):
    ring = settings.target
    values = (jnp.asarray(value) for value in (ring.stiffness, ring.mass, ring.anharmonicity))
    return Problem(
        target=Oscillators(*values),
        manifold=Flat(),
        start=lambda key, n_chains: Flat().random(key, (n_chains, ring.length)),
        exact=partial(hmc, n_steps=settings.exact.n_steps),
        observables=(
            Observable(
                "mean displacement squared",
                lambda x: jnp.mean(x) ** 2,
                description="X², X the mean displacement",
                words="mean displacement squared",
                mathtext="$X^2$",
                html="<i>X</i><sup>2</sup>",
                slow=True,
            ),
            Observable("⟨x²⟩", lambda x: jnp.mean(x**2), description="x², averaged over the ring"),
        ),
        model=Gaussian(jnp.zeros(2)) if settings.learns else None,
        inner={"trajectories": hmc},
        fit=Fit(solve=lambda model, labels: fit_linear(model, labels, Flat())),
        derived=(Derived("ratio", lambda series: float(series["⟨x²⟩"].mean() ** 2), ("⟨x²⟩",)),),
    )


OSCILLATORS = System(OscillatorRun, build, lambda description: Gaussian(jnp.zeros(2)))
