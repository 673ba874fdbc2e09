"""How numbers and observables are written: 0.5352(13), |m_st|²."""

import math
from typing import NamedTuple

from slmc.statistics import notation


class Symbol(NamedTuple):
    """An observable as it is written in figures (mathtext), in the page (HTML), and in words."""

    mathtext: str
    html: str
    words: str


SYMBOLS = {
    "log_weight": Symbol(r"$\log W$", "log <i>W</i>", "exact log-weight"),
    "magnetization": Symbol(r"$|m|$", "|<i>m</i>|", "magnetization"),
    "magnetization_squared": Symbol(r"$m^2$", "<i>m</i><sup>2</sup>", "magnetization squared"),
    "staggered_magnetization": Symbol(r"$|m_{\mathrm{st}}|$", "|<i>m</i><sub>st</sub>|", "staggered magnetization"),
    "staggered_magnetization_squared": Symbol(
        r"$m_{\mathrm{st}}^2$", "<i>m</i><sub>st</sub><sup>2</sup>", "staggered magnetization squared"
    ),
    "binder_magnetization": Symbol(
        r"$\langle m^4\rangle/\langle m^2\rangle^2$", "⟨<i>m</i><sup>4</sup>⟩/⟨<i>m</i><sup>2</sup>⟩²", "Binder ratio"
    ),
    "binder_staggered_magnetization": Symbol(
        r"$\langle m_{\mathrm{st}}^4\rangle/\langle m_{\mathrm{st}}^2\rangle^2$",
        "⟨<i>m</i><sub>st</sub><sup>4</sup>⟩/⟨<i>m</i><sub>st</sub><sup>2</sup>⟩²",
        "staggered Binder ratio",
    ),
    "energy": Symbol(r"$e$", "<i>e</i>", "energy per site"),
    "density": Symbol(r"$n$", "<i>n</i>", "electrons per site"),
    "grand_energy": Symbol(r"$k$", "<i>k</i>", "energy less μ times particles"),
    "energy_variance": Symbol(r"$\sigma_k^2$", "<i>σ</i><sub><i>k</i></sub><sup>2</sup>", "quantum variance of k"),
    "specific_heat": Symbol(r"$c$", "<i>c</i>", "specific heat per site"),
    "plaquette": Symbol(r"$P$", "<i>P</i>", "plaquette"),
    "rectangle": Symbol(r"$R$", "<i>R</i>", "rectangle"),
    "polyakov_loop": Symbol(r"$\mathrm{Re}\,L$", "Re <i>L</i>", "Polyakov loop"),
    "polyakov_loop_modulus": Symbol(r"$|L|$", "|<i>L</i>|", "modulus of the Polyakov loop"),
    "polyakov_loop_squared": Symbol(r"$|L|^2$", "|<i>L</i>|<sup>2</sup>", "its square"),
    "polyakov_loop_fourth_power": Symbol(r"$|L|^4$", "|<i>L</i>|<sup>4</sup>", "its fourth power"),
    "polyakov_susceptibility": Symbol(r"$\chi_L$", "<i>χ<sub>L</sub></i>", "susceptibility of the Polyakov loop"),
    "binder_polyakov_loop": Symbol(
        r"$\langle |L|^4\rangle/\langle |L|^2\rangle^2$",
        "⟨|<i>L</i>|<sup>4</sup>⟩/⟨|<i>L</i>|<sup>2</sup>⟩<sup>2</sup>",
        "Binder ratio of the Polyakov loop",
    ),
    "condensate": Symbol(r"$\bar\psi\psi$", "<i>ψ̄ψ</i>", "chiral condensate"),
}


def symbol(name: str) -> Symbol:
    """The symbol of an observable; its own name where the field has none."""
    words = name.replace("_", " ")
    return SYMBOLS.get(name, Symbol(words, "", words))


def concise(value: float | int | None, error: float | int | None = None) -> str:
    """A value with its error in the last two digits, 0.5352(13), or a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return notation(float(value), None if error is None else float(error)).replace("-", "−")


def plain(value: float | int | None, digits: int = 3) -> str:
    """A number to a few digits, large ones whole with thin spaces: 0.0421, 14 000."""
    if value is None or not math.isfinite(value):
        return "–"
    if 1e7 > abs(value) >= 10**digits:
        value = value if abs(value) >= 1000 else float(f"{value:.{digits}g}")
        return f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def duration(seconds: float | int) -> str:
    """Wall time as one would say it: 8.2 s, 14 min, 3.1 h."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
