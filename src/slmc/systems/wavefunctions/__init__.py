"""Variational wave functions of quantum spins, optimised by NetKet (the extra ``wavefunctions``)."""

try:
    import flax as _flax  # noqa: F401
    import netket as _netket  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"wave functions need NetKet and Flax, and {error.name} is not installed: pip install flax netket"
    ) from error

from slmc.systems.wavefunctions.attention import DecoupledAttention, DotProductAttention, FactoredAttention
from slmc.systems.wavefunctions.hamiltonian import J1J2, energy_bound, exact_energy, exact_ground_state, fidelity, j1j2
from slmc.systems.wavefunctions.observables import attention_map, attention_weights, input_dependence, v_score
from slmc.systems.wavefunctions.problem import NetKetProblem
from slmc.systems.wavefunctions.settings import StoredWaveFunction, build_like
from slmc.systems.wavefunctions.stochastic_reconfiguration import Reconfiguration
from slmc.systems.wavefunctions.symmetry import SymmetryProjection
from slmc.systems.wavefunctions.vmc import exchange_sampler, reconfiguration, variational_state
from slmc.systems.wavefunctions.wavefunction import VisionTransformer

__all__ = [
    "J1J2",
    "DecoupledAttention",
    "DotProductAttention",
    "FactoredAttention",
    "NetKetProblem",
    "Reconfiguration",
    "StoredWaveFunction",
    "SymmetryProjection",
    "VisionTransformer",
    "attention_map",
    "attention_weights",
    "build_like",
    "energy_bound",
    "exact_energy",
    "exact_ground_state",
    "exchange_sampler",
    "fidelity",
    "input_dependence",
    "j1j2",
    "reconfiguration",
    "v_score",
    "variational_state",
]
