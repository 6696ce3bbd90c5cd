"""How far the test images are from the training images, and whether to normalise them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from segkit.errors import DataError
from segkit.stats._dataset import DatasetStatistics, dataset_statistics


class Drift(NamedTuple):
    """How far two sets lie apart, one number for each channel, and for the classes.

    Args:
        mean_shift: (mean of test - mean of train) / std of train, float64 [C].
        std_ratio: std of test / std of train, float64 [C].
        distance: area between the two cumulative distributions / std of train, float64 [C]; 0 for equal sets. It is the
            Wasserstein distance in standard deviations, and also sees what mean and std do not.
        overlap: shared area of the two histograms in 64 steps, in [0, 1], float64 [C].
        class_shift: share of each class in test - in train, float64 [K]; empty without masks.
        level: "none", "small" or "large", by the largest distance: below 0.25, below 1, or more.

    Example:
        >>> Drift(np.zeros(1), np.ones(1), np.zeros(1), np.ones(1), np.zeros(0), "none").level
        'none'
    """

    mean_shift: np.ndarray
    std_ratio: np.ndarray
    distance: np.ndarray
    overlap: np.ndarray
    class_shift: np.ndarray
    level: str

    def to_json(self) -> str:
        """All numbers as JSON text."""
        return json.dumps({k: v if isinstance(v, str) else v.tolist() for k, v in self._asdict().items()}, indent=1)


class Recommendation(NamedTuple):
    """Whether and how to normalise, and why.

    Args:
        method: "fixed": subtract `mean` and divide by `std`; "per-image": by each image's own; "none": leave as it is.
        mean: float64 [C], of the training set after `io.to_tensor` (in [0, 1] for integers).
        std: float64 [C], likewise; 1 where a channel is constant.
        reason: one or two sentences with the numbers that decided.

    Example:
        >>> Recommendation("none", np.zeros(1), np.ones(1), "The values are centred.").method
        'none'
    """

    method: str
    mean: np.ndarray
    std: np.ndarray
    reason: str


def compare(train: Any, test: Any) -> Drift:
    """How far the test images lie from the training images, per channel, in standard deviations of the training set.

    Args:
        train: `DatasetStatistics`, or pairs or image paths to count first.
        test: likewise, with the same dtype and channels.

    Returns:
        The drift. Exact for 8 and 16 bit images, up to the bins of the histogram for others.

    Raises:
        DataError: the sets have different dtypes or numbers of channels.

    Example:
        >>> one, two = DatasetStatistics(), DatasetStatistics()
        >>> one.add(np.array([[[10], [20]]], np.uint8))
        >>> two.add(np.array([[[20], [30]]], np.uint8))
        >>> drift = compare(one, two)
        >>> drift.mean_shift.tolist(), drift.std_ratio.tolist(), drift.distance.tolist(), drift.level
        ([2.0], [1.0], [2.0], 'large')
    """
    first, second = _counted(train, "train"), _counted(test, "test")
    a, b = first.channels, second.channels
    if first.kind != second.kind:
        raise DataError(
            f"compare: `test` must have the dtype and channels of `train`, {_said(first)}, got {_said(second)}. "
            "Compare sets of one kind, or convert one of them."
        )
    std = np.where(a.std() > 0, a.std(), 1.0)
    values = a.bin_values()
    distance, overlap = np.zeros(a.channels), np.zeros(a.channels)
    for channel in range(a.channels):
        p, q = (sums.histogram[channel] / max(sums.histogram[channel].sum(), 1) for sums in (a, b))
        used = (p + q).nonzero()[0]
        if used.size == 0:
            continue
        at = values[used]
        gap = np.abs((p - q)[used].cumsum())
        distance[channel] = float((gap[:-1] * np.diff(at)).sum()) / std[channel]
        steps = np.digitize(at, np.linspace(at[0], at[-1], 65)[1:-1])
        overlap[channel] = np.minimum(np.bincount(steps, p[used]), np.bincount(steps, q[used])).sum()
    worst = float(distance.max())
    return Drift(
        mean_shift=(b.mean() - a.mean()) / std,
        std_ratio=b.std() / std,
        distance=distance,
        overlap=overlap,
        class_shift=_class_shift(first, second),
        level="none" if worst < 0.25 else "small" if worst < 1 else "large",
    )


def recommend_normalization(train: Any, test: Any = None) -> Recommendation:
    """Whether to normalise the images, how, and why.

    Per image, if the test set (or the images of the training set among each other) differ so much in brightness or
    contrast that fixed numbers would not centre them; by fixed numbers, if they do not; not at all, if the values are
    centred and of unit standard deviation as they are.

    Args:
        train: `DatasetStatistics`, or pairs or image paths to count first.
        test: likewise; None judges by the training set alone.

    Returns:
        The recommendation with its mean and std in the units of `io.to_tensor`.

    Example:
        >>> statistics = DatasetStatistics()
        >>> statistics.add(np.array([[[0], [255]]], np.uint8))
        >>> advice = recommend_normalization(statistics)
        >>> advice.method, advice.mean.tolist(), advice.std.tolist()
        ('fixed', [0.5], [0.5])
    """
    first = _counted(train, "train")
    sums = first.channels
    scale = sums.scale()
    mean = sums.mean() / scale
    std = np.where(sums.std() > 0, sums.std() / scale, 1.0)
    drift = None if test is None else compare(first, test)
    if drift is not None and drift.level == "large":
        channel = int(drift.distance.argmax())
        reason = (
            f"Channel {channel} of the test set is {drift.distance[channel]:.2f} deviations from the training set "
            f"(mean {drift.mean_shift[channel]:+.2f}, spread x{drift.std_ratio[channel]:.2f}): fixed numbers would not "
            "centre it. Normalise each image by its own mean and standard deviation, and look for the cause."
        )
        return Recommendation("per-image", mean, std, reason)
    if np.abs(mean).max() < 0.1 and np.abs(std - 1).max() < 0.2:
        return Recommendation("none", mean, std, "The values already are centred, with unit standard deviation.")
    also = "" if drift is None else f" The test set agrees (largest distance {drift.distance.max():.2f} deviations)."
    reason = (
        f"The channels have means from {mean.min():.3g} to {mean.max():.3g} and deviations from {std.min():.3g} to "
        f"{std.max():.3g}; fixed numbers centre them and keep brightness differences between images.{also}"
    )
    return Recommendation("fixed", mean, std, reason)


def _counted(data: Any, name: str) -> DatasetStatistics:
    if isinstance(data, DatasetStatistics):
        return data
    if isinstance(data, Sequence) and not isinstance(data, str):
        return dataset_statistics(data, progress=False)
    raise TypeError(f"compare: `{name}` must be DatasetStatistics or a list of pairs, got {type(data).__name__}.")


def _said(statistics: DatasetStatistics) -> str:
    dtype, channels = statistics.kind or ("nothing", 0)
    return f"{channels} channels of {dtype}"


def _class_shift(first: DatasetStatistics, second: DatasetStatistics) -> np.ndarray:
    if not first.labels or not second.labels:
        return np.zeros(0)
    counts = [statistics.class_pixels.astype(float) for statistics in (first, second)]
    length = max(len(c) for c in counts)
    shares = [np.pad(c, (0, length - len(c))) / max(c.sum(), 1) for c in counts]
    return shares[1] - shares[0]
