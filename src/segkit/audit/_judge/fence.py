"""Which values of a set lie far outside: robust fences, so that the set itself says what is usual."""

from __future__ import annotations

import numpy as np


def outside(values: np.ndarray, *, side: int, at_least: float, at_most: float = np.inf, far: float = 4.0) -> np.ndarray:
    """Whether each value lies far below (`side` -1) or far above (+1) the usual ones.

    The distance from the median is compared with the spread of the set on that side: the distance of the quartile
    there, scaled to a standard deviation. A quarter of the values on one side can be wrong before the fence moves.

    Args:
        values: float [N], NaN where unknown.
        side: -1 or +1.
        at_least: the smallest distance from the median that counts, in the units of the values. It holds for sets
            that are more uniform than anybody cares for.
        at_most: a distance that always counts, however mixed the set.
        far: how many spreads are far.

    Returns:
        bool [N].
    """
    known = np.isfinite(values)
    judges = values[known]
    if judges.size < 4:
        return np.zeros(values.shape, bool)
    median = np.median(judges)
    spread = abs(np.percentile(judges, 75 if side > 0 else 25) - median) / 0.6745
    distance = (np.where(known, values, median) - median) * side
    return distance > min(max(far * spread, at_least), at_most)


def distances(values: np.ndarray, *, least: float) -> np.ndarray:
    """How far each value lies from the median, in units of the spread on its side: below 0 for the smaller ones.

    Args:
        values: float [N], NaN where unknown.
        least: the smallest spread that counts, in the units of the values, for sets that are very uniform.

    Returns:
        float [N]; 0 where the value is unknown, and everywhere if fewer than four are known.
    """
    known = np.isfinite(values)
    judges = values[known]
    if judges.size < 4:
        return np.zeros(values.shape)
    low, median, high = np.percentile(judges, (25, 50, 75))
    below, above = (max(abs(quartile - median) / 0.6745, least) for quartile in (low, high))
    distance = np.where(known, values, median) - median
    return np.asarray(distance / np.where(distance < 0, below, above))


def together(*evidence: np.ndarray, cap: float = 8.0) -> np.ndarray:
    """The length of several distances that point the same way: what points the other way counts as nothing.

    One alone reaches `cap` at most, since each single number has its own harmless reason to be far away.
    """
    return np.asarray(np.sqrt(sum(np.clip(distance, 0, cap) ** 2 for distance in evidence)))
