"""How fermions are named in configurations: of a run, of its guide, of what is measured on files."""

from typing import Any, Literal, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt

from slmc.lattice import Shape
from slmc.system import Settings
from slmc.systems.gauge.domain_wall import DomainWall
from slmc.systems.gauge.fermion_operator import FermionOperator
from slmc.systems.gauge.staggered_fermion import Staggered
from slmc.systems.gauge.wilson_fermion import Wilson

FermionName = Literal["none", "staggered", "wilson", "domain-wall"]
FERMION_WORDS = '"none", "staggered", "wilson" or "domain-wall"'


class _About(NamedTuple):
    """What the number of a kind of fermions is called, a value to try, and the word for its flavours."""

    number: str
    example: float
    words: str


FERMIONS = {
    "staggered": _About("mass", 0.1, "staggered"),
    "wilson": _About("kappa", 0.1, "Wilson"),
    "domain-wall": _About("mass", 0.1, "domain-wall"),
}


class WallSettings(Settings):
    """The fifth dimension of domain-wall fermions."""

    height: float = Field(
        1.8, gt=0, lt=2, description="M_5, the height of the wall", json_schema_extra={"symbol": "M5"}
    )
    n_layers: PositiveInt = Field(
        8, description="extent L_s of the fifth dimension", json_schema_extra={"symbol": "Ls"}
    )
    b: PositiveFloat = Field(1.0, description="of Möbius fermions; 1 with c = 0 are Shamir's")
    c: float = Field(0.0, ge=0, description="of Möbius fermions; b = 1.5 and c = 0.5 need fewer layers")


def check_fermions(settings: Any) -> None:
    """Raises ``ValueError`` unless ``settings`` give the number that its ``fermions`` need, and no other."""
    about = FERMIONS.get(settings.fermions)
    for name in ("mass", "kappa"):
        given, needed = getattr(settings, name) is not None, about is not None and about.number == name
        if about is not None and needed and not given:
            raise ValueError(
                f'{name} is missing: fermions = "{settings.fermions}" needs it, for instance {name} = {about.example}'
            )
        if given and not needed:
            raise ValueError(f'{name} has no meaning with fermions = "{settings.fermions}"; leave it out')


def operator_of(settings: Any, shape: Shape, n_colours: int, wall: WallSettings) -> FermionOperator | None:
    """The Dirac operator that ``settings`` with fermions, mass and kappa describe; ``None`` without fermions."""
    if settings.fermions == "domain-wall":
        return DomainWall(shape, n_colours, settings.mass, wall.height, wall.n_layers, wall.b, wall.c)
    if settings.fermions == "wilson":
        return Wilson(shape, n_colours, settings.kappa)
    return Staggered(shape, n_colours, settings.mass) if settings.fermions == "staggered" else None
