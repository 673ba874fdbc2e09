"""Writes what the README says of effective samples a second from the stored rows of the benchmark.

    python docs/building/readme_numbers.py

``tests/test_documents.py`` says when that is due.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
STORED = ROOT / "benchmarks" / "results" / "efficiency.json"
LATTICES = ("6x6", "12x12", "16x16")
EXACT = {
    "hmc": "HMC",
    "two scales": "HMC on two time scales",
    "microcanonical": "microcanonical trajectories",
    "local": "local updates",
}
TABLE = re.compile(r"(?<=\|---\|---\|---\|---\|---\|---\|\n)(\| \d+×\d+ \|.*\n)+")
ACCEPTANCE = re.compile(r"far higher \([\d., ]+ against [\d., ]+\)")
RATIOS = re.compile(
    r"gives \d+ to \d+ times the effective samples a second|gives \d+ times the effective samples a second"
)
PLAIN = re.compile(r"plain HMC is\n?\s*[\d.]+ times slower than that on 6×6, local updates \d+ times")


def rate(row: dict[str, Any], chain: str) -> float:
    return float(row[chain]["ess_per_second"]) if chain in row else 0.0


def rounded(number: float) -> str:
    """To three digits."""
    return f"{float(f'{number:.3g}'):,.0f}" if number >= 100 else f"{number:.3g}"


def written(text: str) -> str:
    """The README with the numbers of today's rows."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))["rows"]
    rows = {lattice: stored[f"{lattice}: chains"] for lattice in LATTICES}
    lines, ratios = [], []
    for lattice, row in rows.items():
        best = max(EXACT, key=lambda chain, row=row: rate(row, chain))
        ratios.append(max(rate(row, "linear"), rate(row, "slmc")) / rate(row, best))
        cells = (
            lattice.replace("x", "×"),
            *(rounded(rate(row, chain)) for chain in ("linear", "slmc", best)),
            EXACT[best],
            f"{ratios[-1]:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    least, most = round(min(ratios)), round(max(ratios))
    network, linear = (
        ", ".join(f"{row[chain]['acceptance']:.2f}" for row in rows.values()) for chain in ("slmc", "linear")
    )
    first = rows[LATTICES[0]]
    best_exact = max(rate(first, chain) for chain in EXACT)
    plain, local = best_exact / rate(first, "hmc"), best_exact / rate(first, "local")
    times = f"{least} times" if least == most else f"{least} to {most} times"
    for pattern, words in (
        (TABLE, "".join(lines)),
        (ACCEPTANCE, f"far higher ({network} against {linear})"),
        (RATIOS, f"gives {times} the effective samples a second"),
        (PLAIN, f"plain HMC is\n{plain:.1f} times slower than that on 6×6, local updates {local:.0f} times"),
    ):
        text, n_found = pattern.subn(lambda _, words=words: words, text)
        if n_found != 1:
            raise ValueError(f"the README no longer says {pattern.pattern!r}")
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
