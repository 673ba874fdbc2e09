"""Records of a run on disk: a zarr hierarchy that xarray opens as a ``DataTree``.

    xarray.open_datatree(DIR / "records.zarr", engine="zarr")

Every block is one chunk per variable; nothing written is ever written again. What a crash leaves behind beyond the last
checkpoint, variables of different lengths among it, is cut off on resuming, and reading cuts to the common length.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray
import zarr


class Variable(NamedTuple):
    """One variable of a block: dimension names, values, units and a sentence."""

    dimensions: tuple[str, ...]
    values: np.ndarray
    units: str = ""
    description: str = ""


class Records:
    """Appends blocks of variables to groups, along the dimension each group grows in."""

    GROWING = ("draw", "block", "round", "evaluation", "step")

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_dir():
            self._root = zarr.group()  # in memory: nothing has been recorded yet
        else:
            self._root = zarr.open_group(str(path), mode="r" if read_only else "a")

    def append(self, group: str, variables: Mapping[str, Variable]) -> None:
        """Adds a block to the end of each variable, which is created by its first block."""
        target = self._root.require_group(group)
        for name, variable in variables.items():
            axis = self._growing_axis(variable.dimensions)
            values = np.asarray(variable.values, dtype=np.float64)
            if name not in target:
                empty = list(values.shape)
                empty[axis] = 0
                target.create_array(
                    name,
                    shape=tuple(empty),
                    chunks=tuple(max(1, size) for size in values.shape),
                    dtype="float64",
                    fill_value=float("nan"),
                    dimension_names=variable.dimensions,
                    attributes={"units": variable.units, "description": variable.description},
                )
            array = target[name]
            assert isinstance(array, zarr.Array)
            array.append(values, axis=axis)

    def replace(self, group: str, variables: Mapping[str, Variable]) -> None:
        """Stores variables that do not grow, in place of what they were."""
        target = self._root.require_group(group)
        for name, variable in variables.items():
            array = target.create_array(
                name,
                shape=variable.values.shape,
                dtype="float64",
                dimension_names=variable.dimensions,
                attributes={"units": variable.units, "description": variable.description},
                overwrite=True,
            )
            array[...] = variable.values

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

    def truncate(self, lengths: Mapping[str, int]) -> None:
        """Cuts every growing variable back to its length at the last checkpoint; those unknown there to nothing."""
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

    def _data_set(self, members: zarr.Group) -> xarray.Dataset:
        arrays = dict(members.arrays())
        dimensions = {name: getattr(array.metadata, "dimension_names", None) or () for name, array in arrays.items()}
        lengths: dict[str, int] = {}
        for name, array in arrays.items():
            for dimension, length in zip(dimensions[name], array.shape, strict=True):
                lengths[dimension] = min(length, lengths.get(dimension, length))
        cut = {name: tuple(slice(lengths[dimension]) for dimension in dimensions[name]) for name in arrays}
        return xarray.Dataset(
            {name: (dimensions[name], array[cut[name]], dict(array.attrs)) for name, array in arrays.items()},
            attrs=dict(members.attrs),
        )

    def _growing_arrays(self) -> Iterator[tuple[str, zarr.Array, int]]:
        """Path, array and growing axis of every variable that grows."""
        for group, members in self._root.groups():
            for name, array in members.arrays():
                dimensions = getattr(array.metadata, "dimension_names", None) or ()
                if set(dimensions) & set(self.GROWING):
                    yield f"{group}/{name}", array, self._growing_axis(dimensions)

    def _growing_axis(self, dimensions: tuple[str, ...]) -> int:
        return next(axis for axis, name in enumerate(dimensions) if name in self.GROWING)
