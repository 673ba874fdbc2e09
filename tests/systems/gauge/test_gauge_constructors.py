"""Constructors of gauge theory refuse in one sentence what configuration files refuse."""

import math

import pytest

from slmc.systems.gauge import (
    EffectiveAction,
    FermionDeterminant,
    GaugeAction,
    PseudofermionAction,
    PseudofermionTrajectory,
    Solver,
    Staggered,
    StoutSmearing,
    Wilson,
)
from slmc.systems.gauge.rational import rational_power

pytestmark = pytest.mark.usefixtures("as_users_call")

PLAQUETTES, OPERATOR = GaugeAction((2, 2), 2, 1.0), Staggered((2, 2), 2, 0.5)
PSEUDOFERMIONS = PseudofermionAction(PLAQUETTES, OPERATOR)

REFUSED = {
    "colours": (lambda: GaugeAction((2, 2), 2.5, 1.0), "must be a whole number; got 2.5"),
    "one colour": (lambda: GaugeAction((2, 2), 1, 1.0), "the N of SU(N), must be at least 2"),
    "beta": (lambda: GaugeAction((2, 2), 2, math.nan), "beta must be finite"),
    "effective beta": (lambda: EffectiveAction((2, 2), 2, math.inf), "beta must be finite"),
    "smearing": (lambda: StoutSmearing(weights=math.nan), "weights must be finite"),
    "smearing layers": (lambda: StoutSmearing(0), "n_layers must be at least 1"),
    "mass": (lambda: Staggered((2, 2), 2, math.inf), "mass of a staggered fermion must be finite"),
    "kappa": (lambda: Wilson((2, 2), 2, -0.1), "hopping parameter κ must be positive"),
    "flavours": (lambda: FermionDeterminant(PLAQUETTES, OPERATOR, math.nan), "n_flavours must be finite"),
    "flavours of a field": (lambda: PseudofermionAction(PLAQUETTES, OPERATOR, math.inf), "n_flavours must be finite"),
    "tolerance": (lambda: Solver(math.nan), "tolerance must be finite"),
    "iterations": (lambda: Solver(max_iterations=0), "max_iterations must be at least 1"),
    "power": (lambda: rational_power(math.nan, 0.1, 1.0), "power must be finite"),
    "range": (lambda: rational_power(0.5, 0.1, math.inf), "must be 0 < lower < upper"),
    "pseudofermion steps": (lambda: PseudofermionTrajectory(PSEUDOFERMIONS, 0.1, 0), "n_steps must be at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_sentence(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match="^[^\n]*" + words.replace("(", r"\(").replace(")", r"\)")):
        make()
