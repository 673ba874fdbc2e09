"""Configurations that are kept in the records: which, how they come back, what is measured of them afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slmc as package
from slmc.simulation.kept import kept_in, measured_anew, variables
from slmc.simulation.records import KEPT, Records
from slmc.simulation.size import check_size
from slmc.simulation.stored_arrays import DamagedRecordsError
from slmc.system import LOG_WEIGHT, Observable, ProblemSettings, UserError, validated
from test_runs import compass

STEPS = {
    "thermalisation.n_steps": 10,
    "exact.tuning_steps": 20,
    "learning.n_rounds": 1,
    "learning.n_steps": 20,
    "learning.training_steps": 0,
    "measurement": {"n_chains": 4, "n_steps": 40, "n_thermalise": 10, "block_size": 10},
}


@pytest.mark.parametrize(
    ("every", "draws"), [(5, [4, 9, 14, 19, 24, 29]), (10, [9, 19, 29]), (20, [19]), (1, list(range(30)))]
)
def test_which_draws_are_kept(every: int, draws: list[int]) -> None:
    found = [10 * (block - 1) + step for block in (1, 2, 3) for step in kept_in(block, 10, every)]
    assert found == draws


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that keeps nothing, with its problem."""
    return package.run(compass(), STEPS, out=tmp_path_factory.mktemp("runs") / "plain", quiet=True)


@pytest.mark.parametrize("every", [5, 20])
def test_kept_configurations_are_those_that_were_measured(plain: Any, tmp_path: Path, every: int) -> None:
    """Of a configuration of two parts: kept on the way and at the ends of blocks; series are those of a run that keeps
    none, and every observable measured anew is the recorded one to the bit."""
    problem = plain.problem
    kept = package.run(problem, STEPS | {"measurement.keep_every": every}, out=tmp_path / "kept", quiet=True)
    series, others = (run.records["measurement"].to_dataset() for run in (plain, kept))
    assert series.identical(others)
    assert KEPT not in kept.records.children
    expected = np.arange(every - 1, 40, every)
    np.testing.assert_array_equal(kept.configurations["draw"], expected)
    for about in (LOG_WEIGHT, *problem.observables):
        anew = package.measure(kept, about.name)
        np.testing.assert_array_equal(anew["draw"], expected)
        np.testing.assert_array_equal(anew, series[about.name].values[:, expected])
        assert anew.attrs["units"] == about.units
    parts = package.measure(kept, lambda configuration: jax.tree.leaves(configuration)[0])
    name = next(str(name) for name in kept.configurations.data_vars)
    np.testing.assert_array_equal(parts, kept.configurations[name])


def test_a_run_that_keeps_none_says_what_to_do(plain: Any, slmc: Any) -> None:
    assert not plain.configurations.data_vars
    with pytest.raises(UserError, match=r"a run keeps those of every so many steps with measurement.keep_every"):
        package.measure(plain, "log_weight")
    with pytest.raises(UserError, match="there is no observable 'nothing'"):
        package.measure(plain, "nothing")
    code, _, err = slmc("measure", plain.directory, "log_weight")
    assert code == 2
    assert "slmc.measure(run, what, problem)" in err


def test_complex_and_whole_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    """And reading notices a flipped bit."""
    generator = np.random.default_rng(0)
    links = generator.normal(size=(2, 3, 4, 2)) + 1j * generator.normal(size=(2, 3, 4, 2))
    spins = generator.integers(0, 2, size=(2, 3, 5))
    records = Records(tmp_path / "r")
    records.append(KEPT, variables({"links": links, "spins": spins}, np.arange(3), ()))
    like = {"links": jnp.zeros((4, 2), complex), "spins": jnp.zeros(5, int)}

    def start(key: Any, n_chains: int) -> Any:
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_chains, *leaf.shape)), like)

    problem = replace(compass(), start=start)
    for name, values in (("links", links), ("spins", spins)):
        about = Observable(name, lambda configuration, name=name: configuration[name])
        anew = measured_anew(Records(tmp_path / "r", read_only=True), problem, about, problem.target)
        assert anew.dtype == values.dtype
        np.testing.assert_array_equal(anew, values)
    file = next(path for path in (tmp_path / "r" / KEPT / "configuration.links").rglob("c/**/*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    Records(tmp_path / "r", read_only=True).verify(with_configurations=False)
    with pytest.raises(DamagedRecordsError):
        Records(tmp_path / "r", read_only=True).verify()
    about = Observable("links", lambda configuration: configuration["links"])
    with pytest.raises(DamagedRecordsError):
        measured_anew(Records(tmp_path / "r", read_only=True), problem, about, problem.target)


@pytest.mark.parametrize(
    ("measurement", "words"),
    [
        ({"keep_every": 7}, "keep_every must divide block_size = 50, or be a multiple of it; got 7"),
        ({"keep_every": 100, "n_steps": 40}, "keep_every = 100 keeps nothing in n_steps = 40"),
        ({"keep_every": -1}, "measurement.keep_every = -1 is not allowed"),
    ],
)
def test_what_cannot_be_kept_is_refused(measurement: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        validated({"system": "python", "measurement": measurement}, ProblemSettings)


def test_keeping_is_part_of_what_a_run_is_and_keeping_nothing_is_as_before() -> None:
    def identity(**measurement: int) -> str:
        return validated({"system": "python", "measurement": measurement}, ProblemSettings).identity

    assert identity(keep_every=0) == identity()
    assert identity(keep_every=50) != identity()
    assert "keep_every" not in ProblemSettings().model_dump_json(exclude={"measurement": {"keep_every"}})


def test_more_than_records_take_at_a_time_is_refused() -> None:
    settings = validated({"system": "python", "measurement": {"keep_every": 50, "n_chains": 10**6}}, ProblemSettings)
    with pytest.raises(UserError, match=r"keep_every would keep .* GiB at a time|would take at least"):
        check_size(settings, compass())
