"""Notebooks of the site: the scripts in ``docs/notebooks``, executed while it is built.

They are kept as scripts without outputs (the "percent" format of jupytext, which Jupyter opens as notebooks). Each
becomes a page with what its cells print and draw, and a notebook to download. A cell that fails ends the build.
"""

import base64
import html
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbformat import NotebookNode, writes

LOG = logging.getLogger("mkdocs.hooks.notebooks")
TIMEOUT = 1200
"""Seconds for a cell."""
COMPILED_ONCE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
"""Compiling takes most of the time of these small runs: even small programs are kept for the next build."""

executed: dict[str, NotebookNode] = {}
"""By source, so that ``mkdocs serve`` executes only what was changed."""


def execute(source: str) -> NotebookNode:
    if source not in executed:
        notebook = jupytext.reads(source, fmt="py:percent")
        with tempfile.TemporaryDirectory() as directory:
            client = NotebookClient(
                notebook,
                timeout=TIMEOUT,
                startup_timeout=TIMEOUT,
                kernel_name="python3",
                resources={"metadata": {"path": directory}},
                extra_arguments=["--log-level=40"],
            )
            client.execute(env=COMPILED_ONCE | os.environ)
        executed[source] = notebook
    return executed[source]


def shown(output: NotebookNode, picture: str) -> str:
    """An output of a cell as a part of the page; ``picture`` is the name of the file that a drawing has."""
    if output.output_type == "stream":
        return f'<pre class="output">{html.escape(output.text.rstrip())}</pre>'
    if "image/png" in output.data:
        return f"![What the cell above draws]({picture})"
    if "text/html" in output.data:
        # A line without anything would end the block of HTML.
        lines = [line for line in "".join(output.data["text/html"]).splitlines() if line.strip()]
        return '<div class="output">\n' + "\n".join(lines) + "\n</div>"
    return f'<pre class="output">{html.escape(output.data.get("text/plain", "").rstrip())}</pre>'


def page(notebook: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by the names of their files: ``NAME-1.png`` and so on."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts.append(f"```python\n{cell.source}\n```")
            for output in cell.outputs:
                picture = f"{name}-{len(pictures) + 1}.png"
                if "image/png" in output.get("data", {}):
                    pictures[picture] = base64.b64decode(output.data["image/png"])
                parts.append(shown(output, picture))
        if len(parts) == 1:
            parts.append(f"[Download this notebook]({name}.ipynb), with outputs.")
    return "\n\n".join(parts) + "\n", pictures


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """MkDocs calls this with the files of the site, to which the notebooks are added."""
    for script in sorted(Path(config.docs_dir, "notebooks").glob("*.py")):
        begun = time.perf_counter()
        notebook = execute(script.read_text(encoding="utf-8"))
        LOG.info("Executed %s in %.0f seconds", script.name, time.perf_counter() - begun)
        text, pictures = page(notebook, script.stem)
        made: dict[str, str | bytes] = {f"{script.stem}.md": text, f"{script.stem}.ipynb": writes(notebook), **pictures}
        for name, content in made.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files
