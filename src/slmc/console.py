"""Where the command line prints. Imports nothing that takes time."""

from rich.console import Console


def make_console(quiet: bool = False) -> Console:
    """A console; where it is no terminal, wide enough for tables."""
    console = Console(quiet=quiet, highlight=False)
    return console if console.is_terminal else Console(quiet=quiet, highlight=False, width=120)
