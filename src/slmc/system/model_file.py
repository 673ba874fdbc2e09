"""Model files: one line of JSON that says how to build the model, then its numbers."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx

from slmc.system.errors import UserError

FORMAT = 1
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
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
            if header.get("format") != FORMAT:
                raise UserError(
                    f"the model file {path} has format {header.get('format')}, this version of slmc reads format "
                    f"{FORMAT}; learn the model again or use the version that wrote it."
                )
            return eqx.tree_deserialise_leaves(file, build(header["model"]))
    except OSError as error:
        raise UserError(f"the model file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, RuntimeError, EOFError, AttributeError) as error:
        raise UserError(f"the model file {path} is damaged or no model file ({type(error).__name__}).") from None
