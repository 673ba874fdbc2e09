"""``slmc run`` with gauge theory: from file to report, interruptions, every wrong field in one sentence."""

import json
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

from killing import assert_same_run, killed_before_checkpoint, stopped_at
from slmc import runs
from slmc.montecarlo import Label, MetropolisHastings, init_chains, run_chains
from slmc.selflearning import CumulativeUpdate
from slmc.simulation import read_toml
from slmc.simulation.records import Records
from slmc.system import UserError, load_model, save_model, system_names, validated
from slmc.systems.gauge import EffectiveAction, random_links, unit_links, write_ildg, write_nersc
from slmc.systems.gauge.problem import gauge
from slmc.systems.gauge.settings import GaugeRun, build_like, describe

Slmc = Callable[..., tuple[int, str, str]]

TINY = [
    "--set=target.shape=[2,2]",
    "--set=exact.n_steps=2",
    "--set=exact.integrator=leapfrog",
    "--set=exact.tuning_steps=10",
    "--set=thermalisation.n_steps=10",
    "--set=inner.n_updates=2",
    "--set=inner.n_steps=2",
    "--set=inner.integrator=leapfrog",
    "--set=learning.n_rounds=1",
    "--set=learning.n_steps=20",
    "--set=measurement.n_steps=40",
    "--set=measurement.n_thermalise=20",
    "--set=measurement.block_size=20",
    "--set=baseline.n_steps=20",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from slmc.cli import app

    directory = tmp_path_factory.mktemp("finished") / "run"
    app(["run", "gauge_small", "--out", str(directory), "-q", *TINY], standalone_mode=False)
    return directory


def sentence(text: str) -> str:
    return " ".join(text.split())


def test_a_run_and_what_it_tells(slmc: Slmc, finished: Path) -> None:
    code, out, _ = slmc("info", finished, "--json")
    found = json.loads(out)
    names = {"plaquette", "rectangle", "polyakov_loop", "polyakov_loop_modulus", "polyakov_loop_squared"}
    names |= {"polyakov_loop_fourth_power", "condensate"}
    assert code == 0
    assert found["phase"] == "done"
    assert set(found["observables"]) == names | {"polyakov_susceptibility", "binder_polyakov_loop"}
    assert set(found["baseline"]["observables"]) == set(found["observables"])
    assert found["figure_of_merit"] == "polyakov_loop"
    assert 0 < found["acceptance"] <= 1
    assert found["found"] == {}
    # Two forces and the weight; tuning, thermalising and the first round are exact.
    assert found["exact_evaluations"] == {"learning": 4 * (3 * (10 + 10 + 20) + 20), "measurement": 4 * 40}
    assert "condensate" in slmc("info", finished)[1]
    stored = tomllib.loads((finished / "config.toml").read_text())
    assert stored["target"]["improvement"] == "Wilson"
    assert "scan" not in stored


def test_the_moments_belong_to_the_same_loop(finished: Path) -> None:
    series = Records(finished / "records.zarr").read("measurement")
    modulus = series["polyakov_loop_modulus"]
    np.testing.assert_allclose(series["polyakov_loop_squared"], modulus**2, atol=1e-14)
    np.testing.assert_allclose(series["polyakov_loop_fourth_power"], modulus**4, atol=1e-14)
    np.testing.assert_allclose(np.abs(series["polyakov_loop"]), modulus, atol=1e-14)  # SU(2): L is real
    derived = gauge(validated(read_toml(finished / "config.toml"), GaugeRun)).estimates(series)
    assert derived["polyakov_susceptibility"].value == pytest.approx(2 * modulus.var())


def test_the_report_speaks_of_links(slmc: Slmc, finished: Path) -> None:
    (finished / "report.html").unlink()
    assert slmc("report", finished)[0] == 0
    page = (finished / "report.html").read_text()
    assert "chiral condensate" in page or "tr M⁻¹/V" in page
    for word in ("spin", "magnetization", "Structure factor", "structure factor"):
        assert word not in page


def test_killed_and_resumed_it_gives_the_same_bits(tmp_path: Path, finished: Path) -> None:
    """By the system while learning; then between records and checkpoint while measuring, and in the baseline."""
    from slmc.cli import app

    directory = tmp_path / "run"
    marker = directory / "checkpoints" / "000002"
    assert stopped_at(marker, "run", "gauge_small", "--out", directory, "-q", *TINY)[0] == -signal.SIGKILL
    command = ["resume", str(directory), "-q"]
    for fatal in (5, 8):
        with killed_before_checkpoint(fatal):
            app(command, standalone_mode=False)
    app(command, standalone_mode=False)
    assert_same_run(finished, directory)


def test_a_stored_action_is_kept_as_it_is(slmc: Slmc, tmp_path: Path, finished: Path) -> None:
    out, model = tmp_path / "run", finished / "model.eqx"
    few = ["--set=measurement.n_steps=20", "--set=baseline.n_steps=0", f"--set=model.file={model}"]
    assert slmc("run", "gauge_small", "--out", out, "-q", *TINY, *few)[0] == 0
    before, after = (load_model(path, build_like) for path in (model, out / "model.eqx"))
    assert before.plaquette != 0
    for name in ("plaquette", "rectangle", "polyakov"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert (out / "start.eqx").read_bytes() == model.read_bytes()


def test_a_heat_bath_of_the_fitted_coupling_is_always_accepted() -> None:
    """Pure gauge theory, an action of plaquettes alone: the fit finds β, and the proposal is a draw of the target."""
    settings = {
        "target": {"shape": (2, 2), "beta": 1.5, "start": "cold"},
        "model": {"rectangles": False, "polyakov_loops": False},
        "inner": {"update": "heat-bath", "n_updates": 1},
    }
    config = validated(settings, GaugeRun)
    problem = gauge(config)
    assert tuple(problem.inner) == ("heat bath",)
    learner = problem.learner_of(problem.target, problem.exact(problem.target), config.learning_settings)
    links = random_links(jax.random.key(2), (2, 2), 2, 16)
    log_weights, forces = jax.jit(jax.vmap(jax.value_and_grad(problem.target.log_weight)))(links)
    assert learner.start is not None
    model = learner.start(problem.model, Label(links, log_weights, forces))
    assert model.plaquette == pytest.approx(1.5)
    update = MetropolisHastings(problem.target, CumulativeUpdate(learner.candidates[0](model), 1))
    start = problem.start(jax.random.key(3), 2)
    np.testing.assert_array_equal(start[0], unit_links((2, 2), 2))
    _, infos = run_chains(jax.random.key(4), update, init_chains(update, start), 5)
    np.testing.assert_allclose(infos.log_ratio, 0, atol=1e-8)


SU3 = "--set=target.n_colours=3"
FOUR = "--set=target.shape=[2,2,2,2]"


@pytest.mark.parametrize("write", [write_nersc, write_ildg])
def test_a_start_from_a_file(tmp_path: Path, write: Callable) -> None:
    """The run keeps a copy, and every chain starts from it."""
    path, kept = tmp_path / "links", tmp_path / "run"
    links = random_links(jax.random.key(1), (2, 2, 2, 2), 3)
    write(path, links)
    target = {"shape": (2, 2, 2, 2), "n_colours": 3, "file": str(path)}
    settings = validated({"target": target}, GaugeRun)
    kept.mkdir()
    settings = runs._with_files_in(kept, settings)
    path.unlink()
    assert settings.target.file == "start.links"
    started = gauge(settings, kept).start(jax.random.key(0), 3)
    np.testing.assert_allclose(started, np.broadcast_to(links, started.shape), atol=1e-14)


@pytest.mark.parametrize(
    ("change", "shape", "words"),
    [
        (lambda data: data[:-9] + b"\x01" + data[-8:], FOUR, ["target.file", "checksum", "damaged"]),
        (lambda data: data[:-9], FOUR, ["target.file", "cut or damaged"]),
        (lambda data: b"garbage" * 40, FOUR, ["target.file", "not a LIME file"]),
        (lambda data: data, "--set=target.shape=[2,2,2,4]", ["target.file", "[2, 2, 2, 2], not [2, 2, 2, 4]"]),
        (None, FOUR, ["target.file", "cannot be read"]),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_touched(
    slmc: Slmc, tmp_path: Path, change: Callable[[bytes], bytes] | None, shape: str, words: list[str]
) -> None:
    path, config = tmp_path / "links", tmp_path / "start.toml"
    config.write_text('system = "gauge"')
    if change is not None:
        write_nersc(path, random_links(jax.random.key(1), (2, 2, 2, 2), 3))
        path.write_bytes(change(path.read_bytes()))
    code, _, err = slmc("run", config, "--out", tmp_path / "run", SU3, shape, f"--set=target.file={path}")
    assert code == 2
    for word in words:
        assert word in sentence(err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("target.shape=[3,4]", ["target", "shape = [3, 4]", "even extents"]),
        ("target.shape=[4]", ["target.shape", "2 to 4 dimensions"]),
        ("target.shape=[4,0]", ["target.shape", "greater than 0"]),
        ("target.n_colours=1", ["target.n_colours", "greater than or equal to 2"]),
        ("target.beta=nan", ["target.beta", "finite"]),
        ("target.improvement=Symanzik", ["target.improvement", "tree-level Symanzik", "Iwasaki"]),
        ("target.fermions=overlap", ["target.fermions", "staggered"]),
        ("target.fermions=wilson", ["target", "mass has no meaning", "leave it out"]),
        ("target.fermions=none", ["target", "mass has no meaning", "leave it out"]),
        ("target.kappa=0.1", ["target", "kappa has no meaning"]),
        ("target.mass=0", ["target.mass", "greater than 0"]),
        ("target.n_flavours=0", ["target.n_flavours", "greater than 0"]),
        ("target.start=warm", ["target.start", "hot"]),
        ("target.file=links.nersc", ["target.file = links.nersc", "cannot be read"]),
        ("model.name=network", ["model.name", "allowed are"]),
        ("model.rectangles=some", ["model.rectangles", "boolean"]),
        ("model.file=nowhere.eqx", ["nowhere.eqx", "cannot be read"]),
        ("inner.update=heat-bath", ["inner.update", "plaquettes alone", "model.rectangles = false"]),
        ("inner.update=local", ["inner.update", "heat-bath"]),
        ("inner.n_updates=0", ["inner.n_updates", "greater than 0", "auto"]),
        ("inner.integrator=euler", ["inner.integrator", "omelyan"]),
        ("exact.integrator=euler", ["exact.integrator", "omelyan"]),
        ("learning.training_steps=5", ["learning.training_steps", "not a field"]),
        ("learning.n_steps=4", ["learning.n_steps", "32 configurations"]),
        ("scan.temperatures=[1.0]", ["scan.fields", "target.temperature", "no field"]),
        ("measurement.observables=['magnetization']", ["measurement.observables", "known are plaquette"]),
        ("measurement.observables=[]", ["measurement.observables", "at least one"]),
        ("measurement.wanted_error={energy=0.1}", ["measurement.wanted_error", "energy", "measured are"]),
        ("system=water", ["system", "gauge"]),
    ],
)
def test_a_wrong_field_is_named(slmc: Slmc, tmp_path: Path, setting: str, words: list[str]) -> None:
    out = tmp_path / "run"
    code, _, err = slmc("run", "gauge_small", "--out", out, f"--set={setting}")
    assert code == 2
    for word in words:
        assert word in sentence(err)
    assert sentence(err).startswith("error:")
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'system = "water"',
            ["system = 'water'", ", ".join(system_names())],
        ),
        ('system = "gauge"\n[target]\nfermions = "staggered"', ["target", "mass is missing"]),
        ('system = "gauge"\n[target]\nfermions = "wilson"', ["target", "kappa is missing"]),
        (
            'system = "gauge"\n[measurement]\nobservables = ["condensate"]',
            ["condensate", 'target.fermions = "staggered"'],
        ),
        (
            'system = "gauge"\n[target]\nn_colours = 3\nfile = "links"\nstart = "cold"',
            ["target", 'start = "cold" has no effect with a file'],
        ),
        (
            'system = "gauge"\n[model]\nrectangles = false\npolyakov_loops = false\n'
            '[inner]\nupdate = "heat-bath"\nn_steps = 3\nintegrator = "leapfrog"\nacceptance = 0.7',
            ["inner.n_steps, inner.integrator and inner.acceptance have no effect", '"heat-bath"', "leave them out"],
        ),
        (
            'system = "gauge"\n[inner]\nn_updates = "auto"\nn_steps = 3',
            ['inner.n_steps has no effect with inner.n_updates = "auto"'],
        ),
        (
            'system = "gauge"\n[exact]\nupdate = "local"\nn_steps = 3\nintegrator = "omelyan"',
            ['exact.n_steps and exact.integrator have no effect with exact.update = "local"'],
        ),
        (
            'system = "gauge"\n[target]\nshape = [3, 4]\n[model]\nrectangles = false\npolyakov_loops = false\n'
            '[inner]\nupdate = "heat-bath"',
            ["target.shape", "inner.update", "even extents"],
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named(slmc: Slmc, tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    code, _, err = slmc("run", path, "--out", tmp_path / "run")
    assert code == 2
    for word in words:
        assert word in sentence(err)


def test_a_stored_action_that_does_not_fit_is_named(tmp_path: Path) -> None:
    for model, settings, word in (
        (EffectiveAction((2, 2), 3), {}, "target.n_colours = 2"),
        (EffectiveAction((2, 2), 2), {}, "effective action of 2 dimensions"),
        (EffectiveAction((2, 2, 2, 2), 2, rectangles=True), {"inner": {"update": "heat-bath"}}, "more than plaquettes"),
    ):
        save_model(tmp_path / "model.eqx", model, describe(model))
        config = validated({"model": {"file": "model.eqx"}, **settings}, GaugeRun)
        with pytest.raises(UserError, match=word):
            gauge(config, tmp_path)


def test_an_action_on_another_lattice() -> None:
    model = EffectiveAction((2, 2, 2), 3, beta=0.7, rectangles=True, polyakov_loops=True)
    model = eqx.tree_at(lambda one: one.polyakov, model, np.array([0.1, 0.2, 0.3]))
    moved = model.on_lattice((2, 4, 2))
    assert (moved.shape, moved.n_colours) == ((2, 4, 2), 3)
    for one, other in zip(jax.tree.leaves(moved), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(build_like(describe(moved))) == jax.tree.structure(moved)


def weigh(problem, links):
    @jax.jit
    def weighed(links):
        state = problem.exact(problem.target).init(links)
        return state.log_weight, problem.observe(state)[0]

    return weighed(links)


def test_defaults_and_other_fermions_have_a_finite_weight() -> None:
    def build(target):
        return gauge(validated({"target": target}, GaugeRun))

    assert build({}).target.shape == (4, 4, 4, 4)
    for target in (
        {"shape": (2, 2), "fermions": "wilson", "kappa": 0.1},
        {"shape": (2, 2), "fermions": "staggered", "mass": 0.3, "n_flavours": 2, "improvement": "Iwasaki"},
    ):
        problem = build(target)
        links = problem.start(jax.random.key(0), 2)[0]
        log_weight, found = weigh(problem, links)
        assert np.isfinite(log_weight)
        assert ("condensate" in found) == (target["fermions"] == "staggered")
        assert all(np.isfinite(one).all() for one in found.values())
