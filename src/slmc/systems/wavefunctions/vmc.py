"""Variational Monte Carlo by NetKet, from settings: its exchange sampler, its states, stochastic reconfiguration."""

from typing import Any

import jax
import jax.numpy as jnp
import netket as nk
import numpy as np
import optax
from flax import linen as nn
from netket.sampler.rules import ExchangeRule, GlobalSpinFlipRule, MetropolisRule, MultipleRules
from netket.utils import struct

from slmc.lattice import Shape
from slmc.systems.wavefunctions.hamiltonian import J1J2
from slmc.systems.wavefunctions.settings import ReconfigurationSettings, SamplingSettings
from slmc.systems.wavefunctions.stochastic_reconfiguration import Reconfiguration
from slmc.systems.wavefunctions.symmetry import SymmetryProjection, symmetry_group


def exchange_sampler(problem: J1J2, settings: SamplingSettings, n_images: int = 1) -> Any:
    """Metropolis sampling of |ψ|^``power``: exchanges of two opposite spins; flips of all of them; symmetries.

    ``n_images`` is how often the network is evaluated for one configuration.
    """
    exchanges = 1 - settings.global_flips - settings.lattice_symmetries
    shares, rules = [exchanges], [ExchangeRule(graph=problem.graph, d_max=settings.max_distance)]
    if settings.global_flips:
        shares, rules = [*shares, settings.global_flips], [*rules, GlobalSpinFlipRule()]
    if settings.lattice_symmetries:
        shape = tuple(map(int, problem.graph.extent))
        shares, rules = [*shares, settings.lattice_symmetries], [*rules, LatticeSymmetryRule(shape)]
    rule = MultipleRules(tuple(rules), np.array(shares)) if len(rules) > 1 else rules[0]
    sampler = nk.sampler.MetropolisSampler(
        problem.hilbert,
        rule,
        n_chains=settings.n_chains,
        sweep_size=settings.sweep_size or problem.hilbert.size,
        reset_chains=False,
        machine_pow=settings.power,
    )
    return sampler.replace(chunk_size=_chunk_size(settings, n_images))  # its constructor takes one, and forgets it


def variational_state(problem: J1J2, model: nn.Module, settings: SamplingSettings, seed: int) -> Any:
    """The wave function with random parameters, as a ``netket.vqs.MCState``; its chains are not thermalised."""
    n_images = len(model.group.signs) if isinstance(model, SymmetryProjection) else 1
    return nk.vqs.MCState(
        exchange_sampler(problem, settings, n_images),
        model,
        n_samples=settings.n_samples,
        n_discard_per_chain=settings.n_discard,
        chunk_size=_chunk_size(settings, n_images),
        seed=seed,
        sampler_seed=seed + 1,
    )


class LatticeSymmetryRule(MetropolisRule):
    """Moves the configuration by a random translation and element of the point group of a torus of equal extents."""

    shape: Shape = struct.field(pytree_node=False)

    def __init__(self, shape: Shape) -> None:
        if len(set(shape)) > 1:
            raise ValueError(f"moves by lattice symmetries need equal extents; got {list(shape)}.")
        self.shape = shape

    def transition(self, sampler: Any, machine: Any, parameters: Any, state: Any, key: Any, σ: Any) -> Any:
        moves = jnp.asarray(symmetry_group(self.shape, self.shape[0], True, 0, False).permutations)
        chosen = jax.random.randint(key, (len(σ),), 0, len(moves))
        return jnp.take_along_axis(σ, moves[chosen], axis=1), None


def _chunk_size(settings: SamplingSettings, n_images: int) -> int:
    """Configurations at once, a power of two, each of which asks for ``n_images`` evaluations of the network."""
    return 1 << max(0, (settings.chunk_size // n_images).bit_length() - 1)


def reconfiguration(problem: J1J2, state: Any, settings: ReconfigurationSettings, n_steps: int) -> Reconfiguration:
    """Stochastic reconfiguration as the settings say, its rate falling along a cosine in ``n_steps`` steps."""
    ratio = (settings.final_diag_shift or settings.diag_shift) / settings.diag_shift
    return Reconfiguration(
        problem.hamiltonian,
        state,
        optax.cosine_decay_schedule(settings.learning_rate, n_steps, settings.final_share),
        lambda step: settings.diag_shift * ratio ** min(1.0, step / n_steps),
        settings.momentum,
        settings.max_change,
    )
