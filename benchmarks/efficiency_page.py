"""The page written from the rows of the efficiency benchmark."""

from typing import Any

from result_file import ResultFile


def page(results: ResultFile, systems: dict[str, Any]) -> str:
    return "# Effective samples a second\n"
