"""Every file of a run's directory, damaged in every way: one sentence, or a verdict that says so, never other numbers.

A damaged file on which nothing hangs (the report, an older checkpoint) changes nothing."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from slmc import runs
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.records import Records

# Orbax leaves unfinished tasks of an event loop that it has closed where it cannot read a checkpoint.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Slmc = Callable[..., tuple[int, str, str]]

CONFIG = """
system = "plaquette_ising"
[target]
shape = [2, 3]
temperature = 9.0
[thermalisation]
n_steps = 10
[learning]
n_rounds = 1
n_steps = 20
[measurement]
n_chains = 4
n_steps = 2000
n_thermalise = 4
block_size = 1000
observables = ["energy", "magnetization_squared"]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "run.toml").write_text(CONFIG)
    result = runs.run(folder / "run.toml", out=folder / "run", quiet=True)
    assert result.verdict == "ok"
    return folder / "run"


@pytest.fixture(scope="module", autouse=True)
def _reports_without_figures() -> Iterator[None]:
    """Reports read all that they say and draw nothing, which takes most of the time."""

    def write(opened: runs.Run) -> Path:
        stored = runs._stored(opened)
        runs.described_tree(stored.records, opened.problem)
        return opened.directory / "report.html"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_write_report", write)
        yield


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[len(content) * 2 // 3] ^= 4
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def deleted(file: Path) -> None:
    file.unlink()


def directory_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def garbage(file: Path) -> None:
    file.write_bytes(np.random.default_rng(1).bytes(100))


HARMS = (truncated, flipped, emptied, deleted, directory_instead, garbage)


def files_of(directory: Path) -> list[Path]:
    return sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())


def cases(directory: Path) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """Each file with two of the harms in turn, so that files of every kind see all of them."""
    turns = itertools.cycle(HARMS)
    for file in files_of(directory):
        yield from ((file, next(turns)), (file, next(turns)))
        next(turns)


def numbers(summary: dict) -> dict:
    return summary["observables"]


def is_one_sentence(err: str) -> bool:
    words = " ".join(err.split())
    return words.startswith("error: ") and words.endswith((".", "?")) and len(words) < 1100 and "Traceback" not in words


def test_every_file_with_every_harm(slmc: Slmc, finished: Path, tmp_path: Path) -> None:
    right = json.loads(slmc("info", finished, "--json")[1])
    n_told: dict[str, int] = {}
    for number, (name, harm) in enumerate(cases(finished)):
        shutil.copytree(finished, copy := tmp_path / str(number))
        harm(copy / name)
        code, out, err = slmc("info", copy, "--json")
        what = f"{harm.__name__} {name}: {code} {out[-200:]} {err}"
        if code:
            assert code == 2, what
            assert is_one_sentence(err), what
        else:
            found = json.loads(out)
            assert numbers(found) == numbers(right), what
            is_same = (copy / name).is_file() and (finished / name).read_bytes() == (copy / name).read_bytes()
            assert found["verdict"] != "ok" or is_same or _may_be_idle(name), what
        is_told = bool(code) or found["verdict"] != "ok"
        n_told[name.parts[0]] = n_told.get(name.parts[0], 0) + is_told
        shutil.rmtree(copy)
    assert n_told["records.zarr"] > 30
    assert n_told["checkpoints"] > 5
    assert all(n_told[name] == 2 for name in ("config.toml", "model.eqx", "progress.json"))


def _may_be_idle(name: Path) -> bool:
    """Nothing is read from the report, nor from an older checkpoint; of the latest, what is read has a checksum.

    A summary that is kept is made anew where it cannot be read.
    """
    return name.name in (".lock", "report.html", "summary.json") or name.parts[0] == "checkpoints"


@pytest.mark.parametrize("command", ["resume", "report"])
def test_the_other_commands_too(slmc: Slmc, finished: Path, tmp_path: Path, command: str) -> None:
    """With a file of every kind: what they refuse they leave as it is, and what can be made again is."""
    latest = max((finished / "checkpoints").iterdir()).relative_to(finished)
    refused = [
        "config.toml",
        "records.zarr/zarr.json",
        "records.zarr/measurement/energy/c/0/0",
        latest / "manifest.ocdbt",
    ]
    for name in refused:
        shutil.copytree(finished, copy := tmp_path / Path(name).name)
        flipped(copy / name)
        before = {file: (copy / file).read_bytes() for file in files_of(copy)}
        code, _, err = slmc(command, copy)
        assert code == 2, name
        assert is_one_sentence(err)
        assert {file: (copy / file).read_bytes() for file in files_of(copy)} == before
    for name in ("model.eqx", "progress.json"):
        shutil.copytree(finished, copy := tmp_path / name)
        deleted(copy / name)
        assert slmc(command, copy)[0] == 0
    if command == "resume":
        assert (tmp_path / "model.eqx" / "model.eqx").read_bytes() == (finished / "model.eqx").read_bytes()


def test_identity_comes_first(slmc: Slmc, finished: Path, tmp_path: Path) -> None:
    """Other settings beside the same numbers: whatever derives from the temperature would be another."""
    for command in ("info", "report", "resume"):
        shutil.copytree(finished, copy := tmp_path / command)
        config = copy / "config.toml"
        config.write_text(config.read_text().replace("temperature = 9.0", "temperature = 4.5"))
        code, _, err = slmc(command, copy)
        assert code == 2
        assert "was changed since the run began" in err
        config.write_text("")
        assert "is empty" in slmc(command, copy)[2]
        config.write_text('system = "plaquette_ising"\n')
        assert "was changed since the run began" in slmc(command, copy)[2]


def test_records_of_another_run_are_not_taken_for_its_own(slmc: Slmc, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, copy := tmp_path / "run")
    Records(copy / "records.zarr")._root.attrs.update({"identity": "another"})
    for command in ("info", "resume"):
        code, _, err = slmc(command, copy)
        assert code == 2
        assert "what lies beside it is of another run" in " ".join(err.split())


def test_records_without_a_checkpoint_are_not_erased(slmc: Slmc, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, copy := tmp_path / "run")
    shutil.rmtree(copy / "checkpoints")
    before = {file: (copy / file).read_bytes() for file in files_of(copy) if file.name != "report.html"}
    code, _, err = slmc("resume", copy)
    assert code == 2
    assert "has records but no checkpoint to go on from" in " ".join(err.split())
    assert "delete" not in err
    assert {file: (copy / file).read_bytes() for file in files_of(copy) if file.name != "report.html"} == before
    found = json.loads(slmc("info", copy, "--json")[1])
    assert found["verdict"] != "ok"
    assert "there is no checkpoint" in found["verdict"]


@pytest.mark.parametrize("missing", ["records.zarr", "records.zarr/measurement/energy", "records.zarr/measurement"])
def test_records_that_are_gone_are_missed(slmc: Slmc, finished: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(finished, copy := tmp_path / "run")
    shutil.rmtree(copy / missing)
    for command in ("info", "report", "resume"):
        code, _, err = slmc(command, copy)
        assert code == 2
        assert "are damaged" in " ".join(err.split())


def test_a_checkpoint_whose_numbers_changed_is_noticed(tmp_path: Path) -> None:
    """Orbax has no checksum of its own: a configuration with one bit flipped would be gone on with."""
    state = {"chains": np.arange(6.0)}
    checkpoints = Checkpoints(tmp_path / "checkpoints", "identity", "free")
    from slmc.simulation import checkpoint
    from slmc.simulation.marks import Marks
    from slmc.system import UserError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "_checksum", lambda leaves: 12345)
        checkpoints.save(1, state, Marks())
    with pytest.raises(UserError, match="is damaged and cannot be read"):
        checkpoints.restore(state)
    checkpoints.save(2, state, Marks())
    assert checkpoints.restore(state) is not None
