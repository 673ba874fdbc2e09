"""Stochastic reconfiguration of a NetKet state whose chains may sample another power of |ψ| than the second."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import netket as nk
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Inexact
from netket.optimizer.solver import cholesky_with_fallback
from netket.utils import struct

from slmc.systems.wavefunctions.local_energies import few_orbits, local_energies, log_amplitudes, merged

Flat = Float[Array, " parameter"]
Weights = Float[Array, " sample"]

_LARGE = 1024
"""Rows, at least, in each half of a symmetric product that is cut in two."""


class Reconfiguration(nk.driver.AbstractVariationalDriver):
    """Stochastic reconfiguration with momentum, limited steps and importance sampling, as a NetKet driver.

    With weights w_s ∝ |ψ(σ_s)|^(2−p), Σ_s w_s = 1, for configurations drawn from |ψ|^p, p the sampler's
    ``machine_pow``, X holds the centred derivatives √w_s (∂ log ψ(σ_s) − ⟨∂ log ψ⟩) and ε twice the centred local
    energies √w_s (E(σ_s) − ⟨E⟩), real and imaginary parts in separate rows (2 as in the gradient of the energy by real
    parameters). The parameters change by −η δ, where δ minimises

        |X δ − ε|² + λ |δ − μ δ_last|²,

    and η, ``learning_rate``, is made smaller where a step would change log ψ by more than ``max_change``, root mean
    square over the samples: η |X δ| ≤ max_change.

    A real log ψ has real rows alone. μ = ``momentum`` = 0 is stochastic reconfiguration in the space of samples: Chen,
    Heyl, Nat. Phys. 20, 1476 (2024), arXiv:2302.01941; Rende et al., Commun. Phys. 7, 260 (2024), arXiv:2310.05715.
    With μ > 0 it is SPRING: Goldshlager, Abrahamsen, Lin, J. Comput. Phys. 516, 113351 (2024), arXiv:2401.10190. With
    p < 2 configurations of small |ψ| are seen, whose amplitude would else be free to vanish: Misery, Gravina, Santini,
    Vicentini, arXiv:2507.05352.

    ``learning_rate`` and ``diag_shift`` (λ) are numbers, or functions of the number of the step. The error of the
    energy is that of its real part, of independent draws; 1 / Σ_s w_s², the number of effective samples, is logged as
    ``effective_samples``. ``hamiltonian`` is a discrete operator of NetKet. Raises ``ValueError`` unless all parameters
    are real.
    """

    _last: Any = struct.field(serialize=True)
    _effective: Any = struct.field(serialize=False, default=None)
    _hamiltonian: Any = struct.field(pytree_node=False, serialize=False)
    _learning_rate: Any = struct.field(pytree_node=False, serialize=False)
    _diag_shift: Any = struct.field(pytree_node=False, serialize=False)
    _momentum: Any = struct.field(pytree_node=False, serialize=False)
    _max_change: Any = struct.field(pytree_node=False, serialize=False)

    def __init__(
        self,
        hamiltonian: Any,
        variational_state: Any,
        learning_rate: float | Callable[[Any], Any],
        diag_shift: float | Callable[[Any], Any],
        momentum: float = 0.0,
        max_change: float = np.inf,
    ) -> None:
        if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(variational_state.parameters)):
            raise ValueError(
                "Reconfiguration wants real parameters; for complex ones take netket.driver.VMC_SR, with a sampler of "
                "machine_pow = 2."
            )
        super().__init__(variational_state, optax.sgd(1.0), minimized_quantity_name="Energy")
        self._hamiltonian = hamiltonian
        self._learning_rate, self._diag_shift = _schedule(learning_rate), _schedule(diag_shift)
        self._momentum, self._max_change = momentum, max_change
        self._last = jnp.zeros(variational_state.n_parameters)

    def compute_loss_and_update(self) -> tuple[nk.stats.Stats, Any]:
        """Energy with its error, and the change of the parameters to subtract."""
        state, step = self.state, self.step_count
        spins = state.samples.reshape(-1, state.hilbert.size)
        energies = local_energies(state, self._hamiltonian, spins)
        weights = importance_weights(state, spins)
        self._effective = 1 / jnp.sum(weights**2)
        stats = nk.stats.Stats(**_statistics(energies, weights))
        if (orbits := few_orbits(state, len(spins))) is not None:
            spins, energies, weights = merged(orbits, spins, energies, weights)
        self._last, change = _direction(
            state._apply_fun,
            state.chunk_size,
            state.variables,
            spins,
            energies,
            weights,
            self._last,
            self._diag_shift(step),
            self._momentum,
            self._learning_rate(step),
            self._max_change,
        )
        return stats, change

    def _log_additional_data(self, log_dict: dict[str, Any]) -> None:
        super()._log_additional_data(log_dict)
        log_dict["effective_samples"] = self._effective


def _schedule(value: Any) -> Callable[[Any], Any]:
    return value if callable(value) else lambda step: value


def importance_weights(state: Any, spins: Array) -> Weights:
    """w_s ∝ |ψ(σ_s)|^(2−p), of sum one, of configurations drawn from |ψ|^p."""
    excess = 2.0 - float(state.sampler.machine_pow)
    if not excess:
        return jnp.full(len(spins), 1 / len(spins))
    return jax.nn.softmax(excess * log_amplitudes(state, spins).real)


@jax.jit
def _statistics(energies: Inexact[Array, " sample"], weights: Weights) -> dict[str, Any]:
    mean = jnp.sum(weights * energies)
    deviations = energies - mean
    return {
        "mean": mean,
        "error_of_mean": jnp.sqrt(jnp.sum(jnp.square(weights * deviations.real))),
        "variance": jnp.sum(weights * jnp.abs(deviations) ** 2),
    }


@partial(jax.jit, static_argnums=(0, 1))
def _direction(
    log_psi: Any,
    chunk_size: int | None,
    variables: Any,
    spins: Array,
    energies: Inexact[Array, " sample"],
    weights: Weights,
    last: Flat,
    diag_shift: Any,
    momentum: Any,
    learning_rate: Any,
    max_change: Any,
) -> tuple[Flat, Any]:
    """δ, and η δ as parameters."""
    parameters, others = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    is_complex = jnp.issubdtype(jax.eval_shape(log_psi, variables, spins).dtype, jnp.complexfloating)
    mode = "complex" if is_complex else "real"
    derivatives = nk.jax.jacobian(
        log_psi, parameters, spins, others, mode=mode, dense=True, center=False, chunk_size=chunk_size
    )
    derivatives = derivatives.reshape(len(spins), 1 + is_complex, -1)
    derivatives = derivatives - jnp.einsum("s,scp->cp", weights, derivatives)
    rows = (derivatives * jnp.sqrt(weights)[:, None, None]).reshape(-1, derivatives.shape[-1])
    wanted = 2 * jnp.sqrt(weights) * (energies - jnp.sum(weights * energies))
    wanted = jnp.stack([wanted.real, wanted.imag][: 1 + is_complex], axis=-1).ravel()
    direction = momentum * last + _regularised(rows, wanted - momentum * rows @ last, diag_shift)
    length = learning_rate * jnp.linalg.norm(rows @ direction)
    scale = learning_rate * jnp.minimum(1.0, max_change / jnp.where(length > 0, length, 1.0))
    return direction, ravel_pytree(parameters)[1](scale * direction)


def _regularised(rows: Float[Array, "row parameter"], wanted: Float[Array, " row"], diag_shift: Any) -> Flat:
    """The x that minimises |rows x − wanted|² + diag_shift |x|², in the smaller of the two spaces."""
    n_rows, n_parameters = rows.shape
    if n_rows < n_parameters:
        return rows.T @ _solve(_gram(rows), wanted, diag_shift)
    return _solve(_gram(rows.T), rows.T @ wanted, diag_shift)


def _gram(rows: Float[Array, "row other"]) -> Float[Array, "row row"]:
    """rows rowsᵀ. Of many rows only about half of the symmetric product is computed."""
    half = len(rows) // 2
    if half < _LARGE:
        return rows @ rows.T
    first, second = rows[:half], rows[half:]
    across = second @ first.T
    return jnp.block([[_gram(first), across.T], [across, _gram(second)]])


def _solve(matrix: Any, vector: Any, diag_shift: Any) -> Any:
    return cholesky_with_fallback(matrix + diag_shift * jnp.eye(len(matrix)), vector)[0]
