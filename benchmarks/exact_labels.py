"""The anchor, its exact chains, and labelled configurations drawn from them, made once and kept outside the tree.

The anchor is the double-exchange model on 6×6 sites at J = 1, μ = 0, T = 0.05 (``shape`` is smaller in quick runs).
"""

import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from slmc.montecarlo import (
    HamiltonianTrajectory,
    Label,
    MetropolisHastings,
    Sphere,
    Target,
    Update,
    init_chains,
    log_weight_and_force,
    over_chains,
    run_chains,
    tune_step_size,
)
from slmc.systems.spins import DoubleExchange

SPHERE = Sphere()
TEMPERATURE = 0.05
N_LEAPFROG = 5
"""Leapfrog steps of every Hamiltonian trajectory, of the exact weight and of models alike."""


class DataSettings(NamedTuple):
    """How many exact configurations are labelled: ``n_draws`` of each chain, ``n_between`` trajectories apart.

    The last ``n_held_out`` chains never enter training; acceptances are measured from their and the others' last
    configurations.
    """

    shape: tuple[int, int] = (6, 6)
    n_chains: int = 16
    n_held_out: int = 4
    n_draws: int = 450
    n_between: int = 3
    n_thermalise: int = 400


class ExactData(NamedTuple):
    """Training and held-out labels (from different chains), and equilibrated configurations to start chains from."""

    training: Label
    held_out: Label
    starts: np.ndarray


def anchor(shape: tuple[int, int]) -> DoubleExchange:
    """The exact target."""
    return DoubleExchange(shape=shape, coupling=1.0, chemical_potential=0.0, temperature=TEMPERATURE)


def hamiltonian_chain(target: Target, step_size: float = 0.2, n_leapfrog: int = N_LEAPFROG) -> MetropolisHastings:
    """Hybrid Monte Carlo of a target, exact or effective."""
    return MetropolisHastings(target, HamiltonianTrajectory(target, SPHERE, step_size, n_leapfrog))


def tuned(key, update: Update, configurations, n_rounds: int = 30) -> MetropolisHastings:
    """The chain with its step size tuned to 80 % acceptance."""
    chains = init_chains(update, configurations)
    return tune_step_size(key, update, chains, n_rounds=n_rounds)[0]


def exact_data(settings: DataSettings, seed: int = 0) -> ExactData:
    """The labels, from the cache if they were made before."""
    name = "labels-{}-{}.npz".format("-".join(str(v) for v in settings).replace(" ", ""), seed)
    path = cache_folder() / name
    if not path.exists():
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **_sample(settings, seed))
        partial.replace(path)
    with np.load(path) as stored:
        labels = Label(stored["configuration"], stored["log_weight"], stored["force"])
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), labels)
    n_training = (settings.n_chains - settings.n_held_out) * settings.n_draws
    training = jax.tree.map(lambda leaf: leaf[:n_training], flat)
    held_out = jax.tree.map(lambda leaf: leaf[n_training:], flat)
    return ExactData(training, held_out, labels.configuration[:, -1])


def cache_folder() -> Path:
    """Where data and models are kept between runs: ``$XDG_CACHE_HOME/slmc-benchmarks``."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "slmc-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sample(settings: DataSettings, seed: int) -> dict[str, np.ndarray]:
    target, key = anchor(settings.shape), jax.random.key(seed)
    return labelled_chains(
        target, settings.n_chains, settings.n_draws, settings.n_between, settings.n_thermalise, key
    )._asdict()


def labelled_chains(
    target: DoubleExchange, n_chains: int, n_draws: int, n_between: int, n_thermalise: int, key: jax.Array
) -> Label:
    """Configurations of exact HMC with their labels; leading axes (chain, draw)."""
    keys = jax.random.split(key, 4)
    starts = SPHERE.random(keys[0], (n_chains, *target.shape, 3))
    update = tuned(keys[1], hamiltonian_chain(target), starts)
    chains, _ = run_chains(keys[2], update, init_chains(update, starts), n_thermalise, _accepted)
    drawn = []
    for subkey in jax.random.split(keys[3], n_draws):
        chains, _ = run_chains(subkey, update, chains, n_between, _accepted)
        drawn.append(np.asarray(chains.configuration))
    configurations = np.stack(drawn, axis=1)
    flat = configurations.reshape(-1, *configurations.shape[2:])
    log_weights, forces = over_chains(_label, flat, target, group_size=2)
    return Label(
        configurations,
        np.asarray(log_weights).reshape(configurations.shape[:2]),
        np.asarray(forces).reshape(configurations.shape),
    )


def _accepted(state, info):
    return info.accepted


def _label(target, configuration):
    return log_weight_and_force(target, configuration)
