"""A benchmark's result file: a JSON with the machine, the date, the command and one entry per finished row."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("slmc", "jax", "jaxlib", "numpy", "scipy", "equinox", "optax", "arviz-stats", "netket", "flax")


SPIN_FERMION = frozenset(
    (
        *("anchor", "cost", "cubic", "data_efficiency", "dilution", "efficiency", "examples", "peers", "scaling"),
        *("strong_coupling", "temperature"),
    )
)
"""Files of the double-exchange model."""


class ResultFile:
    """Rows by name, written at once when finished, so that an interrupted benchmark continues where it stopped.

    Rows of other settings are dropped when the file is opened. ``page_folder`` is where its pages and figures go.
    """

    def __init__(self, path: Path, settings: dict[str, Any], page_folder: Path) -> None:
        self.path, self.page_folder = path, page_folder
        stored = json.loads(path.read_text()) if path.exists() else {}
        settings = json.loads(json.dumps(settings))
        self.content = stored if stored.get("settings") == settings else {"settings": settings, "rows": {}}

    @property
    def rows(self) -> dict[str, Any]:
        return self.content["rows"]

    @property
    def settings(self) -> dict[str, Any]:
        return self.content["settings"]

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Stores a row and the machine it was made on."""
        self._sign_old_rows()
        self.rows[name] = row
        self.store()
        print(name, json.dumps(row), flush=True)

    def make(self, name: str, function: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        """Adds what ``function(*arguments)`` returns, unless the row is already there."""
        if name not in self.rows:
            self.add(name, function(*arguments))

    def made(self) -> dict[str, str]:
        """Command, date, commit and processor, for a row of a file whose rows are made by different commands."""
        today = datetime.date.today().isoformat()
        return {"command": _command(), "date": today, "commit": _commit(), "cpu": machine()["cpu"]}

    def store(self) -> None:
        self.content |= {
            "command": _command(),
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "exact_weight": "auto",
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES} | {"commit": _commit()},
        }
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1) + "\n")
        partial.replace(self.path)

    def _sign_old_rows(self) -> None:
        """Rows that do not say what made them were made by what the file says, which is about to change."""
        if "machine" not in self.content:
            return
        made = {name: self.content[name] for name in ("command", "date")}
        made |= {"commit": self.content["versions"]["commit"], "cpu": self.content["machine"]["cpu"]}
        if (made["date"], made["cpu"]) != (datetime.date.today().isoformat(), machine()["cpu"]):
            for row in self.rows.values():
                row.setdefault("made", made)

    def provenance(self) -> str:
        """One sentence for the page: what made these numbers, where, when."""
        where, versions = self.content["machine"], self.content["versions"]
        named = ", ".join(f"{package} {versions[package]}" for package in ("slmc", "jax"))
        return (
            f"Made by `{self.content['command']}` on {self.content['date']}: {where['cores']} cores "
            f"({where['cpu']}), {where['memory_gib']} GiB, Python {where['python']}, {named}, "
            f"commit {versions['commit']}. "
            f"All numbers below are written by that program from `{_from_root(self.path)}`.{self._others()}"
            f"{self._weight()}"
        )

    def _weight(self) -> str:
        """How the exact weight of the double-exchange model was computed, if that was not as it is by default now."""
        if self.path.stem not in SPIN_FERMION or "exact_weight" in self.content:
            return ""
        return (
            " The exact weight was a diagonalisation: costs and samples a second are others with "
            "[that by poles](weight.md), averages and acceptances the same."
        )

    def _others(self) -> str:
        """Which rows say that they were made on another day or processor."""
        date, cpu = self.content["date"], self.content["machine"]["cpu"]
        found: dict[tuple[str, str], list[str]] = {}
        for name, row in self.rows.items():
            made = row.get("made", {})
            if "cpu" in made and (made["date"], made["cpu"]) != (date, cpu):
                found.setdefault((made["date"], made["cpu"]), []).append(name)
        return "".join(
            f" Made on {day}{'' if model == cpu else f' on another machine ({model}), so that times differ'}: "
            f"{', '.join(names)}."
            for (day, model), names in found.items()
        )


def machine() -> dict[str, Any]:
    """Cores, processor model, memory; no names of hosts or users."""
    try:
        model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "cpu": model.group(1) if model else platform.machine(),
        "memory_gib": round(memory),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rounded(value: float, digits: int) -> str:
    """To so many digits, thousands apart and without powers of ten: 17,600, 36.8, 0.00285."""
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{float(f'{value:.{digits}g}'):,.{decimals}f}"


def _command() -> str:
    return "python " + " ".join([_from_root(sys.argv[0]), *map(shlex.quote, sys.argv[1:])])


def _from_root(path: str | Path) -> str:
    path = Path(path).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def _commit() -> str:
    asked = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"
