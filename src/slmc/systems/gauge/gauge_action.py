"""Gauge actions of plaquettes and rectangles, and the effective action of self-learning Monte Carlo."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slmc.lattice import Shape, n_sites
from slmc.montecarlo.special_unitary import as_matrices, trace
from slmc.montecarlo.target import LogWeight, Target
from slmc.numbers import count, finite
from slmc.systems.gauge.links import LinkMatrices, Links, check_lattice, planes, polyakov_lines, rectangle

RECTANGLE_COEFFICIENTS: dict[str, float] = {
    "Wilson": 0.0,
    "tree-level Symanzik": -1 / 12,
    "Iwasaki": -0.331,
    "DBW2": -1.4088,
}
"""c_1 by name: Wilson, PRD 10, 2445 (1974); Weisz, Nucl. Phys. B 212, 1 (1983); Iwasaki, UTHEP-118 (1983);
QCD-TARO, Nucl. Phys. B 577, 263 (2000)."""


class GaugeAction(Target):
    """Pure gauge theory: log W = −S_g on a periodic lattice of two to four dimensions.

        S_g = β Σ_x [ c_0 Σ_{μ<ν} (1 − Re tr U_μν(x)/N) + c_1 Σ_{μ≠ν} (1 − Re tr R_μν(x)/N) ],   c_0 = 1 − 8 c_1,

    U_μν the plaquette, R_μν the rectangle of two links along μ and one along ν. ``improvement`` names c_1
    (``RECTANGLE_COEFFICIENTS``). Raises ``ValueError`` for a lattice or an improvement that does not exist.
    """

    shape: Shape = eqx.field(static=True)
    n_colours: int = eqx.field(static=True)
    improvement: str = eqx.field(static=True)
    beta: Float[Array, ""]

    def __init__(self, shape: Shape, n_colours: int, beta: float, improvement: str = "Wilson") -> None:
        self.shape, self.n_colours = check_lattice(shape), check_colours(n_colours)
        if improvement not in RECTANGLE_COEFFICIENTS:
            raise ValueError(f"improvement must be one of {', '.join(RECTANGLE_COEFFICIENTS)}; got {improvement!r}.")
        self.improvement = improvement
        self.beta = jnp.asarray(finite(beta, "beta"), jnp.float64)

    @property
    def rectangle_coefficient(self) -> float:
        """c_1."""
        return RECTANGLE_COEFFICIENTS[self.improvement]

    def log_weight(self, links: Links) -> LogWeight:
        """−S_g of a gauge field."""
        u = as_matrices(links)
        c1 = self.rectangle_coefficient
        action = (1 - 8 * c1) * plaquette_deficit(u)
        if c1:
            action = action + c1 * rectangle_deficit(u)
        return -self.beta * action

    @property
    def plaquette_coupling(self) -> Float[Array, ""] | None:
        """The coefficient of the plaquettes if nothing else enters, as a heat bath needs."""
        return None if self.rectangle_coefficient else self.beta


class EffectiveAction(Target):
    """The effective action of self-learning Monte Carlo: Nagai, Tanaka, Tomiya, PRD 107, 054501 (2023), eq. (7).

        log W_eff = −β_plaq Σ_x Σ_{μ<ν} (1 − Re tr U_μν/N) − β_rect Σ_x Σ_{μ≠ν} (1 − Re tr R_μν/N)
                    − Σ_μ β_Pol^μ Σ Re tr Pol_μ − constant

    with Pol_μ the Polyakov line at every site transverse to μ, arXiv:2010.11900. ``rectangles`` and ``polyakov_loops``
    say which terms there are besides plaquettes; all coefficients start at zero. Linear in its parameters: fit it with
    ``slmc.selflearning.fit_linear`` on the manifold ``SpecialUnitary``.
    """

    shape: Shape = eqx.field(static=True)
    n_colours: int = eqx.field(static=True)
    plaquette: Float[Array, ""]
    rectangle: Float[Array, ""] | None
    polyakov: Float[Array, " direction"] | None
    constant: Float[Array, ""]

    def __init__(
        self, shape: Shape, n_colours: int, beta: float = 0.0, rectangles: bool = False, polyakov_loops: bool = False
    ) -> None:
        self.shape, self.n_colours = check_lattice(shape), check_colours(n_colours)
        self.plaquette = jnp.asarray(finite(beta, "beta"), jnp.float64)
        self.rectangle = jnp.zeros(()) if rectangles else None
        self.polyakov = jnp.zeros(len(shape)) if polyakov_loops else None
        self.constant = jnp.zeros(())

    def log_weight(self, links: Links) -> LogWeight:
        """−S_eff of a gauge field."""
        u = as_matrices(links)
        action = self.plaquette * plaquette_deficit(u) + self.constant
        if self.rectangle is not None:
            action = action + self.rectangle * rectangle_deficit(u)
        if self.polyakov is not None:
            loops = [jnp.sum(trace(polyakov_lines(u, mu)).real) for mu in range(len(self.shape))]
            action = action + jnp.sum(self.polyakov * jnp.stack(loops))
        return -action

    @property
    def plaquette_coupling(self) -> Float[Array, ""] | None:
        """The coefficient of the plaquettes if nothing else enters, as a heat bath needs."""
        return self.plaquette if self.rectangle is None and self.polyakov is None else None

    def on_lattice(self, shape: Shape) -> "EffectiveAction":
        """The same coefficients on another lattice. Raises ``ValueError`` for another number of dimensions."""
        if len(shape) != len(self.shape):
            raise ValueError(f"an effective action of {len(self.shape)} dimensions has no meaning in {len(shape)}.")
        like = EffectiveAction(
            shape, self.n_colours, rectangles=self.rectangle is not None, polyakov_loops=self.polyakov is not None
        )
        return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(self))


def plaquette_deficit(u: LinkMatrices) -> Float[Array, ""]:
    """Σ_x Σ_{μ<ν} (1 − Re tr U_μν/N)."""
    dimension, shape = u.shape[2], u.shape[3:]
    total = sum((jnp.sum(rectangle(u, mu, nu)) for mu, nu in planes(dimension)), jnp.zeros((), u.real.dtype))
    return dimension * (dimension - 1) / 2 * n_sites(shape) - total / len(u)


def rectangle_deficit(u: LinkMatrices) -> Float[Array, ""]:
    """Σ_x Σ_{μ≠ν} (1 − Re tr R_μν/N), two links along μ and one along ν."""
    dimension, shape = u.shape[2], u.shape[3:]
    pairs = [(mu, nu) for pair in planes(dimension) for mu, nu in (pair, pair[::-1])]
    total = sum((jnp.sum(rectangle(u, mu, nu, (2, 1))) for mu, nu in pairs), jnp.zeros((), u.real.dtype))
    return dimension * (dimension - 1) * n_sites(shape) - total / len(u)


def check_colours(n_colours: int) -> int:
    """Raises ``ValueError`` for fewer than two colours."""
    return count(n_colours, "n_colours, the N of SU(N),", 2)
