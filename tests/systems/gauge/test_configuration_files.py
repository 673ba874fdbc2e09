"""Gauge fields come and go as files: written by runs, each once, and measured by ``slmc measure``."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import reference_files as writers
import reference_gauge as reference
from slmc import runs
from slmc.cli import app
from slmc.simulation.configuration_files import write_configurations
from slmc.simulation.records import Records
from slmc.system import ConfigurationFiles, UserError, validated
from slmc.systems.gauge import random_links, read_links, write_ildg, write_nersc
from slmc.systems.gauge.problem import gauge
from slmc.systems.gauge.settings import GaugeRun

Slmc = Callable[..., tuple[int, str, str]]

CONFIG = """
system = "gauge"
[target]
shape = [2, 2, 2, 2]
beta = 2.3
[exact]
n_steps = 2
tuning_steps = 5
[thermalisation]
n_steps = 5
[learning]
n_rounds = 0
[measurement]
n_chains = 1
n_steps = 16
block_size = 4
n_thermalise = 4
configurations = "nersc"
every = 8
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("begun")
    (place / "config.toml").write_text(CONFIG)
    app(["run", str(place / "config.toml"), "--out", str(place / "run"), "-q"], standalone_mode=False)
    return place / "run"


def test_one_chain_writes_what_it_recorded(slmc: Slmc, finished: Path) -> None:
    """A single chain, no model: the files' plaquettes, loops and their mean are those of the records at their steps."""
    series = Records(finished / "records.zarr").read("measurement")
    files = sorted((finished / "configurations").iterdir())
    assert [file.name for file in files] == ["chain0-000008.nersc", "chain0-000016.nersc"]
    assert series["plaquette"].shape == (1, 16)
    assert [read_links(file).notes for file in files] == [(), ()]
    code, out, err = slmc("measure", *files, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    for name, key in (("plaquette", "plaquette"), ("rectangle", "rectangle"), ("polyakov_loop", "polyakov_loop_re")):
        np.testing.assert_allclose([row[key] for row in found["files"]], series[name][0, 7::8], rtol=1e-13)
        assert found["means"][key]["value"] == pytest.approx(series[name][0, 7::8].mean())


def test_interrupted_no_file_is_lost_doubled_or_replaced(tmp_path: Path, finished: Path, slmc: Slmc) -> None:
    """As if killed when the last files and records are written and the checkpoint is not: they are found again.

    A file that was moved away meanwhile is told, and not made anew.
    """
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "checkpoints" / "000008")
    moved, last = (out / "configurations" / f"chain0-{step}.nersc" for step in ("000008", "000016"))
    moved.unlink()
    before = last.stat()
    code, printed, err = slmc("resume", out)
    assert code == 0
    words = " ".join((printed + err).split())
    assert "1 configurations that were written are not there any more, chain0-000008.nersc" in words
    assert [path.name for path in (out / "configurations").iterdir()] == [last.name]
    assert (last.stat().st_ino, last.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    one, other = (Records(path / "records.zarr").read("measurement") for path in (out, finished))
    for name, values in other.items():
        np.testing.assert_array_equal(one[name], values)


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    """A file of another content is refused by name and left alone; what is unfinished has no name to be taken for."""

    def fails(path: Path, configuration: np.ndarray, chain: int, step: int) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    write = ConfigurationFiles(4, ".raw", lambda path, links, chain, step: path.write_bytes(links.tobytes()) and None)
    chains, mine = np.arange(6.0).reshape(2, 3), tmp_path / "configurations" / "chain1-000004.raw"
    write_configurations(tmp_path, write, chains, 3)
    assert not mine.parent.exists()
    with pytest.raises(OSError, match="No space"):
        write_configurations(tmp_path, write._replace(write=fails), chains, 4)
    assert list(mine.parent.iterdir()) == []
    write_configurations(tmp_path, write, chains, 4)
    assert mine.read_bytes() == chains[1].tobytes()
    mine.write_bytes(b"somebody else's")
    with pytest.raises(UserError, match=r"chain1-000004.raw is not the configuration.*not replaced"):
        write_configurations(tmp_path, write, chains, 4)
    assert mine.read_bytes() == b"somebody else's"


def test_lime_files_of_a_run_are_read(tmp_path: Path) -> None:
    settings = {"target": {"shape": (2, 2, 2, 4), "n_colours": 3}, "measurement": {"configurations": "ildg"}}
    files = gauge(validated(settings, GaugeRun)).configuration_files
    assert files is not None
    assert (files.every, files.suffix) == (50, ".lime")
    links = random_links(jax.random.key(1), (2, 2, 2, 4), 3)
    files.write(tmp_path / "links.lime", links, 0, 50)
    np.testing.assert_allclose(read_links(tmp_path / "links.lime").links, links, atol=1e-14)


def test_files_of_others_are_measured(slmc: Slmc, tmp_path: Path) -> None:
    """Little-endian NERSC beside bare LIME, by independent writers: values, what is to be known, an average flow."""
    u = reference.random_group(np.random.default_rng(3), 4, 2, 2, 2, 2, 2)
    (tmp_path / "one").write_bytes(writers.nersc(u, "IEEE64LITTLE", "<d"))
    (tmp_path / "two").write_bytes(writers.lime([("ildg-binary-data", writers.numbers(u, ">d"))]))
    loops = ["--set=wilson_loops=[1,2]", "--set=flow_time=0.1", "--set=flow_step=0.05", "--set=shape=[2,2,2,2]"]
    fermions = ["--set=fermions=staggered", "--set=mass=0.7"]
    code, out, err = slmc("measure", tmp_path / "one", tmp_path / "two", "--json", *loops, *fermions)
    assert (code, err) == (0, "")
    found = json.loads(out)
    for row in found["files"]:
        assert row["plaquette"] == pytest.approx(writers.averages(u)[0])
        assert np.shape(row["wilson_loops"]) == (1, 2)
        assert np.shape(row["pion_correlator"]) == (2,)
    assert found["files"][0]["condensate"] != found["files"][1]["condensate"]  # other sources
    assert any("nothing was verified" in note for note in found["notes"])
    assert set(found["of_all"]) == {"t_0", "w_0"}
    code, out, err = slmc("measure", tmp_path / "two", *loops[-1:])
    assert code == 0
    assert f"{writers.averages(u)[0]:.6f}"[:7] in out
    assert "nothing was verified" in " ".join(err.split())
    code, out, _ = slmc("measure", "--fields", tmp_path / "one")
    assert "wilson_loops" in out
    assert "[domain_wall]" in out


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (["loops=3"], "loops is not a field of the file; allowed are shape, wilson_loops"),
        (["wilson_loops=[2,0]"], "needs both a largest distance and a largest time"),
        (["wilson_loops=[2,9]"], "do not fit on a lattice of [2, 2, 2, 2]"),
        (["flow_step=0.1"], "flow_step has no effect without flow_time"),
        (["flow_time=0.1", "flow_step=0.2"], "flow_time = 0.1 is shorter than a step"),
        (["mass=0.1"], 'mass has no meaning with fermions = "none"'),
        (["fermions=wilson"], "kappa is missing"),
        (["fermions=wilson", "kappa=0.1", "domain_wall.n_layers=4"], "domain_wall.n_layers has no effect without"),
        (["shape=[2,2,2,4]"], "holds links of a lattice [2, 2, 2, 2], not [2, 2, 2, 4]"),
        (["fermions=staggered", "mass=0.1", "max_iterations=1"], "conjugate gradients did not reach"),
    ],
)
def test_what_cannot_be_measured_is_told(slmc: Slmc, tmp_path: Path, fields: list[str], words: str) -> None:
    write_nersc(tmp_path / "links", random_links(jax.random.key(1), (2, 2, 2, 2), 2))
    code, _, err = slmc("measure", tmp_path / "links", *[f"--set={one}" for one in fields])
    assert code == 2
    assert words in " ".join(err.split())


def test_files_that_are_none_are_named(slmc: Slmc, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not links")
    for path, words in (
        (tmp_path / "notes.txt", "is no configuration that a system knows"),
        (tmp_path, "name what to measure"),
        (tmp_path / "nowhere", "cannot be read"),
    ):
        code, _, err = slmc("measure", path)
        assert code == 2
        assert words in " ".join(err.split())
    links = random_links(jax.random.key(1), (2, 2, 2, 2), 2)
    write_ildg(tmp_path / "links", links)
    with pytest.raises(UserError, match=r"notes\.txt is not a LIME file"):
        runs.measure_files([tmp_path / "links", tmp_path / "notes.txt"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"measurement": {"every": 50}}, "measurement.every has no effect without measurement.configurations"),
        ({"measurement": {"configurations": "ildg", "every": 60}}, "every = 60 is no multiple of block_size = 50"),
        ({"measurement": {"configurations": "ildg"}, "target": {"shape": (2, 2)}}, "files hold lattices of 4 extents"),
        ({"measurement": {"n_chains": 1}}, "n_chains = 1: learning needs at least 2 chains"),
    ],
)
def test_settings_that_do_not_fit_are_told(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        validated(settings, GaugeRun)
