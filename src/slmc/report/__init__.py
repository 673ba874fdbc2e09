"""Figures and the HTML report of a run, from its stored records alone."""

from slmc.report.notation import concise
from slmc.report.optimisation_page import write_optimisation_report
from slmc.report.page import write_report
from slmc.report.scan_page import write_scan_report

__all__ = ["concise", "write_optimisation_report", "write_report", "write_scan_report"]
