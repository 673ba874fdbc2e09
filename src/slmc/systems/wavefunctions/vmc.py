"""Variational Monte Carlo by NetKet: its exchange sampler and its stochastic reconfiguration, from settings."""

import contextlib
import io
from typing import Any

import netket as nk
import numpy as np
import optax
from flax import linen as nn
from netket.sampler.rules import ExchangeRule, GlobalSpinFlipRule, MetropolisRule, MultipleRules

from slmc.systems.wavefunctions.hamiltonian import J1J2
from slmc.systems.wavefunctions.settings import ReconfigurationSettings, SamplingSettings


def exchange_sampler(problem: J1J2, settings: SamplingSettings) -> Any:
    """Metropolis sampling of |ψ|²: exchanges of two opposite spins, and flips of all of them."""
    rule: MetropolisRule = ExchangeRule(graph=problem.graph, d_max=settings.max_distance)
    if settings.global_flips:
        rule = MultipleRules([rule, GlobalSpinFlipRule()], np.array([1 - settings.global_flips, settings.global_flips]))
    sampler = nk.sampler.MetropolisSampler(
        problem.hilbert,
        rule,
        n_chains=settings.n_chains,
        sweep_size=settings.sweep_size or problem.hilbert.size,
        reset_chains=False,
    )
    return sampler.replace(chunk_size=settings.chunk_size)  # its constructor takes one, and forgets it


def variational_state(problem: J1J2, model: nn.Module, settings: SamplingSettings, seed: int) -> Any:
    """The wave function with random parameters, as a ``netket.vqs.MCState``; its chains are not thermalised."""
    return nk.vqs.MCState(
        exchange_sampler(problem, settings),
        model,
        n_samples=settings.n_samples,
        n_discard_per_chain=settings.n_discard,
        chunk_size=settings.chunk_size,
        seed=seed,
        sampler_seed=seed + 1,
    )


def reconfiguration(problem: J1J2, state: Any, settings: ReconfigurationSettings, n_steps: int) -> Any:
    """Stochastic reconfiguration, δθ = −η Xᵀ (X Xᵀ + λ)⁻¹ ε with a row of X for each sample, as a NetKet driver.

    X are centred derivatives of log ψ, ε twice the centred local energies (2 as in the gradient of the energy by real
    parameters), both over the root of the number of samples, real and imaginary parts separate rows. Chen, Heyl,
    Nat. Phys. 20, 1476 (2024), arXiv:2302.01941; Rende et al., Commun. Phys. 7, 260 (2024), arXiv:2310.05715. With
    ``momentum`` μ > 0 it is SPRING: ε − μ X δθ_last in place of ε, and μ δθ_last added to the step. Goldshlager,
    Abrahamsen, Lin, J. Comput. Phys. 516, 113351 (2024), arXiv:2401.10190.
    """
    rate = optax.cosine_decay_schedule(settings.learning_rate, n_steps, settings.final_share)
    ratio = (settings.final_diag_shift or settings.diag_shift) / settings.diag_shift
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how it averages diagnostics that we do not read
        return nk.driver.VMC_SR(
            problem.hamiltonian,
            optax.sgd(rate),
            diag_shift=lambda step: settings.diag_shift * ratio ** min(1.0, step / n_steps),
            momentum=settings.momentum or None,
            variational_state=state,
            use_ntk=True,
            on_the_fly=False,
            mode="complex",
        )
