"""Benchmarks one after the other in one process, at their smallest size: what they import they share.

Reads a line of JSON for each, with the name, the folder to write to and the folder of its cache, and answers with a
line: what it printed, and what went wrong. Benchmarks that would set the number of devices find them set.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

import jax

import slmc  # noqa: F401

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(name: str, out: str, cache: str) -> dict[str, str]:
    """``python benchmarks/NAME.py --quick --out OUT``."""
    script = BENCHMARKS / f"{name}.py"
    sys.argv, os.environ["XDG_CACHE_HOME"] = [str(script), "--quick", "--out", out], cache
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(script), run_name="__main__")
    except (Exception, SystemExit):
        return {"printed": printed.getvalue(), "error": traceback.format_exc()}
    return {"printed": printed.getvalue(), "error": ""}


def main() -> None:
    """Until there are no more lines."""
    # What processes write that a benchmark starts goes elsewhere than the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        sys.path.insert(0, str(BENCHMARKS))
        _keep_devices()
        for line in sys.stdin:
            print(json.dumps(run(**json.loads(line))), file=answers, flush=True)
            jax.clear_caches()  # every compiled program holds pages of memory, of which a process may have so many


def _keep_devices() -> None:

    update = jax.config.update

    def updated(name: str, value: Any) -> None:
        if name != "jax_num_cpu_devices":
            update(name, value)

    jax.config.update = updated


if __name__ == "__main__":
    main()
