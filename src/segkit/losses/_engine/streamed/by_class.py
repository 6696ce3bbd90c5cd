"""Where the class of each pixel lies in memory: to read and add there, and to sum by class.

Few classes and many pixels are gone over one class after another, by numbers that are 1 where it is the pixel's class.
These are one value a pixel, which stay in the cache; one-hot numbers of all classes would be as large as the logits.
Reading and adding at one place after another takes longer for some 4 classes, and runs on one thread.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from segkit.losses._engine.route import fits_one_hot
from segkit.losses._engine.streamed.blocks import sum_dtype

LONGEST = 2**16  # pixels of the longest grid that is kept
WIDENED = 2**15  # values that are widened to float64 at a time


def in_memory(p: Tensor, y: Tensor) -> Tensor:
    """Where in `in_one_row` of a block [b, C, n] each pixel's class lies, [b n].

    On the CPU one flat index_select and index_add_ are 3 to 8 times faster than gather and scatter along an axis.
    """
    down, across, right = p.stride()
    small = p.device.type == "cpu" and span(p) < 2**31  # scatter_ takes no int32
    start = grid(p.shape[0], p.shape[2], down, right, p.device, torch.int32 if small else torch.int64)
    return torch.add(start, y.int() if small else y.long(), alpha=across).view(-1)


def of_all_classes(y: Tensor, classes: int) -> Tensor:
    """The number of each pixel's class among all [b, C], flat: for `at_class` and `add_by_class`."""
    if y.shape[0] > 1:
        return (y + grid(y.shape[0], 1, classes, 1, y.device, torch.int32)).view(-1)
    return (y if y.dtype in (torch.int32, torch.int64) else y.int()).reshape(-1)


def grid(rows: int, columns: int, down: int, right: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[rows, columns]: row times ``down`` plus column times ``right``."""
    make = _kept_grid if rows * columns <= LONGEST else _kept_grid.__wrapped__
    return make(rows, columns, down, right, device, dtype)


@functools.lru_cache(maxsize=8)
def _kept_grid(rows: int, columns: int, down: int, right: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    line = torch.arange(0, columns * right, right, device=device, dtype=dtype)[None]
    if rows == 1:
        return line
    return line + torch.arange(0, rows * down, down, device=device, dtype=dtype)[:, None]


def in_one_row(p: Tensor) -> Tensor:
    """The memory from the first to the last element of ``p`` [b, C, n] as one axis."""
    return p.view(-1) if p.is_contiguous() else p.as_strided((span(p),), (1,))


def span(p: Tensor) -> int:
    """How far apart the first and the last element are in memory, and one."""
    return 1 + sum((n - 1) * s for n, s in zip(p.shape, p.stride(), strict=True)) if p.numel() else 0


def at_place(p: Tensor, place: Tensor, shape: Sequence[int]) -> Tensor:
    """What lies at the places that `in_memory` gives, in the shape [b, n]."""
    return in_one_row(p).index_select(0, place).view(shape)


def add_at_(p: Tensor, place: Tensor, values: Tensor | float, factor: float = 1) -> None:
    """Add ``values`` [b, n] (or one number) times ``factor`` at the places that `in_memory` gives."""
    row = in_one_row(p)
    if not isinstance(values, Tensor):
        values = p.new_full((), values)
    values = values.expand(place.shape) if values.ndim == 0 else values.reshape(-1)
    if p.device.type == "cpu":
        row.index_add_(0, place, values, alpha=factor)
    else:  # where index_add_ would add in any order
        row.scatter_(0, place, row.index_select(0, place).add_(values, alpha=factor))


def at_class(table: Tensor, index: Tensor) -> Tensor:
    """table[b, y[b, n]] of a table [b, C], for the index that `of_all_classes` gives."""
    return table.reshape(-1).index_select(0, index).view(table.shape[0], -1)


def add_by_class(index: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """[b, C] sums of values[b, n] by class, in float64 (one number at a time is added, so float32 would round off)."""
    total = torch.zeros(shape[0] * shape[1], dtype=sum_dtype(values.device), device=values.device)
    values = values.reshape(-1)
    if len(values) <= WIDENED:
        return total.index_add_(0, index, values.to(total.dtype)).view(shape[0], shape[1])
    for some, theirs in zip(torch.split(values, WIDENED), torch.split(index, WIDENED), strict=True):
        total.index_add_(0, theirs, some.to(total.dtype))
    return total.view(shape[0], shape[1])


def one_hot(y: Tensor, classes: int, dtype: torch.dtype) -> Tensor | None:
    """Labels [b, n] as 0 and 1, [b, C, n]; None where that takes longer or memory that matters."""
    if not fits_one_hot(y, classes):
        return None
    hot = torch.empty((y.shape[0], classes, y.shape[1]), dtype=dtype, device="cpu")
    return torch.eq(y[:, None], _column(classes, y.dtype), out=hot)


def sums_by_class(y: Tensor, values: Tensor | None, classes: int, dtype: torch.dtype) -> Tensor:
    """[b, C] sums by class of values [b, n], or of ones."""
    hot = torch.empty(y.shape, dtype=dtype, device="cpu")
    sums: list[Tensor] = []
    for name in _names(classes, y.dtype):
        torch.eq(y, name, out=hot)  # into numbers, which is 5 times as fast as into bools
        sums.append((hot if values is None else hot.mul_(values)).sum(1))
    return torch.stack(sums, 1)


def add_by_class_(p: Tensor, y: Tensor, values: Tensor, room: Tensor | None = None) -> None:
    """Add values [b, n] to p [b, C, n] at the class of each pixel; ``room``, as large, is overwritten."""
    hot = torch.empty(y.shape, dtype=p.dtype, device="cpu") if room is None else room
    for c, name in enumerate(_names(p.shape[1], y.dtype)):
        p[:, c].addcmul_(torch.eq(y, name, out=hot), values)


@functools.lru_cache(maxsize=32)
def _column(classes: int, dtype: torch.dtype) -> Tensor:
    return torch.arange(classes, dtype=dtype, device="cpu")[:, None]


@functools.lru_cache(maxsize=32)
def _names(classes: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The numbers of all classes, which need no conversion."""
    return tuple(torch.arange(classes, dtype=dtype, device="cpu"))
