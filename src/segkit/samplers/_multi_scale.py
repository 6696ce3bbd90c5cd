"""Batches of one size each: the scale changes between batches, never inside one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from segkit.samplers._base import Sampler, brief, whole_number
from segkit.samplers._engine.by_ratio import ByRatio
from segkit.samplers._engine.clock import Place
from segkit.samplers._engine.plan import Plan
from segkit.samplers._engine.reading import Pass
from segkit.samplers._key import SampleKey, Size
from segkit.samplers._ordered import Order, OrderedSampler, checksum, kind_of_key, make_keys
from segkit.samplers._shuffle import ShuffleSampler

LATE = 10**6  # an epoch at which every schedule has reached its end
NAME = "MultiScaleBatchSampler"


class MultiScaleBatchSampler(Sampler[list[SampleKey]]):
    """Batches of keys, all of a batch and of a step (on every rank) with the same size, drawn from a list of scales.

    Give it to `DataLoader(batch_sampler=...)`. The size travels in each key to whichever worker loads the sample.
    Scales come in keyed shuffled rounds: among as many epochs (or blocks of `every` batches) as there are scales, each
    is used once.

    Args:
        sampler_or_n: number of samples, shuffled; the list of those that take part (a fold), shuffled; or a sampler, of
            this room or any other, whose order is batched: see `ShuffleSampler`.
        scales: sizes in pixels, each a side or (height, width), multiples of `multiple_of`: another size is rounded to
            the nearest, with a warning. Or a schedule, epoch -> such a list or one size: with `max_pixels`, patches
            that grow are many at first, at the same budget. See `GrowingScales` and `StepSchedule`.
        batch_size: samples in a batch on each rank.
        max_pixels: instead of, or on top of it: the most pixels in a batch on each rank, so small scales get larger
            batches. It is never exceeded.
        every: "epoch", or after how many batches the scale changes.
        multiple_of: what heights and widths must divide by, as the network's strides ask. 1: whatever was asked for.
        ratios: width / height of each sample of the data set, shape `[N]`. Then a step takes its samples from one group
            of shapes, and its size is the scale's in that shape: as many pixels at most, rounded down to `multiple_of`.
            Memory is O(N).
        ratio_groups: how many groups, with equally many samples each.
        seed: of the scales, and of the order if a number of samples is given. None: the sampler's, or 0.
        rank: None: the sampler's, or 0.
        world_size: None: the sampler's, or 1. Every rank makes the same number of batches.
        tail: None: the sampler's, or "pad". "pad": the ranks' last batches get equally many, the first of the order
            come again for up to `world_size - 1` places; "drop": a last step that is not full is left out; "uneven":
            each sample exactly once, the last step is shared out as evenly as it goes. Only where samples are fewer
            than ranks (or `batch_size` is 1) can a rank's last batch then be empty.

    Example:
        >>> batches = MultiScaleBatchSampler(10, scales=[64, (64, 96)], batch_size=4, every=1)
        >>> [(len(batch), batch[0].size) for batch in batches]
        [(4, (64, 96)), (4, (64, 64)), (2, (64, 96))]
        >>> budget = MultiScaleBatchSampler(100, scales=[32, 64], max_pixels=3 * 64 * 64, every=1)
        >>> {batch[0].size: len(batch) for batch in list(budget)[:2]}
        {(64, 64): 3, (32, 32): 12}

        Wide and tall images, never in one batch:

        >>> shapes = MultiScaleBatchSampler(8, scales=[96], batch_size=2, ratios=[2.0, 0.5] * 4, ratio_groups=2)
        >>> sorted((batch[0].size, [key % 2 for key in batch] == [batch[0] % 2] * 2) for batch in shapes)
        [((64, 128), True), ((64, 128), True), ((128, 64), True), ((128, 64), True)]

    Source: Fischer et al. 2025 (arXiv 2510.23241) for patches that grow.
    """

    sampler: OrderedSampler
    _cached: tuple[tuple[int, int, int], Plan, Order] | None = None
    _first_run = 16
    _longest_run = 256

    def __init__(
        self,
        sampler_or_n: Any,
        *,
        scales: Sequence[int | tuple[int, int]] | Callable[[int], Any],
        batch_size: int | None = None,
        max_pixels: int | None = None,
        every: int | str = "epoch",
        multiple_of: int = 32,
        ratios: Sequence[float] | np.ndarray | None = None,
        ratio_groups: int = 8,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        tail: str | None = None,
    ) -> None:
        if isinstance(sampler_or_n, OrderedSampler):
            # It is asked for the whole order only; which rank gets what is decided here.
            self.sampler = sampler_or_n
        else:
            try:
                self.sampler = ShuffleSampler(sampler_or_n, seed=0 if seed is None else seed)
            except TypeError as error:
                raise TypeError(f"{NAME}: `sampler_or_n`: {error}") from None
        super().__init__(
            seed=self.sampler.seed if seed is None else seed,
            rank=self.sampler.rank if rank is None else rank,
            world_size=self.sampler.world_size if world_size is None else world_size,
            tail=self.sampler.tail if tail is None else tail,
        )
        self.multiple_of = whole_number(NAME, "multiple_of", multiple_of, 1)
        if batch_size is None and max_pixels is None:
            raise ValueError(f"{NAME}: `batch_size` or `max_pixels` must be given, got neither.")
        self.batch_size = None if batch_size is None else whole_number(NAME, "batch_size", batch_size, 1)
        self.max_pixels = None if max_pixels is None else whole_number(NAME, "max_pixels", max_pixels, 1)
        self.every = every if every == "epoch" else whole_number(NAME, "every", every, 1)
        self._schedule = scales if callable(scales) else None
        self.scales = self._sizes(scales(0) if callable(scales) else scales)
        if callable(scales):
            self._sizes(scales(LATE))
        self.ratio_groups = whole_number(NAME, "ratio_groups", ratio_groups, 1)
        self.ratios = None if ratios is None else self._as_ratios(ratios)
        self.sampler._listen(self)

    def __repr__(self) -> str:
        fields = ("batch_size", "max_pixels", "every", "multiple_of", "seed", "rank", "world_size", "tail")
        shapes = "" if self.ratios is None else f", ratios=<{len(self.ratios)}>, ratio_groups={self.ratio_groups}"
        given = f"scales={self._schedule or self.scales!r}, {', '.join(f'{f}={getattr(self, f)!r}' for f in fields)}"
        return f"{NAME}({self.sampler!r}, {given}{shapes})"

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.sampler._listen(self)

    def _sizes(self, scales: Any) -> list[Size]:
        """Scales as (height, width), each a multiple, none too large for the budget."""
        given = [scales] if hasattr(scales, "__index__") or _is_size(scales) else list(scales)
        sizes = [_size(scale, self.multiple_of) for scale in given]
        if not sizes:
            raise ValueError(f"{NAME}: `scales` must hold at least one size, got none.")
        largest = max(height * width for height, width in sizes)
        if self.max_pixels is not None and self.max_pixels < largest:
            raise ValueError(
                f"{NAME}: `max_pixels` must hold one sample of the largest scale, {largest} pixels, "
                f"got {self.max_pixels}. Raise it or leave out that scale."
            )
        return sizes

    def _scales_of(self, epoch: int) -> list[Size]:
        return self.scales if self._schedule is None else self._sizes(self._schedule(epoch))

    def _as_ratios(self, ratios: Any) -> np.ndarray:
        array = np.asarray(ratios, dtype=np.float64)
        if array.ndim != 1 or not (np.isfinite(array) & (array > 0)).all():
            raise ValueError(
                f"{NAME}: `ratios` must be width / height of each sample, shape [N], finite and above 0, got shape "
                f"{array.shape} with values from {array.min(initial=np.inf):g} to {array.max(initial=-np.inf):g}."
            )
        return array

    def _identity(self) -> dict[str, Any]:
        fields = ("batch_size", "max_pixels", "every", "seed", "tail")
        shapes = {} if self.ratios is None else {"ratios": checksum(self.ratios), "ratio_groups": self.ratio_groups}
        scales = {"scales": brief([list(scale) for scale in self.scales])}
        return {"order": self.sampler._identity()} | scales | shapes | {f: getattr(self, f) for f in fields}

    def _by_ranks(self) -> tuple[str, ...]:
        return ("world_size", "batch_size", "max_pixels")

    def _on_other_ranks(self, state: dict[str, Any]) -> Place:
        place = Place(state["epoch"], state["consumed"], state.get("origin", 0))
        sizes, world = self._scales_of(place.epoch), state["world_size"]
        before = [_fitting(size, state["batch_size"], state["max_pixels"]) for size in sizes]
        now = [self._batch(size) for size in sizes]
        left = self.sampler._total(place.epoch) - place.origin
        plan = self._make_plan(place.epoch, left, sizes, before, world)
        done = left if place.consumed >= plan.steps else plan.before(place.consumed)
        if [each * world for each in before] == [each * self.world_size for each in now]:
            same = self._make_plan(place.epoch, left, sizes, now, self.world_size)
            if place.consumed < same.steps and same.before(place.consumed) == done:
                return place  # the same batches over all ranks: the same steps
        return Place(place.epoch, 0, place.origin + done)

    def _stop(self, epoch: int, origin: int) -> int:
        return self._plan(epoch, origin)[0].steps

    def _plan(self, epoch: int, origin: int) -> tuple[Plan, Order]:
        """The steps of an epoch, and the order that they take their samples from."""
        total = self.sampler._total(epoch)
        asked = epoch, origin, total
        if self._cached is None or self._cached[0] != asked:
            sizes = self._scales_of(epoch)
            batches = [self._batch(size) for size in sizes]
            plan = self._make_plan(epoch, max(total - origin, 0), sizes, batches, self.world_size)
            self._cached = asked, plan, self._arranged(epoch, sizes)
        return self._cached[1:]

    def _arranged(self, epoch: int, sizes: list[Size]) -> Order:
        """The order of an epoch, by shape if that was asked for."""
        order = self.sampler._order(epoch)
        if self.ratios is None:
            return order
        if order.total and (most := int(order.take(np.arange(order.total))[0].max())) >= len(self.ratios):
            raise ValueError(
                f"{NAME}: `ratios` must have one number for each sample of the data set, got {len(self.ratios)} and "
                f"sample {most}."
            )
        # The steps of the whole epoch, wherever it is begun: the order must not depend on the place.
        plan = self._make_plan(epoch, order.total, sizes, [self._batch(size) for size in sizes], self.world_size)
        ends = [plan.before(step) for step in range(plan.steps)] + [order.total]
        edges = np.quantile(self.ratios, np.arange(1, self.ratio_groups) / self.ratio_groups)
        return ByRatio(order, self.ratios, np.unique(edges), np.diff(ends).tolist(), self.seed, epoch)

    def _make_plan(self, epoch: int, total: int, sizes: list[Size], batches: list[int], world_size: int) -> Plan:
        every = None if isinstance(self.every, str) else self.every
        return Plan(
            total, sizes, batches, every=every, seed=self.seed, epoch=epoch, world_size=world_size, tail=self.tail
        )

    def _batch(self, size: Size) -> int:
        """Samples in a batch of this size."""
        return _fitting(size, self.batch_size, self.max_pixels)

    def _forget(self) -> None:
        self.sampler._forget()
        self._cached = None

    def _settings(self) -> str:
        sizes = ", ".join(f"{h} x {w} in batches of {self._batch((h, w))}" for h, w in self._scales_of(self.epoch))
        changes = "each epoch" if self.every == "epoch" else f"every {self.every} steps"
        shapes = "" if self.ratios is None else f" {self.ratio_groups} groups of shapes, one in a step."
        return f"{sizes}; another scale {changes}.{shapes} Order: {self.sampler._settings()}"

    def _idle(self) -> list[str]:
        idle = self.sampler._idle() if not isinstance(self.sampler, ShuffleSampler) else []
        if len(set(self.scales)) == 1 and self._schedule is None:
            idle.append(f"every={self.every!r}: all scales are the same")
        if self.batch_size is not None and self.max_pixels is not None and self._schedule is None:
            largest = max(height * width for height, width in self.scales)
            if self.batch_size * largest <= self.max_pixels:
                idle.append(f"max_pixels={self.max_pixels}: batches of {self.batch_size} stay below it at every scale")
        return idle

    def _evidence(self, epoch: int) -> dict[str, Any]:
        scales = {} if self._schedule is None else {"scales_now": brief([list(s) for s in self._scales_of(epoch)])}
        return self.sampler._evidence(epoch) | scales

    @property
    def _remedy(self) -> str:  # type: ignore[override]
        return self.sampler._remedy

    def _run(
        self, reading: Pass[list[SampleKey]], start: int, stop: int
    ) -> tuple[Iterator[Any], Iterator[list[SampleKey]]]:
        plan, order = self._plan(reading.epoch, reading.origin)

        def batch(step: int) -> list[SampleKey]:
            first, last = plan.share(step, self.rank)
            positions = np.arange(first, last, dtype=np.int64) + reading.origin
            positions %= order.total
            size = plan.size(step)
            if isinstance(order, ByRatio):
                begin, end = plan.share(step, 0)[0], plan.share(step, self.world_size - 1)[1]
                size = _shaped(size, order.ratio(begin + reading.origin, end + reading.origin), self.multiple_of)
            return make_keys(kind_of_key(reading, size, self.seed), order, positions)

        left = iter(range(start, stop))
        return left, map(batch, left)


def _fitting(size: Size, batch_size: int | None, max_pixels: int | None) -> int:
    """Samples of a size in a batch."""
    fits = max_pixels // (size[0] * size[1]) if max_pixels is not None else batch_size or 1
    return min(fits, batch_size or fits)


def _is_size(scale: Any) -> bool:
    return isinstance(scale, tuple) and len(scale) == 2 and all(hasattr(side, "__index__") for side in scale)


def _size(scale: Any, multiple_of: int) -> Size:
    """A scale as (height, width), each rounded to the nearest multiple."""
    sides = (scale, scale) if hasattr(scale, "__index__") else tuple(scale) if isinstance(scale, Sequence) else ()
    if len(sides) != 2:
        raise TypeError(f"{NAME}: `scales` must each be a side or (height, width) in pixels, got {scale!r}.")
    height, width = (whole_number(NAME, "scales", side, 1) for side in sides)
    size = _nearest(height, multiple_of), _nearest(width, multiple_of)
    if size != (height, width):
        warnings.warn(
            f"{NAME}: `scales` must be multiples of multiple_of={multiple_of}, got {scale}; it becomes {size[0]} x "
            f"{size[1]}. Give that size, or multiple_of=1 for the size as it is.",
            stacklevel=4,
        )
    return size


def _nearest(side: int, multiple_of: int) -> int:
    return max(multiple_of, (side + multiple_of // 2) // multiple_of * multiple_of)


def _shaped(size: Size, ratio: float, multiple_of: int) -> Size:
    """The size of a shape (width / height) with at most as many pixels."""
    area = size[0] * size[1]
    low, high = multiple_of**2 / area, area / multiple_of**2  # so that neither side falls below one multiple
    side = (area / min(max(ratio, low), high)) ** 0.5
    height = max(int(side + 1e-6) // multiple_of * multiple_of, multiple_of)
    width = max(int(area / side + 1e-6) // multiple_of * multiple_of, multiple_of)
    return height, width
