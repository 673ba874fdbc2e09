"""A wave function put together for a run: its Hamiltonian, network, sampler and driver."""

from pathlib import Path

from slmc.system import System, UserError
from slmc.systems.wavefunctions.hamiltonian import energy_bound, exact_energy, j1j2
from slmc.systems.wavefunctions.problem import NetKetProblem
from slmc.systems.wavefunctions.settings import WaveFunctionRun, build_like, describe
from slmc.systems.wavefunctions.vmc import reconfiguration, variational_state
from slmc.systems.wavefunctions.wavefunction import token_shape


def wavefunction(config: WaveFunctionRun, directory: Path = Path()) -> NetKetProblem:
    """The problem that a configuration describes. Raises ``UserError`` naming the field that is wrong."""
    shape = config.hamiltonian.shape
    try:
        model = config.model.build(shape)
        physics = j1j2(shape, config.hamiltonian.j2, config.hamiltonian.marshall)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    state = variational_state(physics, model, config.sampling, config.seed)
    driver = reconfiguration(physics, state, config.reconfiguration, config.optimisation.n_steps)
    return NetKetProblem(
        driver,
        physics.hamiltonian,
        token_shape(shape, config.model.patch),
        exact_energy(shape, config.hamiltonian.j2),
        describe(config.model, shape),
        energy_bound(physics, config.hamiltonian.j2),
        config.sampling.n_thermalise,
    )


WAVEFUNCTION = System(WaveFunctionRun, wavefunction, build_like)
