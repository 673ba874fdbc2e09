"""A process with one calculator: reads positions, answers with energy and forces. It imports nothing of the package.

Started by ``pool`` as a program of its own, never forked from a process that runs JAX. First comes a line of JSON that
describes atoms and calculator, then 24 bytes of float64 for every atom and request; the answer is a line of JSON and,
unless that tells of an error, the bytes of the forces. What a calculator prints goes nowhere.

Where the cell ``breathes`` two more numbers follow the positions: by which factor its edges are longer than those
described, and 1 where V dU/dV, the atoms going with the cell, is wanted beside the energy.
"""

import contextlib
import copy
import importlib
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, BinaryIO

GROUP = "slmc.calculators"
"""Entry points by which installed packages offer calculators: functions of parameters that make ASE calculators."""


def calculator_named(name: str) -> Callable[..., Any]:
    """What makes the calculator of a name: an entry point, or one that ASE itself knows.

    ``espresso`` is Quantum ESPRESSO kept alive. Raises ``LookupError`` for a name that nothing offers, ``ImportError``
    where its package is missing.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            made: Callable[..., Any] = entry.load()
            return made
    from ase.calculators.calculator import get_calculator_class, names

    if name == "espresso":
        return espresso
    if name not in names:
        raise LookupError(f"there is no calculator {name!r}; there are {', '.join(calculator_names())}")
    known: Callable[..., Any] = get_calculator_class(name)
    return known


def calculator_names() -> tuple[str, ...]:
    """All names that ``calculator_named`` knows."""
    from ase.calculators.calculator import names

    return tuple(sorted({*names, *(entry.name for entry in entry_points(group=GROUP))}))


def espresso(pseudo_dir: str, command: str = "pw.x", **parameters: Any) -> Any:
    """Quantum ESPRESSO, started once and asked through a socket: ASE's parameters, and the command that starts it.

    It begins each self-consistent field where the last ended, as long as the calculator lives. ``ase.calculators.
    espresso`` has the parameters; ``pseudo_dir`` is the folder of the pseudopotentials. ASE's own launcher of 3.29
    leaves the program out of the command.
    """
    from ase.calculators.espresso import EspressoProfile, EspressoTemplate
    from ase.calculators.socketio import SocketIOCalculator

    folder = tempfile.TemporaryDirectory(prefix="slmc-espresso-")
    socket = f"slmc-{os.getpid()}-{Path(folder.name).name}"
    profile, template = EspressoProfile(command, pseudo_dir), EspressoTemplate()

    def launch(atoms: Any, properties: Any = None, port: Any = None, unixsocket: Any = None) -> Any:
        # What is written is changed on the way.
        template.write_input(profile, Path(folder.name), atoms, copy.deepcopy(parameters), ["energy", "forces"])
        arguments = [*shlex.split(command), "-in", template.inputname, "--ipi", f"{socket}:UNIX"]
        return subprocess.Popen(arguments, cwd=folder.name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    class KeptAlive(SocketIOCalculator):
        def close(self) -> None:
            super().close()
            folder.cleanup()

    return KeptAlive(launch_client=launch, unixsocket=socket)


def evaluated(atoms: Any, calculator: Any) -> tuple[float, Any]:
    """Energy in eV, the free energy where there is one (what forces derive from), and forces in eV/Å."""
    atoms.calc = calculator
    forces = atoms.get_forces()
    energy = atoms.get_potential_energy()
    results = getattr(calculator, "results", {})
    return float(results.get("free_energy", energy)), forces


_STRETCHED = 3e-4
"""Of ln V: by how much the cell is stretched for dU/dV where there is no stress."""


def slope(atoms: Any, calculator: Any, energy: float) -> float:
    """V dU/dV in eV, atoms going with the cell: V tr(stress)/3, or one more energy where a calculator has no stress."""
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        stress = atoms.get_stress(voigt=True)
        return float(atoms.get_volume() * (stress[0] + stress[1] + stress[2]) / 3)
    except (PropertyNotImplementedError, NotImplementedError):
        stretched = atoms.copy()
        stretched.set_cell(atoms.cell * math.exp(_STRETCHED / 3), scale_atoms=True)
        return (evaluated(stretched, calculator)[0] - energy) / _STRETCHED


def main() -> None:
    """Serves until the other end closes."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a calculator prints or reads must not touch the pipes.
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    described = json.loads(requests.readline() or b"null")
    if described is not None:
        _serve(described, requests, answers)


def _serve(described: dict[str, Any], requests: BinaryIO, answers: BinaryIO) -> None:
    try:
        make = calculator_named(described["calculator"])
        numpy, ase = importlib.import_module("numpy"), importlib.import_module("ase")
        numbers = described["numbers"]
        atoms = ase.Atoms(numbers=numbers, cell=described["cell"], pbc=described["pbc"])
        calculator = make(**described["parameters"])
    except Exception as error:
        _answer(answers, {"error": _words(error)})
        return
    _answer(answers, {})
    breathes = described["breathes"]
    n_bytes = 24 * len(numbers) + 16 * breathes
    while len(read := requests.read(n_bytes)) == n_bytes:
        try:
            if calculator is None:
                calculator = make(**described["parameters"])
            given = numpy.frombuffer(read)
            scale, wanted = given[-2:] if breathes else (1.0, 0.0)
            if breathes:
                atoms.set_cell(scale * numpy.array(described["cell"]))
            atoms.positions = given[: 3 * len(numbers)].reshape(-1, 3)
            energy, forces = evaluated(atoms, calculator)
            told = {"energy": energy} | ({"slope": slope(atoms, calculator, energy)} if wanted else {})
            content = numpy.ascontiguousarray(forces, dtype=numpy.float64)
            if content.shape != (len(numbers), 3):
                raise ValueError(f"forces of shape {content.shape}")
        except Exception as error:
            _drop(calculator)  # nothing of what failed may stay
            calculator = None
            _answer(answers, {"error": _words(error)})
        else:
            _answer(answers, told, content.tobytes())
        if described["fresh"]:
            _drop(calculator)
            calculator = None


def _drop(calculator: Any) -> None:
    """Ends what belongs to a calculator: programs that it keeps alive, files."""
    close = getattr(calculator, "close", None)
    if close is not None:
        with contextlib.suppress(Exception):
            close()


def _answer(answers: BinaryIO, head: dict[str, Any], content: bytes = b"") -> None:
    answers.write(json.dumps(head).encode() + b"\n" + content)
    answers.flush()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, whatever the calculator is doing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
    sys.exit(0)
