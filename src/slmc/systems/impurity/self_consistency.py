"""Dynamical mean-field theory: the bath that makes the impurity a site of a lattice.

    G_loc(iω) = ∫ ρ(ε)/(iω − x − Σ(iω) − ε) dε,   1/G0(iω) = 1/G_loc(iω) + Σ(iω)

with Σ that of the impurity and ρ the density of states of the lattice: Georges, Kotliar, Krauth, Rozenberg, Rev. Mod.
Phys. 68, 13 (1996). On the Bethe lattice, ρ a semicircle of half-bandwidth D, this is Δ = (D/2)² G.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slmc.montecarlo import State
from slmc.system import Sought
from slmc.systems.impurity.anderson import Anderson
from slmc.systems.impurity.moments import matsubara, self_energy
from slmc.systems.impurity.poles import Poles
from slmc.systems.impurity.positive_poles import of_frequencies

_N_NODES = 2000
_HIGHEST = 4.0
"""Frequencies are fitted up to this many times the largest energy of the grid."""


@dataclass(frozen=True)
class Lattice:
    """A density of states, by its energies and weights, and the level x of its sites."""

    energies: Float[np.ndarray, " node"]
    weights: Float[np.ndarray, " node"]
    level: float = 0.0

    def local_green_function(
        self, frequencies: Float[np.ndarray, " n"], self_energies: Complex[np.ndarray, " n"]
    ) -> Complex[np.ndarray, " n"]:
        """G_loc(iω) for Σ(iω) − U/2."""
        reach = 1j * frequencies - self.level - self_energies
        return np.sum(self.weights / (reach[:, None] - self.energies), axis=1)

    @property
    def symmetric(self) -> bool:
        """Whether there is particle–hole symmetry."""
        return self.level == 0 and Poles(self.energies, self.weights).symmetric


def bethe_lattice(half_bandwidth: float, level: float = 0.0) -> Lattice:
    """The Bethe lattice of infinite coordination, ρ(ε) = (2/πD²) √(D² − ε²)."""
    angle = np.pi * np.arange(1, _N_NODES + 1) / (_N_NODES + 1)
    return Lattice(half_bandwidth * np.cos(angle), 2 / (_N_NODES + 1) * np.sin(angle) ** 2, level)


def bare_poles(
    lattice: Lattice, energies: np.ndarray, beta: float, old: Poles | None, moments: Any, share: float
) -> Poles:
    """G0 moved by ``share`` to what the lattice makes of the measured moments; without any, that of no interaction."""
    frequencies = matsubara(beta, max(8, int(np.ceil(_HIGHEST * np.max(energies) * beta / (2 * np.pi)))))
    chosen = np.unique(np.geomspace(1, len(frequencies), 80).astype(int)) - 1
    frequencies = frequencies[chosen]
    if old is None:
        bare = lattice.local_green_function(frequencies, np.zeros(len(frequencies), complex))
    else:
        sigma = self_energy(old, beta, moments, int(chosen[-1]) + 1)[chosen]
        wanted = 1 / (1 / lattice.local_green_function(frequencies, sigma) + sigma)
        bare = (1 - share) * old.at_frequencies(frequencies) + share * wanted
    poles, _ = of_frequencies(energies, frequencies, bare, total=1.0)
    if lattice.symmetric:
        return Poles(energies, (poles.weights + poles.weights[::-1]) / 2)
    return poles


def self_consistent(lattice: Lattice, build: Callable[[Poles], Anderson]) -> Sought:
    """The bath as what a run seeks while it thermalises, one iteration a block, from the last configurations each time.

    Shares of 3/k of the way in iteration k: the bath is in the end an average over iterations in which early ones are
    forgotten as (n/N)². ``build`` makes the target of poles.
    """

    def adjusted(target: Any, configurations: Any, seen: Any, share: float) -> Any:
        if seen is None:
            return target
        old, beta = target.poles, float(target.beta)
        moments = np.asarray(seen).reshape(-1, np.shape(seen)[-1]).mean(0)
        return build(bare_poles(lattice, old.energies, beta, old, moments, min(1.0, 3 * share)))

    return Sought(adjusted, _found, _watched)


def _watched(state: State, info: Any) -> Float[Array, " moment"]:
    return jnp.mean(state.observables["moments"], axis=0)


def _found(target: Any) -> dict[str, float]:
    """G0 at the lowest frequency: what the iterations converge in."""
    value = target.poles.at_frequencies(matsubara(float(target.beta), 1))[0]
    return {"bare_green_re": float(value.real), "bare_green_im": float(value.imag)}
