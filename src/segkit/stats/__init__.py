"""What a data set is like, in numbers: sums over the files that merge exactly, and what follows from them.

Example:
    >>> import numpy as np
    >>> from segkit import stats
    >>> statistics = stats.DatasetStatistics()
    >>> statistics.add(np.zeros((1, 4, 1), np.uint8), np.array([[0, 0, 0, 1]]))
    >>> stats.class_weights(statistics.class_pixels).tolist()
    [0.6666666865348816, 2.0]
"""

from segkit._tasks import map_in_chunks
from segkit.stats._dataset import DatasetStatistics, dataset_statistics
from segkit.stats._drift import Drift, Recommendation, compare, recommend_normalization
from segkit.stats._reading import with_data
from segkit.stats._weights import class_weights

__all__ = [
    "DatasetStatistics",
    "Drift",
    "Recommendation",
    "class_weights",
    "compare",
    "dataset_statistics",
    "map_in_chunks",
    "recommend_normalization",
    "with_data",
]
