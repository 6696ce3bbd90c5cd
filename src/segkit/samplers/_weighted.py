"""Samplers that show rare classes more often, with counts that are as even as whole numbers allow."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from segkit.samplers._base import whole_number
from segkit.samplers._engine.comb import Comb
from segkit.samplers._engine.permutation import KeyedPermutation
from segkit.samplers._ordered import Order, OrderedSampler

MEMBERS = 3  # a stream of randomness, beside the order's own


class ClassBalancedSampler(OrderedSampler):
    """Every class equally often: a draw is of a class, then of a sample that holds it, and a crop can focus on it.

    Of an epoch's draws each class gets equally many (they differ by at most one), and within a class each of its
    samples comes equally often (again by at most one). Where `frequencies` says which classes a mask holds, the key's
    `focus_class` is the class drawn, so that `RandomCrop` can put it into the crop.

    Args:
        frequencies: which classes are in which sample: shape `[N, C]`, pixels (or shares, or bool) of each class in
            each sample, not negative; or shape `[N]`, whole numbers, one class per sample (no focus class then).
        num_samples: draws per epoch, over all ranks. None: N.
        seed: whole number, [0, 2**64).
        rank: this process's number.
        world_size: number of processes.
        tail: as in `ShuffleSampler`, for the draws.
        indices: the samples that take part, a fold; `frequencies` has those of the whole data set. None: all.

    Example:
        Nine samples of class 0 for each one of class 1:

        >>> sampler = ClassBalancedSampler([0] * 90 + [1] * 10, num_samples=100)
        >>> drawn = list(sampler)
        >>> sum(key >= 90 for key in drawn), max(drawn.count(i) for i in range(90))
        (50, 1)

    Source: Shen et al. 2016 (class-aware sampling). There classes and samples come from shuffled lists; here both are
    computed, and the counts of an epoch are exact.
    """

    def __init__(
        self,
        frequencies: Any,
        *,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: str = "pad",
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        super().__init__(seed=seed, rank=rank, world_size=world_size, tail=tail, indices=indices)
        present, self.labelled = _presence("ClassBalancedSampler", frequencies, self.indices)
        samples, classes = np.nonzero(present)
        by_class = np.argsort(classes, kind="stable")
        self._members = samples[by_class]  # the samples of class 0, then of class 1, ...
        self.n, self.num_classes = present.shape
        counts = np.bincount(classes, minlength=self.num_classes)
        self.classes = np.flatnonzero(counts)  # a class that no sample holds cannot be drawn
        self._counts = counts[self.classes]
        self._starts = np.cumsum(self._counts) - self._counts
        total = self.n if num_samples is None else whole_number("ClassBalancedSampler", "num_samples", num_samples, 0)
        self.num_samples = total if len(self.classes) else 0
        self._digest = zlib.crc32(np.packbits(present).tobytes())

    def __repr__(self) -> str:
        where = f"rank={self.rank}, world_size={self.world_size}, tail={self.tail!r}"
        shape = f"<{self.n} samples, {self.num_classes} classes>"
        return f"ClassBalancedSampler({shape}, num_samples={self.num_samples}, seed={self.seed}, {where})"

    def _total(self, epoch: int) -> int:
        return self.num_samples

    def order(self, epoch: int) -> Order:
        """Draws of a class, then of a sample that holds it."""
        return _Balanced(self, epoch)

    def identity(self) -> dict[str, Any]:
        return {"n": self.n, "frequencies": self._digest, "num_samples": self.num_samples}

    def _settings(self) -> str:
        each = self.num_samples / max(len(self.classes), 1)
        sizes = ", ".join(f"class {c}: {n}" for c, n in zip(self.classes[:20], self._counts[:20], strict=True))
        return f"{each:.1f} draws of each class per epoch; samples that hold it: {sizes}"

    def _idle(self) -> list[str]:
        if len(self.classes) <= 1:
            return [f"balancing: {len(self.classes)} class is in the samples"]
        if len(set(self._counts.tolist())) == 1 and self.num_samples == self.n == self._counts.sum():
            return ["balancing: all classes are equally frequent already"]
        return []


class _Balanced:
    """The order of a `ClassBalancedSampler`: draw -> class and turn -> sample."""

    once = False

    def __init__(self, sampler: ClassBalancedSampler, epoch: int) -> None:
        self.total = sampler.num_samples
        self._sampler = sampler
        self._draws = KeyedPermutation(self.total, sampler.seed, epoch)
        # Which classes get the one draw more, and which of its samples a class begins with, changes with the epoch.
        classes = KeyedPermutation(len(sampler.classes), sampler.seed, epoch, MEMBERS)
        self._turn = classes(np.arange(len(sampler.classes)))
        self._within = [
            KeyedPermutation(int(count), sampler.seed, epoch, MEMBERS, 1 + number)
            for number, count in enumerate(sampler._counts)
        ]

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        sampler = self._sampler
        turn, slot = np.divmod(self._draws(positions), max(len(sampler.classes), 1))
        slots = self._turn[slot]
        indices = np.empty(len(positions), dtype=np.int64)
        for number in np.unique(slots):
            drawn = slots == number
            place = self._within[number](turn[drawn] % sampler._counts[number])
            indices[drawn] = sampler._members[sampler._starts[number] + place]
        return indices, None if sampler.labelled else sampler.classes[slots]


class RepeatFactorSampler(OrderedSampler):
    """Every sample at least about once, and those with rare classes again: by the square root of how rare they are.

    A class in a share f of the samples has the factor `max(1, sqrt(threshold / f))`, a sample the largest factor of
    its classes. A sample comes as often as its factor says, rounded down or up, and right on average over the epochs;
    the length of an epoch is always the sum of the factors, rounded.

    Args:
        frequencies: as in `ClassBalancedSampler`; what counts is in how many samples a class is.
        threshold: classes in a smaller share of the samples than this are repeated, (0, 1].
        seed: whole number, [0, 2**64).
        rank: this process's number.
        world_size: number of processes.
        tail: as in `ShuffleSampler`, for the draws.
        indices: the samples that take part, a fold; `frequencies` has those of the whole data set. None: all.

    Example:
        >>> labels = [0] * 96 + [1] * 4
        >>> sampler = RepeatFactorSampler(labels, threshold=0.25)
        >>> sampler.factors[[0, 99]], len(sampler)  # sqrt(0.25 / 0.04) = 2.5; 96 + 4 * 2.5
        (array([1. , 2.5]), 106)

    Source: Gupta et al. 2019 (LVIS). There each sample's fraction is rounded by its own coin, so the length of an epoch
    varies and ranks disagree; here one comb is laid over all factors, so the length is constant.
    """

    def __init__(
        self,
        frequencies: Any,
        *,
        threshold: float = 0.1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: str = "pad",
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        super().__init__(seed=seed, rank=rank, world_size=world_size, tail=tail, indices=indices)
        if not 0 < threshold <= 1:
            raise ValueError(f"RepeatFactorSampler: `threshold` must lie in (0, 1], got {threshold}.")
        present, _ = _presence("RepeatFactorSampler", frequencies, self.indices)
        self.n, self.num_classes, self.threshold = len(present), present.shape[1], float(threshold)
        share = present.sum(0) / max(self.n, 1)
        self.class_factors = np.sqrt(np.maximum(threshold / np.maximum(share, 1 / max(self.n, 1)), 1))
        self.factors = np.where(present, self.class_factors, 1.0).max(1, initial=1.0)
        self.num_samples = round(float(self.factors.sum()))
        self._digest = zlib.crc32(np.packbits(present).tobytes())

    def __repr__(self) -> str:
        where = f"rank={self.rank}, world_size={self.world_size}, tail={self.tail!r}"
        shape = f"<{self.n} samples, {self.num_classes} classes>"
        return f"RepeatFactorSampler({shape}, threshold={self.threshold}, seed={self.seed}, {where})"

    def _total(self, epoch: int) -> int:
        return self.num_samples

    def order(self, epoch: int) -> Order:
        """Each sample as often as its factor says, rounded down or up."""
        return Comb(self.factors, self.num_samples, self.seed, epoch)

    def identity(self) -> dict[str, Any]:
        return {"n": self.n, "frequencies": self._digest, "threshold": self.threshold}

    def _settings(self) -> str:
        rare = np.flatnonzero(self.class_factors > 1)
        factors = ", ".join(f"class {c}: {self.class_factors[c]:.2f}" for c in rare[:20]) or "none"
        return f"{self.n} samples, {self.num_samples} draws per epoch; repeat factors above 1: {factors}"

    def _idle(self) -> list[str]:
        if (self.factors == 1).all():
            return [f"threshold={self.threshold}: no class is in a smaller share of the samples, every factor is 1"]
        return []


def _presence(function: str, frequencies: Any, fold: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Which sample (of a fold) holds which class, bool `[N, C]`; and whether each has one label instead of a mask."""
    array = np.asarray(frequencies)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{function}: `frequencies` must be numbers, got {array.dtype}.")
    if array.ndim == 1 and (array.dtype.kind in "iu" or not array.size):
        labels = array.astype(np.int64)
        if labels.size and labels.min() < 0:
            raise ValueError(f"{function}: `frequencies` as labels must be at least 0, got {labels.min()}.")
        present = labels[:, None] == np.arange(labels.max(initial=-1) + 1)
        return present if fold is None else present[_within(function, fold, len(labels))], True
    if array.ndim != 2:
        raise ValueError(
            f"{function}: `frequencies` must have shape [N, C], or [N] with one whole number per sample, "
            f"got shape {array.shape} of {array.dtype}."
            + (" A weight for each sample goes to WeightedSampler." if array.ndim == 1 else "")
        )
    wrong = ~(array >= 0) if array.dtype.kind == "f" else array < 0
    if wrong.any():
        sample, label = np.argwhere(wrong)[0]
        raise ValueError(
            f"{function}: `frequencies` must not be negative or NaN, got {array[sample, label]} for class {label} of "
            f"sample {sample} (counting from 0)."
        )
    return (array if fold is None else array[_within(function, fold, len(array))]) > 0, False


def _within(function: str, fold: np.ndarray, n: int) -> np.ndarray:
    if fold.size and fold.max() >= n:
        raise ValueError(
            f"{function}: `indices` must be below the {n} rows of `frequencies`, got {fold.max()}. "
            "Give the frequencies of the whole data set."
        )
    return fold
