"""The command that every benchmark is: options, result file, parts, page."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from result_file import ROOT, ResultFile

Part = Callable[[ResultFile, Any], None]
"""``part(results, settings)`` makes the rows of the result file that are missing."""


def as_dict(settings: Any) -> dict[str, Any]:
    """Settings as they are stored beside the rows."""
    return settings if isinstance(settings, dict) else settings._asdict()


def main(
    script: str,
    about: str | None,
    sizes: tuple[Any, Any],
    parts: Mapping[str, Part] | Callable[[Any], Mapping[str, Part]],
    write: Part | None = None,
    *,
    choose: str | None = None,
    default: Callable[[Iterable[str]], Iterable[str]] = list,
    on_one_device: Collection[str] = (),
    stored: Callable[[Any], dict[str, Any]] = as_dict,
) -> None:
    """``python benchmarks/NAME.py [PART …] [--quick] [--out FOLDER] [--report-only]``.

    ``script`` is the file of the benchmark, after which its result file is called, and ``about`` its docstring.
    ``sizes`` are the settings of a whole and of a quick run. ``parts``, which may depend on the settings, are run one
    after the other; with ``choose``, words about them, their names can be given, else those that ``default`` picks are
    run, all of them if it is not given. Chains spread over all cores unless one of the parts is to be run
    ``on_one_device``. ``write(results, settings)`` writes pages and figures. Rows belong to the settings that
    ``stored`` gives: others are dropped.
    """
    options = _options((about or "").splitlines()[0], choose)
    settings = sizes[options.quick]
    named = parts(settings) if callable(parts) else parts
    chosen = options.chosen or list(default(named))
    if unknown := ", ".join(name for name in chosen if name not in named):
        sys.exit(f"unknown part {unknown}; there are {', '.join(named)}.")
    if set(chosen) & set(on_one_device) and not options.report_only:
        jax.config.update("jax_num_cpu_devices", 1)
    belonging = stored(settings)
    result_folder, page_folder = _folders(options)
    results = ResultFile(result_folder / f"{Path(script).stem}.json", belonging, page_folder)
    if not options.report_only:
        for name in chosen:
            named[name](results, settings)
    if write is not None:
        write(results, settings)


def _options(description: str, choose: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    if choose is not None:
        parser.add_argument("chosen", nargs="*", metavar="PART", help=choose)
    parser.add_argument("--quick", action="store_true", help="a tiny size that only shows that everything runs")
    parser.add_argument(
        "--out", type=Path, help="folder for the JSON and the pages (default: benchmarks/results and docs/results)"
    )
    parser.add_argument("--report-only", action="store_true", help="only write the pages from the stored rows")
    parser.set_defaults(chosen=[])
    return parser.parse_args()


def _folders(options: argparse.Namespace) -> tuple[Path, Path]:
    """Where the JSON and where the pages go. A quick run never touches the results of the tree."""
    if options.out is not None:
        both = options.out, options.out
    elif options.quick:
        quick = Path(tempfile.gettempdir()) / "slmc-benchmarks-quick"
        both = quick, quick
    else:
        both = ROOT / "benchmarks" / "results", ROOT / "docs" / "results"
    for folder in both:
        folder.mkdir(parents=True, exist_ok=True)
    return both
