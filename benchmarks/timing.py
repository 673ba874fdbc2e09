"""Seconds of a program that is already compiled."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def least_seconds(program: Callable[[], Any], n_times: int = 3) -> float:
    """The least of several runs, after one that compiles."""
    jax.block_until_ready(program())
    best = np.inf
    for _ in range(n_times):
        started = time.perf_counter()
        jax.block_until_ready(program())
        best = min(best, time.perf_counter() - started)
    return float(best)
