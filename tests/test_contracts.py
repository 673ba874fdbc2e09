"""Who may import whom: every contract of ``pyproject.toml`` is broken by an import that breaks its rule."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PLANTED = {
    "montecarlo/local.py": "import slmc.systems.spins",
    "systems/spins/ising.py": "import slmc.systems.wavefunctions.symmetry",
    "testing.py": "import slmc.selflearning",
    "systems/spins/clusters.py": "import netket",
    "systems/spins/filters.py": "import ase",
    "systems/spins/sweeps.py": "import matplotlib",
    "report/stored.py": "import zarr",
    "simulation/loop.py": "import numba",
}
"""A forbidden import for every contract, in their order."""

LAYERS = {
    "report/page.py": "import slmc.simulation",
    "simulation/sampling.py": "import slmc.systems.spins",
    "simulation/loop.py": "import slmc.report",
    "system/problem.py": "import slmc.simulation",
    "systems/spins/problem.py": "import slmc.report",
    "results.py": "import slmc.runs",
    "statistics/estimates.py": "import slmc.lattice",
    "selflearning/cumulative.py": "import slmc.system",
}
"""Imports against the layers, each of which alone is found."""


def linted(folder: Path, planted: dict[str, str]) -> str:
    """What the linter says of a copy of the package with these imports at the end of these files."""
    shutil.copytree(ROOT / "src" / "slmc", folder / "slmc")
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    for name, line in planted.items():
        with (folder / "slmc" / name).open("a") as file:
            file.write(f"{line}\n")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


def test_every_contract_bites(tmp_path: Path) -> None:
    said = linted(tmp_path, PLANTED)
    names = re.findall(r'^name = "(.*)"$', (ROOT / "pyproject.toml").read_text().split("[tool.importlinter]")[1], re.M)
    assert len(names) == len(PLANTED)
    for name in names:
        assert f"{name} BROKEN" in said


def test_every_layer_bites(tmp_path: Path) -> None:
    said = " ".join(linted(tmp_path, LAYERS).split())
    for name, line in LAYERS.items():
        module = f"slmc.{name.removesuffix('.py').replace('/', '.')}"
        assert re.search(rf"{re.escape(module)} -> {re.escape(line.removeprefix('import '))}[ .(]", said), name


def test_what_runs_and_reports_loads_no_system() -> None:
    code = (
        "import sys, slmc.cli, slmc.simulation, slmc.report, slmc.runs, slmc.system\n"
        "print([name for name in sys.modules if name.startswith('slmc.systems')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("part", ["simulation", "report", "system", "selflearning", "montecarlo", "cli.py", "runs.py"])
def test_the_general_part_names_no_system(part: str) -> None:
    path = ROOT / "src" / "slmc" / part
    words = re.compile("double_exchange|plaquette|polyakov|magnetization|J1|heat-bath", re.IGNORECASE)
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        assert not words.search(file.read_text()), file
