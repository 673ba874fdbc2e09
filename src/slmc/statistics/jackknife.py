"""Errors of quantities that are no means."""

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from slmc.numbers import count
from slmc.statistics.disorder import disorder_average, samples_of, worst
from slmc.statistics.estimates import estimate
from slmc.statistics.quantities import Estimate
from slmc.statistics.running import Series


def jackknife(
    function: Callable[[Mapping[str, np.ndarray]], float],
    series: Mapping[str, Series],
    n_blocks: int = 20,
    n_samples: int = 1,
    moved: bool | None = None,
    known: Mapping[str, Estimate] = MappingProxyType({}),
) -> Estimate:
    """``function`` of the pooled series, with the jackknife error over at most ``n_blocks`` blocks per chain.

    For quantities that are no means, such as ratios of moments. Blocks hold at least ten effective samples; R-hat
    and effective samples are the worst of the series. With ``n_samples`` of quenched disorder the function is taken
    in each of them and averaged (see ``disorder_average``). ``moved`` is that of ``estimate``, and ``known`` are
    estimates of the series, where they are at hand. Raises ``ValueError`` without series and for fewer than two blocks.
    """
    if not series:
        raise ValueError("the jackknife needs at least one series; got none.")
    n_blocks = count(n_blocks, "n_blocks", 2)
    if n_samples > 1:
        divided = {name: samples_of(chains, n_samples) for name, chains in series.items()}
        parts = [{name: of_samples[number] for name, of_samples in divided.items()} for number in range(n_samples)]
        return disorder_average([jackknife(function, part, n_blocks, 1, moved) for part in parts])
    n_draws = min(chains.shape[1] for chains in series.values())
    n_chains = len(next(iter(series.values())))
    inputs = [known[name] if name in known else estimate(chains, 1, moved) for name, chains in series.items()]
    r_hat = worst(each.r_hat for each in inputs)
    sizes = [each.ess for each in inputs if each.ess is not None]
    ess = float(np.min(sizes)) if sizes else None
    if not all(math.isfinite(each.value) for each in inputs):
        return Estimate(math.nan, math.nan, r_hat, ess)
    if ess is not None and math.isfinite(ess):
        n_blocks = max(2, min(n_blocks, int(ess / n_chains / 10)))
    length = n_draws // n_blocks
    if length < 1 or ess == 0:
        return Estimate(_value(function, series), math.nan, r_hat, ess)
    values = np.array([_value(function, kept) for kept in _each_block_left_out(series, n_blocks, length)])
    error = math.sqrt((len(values) - 1) / len(values) * float(np.sum((values - values.mean()) ** 2)))
    return Estimate(_value(function, series), error, r_hat, ess)


def _each_block_left_out(
    series: Mapping[str, Series], n_blocks: int, length: int
) -> Iterator[dict[str, Float[np.ndarray, " draw"]]]:
    """The pooled series without one block, for each block of each chain; the memory is the same each time."""
    blocks = {name: chains[:, : n_blocks * length].reshape(-1, length).copy() for name, chains in series.items()}
    last = len(next(iter(blocks.values()))) - 1
    for number in (last, *range(last)):
        for array in blocks.values():
            array[[number, last]] = array[[last, number]]
        yield {name: array[:last].reshape(-1) for name, array in blocks.items()}


def _value(function: Callable[[Mapping[str, np.ndarray]], float], series: Mapping[str, np.ndarray]) -> float:
    """What the function gives, NaN where it divides by zero or is too large for a number."""
    try:
        return float(function(series))
    except ArithmeticError:
        return math.nan
