"""Batches of one size each: the scale changes between batches, never inside one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from segkit.samplers._base import Pass, Sampler, brief, whole_number
from segkit.samplers._key import SampleKey, Size
from segkit.samplers._order import OrderedSampler, make_keys
from segkit.samplers._plan import Plan
from segkit.samplers._shuffle import ShuffleSampler


class MultiScaleBatchSampler(Sampler[list[SampleKey]]):
    """Batches of keys, all of a batch and of a step (on every rank) with the same size, drawn from a list of scales.

    Give it to `DataLoader(batch_sampler=...)`. The size travels in each key to whichever worker loads the sample.
    Scales come in keyed shuffled rounds: among as many epochs (or blocks of `every` batches) as there are scales, each
    is used once.

    Args:
        sampler_or_n: number of samples, shuffled; or a sampler of this room, whose order is batched.
        scales: sizes in pixels, each a side or (height, width); rounded to the nearest `multiple_of`, at least one.
        batch_size: samples in a batch on each rank.
        max_pixels: instead of, or on top of it: the most pixels in a batch on each rank, so small scales get larger
            batches. It is never exceeded.
        every: "epoch", or after how many batches the scale changes.
        multiple_of: what heights and widths must divide by, as the network's strides ask.
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
    """

    sampler: OrderedSampler
    _cached: tuple[int, int, Plan] | None = None
    _first_run = 16
    _longest_run = 256

    def __init__(
        self,
        sampler_or_n: int | OrderedSampler,
        *,
        scales: Sequence[int | tuple[int, int]],
        batch_size: int | None = None,
        max_pixels: int | None = None,
        every: int | str = "epoch",
        multiple_of: int = 32,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        tail: str | None = None,
    ) -> None:
        name = "MultiScaleBatchSampler"
        if isinstance(sampler_or_n, OrderedSampler):
            # It is asked for the whole order only; which rank gets what is decided here.
            self.sampler = sampler_or_n
        elif hasattr(sampler_or_n, "__index__"):
            self.sampler = ShuffleSampler(sampler_or_n, seed=0 if seed is None else seed)
        else:
            raise TypeError(
                f"{name}: `sampler_or_n` must be a number of samples or a sampler of segkit.samplers, "
                f"got {type(sampler_or_n).__name__}. Pass len(data_set)."
            )
        super().__init__(
            seed=self.sampler.seed if seed is None else seed,
            rank=self.sampler.rank if rank is None else rank,
            world_size=self.sampler.world_size if world_size is None else world_size,
            tail=self.sampler.tail if tail is None else tail,
        )
        self.multiple_of = whole_number(name, "multiple_of", multiple_of, 1)
        self.scales = [_size(name, scale, self.multiple_of) for scale in scales]
        if not self.scales:
            raise ValueError(f"{name}: `scales` must hold at least one size, got none.")
        if batch_size is None and max_pixels is None:
            raise ValueError(f"{name}: `batch_size` or `max_pixels` must be given, got neither.")
        self.batch_size = None if batch_size is None else whole_number(name, "batch_size", batch_size, 1)
        self.max_pixels = None if max_pixels is None else whole_number(name, "max_pixels", max_pixels, 1)
        largest = max(height * width for height, width in self.scales)
        if self.max_pixels is not None and self.max_pixels < largest:
            raise ValueError(
                f"{name}: `max_pixels` must hold one sample of the largest scale, {largest} pixels, "
                f"got {self.max_pixels}. Raise it or leave out that scale."
            )
        self.every = every if every == "epoch" else whole_number(name, "every", every, 1)

    def __repr__(self) -> str:
        fields = ("scales", "batch_size", "max_pixels", "every", "multiple_of", "seed", "rank", "world_size", "tail")
        return f"MultiScaleBatchSampler({self.sampler!r}, {', '.join(f'{f}={getattr(self, f)!r}' for f in fields)})"

    def _identity(self) -> dict[str, Any]:
        fields = ("batch_size", "max_pixels", "every", "seed", "tail")
        scales = brief([list(scale) for scale in self.scales])
        return {"order": self.sampler._identity(), "scales": scales} | {f: getattr(self, f) for f in fields}

    def _length(self, epoch: int) -> int:
        return self._plan(epoch).steps

    def _plan(self, epoch: int) -> Plan:
        total = self.sampler._total(epoch)
        if self._cached is None or self._cached[:2] != (epoch, total):
            plan = Plan(
                total,
                self.scales,
                [self._batch(size) for size in self.scales],
                every=None if isinstance(self.every, str) else self.every,
                seed=self.seed,
                epoch=epoch,
                world_size=self.world_size,
                tail=self.tail,
            )
            self._cached = epoch, total, plan
        return self._cached[2]

    def _batch(self, size: Size) -> int:
        """Samples in a batch of this size."""
        fits = self.max_pixels // (size[0] * size[1]) if self.max_pixels is not None else self.batch_size or 1
        return min(fits, self.batch_size or fits)

    def _forget(self) -> None:
        self.sampler._forget()

    def _settings(self) -> str:
        sizes = ", ".join(f"{h} x {w} in batches of {self._batch((h, w))}" for h, w in self.scales)
        changes = "each epoch" if self.every == "epoch" else f"every {self.every} steps"
        return f"{sizes}; another scale {changes}. Order: {self.sampler._settings()}"

    def _idle(self) -> list[str]:
        idle = self.sampler._idle() if not isinstance(self.sampler, ShuffleSampler) else []
        if len(set(self.scales)) == 1:
            idle.append(f"every={self.every!r}: all scales are the same after rounding to {self.multiple_of}")
        if self.batch_size is not None and self.max_pixels is not None:
            largest = max(height * width for height, width in self.scales)
            if self.batch_size * largest <= self.max_pixels:
                idle.append(f"max_pixels={self.max_pixels}: batches of {self.batch_size} stay below it at every scale")
        return idle

    def _evidence(self, epoch: int) -> dict[str, Any]:
        return self.sampler._evidence(epoch)

    def _run(
        self, reading: Pass[list[SampleKey]], start: int, stop: int
    ) -> tuple[Iterator[Any], Iterator[list[SampleKey]]]:
        order, plan = self.sampler._order(reading.epoch), self._plan(reading.epoch)

        def batch(step: int) -> list[SampleKey]:
            positions = np.arange(*plan.share(step, self.rank), dtype=np.int64) % order.total
            return make_keys(reading.key_class(plan.size(step)), order, positions)

        left = iter(range(start, stop))
        return left, map(batch, left)


def _size(function: str, scale: Any, multiple_of: int) -> Size:
    """A scale as (height, width), each rounded to the nearest multiple."""
    sides = (scale, scale) if hasattr(scale, "__index__") else tuple(scale) if isinstance(scale, Sequence) else ()
    if len(sides) != 2:
        raise TypeError(f"{function}: `scales` must each be a side or (height, width) in pixels, got {scale!r}.")
    height, width = (whole_number(function, "scales", side, 1) for side in sides)
    return _nearest(height, multiple_of), _nearest(width, multiple_of)


def _nearest(side: int, multiple_of: int) -> int:
    return max(multiple_of, (side + multiple_of // 2) // multiple_of * multiple_of)
