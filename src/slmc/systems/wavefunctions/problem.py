"""A NetKet driver as a run of ours sees it: any state NetKet can optimise, with records, checkpoints and a report."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import serialization

from slmc.lattice import Shape
from slmc.systems.wavefunctions.observables import attention_map, attention_weights, input_dependence, v_score

_PATIENCE = 20
"""Steps in a row above the energy of the first one after which an optimisation counts as diverged."""

_OBSERVED = 256
"""Configurations, at most, over which attention weights are averaged."""


class Recorded(NamedTuple):
    """One variable for the records: dimension names, values, units and a sentence (see ``simulation.Variable``)."""

    dimensions: tuple[str, ...]
    values: np.ndarray
    units: str = ""
    description: str = ""


class NetKetProblem:
    """What ``simulation.Optimisation`` needs to know, for a driver of NetKet with an ``MCState``.

    ``driver`` is ``netket.driver.VMC_SR``, ``VMC`` or another that minimises ``hamiltonian``, with any model inside;
    records are of energies a site in the units of ``hamiltonian``. ``token_shape`` is the torus of tokens of a model
    with attention, whose weights are then recorded. ``exact_energy`` (a site's) and ``description`` (what the file of
    the final parameters says of the model) are optional.

    The problem changes the driver it was given.
    """

    def __init__(
        self,
        driver: Any,
        hamiltonian: Any,
        token_shape: Shape | None = None,
        exact_energy: float | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.driver, self.hamiltonian, self.token_shape = driver, hamiltonian, token_shape
        self.exact_energy = exact_energy
        self._description = dict(description or {})
        self._first_energy: float | None = None
        self._above = 0

    @property
    def n_sites(self) -> int:
        return int(self.driver.state.hilbert.size)

    @property
    def n_parameters(self) -> int:
        return int(self.driver.state.n_parameters)

    @property
    def parameters(self) -> Any:
        return self.driver.state.parameters

    def describe_model(self) -> dict[str, Any]:
        return self._description

    # ------------------------------------------------------------ continuing

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, chains, random keys and optimiser as bytes, and what tells that the energy diverges."""
        # Cached samples would make NetKet store the chains as they were before them.
        self.driver.state.reset()
        stored = np.frombuffer(serialization.to_bytes(self.driver), np.uint8)
        first = math.nan if self._first_energy is None else self._first_energy
        return {"driver": stored, "first_energy": np.asarray(first), "above": np.asarray(self._above)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.driver = serialization.from_bytes(self.driver, np.asarray(state["driver"]).tobytes())
        first = float(state["first_energy"])
        self._first_energy = None if math.isnan(first) else first
        self._above = int(state["above"])

    # --------------------------------------------------------------- running

    def advance(self, n_steps: int) -> dict[str, Recorded]:
        """Steps of the optimisation; the energies are those of the parameters before each step.

        Raises ``FloatingPointError`` at the first step whose energy is not finite, and when the energy has been above
        that of the first step for 20 steps.
        """
        steps: list[tuple[float, ...]] = []

        def watch(step: int, found: dict[str, Any], driver: Any) -> bool:
            steps.append(self._figures(step, found["Energy"], found.get("acceptance")))
            return True

        with _plain_jax():
            self.driver.run(n_steps, out=(), show_progress=False, callback=watch)
        self._check()
        columns = np.array(steps).T
        return {
            name: Recorded(("step",), values, "J1" if "energy" in name else "", text)
            for (name, text), values in zip(_STEP_FIGURES.items(), columns, strict=True)
        }

    def _check(self) -> None:
        """What comes after the last step: a checkpoint must never hold parameters that no energy was seen of yet."""
        state = self.driver.state
        with _plain_jax():
            finite = np.isfinite(state.log_value(state.sampler_state.σ)).all()
        if not finite:
            raise FloatingPointError(f"amplitudes are not finite after step {self.driver.step_count}")

    def _figures(self, step: int, energy: Any, acceptance: Any) -> tuple[float, ...]:
        mean, variance = complex(energy.mean), float(energy.variance)
        if not (np.isfinite(mean) and math.isfinite(variance)):
            raise FloatingPointError(f"the energy is not finite at step {step + 1}")
        if self._first_energy is None:
            self._first_energy = mean.real
        self._above = self._above + 1 if mean.real > self._first_energy else 0
        if self._above >= _PATIENCE:
            raise FloatingPointError(
                f"the energy diverges: at step {step + 1} it has been above that of the first for {_PATIENCE} steps"
            )
        n = self.n_sites
        score = v_score(mean.real, variance, n)
        accepted = math.nan if acceptance is None else float(acceptance)
        return mean.real / n, float(energy.error_of_mean) / n, variance / n, score, accepted

    def observe(self) -> dict[str, Recorded]:
        """Input-dependence and maps of the attention weights, over the present configurations of the chains."""
        if self.token_shape is None:
            return {}
        state = self.driver.state
        with _plain_jax():
            spins = state.sampler_state.σ[:_OBSERVED]
            weights = attention_weights(state.model, state.variables, spins)
            if weights is None:
                return {}
            spread = np.asarray(input_dependence(weights))
            by_displacement = attention_map(weights, self.token_shape)
        tokens = tuple(f"token{axis}" for axis in range(len(self.token_shape)))
        shaped = by_displacement.reshape(1, *by_displacement.shape[:2], *self.token_shape)
        return {
            "input_dependence": Recorded(
                ("evaluation", "layer", "head"),
                spread[None],
                "",
                "relative spread of the weights over configurations",
            ),
            "attention_map": Recorded(
                ("evaluation", "layer", "head", *tokens), shaped, "", "mean attention weight by displacement of tokens"
            ),
        }

    def measure(self, n_draws: int) -> dict[str, Recorded]:
        """Local energies a site with the present parameters, (chain, draw)."""
        state = self.driver.state
        with _plain_jax():
            state.sample(chain_length=n_draws)
            energies = np.asarray(state.local_estimators(self.hamiltonian).data) / self.n_sites
            energies = energies.reshape(state.sampler.n_chains, n_draws)
        if not np.isfinite(energies).all():
            raise FloatingPointError("local energies are not finite while measuring")
        return {
            "energy": Recorded(("chain", "draw"), energies.real, "J1", "energy a site"),
            "energy_imaginary": Recorded(("chain", "draw"), energies.imag, "J1", "imaginary part, whose mean is zero"),
        }


_STEP_FIGURES = {
    "energy": "energy a site before the step",
    "energy_error": "its standard error",
    "variance": "variance of the energy a site",
    "v_score": "variance N / energy²",
    "acceptance": "share of the sampler's moves that were accepted",
}


@contextmanager
def _plain_jax() -> Iterator[None]:
    """NetKet is not written for strict promotion of types and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
