"""``slmc run`` with domain-wall fermions: what is recorded of the quarks, against dense overlap matrices."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import reference_gauge as reference
from slmc.runs import run
from slmc.simulation.records import Records
from slmc.system import UserError, validated
from slmc.systems.gauge import DomainWall, FermionDeterminant, FermionGuide, PseudofermionAction
from slmc.systems.gauge.gamma_matrices import gamma_matrices
from slmc.systems.gauge.observables import pion_correlator
from slmc.systems.gauge.problem import gauge
from slmc.systems.gauge.settings import GaugeRun

Slmc = Callable[..., tuple[int, str, str]]

BETA, MASS, HEIGHT, N_LAYERS, B, C = 1.2, 0.4, 1.6, 2, 1.5, 0.5
CONFIG = f"""
system = "gauge"
[target]
shape = [2, 2]
beta = {BETA}
fermions = "domain-wall"
mass = {MASS}
determinant = "pseudofermions"
[domain_wall]
height = {HEIGHT}
n_layers = {N_LAYERS}
b = {B}
c = {C}
[exact]
n_steps = 2
integrator = "omelyan"
tuning_steps = 30
[thermalisation]
n_steps = 20
[learning]
n_rounds = 0
[measurement]
n_chains = 4
n_steps = 300
block_size = 100
n_thermalise = 0
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    (place / "config.toml").write_text(CONFIG)
    run(place / "config.toml", out=place / "run", quiet=True)
    return place / "run"


def exact_averages() -> dict[str, tuple[float, float]]:
    """Averages with errors: draws of the gauge action weighted by |det D_ov|², quarks by dense inverses."""
    u = reference.weighted_draws(
        np.random.default_rng(1),
        lambda u: BETA * np.sum(reference.torus_plaquettes(u), (1, 2)),
        4 * BETA,
        (2, 2),
        2,
        6000,
    )
    gamma_5 = np.kron(np.eye(4), np.diag([1.0, 1.0, -1.0, -1.0]))
    overlap = reference.overlap_matrix(
        reference.wilson_kernel(u, HEIGHT, gamma_matrices(2)), gamma_5, MASS, N_LAYERS, B, C
    )
    quark = (np.linalg.inv(overlap) - np.eye(16)) / (1 - MASS)
    values = {
        "plaquette": reference.torus_plaquettes(u).mean((1, 2)),
        "condensate": np.trace(quark, axis1=-2, axis2=-1).real / 4,
        "pion_susceptibility": (abs(quark) ** 2).sum((1, 2)) / 4,
    }
    weights = abs(np.linalg.det(overlap)) ** 2
    weights /= weights.sum()
    means = {name: float(weights @ value) for name, value in values.items()}
    return {name: (mean, float(np.linalg.norm(weights * (values[name] - mean)))) for name, mean in means.items()}


def test_quarks_are_those_of_the_overlap_operator(slmc: Slmc, finished: Path) -> None:
    """Condensate, pion susceptibility, residual mass, and the correlator that sums to it."""
    found = json.loads(slmc("info", finished, "--json")[1])["observables"]
    exact = exact_averages()
    for name, (value, error) in exact.items():
        both = np.hypot(error, found[name]["error"])
        assert found[name]["value"] == pytest.approx(value, abs=4 * both), name
        assert both < 0.03 * max(1, abs(value)), name
    expected = exact["condensate"][0] / exact["pion_susceptibility"][0] - MASS
    assert found["residual_mass"]["value"] == pytest.approx(expected, abs=4 * found["residual_mass"]["error"])
    assert found["residual_mass"]["error"] < 0.02
    series = Records(finished / "records.zarr").read("measurement")
    assert series["pion_correlator"].shape == (4, 300, 2)
    np.testing.assert_allclose(series["pion_correlator"].sum(-1), series["pion_susceptibility"], rtol=1e-12)
    assert "residual mass" in (finished / "report.html").read_text()


def test_the_same_walls_everywhere() -> None:
    """Exact determinant, pseudofermions and a guide of fewer layers have Pauli–Villars fields; fields reach them."""
    target = {"shape": (2, 2), "fermions": "domain-wall", "mass": 0.2}
    walls = {"n_layers": 4, "height": 1.5, "b": 1.5, "c": 0.5}
    exact = gauge(validated({"target": target, "domain_wall": walls}, GaugeRun)).target
    assert isinstance(exact, FermionDeterminant)
    settings = {
        "target": {**target, "determinant": "pseudofermions"},
        "domain_wall": walls,
        "guide": {"smearing": "none", "n_wall_layers": 2},
    }
    problem = gauge(validated(settings, GaugeRun))
    assert isinstance(problem.target, PseudofermionAction)
    assert isinstance(problem.model, FermionGuide)
    guide = problem.model.fermions
    for owner, n_layers in ((exact, 4), (problem.target, 4), (guide, 2)):
        operator, below = owner.operator, owner.denominator
        assert isinstance(operator, DomainWall)
        assert isinstance(below, DomainWall)
        assert (operator.n_layers, below.n_layers) == (n_layers, n_layers)
        assert (float(operator.mass), float(below.mass)) == (0.2, 1.0)
        assert (float(operator.height), float(operator.b), float(operator.c)) == (1.5, 1.5, 0.5)


def test_other_fermions_have_a_pion_where_it_is_asked_for() -> None:
    target = {"shape": (2, 2), "fermions": "wilson", "kappa": 0.1}
    assert "pion_correlator" not in gauge(validated({"target": target}, GaugeRun)).described
    wanted = {"observables": ("plaquette", "pion_correlator")}
    problem = gauge(validated({"target": target, "measurement": wanted}, GaugeRun))
    links = problem.start(jax.random.key(0), 2)[0]
    found = jax.jit(problem.described["pion_correlator"].of_configuration)(links)
    np.testing.assert_allclose(found, pion_correlator(problem.target.operator, links), rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": {"fermions": "domain-wall"}}, "mass is missing"),
        ({"target": {"fermions": "domain-wall", "mass": 0.1, "kappa": 0.1}}, "kappa has no meaning"),
        (
            {"domain_wall": {"n_layers": 4}},
            'domain_wall.n_layers has no effect without target.fermions = "domain-wall"',
        ),
        ({"target": {"fermions": "domain-wall", "mass": 0.1}, "domain_wall": {"height": 2.5}}, "domain_wall.height"),
        (
            {"target": {"fermions": "domain-wall", "mass": 0.1, "determinant": "pseudofermions", "n_flavours": 1}},
            "even numbers of domain-wall flavours alone",
        ),
        ({"measurement": {"observables": ("pion_susceptibility",)}}, "unknown"),
    ],
)
def test_walls_that_make_no_sense_are_told(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        validated(settings, GaugeRun)
