"""What the documentation shows of runs is what runs give today.

Where a test fails, look whether that is meant; ``python docs/building/outputs.py`` remakes what is shown.
"""

import json
import re
import sys
from math import erfc
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "building"))

import outputs  # noqa: E402
import readme_numbers  # noqa: E402

SHORTER = ("measurement.n_steps=200", "measurement.block_size=100", "baseline.n_steps=300")
"""Of the tutorial's run: what changes neither the learning nor the values, only how well they are known."""

VALUE = re.compile(r"^(\w+) +(-?[\d.]+)\((\d+)\)", re.MULTILINE)
SIGMAS = 5.0
NOT_COMPARED = ("slmc ", "warning", "phase done", "the exact chain alone")


def values(text: str) -> dict[str, tuple[float, float]]:
    """Observables of a printed table with their errors, which are written in units of the last digit."""
    found = {}
    for name, value, error in VALUE.findall(text):
        found[name] = (float(value), int(error) * 10.0 ** -len(value.partition(".")[2]))
    return found


def residual_and_acceptance(text: str) -> list[float]:
    line = re.search(r"^acceptance ([\d.]+)  residual s ([\d.]+)  expected erfc\(s/2\) ([\d.]+)$", text, re.MULTILINE)
    assert line
    return [float(number) for number in line.groups()]


def shape(text: str) -> set[str]:
    """The lines without their numbers and widths; without those of title, warnings, verdict and advice on speed."""
    lines = [line for line in text.splitlines() if not line.startswith(NOT_COMPARED)]
    return {re.sub(r"\s+", " ", re.sub(r"[-–]?\d[\d.]*(\(\d+\))?|–", "#", line)).strip() for line in lines}


def differ(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) > SIGMAS * (one[1] ** 2 + other[1] ** 2) ** 0.5


@pytest.fixture(scope="module")
def picture() -> dict:
    """What the picture of the README says that it shows."""
    with Image.open(outputs.PICTURE) as image:
        return json.loads(image.text[outputs.ABOUT])


def test_tutorial_shows_what_its_run_prints(slmc, tmp_path, monkeypatch, picture):
    """Lines are the same; values agree within errors, acceptance and residual within what a shorter run knows of them.

    The sections of its report are those of the picture, as far as both runs have them.
    """
    monkeypatch.chdir(tmp_path)
    page = outputs.TUTORIAL.read_text(encoding="utf-8")
    shown, informed = (outputs.block_after(command).search(page)[0] for command in outputs.COMMANDS)
    assert shown.endswith(informed)

    command = outputs.COMMANDS[0].split()[1:]
    code, today, _ = slmc(*command, *(part for setting in SHORTER for part in ("--set", setting)))
    assert code == 0
    assert shape(today) == shape(shown)
    now, then = values(today), values(shown)
    assert now.keys() == then.keys()
    assert {name: (now[name], then[name]) for name in now if differ(now[name], then[name])} == {}
    acceptance, residual, expected = residual_and_acceptance(shown)
    assert expected == pytest.approx(erfc(residual / 2), abs=2e-3)
    assert residual_and_acceptance(today) == pytest.approx([acceptance, residual, expected], abs=0.06)
    headings = set(outputs.headings(Path("first/report.html").read_text(encoding="utf-8")))
    assert headings - {"Warnings", "Left out"} <= set(picture["headings"])


def test_picture_shows_what_the_benchmark_measured(picture):
    """The same weight and model, sampled by another program on another day."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "efficiency.json").read_text())["rows"]
    measured = rows["6x6: chains"]
    assert picture["acceptance"] == pytest.approx(measured["linear"]["acceptance"], abs=0.03)
    assert picture["residual"] == pytest.approx(measured["held_out_residual_linear"], rel=0.1)
    assert picture["expected_acceptance"] == pytest.approx(erfc(picture["residual"] / 2))
    for name in ("magnetization_squared", "staggered_magnetization_squared"):
        shown, known = picture["observables"][name], measured["linear"]["observables"][name]
        assert not differ((shown["value"], shown["error"]), (known["value"], known["error"]))


def test_readme_quotes_the_stored_rows_of_the_benchmark():
    """``python docs/building/readme_numbers.py`` writes them."""
    text = readme_numbers.README.read_text(encoding="utf-8")
    assert readme_numbers.written(text) == text
