"""Easy and hard, positive and negative: the words for a sample, and how they are given out."""

from __future__ import annotations

from enum import IntFlag
from fractions import Fraction

import numpy as np


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
    hardest = _ceil(hard, number)
    easiest = min(_ceil(easy, number), number - hardest)
    chosen = _largest(losses, seen, hardest)
    tags[chosen] = Tag.HARD
    tags[_largest(-losses, seen & ~chosen, easiest)] = Tag.EASY
    return tags


def _ceil(share: float, number: int) -> int:
    """Rounded up in whole numbers: 0.07 of 100 is 7, which floating point calls 7.000000000000001."""
    exact = Fraction(share).limit_denominator(10**6)
    return -(-number * exact.numerator // exact.denominator)


def _largest(values: np.ndarray, among: np.ndarray, number: int) -> np.ndarray:
    """Mark the `number` largest values among some; of equal ones the first."""
    if not number:
        return np.zeros(len(values), dtype=bool)
    ranked = np.where(among, values, -np.inf)
    smallest = np.partition(ranked, len(ranked) - number)[len(ranked) - number]
    chosen = ranked > smallest
    chosen[np.flatnonzero((ranked == smallest) & among)[: number - np.count_nonzero(chosen)]] = True
    return chosen
