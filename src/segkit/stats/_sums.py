"""Sums over the pixels of one kind of image (dtype and channels) that can be merged in any order, exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from segkit.errors import DataError

LARGEST = 1e150  # beyond it, a square is infinite


@dataclass
class ChannelSums:
    """What is known of the pixels of all images of one dtype and channel count.

    A histogram is all that 8 and 16 bit integers need: every other number follows from it exactly. Wider integers and
    floats are binned by the upper half of their float32 pattern (sign, exponent, 7 bits of mantissa), which bounds the
    relative error of a percentile by 1/256; their sums are kept as fractions, so that merging is exact in any order.
    """

    dtype: str
    histogram: np.ndarray  # int64 [C, 256 or 65536]
    total: list[Fraction]
    squares: list[Fraction]
    low: list[float]
    high: list[float]
    non_finite: int = 0
    images: int = 0
    depths: dict[int, int] = field(default_factory=dict)  # stored bits -> images

    @classmethod
    def empty(cls, dtype: np.dtype, channels: int) -> ChannelSums:
        """Sums of nothing."""
        bins = 256 if dtype in (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(bool)) else 65536
        return cls(
            dtype=str(dtype),
            histogram=np.zeros((channels, bins), np.int64),
            total=[Fraction(0)] * channels,
            squares=[Fraction(0)] * channels,
            low=[np.inf] * channels,
            high=[-np.inf] * channels,
        )

    @property
    def channels(self) -> int:
        """C."""
        return len(self.histogram)

    @property
    def exact(self) -> bool:
        """Whether the histogram holds each value in a bin of its own."""
        return np.dtype(self.dtype).kind in "iub" and np.dtype(self.dtype).itemsize <= 2

    def add(self, image: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Add the pixels of `image` [H, W, C] where `valid` [H, W] is true (everywhere when None)."""
        for channel in range(self.channels):
            values = image[..., channel]
            values = values.reshape(-1) if valid is None else values[valid]
            if self.exact:
                self.histogram[channel] += self._count(values)
                continue
            if values.dtype.kind == "f":
                finite = np.isfinite(values) if values.dtype.itemsize < 8 else np.abs(values) < LARGEST
                self.non_finite += int(values.size - finite.sum())
                values = values[finite]
            if values.size == 0:
                continue
            self.histogram[channel] += np.bincount(_float_bins(values), minlength=65536)
            wide = values.astype(np.float64)
            self.total[channel] += Fraction(float(wide.sum()))
            self.squares[channel] += Fraction(float((wide * wide).sum()))
            self.low[channel] = min(self.low[channel], float(values.min()))
            self.high[channel] = max(self.high[channel], float(values.max()))

    def _count(self, values: np.ndarray) -> np.ndarray:
        bins = self.histogram.shape[1]
        signed = values.dtype.kind == "i"
        if values.size >= 4096 and not signed and values.dtype != bool:
            import cv2

            # Four times faster than bincount; its float32 counts are exact up to 2**24, so larger images go in parts.
            flat = np.ascontiguousarray(values)
            counts = np.zeros(bins, np.int64)
            for start in range(0, flat.size, 1 << 24):
                part = flat[start : start + (1 << 24)].reshape(1, -1)
                counts += cv2.calcHist([part], [0], None, [bins], [0, bins]).reshape(-1).astype(np.int64)
            return counts
        return np.bincount(values.astype(np.int64) + (bins // 2 if signed else 0), minlength=bins)

    def merge(self, other: ChannelSums) -> ChannelSums:
        """The sums of both; neither is changed."""
        return ChannelSums(
            dtype=self.dtype,
            histogram=self.histogram + other.histogram,
            total=[a + b for a, b in zip(self.total, other.total, strict=True)],
            squares=[a + b for a, b in zip(self.squares, other.squares, strict=True)],
            low=[min(a, b) for a, b in zip(self.low, other.low, strict=True)],
            high=[max(a, b) for a, b in zip(self.high, other.high, strict=True)],
            non_finite=self.non_finite + other.non_finite,
            images=self.images + other.images,
            depths={
                bits: self.depths.get(bits, 0) + other.depths.get(bits, 0) for bits in {*self.depths, *other.depths}
            },
        )

    def pixels(self) -> np.ndarray:
        """int64 [C]: counted pixels of each channel."""
        return self.histogram.sum(1)

    def scale(self) -> float:
        """The stored value that stands for 1: the largest of the stored depth, 1 for floats."""
        dtype = np.dtype(self.dtype)
        if dtype.kind not in "iu":
            return 1.0
        if len(self.depths) > 1:
            found = ", ".join(f"{images} of {bits} bits" for bits, images in sorted(self.depths.items()))
            raise DataError(
                f"DatasetStatistics.scale: the images must have one depth, got {found}, and PairDataset scales each by "
                "its own. Write them at one depth, or count and normalise them apart."
            )
        bits = next(iter(self.depths), dtype.itemsize * 8)
        return float(min(np.iinfo(dtype).max, (1 << bits) - 1))

    def mean(self) -> np.ndarray:
        """float64 [C], in stored units; NaN where there is no pixel."""
        return np.array([self._moments(channel)[0] for channel in range(self.channels)])

    def std(self) -> np.ndarray:
        """float64 [C], of the population (divided by n), in stored units."""
        return np.array([self._moments(channel)[1] for channel in range(self.channels)])

    def minimum(self) -> np.ndarray:
        """float64 [C]."""
        return self._edge(first=True)

    def maximum(self) -> np.ndarray:
        """float64 [C]."""
        return self._edge(first=False)

    def percentile(self, q: float) -> np.ndarray:
        """float64 [C]: as `numpy.percentile` of all pixels for 8 and 16 bit; within 1/256 of it for wider types."""
        result = np.full(self.channels, np.nan)
        values = self.bin_values()
        for channel, counts in enumerate(self.histogram):
            n = int(counts.sum())
            if n == 0:
                continue
            position = q / 100 * (n - 1)
            below = int(np.floor(position))
            cumulative = counts.cumsum()
            lower, upper = values[np.searchsorted(cumulative, [below + 1, min(below + 2, n)])]
            result[channel] = lower + (upper - lower) * (position - below)
            if not self.exact:  # a bin may reach beyond what was seen
                result[channel] = min(max(result[channel], self.low[channel]), self.high[channel])
        return result

    def bin_values(self) -> np.ndarray:
        """float64 [bins]: the value that each bin of the histogram stands for, in increasing order."""
        bins = self.histogram.shape[1]
        if not self.exact:
            return _bin_centres()
        offset = bins // 2 if np.dtype(self.dtype).kind == "i" else 0
        return np.arange(bins, dtype=np.float64) - offset

    def _moments(self, channel: int) -> tuple[float, float]:
        counts = self.histogram[channel]
        n = int(counts.sum())
        if n == 0:
            return float("nan"), float("nan")
        if self.exact:
            used = counts.nonzero()[0]
            values = self.bin_values()[used].astype(np.int64).tolist()
            times = counts[used].tolist()
            total = Fraction(sum(v * t for v, t in zip(values, times, strict=True)))
            squares = Fraction(sum(v * v * t for v, t in zip(values, times, strict=True)))
        else:
            total, squares = self.total[channel], self.squares[channel]
        # Exact until here, so that nothing cancels: variance = E[x^2] - E[x]^2 would lose digits in float64.
        variance = (squares * n - total * total) / (n * n)
        return float(total / n), float(max(variance, Fraction(0))) ** 0.5

    def _edge(self, *, first: bool) -> np.ndarray:
        result = np.full(self.channels, np.nan)
        for channel, counts in enumerate(self.histogram):
            used = counts.nonzero()[0]
            if used.size:
                value = self.bin_values()[used[0 if first else -1]]
                result[channel] = value if self.exact else (self.low if first else self.high)[channel]
        return result


def _float_bins(values: np.ndarray) -> np.ndarray:
    """Number of the bin of each finite value, in increasing order of value: the top 16 bits of its float32 pattern."""
    most = float(np.finfo(np.float32).max)  # a float64 may be larger
    pattern = (np.clip(values, -most, most) if values.dtype.itemsize > 4 else values).astype(np.float32).view(np.uint32)
    negative = pattern >> 31 == 1
    ordered = np.where(negative, ~pattern, pattern | np.uint32(1 << 31))
    return (ordered >> 16).astype(np.int64)


def _bin_centres() -> np.ndarray:
    ordered = (np.arange(65536, dtype=np.uint32) << 16) + np.uint32(1 << 15)
    pattern = np.where(ordered >> 31 == 1, ordered ^ np.uint32(1 << 31), ~ordered)
    with np.errstate(invalid="ignore"):  # the patterns of NaN and infinity are bins that stay empty
        return pattern.view(np.float32).astype(np.float64)
