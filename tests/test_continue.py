"""Runs begun or continued by one and the same call, made longer, shared by processes; seeds that share nothing."""

import json
import re
import resource
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from killing import Killed
from slmc import runs
from slmc.simulation import Records, points_of
from slmc.simulation.checkpoint import Checkpoints
from slmc.simulation.directory import claimed
from slmc.simulation.stopping import Stopper
from slmc.simulation.watched import Watched
from slmc.statistics import estimate, has_moved
from slmc.system import UserError
from undrawn import COMMAND

Slmc = Callable[..., tuple[int, str, str]]

CONFIG = """
system = "plaquette_ising"
seed = 4
[target]
shape = [2, 3]
temperature = 5.0
[thermalisation]
n_steps = 10
[learning]
n_rounds = 0
[measurement]
n_chains = 4
n_steps = {n_steps}
n_thermalise = 20
block_size = 20
observables = ["energy", "magnetization_squared"]
"""

LEARNING = CONFIG.replace("n_rounds = 0", "n_rounds = 1\nn_steps = 20") + "[baseline]\nn_steps = {n_baseline}\n"
GROUPS = ("thermalisation", "learning", "measurement", "baseline")


@pytest.fixture(scope="module", autouse=True)
def _no_reports() -> Iterator[None]:
    """They take most of the time of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_write_report", lambda opened: opened.directory / "report.html")
        yield


def write(path: Path, text: str, **numbers: int) -> Path:
    path.write_text(text.format(**numbers))
    return path


def assert_same_records(one: Path, other: Path) -> None:
    first, second = (Records(path / "records.zarr", read_only=True) for path in (one, other))
    for group in GROUPS:
        expected, found = first.read(group), second.read(group)
        assert set(expected) == set(found)
        for name, values in expected.items():
            np.testing.assert_array_equal(values, found[name], err_msg=f"{group}/{name}")


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


# --- longer -----------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_made_longer_to_the_bits_of_a_longer_one(tmp_path: Path) -> None:
    """With a baseline behind the measurement, which is made anew from where the longer measurement ends."""
    whole = runs.run(
        write(tmp_path / "c.toml", LEARNING, n_steps=60, n_baseline=40), out=tmp_path / "whole", quiet=True
    )
    assert whole.is_complete
    short = write(tmp_path / "short.toml", LEARNING, n_steps=40, n_baseline=20)
    runs.run(short, out=tmp_path / "run", quiet=True)
    config = tmp_path / "run" / "config.toml"
    text = re.sub(r"(\[baseline\]\nn_steps = )\d+", r"\g<1>40", config.read_text())
    config.write_text(re.sub(r"(n_chains = 4\nn_steps = )\d+", r"\g<1>60", text))
    assert runs.resume(tmp_path / "run", quiet=True).is_complete
    assert_same_records(tmp_path / "whole", tmp_path / "run")
    before = contents(tmp_path / "run" / "records.zarr")
    runs.resume(tmp_path / "run", quiet=True)
    assert contents(tmp_path / "run" / "records.zarr") == before


def test_every_block_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    """With the same ones in all blocks a chain at a high temperature soon repeats itself."""
    runs.run(write(tmp_path / "c.toml", CONFIG, n_steps=200), out=tmp_path / "run", quiet=True)
    energy = Records(tmp_path / "run" / "records.zarr", read_only=True).read("measurement")["energy"]
    blocks = energy.reshape(4, 10, 20)
    assert not np.any(np.all(blocks[:, -1] == blocks[:, -2], axis=-1))


def test_killed_while_it_is_made_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every checkpoint of the longer part, the one before anything is cut included."""
    whole = write(tmp_path / "c.toml", LEARNING, n_steps=60, n_baseline=20)
    runs.run(whole, out=tmp_path / "whole", quiet=True)
    runs.run(write(tmp_path / "s.toml", LEARNING, n_steps=40, n_baseline=20), out=tmp_path / "run", quiet=True)
    save, n_saved = Checkpoints.save, 0
    for fatal in (0, 1, 2):

        def killed(self: Checkpoints, *rest: object, fatal: int = fatal) -> None:
            nonlocal n_saved
            n_saved += 1
            if n_saved > fatal:
                raise Killed
            save(self, *rest)  # type: ignore[arg-type]

        n_saved = 0
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", killed)
            with pytest.raises(Killed):
                runs.run(whole, out=tmp_path / "run", go_on=True, quiet=True)
    assert runs.resume(tmp_path / "run", quiet=True).is_complete
    assert_same_records(tmp_path / "whole", tmp_path / "run")


# --- one call ---------------------------------------------------------------------------------------------------------


def test_one_call_begins_continues_and_tells_again(slmc: Slmc, tmp_path: Path) -> None:
    config, out = write(tmp_path / "c.toml", CONFIG, n_steps=60), tmp_path / "run"
    runs.run(config, out=tmp_path / "whole", quiet=True)
    call = ("run", "--continue", config, "--out", out, "-q", "--set=measurement.wall_time=1e-6")
    codes = [slmc(*call)[0] for _ in range(5)]
    assert codes == [75, 75, 75, 75, 0] or codes == [75, 75, 75, 75, 75]
    assert slmc("run", "--continue", config, "--out", out, "-q") == (0, "", "")
    assert_same_records(tmp_path / "whole", out)
    before = contents(out / "records.zarr")
    code, text, _ = slmc("run", "--continue", out)
    assert code == 0
    assert "verdict" in text
    assert contents(out / "records.zarr") == before
    longer = write(tmp_path / "longer.toml", CONFIG, n_steps=80)
    assert slmc("run", "--continue", longer, "--out", out, "-q")[0] == 0
    assert Records(out / "records.zarr").lengths()["measurement/energy"] == 80
    for changed in ("--set=target.temperature=6", "--seed=9", "--set=measurement.n_chains=8"):
        code, _, err = slmc("run", "--continue", config, "--out", out, changed)
        assert code == 2
        assert "was changed since the run began" in " ".join(err.split())
    code, _, err = slmc("run", "--continue", out, "--seed=3")
    assert (code, "is continued with the settings that are in it" in " ".join(err.split())) == (2, True)


def test_without_a_directory_it_is_that_of_the_name(
    slmc: Slmc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "c.toml", CONFIG, n_steps=20)
    for _ in range(2):
        assert slmc("run", "--continue", "c.toml", "-q")[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["c"]


def test_a_run_stopped_before_it_began_is_begun(slmc: Slmc, tmp_path: Path) -> None:
    """Whatever is left of the moments before: an empty directory, a lock, a configuration half written."""
    config, out = write(tmp_path / "c.toml", CONFIG, n_steps=20), tmp_path / "run"
    out.mkdir()
    (out / ".lock").write_text("")
    (out / ".config.toml.17").write_text("system")
    assert slmc("run", config, "--out", out, "-q")[0] == 0


def test_the_recipe_for_slurm(tmp_path: Path) -> None:
    """The job script of the how-to, with a scontrol that puts its job back into the queue."""
    page = Path(__file__).parents[1].joinpath("docs", "how-to", "resume.md").read_text(encoding="utf-8")
    script = next(block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "scontrol" in block)
    text = LEARNING.format(n_steps=40, n_baseline=20)
    (tmp_path / "my.toml").write_text(text.replace("[baseline]", "wall_time = 1e-3\n[baseline]"))
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "scontrol").write_text('#!/bin/sh\necho "$@" >> queue\n')
    (bin_ / "slmc").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    for command in bin_.iterdir():
        command.chmod(0o755)
    (tmp_path / "job.sh").write_text(script)
    environment = {**__import__("os").environ, "SLURM_JOB_ID": "12", "PATH": f"{bin_}:/usr/bin:/bin"}
    first = subprocess.run(["sh", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (tmp_path / "queue").read_text() == "requeue 12\n", first.stderr
    (tmp_path / "my.toml").write_text(text)
    second = subprocess.run(["sh", "job.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "queue").read_text() == "requeue 12\n"
    assert runs.info(tmp_path / "run")["phase"] == "done"


# --- scans ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    config = write(folder / "c.toml", CONFIG, n_steps=20)
    runs.scan(config, {"target.temperature": [5.0, 3.0]}, out=folder / "scan", quiet=True)
    return folder / "scan"


def test_a_point_is_worked_on_by_one_process(slmc: Slmc, scan: Path) -> None:
    with claimed(scan / "T=5.0") as ours:
        assert ours
        for command in (("resume", scan / "T=5.0"), ("run", "--continue", scan / "T=5.0")):
            code, _, err = slmc(*command)
            assert code == 2
            assert "another process is working on" in " ".join(err.split())


def seeds(settings: dict, out: Path = Path("nowhere")) -> dict[float, int]:
    chosen = runs.settings_of({"system": "plaquette_ising", **settings})
    return {point.settings.target.temperature: point.settings.seed for point in points_of(out, chosen)}


def test_seeds_of_scans_share_nothing() -> None:
    five = seeds({"seed": 5, "scan": {"temperatures": [0.3, 0.2]}})
    six = seeds({"seed": 6, "scan": {"temperatures": [0.2, 0.1]}})
    assert not set(five.values()) & set(six.values())
    more = seeds({"seed": 5, "scan": {"temperatures": [0.5, 0.3, 0.25, 0.2]}})
    assert {temperature: more[temperature] for temperature in five} == five
    assert len(set(more.values())) == 4
    for large in (2**63 - 1, 2**63 - 2, 2**32, 0):
        assert all(0 <= seed < 2**63 for seed in seeds({"seed": large, "scan": {"temperatures": [0.3, 0.2]}}).values())
    assert seeds({"seed": 1, "scan": {"temperatures": [1, 2]}}) == seeds(
        {"seed": 1, "scan": {"temperatures": [1.0, 2.0]}}
    )


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1, -1, 10**30])
def test_seeds_beyond_are_refused_at_once(slmc: Slmc, tmp_path: Path, seed: int) -> None:
    config = write(tmp_path / "c.toml", CONFIG, n_steps=20)
    code, _, err = slmc("run", config, "--out", tmp_path / "run", f"--seed={seed}", "--set=scan.temperatures=[3.0,2.0]")
    assert code == 2
    assert "seed = " in err
    assert not (tmp_path / "run").exists()


def test_points_that_an_earlier_version_began_keep_their_seeds(slmc: Slmc, scan: Path, tmp_path: Path) -> None:
    """It gave point k the seed of the scan plus k."""
    shutil.copytree(scan, copy := tmp_path / "scan")
    chosen = runs.settings_of(runs.read_toml(copy / "config.toml"))
    for number, point in enumerate(points_of(copy, chosen)):
        text = (point.directory / "config.toml").read_text()
        (point.directory / "config.toml").write_text(
            text.replace(f"seed = {point.settings.seed}", f"seed = {4 + number}")
        )
    assert [point.settings.seed for point in points_of(copy, chosen)] == [4, 5]
    (copy / "T=3.0" / "config.toml").write_text(
        (copy / "T=3.0" / "config.toml").read_text().replace("seed = 5", "seed = 9")
    )
    with pytest.raises(UserError, match="says seed = 9, which is not that of this point"):
        points_of(copy, chosen)


def test_a_scan_of_another_seed_or_target_is_not_gone_on_with(slmc: Slmc, scan: Path, tmp_path: Path) -> None:
    shutil.copytree(scan, copy := tmp_path / "scan")
    text = (copy / "config.toml").read_text()
    for change in (("seed = 4", "seed = 5"), ("shape = [2, 3]", "shape = [3, 3]")):
        (copy / "config.toml").write_text(text.replace(*change))
        for command in ("info", "report", "resume"):
            code, _, err = slmc(command, copy)
            assert code == 2
            assert "was changed since the run began" in " ".join(err.split())


def test_points_are_made_longer_and_more(slmc: Slmc, scan: Path, tmp_path: Path) -> None:
    shutil.copytree(scan, copy := tmp_path / "scan")
    text = (copy / "config.toml").read_text().replace("[5.0, 3.0]", "[5.0, 4.0, 3.0]")
    (copy / "config.toml").write_text(text.replace("n_chains = 4\nn_steps = 20", "n_chains = 4\nn_steps = 40"))
    assert slmc("resume", copy, "-q")[0] == 0
    for name in ("T=5.0", "T=4.0", "T=3.0"):
        records = Records(copy / "records.zarr" / name, read_only=True).read("measurement")
        assert records["energy"].shape == (4, 40)
    old = Records(scan / "records.zarr" / "T=3.0", read_only=True).read("measurement")["energy"]
    np.testing.assert_array_equal(records["energy"][:, :20], old)


# --- what is kept in mind ---------------------------------------------------------------------------------------------


def portions(values: dict[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, values["log_weight"].shape[1], size):
        yield {name: series[:, start : start + size] for name, series in values.items()}


def test_what_is_watched_is_what_all_draws_say_in_constant_memory() -> None:
    rng = np.random.default_rng(3)
    values = {name: rng.normal(size=(4, 3000)) for name in ("log_weight", "energy")}
    values["accepted"] = (rng.uniform(size=(4, 3000)) < 0.7).astype(float)
    watched = Watched(("energy",))
    for portion in portions(values, 50):
        watched.extend(portion)
    assert estimate(watched.series["energy"]) == estimate(values["energy"])
    assert watched.acceptance == pytest.approx(values["accepted"].mean())
    assert watched.has_moved == has_moved(values["log_weight"], values["accepted"]) is True
    frozen = {**values, "log_weight": np.r_[values["log_weight"][:3], np.zeros((1, 3000))]}
    watched = Watched(("energy",))
    for portion in portions(frozen, 500):
        watched.extend(portion)
    assert not watched.has_moved
    for _ in range(20):
        watched.extend(values)
    kept = watched.series["energy"]
    assert kept.means.nbytes + kept.deviations.nbytes + kept.first_draws.nbytes <= 3 * 8 * 4 * 4096


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_signals_that_are_ignored_stay_ignored_and_a_second_one_does_what_it_did() -> None:
    import signal

    seen: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        with Stopper(None) as stopper:
            signal.raise_signal(signal.SIGHUP)
            assert not stopper.signalled
            signal.raise_signal(signal.SIGTERM)
            assert stopper.signalled
            assert stopper.reason == "SIGTERM"
            assert not seen
            signal.raise_signal(signal.SIGTERM)
            assert seen == [signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_files_may_not_grow(slmc: Slmc, tmp_path: Path) -> None:
    """As on a full disk, whoever writes: nothing is lost, and the run goes on when there is room."""
    config, out = write(tmp_path / "c.toml", CONFIG, n_steps=40), tmp_path / "run"
    runs.run(config, out=tmp_path / "whole", quiet=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
        code, _, err = slmc("run", config, "--out", out, "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert "the disk is full, or a file would be larger than is allowed" in " ".join(err.split())
    assert slmc("run", "--continue", config, "--out", out, "-q")[0] == 0
    assert_same_records(tmp_path / "whole", out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    runs.run(write(folder / "c.toml", CONFIG, n_steps=20), out=folder / "x[1]" / "run", quiet=True)
    return folder / "x[1]" / "run"


@pytest.mark.parametrize("name", ["x[1]", "[red]x", "a b*", "日本 é", "n" * 200])
def test_paths_are_data(slmc: Slmc, finished: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(finished, out := tmp_path / name / "run")
    code, text, _ = slmc("resume", out)
    assert code == 0
    assert f"results in {out}" in text
    assert json.loads(slmc("info", out, "--json")[1])["phase"] == "done"
    (out / "config.toml").write_text("")
    assert str(out) in slmc("info", out)[2].replace("\n", "")
