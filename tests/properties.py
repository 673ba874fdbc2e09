"""What the tests prove, as a table made from the tests themselves: a line for each property, part by part.

    python tests/properties.py                     the table, in Markdown
    python tests/properties.py --against FOLDER    tests that another checkout has and this one has not, and how many

The files are read, nothing is run.
"""

import argparse
import ast
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent


class Property(NamedTuple):
    """A test: the part that it is about, its file and name, what it says; whether a table of cases runs through it."""

    part: str
    file: str
    name: str
    words: str
    has_cases: bool


def properties(tests: Path) -> list[Property]:
    """Those of a folder of tests, in the order of files and lines."""
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        inside = path.relative_to(tests)
        part = "/".join(inside.parts[:-1]) or "whole"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.append(Property(part, str(inside), node.name, _words(node), _has_cases(node)))
    return found


def _words(test: ast.FunctionDef) -> str:
    """The name as a sentence, and the first line of the docstring."""
    name = test.name.removeprefix("test_").replace("_", " ")
    said = (ast.get_docstring(test) or "").split("\n\n")[0]
    return f"{name}: {' '.join(said.split())}" if said else name


def _has_cases(test: ast.FunctionDef) -> bool:
    return any("parametrize" in ast.dump(decorator) for decorator in test.decorator_list)


def table(found: list[Property]) -> str:
    """Markdown, a section for each part; ``×`` marks a property that runs over a table of cases."""
    lines = [f"{len(found)} tests, {sum(test.has_cases for test in found)} of them over tables of cases (×).", ""]
    for part in dict.fromkeys(test.part for test in found):
        lines += [f"## {part}", "", "| property | test |", "| --- | --- |"]
        for test in found:
            if test.part == part:
                cases = " ×" if test.has_cases else ""
                words = test.words.replace("|", "\\|")
                lines.append(f"| {words}{cases} | `{test.file}::{test.name}` |")
        lines.append("")
    return "\n".join(lines)


def comparison(before: list[Property], now: list[Property]) -> str:
    """Tests that are gone, by name; a test that only moved to another file is not."""
    names = {test.name for test in now}
    gone = [test for test in before if test.name not in names]
    lines = [f"{len(before)} tests before, {len(now)} now; gone or renamed: {len(gone)}"]
    return "\n".join([*lines, *(f"  {test.file}::{test.name}" for test in gone)])


def main() -> None:
    """Prints the table, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout of the repository")
    wanted = parser.parse_args()
    now = properties(TESTS)
    print(table(now) if wanted.against is None else comparison(properties(wanted.against / "tests"), now))


if __name__ == "__main__":
    main()
