"""The numbers of a data set as sums that merge: any split of the files, in any order, gives the same result."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from segkit import IGNORE_INDEX
from segkit._tasks import map_in_chunks
from segkit.errors import DataError
from segkit.stats._reading import Files, MaskRules, open_pair
from segkit.stats._sums import ChannelSums

_PERCENTILES = (0.1, 1, 5, 25, 50, 75, 95, 99, 99.9)
_MOST_LABELS = 65536  # larger labels are no classes; they are counted apart


@dataclass
class DatasetStatistics:
    """Per-channel and per-class sums of a set of images and masks.

    Made by `dataset_statistics`; statistics of parts are put together by `merge`, exactly and in any order. The
    per-channel numbers are those of the commonest kind of image (dtype and channel count); `kinds` has all.

    Args:
        kinds: (dtype, channels) -> sums.
        sizes: (height, width) -> images.
        labels: label -> [pixels, masks with it]; ignored pixels are not among them.
        num_classes: C, or None to take the largest label + 1.
        ignored_pixels: mask pixels with the ignore index.
        masks: masks that were counted.
        skipped: (path, reason) of each file that could not be counted.

    Example:
        >>> one, two = DatasetStatistics(), DatasetStatistics()
        >>> one.add(np.zeros((2, 2, 1), np.uint8), np.array([[0, 0], [1, 255]]))
        >>> two.add(np.full((2, 2, 1), 8, np.uint8), np.array([[1, 1], [1, 1]]))
        >>> both = one.merge(two)
        >>> both.class_pixels.tolist(), both.class_images.tolist(), both.ignored_pixels
        ([2, 5], [1, 2], 1)
        >>> both.mean.round(3).tolist()
        [4.571]
    """

    kinds: dict[tuple[str, int], ChannelSums] = field(default_factory=dict)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    labels: dict[int, list[int]] = field(default_factory=dict)
    num_classes: int | None = None
    ignored_pixels: int = 0
    masks: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(
        self, image: np.ndarray, mask: np.ndarray | None = None, *, ignore_index: int | None = IGNORE_INDEX
    ) -> None:
        """Add one image [H, W, C] and its mask [H, W], if it has one. Ignored pixels count in neither.

        Raises:
            DataError: the mask has another height or width than the image.
        """
        self._add([(image, mask, None)], image.shape[:2], MaskRules(ignore_index), image.dtype.itemsize * 8)

    def _add(
        self,
        bands: Iterable[tuple[np.ndarray, np.ndarray | None, np.ndarray | None]],
        size: tuple[int, ...],
        rules: MaskRules,
        bits: int,
    ) -> None:
        """Add one image, in bands of pixels, labels, and where there are data; it counts once, and each label once."""
        seen: set[int] = set()
        for image, mask, valid in bands:
            if mask is not None:
                if mask.shape != image.shape[:2]:
                    raise DataError(
                        f"DatasetStatistics.add: the mask must have the image's height and width, {image.shape[:2]}, "
                        f"got {mask.shape}. Run segkit audit to find all such pairs."
                    )
                valid = self._add_labels(mask, valid, rules, seen)
            kind = (str(image.dtype), image.shape[2])
            sums = self.kinds.setdefault(kind, ChannelSums.empty(image.dtype, image.shape[2]))
            sums.add(image, valid)
        sums.images += 1
        sums.depths[bits] = sums.depths.get(bits, 0) + 1
        self.masks += mask is not None
        self.sizes[size[0], size[1]] = self.sizes.get((size[0], size[1]), 0) + 1
        for label in seen:
            self.labels[label][1] += 1

    def _add_labels(
        self, mask: np.ndarray, valid: np.ndarray | None, rules: MaskRules, seen: set[int]
    ) -> np.ndarray | None:
        """Count the labels where there are data and note them in `seen`; where pixels count, or None for everywhere."""
        counted = mask if valid is None else mask[valid]
        if mask.dtype == np.uint8 and counted.size:
            import cv2

            flat = np.ascontiguousarray(counted).reshape(-1, 1)
            counts = cv2.calcHist([flat], [0], None, [256], [0, 256]).reshape(-1)
            present = counts.nonzero()[0]
            pixels = counts[present].astype(np.int64) if flat.size <= 1 << 24 else np.bincount(flat.ravel())[present]
        else:
            present, pixels = np.unique(counted, return_counts=True)
        classes = rules.renumbered(present.tolist())
        ignored = [old for old, new in zip(present.tolist(), classes, strict=True) if new == rules.ignore_index]
        for label, count in zip(classes, pixels.tolist(), strict=True):
            if label == rules.ignore_index:
                self.ignored_pixels += count
                continue
            self.labels.setdefault(label, [0, 0])[0] += count
            seen.add(label)
        if not ignored:
            return valid
        kept = mask != ignored[0] if len(ignored) == 1 else ~np.isin(mask, ignored)
        return kept if valid is None else kept & valid

    def merge(self, other: DatasetStatistics) -> DatasetStatistics:
        """The statistics of both sets together; neither is changed."""
        kinds = dict(self.kinds)
        for kind, sums in other.kinds.items():
            kinds[kind] = kinds[kind].merge(sums) if kind in kinds else sums
        sizes = dict(self.sizes)
        for size, count in other.sizes.items():
            sizes[size] = sizes.get(size, 0) + count
        labels = {label: list(entry) for label, entry in self.labels.items()}
        for label, (pixels, images) in other.labels.items():
            entry = labels.setdefault(label, [0, 0])
            entry[0] += pixels
            entry[1] += images
        known = [n for n in (self.num_classes, other.num_classes) if n is not None]
        return DatasetStatistics(
            kinds=kinds,
            sizes=sizes,
            labels=labels,
            num_classes=max(known) if known else None,
            ignored_pixels=self.ignored_pixels + other.ignored_pixels,
            masks=self.masks + other.masks,
            skipped=sorted(self.skipped + other.skipped),
        )

    @property
    def images(self) -> int:
        """Images that were counted."""
        return sum(self.sizes.values())

    @property
    def kind(self) -> tuple[str, int] | None:
        """(dtype, channels) of most images; None when there are none."""
        return max(sorted(self.kinds), key=lambda kind: self.kinds[kind].images, default=None)

    @property
    def channels(self) -> ChannelSums:
        """The sums of the commonest kind of image.

        Raises:
            DataError: no image was counted.
        """
        if self.kind is None:
            reasons = "; ".join(f"{path}: {reason}" for path, reason in self.skipped[:3])
            raise DataError(f"DatasetStatistics: at least one image must be readable, got none. {reasons}")
        return self.kinds[self.kind]

    @property
    def scale(self) -> float:
        """The stored value that `PairDataset` makes 1: `Normalize.from_statistics` divides by it. 1 for floats.

        Raises:
            DataError: the images have several depths, so that no one number is right.
        """
        return self.channels.scale()

    @property
    def mean(self) -> np.ndarray:
        """float64 [C]: mean of each channel over all pixels that are not ignored, in stored units."""
        return self.channels.mean()

    @property
    def std(self) -> np.ndarray:
        """float64 [C]: standard deviation (divided by n) of each channel, in stored units."""
        return self.channels.std()

    @property
    def min(self) -> np.ndarray:
        """float64 [C]: smallest value of each channel."""
        return self.channels.minimum()

    @property
    def max(self) -> np.ndarray:
        """float64 [C]: largest value of each channel."""
        return self.channels.maximum()

    @property
    def percentiles(self) -> dict[float, np.ndarray]:
        """Percentile -> float64 [C], for 0.1, 1, 5, 25, 50, 75, 95, 99 and 99.9."""
        return {q: self.channels.percentile(q) for q in _PERCENTILES}

    def percentile(self, q: float) -> np.ndarray:
        """float64 [C]: what q percent of each channel lie below; exact for 8 and 16 bit, else within 1/256."""
        return self.channels.percentile(q)

    @property
    def class_pixels(self) -> np.ndarray:
        """int64 [C]: pixels of each class, ignored ones left out."""
        return self._per_class(0)

    @property
    def class_images(self) -> np.ndarray:
        """int64 [C]: masks that hold each class."""
        return self._per_class(1)

    @property
    def unexpected_labels(self) -> dict[int, int]:
        """Label -> pixels, for the labels outside [0, num_classes)."""
        limit = self._limit()
        return {label: self.labels[label][0] for label in sorted(self.labels) if not 0 <= label < limit}

    def _limit(self) -> int:
        if self.num_classes is not None:
            return self.num_classes
        return max((label for label in self.labels if 0 <= label < _MOST_LABELS), default=-1) + 1

    def _per_class(self, place: int) -> np.ndarray:
        result = np.zeros(self._limit(), np.int64)
        for label, entry in self.labels.items():
            if 0 <= label < result.size:
                result[label] = entry[place]
        return result

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything as JSON text, in a fixed order; also written to `path` if one is given. NaN becomes null."""
        kinds = []
        for (dtype, channels), sums in sorted(self.kinds.items()):
            kinds.append(
                {
                    "dtype": dtype,
                    "channels": channels,
                    "bits": {str(bits): images for bits, images in sorted(sums.depths.items())},
                    "images": sums.images,
                    "pixels": sums.pixels().tolist(),
                    "mean": _numbers(sums.mean()),
                    "std": _numbers(sums.std()),
                    "min": _numbers(sums.minimum()),
                    "max": _numbers(sums.maximum()),
                    "percentiles": {f"{q:g}": _numbers(sums.percentile(q)) for q in _PERCENTILES},
                    "non_finite": sums.non_finite,
                }
            )
        content: dict[str, Any] = {
            "images": self.images,
            "masks": self.masks,
            "kinds": kinds,
            "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in sorted(self.sizes.items())],
            "class_pixels": self.class_pixels.tolist(),
            "class_images": self.class_images.tolist(),
            "ignored_pixels": self.ignored_pixels,
            "unexpected_labels": {str(label): pixels for label, pixels in self.unexpected_labels.items()},
            "skipped": [{"path": path, "reason": reason} for path, reason in sorted(self.skipped)],
        }
        text = json.dumps(content, indent=1) + "\n"
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return text


def dataset_statistics(
    pairs: Sequence[Any],
    *,
    num_classes: int | None = None,
    ignore_index: int | None = IGNORE_INDEX,
    colors: Mapping[tuple[int, int, int], int] | None = None,
    unknown: Literal["error"] | int = "error",
    remap: Mapping[int, int] | None = None,
    unmapped: Literal["error", "keep"] | int = "error",
    pages: Literal["first", "channels", "samples"] | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> DatasetStatistics:
    """Mean, spread and percentiles of each channel, pixels and images of each class, and the sizes, in one pass.

    Every file is read once, in worker processes; only sums come back. Files that cannot be read are named in
    `skipped`. Pixels that the mask ignores count nowhere, not in the image's channels either, nor do those that the
    image declares to be no data.

    Args:
        pairs: items of type `Pair`, also with several files for the bands of an image or the objects of a mask; or
            paths of images alone.
        num_classes: C; None takes the largest label + 1.
        ignore_index: the label of ignored pixels; None when there is none.
        colors: (r, g, b) -> class, for colour-coded masks.
        unknown: the class of any other colour, or "error" to leave such files out.
        remap: old class -> new class, for every mask, as in `PairDataset`; the numbers are those of the new classes.
        unmapped: the class of what `remap` does not name: "error", "keep", or a class.
        pages: what the pages of a file are, as in `PairDataset`; None names files of several pages in `skipped`.
        executor: where to run, any `concurrent.futures.Executor`; a pool of processes when None.
        progress: show a bar, if standard error is a terminal.

    Returns:
        The statistics. The same for any executor and any number of workers.

    Raises:
        DataError: there are no pairs.

    Example:
        >>> from segkit.io import write_image
        >>> write_image("a.png", np.arange(6, dtype=np.uint8).reshape(2, 3, 1))
        >>> statistics = dataset_statistics(["a.png"], progress=False)
        >>> statistics.mean, statistics.sizes
        (array([2.5]), {(2, 3): 1})
    """
    if len(pairs) == 0:
        raise DataError("dataset_statistics: `pairs` must hold at least one pair, got none. See datasets.find_pairs.")
    if pages not in (None, "first", "channels", "samples"):
        raise ValueError(
            f"dataset_statistics: `pages` must be 'first', 'channels', 'samples' or None, got {pages!r}. Choose one."
        )
    rules = MaskRules(ignore_index, colors, unknown, remap, unmapped, pages)
    result = DatasetStatistics(num_classes=num_classes)
    parts = map_in_chunks(
        partial(_chunk, rules=rules),
        [_paths(pair) for pair in pairs],
        on_lost=lambda item, reason: DatasetStatistics(skipped=[(item[0][0], reason)]),
        executor=executor,
        progress=progress,
        describe="statistics",
    )
    for part in parts:
        result = result.merge(part)
    if ignore_index == IGNORE_INDEX and remap is None and set(result.labels) == {0} and result.ignored_pixels:
        warnings.warn(
            f"dataset_statistics: the masks hold 0 and 255 only, and 255 is ignored: {result.ignored_pixels} pixels "
            "count in no class and no channel. If 255 is the foreground, pass remap={0: 0, 255: 1}; if it is not, pass "
            "remap={0: 0, 255: 255}, and this warning does not come again.",
            stacklevel=2,
        )
    return result


def _paths(pair: Any) -> tuple[Files, Files | None]:
    """The files of an image and of its mask: one path, a pair of paths, or a pair of several for bands and objects."""
    if isinstance(pair, str | os.PathLike):
        return (os.fspath(pair),), None
    image, mask = ((each,) if isinstance(each, str | os.PathLike) else each for each in pair)
    return tuple(map(os.fspath, image)), None if mask is None else tuple(map(os.fspath, mask))


def _chunk(pairs: Iterable[tuple[Files, Files | None]], *, rules: MaskRules) -> DatasetStatistics:
    part = DatasetStatistics()
    for image, mask in pairs:
        path = image[0]

        def at(file: str) -> None:
            nonlocal path
            path = file

        try:
            with ExitStack() as opened:
                for pair in open_pair(opened, image, mask, rules, at):
                    # What fails half way must leave nothing behind.
                    sums = part if pair.whole else DatasetStatistics()
                    sums._add(pair.bands, pair.size, rules, pair.bits)
                    if sums is not part:
                        part.__dict__.update(part.merge(sums).__dict__)
        except (OSError, ValueError, MemoryError) as error:
            part.skipped.append((path, getattr(error, "reason", "") or str(error) or type(error).__name__))
    return part


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
