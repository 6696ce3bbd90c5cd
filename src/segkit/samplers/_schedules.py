"""How a share or a size changes with the epoch: plain callables, epoch -> value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LinearSchedule:
    """From one value to another in a straight line, then constant.

    Args:
        start: value up to epoch `begin`.
        end: value from epoch `begin + epochs` on.
        epochs: how many epochs the change takes, at least 1.
        begin: the epoch where it begins.

    Example:
        >>> ratio = LinearSchedule(0.2, 0.6, epochs=4, begin=2)
        >>> [round(ratio(epoch), 2) for epoch in (0, 2, 3, 4, 6, 9)]
        [0.2, 0.2, 0.3, 0.4, 0.6, 0.6]
    """

    start: float
    end: float
    epochs: int
    begin: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"LinearSchedule: `epochs` must be at least 1, got {self.epochs}.")

    def __call__(self, epoch: int) -> float:
        way = min(max((epoch - self.begin) / self.epochs, 0.0), 1.0)
        return self.start + (self.end - self.start) * way


@dataclass(frozen=True)
class StepSchedule:
    """A value from each given epoch on.

    Args:
        values: first epoch -> value (a share, or a list of scales); epoch 0 must be among them.

    Example:
        >>> ratio = StepSchedule({0: 0.2, 10: 0.5})
        >>> ratio(9), ratio(10)
        (0.2, 0.5)
    """

    values: Mapping[int, Any]

    def __post_init__(self) -> None:
        if 0 not in self.values:
            raise ValueError(f"StepSchedule: `values` must say what holds from epoch 0 on, got {sorted(self.values)}.")

    def __call__(self, epoch: int) -> Any:
        return self.values[max(first for first in self.values if first <= epoch)]


@dataclass(frozen=True)
class AfterEpoch:
    """Nothing special before an epoch, then a value.

    Args:
        epoch: the first epoch with the value.
        value: the value.

    Example:
        >>> ratio = AfterEpoch(5, 0.4)
        >>> ratio(4), ratio(5)
        (None, 0.4)
    """

    epoch: int
    value: float

    def __call__(self, epoch: int) -> float | None:
        return self.value if epoch >= self.epoch else None


@dataclass(frozen=True)
class GrowingScales:
    """Patches that grow: from one side to another, by as many pixels each time, for `MultiScaleBatchSampler(scales=)`.

    With `max_pixels`, small patches come in large batches first: the same pixels per step, and many more samples.

    Args:
        first: the side, or (height, width), in epoch 0.
        last: the side, or (height, width), from epoch `epochs - 1` on; at least `first`.
        epochs: how many epochs the change takes, at least 1.
        multiple_of: each side is a multiple of this, as the sampler's own `multiple_of` asks.

    Example:
        >>> scales = GrowingScales(64, (256, 320), epochs=4)
        >>> [scales(epoch) for epoch in (0, 1, 2, 3, 9)]
        [[(64, 64)], [(128, 160)], [(192, 224)], [(256, 320)], [(256, 320)]]

    Source: Fischer et al. 2025 (arXiv 2510.23241), who grow each axis in turn; here all grow at once.
    """

    first: int | tuple[int, int]
    last: int | tuple[int, int]
    epochs: int
    multiple_of: int = 32

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"GrowingScales: `epochs` must be at least 1, got {self.epochs}.")
        sides = [*self._pair(self.first), *self._pair(self.last)]
        if (
            min(sides) < 1
            or any(side % self.multiple_of for side in sides)
            or sides[0] > sides[2]
            or sides[1] > sides[3]
        ):
            raise ValueError(
                f"GrowingScales: `first` and `last` must be multiples of {self.multiple_of}, the last not the smaller, "
                f"got {self.first} and {self.last}."
            )

    def __call__(self, epoch: int) -> list[tuple[int, int]]:
        way = min(epoch / max(self.epochs - 1, 1), 1.0) if self.epochs > 1 else 1.0
        height, width = (
            start + round((end - start) * way / self.multiple_of) * self.multiple_of
            for start, end in zip(self._pair(self.first), self._pair(self.last), strict=True)
        )
        return [(height, width)]

    @staticmethod
    def _pair(side: int | tuple[int, int]) -> tuple[int, int]:
        return side if isinstance(side, tuple) else (side, side)
