"""Model files: one line of JSON that says how to build the model, then its numbers.

Nothing in a file can run code, or ask for more memory than the file itself has: the structure is made without numbers
first, its size compared with the file's, and every array is compared with what the structure expects before it is read.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from slmc.system.errors import UserError

FORMAT = 1
_LONGEST_HEADER = 2**16
_MOST_SITES = 2**21
"""Sites of a lattice for which a model is built, of which there are tables, whatever the size of the file."""

Model = TypeVar("Model")


def save_model(path: Path, model: Any, description: dict[str, Any]) -> None:
    """Writes a model with the settings from which ``load_model`` can build its like; atomic."""
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write(json.dumps({"format": FORMAT, "model": description}).encode() + b"\n")
        eqx.tree_serialise_leaves(file, model)
    os.replace(temporary, path)


def load_model(path: Path, build: Callable[[dict[str, Any]], Model]) -> Model:
    """The model in a file. ``build(description)`` makes a model of the same structure, whose numbers are replaced.

    Raises ``UserError`` for a file that cannot be read, is damaged, or has another format version.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"the model file {path} is no file but a directory or device.")
    try:
        with path.open("rb") as file:
            return _read(path, file, build)
    except OSError as error:
        raise UserError(f"the model file {path} cannot be read: {error.strerror}.") from None
    except UserError:
        raise
    except (Exception, MemoryError) as error:
        raise UserError(f"the model file {path} is damaged or no model file ({type(error).__name__}).") from None


def _read(path: Path, file: BinaryIO, build: Callable[[dict[str, Any]], Model]) -> Model:
    header = json.loads(file.readline(_LONGEST_HEADER))
    if header["format"] != FORMAT:
        raise UserError(
            f"the model file {path} has format {header['format']!r:.20}, this version of slmc reads format {FORMAT}; "
            "learn the model again or use the version that wrote it."
        )
    _check_size(path, header["model"], build)
    model = eqx.tree_deserialise_leaves(file, build(header["model"]), filter_spec=_leaf)
    if file.read(1):
        raise ValueError("there is something behind the last number")
    return model


def _check_size(path: Path, description: dict[str, Any], build: Callable[[dict[str, Any]], Any]) -> None:
    """Raises ``UserError`` if the model would have more numbers than the file has bytes for."""
    size = path.stat().st_size
    counts = [value for value in description.values() if isinstance(value, int) and not isinstance(value, bool)]
    lists = [value for value in description.values() if isinstance(value, list) and all(map(_is_number, value))]
    n_sites = [math.prod(float(extent) for extent in extents) for extents in lists]
    if not all(abs(count) <= size for count in counts) or not all(abs(number) <= _MOST_SITES for number in n_sites):
        raise UserError(f"the model file {path} tells of a model far larger than the file; it is damaged.")
    try:
        like = eqx.filter_eval_shape(build, description)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
        return  # made with the values of arrays, which are not known without building it
    n_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like) if _is_array(leaf))
    if n_bytes > size:
        raise UserError(
            f"the model file {path} tells of a model of {n_bytes} bytes and has {size}; it is cut short or damaged."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray)


def _leaf(file: BinaryIO, like: Any) -> Any:
    """The next leaf, as ``equinox.tree_serialise_leaves`` wrote it; ``ValueError`` unless it is like ``like``."""
    if not eqx.is_array_like(like):
        return like
    wanted = np.asarray(like) if not _is_array(like) else like
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of another format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if (shape, dtype) != (wanted.shape, np.dtype(wanted.dtype)) or dtype.hasobject:
        raise ValueError(f"an array of shape {shape} where {wanted.shape} is expected")
    n_bytes = math.prod(shape) * dtype.itemsize
    content = file.read(n_bytes)
    if len(content) != n_bytes:
        raise EOFError("the last array is cut short")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
    if np.issubdtype(dtype, np.inexact) and not np.all(np.isfinite(array)):
        raise ValueError("a number that is not finite")
    if isinstance(like, jax.Array):
        return jnp.asarray(array)
    return array.copy() if isinstance(like, np.ndarray) else type(like)(array.item())
