"""Records: damage is noticed, nothing in a file can run or swallow the memory, old ones are read, long ones quickly."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

from slmc.simulation.marks import Marks
from slmc.simulation.records import Records, Variable
from slmc.statistics import RunningSeries, estimate
from slmc.system import UserError


def written(path: Path, n_blocks: int = 3, n_draws: int = 50) -> np.ndarray:
    """Records of two variables, one of which is NaN at first; the values of the other."""
    records, blocks = Records(path), []
    for block in range(n_blocks):
        blocks.append(np.random.default_rng(block).normal(size=(4, n_draws)))
        field = np.full((4, 1, 3), math.nan if block == 0 else block)
        records.append("measurement", {"energy": Variable(("chain", "draw"), blocks[-1], "t", "a sentence")})
        records.append("measurement", {"field": Variable(("chain", "block", "q"), field)})
        records.append("learning", {"unknown": Variable(("round",), np.full(1, math.nan))})
    records.replace("learning", {"exact": Variable(("sample",), np.arange(5.0))})
    records.replace("learning", {"nothing": Variable(("sample",), np.full(5, math.nan))})
    return np.concatenate(blocks, axis=1)


def chunks(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("c/**/*") if file.is_file())


def edited(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def everything(path: Path, marks: Marks | None = None) -> xarray.DataTree:
    records = Records(path, read_only=True, marks=marks)
    records.check(marks or Marks())
    records.verify()
    return records.tree()


def marks_of(path: Path) -> Marks:
    records = Records(path)
    return Marks(lengths=records.lengths(), forms=records.forms())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    values = written(tmp_path / "r")
    tree = everything(tmp_path / "r")
    np.testing.assert_array_equal(tree["measurement/energy"], values)
    assert tree["measurement/energy"].attrs == {"units": "t", "description": "a sentence"}
    np.testing.assert_array_equal(tree["learning/exact"], np.arange(5.0))
    with xarray.open_datatree(tmp_path / "r", engine="zarr", consolidated=False) as opened:
        np.testing.assert_array_equal(opened["measurement/energy"], values)
    records = Records(tmp_path / "r")
    assert records.lengths() == {"measurement/energy": 150, "measurement/field": 3, "learning/unknown": 3}
    records.truncate({"measurement/energy": 70, "measurement/field": 1, "learning/unknown": 2})
    records.append("measurement", {"energy": Variable(("chain", "draw"), values[:, :40])})
    expected = np.concatenate([values[:, :70], values[:, :40]], axis=1)
    np.testing.assert_array_equal(Records(tmp_path / "r").read("measurement")["energy"], expected)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In whatever file; a bit may be one that does not matter only where the metadata are."""
    written(tmp_path / "r")
    rng = np.random.default_rng(1)
    for number, file in enumerate(chunks(tmp_path / "r")):
        for place in rng.integers(file.stat().st_size, size=6):
            shutil.copytree(tmp_path / "r", copy := tmp_path / f"{number}-{place}", dirs_exist_ok=True)
            content = bytearray((copy / file.relative_to(tmp_path / "r")).read_bytes())
            content[place] ^= 1 << int(rng.integers(8))
            (copy / file.relative_to(tmp_path / "r")).write_bytes(content)
            with pytest.raises(UserError, match=r"are damaged: .*; no result can be trusted"):
                everything(copy)


@pytest.mark.parametrize("harm", ["empty", "cut", "deleted"])
def test_every_file_that_is_harmed_is_noticed(tmp_path: Path, harm: str) -> None:
    written(tmp_path / "r")
    marks = marks_of(tmp_path / "r")
    files = [file.relative_to(tmp_path / "r") for file in (tmp_path / "r").rglob("*") if file.is_file()]
    for number, name in enumerate(files):
        shutil.copytree(tmp_path / "r", copy := tmp_path / str(number))
        file = copy / name
        if harm == "deleted":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: 0 if harm == "empty" else file.stat().st_size // 2])
        with pytest.raises(UserError, match="are damaged"):
            everything(copy, marks)


def test_what_is_behind_the_last_checkpoint_is_not_read(tmp_path: Path) -> None:
    """A run that goes on is writing it, or was killed there: files not yet written, a group just begun."""
    values = written(tmp_path / "r")
    marks = Marks(lengths={"measurement/energy": 70, "measurement/field": 1}, forms={"measurement": 0})
    (tmp_path / "r" / "baseline" / "energy").mkdir(parents=True)
    edited(tmp_path / "r" / "measurement" / "energy" / "zarr.json", shape=[4, 10**5])
    tree = Records(tmp_path / "r", read_only=True, marks=marks).tree()
    np.testing.assert_array_equal(tree["measurement/energy"], values[:, :70])
    assert "exact" not in tree["learning"]
    records = Records(tmp_path / "r", marks=marks)
    records.truncate(marks.lengths)
    np.testing.assert_array_equal(records.read("measurement")["energy"], values[:, :70])
    with pytest.raises(UserError, match=r"there is no zarr.json of format 3 in baseline"):
        Records(tmp_path / "r", read_only=True)


def test_another_description_than_at_the_last_checkpoint_is_noticed(tmp_path: Path) -> None:
    written(tmp_path / "r")
    marks, file = marks_of(tmp_path / "r"), tmp_path / "r" / "measurement" / "energy" / "zarr.json"
    edited(file, attributes={"units": "J", "description": "a sentence"})
    with pytest.raises(UserError, match="measurement/energy is described otherwise than at the last checkpoint"):
        everything(tmp_path / "r", marks)


def test_consolidated_metadata_do_not_stand_in_for_files(tmp_path: Path) -> None:
    """They could name codecs that nobody looked at."""
    written(tmp_path / "r")
    array = json.loads((tmp_path / "r" / "measurement" / "energy" / "zarr.json").read_text())
    array |= {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    inside = {
        "kind": "inline",
        "must_understand": False,
        "metadata": {"measurement": group, "measurement/energy": array},
    }
    edited(tmp_path / "r" / "zarr.json", consolidated_metadata=inside)
    assert everything(tmp_path / "r")["measurement/energy"].shape == (4, 150)


def test_what_a_checkpoint_knows_must_be_there(tmp_path: Path) -> None:
    written(tmp_path / "r")
    records = Records(tmp_path / "r")
    with pytest.raises(UserError, match="measurement/energy has 150 of 200 entries, as the last checkpoint says"):
        records.truncate({"measurement/energy": 200, "measurement/field": 3})
    with pytest.raises(UserError, match="baseline/energy is missing"):
        records.truncate({"baseline/energy": 1})
    with pytest.raises(UserError, match="measurement/energy is missing"):
        Records(tmp_path / "elsewhere").truncate({"measurement/energy": 200})
    assert records.lengths()["measurement/energy"] == 150


# --- files that somebody else made ------------------------------------------------------------------------------------


def test_format_2_is_refused_before_its_codecs_are_known(tmp_path: Path) -> None:
    """An object array packed by pickle runs code from the file when it is read."""
    (tmp_path / "r" / "x").mkdir(parents=True)
    (tmp_path / "r" / ".zgroup").write_text('{"zarr_format": 2}')
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None, "order": "C"}
    (tmp_path / "r" / "x" / ".zarray").write_text(json.dumps(array | {"compressor": {"id": "pickle"}, "filters": None}))
    for read_only in (True, False):
        with pytest.raises(UserError, match=r"there is no zarr.json of format 3"):
            Records(tmp_path / "r", read_only)
    (tmp_path / "r" / "zarr.json").write_text('{"zarr_format": 2, "node_type": "group"}')
    with pytest.raises(UserError, match="neither a group nor an array of zarr format 3"):
        Records(tmp_path / "r", read_only=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "packed by codecs that slmc does not write, numcodecs.pickle"),
        ({"data_type": "string"}, "another type than float64"),
        ({"shape": [4, 10**12]}, "more than its files can"),
        ({"shape": [4, -1]}, "its shape is none"),
        ({"shape": [4.5, 1]}, "its shape is none"),
        ({"shape": [4]}, "its shape is none"),
        ({"shape": None}, "its description makes no sense"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**6, 10**6]}}},
            "a size that slmc does not write",
        ),
        ({"chunk_grid": {"name": "mine", "configuration": {}}}, "not laid out as slmc does"),
        ({"node_type": "link"}, "neither a group nor an array"),
    ],
)
def test_arrays_that_slmc_does_not_write(tmp_path: Path, changes: dict, words: str) -> None:
    written(tmp_path / "r")
    edited(tmp_path / "r" / "measurement" / "energy" / "zarr.json", **changes)
    with pytest.raises(UserError, match=words):
        Records(tmp_path / "r", read_only=True)


def test_metadata_that_are_none(tmp_path: Path) -> None:
    written(tmp_path / "r")
    file = tmp_path / "r" / "measurement" / "energy" / "zarr.json"
    for content in ("[]", "[" * 100_000, "{" + " " * 2**20 + "}", '"x"'):
        file.write_text(content)
        with pytest.raises(UserError, match="are damaged"):
            Records(tmp_path / "r", read_only=True)


def test_records_of_older_versions_are_read_and_continued(tmp_path: Path) -> None:
    """A chunk a block, no checksums; blocks of NaN have no file."""
    group = zarr.open_group(str(tmp_path / "r"), mode="a", zarr_format=3).require_group("measurement")
    array = group.create_array(
        "energy", shape=(2, 0), chunks=(2, 5), dtype="float64", fill_value=math.nan, dimension_names=("chain", "draw")
    )
    values = np.arange(20.0).reshape(2, 10)
    for block in (values[:, :5], np.full((2, 5), math.nan), values[:, 5:]):
        array.append(block, axis=1)
    assert len(chunks(tmp_path / "r")) == 2
    records = Records(tmp_path / "r")
    records.append("measurement", {"energy": Variable(("chain", "draw"), values)})
    found = Records(tmp_path / "r", read_only=True).read("measurement")["energy"]
    np.testing.assert_array_equal(
        found, np.concatenate([values[:, :5], np.full((2, 5), math.nan), values[:, 5:], values], 1)
    )


# --- long runs --------------------------------------------------------------------------------------------------------


def test_a_long_run_has_few_files_and_is_read_in_portions(tmp_path: Path) -> None:
    records = Records(tmp_path / "r")
    series = np.random.default_rng(1).normal(size=(2, 100_000))
    for start in range(0, 100_000, 20_000):
        block = Variable(("chain", "draw"), series[:, start : start + 20_000])
        records.append("measurement", {"energy": block})
    assert len(chunks(tmp_path / "r")) == math.ceil(100_000 / (8 * 2048))
    running = RunningSeries(2)
    for portion in Records(tmp_path / "r", read_only=True).portions("measurement", ("energy",), 30_000):
        running.extended(portion["energy"])
    assert running.n_draws == 100_000
    assert estimate(running) == estimate(series)
    assert list(records.portions("baseline", ("energy",))) == []
