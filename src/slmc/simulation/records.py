"""Records of a run on disk: a zarr hierarchy that xarray opens as a ``DataTree``.

    xarray.open_datatree(DIR / "records.zarr", engine="zarr")

Chunks hold some thousand draws, several of them a file, each with a checksum (crc32c): a long run has few files, opens
quickly, and a flipped bit is noticed. Files are replaced as a whole when something is appended. What a crash leaves
behind beyond the last checkpoint, variables of different lengths among it, is cut off on resuming, and reading cuts to
the common length. Records of older versions, a chunk a block and without checksums, are read and continued.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from slmc.simulation.stored_arrays import DamagedRecordsError, check_files
from slmc.system import UserError

_CHUNK_BYTES = 2**17
_LONGEST_CHUNK = 2048
"""Size of a chunk, at most, and its length in the growing dimension."""

_CHUNKS_PER_FILE = 8


class Variable(NamedTuple):
    """One variable of a block: dimension names, values, units and a sentence."""

    dimensions: tuple[str, ...]
    values: np.ndarray
    units: str = ""
    description: str = ""


class Records:
    """Appends blocks of variables to groups, along the dimension each group grows in.

    Raises ``DamagedRecordsError``, a ``UserError``, for files that are not what was written, or nothing that
    ``Records`` writes (see ``stored_arrays``).
    """

    GROWING = ("draw", "block", "round", "evaluation", "step")

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        self._open: dict[tuple[str, str], zarr.Array] = {}
        if read_only and not path.is_dir():
            self._root = zarr.group()  # in memory: nothing has been recorded yet
        else:
            if path.is_dir() and any(path.iterdir()):
                check_files(path)
            with self._noticing("it cannot be opened"):
                self._root = zarr.open_group(str(path), mode="r" if read_only else "a", zarr_format=3)

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
        for name, array in members.arrays():
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
        return dict(members.attrs), {name: dict(array.attrs) for name, array in members.arrays()}

    def lengths(self) -> dict[str, int]:
        """Length of every growing variable, by its path."""
        return {path: array.shape[axis] for path, array, axis in self._growing_arrays()}

    def check(self, lengths: Mapping[str, int]) -> None:
        """Raises ``DamagedRecordsError`` if a variable is missing or shorter than it was at the last checkpoint."""
        stored = self.lengths()
        for path, length in lengths.items():
            if stored.get(path, 0) < length:
                what = f"has {stored[path]} of {length} entries" if path in stored else "is missing"
                raise DamagedRecordsError(self.path, f"{path} {what}, as the last checkpoint says")

    def truncate(self, lengths: Mapping[str, int]) -> None:
        """Cuts every growing variable back to its length at the last checkpoint; those unknown there to nothing.

        Checks them first: nothing is cut from records of which a part is missing.
        """
        self.check(lengths)
        self._open.clear()
        for path, array, axis in self._growing_arrays():
            shape = list(array.shape)
            shape[axis] = lengths.get(path, 0)
            if tuple(shape) != array.shape:
                array.resize(tuple(shape))

    def tree(self) -> xarray.DataTree:
        """All groups as xarray data sets, growing dimensions cut to the length that all variables of a group have."""
        return xarray.DataTree.from_dict(
            {f"/{group}": self._data_set(members) for group, members in self._root.groups()}
        )

    def read(self, group: str) -> dict[str, np.ndarray]:
        """All variables of a group, cut likewise; empty if it does not exist."""
        if group not in self._root:
            return {}
        members = self._root[group]
        assert isinstance(members, zarr.Group)
        return {str(name): variable.values for name, variable in self._data_set(members).data_vars.items()}

    def portions(self, group: str, names: tuple[str, ...], size: int = 65536) -> Iterator[dict[str, np.ndarray]]:
        """Variables of a group in portions of ``size`` along the dimension in which they grow."""
        if group not in self._root:
            return
        members = self._root[group]
        assert isinstance(members, zarr.Group)
        arrays = {name: array for name, array in members.arrays() if name in names}
        axes = {name: self._growing_axis(_dimensions(array)) for name, array in arrays.items()}
        length = min((array.shape[axes[name]] for name, array in arrays.items()), default=0)
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
        arrays = dict(members.arrays())
        dimensions = {name: _dimensions(array) for name, array in arrays.items()}
        lengths: dict[str, int] = {}
        for name, array in arrays.items():
            for dimension, length in zip(dimensions[name], array.shape, strict=True):
                lengths[dimension] = min(length, lengths.get(dimension, length))
        cut = {name: tuple(slice(lengths[dimension]) for dimension in dimensions[name]) for name in arrays}
        return xarray.Dataset(
            {
                name: (dimensions[name], self._values(array, cut[name]), dict(array.attrs))
                for name, array in arrays.items()
            },
            attrs=dict(members.attrs),
        )

    def _growing_arrays(self) -> Iterator[tuple[str, zarr.Array, int]]:
        """Path, array and growing axis of every variable that grows."""
        for group, members in self._root.groups():
            for name, array in members.arrays():
                dimensions = _dimensions(array)
                if set(dimensions) & set(self.GROWING):
                    yield f"{group}/{name}", array, self._growing_axis(dimensions)

    def _growing_axis(self, dimensions: tuple[str, ...]) -> int:
        return next(axis for axis, name in enumerate(dimensions) if name in self.GROWING)


def _dimensions(array: zarr.Array) -> tuple[str, ...]:
    return tuple(getattr(array.metadata, "dimension_names", None) or ())


_FORMAT: dict[str, Any] = {
    "dtype": "float64",
    "compressors": [ZstdCodec(level=0), Crc32cCodec()],
    "fill_value": float("nan"),
}
