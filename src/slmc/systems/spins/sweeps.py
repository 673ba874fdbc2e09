"""Sweeps of the Heisenberg model from local fields: heat bath and over-relaxation.

    log W(S_i | rest) = h_i·S_i + …,   h_i = (1/T) Σ_n J_n Σ_{j in shell n of i} S_j

Only the field of the visited site is needed, so a sweep costs O(N · neighbours), and one evaluation of the whole
log-weight at its end. Either sweep runs through the sites in order or in reverse order, at random, which keeps
detailed balance.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from slmc.lattice import n_sites, neighbours, rows_ahead
from slmc.montecarlo.local import random_direction
from slmc.montecarlo.manifolds import Manifold, Sphere, occupied
from slmc.montecarlo.update import Info, State, Update, run
from slmc.systems.spins.heisenberg import Heisenberg, filter_row


class HeatBathSweep(Update):
    """Each spin in turn is drawn afresh from its conditional distribution exp(h_i·S_i).

    Creutz, PRD 21, 2308 (1980); for classical spins Miyatake et al., J. Phys. C 19, 2539 (1986). Always accepted.
    """

    target: Heisenberg
    one_by_one: bool = eqx.field(static=True, default=False)

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Sphere()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        return _sweep(key, self.target, state, "draw", draw_along)

    def chain(self, key: Key[Array, ""], state: State, n_steps: int) -> State:
        """The state after many sweeps; on a CPU they are one compiled loop with random numbers of its own, unless they
        are to be made ``one_by_one``."""
        if self.one_by_one:
            return run(key, self, state, n_steps)[0]
        flat = state.configuration.reshape(-1, 3)
        flat = jax.lax.platform_dependent(
            key, self.target, flat, cpu=partial(compiled_chain, n_steps), default=partial(_scanned_chain, n_steps)
        )
        spins = flat.reshape(state.configuration.shape)
        return State(spins, self.target.log_weight(spins), state.observables)


class OverRelaxationSweep(Update):
    """Each spin in turn is reflected about its local field, S → 2 (S·h) h/|h|² − S; the weight does not change.

    Creutz, PRD 36, 515 (1987). Alone it does not explore: combine it with heat-bath or Hamiltonian updates,
    palindromically, ``Sequence((reflect, heat_bath, reflect))``, to keep detailed balance.
    """

    target: Heisenberg

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Sphere()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        return _sweep(key, self.target, state, "reflect", reflect)


Renew = Callable[[Float[Array, " 2"], Float[Array, " 3"], Float[Array, " 3"]], Float[Array, " 3"]]
"""A new spin from two uniform numbers, the local field and the old spin."""


def _sweep(key: Key[Array, ""], target: Heisenberg, state: State, native: str, renew: Renew) -> tuple[State, Info]:
    """On a CPU in compiled code (``native`` is its name), elsewhere by ``scanned_sweep``: the same up to rounding."""
    flat = state.configuration.reshape(-1, 3)
    order, numbers = _drawn(key, len(flat))
    flat = jax.lax.platform_dependent(
        target, order, numbers, flat, cpu=partial(compiled_sweep, native), default=partial(scanned_sweep, renew)
    )
    spins = flat.reshape(state.configuration.shape)
    log_weight = target.log_weight(spins)
    return State(spins, log_weight, state.observables), Info(jnp.ones(()), log_weight - state.log_weight)


def _drawn(key: Key[Array, ""], n_sites: int) -> tuple[Int[Array, " site"], Float[Array, "site 2"]]:
    """The order of the sites in a sweep, and two uniform numbers for each."""
    key_order, key_numbers = jax.random.split(key)
    return random_direction(key_order, n_sites), jax.random.uniform(key_numbers, (n_sites, 2), jnp.float64)


def _interactions(target: Heisenberg) -> tuple[Int[Array, "site neighbour"], Float[Array, " neighbour"]]:
    """The sites with which each site interacts, and how strongly with each."""
    sites, shell, multiplicity = neighbours(target.shape, len(target.reduced_couplings))
    strength = target.reduced_couplings[shell - 1] * jnp.asarray(multiplicity, jnp.float64)
    return jnp.asarray(sites, jnp.int32), strength


def compiled_sweep(
    name: str,
    target: Heisenberg,
    order: Int[Array, " site"],
    numbers: Float[Array, "site 2"],
    spins: Float[Array, "site 3"],
) -> Float[Array, "site 3"]:
    """A sweep on a CPU: "draw" or "reflect"."""
    from slmc.systems.spins.native import custom_call

    sites, strength = _interactions(target)
    result = jax.ShapeDtypeStruct(spins.shape, jnp.float64)
    call = jax.ffi.ffi_call(custom_call(name), result, vmap_method="sequential")
    return call(sites, strength, order.astype(jnp.int32), numbers, spins.astype(jnp.float64)).astype(spins.dtype)


def compiled_chain(
    n_sweeps: int, key: Key[Array, ""], target: Heisenberg, spins: Float[Array, "site 3"]
) -> Float[Array, "site 3"]:
    """Sweeps of the heat bath on a CPU."""
    from slmc.lanes import N_LANES
    from slmc.systems.spins.native import custom_call

    sites, strength = _interactions(target)
    extent, n_rows = target.shape[-1], n_sites(target.shape) // target.shape[-1]
    room = N_LANES * -(-extent // N_LANES)
    # All sites in rows are read faster than a quarter as many neighbours are gathered.
    if 4 * len(strength) > n_rows * room:
        # Of every row the weights twice over: those from a site on are a window of them.
        window = np.arange(extent + room) % extent
        weights = filter_row(target.shape, target.reduced_couplings).reshape(n_rows, extent)[:, window]
        places = jnp.asarray(rows_ahead(target.shape))
    else:
        places, weights = sites, strength[None]
    result = jax.ShapeDtypeStruct(spins.shape, jnp.float64)
    call = jax.ffi.ffi_call(custom_call("draw_often"), result, vmap_method="expand_dims")
    seed, n = jax.random.bits(key, (), jnp.uint64), jnp.asarray(n_sweeps, jnp.int32)
    return call(places, weights, seed, n, spins.astype(jnp.float64)).astype(spins.dtype)


def _scanned_chain(
    n_sweeps: int, key: Key[Array, ""], target: Heisenberg, spins: Float[Array, "site 3"]
) -> Float[Array, "site 3"]:
    def sweep(spins: Float[Array, "site 3"], key: Key[Array, ""]) -> tuple[Float[Array, "site 3"], None]:
        order, numbers = _drawn(key, len(spins))
        return scanned_sweep(draw_along, target, order, numbers, spins), None

    return jax.lax.scan(sweep, spins, jax.random.split(key, n_sweeps))[0]


def scanned_sweep(
    renew: Renew,
    target: Heisenberg,
    order: Int[Array, " site"],
    numbers: Float[Array, "site 2"],
    spins: Float[Array, "site 3"],
) -> Float[Array, "site 3"]:
    """A sweep on any device, spin by spin."""
    sites, strength = _interactions(target)

    def visit(spins: Float[Array, "site 3"], site: Array) -> tuple[Float[Array, "site 3"], None]:
        field, spin = strength @ spins[sites[site]], spins[site]
        # A zero vector is a site without a spin, and stays one.
        renewed = jnp.where(occupied(spin), renew(numbers[site], field, spin), spin)
        return spins.at[site].set(renewed), None

    spins, _ = jax.lax.scan(visit, spins, order)
    return spins


def draw_along(numbers: Float[Array, " 2"], field: Float[Array, " 3"], spin: Float[Array, " 3"]) -> Float[Array, " 3"]:
    """A unit vector from exp(h·S): cosine to the field by inversion, azimuth uniform."""
    u, v = numbers
    strength = jnp.sqrt(jnp.sum(field**2))
    small = strength < 1e-6
    h = jnp.where(small, 1.0, strength)
    # cosine = 1 + log(u + (1−u) e^{−2h}) / h; uniform in [−1, 1] for a vanishing field, to first order in h.
    cosine = jnp.where(small, 2 * u - 1, 1 + jnp.log(u + (1 - u) * jnp.exp(-2 * h)) / h)
    cosine = jnp.clip(cosine, -1.0, 1.0)
    axis = jnp.where(small, jnp.array([0.0, 0.0, 1.0]), field / h)
    # A frame around the axis: Duff et al., J. Comput. Graph. Tech. 6, 1 (2017).
    x, y, z = axis
    sign = jnp.where(z < 0, -1.0, 1.0)
    a = -1 / (sign + z)
    first = jnp.stack([1 + sign * x * x * a, sign * x * y * a, -sign * x])
    second = jnp.stack([x * y * a, sign + y * y * a, -y])
    sine = jnp.sqrt(1 - cosine**2)
    drawn = cosine * axis + sine * (jnp.cos(2 * jnp.pi * v) * first + jnp.sin(2 * jnp.pi * v) * second)
    return drawn / jnp.sqrt(jnp.sum(drawn**2))


def reflect(numbers: Float[Array, " 2"], field: Float[Array, " 3"], spin: Float[Array, " 3"]) -> Float[Array, " 3"]:
    """The spin turned by 180° about the field; no number is used."""
    squared = jnp.sum(field**2)
    reflected = 2 * jnp.dot(spin, field) / jnp.where(squared > 0, squared, 1.0) * field - spin
    reflected = reflected / jnp.sqrt(jnp.sum(reflected**2))
    return jnp.where(squared > 0, reflected, spin)
