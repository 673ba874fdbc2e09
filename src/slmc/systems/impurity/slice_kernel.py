"""Flips of auxiliary spins at equidistant times, of the network model, in compiled loops."""

import math
from typing import no_type_check

import numba
import numpy as np

from slmc.compiled_calls import (
    answers_version,
    arguments,
    data,
    extents,
    frame_words,
    results,
    seed_numbers,
    size,
    uniform,
)
from slmc.systems.impurity.determinant_kernel import entry, of_rank_one, of_rank_two

# Without run-time checks of annotations (``no_type_check``) throughout: Numba has to see the bare functions.


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _units(seen, mixing, bias, outer, hidden):
    """Σ_l w·tanh(B log cosh(seen_l) + b) of ``seen`` (channel, slice)."""
    n_channels, n_slices = seen.shape
    total = 0.0
    for place in range(n_slices):
        for channel in range(n_channels):
            value = abs(seen[channel, place])
            hidden[channel] = value + math.log1p(math.exp(-2 * value)) - math.log(2.0)
        for unit in range(len(outer)):
            value = bias[unit]
            for channel in range(n_channels):
                value += mixing[unit, channel] * hidden[channel]
            total += outer[unit] * math.tanh(value)
    return total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _seen(pairs, kernels, spins, fields, seen):
    """Writes Σ_m J s_m without m = l, and Σ_m K s_m; returns the sum over pairs."""
    n_slices = len(spins)
    fields[:] = 0.0
    seen[:] = 0.0
    total = 0.0
    for place in range(n_slices):
        for other in range(n_slices):
            distance = abs(place - other)
            distance = min(distance, n_slices - distance)
            if distance:
                fields[place] += pairs[distance] * spins[other]
            for channel in range(len(kernels)):
                seen[channel, place] += kernels[channel, distance] * spins[other]
        total += 0.5 * spins[place] * fields[place]
    return total


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def slice_updates(pairs, kernels, mixing, bias, outer, spins, n_updates, words):
    """Flips in place; returns the accepted share and log W_eff less its constant."""
    n_slices, n_channels = len(spins), len(kernels)
    fields, seen, hidden = np.empty(n_slices), np.empty((n_channels, n_slices)), np.empty(n_channels)
    if n_updates:
        turn, factor = int(uniform(words) * n_slices), 1.0 if uniform(words) < 0.5 else -1.0
        before = spins.copy()
        for place in range(n_slices):
            spins[place] = factor * before[(place + turn) % n_slices]
    _seen(pairs, kernels, spins, fields, seen)
    total = _units(seen, mixing, bias, outer, hidden)
    trial, n_accepted = np.empty_like(seen), 0
    for _ in range(n_updates):
        k = int(uniform(words) * n_slices)
        for channel in range(n_channels):
            for place in range(n_slices):
                distance = abs(place - k)
                distance = min(distance, n_slices - distance)
                trial[channel, place] = seen[channel, place] - 2 * spins[k] * kernels[channel, distance]
        proposed = _units(trial, mixing, bias, outer, hidden)
        change = proposed - total - 2 * spins[k] * fields[k]
        if uniform(words) < math.exp(min(change, 0.0)):
            for place in range(n_slices):
                distance = abs(place - k)
                distance = min(distance, n_slices - distance)
                if distance:
                    fields[place] -= 2 * pairs[distance] * spins[k]
            spins[k] = -spins[k]
            seen, trial, total = trial, seen, proposed
            n_accepted += 1
    # Made anew, so that the weight of given spins has the same bits from any path.
    of_pairs = _seen(pairs, kernels, spins, fields, seen)
    return n_accepted / max(1, n_updates), of_pairs + _units(seen, mixing, bias, outer, hidden)


@no_type_check
def slices_call(frame_address):
    """Of pairs, kernels, mixing, biases, outer weights, spins, a seed and a number of updates: new spins, the accepted
    share, log W_eff less its constant.

    No updates leave everything as it is.
    """
    frame = frame_words(frame_address)
    if not answers_version(frame):
        given, made = arguments(frame, 8), results(frame, 3)
        pairs = numba.carray(data(given[0]), of_rank_one(given[0]), np.float64)
        kernels = numba.carray(data(given[1]), of_rank_two(given[1]), np.float64)
        mixing = numba.carray(data(given[2]), of_rank_two(given[2]), np.float64)
        bias = numba.carray(data(given[3]), of_rank_one(given[3]), np.float64)
        outer = numba.carray(data(given[4]), of_rank_one(given[4]), np.float64)
        spins = numba.carray(data(given[5]), of_rank_one(given[5]), np.float64)
        seeds = numba.carray(data(given[6]), (size(extents(given[6])),), np.uint64)
        n_updates = numba.carray(data(given[7]), (size(extents(given[7])),), np.int64)
        moved = numba.carray(data(made[0]), of_rank_one(made[0]), np.float64)
        accepted = numba.carray(data(made[1]), (size(extents(made[1])),), np.float64)
        whole = extents(made[2])
        log_weights = numba.carray(data(made[2]), (size(extents(made[2])),), np.float64)
        words = np.empty(4, np.uint64)
        for chain in range(len(moved)):
            moved[chain] = spins[entry(given[5], whole, chain)]
            seed_numbers(words, seeds[entry(given[6], whole, chain)])
            accepted[chain], log_weights[chain] = slice_updates(
                pairs[entry(given[0], whole, chain)],
                kernels[entry(given[1], whole, chain)],
                mixing[entry(given[2], whole, chain)],
                bias[entry(given[3], whole, chain)],
                outer[entry(given[4], whole, chain)],
                moved[chain],
                n_updates[entry(given[7], whole, chain)],
                words,
            )
    return np.uint64(0)
