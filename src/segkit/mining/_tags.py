"""Easy and hard, positive and negative: the words for a sample, and how they are given out."""

from __future__ import annotations

from enum import IntFlag

import numpy as np

from segkit.mining._select import largest_of, share_of


class Tag(IntFlag):
    """What a sample is: one of EASY, MEDIUM, HARD once it was seen, and POSITIVE or NEGATIVE once that is known.

    NOISY is beside these: HARD, and its loss never fell (see `DifficultyLedger.noisy`).

    An array of tags is uint8 `[N]`; a sample never seen is 0.

    Example:
        >>> tags = np.array([Tag.EASY | Tag.NEGATIVE, Tag.HARD | Tag.POSITIVE], dtype=np.uint8)
        >>> (tags & Tag.HARD) > 0
        array([False,  True])
        >>> Tag(int(tags[1])) == Tag.HARD | Tag.POSITIVE
        True
    """

    EASY = 1
    MEDIUM = 2
    HARD = 4
    POSITIVE = 8
    NEGATIVE = 16
    NOISY = 32


def tags_by_rank(losses: np.ndarray, seen: np.ndarray, easy: float, hard: float) -> np.ndarray:
    """EASY, MEDIUM or HARD for each sample seen, by the rank of its loss; uint8 `[N]`.

    The hardest `ceil(hard * seen)` are HARD and, of the rest, the easiest `ceil(easy * seen)` EASY. Of equal losses
    the first in the list are HARD first and EASY first.
    """
    tags = np.where(seen, np.uint8(Tag.MEDIUM), np.uint8(0))
    number = int(np.count_nonzero(seen))
    hardest = share_of(hard, number)
    easiest = min(share_of(easy, number), number - hardest)
    chosen = largest_of(losses, seen, hardest)
    tags[chosen] = Tag.HARD
    tags[largest_of(-losses, seen & ~chosen, easiest)] = Tag.EASY
    return tags
