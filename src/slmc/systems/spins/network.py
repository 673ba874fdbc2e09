"""An equivariant network of static filters: what beats attention at the same cost (see docs/explanation)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.lattice import Shape, check_shape, n_sites
from slmc.montecarlo.target import LogWeight, Target
from slmc.numbers import count, positive_count
from slmc.systems.spins import compiled_network
from slmc.systems.spins.filters import carried, filtered, multiplicities
from slmc.systems.spins.observables import Spins
from slmc.systems.spins.parameters import check_temperature

Channels = Float[Array, "channel 3 site"]
"""Vectors at every site; sites last, so that products over all sites are one loop over memory."""


class QuadraticForm(eqx.Module):
    """½ Σ_d K_d Σ_{ij at a displacement of class d} S_i·S_j + constant: the linear model, by displacement.

    ``couplings`` are K = J/T; unlike those of ``Heisenberg`` they tell (5, 0) from (4, 3).
    """

    couplings: Float[Array, " displacement"]
    constant: Float[Array, ""]

    def __call__(self, shape: Shape, reach: int | None, spins: Float[Array, "3 site"]) -> LogWeight:
        # Without the displacement of a site from itself, which adds a constant.
        weights = jnp.concatenate([jnp.zeros(1, self.couplings.dtype), self.couplings])
        (fields,) = filtered(shape, reach, weights[None], spins[None])
        return jnp.sum(spins * fields) / 2 + self.constant


class Perceptron(eqx.Module):
    """The invariants of a site, V_c·V_d, made into hidden values h = silu(A V·V + b) and a site energy o·h."""

    weights: Float[Array, "hidden pair"]
    bias: Float[Array, " hidden"]
    readout: Float[Array, " hidden"]

    def __call__(self, channels: Channels) -> Float[Array, "hidden site"]:
        first, second = np.triu_indices(len(channels))
        invariants = jnp.sum(channels[first] * channels[second], axis=1)
        return jax.nn.silu(self.weights @ invariants + self.bias[:, None])


class Message(eqx.Module):
    """V_c → V_c + Σ_d m_cd F_d * (Σ_e γ_de(h) V_e): gated by the hidden values of the sending site, filtered, mixed."""

    gates: Float[Array, "gate hidden"]
    filters: Float[Array, "channel displacement"]
    mixing: Float[Array, "channel channel"]

    def __call__(
        self, shape: Shape, reach: int | None, channels: Channels, hidden: Float[Array, "hidden site"]
    ) -> Channels:
        n_channels = len(channels)
        gates = (self.gates @ hidden).reshape(n_channels, n_channels, 1, -1)
        sent = jnp.sum(gates * channels[None], axis=1)
        received = filtered(shape, reach, self.filters, sent)
        return channels + jnp.einsum("cd,dki->cki", self.mixing, received)


class EquivariantNetwork(Target):
    """log W_eff = ½ Σ K(i−j) S_i·S_j + Σ_layers Σ_i o·h_i, with h_i made from scalar products of vectors at site i.

    ``n_channels`` vectors per site V_c = F_c * S are made by position-only filters F_c (one weight for each class of
    displacements, so that they are translation invariant and symmetric under the point group; * is the sum over
    displacements). Their scalar products V_c·V_d are invariant under rotations and reflections; ``n_hidden`` values
    h = silu(A V·V + b) of a site give its energy o·h. Each further layer changes the vectors by messages gated by h,

        V_c ← V_c + Σ_d m_cd F'_d * (Σ_e γ_de(h) V_e),

    and reads an energy again. The linear model over all displacements is the first term, and the whole of it at the
    start, since readouts start from zero: solve for it with ``fit_linear(…, where=lambda model: model.linear)``.
    Everything the model knows lives on displacements, up to ``reach`` in every component (``None``: all of the
    torus), so that it can be carried to other lattices with ``on_lattice``. log W_eff is even in the spins and stands
    for −H_eff/T at the given ``temperature``.

    ``key`` draws the initial weights. On a CPU log W_eff of float64 is computed by compiled loops, several times
    faster, unless ``compiled`` is false; its derivatives are made from arrays. Raises ``ValueError`` for numbers of
    layers, channels or hidden values below 1, a reach below 0 and a temperature that is not positive.
    """

    shape: Shape = eqx.field(static=True)
    reach: int | None = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    linear: QuadraticForm
    filters: Float[Array, "channel displacement"]
    perceptrons: tuple[Perceptron, ...]
    messages: tuple[Message, ...]
    compiled: bool = eqx.field(static=True)

    def __init__(
        self,
        shape: Shape = (6, 6),
        n_layers: int = 2,
        n_channels: int = 12,
        n_hidden: int = 32,
        reach: int | None = None,
        temperature: float = 1.0,
        compiled: bool = True,
        *,
        key: Key[Array, ""],
    ) -> None:
        self.compiled = compiled
        self.shape, self.temperature = check_shape(shape), check_temperature(temperature)
        self.reach = reach = None if reach is None else count(reach, "reach")
        n_layers, n_channels = positive_count(n_layers, "n_layers"), positive_count(n_channels, "n_channels")
        n_hidden = positive_count(n_hidden, "n_hidden")
        counts = multiplicities(self.shape, reach)
        # A sum over all displacements is of order one.
        scale = 1 / np.sqrt(counts * len(counts))[None]
        n_pairs = n_channels * (n_channels + 1) // 2
        keys = iter(jax.random.split(key, 6 * n_layers))

        def normal(*shape: int) -> Array:
            return jax.random.normal(next(keys), shape, jnp.float64)

        def perceptron() -> Perceptron:
            return Perceptron(
                normal(n_hidden, n_pairs) / n_pairs**0.5, 0.5 * normal(n_hidden), jnp.zeros(n_hidden, jnp.float64)
            )

        def message() -> Message:
            return Message(
                normal(n_channels**2, n_hidden) / (n_channels * n_hidden) ** 0.5,
                scale * normal(n_channels, len(counts)),
                0.3 * normal(n_channels, n_channels) / n_channels**0.5,
            )

        self.linear = QuadraticForm(jnp.zeros(len(counts) - 1, jnp.float64), jnp.zeros((), jnp.float64))
        spin = jnp.zeros(len(counts), jnp.float64).at[0].set(1.0)
        self.filters = (1.5 * scale * normal(n_channels, len(counts))).at[0].set(spin)
        self.perceptrons = tuple(perceptron() for _ in range(n_layers))
        self.messages = tuple(message() for _ in range(n_layers - 1))

    def log_weight(self, spins: Spins) -> LogWeight:
        """log W_eff of a configuration."""
        is_double = all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves((self, spins)))
        return _log_weight(self, spins) if self.compiled and is_double else self.by_arrays(spins)

    def by_arrays(self, spins: Spins) -> LogWeight:
        """log W_eff of a configuration by operations on arrays."""
        flat = spins.reshape(-1, 3).T
        channels = filtered(self.shape, self.reach, self.filters, flat[None])
        hidden = self.perceptrons[0](channels)
        total = self.linear(self.shape, self.reach, flat) + jnp.sum(self.perceptrons[0].readout @ hidden)
        for message, perceptron in zip(self.messages, self.perceptrons[1:], strict=True):
            channels = message(self.shape, self.reach, channels, hidden)
            hidden = perceptron(channels)
            total = total + jnp.sum(perceptron.readout @ hidden)
        return total

    def on_lattice(
        self,
        shape: Shape,
        temperature: float | None = None,
        reach: int | None = None,
        compiled: bool | None = None,
    ) -> "EquivariantNetwork":
        """The same weights by displacement on another lattice; displacements it did not know get zero.

        At another temperature the same H_eff is kept. ``reach`` limits or widens the filters; by default they keep
        theirs (``None``: all of the new torus). ``compiled`` says how log W_eff is computed, by default as it was.
        """
        reach = self.reach if reach is None else reach
        compiled = self.compiled if compiled is None else compiled
        temperature = self.temperature if temperature is None else temperature
        n_hidden, n_channels = len(self.perceptrons[0].bias), len(self.filters)
        moved = EquivariantNetwork(
            shape, len(self.perceptrons), n_channels, n_hidden, reach, temperature, compiled, key=jax.random.key(0)
        )
        scale = self.temperature / moved.temperature

        def carry(weights: Array) -> Array:
            return carried(weights, self.shape, self.reach, moved.shape, reach)

        on_site = jnp.concatenate([jnp.zeros(1, jnp.float64), self.linear.couplings])
        constant = self.linear.constant * (n_sites(moved.shape) / n_sites(self.shape))
        linear = QuadraticForm(scale * carry(on_site)[1:], scale * constant)
        perceptrons = tuple(
            Perceptron(perceptron.weights, perceptron.bias, scale * perceptron.readout)
            for perceptron in self.perceptrons
        )
        messages = tuple(Message(message.gates, carry(message.filters), message.mixing) for message in self.messages)
        parts = (linear, carry(self.filters), perceptrons, messages)
        return eqx.tree_at(
            lambda network: (network.linear, network.filters, network.perceptrons, network.messages), moved, parts
        )


@jax.custom_jvp
def _log_weight(network: EquivariantNetwork, spins: Spins) -> LogWeight:
    return jax.lax.platform_dependent(
        network,
        spins,
        cpu=lambda network, spins: compiled_network.log_weight(network, spins.reshape(-1, 3)),
        default=lambda network, spins: network.by_arrays(spins),
    )


@_log_weight.defjvp
def _log_weight_jvp(primals, tangents):
    """Derivatives are made from arrays; the log-weight is the same to the bit with them and without."""
    return _log_weight(*primals), jax.jvp(lambda network, spins: network.by_arrays(spins), primals, tangents)[1]
