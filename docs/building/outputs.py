"""Remakes what the documentation shows of runs: the tutorial's output, and the picture of README and start page.

    python docs/building/outputs.py [--tutorial] [--picture] [--run DIR]

Without options both. ``--run`` takes the picture of a run of ``double_exchange`` that is there already. The picture
needs Chromium. What it shows is written into the PNG as text, so that ``tests/test_documents.py`` can tell when it, or
the tutorial, is out of date.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "first-run.md"
PICTURE = ROOT / "docs" / "images" / "result.png"
COMMANDS = ("slmc run double_exchange_small --out first", "slmc info first")
SIZE = {"width": 1200, "height": 1745}
ABOUT = "slmc"
"""Name of the text in the picture."""


def block_after(command: str) -> re.Pattern[str]:
    """In a page: a command alone in its block, and the block with what it prints."""
    return re.compile(rf"(?<=^```sh\n{re.escape(command)}\n```\n\n```text\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)


def printed(command: str, directory: Path) -> str:
    arguments = [sys.executable, "-m", "slmc.cli", *command.split()[1:]]
    return subprocess.run(arguments, cwd=directory, check=True, capture_output=True, text=True).stdout


def remake_tutorial(directory: Path) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    for command in COMMANDS:
        output = printed(command, directory)
        text = block_after(command).sub(lambda _, output=output: output, text)
    TUTORIAL.write_text(text, encoding="utf-8")


def headings(page: str) -> list[str]:
    """Of a report, in order."""
    return re.findall(r"<h2>(.*?)</h2>", page)


def remake_picture(run: Path) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo
    from playwright.sync_api import sync_playwright

    report = run / "report.html"
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = window.new_page(viewport=SIZE)
        tab.set_default_timeout(0)
        tab.goto(report.resolve().as_uri())
        tab.screenshot(path=PICTURE)
        window.close()
    summary = json.loads(printed(f"slmc info {run} --json", Path.cwd()))
    shown = {name: summary[name] for name in ("acceptance", "residual", "expected_acceptance", "observables")}
    about = PngInfo()
    about.add_text(ABOUT, json.dumps({**shown, "headings": headings(report.read_text(encoding="utf-8"))}))
    with Image.open(PICTURE) as picture:
        picture.convert("P", palette=Image.Palette.ADAPTIVE).save(PICTURE, pnginfo=about, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tutorial", action="store_true", help="only what the tutorial shows")
    parser.add_argument("--picture", action="store_true", help="only the picture")
    parser.add_argument("--run", type=Path, help="a run of double_exchange to take the picture of")
    arguments = parser.parse_args()
    both = arguments.tutorial == arguments.picture
    with tempfile.TemporaryDirectory() as directory:
        if arguments.tutorial or both:
            remake_tutorial(Path(directory))
        if arguments.picture or both:
            if arguments.run is None:
                printed("slmc run double_exchange --out main", Path(directory))
            remake_picture(arguments.run or Path(directory) / "main")


if __name__ == "__main__":
    main()
