"""Log-likelihoods of a process of its own: it imports this file, and nothing that takes time."""

import os
import time


def parabola(x):
    """Well behaved between −2 and 2; beyond, each way in which a function can fail."""
    if x[0] > 2:
        raise ArithmeticError("beyond two")
    if x[0] < -4:
        time.sleep(60)
    if x[0] < -2:
        os._exit(3)
    return -float(sum(component**2 for component in x)) / 2, [-float(component) for component in x]


def value(x):
    return parabola(x)[0]
