"""Every example and every Python block of the README and the how-tos runs, at a small size, as it is printed there."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from slmc.runs import settings_of
from slmc.simulation import read_toml
from slmc.simulation.records import Records, Variable
from slmc.systems.spins.measured import scalar_names

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
SYSTEM_PAGE = ROOT / "docs" / "how-to" / "system.md"
"""Its blocks are the files of a package, not a script: see ``test_write_a_system_shows_a_package_word_for_word``."""
PAGES = sorted(set((ROOT / "docs" / "how-to").glob("*.md")) - {SYSTEM_PAGE})

SMALLER = (
    (r"shape, n_chains, n_steps = .*", "shape, n_chains, n_steps = (2, 2), 4, 20"),
    (r"n_layers=\d+, n_heads=\d+", "n_layers=1, n_heads=1"),
    (r"n_rounds=\d+", "n_rounds=2"),
    (r"n_updates=\d+", "n_updates=2"),
    (r"n_chains = \d+", "n_chains = 4"),
    (r"TrainingSettings\(n_steps=\d+\)", "TrainingSettings(n_steps=50)"),
    (r"n_steps=(\d+)(, n_updates=\d+)", r"n_steps=20\2"),
    (r"n_colours=3, beta=5.7", "n_colours=2, beta=2.3"),
    (r"small, operator = .*", "small, operator = (2, 2), Staggered((2, 2), n_colours=2, mass=0.5)"),
)
"""What is changed in a script before it is run here: sizes, nothing else."""


def blocks(page: Path, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


SCRIPTED = [page for page in PAGES if blocks(page)]
SETTINGS = [(page.stem, block) for page in PAGES for block in blocks(page, "toml")]


def run_small(source: str, name: str) -> None:
    for pattern, replacement in SMALLER:
        source = re.sub(pattern, replacement, source)
    # A user's script runs with JAX as it comes, not with the strict settings of the other tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(source, name, "exec"), {"__name__": name})


@pytest.fixture
def first(tmp_path, monkeypatch):
    """A directory ``first`` with records of the names and dimensions that a run writes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = (*scalar_names(None, (4, 4)), "accepted", "log_weight")
    variables = {name: Variable(("chain", "draw"), rng.random((4, 50)), "1", name) for name in names}
    Path("first").mkdir()
    Records(Path("first/records.zarr")).append("measurement", variables)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_small(script.read_text(), script.name)
    assert "acceptance" in capsys.readouterr().out


def test_readme_has_its_scripts_word_for_word():
    """That of a weight of one's own, with which a how-to begins, and the first example; both run here."""
    own = blocks(ROOT / "docs" / "how-to" / "own-target.md")[0]
    assert blocks(ROOT / "README.md") == [own, (ROOT / "examples" / "01_by_hand.py").read_text()]


def test_write_a_system_shows_a_package_word_for_word():
    package = ROOT / "tests" / "outsider"
    module = package / "slmc_oscillators" / "system.py"
    assert "\n\n".join(blocks(SYSTEM_PAGE)) == module.read_text()
    settings = module.parent / "configs" / "oscillators.toml"
    assert blocks(SYSTEM_PAGE, "toml") == [path.read_text() for path in (settings, package / "pyproject.toml")]


@pytest.mark.parametrize("page", SCRIPTED, ids=lambda page: page.stem)
def test_how_to_runs_from_top_to_bottom(page, first, capsys):
    run_small("\n".join(blocks(page)), page.name)
    assert capsys.readouterr().out


@pytest.mark.parametrize(("page", "block"), SETTINGS)
def test_settings_in_how_tos_are_valid(page, block, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(block)
    settings_of(read_toml(path))


def test_readme_names_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
