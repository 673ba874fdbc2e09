"""What runs of impurity models measure, and what is derived from it."""

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slmc.system import Derived, Observable, chosen_names
from slmc.systems.impurity.anderson import N_FREQUENCIES, Anderson

NAMES = (
    "spin_susceptibility",
    "order",
    "density",
    "double_occupancy",
    "double_occupancy_from_order",
    "magnetization",
    "green_half_beta",
    "self_energy",
)
HIDDEN = tuple(f"{name}_{part}" for name in ("bare", "measured", "product") for part in ("re", "im"))
"""What the self-energy at the lowest Matsubara frequency is derived from: G0, T and G0 T."""


def scalar_names(wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The observables to measure, checked. Raises ``ValueError`` for unknown ones."""
    return chosen_names(wanted, NAMES)


def impurity_observables(target: Anderson, names: tuple[str, ...]) -> tuple[Observable, ...]:
    """Those observables of a target, in this order; the slowest is the susceptibility."""
    beta, expansion, gamma = (float(value) for value in target.constants)
    interaction = float(target.interaction)
    about: dict[str, Observable] = {}

    def known(name: str, of_weight: Callable[[Mapping[str, Array]], Array], *words: str, slow: bool = False) -> None:
        description, short, mathtext, html = words
        about[name] = Observable(
            name,
            of_weight=of_weight,
            description=description,
            words=short,
            mathtext=mathtext,
            html=html,
            slow=slow,
            traced=slow,
        )

    known(
        "spin_susceptibility",
        partial(_susceptibility, beta=beta, scale=4 * (expansion * np.sinh(gamma)) ** 2),
        "∫ ⟨S^z(τ) S^z(0)⟩ dτ = β ⟨(Σ s)² − n⟩ / (2 K sinh γ)²",
        "spin susceptibility",
        r"$\chi_{zz}$",
        "<i>χ</i><sub>zz</sub>",
        slow=True,
    )
    known("order", lambda seen: seen["numbers"][0], "n, vertices", "order", "$n$", "<i>n</i>", slow=True)
    known("density", _density, "⟨n_↑ + n_↓⟩", "density", r"$\rho$", "<i>ρ</i>")
    known(
        "double_occupancy",
        lambda seen: seen["numbers"][4],
        "D = ⟨n_↑ n_↓⟩, by Wick's theorem at equidistant times",
        "double occupancy",
        "$D$",
        "<i>D</i>",
    )
    known(
        "double_occupancy_from_order",
        lambda seen: _density(seen) / 2 - (seen["numbers"][0] - expansion) / (beta * interaction),
        "D from ⟨n⟩ = K + βU (⟨n_↑ + n_↓⟩/2 − D)",
        "double occupancy from the order",
        "$D_n$",
        "<i>D<sub>n</sub></i>",
    )
    known(
        "magnetization",
        lambda seen: seen["numbers"][1] / (expansion * np.sinh(gamma)),
        "⟨n_↑ − n_↓⟩ = ⟨Σ s⟩ / (K sinh γ), which vanishes without a field",
        "magnetization",
        "$m$",
        "<i>m</i>",
    )
    known(
        "green_half_beta",
        lambda seen: jnp.mean(seen["green"][:, seen["green"].shape[1] // 2]),
        "g(β/2), which measures the spectral weight within T of the Fermi level",
        "Green function at β/2",
        r"$g(\beta/2)$",
        "<i>g</i>(<i>β</i>/2)",
    )
    chosen = [about[name] for name in names if name in about]
    if "self_energy" in names:
        chosen += [
            Observable(name, of_weight=partial(_part, place=place), description="of the self-energy", shown=False)
            for place, name in enumerate(HIDDEN)
        ]
    return tuple(chosen)


def impurity_fields() -> tuple[Observable, ...]:
    """Arrays of which block means are kept: all of g(τ), and what Σ(iω_n) is made of."""
    return (
        Observable(
            "green",
            of_weight=lambda seen: seen["green"],
            description="g_σ(τ) = ⟨d_σ(τ) d_σ†(0)⟩ at 33 equidistant times from 0⁺ to β⁻, block mean",
            words="Green function",
            mathtext=r"$g(\tau)$",
            html="<i>g</i>(<i>τ</i>)",
            axes=("spin", "time"),
            drawn="imaginary time",
        ),
        Observable(
            "moments",
            of_weight=lambda seen: seen["moments"],
            description="of T(τ), g = g0 + g0 ∗ T ∗ g0: the part at τ = 0, then Legendre moments; block mean",
            units="energy",
            words="moments of T",
            axes=("spin", "moment"),
        ),
        Observable(
            "frequencies",
            of_weight=lambda seen: seen["frequencies"],
            description=f"Re and Im of G0, of T and of G0 T at {N_FREQUENCIES} Matsubara frequencies, block mean",
            words="Matsubara frequencies",
            axes=("frequency", "part"),
        ),
    )


def derived_quantities(target: Anderson, names: tuple[str, ...]) -> tuple[Derived, ...]:
    """Σ at the lowest Matsubara frequency, and the quasi-particle weight from its slope."""
    if "self_energy" not in names:
        return ()
    first = np.pi / float(target.beta)
    quantities = (
        Derived(
            "self_energy_re",
            lambda series: _self_energy(series).real,
            HIDDEN[2:],
            units="energy",
            description="Re Σ(iω_0) − U/2",
            words="self-energy, real part",
            mathtext=r"Re $\Sigma(i\omega_0)$",
            html="Re <i>Σ</i>(i<i>ω</i><sub>0</sub>)",
        ),
        Derived(
            "self_energy_im",
            lambda series: _self_energy(series).imag,
            HIDDEN[2:],
            units="energy",
            description="Im Σ(iω_0), ω_0 = π/β",
            words="self-energy, imaginary part",
            mathtext=r"Im $\Sigma(i\omega_0)$",
            html="Im <i>Σ</i>(i<i>ω</i><sub>0</sub>)",
        ),
        Derived(
            "quasiparticle_weight",
            lambda series: 1 / (1 - _self_energy(series).imag / first),
            HIDDEN[2:],
            description="Z = 1/(1 − Im Σ(iω_0)/ω_0)",
            words="quasi-particle weight",
            mathtext="$Z$",
            html="<i>Z</i>",
        ),
    )
    # With particle–hole symmetry the real part vanishes in every configuration.
    return quantities[1:] if target.poles.symmetric else quantities


def _susceptibility(seen: Mapping[str, Array], beta: float, scale: float) -> Float[Array, ""]:
    order, spins = seen["numbers"][0], seen["numbers"][1]
    return beta * (spins**2 - order) / scale


def _density(seen: Mapping[str, Array]) -> Float[Array, ""]:
    return 2 - jnp.sum(seen["green"][:, 0])


def _part(seen: Mapping[str, Array], place: int) -> Float[Array, ""]:
    return seen["frequencies"][0, place]


def _self_energy(series: Mapping[str, np.ndarray]) -> complex:
    """−T/(1 − G0 T) of means."""
    re, im, product_re, product_im = (float(np.mean(series[name])) for name in HIDDEN[2:])
    return -complex(re, im) / (1 - complex(product_re, product_im))
