"""Crops in their order, by top, then by left: averaged where they overlap, and finished where none follows.

Only what a later crop still touches is kept, so that a scene of any height needs the strips in which crops overlap.
An average is a running one: equal values stay exactly what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Box = tuple[int, int, int, int]  # top, left, height, width
HandOn = Callable[[int, int, Tensor], None]  # called with top, left and [..., h, w] of what is finished


def overlaps_of(boxes: Sequence[Box], size: tuple[int, int], blend: str, hand_on: HandOn) -> Grid | Band:
    """What averages crops at these places, which are sorted."""
    tops, lefts = sorted({box[0] for box in boxes}), sorted({box[1] for box in boxes})
    if list(boxes) == [(top, left, *boxes[0][2:]) for top in tops for left in lefts]:
        return Grid(tops, lefts, boxes[0][2:], blend, hand_on)
    return Band(boxes, size, blend, hand_on)


class Grid:
    """Crops of one size in rows and columns, of which the weights are products: first across, then down.

    Attributes:
        carried: what comes again, by the column where it begins: the strip to the right at -1, those below.
    """

    def __init__(self, tops: list[int], lefts: list[int], size: tuple[int, int], blend: str, hand_on: HandOn) -> None:
        self._tops, self._lefts, self._size, self._hand_on = tops, lefts, size, hand_on
        self._down, self._across = _shares(tops, size[0], blend), _shares(lefts, size[1], blend)
        self.carried: dict[int, Tensor] = {}

    def add(self, number: int, values: Tensor) -> int:
        """Take in the crop `number`, [..., h, w], and hand on what is finished. Returns the first row that is not."""
        row, column = divmod(number, len(self._lefts))
        left, done = self._lefts[column], self._end(1, self._lefts, column)
        top, end = self._tops[row], self._end(0, self._tops, row)
        for over, part in self._blend(-1, values, -1, self._across[column], done):
            for under, finished in self._blend(left + over, part, -2, self._down[row], end):
                self._hand_on(top + under, left + over, finished)
        return top + end if column + 1 == len(self._lefts) else top

    def _end(self, axis: int, starts: list[int], place: int) -> int:
        """How much of a crop no later one touches, along one axis."""
        return starts[place + 1] - starts[place] if place + 1 < len(starts) else self._size[axis]

    def _blend(self, key: int, values: Tensor, axis: int, share: Tensor, end: int) -> Iterator[tuple[int, Tensor]]:
        """Average with what was carried here, and carry what lies behind `end`; the rest, and where it begins."""
        parts = [(0, values)]
        if (carried := self.carried.pop(key, None)) is not None:
            seam, length = carried.shape[axis], values.shape[axis]
            share = share.to(values.device, values.dtype)
            seamed = _average(carried, values.narrow(axis, 0, seam), share if axis == -1 else share[:, None])
            parts = [(0, seamed), (seam, values.narrow(axis, seam, length - seam))]
        behind = []
        for start, part in parts:
            length, cut = part.shape[axis], min(max(end - start, 0), part.shape[axis])
            if cut < length:
                behind.append(part.narrow(axis, cut, length - cut))
            if cut:
                yield start, part.narrow(axis, 0, cut)
        if behind:
            self.carried[key] = torch.cat(behind, axis)  # memory of its own: who added the crop may use his again


class Band:
    """Crops at any places: the rows from the first that is not finished on, and what their pixels weigh up to now."""

    def __init__(self, boxes: Sequence[Box], size: tuple[int, int], blend: str, hand_on: HandOn) -> None:
        self._boxes, self._width, self._blend, self._hand_on = boxes, size[1], blend, hand_on
        self._top = 0
        self._values = torch.empty(0)  # [..., rows, W]
        self._weights = torch.zeros(0, size[1], dtype=torch.float64)

    def add(self, number: int, values: Tensor) -> int:
        """As `Grid.add`."""
        top, left, height, width = self._boxes[number]
        if not self._values.numel():
            self._top, self._values = top, values.new_zeros(*values.shape[:-2], 0, self._width)
        under = top - self._top
        if (more := under + height - len(self._weights)) > 0:
            self._values = torch.cat([self._values, values.new_zeros(*values.shape[:-2], more, self._width)], -2)
            self._weights = torch.cat([self._weights, self._weights.new_zeros(more, self._width)])
        here = ..., slice(under, under + height), slice(left, left + width)
        weight = torch.outer(_side(height, self._blend), _side(width, self._blend))
        share = (weight / (self._weights[here] + weight)).to(values.device, values.dtype)
        self._values[here] = _average(self._values[here], values, share)
        self._weights[here] += weight
        last = number + 1 == len(self._boxes)
        done = len(self._weights) if last else self._boxes[number + 1][0] - self._top
        if done:
            self._hand_on(self._top, 0, self._values[..., :done, :])
            self._values, self._weights = self._values[..., done:, :].clone(), self._weights[done:]
            self._top += done
        return self._top


def _average(old: Tensor, new: Tensor, share: Tensor) -> Tensor:
    """`share` of the new one, in fresh memory."""
    values = torch.lerp(old, new, share)
    if _is_finite(values):
        return values
    # Where one is infinite, the difference inside of lerp is no number; a weighted sum is.
    return torch.where(values.isfinite(), values, old * (1 - share) + new * share)


def _is_finite(values: Tensor) -> bool:
    """By one look; if squares overflow, False."""
    if values.device.type != "cpu":
        return False  # asking would wait for the device
    flat = values.detach().reshape(-1)
    return bool(flat.dot(flat) < torch.finfo(flat.dtype).max)


def _shares(starts: list[int], length: int, blend: str) -> list[Tensor]:
    """Of each crop along one axis, how much it counts in the average where those before it reach, float64."""
    weight, before = _side(length, blend), torch.zeros(starts[-1] + length, dtype=torch.float64)
    shares, reached = [], 0
    for start in starts:
        seam = max(0, reached - start)
        shares.append(weight[:seam] / (before[start : start + seam] + weight[:seam]))
        before[start : start + length] += weight
        reached = start + length
    return shares


def _side(length: int, blend: str) -> Tensor:
    if blend == "mean":
        return torch.ones(length, dtype=torch.float64)
    place = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    # The floor keeps corners away from zero, where a quotient of two weights would lose its digits.
    return torch.exp(-0.5 * (place / (length / 8)) ** 2).clamp_(min=1e-3)


def uncovered(boxes: Sequence[Box], size: tuple[int, int]) -> int:
    """How many pixels lie in no box. Counted between the boxes' edges: a scene's map of pixels would be too large."""
    rows = sorted({0, size[0], *(edge for top, _, height, _ in boxes for edge in (top, top + height))})
    columns = sorted({0, size[1], *(edge for _, left, _, width in boxes for edge in (left, left + width))})
    row_of, column_of = ({edge: i for i, edge in enumerate(edges)} for edges in (rows, columns))
    seen = torch.zeros(len(rows), len(columns), dtype=torch.bool)
    for top, left, height, width in set(boxes):
        seen[row_of[top] : row_of[top + height], column_of[left] : column_of[left + width]] = True
    heights, widths = torch.tensor(rows).diff(), torch.tensor(columns).diff()
    return int((torch.outer(heights, widths) * ~seen[:-1, :-1]).sum())
