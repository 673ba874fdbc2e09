"""Figures and the HTML report of a run, from its stored records alone. ``slmc.report(DIR)`` writes one anew."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from slmc.report.notation import concise
from slmc.report.optimisation_page import write_optimisation_report
from slmc.report.page import write_report
from slmc.report.scan_page import Scanned, write_scan_report

__all__ = ["Scanned", "concise", "write_optimisation_report", "write_report", "write_scan_report"]


class _CallablePackage(ModuleType):
    """``slmc.report`` is this package, and, beside ``slmc.run`` and ``slmc.resume``, the function of ``slmc.runs``."""

    def __call__(self, directory: str | Path, problem: Any = None) -> Path:
        return import_module("slmc.runs").report(directory, problem)


sys.modules[__name__].__class__ = _CallablePackage
