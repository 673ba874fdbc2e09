"""The linear model: least squares, heat-bath proposals, and what shells beyond the nearest neighbours bring."""

import jax

from slmc import (
    CumulativeUpdate,
    HamiltonianTrajectory,
    MetropolisHastings,
    Sphere,
    fit_linear,
    init_chains,
    run_chains,
)
from slmc.selflearning import expected_acceptance, measure_acceptance, residual
from slmc.systems.spins import DoubleExchange, HeatBathSweep, Heisenberg
from slmc.systems.spins.observables import staggered_magnetization_squared

shape, n_chains, n_steps = (6, 6), 8, 200
temperature = 0.05
target = DoubleExchange(shape, coupling=1.0, temperature=temperature)
exact = MetropolisHastings(
    target, HamiltonianTrajectory(target, Sphere(), step_size=0.15, n_steps=5), label_proposals=True
)


def labelled(state, info):
    return info.label


start = Sphere().random(jax.random.key(0), (n_chains, *shape, 3))
chains, _ = run_chains(jax.random.key(1), exact, init_chains(exact, start), n_steps, labelled)
chains, labels = run_chains(jax.random.key(2), exact, chains, n_steps, labelled)
held_out = jax.tree.map(lambda leaf: leaf[:2].reshape(-1, *leaf.shape[2:]), labels)
labels = jax.tree.map(lambda leaf: leaf[2:].reshape(-1, *leaf.shape[2:]), labels)

for n_shells in (1, None):
    model = fit_linear(Heisenberg(shape, n_shells, temperature=temperature), labels, Sphere())
    s = residual(model, held_out)
    found = measure_acceptance(
        jax.random.key(3),
        target,
        CumulativeUpdate(HeatBathSweep(model), n_updates=50),
        chains.configuration,
        staggered_magnetization_squared,
        n_steps,
    )
    print(f"{len(model.couplings)} shells: residual {s:.2f}, expected acceptance {expected_acceptance(s):.2f}")
    print("  with 50 sweeps:", found)
