"""How systems are found: by entry points in the metadata of installed packages, ours in the same way as anybody's.

A package offers a system with three lines of its ``pyproject.toml``::

    [project.entry-points."slmc.systems"]
    my_system = "my_package.my_module:MY_SYSTEM"

``MY_SYSTEM`` is a ``System``. Ready-made configurations are the TOML files in the folder ``configs`` beside
``my_module``. Nothing in a configuration file names code: a file that somebody was sent cannot run any.
"""

import functools
import importlib.util
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from slmc.system.errors import UserError, brief
from slmc.system.file_measurement import FileMeasurement
from slmc.system.observable import Observable

GROUP = "slmc.systems"
OBSERVABLES = "slmc.observables"
"""Entry points by which installed packages offer observables: an ``Observable``, or a function of a configuration."""


class System(NamedTuple):
    """A system that runs can be made of: its settings, and the problem that they describe.

    ``settings`` is a subclass of ``RunSettings`` (``VariationalSettings`` of a variational system) whose field
    ``system`` is the name of the entry point. ``build(settings, directory)`` gives a ``Problem`` (a ``Variational``);
    it takes the files that settings name relative to ``directory`` and raises ``UserError`` naming the field that is
    wrong. ``build_model(description)`` makes an object of the structure of a stored model, for ``load_model``; where
    there is none, stored models are read by the system alone. ``files`` is how ``slmc measure`` measures configurations
    in files, of whatever code.
    """

    settings: type[Any]
    build: Callable[[Any, Path], Any]
    build_model: Callable[[dict[str, Any]], Any] | None = None
    files: FileMeasurement | None = None


@functools.cache
def _entries() -> dict[str, EntryPoint]:
    entries: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        other = entries.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise UserError(
                f"two installed packages offer a system named {entry.name!r} ({other.value} and {entry.value}); "
                "uninstall one of them."
            )
    return entries


def system_names() -> tuple[str, ...]:
    """The names of all systems that are installed."""
    return tuple(sorted(_entries()))


def system_named(name: str) -> System:
    """The system of a name. Raises ``UserError`` if there is none, or if what it needs is not installed."""
    entries = _entries()
    if name not in entries:
        raise UserError(f"system = {brief(name)} is not allowed: it must be one of {', '.join(system_names())}.")
    try:
        system = entries[name].load()
    except ImportError as error:
        raise UserError(f"system = {name!r} cannot be used: {str(error).rstrip('.')}.") from None
    if not isinstance(system, System):
        raise UserError(
            f"the entry point of system {name!r} ({entries[name].value}) is no slmc.system.System; tell its authors."
        )
    return system


def observable_named(name: str) -> Observable:
    """An observable that an installed package offers. Raises ``UserError`` if none does, or if it is none."""
    offered = {entry.name: entry for entry in entry_points(group=OBSERVABLES)}
    if name not in offered:
        raise UserError(
            f"there is no observable {brief(name)}; installed packages offer {', '.join(sorted(offered)) or 'none'}, "
            "beside those of the run."
        )
    try:
        found = offered[name].load()
    except ImportError as error:
        raise UserError(f"the observable {name!r} cannot be used: {str(error).rstrip('.')}.") from None
    if isinstance(found, Observable):
        return found
    if not callable(found):
        raise UserError(
            f"the entry point of observable {name!r} ({offered[name].value}) is neither an "
            "slmc.system.Observable nor a function; tell its authors."
        )
    return Observable(name, found)


def measurement_of(path: Path) -> FileMeasurement:
    """How a file that holds a configuration is measured, by the first system that knows what it is.

    Systems whose needs are not installed are passed over. Raises ``UserError`` where none knows it, and for a file that
    cannot be read.
    """
    offering = []
    for name in system_names():
        try:
            files = system_named(name).files
        except UserError:
            continue
        if files is None:
            continue
        offering.append(name)
        try:
            if files.recognises(path):
                return files
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    raise UserError(f"{path} is no configuration that a system knows; files are read by {', '.join(offering)}.")


def ready_made() -> dict[str, Path]:
    """The ready-made configurations of all systems by their names; no system is imported for it."""
    folders = dict.fromkeys(folder for entry in _entries().values() for folder in _folders(entry.module))
    paths: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            if paths.setdefault(path.stem, path) != path:
                raise UserError(f"two installed packages offer a configuration {path.stem}; uninstall one of them.")
    return paths


def _folders(module: str) -> list[Path]:
    """The folders ``configs`` inside a package or beside a module, found without importing what is in the package."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    inside = [place.joinpath(*parts, "configs") for place in places for parts in (rest, rest[:-1])]
    return [folder for folder in inside if folder.is_dir()]
