"""Cluster updates of Ising spins: Wolff, Swendsen–Wang, and clusters kept within a distance of their seed.

Bonds between nearest neighbours that agree with the sign of J_1 are drawn with probability 1 − exp(−2 |J_1|/T), and
whole clusters of bonds are flipped. For a model with J_1 alone every flip is accepted; for any other target the
proposal's own ratio, that of the J_1 model, leaves the rest to the decision.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from slmc.lattice import Shape, coordinates, n_sites, sites_at
from slmc.montecarlo.manifolds import Manifold, Signs
from slmc.montecarlo.metropolis import MetropolisHastings, Proposal
from slmc.montecarlo.update import Info, State, Update
from slmc.numbers import finite, not_negative
from slmc.systems.spins.ising import Ising, IsingSpins

Bonds = Bool[Array, "axis *lattice"]
"""Whether the bond from a site to the next one along an axis is drawn."""


class WolffProposal(Proposal):
    """Flips the cluster of bonds that contains a random site: Wolff, PRL 62, 361 (1989).

    ``reduced_coupling`` is J_1/T. The log proposal ratio is log W_1(x) − log W_1(x') for the nearest-neighbour model
    W_1. With ``radius`` no bond leaves the ball of that radius around the seed (restricted self-learning Monte
    Carlo, arXiv:1610.03137). The bonds that might have been drawn across its surface then no longer cancel in the
    ratio, which gains −2 (J_1/T) Σ s_i s_j over the bonds from the cluster to sites outside.
    """

    reduced_coupling: Float[Array, ""]
    radius: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        finite(self.reduced_coupling, "reduced_coupling")
        check_radius(self.radius)

    def propose(self, key: Key[Array, ""], configuration: IsingSpins) -> tuple[IsingSpins, Float[Array, ""]]:
        key_seed, key_bonds = jax.random.split(key)
        shape = configuration.shape
        seed = jax.random.randint(key_seed, (), 0, n_sites(shape), jnp.int32)
        inside = None if self.radius is None else _ball(shape, seed, self.radius)
        cluster = wolff_cluster(key_bonds, self.reduced_coupling, configuration, seed, inside)
        proposed = jnp.where(cluster, -configuration, configuration)
        log_ratio = self.reduced_coupling * (_aligned(configuration) - _aligned(proposed))
        if inside is not None:
            crossing = sum(
                jnp.sum(jnp.where((cluster & ~there_inside) | (~inside & there_cluster), configuration * there, 0.0))
                for there, there_inside, there_cluster in _along_axes(configuration, inside, cluster)
            )
            log_ratio = log_ratio - 2 * self.reduced_coupling * crossing
        return proposed, log_ratio


class SwendsenWangProposal(Proposal):
    """Flips every cluster of bonds with probability one half: Swendsen, Wang, PRL 58, 86 (1987).

    Arguments and log proposal ratio are those of ``WolffProposal``.
    """

    reduced_coupling: Float[Array, ""]

    def __check_init__(self) -> None:
        finite(self.reduced_coupling, "reduced_coupling")

    def propose(self, key: Key[Array, ""], configuration: IsingSpins) -> tuple[IsingSpins, Float[Array, ""]]:
        key_bonds, key_flips = jax.random.split(key)
        labels = cluster_labels(draw_bonds(key_bonds, self.reduced_coupling, configuration))
        flips = jax.random.bernoulli(key_flips, shape=(n_sites(configuration.shape),))
        proposed = jnp.where(flips[labels], -configuration, configuration)
        return proposed, self.reduced_coupling * (_aligned(configuration) - _aligned(proposed))


class WolffUpdate(Update):
    """One Wolff cluster grown with J_1 of an Ising model and decided by the whole of it.

    A model with J_1 alone accepts always. Inside a ``CumulativeUpdate`` it is the inner chain of self-learning Monte
    Carlo with clusters; with further couplings its decision comes before the exact one (nested). ``radius`` restricts
    the cluster (see ``WolffProposal``), whose surface then enters that first decision; for J_1 alone
    ``MetropolisHastings(target, WolffProposal(J_1/T, radius))`` decides once, on everything. Raises ``ValueError`` for
    a model without couplings, and for a radius that is negative or not finite.
    """

    target: Ising
    radius: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_nearest_neighbours(self.target)
        check_radius(self.radius)

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Signs()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        proposal = WolffProposal(self.target.reduced_couplings[0], self.radius)
        return MetropolisHastings(self.target, proposal).step(key, state)


class SwendsenWangUpdate(Update):
    """All clusters of J_1 of an Ising model flipped at random, decided by the whole of it.

    Raises ``ValueError`` for a model without couplings.
    """

    target: Ising

    def __check_init__(self) -> None:
        check_nearest_neighbours(self.target)

    @property
    def manifold(self) -> Manifold:
        """Where the configurations live."""
        return Signs()

    @property
    def reversible(self) -> bool:
        return True

    def step(self, key: Key[Array, ""], state: State) -> tuple[State, Info]:
        proposal = SwendsenWangProposal(self.target.reduced_couplings[0])
        return MetropolisHastings(self.target, proposal).step(key, state)


def check_nearest_neighbours(target: Ising) -> None:
    """Raises ``ValueError`` for a model without J_1, from which no cluster can grow."""
    if not len(target.reduced_couplings):
        raise ValueError("clusters grow with the coupling of nearest neighbours; give the model at least one.")


def check_radius(radius: float | None) -> None:
    """Raises ``ValueError`` for a radius that is negative or not finite."""
    if radius is not None:
        not_negative(radius, "radius")


def draw_bonds(key: Key[Array, ""], reduced_coupling: Float[Array, ""], spins: IsingSpins) -> Bonds:
    """Each bond that agrees with the sign of the coupling with probability 1 − exp(−2 |J_1|/T)."""
    agree = jnp.stack([spins * there for (there,) in _along_axes(spins)]) * jnp.sign(reduced_coupling) > 0
    drawn = jax.random.uniform(key, agree.shape) < -jnp.expm1(-2 * jnp.abs(reduced_coupling))
    longer_than_one = np.array(spins.shape) > 1
    return agree & drawn & jnp.asarray(longer_than_one).reshape(-1, *(1,) * spins.ndim)


def wolff_cluster(
    key: Key[Array, ""],
    reduced_coupling: Float[Array, ""],
    spins: IsingSpins,
    seed: Int[Array, ""],
    inside: Bool[Array, "*lattice"] | None = None,
) -> Bool[Array, "*lattice"]:
    """The cluster of bonds that contains the site ``seed``; bonds between sites ``inside`` only (all if not given).

    On a CPU it grows bond by bond in compiled code with random numbers of its own, seeded by ``key``; elsewhere the
    bonds of the whole lattice are drawn and labelled. The distribution is the same, the random numbers are not.
    """
    inside = jnp.ones(spins.shape, bool) if inside is None else inside
    return jax.lax.platform_dependent(
        key, reduced_coupling, spins, seed, inside, cpu=grown_cluster, default=labelled_cluster
    )


def grown_cluster(
    key: Key[Array, ""], reduced_coupling: Array, spins: IsingSpins, seed: Array, inside: Array
) -> Bool[Array, "*lattice"]:
    """``wolff_cluster`` on a CPU."""
    from slmc.systems.spins.native import custom_call

    grow = jax.ffi.ffi_call(
        custom_call("grow"), jax.ShapeDtypeStruct((spins.size,), jnp.bool_), vmap_method="sequential"
    )
    probability = -jnp.expm1(-2 * jnp.abs(reduced_coupling))
    cluster = grow(
        jnp.asarray(_next_to(spins.shape)),
        jnp.asarray(spins.ravel(), jnp.float64),
        inside.ravel(),
        jax.random.bits(key, (), jnp.uint64),
        jnp.asarray(seed, jnp.int32),
        jnp.asarray(jnp.stack([jnp.sign(reduced_coupling), probability]), jnp.float64),
    )
    return cluster.reshape(spins.shape)


def labelled_cluster(
    key: Key[Array, ""], reduced_coupling: Array, spins: IsingSpins, seed: Array, inside: Array
) -> Bool[Array, "*lattice"]:
    """``wolff_cluster`` on any device."""
    within = jnp.stack([inside & _next(inside, axis) for axis in range(spins.ndim)])
    labels = cluster_labels(draw_bonds(key, reduced_coupling, spins) & within)
    return labels == labels.ravel()[seed]


@functools.lru_cache(maxsize=64)
def _next_to(shape: Shape) -> np.ndarray:
    """The sites one step away from each, (site, step) in both directions along every axis longer than one site."""
    along = np.eye(len(shape), dtype=int)[np.array(shape) > 1]
    return sites_at(shape, np.stack([along, -along], axis=1).reshape(-1, len(shape))).astype(np.int32)


def cluster_labels(bonds: Bonds) -> Int[Array, "*lattice"]:
    """The least site number of the cluster to which each site belongs.

    On a CPU by union–find in compiled code, elsewhere by ``propagated_labels``; the labels are the same.
    """
    return jax.lax.platform_dependent(bonds, cpu=joined_labels, default=propagated_labels)


def joined_labels(bonds: Bonds) -> Int[Array, "*lattice"]:
    """``cluster_labels`` on a CPU."""
    from slmc.systems.spins.native import custom_call

    labels = jax.ShapeDtypeStruct(bonds.shape[1:], jnp.int32)
    return jax.ffi.ffi_call(custom_call("join"), labels, vmap_method="sequential")(bonds)


def propagated_labels(bonds: Bonds) -> Int[Array, "*lattice"]:
    """``cluster_labels`` on any device: labels spread along bonds until nothing changes.

    In between each jumps to the label of the site it names, which halves the remaining way: O(N log N).
    """
    shape = bonds.shape[1:]

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        labels, _ = state
        smallest = labels
        for axis in range(len(shape)):
            smallest = jnp.where(bonds[axis], jnp.minimum(smallest, _next(smallest, axis)), smallest)
            back = jnp.roll(bonds[axis], 1, axis)
            smallest = jnp.where(back, jnp.minimum(smallest, jnp.roll(smallest, 1, axis)), smallest)
        # The label of the site that a label names belongs to the same cluster.
        flat = smallest.ravel()
        flat = flat[flat]
        flat = flat[flat]
        smallest = flat.reshape(shape)
        return smallest, jnp.any(smallest != labels)

    start = jnp.arange(n_sites(shape), dtype=jnp.int32).reshape(shape)
    return jax.lax.while_loop(lambda state: state[1], spread, (start, jnp.asarray(True)))[0]


def _next(field: Array, axis: int) -> Array:
    """The field at the next site along an axis."""
    return jnp.roll(field, -1, axis)


def _along_axes(*fields: Array) -> list[tuple[Array, ...]]:
    """The fields at the next site, for every axis."""
    return [tuple(_next(field, axis) for field in fields) for axis in range(fields[0].ndim)]


def _aligned(spins: IsingSpins) -> Float[Array, ""]:
    """Σ s_i s_j over nearest neighbours."""
    return jnp.sum(jnp.stack([spins * _next(spins, axis) for axis, extent in enumerate(spins.shape) if extent > 1]))


def _ball(shape: Shape, seed: Int[Array, ""], radius: float) -> Bool[Array, "*lattice"]:
    """Sites within a distance of the seed, around the torus."""
    extents = jnp.asarray(shape)
    sites = jnp.asarray(coordinates(shape))
    away = (sites - sites[seed][None]) % extents[None]
    away = jnp.minimum(away, extents[None] - away)
    return (jnp.asarray(jnp.sum(away**2, axis=1), jnp.float64) <= radius**2).reshape(shape)
