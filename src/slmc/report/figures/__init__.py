"""The figures of the report, one function each: stored records in, a ``Plot`` out.

A function whose data do not exist returns a plot without panels whose caption says why (or is empty, where there is
nothing to miss). What an observable is called, how it is written and whether it is drawn, its records say.
"""

from collections.abc import Callable

from slmc.report.drawing import Plot
from slmc.report.figures.chains import acceptance, autocorrelations, thermalisation, traces
from slmc.report.figures.comparison import comparison
from slmc.report.figures.curves import curves
from slmc.report.figures.imaginary_time import imaginary_time
from slmc.report.figures.ladder import ladder
from slmc.report.figures.learning import inner_chain, learning, parity
from slmc.report.figures.points import points
from slmc.report.figures.structure import structure
from slmc.report.figures.time_spent import time_spent
from slmc.report.stored import Stored

FIGURES: tuple[Callable[[Stored], Plot], ...] = (
    comparison, parity, acceptance, autocorrelations, traces, ladder, structure, imaginary_time, points, curves,
    learning, inner_chain, thermalisation, time_spent,
)  # fmt: skip
"""In the order of the page: the results first, then what stands behind them, then how the run got there."""
