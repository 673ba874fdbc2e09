"""Which labels a model can learn from: configurations of weight zero say where a wall is, and nothing that fits."""

from typing import NamedTuple

import jax
import numpy as np

from slmc.montecarlo.update import Label


class Usable(NamedTuple):
    """Labels with finite log-weights, and the share of those of weight zero, which are not among them."""

    labels: Label
    share_of_weight_zero: float


def usable(labels: Label, forces_matter: bool, least: float = -np.inf) -> Usable:
    """Labels without those of weight zero, log W = −∞, and of log W below ``least``: walls are left to the decision.

    Raises ``FloatingPointError`` for a log-weight that is NaN or +∞ and, if ``forces_matter``, for a force that is not
    finite where the weight is: it names the configuration.
    """
    log_weights = np.asarray(labels.log_weight)
    _refuse(labels, np.isnan(log_weights) | np.isposinf(log_weights), "log-weight")
    finite = np.isfinite(log_weights)
    kept = finite & (log_weights >= least)
    if forces_matter:
        _refuse(labels, kept & ~_finite_forces(labels), "force")
    if np.all(kept):
        return Usable(labels, 0.0)
    return Usable(jax.tree.map(lambda leaf: np.asarray(leaf)[kept], labels), float(1 - np.mean(finite)))


def _finite_forces(labels: Label) -> np.ndarray:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(labels.force)]
    return np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves], axis=0)


def _refuse(labels: Label, bad: np.ndarray, what: str) -> None:
    if not np.any(bad):
        return
    place = int(np.flatnonzero(bad)[0])
    configuration = [np.asarray(leaf)[place].ravel() for leaf in jax.tree.leaves(labels.configuration)]
    words = np.array2string(np.concatenate(configuration), precision=4, threshold=12, separator=", ")
    raise FloatingPointError(
        f"the {what} of a configuration that was proposed while learning is not a number or infinite ({int(bad.sum())} "
        f"of {len(bad)} labels); check the target there: {' '.join(words.split())}."
    )
