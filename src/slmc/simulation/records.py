"""Records of a run on disk: a zarr hierarchy that xarray opens as a ``DataTree``.

    xarray.open_datatree(DIR / "records.zarr", engine="zarr")

Chunks hold some thousand draws, several of them a file, each with a checksum (crc32c): a long run has few files, opens
quickly, and a flipped bit is noticed. Files are replaced as a whole when something is appended. What a crash leaves
behind beyond the last checkpoint, variables of different lengths among it, is cut off on resuming, and reading cuts to
the common length. Records of older versions, a chunk a block and without checksums, are read and continued.
"""

import contextlib
import json
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning

from slmc.simulation.marks import Marks
from slmc.simulation.stored_arrays import GROWING, DamagedRecordsError, check_files
from slmc.system import UserError

_CHUNK_BYTES = 2**17
_LONGEST_CHUNK = 2048
"""Size of a chunk, at most, and its length in the growing dimension."""

_CHUNKS_PER_FILE = 8

_PORTION = 65536
"""Draws that are read at once, where not all are wanted."""

KEPT = "configurations"
"""The group of configurations that were kept, larger than all else: it is read where it is asked for."""

_PORTION_BYTES = 2**27


class Variable(NamedTuple):
    """One variable of a block: dimension names, values, units and a sentence."""

    dimensions: tuple[str, ...]
    values: np.ndarray
    units: str = ""
    description: str = ""


class Records:
    """Appends blocks of variables to groups, along the dimension each group grows in.

    The ``marks`` of the last checkpoint tell what there must be; what is beyond is not read, for a run that goes on is
    writing it, or a crash has left it behind. Raises ``DamagedRecordsError``, a ``UserError``, for files that are not
    what was written, or nothing that ``Records`` writes (see ``stored_arrays``).
    """

    def __init__(self, path: Path, read_only: bool = False, marks: Marks | None = None) -> None:
        self.path, self._marks = path, marks if read_only else None
        self._open: dict[tuple[str, str], zarr.Array] = {}
        if read_only and not path.is_dir():
            self._root = zarr.group()  # in memory: nothing has been recorded yet
        else:
            if path.is_dir() and any(path.iterdir()):
                check_files(path, marks)
            with self._noticing("it cannot be opened"):
                # Consolidated metadata would stand in for the files that were looked at.
                self._root = zarr.open_group(
                    str(path), mode="r" if read_only else "a", zarr_format=3, use_consolidated=False
                )

    def append(self, group: str, variables: Mapping[str, Variable]) -> None:
        """Adds a block to the end of each variable, which is created by its first block."""
        for name, variable in variables.items():
            axis = self._growing_axis(variable.dimensions)
            values = np.asarray(variable.values, dtype=np.float64)
            # Looking an array up takes as long as appending to it.
            if (group, name) not in self._open:
                self._open[group, name] = self._array(group, name, variable, axis, values.shape)
            array = self._open[group, name]
            with self._noticing(f"{group}/{name} cannot be continued"):
                array.append(values, axis=axis)

    def _array(self, group: str, name: str, variable: Variable, axis: int, shape: tuple[int, ...]) -> zarr.Array:
        members = self._root.require_group(group)
        if name not in members:
            self._create(members, name, variable, axis, shape)
        array = members[name]
        assert isinstance(array, zarr.Array)
        # Chunks of NaN have files too, so that one that is missing is noticed.
        return array.with_config({"write_empty_chunks": True})

    def _create(self, group: zarr.Group, name: str, variable: Variable, axis: int, shape: tuple[int, ...]) -> None:
        rest = [max(1, size) for size in shape]
        rest[axis] = 1
        length = max(1, min(_LONGEST_CHUNK, _CHUNK_BYTES // (8 * math.prod(rest))))
        chunk, shard, empty = list(rest), list(rest), list(shape)
        chunk[axis], shard[axis], empty[axis] = length, length * _CHUNKS_PER_FILE, 0
        group.create_array(
            name,
            shape=tuple(empty),
            chunks=tuple(chunk),
            shards=tuple(shard),
            **_FORMAT,
            dimension_names=variable.dimensions,
            attributes={"units": variable.units, "description": variable.description},
        )

    def replace(self, group: str, variables: Mapping[str, Variable]) -> None:
        """Stores variables that do not grow, in place of what they were."""
        target = self._root.require_group(group)
        for name, variable in variables.items():
            array = target.create_array(
                name,
                shape=variable.values.shape,
                **_FORMAT,
                dimension_names=variable.dimensions,
                attributes={"units": variable.units, "description": variable.description},
                overwrite=True,
            )
            array.with_config({"write_empty_chunks": True})[...] = variable.values

    def describe(self, group: str, variables: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]) -> None:
        """Writes attributes of variables of a group, and of the group itself, where they are not so already."""
        members = self._root.require_group(group)
        for name, array in self._arrays(members):
            attributes = variables.get(name, {})
            if any(array.attrs.get(key) != value for key, value in attributes.items()):
                array.attrs.update(attributes)
        if any(members.attrs.get(key) != value for key, value in about.items()):
            members.attrs.update(about)

    def attributes(self, group: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Attributes of a group, and of each variable in it; empty if it does not exist."""
        if group not in self._root:
            return {}, {}
        members = self._root[group]
        assert isinstance(members, zarr.Group)
        return dict(members.attrs), {name: dict(array.attrs) for name, array in self._arrays(members)}

    def lengths(self) -> dict[str, int]:
        """Length of every growing variable, by its path."""
        return {path: array.shape[axis] for path, array, axis in self._growing_arrays()}

    @property
    def identity(self) -> str | None:
        """That of the settings with which they were made; ``None`` where it is not told."""
        told = self._root.attrs.get("identity")
        return None if told is None else str(told)

    def sign(self, identity: str, settings: str) -> None:
        """Tells with which settings they are made."""
        if self.identity is None:
            self._root.attrs.update({"identity": identity, "settings": settings})

    def forms(self, final: bool = True) -> dict[str, int]:
        """A checksum of how every group and variable is described, by its path; lengths are no part of it.

        Unless they are ``final``, those of variables that do not grow are left out, for they may yet be replaced.
        """
        forms = {"": _checksum(dict(self._root.attrs))}
        for group, members in self._groups():
            forms[group] = _checksum(dict(members.attrs))
            for name, array in self._arrays(members):
                if not (final or set(_dimensions(array)) & set(GROWING)):
                    continue
                # The file itself: zarr passes over names that it does not know.
                about = json.loads((self.path / array.path / "zarr.json").read_text(encoding="utf-8"))
                dimensions = _dimensions(array)
                about["shape"] = [
                    0 if dimension in GROWING else size
                    for dimension, size in zip(dimensions, array.shape, strict=False)
                ]
                forms[f"{group}/{name}"] = _checksum(about)
        return forms

    def check(self, marks: Marks) -> None:
        """Raises ``DamagedRecordsError`` for what is missing, shorter or described otherwise than at a checkpoint."""
        self._check_lengths(marks.lengths)
        described = self.forms() if marks.forms else {}
        for path, form in marks.forms.items():
            if described.get(path) != form:
                path = path or "what they say of all settings"
                what = "is described otherwise than" if path in described else "is missing, which was there"
                raise DamagedRecordsError(self.path, f"{path} {what} at the last checkpoint")

    def check_signature(self, marks: Marks) -> None:
        """``check`` of what they say of all settings alone; the rest is made again where a run goes on."""
        self.check(Marks(forms={path: form for path, form in marks.forms.items() if not path}))

    def _check_lengths(self, lengths: Mapping[str, int]) -> None:
        stored = self.lengths()
        for path, length in lengths.items():
            if stored.get(path, 0) < length:
                what = f"has {stored[path]} of {length} entries" if path in stored else "is missing"
                raise DamagedRecordsError(self.path, f"{path} {what}, as the last checkpoint says")

    def verify(self, with_configurations: bool = True) -> None:
        """Reads everything once. Raises ``DamagedRecordsError`` for what does not fit its checksum."""
        for group, members in self._groups():
            if group == KEPT and not with_configurations:
                continue
            for name, array in self._known(members).items():
                axis, length = self._extent(f"{group}/{name}", array)
                of_a_draw = 8 * math.prod(size for place, size in enumerate(array.shape) if place != axis)
                portion = max(1, min(_PORTION, _PORTION_BYTES // max(1, of_a_draw)))
                for start in range(0, length, portion):
                    part = slice(start, min(start + portion, length))
                    self._values(array, (slice(None),) * axis + (part,))

    def truncate(self, lengths: Mapping[str, int]) -> None:
        """Cuts every growing variable back to its length at a checkpoint; those unknown there to nothing.

        Checks lengths first: nothing is cut from records of which a part is missing.
        """
        self._check_lengths(lengths)
        self._open.clear()
        for path, array, axis in self._growing_arrays():
            shape = list(array.shape)
            shape[axis] = lengths.get(path, 0)
            if tuple(shape) != array.shape:
                array.resize(tuple(shape))

    def tree(self) -> xarray.DataTree:
        """All groups as xarray data sets, growing dimensions cut to the length that all variables of a group have.

        Configurations that were kept are left out: ``kept`` has them.
        """
        groups = {f"/{group}": self._data_set(members) for group, members in self._groups() if group != KEPT}
        tree = xarray.DataTree.from_dict(groups)
        tree.attrs = dict(self._root.attrs)
        return tree

    def kept(self) -> xarray.Dataset:
        """The configurations that were kept, their draws as a coordinate; empty where none were."""
        members = self._root.get(KEPT)
        return self._data_set(members) if isinstance(members, zarr.Group) else xarray.Dataset()

    def extents(self, group: str, name: str) -> dict[str, int]:
        """How large a variable is along each dimension."""
        array = self._root[f"{group}/{name}"]
        assert isinstance(array, zarr.Array)
        return dict(zip(_dimensions(array), array.shape, strict=True))

    def read(self, group: str) -> dict[str, np.ndarray]:
        """All variables of a group, cut likewise; empty if it does not exist."""
        if group not in self._root:
            return {}
        members = self._root[group]
        assert isinstance(members, zarr.Group)
        return {str(name): variable.values for name, variable in self._data_set(members).data_vars.items()}

    def portions(self, group: str, names: tuple[str, ...], size: int = _PORTION) -> Iterator[dict[str, np.ndarray]]:
        """Variables of a group in portions of ``size`` along the dimension in which they grow."""
        if group not in self._root:
            return
        members = self._root[group]
        assert isinstance(members, zarr.Group)
        arrays = {name: array for name, array in self._known(members).items() if name in names}
        extents = {name: self._extent(f"{group}/{name}", array) for name, array in arrays.items()}
        axes = {name: axis for name, (axis, _) in extents.items()}
        length = min((length for _, length in extents.values()), default=0)
        for start in range(0, length, size):
            part = slice(start, min(start + size, length))
            yield {name: self._values(array, (slice(None),) * axes[name] + (part,)) for name, array in arrays.items()}

    def _values(self, array: zarr.Array, part: tuple[slice, ...]) -> np.ndarray:
        with self._noticing(f"{array.path} does not fit its checksum, or cannot be unpacked"):
            return np.asarray(array[part])

    @contextlib.contextmanager
    def _noticing(self, what: str) -> Iterator[None]:
        """Whatever goes wrong on reading is damage, and told in one sentence."""
        try:
            yield
        except (UserError, MemoryError):
            raise
        except OSError as error:
            if error.errno is not None and not isinstance(error, FileNotFoundError):
                raise
            raise DamagedRecordsError(self.path, what) from None
        except Exception:
            raise DamagedRecordsError(self.path, what) from None

    def _data_set(self, members: zarr.Group) -> xarray.Dataset:
        arrays = self._known(members)
        dimensions = {name: _dimensions(array) for name, array in arrays.items()}
        lengths: dict[str, int] = {}
        for name, array in arrays.items():
            axis, known = self._extent(f"{members.path}/{name}", array)
            shape = (*array.shape[:axis], known, *array.shape[axis + 1 :]) if array.ndim else ()
            for dimension, length in zip(dimensions[name], shape, strict=True):
                lengths[dimension] = min(length, lengths.get(dimension, length))
        cut = {name: tuple(slice(lengths[dimension]) for dimension in dimensions[name]) for name in arrays}
        return xarray.Dataset(
            {
                name: (dimensions[name], self._values(array, cut[name]), dict(array.attrs))
                for name, array in arrays.items()
            },
            attrs=dict(members.attrs),
        )

    def _groups(self) -> list[tuple[str, zarr.Group]]:
        with warnings.catch_warnings(), self._noticing("a group cannot be opened"):
            warnings.simplefilter("ignore", ZarrUserWarning)  # a directory that a crash left behind
            return sorted(self._root.groups(), key=lambda group: group[0])

    def _arrays(self, members: zarr.Group) -> list[tuple[str, zarr.Array]]:
        with warnings.catch_warnings(), self._noticing(f"{members.path} cannot be opened"):
            warnings.simplefilter("ignore", ZarrUserWarning)
            return sorted(members.arrays(), key=lambda array: array[0])

    def _extent(self, path: str, array: zarr.Array) -> tuple[int, int]:
        """The growing axis of a variable, the first of one that does not grow, and how much there is of it."""
        dimensions = _dimensions(array)
        if not set(dimensions) & set(GROWING):
            return 0, array.shape[0] if array.ndim else 0
        axis = self._growing_axis(dimensions)
        length = array.shape[axis]
        return axis, length if self._marks is None else min(length, self._marks.lengths.get(path, 0))

    def _known(self, members: zarr.Group) -> dict[str, zarr.Array]:
        """The variables of a group of which the last checkpoint knows."""
        arrays = dict(self._arrays(members))
        if self._marks is None:
            return arrays
        grow = {name: bool(set(_dimensions(array)) & set(GROWING)) for name, array in arrays.items()}
        return {name: array for name, array in arrays.items() if self._marks.know(f"{members.path}/{name}", grow[name])}

    def _growing_arrays(self) -> Iterator[tuple[str, zarr.Array, int]]:
        """Path, array and growing axis of every variable that grows."""
        for group, members in self._groups():
            for name, array in self._arrays(members):
                dimensions = _dimensions(array)
                if set(dimensions) & set(GROWING):
                    yield f"{group}/{name}", array, self._growing_axis(dimensions)

    def _growing_axis(self, dimensions: tuple[str, ...]) -> int:
        return next(axis for axis, name in enumerate(dimensions) if name in GROWING)


def _checksum(about: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True, default=str).encode())


def _dimensions(array: zarr.Array) -> tuple[str, ...]:
    return tuple(getattr(array.metadata, "dimension_names", None) or ())


_FORMAT: dict[str, Any] = {
    "dtype": "float64",
    "compressors": [ZstdCodec(level=0), Crc32cCodec()],
    "fill_value": float("nan"),
}
