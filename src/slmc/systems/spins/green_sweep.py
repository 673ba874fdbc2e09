"""Local sweeps of the double-exchange weight from Green's functions: the exact update whose steps change one spin."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from slmc.compiled_calls import custom_call
from slmc.lattice import neighbours
from slmc.montecarlo.local import LocalSweep
from slmc.montecarlo.manifolds import Manifold, Sphere
from slmc.montecarlo.update import Info, State, Update, run
from slmc.numbers import positive_count
from slmc.systems.spins.double_exchange import DoubleExchange
from slmc.systems.spins.elimination import elimination
from slmc.systems.spins.poles import pole_table


class GreensFunctionSweep(Update):
    """Metropolis sweeps like those of ``LocalSweep``, whose decisions cost a few operations instead of a weight.

    Every spin in turn, in order or in reverse order at random, is proposed a turn of about ``step_size``. Ratios of
    weights come from the inverse matrix at the frequencies of ``poles`` (see ``green_kernel``): O(1) for a decision,
    O(N²) for an accepted one, and O(N³) once for the ``n_sweeps`` of a step, after which log W is evaluated anew. On
    other devices than CPUs it is ``LocalSweep``.

    Raises ``ValueError`` for a target that is diagonalised, and for fewer than one sweep.
    """

    target: DoubleExchange
    step_size: Float[Array, ""] = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float64))
    n_sweeps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        positive_count(self.n_sweeps, "n_sweeps")
        if self.target.weight != "poles":
            raise ValueError('a GreensFunctionSweep needs a target with weight = "poles"; use LocalSweep.')

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Sphere()

    @property
    def reversible(self) -> bool:
        return True

    def evaluations_per_step(self, configuration: Float[Array, "..."]) -> int:
        """One for every decision, as for ``LocalSweep``, though a whole sweep costs about as much as some."""
        return self.n_sweeps * self.target.n_sites

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        spins, accepted = jax.lax.platform_dependent(
            key,
            self,
            state.configuration.reshape(-1, 3),
            cpu=_compiled,
            default=partial(_by_local_sweeps, shape=state.configuration.shape),
        )
        moved = self.init(spins.reshape(state.configuration.shape))
        return moved, Info(accepted, moved.log_weight - state.log_weight)


def _compiled(key: Key[Array, ""], update: GreensFunctionSweep, spins: Float[Array, "site 3"]) -> tuple[Array, Array]:
    from slmc.systems.spins import green_kernel

    target = update.target
    sites, shell, multiplicity = neighbours(target.shape, len(target.hopping))
    hops = -target.hopping[shell - 1] * jnp.asarray(multiplicity, jnp.float64)
    half = target.coupling / 2
    scalars = jnp.stack([target.temperature, target.chemical_potential, jnp.abs(half), half])
    key_noise, key_decision, key_order = jax.random.split(key, 3)
    shape = (update.n_sweeps, len(spins))
    noise = update.step_size * jax.random.normal(key_noise, (*shape, 3), jnp.float64)
    decision = jnp.log(jax.random.uniform(key_decision, (*shape, 1), jnp.float64))
    backwards = jax.random.bernoulli(key_order, shape=shape[:1])
    results = (jax.ShapeDtypeStruct(spins.shape, jnp.float64), jax.ShapeDtypeStruct((), jnp.float64))
    call = jax.ffi.ffi_call(custom_call("green", green_kernel.call), results, vmap_method="expand_dims")
    turned, accepted = call(
        jnp.asarray(sites, jnp.int32),
        jnp.asarray(_sublattice_signs(target)),
        jnp.asarray(pole_table().packed()),
        jnp.concatenate([scalars, hops]),
        jnp.concatenate([noise, decision], axis=-1),
        backwards.astype(jnp.uint8),
        spins,
    )
    return turned, accepted


def _sublattice_signs(target: DoubleExchange) -> np.ndarray:
    """−1 on one sublattice and +1 on the other, if sites hop between them alone; zeros elsewhere."""
    plan = elimination(target.shape, len(target.hopping))
    signs = np.ones(target.n_sites)
    signs[plan.tables[plan.tables[0] : plan.tables[1]]] = -1
    return signs if plan.bipartite else np.zeros(target.n_sites)


def _by_local_sweeps(
    key: Key[Array, ""], update: GreensFunctionSweep, spins: Float[Array, "site 3"], shape: tuple[int, ...]
) -> tuple[Array, Array]:
    sweep = LocalSweep(update.target, Sphere(), update.step_size)
    state, info = run(key, sweep, sweep.init(spins.reshape(shape)), update.n_sweeps)
    return state.configuration.reshape(-1, 3), jnp.mean(info.accepted)
