"""The mistakes that ``tests/mutants/plant.py`` plants fit the package as it is. They are not planted here."""

import runpy
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MISTAKES = runpy.run_path(str(TESTS / "mutants" / "plant.py"))["MISTAKES"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.words)
def test_a_mistake_can_be_made(mistake) -> None:
    """Its text is there once, and the tests that should notice exist."""
    text = TESTS.parent.joinpath("src", "slmc", mistake.file).read_text(encoding="utf-8")
    assert text.count(mistake.right) == 1
    assert mistake.wrong != mistake.right
    for path in mistake.tests.split(" -k ")[0].split():
        assert TESTS.parent.joinpath(path).exists()


def test_there_are_thirty_in_every_part() -> None:
    assert len(MISTAKES) >= 30
    parts = {mistake.file.split("/")[0].removesuffix(".py") for mistake in MISTAKES}
    assert parts >= {
        "montecarlo",
        "selflearning",
        "statistics",
        "lattice",
        "system",
        "systems",
        "simulation",
        "report",
        "cli",
    }
