"""How a share changes with the epoch: plain callables, epoch -> share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearSchedule:
    """From one value to another in a straight line, then constant.

    Args:
        start: value up to epoch `begin`.
        end: value from epoch `begin + epochs` on.
        epochs: how many epochs the way takes, at least 1.
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
        values: first epoch -> value; epoch 0 must be among them.

    Example:
        >>> ratio = StepSchedule({0: 0.2, 10: 0.5})
        >>> ratio(9), ratio(10)
        (0.2, 0.5)
    """

    values: Mapping[int, float]

    def __post_init__(self) -> None:
        if 0 not in self.values:
            raise ValueError(f"StepSchedule: `values` must say what holds from epoch 0 on, got {sorted(self.values)}.")

    def __call__(self, epoch: int) -> float:
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
