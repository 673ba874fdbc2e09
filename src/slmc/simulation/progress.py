"""What a run tells while it runs: a live line on a terminal, plain lines elsewhere, nothing when quiet."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_PLAIN_INTERVAL = 5.0
"""Least seconds between plain progress lines."""


def make_console(quiet: bool = False) -> Console:
    """A console; where it is no terminal, wide enough for tables."""
    console = Console(quiet=quiet, highlight=False)
    return console if console.is_terminal else Console(quiet=quiet, highlight=False, width=120)


class Reporter:
    """Prints phases, progress figures, notes and warnings."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or make_console(quiet)
        self.quiet = quiet
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._printed = 0.0
        self._phase, self._total = "", 0

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begins a phase of ``total`` blocks."""
        self.close()
        self._phase, self._total, self._printed = name, total, 0.0
        if self.console.is_terminal and not self.quiet:
            self._live = Progress(
                TextColumn("[bold]{task.description:<10}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.3g}/{task.total:g}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self.console,
            )
            self._live.start()
            self._task = self._live.add_task(name, total=total, completed=done, figures="")

    def advance(self, done: float, **figures: float | str) -> None:
        """Blocks done so far, with the figures worth watching: numbers to three digits, texts as they are."""
        shown = {
            name: figure if isinstance(figure, str) else f"{figure:.3g}"
            for name, figure in figures.items()
            if figure == figure
        }
        text = "  ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in shown.items())
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, figures=text)
            return
        now = time.monotonic()
        if not self.quiet and (done >= self._total or now - self._printed > _PLAIN_INTERVAL):
            self._printed = now
            self.console.print(f"{self._phase:<10} {done:.3g}/{self._total:g}  {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        """A sentence."""
        if not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """A warning, with what to do next."""
        if not self.quiet:
            self.console.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)

    def close(self) -> None:
        """Ends the live display."""
        if self._live is not None:
            self._live.stop()
        self._live = self._task = None
