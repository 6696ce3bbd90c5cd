"""As often as a number says: whole counts that are right on average and off by less than one in each epoch."""

from __future__ import annotations

import numpy as np

from segkit.samplers._engine.permutation import KeyedPermutation
from segkit.samplers._engine.words import keyed_words

SPREAD, OFFSET = 4, 5  # streams of randomness, beside the order's own


class Comb:
    """An order of `total` draws: a comb of evenly spaced teeth over the shares laid end to end.

    Where two teeth fall into a sample's stretch, it comes twice. The stretches lie in another order each epoch, so
    that who gets the rounding up, and together with whom, changes.

    Args:
        shares: how often each sample is to come, up to a common factor; none negative, not all 0 where there are draws.
        total: draws of an epoch.
        seed: of the order.
        epoch: which epoch.
    """

    once = False

    def __init__(self, shares: np.ndarray, total: int, seed: int, epoch: int) -> None:
        self.total = total
        self._draws = KeyedPermutation(total, seed, epoch)
        laid = KeyedPermutation(len(shares), seed, epoch, SPREAD)(np.arange(len(shares)))
        self._laid = laid[shares[laid] > 0]  # a stretch of no length could be hit by a tooth that is rounded
        self._ends = np.cumsum(shares[self._laid])
        self._offset = keyed_words(seed, epoch, OFFSET, 0, words=1)[0] / 2**32

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The samples at these positions."""
        teeth = (self._draws(positions) + self._offset) * (self._ends[-1] / self.total)
        stretch = np.searchsorted(self._ends, teeth, side="right")
        return self._laid[np.minimum(stretch, len(self._laid) - 1)], None
