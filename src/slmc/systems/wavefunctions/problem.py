"""A NetKet driver as a run of ours sees it: any state NetKet can optimise, with records, checkpoints and a report."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import serialization

from slmc.lattice import Shape
from slmc.systems.wavefunctions.divergence import PATIENCE, EnergyWatch
from slmc.systems.wavefunctions.local_energies import local_energies, log_amplitudes
from slmc.systems.wavefunctions.observables import attention_map, attention_weights, input_dependence, v_score
from slmc.systems.wavefunctions.stochastic_reconfiguration import Reconfiguration, importance_weights

_OBSERVED = 256
"""Configurations, at most, over which attention weights are averaged."""

_FEWEST_DISCARDED = 20
"""Draws thrown away, at least, where chains of another power begin to sample |ψ|²."""


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
    with attention, whose weights are then recorded. ``exact_energy`` (a site's), ``energy_bound`` (the largest |energy|
    a site that ``hamiltonian`` allows) and ``description`` (what the file of the final parameters says of the model)
    are optional. ``n_thermalise`` draws are thrown away when a run begins, not when it is continued, and again before
    the measurement (at least 20) if the sampler's ``machine_pow`` is not 2: what is measured is drawn from |ψ|².
    Another power needs a driver that weights its averages, ``Reconfiguration``; others raise ``ValueError``.

    The problem changes the driver it was given, and the state of that driver, also when a run is continued.
    """

    def __init__(
        self,
        driver: Any,
        hamiltonian: Any,
        token_shape: Shape | None = None,
        exact_energy: float | None = None,
        description: Mapping[str, Any] | None = None,
        energy_bound: float = math.inf,
        n_thermalise: int = 0,
    ) -> None:
        self.driver, self.hamiltonian, self.token_shape = driver, hamiltonian, token_shape
        self.exact_energy, self._energy_bound, self._n_thermalise = exact_energy, energy_bound, n_thermalise
        self._description = dict(description or {})
        self._watch = EnergyWatch.new()
        self._measuring = False
        if _power(driver) != 2 and not isinstance(driver, Reconfiguration):
            raise ValueError(
                f"{type(driver).__name__} takes averages as if its chains sampled |ψ|²: give its sampler "
                "machine_pow = 2 or take slmc.systems.wavefunctions.Reconfiguration."
            )

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

    @property
    def identity(self) -> str:
        """What must be the same when a run is continued: model and parameters, Hamiltonian, sampling."""
        state = self.driver.state
        shapes = jax.tree_util.tree_map_with_path(
            lambda path, leaf: f"{path} {leaf.shape} {leaf.dtype}", self.parameters
        )
        # Models of other frameworks print their parameters.
        model = repr(state.model) if isinstance(state.model, nn.Module) else type(state.model).__name__
        described = (
            f"{type(self.driver).__name__} {model} {state.sampler!r} {state.n_samples} {state.n_discard_per_chain}"
        )
        # Functions and some of NetKet's rules print addresses.
        described = re.sub(r" at 0x[0-9a-f]+", "", described)
        return "\n".join([*jax.tree.leaves(shapes), described, _fingerprint(self.hamiltonian)])

    @property
    def diverging(self) -> bool:
        """Whether the last step was a bad one (see ``EnergyWatch``)."""
        return self._watch.n_bad > 0

    # ------------------------------------------------------------ continuing

    def start(self) -> None:
        """Thermalises the chains: what a run does that begins."""
        self._discard(self._n_thermalise)

    def _discard(self, n_draws: int) -> None:
        if n_draws:
            with _plain_jax():
                self.driver.state.sample(chain_length=1, n_discard_per_chain=n_draws)

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, chains, random keys and optimiser as bytes, and what tells that the energy diverges."""
        # Cached samples would make NetKet store the chains as they were before them.
        self.driver.state.reset()
        stored = np.frombuffer(serialization.to_bytes(self.driver), np.uint8)
        return {"driver": stored, "watch": self._watch.as_array(), "measuring": np.asarray(self._measuring)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Brings the driver that was given, and its state, to where they were."""
        restored = serialization.from_bytes(self.driver, np.asarray(state["driver"]).tobytes())
        # NetKet makes copies; whoever holds the driver or its state expects to find them as they were trained.
        held = self.driver.state
        vars(held).update(vars(restored.state))
        vars(self.driver).update(vars(restored), _variational_state=held)
        self._watch = EnergyWatch.from_array(np.asarray(state["watch"]))
        self._measuring = bool(state["measuring"])

    @contextmanager
    def _squared(self) -> Iterator[None]:
        """Has the chains sample |ψ|² from where they are: other powers serve optimisation alone."""
        state = self.driver.state
        sampler = state.sampler

        def use(other: Any) -> None:
            chains = state.sampler_state
            state.sampler = other
            state.sampler_state = chains

        if _power(self.driver) == 2:
            yield
            return
        use(sampler.replace(machine_pow=jnp.asarray(2.0)))
        try:
            yield
        finally:
            use(sampler)

    # --------------------------------------------------------------- running

    def advance(self, n_steps: int) -> dict[str, Recorded]:
        """Steps of the optimisation; the energies are those of the parameters before each step.

        Raises ``FloatingPointError`` at the first step whose energy is not finite, and when the energy diverges
        (see ``EnergyWatch``).
        """
        steps: list[tuple[float, ...]] = []

        def watch(step: int, logged: dict[str, Any], driver: Any) -> bool:
            steps.append(self._figures(step, logged))
            return True

        with _plain_jax():
            self.driver.run(n_steps, out=(), show_progress=False, callback=watch)
        self._check()
        columns = np.array(steps).T
        return {
            name: Recorded(("step",), values, units, text)
            for (name, (units, text)), values in zip(_STEP_FIGURES.items(), columns, strict=True)
        }

    def _check(self) -> None:
        """What comes after the last step: a checkpoint must never hold parameters that no energy was seen of yet."""
        state = self.driver.state
        with _plain_jax():
            values = log_amplitudes(state, _chains(state))
        if not np.isfinite(values).all():
            raise FloatingPointError(f"amplitudes are not finite after step {self.driver.step_count}")

    def _figures(self, step: int, logged: dict[str, Any]) -> tuple[float, ...]:
        energy = logged["Energy"]
        mean, variance = complex(energy.mean), float(energy.variance)
        if not (np.isfinite(mean) and math.isfinite(variance)):
            raise FloatingPointError(f"the energy is not finite at step {step + 1}")
        n = self.n_sites
        value, error = mean.real / n, float(energy.error_of_mean) / n
        self._watch = self._watch.see(value, error, self._energy_bound)
        if self._watch.n_bad >= PATIENCE:
            raise FloatingPointError(
                f"the energy diverges: at step {step + 1} it has been for {PATIENCE} steps far above what was reached "
                f"before ({self._watch.best:.6g} a site), or beyond what the Hamiltonian allows"
            )
        score = v_score(mean.real, variance, n)
        others = (float(logged.get(name, math.nan)) for name in ("acceptance", "effective_samples"))
        return value, error, variance / n, score, *others

    def observe(self) -> dict[str, Recorded]:
        """Input-dependence and maps of the attention weights, over the present configurations of the chains."""
        if self.token_shape is None:
            return {}
        state = self.driver.state
        with _plain_jax():
            spins = _chains(state)[:_OBSERVED]
            # Each as often as its weight says: those of another power of |ψ| become those of its square.
            shares = np.cumsum(importance_weights(state, spins))
            spins = spins[np.searchsorted(shares, shares[-1] * (np.arange(len(spins)) + 0.5) / len(spins))]
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

    def measure(self, n_draws: int, n_sweeps: int = 1) -> dict[str, Recorded]:
        """Local energies a site with the present parameters, (chain, draw), of configurations drawn from |ψ|².

        ``n_sweeps`` sweeps of every chain come before each draw.
        """
        state = self.driver.state
        changes = _power(self.driver) != 2 and not self._measuring
        with self._squared(), _plain_jax():
            if changes:
                self._discard(max(self._n_thermalise, _FEWEST_DISCARDED))
            self._measuring = True
            spins = state.sample(chain_length=n_draws * n_sweeps)[:, n_sweeps - 1 :: n_sweeps].reshape(-1, self.n_sites)
            energies = np.asarray(local_energies(state, self.hamiltonian, spins)) / self.n_sites
        energies = energies.reshape(-1, n_draws)
        if not np.isfinite(energies).all():
            raise FloatingPointError("local energies are not finite while measuring")
        return {
            "energy": Recorded(("chain", "draw"), energies.real, "J1", "energy a site"),
            "energy_imaginary": Recorded(("chain", "draw"), energies.imag, "J1", "imaginary part, whose mean is zero"),
        }


_STEP_FIGURES = {
    "energy": ("J1", "energy a site before the step"),
    "energy_error": ("J1", "its standard error"),
    "variance_per_site": ("J1²", "Var(H) / N, the variance of the whole energy divided by the number of sites"),
    "v_score": ("", "N Var(H) / E²"),
    "acceptance": ("", "share of the sampler's moves that were accepted"),
    "effective_samples": ("", "1 / Σ w² of the weights of the configurations, where the driver tells"),
}


def _power(driver: Any) -> float:
    """p of the |ψ|^p that the chains sample."""
    return float(driver.state.sampler.machine_pow)


def _chains(state: Any) -> Any:
    """Where the chains are; of a sampler without chains, its draws."""
    chains = getattr(state.sampler_state, "σ", None)
    return state.samples.reshape(-1, state.hilbert.size) if chains is None else chains


def _fingerprint(hamiltonian: Any) -> str:
    """A digest of matrix elements in four fixed rows: the representation of an operator may leave its numbers out."""
    if not hasattr(hamiltonian, "get_conn_padded"):
        return repr(hamiltonian)
    with _plain_jax():
        rows = hamiltonian.hilbert.random_state(jax.random.key(0), 4)
        columns, elements = map(np.asarray, hamiltonian.get_conn_padded(rows))
    return hashlib.sha256(columns.tobytes() + np.round(elements, 10).tobytes()).hexdigest()


@contextmanager
def _plain_jax() -> Iterator[None]:
    """NetKet is not written for strict promotion of types and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
