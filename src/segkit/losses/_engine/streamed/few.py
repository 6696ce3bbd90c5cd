"""Few classes and many pixels: one class after another, by numbers that are 1 where it is the pixel's class.

These are one value a pixel, which stay in the cache; one-hot numbers of all classes would be as large as the logits.
Reading and adding at one place after another takes longer for some 4 classes, and runs on one thread.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

LONG = 2**13  # pixels of a block, below which starting an operator takes longer than it runs
SMALL = 2**16  # numbers of a block that has them all at once


def few(shape: Sequence[int], device: torch.device) -> bool:
    """Whether a block [b, C, n] is better gone over this way."""
    return shape[1] <= min(8, 4 * torch.get_num_threads()) and shape[2] >= LONG and device.type == "cpu"


def one_hot(y: Tensor, classes: int, dtype: torch.dtype) -> Tensor | None:
    """Labels [b, n] as 0 and 1, [b, C, n]; None where that takes longer or memory that matters."""
    if classes > 8 or y.numel() * classes > SMALL or y.device.type != "cpu":
        return None
    hot = torch.empty((y.shape[0], classes, y.shape[1]), dtype=dtype)
    return torch.eq(y[:, None], _column(classes, y.dtype), out=hot)


def sums_by_class(y: Tensor, values: Tensor | None, classes: int, dtype: torch.dtype) -> Tensor:
    """[b, C] sums by class of values [b, n], or of ones."""
    hot = torch.empty(y.shape, dtype=dtype)
    sums: list[Tensor] = []
    for name in _names(classes, y.dtype):
        torch.eq(y, name, out=hot)  # into numbers, which is 5 times as fast as into bools
        sums.append((hot if values is None else hot.mul_(values)).sum(1))
    return torch.stack(sums, 1)


def add_by_class_(p: Tensor, y: Tensor, values: Tensor) -> None:
    """Add values [b, n] to p [b, C, n] at the class of each pixel."""
    hot = torch.empty(y.shape, dtype=p.dtype)
    for c, name in enumerate(_names(p.shape[1], y.dtype)):
        p[:, c].addcmul_(torch.eq(y, name, out=hot), values)


@functools.lru_cache(maxsize=32)
def _column(classes: int, dtype: torch.dtype) -> Tensor:
    return torch.arange(classes, dtype=dtype)[:, None]


@functools.lru_cache(maxsize=32)
def _names(classes: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The numbers of all classes, which need no conversion."""
    return tuple(torch.arange(classes, dtype=dtype))
