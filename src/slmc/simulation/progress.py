"""What a run tells while it runs: a live line on a terminal, plain lines elsewhere, nothing when quiet."""

import html
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from slmc.console import make_console

_PLAIN_INTERVAL = 5.0
"""Least seconds between plain progress lines."""

Listener = Callable[[dict[str, Any]], None]
"""What is told of every event of a run as a dictionary: ``event`` is ``"phase"``, ``"progress"``, ``"note"`` or
``"warning"``, ``seconds`` are those since the Epoch; the rest are ``phase``, ``done`` and ``total`` blocks, figures by
their names, or ``text``."""


def json_lines(path: str | Path) -> Listener:
    """A listener that appends every event to a file as a line of JSON, at once."""

    def listen(event: dict[str, Any]) -> None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    return listen


_NOTEBOOK_INTERVAL = 0.2
"""Least seconds between two pictures of a bar in a notebook."""


class _NotebookBar:
    """A bar below a cell of a notebook, by what every front end of Jupyter knows: no widgets are needed."""

    def __init__(self, phase: str, total: float) -> None:
        self._phase, self._total, self._shown = phase, total, 0.0
        self._latest: tuple[float, str] = (0.0, "")
        self._handle: Any = None

    def advance(self, done: float, text: str) -> None:
        self._latest = done, text
        now = time.monotonic()
        if done >= self._total or now - self._shown > _NOTEBOOK_INTERVAL:
            self._shown = now
            self.show()

    def show(self) -> None:
        done, text = self._latest
        line = f"{done:.3g}/{self._total:g}  {text}"
        bar = f'<progress value="{done:g}" max="{self._total:g}"></progress>'
        bundle = {
            "text/plain": f"{self._phase:<10} {line}",
            "text/html": f'<pre style="margin: 0">{html.escape(self._phase):<10} {bar} {html.escape(line)}</pre>',
        }
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class Reporter:
    """Prints phases, progress figures, notes and warnings."""

    def __init__(self, console: Console | None = None, quiet: bool = False, listener: Listener | None = None) -> None:
        self.console = console or make_console(quiet)
        self.quiet, self.listener = quiet, listener
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._bar: _NotebookBar | None = None
        self._printed = 0.0
        self._phase, self._total = "", 0

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """Begins a phase of ``total`` blocks."""
        self.close()
        self._phase, self._total, self._printed = name, total, 0.0
        self._tell("phase", done=done, total=total)
        if self.console.is_jupyter and not self.quiet:
            self._bar = _NotebookBar(name, total)
            self._bar.advance(done, "")
        elif self.console.is_terminal and not self.quiet:
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
        self._tell("progress", done=done, total=self._total, **figures)
        shown = {
            name: figure if isinstance(figure, str) else f"{figure:.3g}"
            for name, figure in figures.items()
            if figure == figure
        }
        text = "  ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in shown.items())
        if self._bar is not None:
            self._bar.advance(done, text)
            return
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, figures=text)
            return
        now = time.monotonic()
        if not self.quiet and (done >= self._total or now - self._printed > _PLAIN_INTERVAL):
            self._printed = now
            self.console.print(f"{self._phase:<10} {done:.3g}/{self._total:g}  {text}", soft_wrap=True)

    def note(self, text: str) -> None:
        """A sentence."""
        self._tell("note", text=text)
        if not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """A warning, with what to do next."""
        self._tell("warning", text=text)
        if not self.quiet:
            self.console.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)

    def _tell(self, event: str, **about: Any) -> None:
        if self.listener is not None:
            known = {name: float(value) if isinstance(value, np.generic) else value for name, value in about.items()}
            finite = {name: None if value != value else value for name, value in known.items()}
            self.listener({"event": event, "seconds": time.time(), "phase": self._phase, **finite})

    def close(self) -> None:
        """Ends the live display."""
        if self._live is not None:
            self._live.stop()
        if self._bar is not None:
            self._bar.show()
        self._live = self._task = self._bar = None
