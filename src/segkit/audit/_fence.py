"""Which values of a set lie far outside: robust fences, so that the set itself says what is usual."""

from __future__ import annotations

import numpy as np

__all__ = ["outside"]


def outside(
    values: np.ndarray, *, side: int, far: float = 4.0, at_least: float, usual: np.ndarray | None = None
) -> np.ndarray:
    """Whether each value lies far below (`side` -1) or far above (+1) the usual ones.

    The distance from the median is compared with the spread of the set: the larger of the median absolute deviation
    and of the quartiles on that side, scaled to a standard deviation. At most half of the values can be wrong before
    the fence moves.

    Args:
        values: float [N], NaN where unknown.
        side: -1 or +1.
        far: how many spreads are far.
        at_least: the smallest distance from the median that counts, in the units of the values. It holds for sets
            that are more uniform than anybody cares for.
        usual: bool [N], the files that say what is usual; all when None.

    Returns:
        bool [N].
    """
    known = np.isfinite(values)
    judges = values[known if usual is None else known & usual]
    if judges.size < 4:
        return np.zeros(values.shape, bool)
    median = np.median(judges)
    spread = 1.4826 * np.median(np.abs(judges - median))
    quartile = np.percentile(judges, 75 if side > 0 else 25)
    spread = max(float(spread), float(abs(quartile - median)) / 0.6745)
    distance = (np.where(known, values, median) - median) * side
    return distance > max(far * spread, at_least)
