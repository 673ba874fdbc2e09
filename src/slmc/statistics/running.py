"""Series that grow without end, kept in constant memory."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

N_BLOCKS = 4096
"""Blocks of a chain at which neighbours are united; half as many are left."""

Series = Float[np.ndarray, "chain draw"]


class _Blocks(NamedTuple):
    """Mean, sum of squared deviations from it, and first draw of every block."""

    means: Float[np.ndarray, "chain block"]
    deviations: Float[np.ndarray, "chain block"]
    first_draws: Float[np.ndarray, "chain block"]


class RunningSeries:
    """A series of several chains of which blocks are kept, at most 4,096 a chain, for ``estimate``.

    Draws are kept as they are up to that number; beyond it neighbouring blocks are united, again and again, so that
    blocks of 2^k draws are left. What is kept depends on the draws alone, not on the portions in which they came. The
    last draws, fewer than a block, wait.
    """

    def __init__(self, n_chains: int) -> None:
        self.n_draws, self.block_length = 0, 1
        nothing = np.zeros((n_chains, 0))
        self._blocks, self._waiting = _Blocks(nothing, nothing, nothing), nothing

    @property
    def means(self) -> Float[np.ndarray, "chain block"]:
        """The mean of every block."""
        return self._blocks.means

    @property
    def deviations(self) -> Float[np.ndarray, "chain block"]:
        """The sum of squared deviations from its mean of every block."""
        return self._blocks.deviations

    @property
    def first_draws(self) -> Float[np.ndarray, "chain block"]:
        """The first draw of every block."""
        return self._blocks.first_draws

    def extended(self, series: Series) -> "RunningSeries":
        """This object, with draws added to its end. Raises ``ValueError`` for another number of chains."""
        series = np.asarray(series, dtype=np.float64)
        if series.shape[0] != len(self._waiting):
            raise ValueError(f"a series of {len(self._waiting)} chains cannot go on with {series.shape[0]} chains.")
        self.n_draws += series.shape[1]
        self._waiting = np.concatenate([self._waiting, series], axis=1)
        while n_new := min(self._waiting.shape[1] // self.block_length, N_BLOCKS - self.means.shape[1]):
            self._take(n_new)
        return self

    def divided(self, n_samples: int) -> list["RunningSeries"]:
        """The chains of each sample of quenched disorder. Raises ``ValueError`` unless samples divide the chains."""
        n_chains = len(self._waiting)
        if n_samples < 1 or n_chains % n_samples:
            raise ValueError(f"{n_chains} chains cannot be divided among {n_samples} samples.")
        each = n_chains // n_samples
        return [self._part(slice(k, k + each), slice(None)) for k in range(0, n_chains, each)]

    def first_half(self) -> "RunningSeries":
        """The first half of the blocks."""
        return self._part(slice(None), slice(self.means.shape[1] // 2))

    def _part(self, chains: slice, blocks: slice) -> "RunningSeries":
        part = RunningSeries(0)
        part._blocks = _Blocks(*(array[chains, blocks] for array in self._blocks))
        part.block_length, part._waiting = self.block_length, self._waiting[chains, :0]
        part.n_draws = part.means.shape[1] * part.block_length
        return part

    def _take(self, n_new: int) -> None:
        """Makes blocks of what waits, and unites neighbours where there are too many."""
        n_taken = n_new * self.block_length
        whole = self._waiting[:, :n_taken].reshape(len(self._waiting), n_new, self.block_length)
        self._waiting = self._waiting[:, n_taken:]
        new = _Blocks(*_pooled(whole), whole[..., 0])
        self._blocks = _Blocks(*(np.concatenate(both, axis=1) for both in zip(self._blocks, new, strict=True)))
        if self.means.shape[1] == N_BLOCKS:
            united = _paired(self.means, self.deviations, self.block_length)
            self._blocks = _Blocks(*united, self.first_draws[:, ::2])
            self.block_length *= 2


def _pooled(values: Float[np.ndarray, "chain block draw"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sum of squared deviations of blocks of 2^k draws, in pairs: the same however they were united."""
    means, deviations, length = values, np.zeros_like(values), 1
    while means.shape[-1] > 1:
        means, deviations = _paired(means, deviations, length)
        length *= 2
    return means[..., 0], deviations[..., 0]


def _paired(means: np.ndarray, deviations: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours on the last axis united; what is not finite makes the deviation NaN or infinite."""
    first, second = means[..., ::2], means[..., 1::2]
    with np.errstate(invalid="ignore", over="ignore"):
        within = deviations[..., ::2] + deviations[..., 1::2]
        return (first + second) / 2, within + (second - first) ** 2 * (length / 2)
