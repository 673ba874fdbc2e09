"""Heat bath and over-relaxation of plaquette actions, all links of one direction and parity at once."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, Key

from slmc.montecarlo.manifolds import Manifold
from slmc.montecarlo.special_unitary import Matrices, SpecialUnitary, as_matrices, as_points, multiply, reprojected
from slmc.montecarlo.target import Target
from slmc.montecarlo.update import Info, State, Update
from slmc.systems.gauge.gauge_action import EffectiveAction, GaugeAction
from slmc.systems.gauge.links import LinkMatrices, check_even, parity, staples

Quaternion = Float[Array, "4 *lattice"]
"""An element q_0 + i q·σ of the algebra spanned by SU(2)."""


class GaugeHeatBath(Update):
    """Draws every link from its distribution given all others: one sweep through the lattice and one in reverse.

        p(U) ∝ exp((β/N) Re tr U A),   A the sum of staples

    SU(2) by Kennedy, Pendleton, Phys. Lett. B 156, 393 (1985), or for weak fields by Creutz, PRD 21, 2308 (1980);
    SU(N) through its SU(2) subgroups, Cabibbo, Marinari, Phys. Lett. B 119, 387 (1982). Links of one direction and
    parity have no plaquette in common and are drawn together. Every link is visited twice a step, in an order that
    reads the same backwards, so that the step keeps detailed balance and may drive a ``CumulativeUpdate``.

    With ``over_relaxation`` nothing is drawn: every subgroup is reflected about its field, U → V†U†V†, which keeps the
    action (Creutz, PRD 36, 515 (1987)), once a step, in ascending or descending order at random; to be combined with a
    heat bath.

    Raises ``ValueError`` for a target with more than plaquettes in it and for a lattice with an odd extent.
    """

    target: Target
    over_relaxation: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if not isinstance(self.target, GaugeAction | EffectiveAction) or self.target.plaquette_coupling is None:
            raise ValueError(
                "a heat bath needs an action of plaquettes alone; use HamiltonianTrajectory for actions with "
                "rectangles, Polyakov loops or fermions."
            )
        check_even(self.target.shape, "a heat bath by checkerboard")

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return SpecialUnitary()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        key_order, key_sweep = jax.random.split(key)
        u = as_matrices(state.configuration)
        swept = jax.lax.map(lambda order: self._swept(key_sweep, u, *order), self._orders())
        links = as_points(swept[jax.random.randint(key_order, (), 0, len(swept))])
        log_weight = self.target.log_weight(links)
        return State(links, log_weight, state.observables), Info(jnp.ones(()), log_weight - state.log_weight)

    def _orders(self) -> tuple[Int[Array, "order stage 2"], Int[Array, "order stage subgroup 2"]]:
        """(direction, parity) of every stage, and its subgroups, of the orders among which a step chooses.

        Reflections there and back would undo each other; they go one way, either at random, which is as reversible.
        """
        assert isinstance(self.target, GaugeAction | EffectiveAction)
        there = np.array(list(itertools.product(range(len(self.target.shape)), range(2))))
        pairs = np.array(list(itertools.combinations(range(self.target.n_colours), 2)))
        stages = np.stack([there, there[::-1]])
        subgroups = np.stack([np.stack([pairs] * len(there)), np.stack([pairs[::-1]] * len(there))])
        if not self.over_relaxation:
            stages, subgroups = np.concatenate(stages)[None], np.concatenate(subgroups)[None]
        return jnp.asarray(stages), jnp.asarray(subgroups)

    def _swept(self, key: Key[Array, ""], u: LinkMatrices, stages: Array, subgroups: Array) -> LinkMatrices:
        target = self.target
        assert isinstance(target, GaugeAction | EffectiveAction)
        assert target.plaquette_coupling is not None
        # A fitted coupling may be negative: exp(−k Re tr U A) is drawn as exp(k Re tr U (−A)), with k > 0.
        strength = jnp.abs(target.plaquette_coupling) / target.n_colours
        sign = jnp.where(target.plaquette_coupling < 0, -1.0, 1.0).astype(u.dtype)
        sites = jnp.asarray(parity(target.shape))

        def visit(u: LinkMatrices, inputs) -> tuple[LinkMatrices, None]:
            (direction, colour), pairs, key = inputs
            branches = [lambda u, mu=mu: staples(u, mu) for mu in range(len(target.shape))]
            field = sign * jax.lax.switch(direction, branches, u)
            link = jax.lax.dynamic_index_in_dim(u, direction, 2, keepdims=False)
            renewed = self._renewed(key, link, field, pairs, strength)
            link = jnp.where((sites == colour)[None, None], renewed, link)
            return jax.lax.dynamic_update_index_in_dim(u, link, direction, 2), None

        return jax.lax.scan(visit, u, (stages, subgroups, jax.random.split(key, len(stages))))[0]

    def _renewed(
        self, key: Key[Array, ""], link: Matrices, field: Matrices, pairs: Int[Array, "subgroup 2"], strength: Array
    ) -> Matrices:
        """The links with all their SU(2) subgroups renewed in turn."""

        def visit(link: Matrices, inputs) -> tuple[Matrices, None]:
            pair, key = inputs
            rows = link[pair]
            seen = quaternion(multiply(rows, field[:, pair]))
            length = jnp.sqrt(jnp.sum(seen**2, axis=0))
            there = conjugate(seen / jnp.where(length > 0, length, 1.0)[None])
            if self.over_relaxation:
                rotation = product(there, there)
                rotation = jnp.where((length > 0)[None], rotation, _unit(rotation))
            else:
                rotation = product(draw_quaternion(key, 2 * strength * length), there)
            return link.at[pair].set(multiply(matrix_of(rotation), rows)), None

        link, _ = jax.lax.scan(visit, link, (pairs, jax.random.split(key, len(pairs))))
        return reprojected(link)


def quaternion(matrix: Complex[Array, "2 2 *lattice"]) -> Quaternion:
    """The part q of a 2×2 matrix with Re tr(a w) = Re tr(a q) for every a in SU(2)."""
    (a, b), (c, d) = matrix
    return jnp.stack([a.real + d.real, b.imag + c.imag, b.real - c.real, a.imag - d.imag]) / 2


def matrix_of(q: Quaternion) -> Complex[Array, "2 2 *lattice"]:
    """q_0 + i q·σ."""
    a, b = jax.lax.complex(q[0], q[3]), jax.lax.complex(q[2], q[1])
    return jnp.stack([jnp.stack([a, b]), jnp.stack([-jnp.conj(b), jnp.conj(a)])])


def conjugate(q: Quaternion) -> Quaternion:
    return jnp.concatenate([q[:1], -q[1:]])


def product(p: Quaternion, q: Quaternion) -> Quaternion:
    """The quaternion of the product of the matrices of two."""
    vector = p[:1] * q[1:] + q[:1] * p[1:] - jnp.cross(p[1:], q[1:], axis=0)
    return jnp.concatenate([p[:1] * q[:1] - jnp.sum(p[1:] * q[1:], axis=0, keepdims=True), vector])


def draw_quaternion(key: Key[Array, ""], strength: Float[Array, "*lattice"]) -> Quaternion:
    """An element of SU(2) from exp(k a_0) at every site: a_0 from exp(k a_0) √(1 − a_0²), the rest isotropic."""
    key_first, key_rest = jax.random.split(key)
    first = draw_first_component(key_first, strength)
    direction = jax.random.normal(key_rest, (3, *strength.shape), jnp.float64)
    direction = direction / jnp.sqrt(jnp.sum(direction**2, axis=0))[None]
    return jnp.concatenate([first[None], jnp.sqrt(jnp.maximum(0.0, 1 - first**2))[None] * direction])


def draw_first_component(key: Key[Array, ""], strength: Float[Array, "*lattice"]) -> Float[Array, "*lattice"]:
    """a_0 from exp(k a_0) √(1 − a_0²) on [−1, 1], by rejection until all sites have one.

    Kennedy–Pendleton for k > 2, Creutz below, where the other accepts little.
    """
    small = strength < 2
    k = jnp.where(small, 1.0, strength)
    weak = jnp.where(strength > 1e-8, jnp.where(small, strength, 1.0), 1e-8)

    def unfinished(carry) -> Array:
        return ~jnp.all(carry[1])

    def attempt(carry):
        drawn, done, n_attempts = carry
        u = 1 - jax.random.uniform(jax.random.fold_in(key, n_attempts), (4, *strength.shape), jnp.float64)
        squared = -(jnp.log(u[0]) + jnp.cos(2 * jnp.pi * u[1]) ** 2 * jnp.log(u[2])) / (2 * k)
        pendleton, accepted_pendleton = 1 - 2 * squared, u[3] ** 2 <= 1 - squared
        creutz = 1 + jnp.log(u[0] + (1 - u[0]) * jnp.exp(-2 * weak)) / weak
        accepted_creutz = u[3] ** 2 <= 1 - creutz**2
        proposed = jnp.where(small, creutz, pendleton)
        accepted = jnp.where(small, accepted_creutz, accepted_pendleton)
        return jnp.where(done, drawn, proposed), done | accepted, n_attempts + 1

    # What is not a number would never be accepted; it is left as it is found.
    start = strength, ~jnp.isfinite(strength), jnp.asarray(0)
    return jnp.clip(jax.lax.while_loop(unfinished, attempt, start)[0], -1.0, 1.0)


def _unit(like: Quaternion) -> Quaternion:
    return jnp.zeros_like(like).at[0].set(1.0)
