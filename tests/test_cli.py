"""The command line: results as JSON, one clear sentence and exit code 2 for everything a user can get wrong."""

import errno
import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from slmc.cli import main
from slmc.simulation import records as records_module
from slmc.simulation.records import Records

TINY = [
    "--set=target.shape=[2,2]",
    "--set=exact.n_steps=5",
    "--set=target.coupling=2.0",
    "--set=target.temperature=0.2",
    "--set=model.n_layers=1",
    "--set=model.n_heads=1",
    "--set=inner.n_updates=2",
    "--set=thermalisation.n_steps=20",
    "--set=learning.n_rounds=2",
    "--set=learning.n_steps=20",
    "--set=learning.training_steps=50",
    "--set=measurement.n_chains=4",
    "--set=measurement.n_steps=60",
    "--set=measurement.block_size=20",
    "--set=measurement.n_thermalise=20",  # as long as a block: one program for both
    "--set=baseline.n_steps=40",
]

Slmc = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["slmc", "run", "double_exchange_small", "--out", str(directory), "-q", *TINY])
        with pytest.raises(SystemExit) as exit_:
            main()
    assert not exit_.value.code
    return directory


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_info_prints_what_other_programs_rely_on(slmc: Slmc, finished: Path) -> None:
    code, out, _ = slmc("info", finished, "--json")
    assert code == 0
    found = json.loads(out)
    for name in ("magnetization", "staggered_magnetization", "energy"):
        assert set(found["observables"][name]) == {"value", "error", "r_hat", "ess", "monte_carlo_error"}
        assert found["observables"][name]["monte_carlo_error"] is None
    for name in ("magnetization_squared", "staggered_magnetization_squared", "specific_heat", "density"):
        assert name in found["observables"]
    assert 0 < found["acceptance"] <= 1
    assert found["residual"] > 0
    assert found["exact_evaluations"]["measurement"] == 4 * 60
    assert found["exact_evaluations"]["learning"] > 0
    assert found["ess_per_exact_evaluation"] <= 1.5
    assert found["ess_per_second"] > 0
    assert set(found["seconds"]) == {"exact_weight", "inner", "training", "other"}
    assert found["phase"] == "done"
    assert isinstance(found["verdict"], str)
    assert found["baseline"]["observables"]["energy"]["error"] > 0


def test_info_report_and_resume_of_a_finished_run(slmc: Slmc, finished: Path) -> None:
    code, out, _ = slmc("info", finished)
    assert code == 0
    assert "staggered_magnetization" in out
    assert "verdict" in out
    (finished / "report.html").unlink()
    assert slmc("report", finished)[0] == 0
    assert "<html" in (finished / "report.html").read_text()
    before = contents(finished / "records.zarr")
    assert slmc("resume", finished, "-q")[0] == 0
    assert contents(finished / "records.zarr") == before


def test_the_stored_configuration_has_every_default(finished: Path) -> None:
    stored = tomllib.loads((finished / "config.toml").read_text())
    assert stored["learning"]["held_out_share"] == 0.25
    assert stored["target"]["shape"] == [2, 2]
    assert stored["model"]["attention"] == "dot-product"


def test_records_open_in_xarray_with_units(finished: Path) -> None:
    import xarray

    with xarray.open_datatree(finished / "records.zarr", engine="zarr", consolidated=False) as tree:
        energy = tree["measurement"]["energy"]
        assert energy.dims == ("chain", "draw")
        assert energy.shape == (4, 60)
        assert energy.attrs["units"] == "t"
        assert tree["measurement"]["structure_factor"].dims == ("chain", "block", "q0", "q1")
        assert tree["learning"]["residual"].shape == (2,)


def test_a_stored_model_is_a_start_on_another_lattice(slmc: Slmc, finished: Path, tmp_path: Path) -> None:
    model = f"--set=model.file={finished / 'model.eqx'}"
    larger = [option for option in TINY if "shape" not in option]
    few = ["--set=target.shape=[4,2]", "--set=measurement.n_steps=20", "--set=baseline.n_steps=0"]
    assert slmc("run", "double_exchange_small", "--out", tmp_path / "run", "-q", *larger, *few, model)[0] == 0


def test_init_and_examples(slmc: Slmc) -> None:
    assert slmc("--version") == (0, f"slmc {metadata.version('slmc')}\n", "")
    code, out, _ = slmc("examples")
    assert code == 0
    names = ("double_exchange", "double_exchange_linear", "double_exchange_network", "double_exchange_small")
    for name in (*names, "temperatures", "diluted", "cubic"):
        assert name in out
        code, text, _ = slmc("init", name)
        assert code == 0
        assert "#" in text
        assert "target" in tomllib.loads(text)


@pytest.mark.parametrize(
    "form", ["heat-bath", "local", "mixed", "filling", "local exact", "precision", "odd", "network"]
)
def test_other_forms_of_a_run(slmc: Slmc, tmp_path: Path, form: str) -> None:
    settings = {
        "heat-bath": ["model.name=linear", "inner.update=heat-bath", "learning.training_steps=0"],
        "local": ["inner.update=local", "model.attention=factored"],
        "mixed": ["exact.every=2"],
        "filling": ["target.filling=0.8", "thermalisation.n_steps=400", "measurement.n_steps=200"],
        "local exact": ["exact.update=local"],
        "odd": ["target.shape=[3]", "measurement.observables=['energy']", "measurement.n_chains=3"],
        "network": [
            "model.name=network",
            "model.n_channels=2",
            "model.n_hidden=3",
            "inner.nested=linear",
            "inner.n_updates=auto",
            "inner.precision=single",
            "learning.optimiser=muon",
            "learning.n_rounds=2",
            "learning.n_steps=[16,8]",
            "learning.training_steps=[20,10]",
            "learning.held_out_share=0.5",
            "exact.tuning_steps=5",
            "thermalisation.n_steps=5",
        ],
        "precision": ["measurement.wanted_error={magnetization_squared=0.9}", "measurement.n_steps=4000"],
    }[form]
    foreign = {"heat-bath": ("model.n_layers", "model.n_heads"), "network": ("model.n_heads",)}.get(form, ())
    tiny = [option for option in TINY if not any(name in option for name in foreign)]
    options = [*tiny, "--set=baseline.n_steps=0", "--set=learning.n_rounds=1"]
    code, _, err = slmc(
        "run", "double_exchange_small", "--out", tmp_path / "run", "-q", *options, *[f"--set={one}" for one in settings]
    )
    assert (code, err) == (0, "")
    found = json.loads(slmc("info", tmp_path / "run", "--json")[1])
    assert found["phase"] == "done"
    if form == "filling":
        assert abs(found["observables"]["density"]["value"] - 0.8) < 0.05
        assert found["found"]["chemical_potential"] < 0
    if form == "heat-bath":
        # Nothing about steps or tuning, of which there are none. Whether so few held-out samples tell the residual to a
        # fifth is up to chance.
        assert [text for text in found["warnings"] if not text.startswith("the held-out residual")] == []
    if form == "mixed":
        # A recorded draw costs two self-learning steps and one exact trajectory of five forces and a weight.
        assert found["exact_evaluations"]["measurement"] == 4 * 60 * (2 + 6)
    if form == "network":
        assert found["inner_chain"]["update"].startswith(("n_guide_updates = ", "linear model alone"))
        assert found["inner_chain"]["n_updates"] >= 1
        assert "as chosen" in slmc("info", tmp_path / "run")[1]
        assert "The inner chain" in (tmp_path / "run" / "report.html").read_text()
        # Tuning, thermalising and the first round are trajectories of five forces and a weight; the second round and
        # the 20 steps before the first recorded draw are proposals of the network.
        assert found["exact_evaluations"]["learning"] == 4 * (6 * (5 + 5 + 16) + 8 + 20)
    else:
        assert found["inner_chain"] is None
    if form == "odd":
        assert set(found["observables"]) == {"energy"}
        assert found["ess_per_exact_evaluation"] > 0
    if form == "precision":
        assert found["exact_evaluations"]["measurement"] < 4 * 1000


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("target.temprature=0.1", ["target.temprature", "did you mean temperature"]),
        ("target.temperature=-0.1", ["target.temperature", "greater than 0"]),
        ("target.shape=[1]", ["target.shape", "2 to 16384 sites"]),
        ("target.shape=[3,4]", ["target.shape", "odd", "even extents"]),
        ("target.hopping=[1.0,1.0,1.0,1.0,1.0,1.0,1.0]", ["target", "hopping", "1 to 5"]),
        ("target.filling=2.5", ["target.filling", "less than 2"]),
        ("measurement.n_chains=0", ["measurement.n_chains", "greater than or equal to 1"]),
        ("measurement.n_chains=many", ["measurement.n_chains", "integer"]),
        ("measurement.observables=['mass']", ["measurement.observables", "mass", "known are"]),
        ("measurement.wanted_error={mass=0.1}", ["measurement.wanted_error", "mass"]),
        ("model.name=cnn", ["model.name", "transformer"]),
        ("model.n_shells=77", ["model.n_shells", "between 0 and 5"]),
        ("model.head_shells=77", ["model.head_shells", "between 0 and 5"]),
        ("model.file=nowhere.eqx", ["nowhere.eqx", "cannot be read"]),
        ("inner.update=heat-bath", ["inner.update", "linear"]),
        ("inner.n_updates=0", ["inner.n_updates", "greater than 0", "auto"]),
        ("inner.nested=network", ["inner.nested", "linear"]),
        ("model.reach=-1", ["model.reach", "0 or more"]),
        ("learning.n_steps=[]", ["learning.n_steps", "at least 1"]),
        ("learning.n_steps=[4, 50]", ["learning.n_steps", "32 configurations"]),
        ("learning.optimiser=sgd", ["learning.optimiser", "muon"]),
        ("learning.training_steps=0", ["learning.training_steps", "linear"]),
        ("learning.batch_size=33", ["learning.batch_size", "multiple of 32"]),
        ("learning.n_steps=4", ["learning.n_steps", "32 configurations"]),
        ("measurement.observables=[]", ["measurement.observables", "at least one"]),
        ("target.coupling=nan", ["target.coupling", "finite"]),
        ("target.hopping=abc", ["target.hopping", "number"]),
        ("target=3", ["target", "section"]),
        ("seed=-1", ["seed", "greater than or equal to 0"]),
        ("system=water", ["system", "double_exchange"]),
        ("colour=blue", ["colour", "allowed are"]),
        ("temperature", ["section.field=value"]),
    ],
)
def test_a_wrong_field_is_named(slmc: Slmc, tmp_path: Path, setting: str, words: list[str]) -> None:
    out = tmp_path / "run"
    code, _, err = slmc("run", "double_exchange_small", "--out", out, f"--set={setting}")
    assert code == 2
    sentence = " ".join(err.split())
    for word in words:
        assert word in sentence
    assert sentence.startswith("error:")
    assert not out.exists()


def test_files_and_directories_that_do_not_fit(slmc: Slmc, tmp_path: Path, finished: Path) -> None:
    before = contents(finished)
    broken = tmp_path / "broken.toml"
    broken.write_text("target = [")
    for arguments, word in [
        (("run", "double_exchange_small", "--out", finished), "not empty"),
        (("run", "no_such_name"), "ready-made"),
        (("run", broken), "not valid TOML"),
        (("resume", tmp_path / "nowhere"), "holds no run"),
        (("info", tmp_path), "holds no run"),
        (("report", tmp_path), "holds no run"),
    ]:
        code, _, err = slmc(*arguments)
        assert code == 2
        assert word in " ".join(err.split())
    assert contents(finished) == before


def test_a_truncated_checkpoint_is_named_and_nothing_is_touched(slmc: Slmc, tmp_path: Path, finished: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    latest = max((directory / "checkpoints").iterdir())
    for path in latest.rglob("*"):
        if path.is_file() and path.stat().st_size > 0:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = contents(directory)
    code, _, err = slmc("resume", directory)
    assert code == 2
    sentence = " ".join(err.split())
    assert "is damaged and cannot be read" in sentence
    assert latest.name in sentence
    assert "resume" in sentence
    after = contents(directory)
    after.pop(directory / ".lock", None)
    before.pop(directory / ".lock", None)
    assert after == before
    shutil.rmtree(latest)
    assert slmc("resume", directory, "-q")[0] == 0
    assert Records(directory / "records.zarr").lengths() == Records(finished / "records.zarr").lengths()


def test_a_changed_configuration_is_not_mixed_with_the_old_one(slmc: Slmc, tmp_path: Path, finished: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    text = (directory / "config.toml").read_text()
    (directory / "config.toml").write_text(text.replace("n_chains = 4", "n_chains = 8"))
    code, _, err = slmc("resume", directory)
    assert code == 2
    assert "config.toml" in err
    assert "was changed since the run began" in " ".join(err.split())


def test_info_and_report_of_a_run_cut_in_the_middle_of_a_write(slmc: Slmc, tmp_path: Path, finished: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    Records(directory / "records.zarr")._root["measurement/energy"].resize((4, 80))
    (directory / "progress.json").write_text('{"phase": ')
    assert slmc("info", directory)[0] == 0
    assert slmc("report", directory)[0] == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: data.replace(b'"format": 1', b'"format": 99', 1), "format 99"),
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: b"garbage", "damaged"),
    ],
)
def test_a_model_file_of_another_version_or_damaged(
    slmc: Slmc, tmp_path: Path, finished: Path, change: Callable[[bytes], bytes], word: str
) -> None:
    path = tmp_path / "model.eqx"
    path.write_bytes(change((finished / "model.eqx").read_bytes()))
    code, _, err = slmc(
        "run",
        "double_exchange_small",
        "--out",
        tmp_path / "run",
        f"--set=model.file={path}",
        "--set=target.shape=[2,2]",
    )
    assert code == 2
    assert word in err
    assert "model.eqx" in err.replace("\n", "")


def test_a_full_disk_loses_nothing(slmc: Slmc, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "run"
    append, calls = Records.append, []

    def full(self: Records, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(records_module.Records, "append", full)
        code, _, err = slmc("run", "double_exchange_small", "--out", directory, "-q", *TINY)
    assert code == 2
    assert "disk is full" in err
    assert "slmc resume" in err
    assert slmc("resume", directory, "-q")[0] == 0
    one, other = (Records(path / "records.zarr").read("measurement") for path in (directory, finished))
    for name, values in one.items():
        assert (values == other[name]).all()
