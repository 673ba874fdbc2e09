"""``slmc run`` with pseudofermions: exact updates alone, and conjugate gradients that give up."""

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import reference_gauge as reference
from killing import killed_before_checkpoint
from slmc.cli import app
from slmc.montecarlo import Sequence
from slmc.runs import run as slmc_run
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.records import Records
from slmc.system import UserError, load_model, validated, with_fields
from slmc.systems.gauge import FermionGuide, PseudofermionAction, Solver
from slmc.systems.gauge.problem import gauge
from slmc.systems.gauge.settings import GaugeRun, build_like

Slmc = Callable[..., tuple[int, str, str]]

GAUGE = """
system = "gauge"
seed = 3
[target]
shape = [2, 2]
beta = 1.2
fermions = "staggered"
mass = 0.4
determinant = "pseudofermions"
[pseudofermions]
max_iterations = 50
[exact]
n_steps = 3
tuning_steps = 60
[thermalisation]
n_steps = 50
[learning]
n_rounds = 0
[measurement]
n_chains = 4
n_steps = 1000
block_size = 250
n_thermalise = 0
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    (place / "config.toml").write_text(GAUGE)
    app(["run", str(place / "config.toml"), "--out", str(place / "run"), "-q"], standalone_mode=False)
    return place / "run"


@pytest.fixture(scope="module")
def exact() -> dict[str, tuple[float, float]]:
    """Averages with the exact determinant, with errors: independent draws of the gauge action, weighted by det M."""
    rng = np.random.default_rng(1)
    u = reference.weighted_draws(
        rng, lambda u: 1.2 * np.sum(reference.torus_plaquettes(u), (1, 2)), 4 * 1.2, (2, 2), 2, 6000
    )
    matrices = reference.staggered_matrices(u, 0.4)
    loops = np.trace(u[:, 1, :, 0] @ u[:, 1, :, 1], axis1=-2, axis2=-1).real.mean(1) / 2
    values = {
        "plaquette": reference.torus_plaquettes(u).mean((1, 2)),
        "polyakov_loop": loops,
        "polyakov_loop_modulus": abs(loops),
        "polyakov_loop_squared": loops**2,
        "polyakov_loop_fourth_power": loops**4,
        "condensate": np.trace(np.linalg.inv(matrices), axis1=-2, axis2=-1).real / 4,
    }
    weights = np.linalg.det(matrices).real
    weights /= weights.sum()
    means = {name: float(weights @ value) for name, value in values.items()}
    return {name: (mean, float(np.linalg.norm(weights * (values[name] - mean)))) for name, mean in means.items()}


def summary(slmc: Slmc, directory: Path) -> dict:
    code, out, _ = slmc("info", directory, "--json")
    assert code == 0
    return json.loads(out)


def test_pseudofermions_agree_with_the_determinant(slmc: Slmc, finished: Path, exact: dict) -> None:
    """In every observable, with errors small enough for that to mean something."""
    found = summary(slmc, finished)["observables"]
    assert set(exact) < set(found)
    for name, (value, error) in exact.items():
        both = np.hypot(error, found[name]["error"])
        assert found[name]["value"] == pytest.approx(value, abs=4 * both), name
        assert both < 0.02, name
    assert found["condensate"]["error"] < 0.02 * found["condensate"]["value"]


GUIDED = {
    "guide.smearing": "stout",
    "guide.mass": 0.8,
    "guide.n_layers": 1,
    "guide.loops": ["plaquette"],
    "guide.couplings": ["plaquette", "temporal Polyakov"],
    "inner.n_steps": 2,
    "inner.acceptance": 0.95,
    "exact.integrator": "omelyan",
    "exact.n_steps": 2,
    "learning.n_rounds": 2,
    "learning.n_steps": 16,
    "measurement.n_steps": 500,
    "measurement.block_size": 125,
    "baseline.n_steps": 125,
}


@pytest.fixture(scope="module")
def guided(finished: Path) -> Path:
    slmc_run(finished.parent / "config.toml", GUIDED, finished.parent / "guided", quiet=True)
    return finished.parent / "guided"


def test_a_guide_that_is_learned_samples_the_same(slmc: Slmc, guided: Path, exact: dict) -> None:
    """SLHMC from a configuration: the answer is that of the determinant, the report tells what the guide is worth."""
    found = summary(slmc, guided)
    for name, (value, error) in exact.items():
        both = np.hypot(error, found["observables"][name]["error"])
        assert found["observables"][name]["value"] == pytest.approx(value, abs=4 * both), name
        assert both < 0.04, name
    assert [stage["n_parameters"] for stage in found["stages"]] == [0, 1, 4]
    untrained, smeared, everything = (stage["residual"] for stage in found["stages"])
    assert everything < 0.8 * untrained
    assert everything <= smeared <= untrained
    assert found["acceptance"] > found["stages"][0]["expected_acceptance"]
    assert found["acceptance"] == pytest.approx(found["expected_acceptance"], abs=0.12)
    assert found["force_cost"] > 0
    assert found["baseline"]["ess_per_second"] > 0
    # A trajectory of the guide costs two exact weights: that of the refreshed field and that of the end.
    hmc = 2 + 2 * 2
    assert found["exact_evaluations"] == {
        "learning": 4 * hmc * (60 + 50) + 4 * 16 * (hmc + 2),
        "measurement": 4 * 500 * 2,
    }
    printed = slmc("info", guided)[1]
    assert "guide with 4 numbers fitted: residual s" in printed
    assert "a force of the guide costs" in printed
    assert "A force of the guide costs" in (guided / "report.html").read_text()
    model = load_model(guided / "model.eqx", build_like)
    assert isinstance(model, FermionGuide)
    assert model.fermions.operator.mass == 0.8
    assert np.all(np.asarray(model.gauge.couplings) != 0)


def test_a_guided_run_is_resumed_to_the_same_bits(tmp_path: Path, guided: Path) -> None:
    """Interrupted while it learns, and in the measurement; half as long, it is the first half of the other."""
    out, half = tmp_path / "run", GUIDED | {"measurement.n_steps": 250, "baseline.n_steps": 0}
    with killed_before_checkpoint(4):
        slmc_run(guided.parent / "config.toml", half, out, quiet=True)
    with killed_before_checkpoint(7):
        app(["resume", str(out), "-q"], standalone_mode=False)
    app(["resume", str(out), "-q"], standalone_mode=False)
    found, whole = records_of(out), records_of(guided)
    assert found["measurement/plaquette"].shape == (4, 250)
    assert {name for name in whole if "baseline" not in name} == set(found)
    for name, values in found.items():
        same = whole[name][:, :250] if name.startswith("measurement") else whole[name]
        np.testing.assert_array_equal(values, same, err_msg=name)
    assert (out / "model.eqx").read_bytes() == (guided / "model.eqx").read_bytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"guide.mass": 0.8}, "guide.loops and guide.couplings have no effect without guide.smearing"),
        ({"learning.n_rounds": 0}, "have no effect in a run without a model"),
        ({"guide.kappa": 0.1}, 'guide.kappa has no effect with target.fermions = "staggered"'),
        ({"guide.n_wall_layers": 4}, 'guide.n_wall_layers has no effect with target.fermions = "staggered"'),
        ({"guide.smearing": "none"}, 'guide.n_layers and guide.loops have no effect with guide.smearing = "none"'),
        ({"guide.loops": ["square"]}, "guide.loops"),
        ({"guide.couplings": ["plaquette", "plaquette"]}, "each loop may be named once"),
        ({"inner.n_updates": 3}, "inner.n_updates has no effect with a guide"),
        ({"model.rectangles": False}, "model.rectangles has no effect with a guide"),
        ({"learning.force_weight": 1.0}, "learning.force_weight has no effect with a guide"),
        ({"guide.smearing": "cask", "guide.n_layers": 6}, "makes 48 trajectories to fit the 27 numbers of the guide"),
        ({"target.determinant": "exact", "pseudofermions.max_iterations": 2000}, "a guide drives trajectories with"),
    ],
)
def test_a_guide_that_makes_no_sense_is_told(settings: dict, words: str) -> None:
    wanted = (
        {name: value for name, value in GUIDED.items() if name != "guide.smearing"}
        if "guide.mass" in settings
        else GUIDED
    )
    with pytest.raises(UserError) as told:
        validated(with_fields(tomllib.loads(GAUGE), {**wanted, **settings}), GaugeRun)
    assert words in str(told.value)


def test_what_is_recorded_is_the_decision_of_the_trajectory(slmc: Slmc, finished: Path) -> None:
    series = Records(finished / "records.zarr").read("measurement")
    assert set(np.unique(series["accepted"])) == {0.0, 1.0}
    assert summary(slmc, finished)["acceptance"] == pytest.approx(series["accepted"].mean())
    # In equilibrium the ratio averages to one; a refreshed pseudofermion would be accepted with log r = 0.
    ratio = np.exp(series["log_ratio"])
    assert ratio.std() > 0.1
    assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / np.sqrt(ratio.size))
    assert np.all(series["log_ratio"][series["accepted"] == 0] < 0)


def test_nothing_about_learning_is_shown(slmc: Slmc, finished: Path) -> None:
    directory = finished
    found = summary(slmc, directory)
    assert found["phase"] == "done"
    assert found["seconds"].keys() == {"exact_weight", "other"}
    assert not {"residual", "expected_acceptance", "inner_chain", "baseline"} & set(found)
    # Three kicks and the weight, and the weight of the refreshed pseudofermion.
    assert found["exact_evaluations"] == {"thermalisation": 4 * (60 + 50) * 5, "measurement": 4 * 1000 * 5}
    assert found["ess_per_exact_evaluation"] > 0
    assert not (directory / "model.eqx").exists()
    _, printed, _ = slmc("info", directory)
    (directory / "report.html").unlink()
    assert slmc("report", directory)[0] == 0
    page = (directory / "report.html").read_text().replace("frozen = false", "")  # one of the settings
    for word in ("acceptance", "verdict", "condensate"):
        assert word in printed
        assert word in page
    for word in ("residual", "erfc", "inner chain", "inner_chain", "proposals", "frozen", "Self-learning", "Learning"):
        assert word not in printed
        assert word not in page
    stored = tomllib.loads((directory / "config.toml").read_text())
    assert not {"model", "inner", "baseline"} & set(stored)
    assert stored["pseudofermions"] == {"n_gauge_steps": 0, "solver_tolerance": 1e-10, "max_iterations": 50}


def records_of(directory: Path) -> dict[str, np.ndarray]:
    records = Records(directory / "records.zarr")
    groups = {group: records.read(group) for group in ("thermalisation", "learning", "measurement", "baseline")}
    return {f"{group}/{name}": values for group, found in groups.items() for name, values in found.items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert set(one) == set(other)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_out_of_iterations_in_mid_measurement_it_goes_on_to_the_same_bits(
    slmc: Slmc, tmp_path: Path, finished: Path
) -> None:
    """A run killed between records and checkpoint, resumed with too few iterations, then with enough of them."""
    cut = tmp_path / "cut"
    shutil.copytree(finished, cut)
    shutil.rmtree(cut / "checkpoints" / "000007")
    stored, numbers = (cut / "config.toml").read_text(), Checkpoints(cut / "checkpoints", "", "").numbers()
    (cut / "config.toml").write_text(stored.replace("max_iterations = 50", "max_iterations = 1"))
    command = [sys.executable, "-m", "slmc.cli", "resume", str(cut)]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2
    sentence = failed.stderr.strip()
    assert "\n" not in sentence
    assert sentence.startswith("error: conjugate gradients did not reach a relative residual of 1e-10 in 1 iterations")
    for word in ("raise max_iterations", "larger tolerance", "larger mass", f"slmc resume {cut} goes on"):
        assert word in sentence
    assert sentence.count(".") == str(cut).count(".") + 1
    assert Checkpoints(cut / "checkpoints", "", "").numbers() == numbers
    half = records_of(cut)
    assert half["measurement/plaquette"].shape == (4, 750)
    assert_same(half, {name: values[:, : half[name].shape[1]] for name, values in records_of(finished).items()})
    assert summary(slmc, cut)["phase"] == "measure"
    assert "plaquette" in slmc("info", cut)[1]
    assert slmc("report", cut)[0] == 0

    (cut / "config.toml").write_text(stored.replace("solver_tolerance = 1e-10", "solver_tolerance = 1e-8"))
    code, _, err = slmc("resume", cut)
    assert code == 2
    assert "was changed since the run began" in " ".join(err.split())
    assert "pseudofermions.max_iterations" in err
    (cut / "config.toml").write_text(stored)
    assert slmc("resume", cut, "-q")[0] == 0
    assert_same(records_of(finished), records_of(cut))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["exact.every=2"], "exact.every has no effect in a run without a model (learning.n_rounds = 0); leave it out"),
        (["baseline.n_steps=10", "exact.every=2"], "exact.every and baseline.n_steps have no effect"),
        (["model.file='model.eqx'", "inner.n_updates=3"], "model.file and inner.n_updates have no effect"),
        (["learning.n_steps=7", "model.rectangles=false"], "model.rectangles and learning.n_steps have no effect"),
        (["learning.n_rounds=2"], "needs learning.n_rounds = 0"),
        (["learning.n_rounds=-1"], "learning.n_rounds = -1 is not allowed"),
        (["exact.update='local'"], 'determinant = "pseudofermions" needs exact.update = "hmc"'),
        (
            ["target.determinant='exact'", "pseudofermions.max_iterations=9"],
            "pseudofermions.max_iterations has no effect without target.determinant",
        ),
        (["target.determinant='exakt'"], "target.determinant = 'exakt' is not allowed"),
        (["target.fermions='none'"], "no meaning with fermions"),
        (["pseudofermions.max_iterations=0"], "pseudofermions.max_iterations = 0 is not allowed"),
        (["pseudofermions.solver_tolerance=0.1"], "pseudofermions.solver_tolerance = 0.1 is not allowed"),
        (["target.mass=1e-6", "target.n_flavours=3"], "target.n_flavours = 3: no rational approximation"),
    ],
)
def test_what_has_no_meaning_is_told(slmc: Slmc, tmp_path: Path, settings: list[str], words: str) -> None:
    config, out = tmp_path / "config.toml", tmp_path / "run"
    config.write_text(GAUGE)
    code, _, err = slmc("run", config, "--out", out, *[f"--set={one}" for one in settings])
    assert code == 2
    assert words in " ".join(err.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ('determinant = "pseudofermions"', 'needs fermions = "staggered", "wilson" or "domain-wall"'),
        (
            'determinant = "pseudofermions"\nfermions = "wilson"\nkappa = 0.1\nn_flavours = 1',
            "even numbers of Wilson flavours alone",
        ),
    ],
)
def test_fermions_without_pseudofermions_are_told(slmc: Slmc, tmp_path: Path, target: str, words: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'system = "gauge"\n[target]\n{target}\n[learning]\nn_rounds = 0\n')
    code, _, err = slmc("run", config, "--out", tmp_path / "run")
    assert code == 2
    assert words in " ".join(err.split())


def test_time_scales_and_rational_functions_come_from_the_file() -> None:
    target = {"shape": (2, 2), "fermions": "staggered", "mass": 0.4, "n_flavours": 3, "determinant": "pseudofermions"}
    given = {"n_gauge_steps": 2, "solver_tolerance": 1e-8, "max_iterations": 77}
    settings = {"target": target, "pseudofermions": given, "learning": {"n_rounds": 0}}
    problem = gauge(validated(settings, GaugeRun))
    action, update = problem.target, problem.exact(problem.target)
    assert isinstance(action, PseudofermionAction)
    assert isinstance(update, Sequence)
    assert (action.power, action.solver) == (0.75, Solver(1e-8, 77))
    assert 0 < action.rational_error < 1e-11
    assert update.updates[1].proposal.n_gauge_steps == 2
    assert problem.start(jax.random.key(0), 3).links.shape[0] == 3


def test_checkpoints_from_before_there_were_pseudofermions_are_known(tmp_path: Path) -> None:
    """The digest that they carry is that of the settings of their time, in their order."""
    free = {"title": True, "measurement": {"n_steps", "wanted_error", "wall_time"}, "baseline": {"n_steps"}}
    links = validated({"target": {"shape": (2, 2), "fermions": "staggered", "mass": 0.5}}, GaugeRun)
    data = json.loads(links.model_dump_json(exclude=free))
    del data["target"]["determinant"], data["pseudofermions"], data["scan"], data["inner"]["proposal"]
    del data["guide"], data["domain_wall"], data["measurement"]["configurations"], data["measurement"]["every"]
    del data["measurement"]["keep_every"], data["frozen"]
    before = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    assert links.identity == hashlib.sha256(before.encode()).hexdigest()
    for changed in ({"mass": 0.6}, {"mass": 0.5, "determinant": "pseudofermions"}):
        other = {"target": {"shape": (2, 2), "fermions": "staggered"} | changed, "learning": {"n_rounds": 0}}
        assert validated(other, GaugeRun).identity != links.identity
