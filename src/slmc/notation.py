"""A number with its error, as it is written everywhere. Imports nothing that takes time."""

import math


def notation(value: float | None, error: float | None) -> str:
    """A number with its error in the last two digits: 0.5352(13); a dash for a number that is not known."""
    if value is None:
        return "–"
    if error is None or not math.isfinite(error) or not math.isfinite(value):
        return f"{value:.4g}"
    if error == 0:
        return f"{value:.6g}"
    # The exponent after rounding to two digits: 0.0996 is 0.10, not 0.100.
    exponent = int(f"{error:.1e}".partition("e")[2])
    digits = max(0, 1 - exponent)
    return f"{value:.{digits}f}({round(error * 10**digits)})" if digits else f"{value:.0f}({error:.0f})"
