"""Diagonalisation, force and network in batches, self-learning steps, and SU(3) trajectories, on a CUDA device.

    python benchmarks/gpu.py [gauge spins]

Needs jax with CUDA (``pip install "jax[cuda12]"``); where no CUDA device is present it says so and exits with 1. Writes
``benchmarks/results/gpu.json``: one row for each lattice and batch, with the name of the device. Those of gauge theory
come from the functions of ``benchmarks/gauge.py cost``.
"""

import itertools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from command import main
from exact_labels import SPHERE, hamiltonian_chain
from result_file import ResultFile
from timing import least_seconds

from slmc.montecarlo import MetropolisHastings, init_chains, run_chains
from slmc.montecarlo.target import evaluate
from slmc.selflearning import CumulativeUpdate
from slmc.systems.spins import DoubleExchange, EquivariantNetwork


class Settings(NamedTuple):
    """Lattice sizes, configurations evaluated at once, inner updates of a self-learning step; sizes of gauge fields."""

    sizes: tuple[int, ...] = (6, 12, 16, 24)
    batches: tuple[int, ...] = (8, 64, 512)
    n_updates: int = 4
    gauge_sizes: tuple[int, ...] = (4, 8, 16)
    gauge_batches: tuple[int, ...] = (1, 8)


QUICK = Settings((4,), (8,), 2, (2,), (1,))


def measured(size: int, batch: int, settings: Settings) -> dict[str, Any]:
    """Seconds for each configuration of a batch that one program evaluates, and for one step of each chain."""
    shape = (size, size)
    target = DoubleExchange(shape)
    network = EquivariantNetwork(shape, 2, 12, 32, key=jax.random.key(0))
    spins = SPHERE.random(jax.random.key(1), (batch, *shape, 3))
    update = MetropolisHastings(target, CumulativeUpdate(hamiltonian_chain(network, 0.1), settings.n_updates))
    states = init_chains(update, spins)
    return {
        "exact": _seconds(jax.vmap(lambda one: evaluate(target, one)), spins) / batch,
        "exact_force": _seconds(jax.vmap(jax.grad(target.log_weight)), spins) / batch,
        "network_force": _seconds(jax.vmap(jax.value_and_grad(network.log_weight)), spins) / batch,
        "self_learning_step": least_seconds(lambda: run_chains(jax.random.key(2), update, states, 2)) / (2 * batch),
    }


def measured_gauge(size: int, batch: int) -> dict[str, Any]:
    """Seconds of a trajectory of each chain, and of A = M†M on one field."""
    from gauge import normal_operator_seconds, quenched_seconds

    from slmc.systems.gauge import Staggered, Wilson

    shape = (size,) * 4
    return {
        "trajectory": quenched_seconds(shape, batch),
        "staggered": normal_operator_seconds(Staggered(shape, 3, 0.1), 2)[0],
        "Wilson": normal_operator_seconds(Wilson(shape, 3, 0.12), 4)[0],
    }


def _seconds(function: Callable[[jax.Array], Any], spins: jax.Array) -> float:
    program = jax.jit(function)
    return least_seconds(lambda: program(jnp.asarray(spins)))


def measure_gauge(results: ResultFile, settings: Settings) -> None:
    for size, batch in itertools.product(settings.gauge_sizes, settings.gauge_batches):
        results.make(f"SU(3) {size}^4, batch {batch}", measured_gauge, size, batch)


def measure_spins(results: ResultFile, settings: Settings) -> None:
    for size, batch in itertools.product(settings.sizes, settings.batches):
        results.make(f"{size}x{size}, batch {batch}", measured, size, batch, settings)


def stored(settings: Settings) -> dict[str, Any]:
    """The settings and the device; exits where there is none."""
    if jax.default_backend() != "gpu":
        sys.exit(
            f"no CUDA device is present (JAX runs on {jax.default_backend()}), so there is nothing to measure here."
        )
    return settings._asdict() | {"device": jax.devices()[0].device_kind}


PARTS = {"gauge": measure_gauge, "spins": measure_spins}

if __name__ == "__main__":
    words = "parts: gauge, spins (default: all)"
    main(__file__, __doc__, (Settings(), QUICK), PARTS, choose=words, on_one_device=PARTS, stored=stored)
