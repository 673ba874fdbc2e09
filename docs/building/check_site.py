"""Checks a built site: nothing is loaded from outside, and nothing is cut off on a wide and on a narrow screen.

    python docs/building/check_site.py SITE [--pictures FOLDER] [--pages BEGINNING …]

Addresses in the HTML and the style sheets are read. Where Chromium is found, every page is opened at 1,280 and 390
pixels with all requests to other hosts counted: the page must not be wider than the screen, and on the wide one tables,
formulas and code must fit into the column. ``--pictures`` keeps a picture of each page, ``--pages`` looks at some
alone.
"""

import argparse
import functools
import http.server
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data)=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?![^>]*\brel=[\"']?(?:canonical|prev|next|license))[^>]*?\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)",
    re.IGNORECASE,
)
IN_STYLES = re.compile(r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)
WIDTHS = (1280, 390)
TOO_WIDE = """() => {
    const found = [];
    const page = document.documentElement;
    if (page.scrollWidth > innerWidth) found.push("the page is " + page.scrollWidth + " pixels wide");
    if (innerWidth > 1000) for (const box of document.querySelectorAll(
        "article .md-typeset__scrollwrap, article .formula, article pre > code"))
        if (box.scrollWidth > box.clientWidth + 1)
            found.push((box.innerText || "").trim().split("\\n")[0].slice(0, 60) + " … is "
                + (box.scrollWidth - box.clientWidth) + " pixels too wide");
    for (const image of document.querySelectorAll("article img"))
        if (image.complete && image.naturalWidth === 0) found.push("no picture " + image.getAttribute("src"));
    return found;
}"""


def addresses(site: Path) -> list[str]:
    """What pages and style sheets would load from other hosts."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            text = path.read_text(encoding="utf-8")
            loaded = [a or b for a, b in LOADED.findall(text)] if path.suffix == ".html" else []
            found += [f"{path.relative_to(site)}: loads {address}" for address in loaded + IN_STYLES.findall(text)]
    return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def seen(site: Path, browser: str, pictures: Path | None, beginnings: tuple[str, ...]) -> list[str]:
    """What a browser finds wrong."""
    from playwright.sync_api import sync_playwright

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    pages = sorted(path.parent.relative_to(site).as_posix() for path in site.rglob("index.html"))
    pages = [page for page in pages if page.startswith(beginnings)]
    found = []
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width in WIDTHS:
            tab = window.new_page(viewport={"width": width, "height": 900})
            tab.set_default_timeout(0)
            outside: set[str] = set()
            tab.on("request", lambda request, outside=outside: outside.add(request.url))
            for page in pages:
                outside.clear()
                tab.goto(f"{home}{page}/".replace("/./", "/"), wait_until="load")
                wrong = tab.evaluate(TOO_WIDE) + sorted(
                    f"loads {url}" for url in outside if not url.startswith((home, "data:", "blob:"))
                )
                found += [f"{page}/ at {width} pixels: {sentence}" for sentence in wrong]
                if pictures:
                    tab.screenshot(path=pictures / f"{page.replace('/', '-')}-{width}.png", full_page=True)
        window.close()
    server.shutdown()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for a picture of every page")
    parser.add_argument("--pages", nargs="*", default=[""], help="look only at pages whose addresses begin so")
    arguments = parser.parse_args()
    wrong = addresses(arguments.site)
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser:
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
        wrong += seen(arguments.site, browser, arguments.pictures, tuple(arguments.pages))
    else:
        print("no browser: the pages were not looked at")
    for sentence in wrong:
        print(sentence)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
