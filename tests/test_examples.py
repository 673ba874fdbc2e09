"""Every example and every Python block of the README and the how-tos runs, at a small size, as it is printed there."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))

SMALLER = (
    (r"shape, n_chains, n_steps = .*", "shape, n_chains, n_steps = (2, 2), 4, 20"),
    (r"n_rounds=\d+", "n_rounds=2"),
    (r"n_updates=\d+", "n_updates=2"),
    (r"n_chains = \d+", "n_chains = 4"),
    (r"TrainingSettings\(n_steps=\d+\)", "TrainingSettings(n_steps=50)"),
    (r"n_steps=(\d+)(, n_updates=\d+)", r"n_steps=20\2"),
)
"""What is changed in a script before it is run here: sizes, nothing else."""


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def run_small(source: str, name: str) -> dict:
    for pattern, replacement in SMALLER:
        source = re.sub(pattern, replacement, source)
    namespace: dict = {"__name__": name}
    # A user's script runs with JAX as it comes, not with the strict settings of the other tests.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(source, name, "exec"), namespace)
    return namespace


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs(script, capsys):
    run_small(script.read_text(), script.name)
    assert "acceptance" in capsys.readouterr().out.lower()


def test_readme_has_the_first_example_word_for_word():
    assert blocks(ROOT / "README.md") == [(ROOT / "examples" / "01_by_hand.py").read_text()]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page) and page.stem != "records"], ids=lambda p: p.stem
)
def test_how_to_runs_from_top_to_bottom(page, capsys):
    run_small("\n".join(blocks(page)), page.name)
    assert capsys.readouterr().out


def test_readme_names_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
