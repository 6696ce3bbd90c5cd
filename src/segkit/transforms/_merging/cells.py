"""Crops become cells: rectangles that the same crops look at, averaged, and finished as soon as no other crop comes.

Only what a later crop still touches is kept, so that a scene of any height needs the strips in which crops overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

FAR = 2**62  # beyond every picture

Part = tuple[int, int, int, int]  # of a crop: first row and column in it, and the crop's height and width


class Cell(NamedTuple):
    """A rectangle of the picture, the average there, and which part of which crops it is the average of."""

    top: int
    left: int
    height: int
    width: int
    values: Tensor  # [..., height, width]
    parts: tuple[Part, ...]
    ours: bool = False  # whether the values lie in memory of our own, not in a crop that was handed in
    tame: bool = False  # whether all of them are known to be finite, and their differences too

    def common(self, top: int, left: int, bottom: int, right: int) -> tuple[int, int, int, int] | None:
        """Top, left, bottom and right of what lies in both; None for nothing."""
        top, left = max(top, self.top), max(left, self.left)
        bottom, right = min(bottom, self.top + self.height), min(right, self.left + self.width)
        return (top, left, bottom, right) if top < bottom and left < right else None

    def cut(self, top: int, left: int, bottom: int, right: int) -> Cell:
        """The part inside, which is not empty."""
        down, over = top - self.top, left - self.left
        values = self.values[..., down : bottom - self.top, over : right - self.left]
        parts = tuple((row + down, column + over, height, width) for row, column, height, width in self.parts)
        return Cell(top, left, bottom - top, right - left, values, parts, self.ours, self.tame)

    def without(self, top: int, left: int, bottom: int, right: int) -> Iterator[Cell]:
        """The up to four rectangles outside of a rectangle inside."""
        end, side = self.top + self.height, self.left + self.width
        rims = ((self.top, self.left, top, side), (bottom, self.left, end, side))
        for rim in (*rims, (top, self.left, bottom, left), (top, right, bottom, side)):
            if rim[0] < rim[2] and rim[1] < rim[3]:
                yield self.cut(*rim)


class Cells:
    """The cells that are not finished, while crops come in their order: by top, then by left.

    Args:
        boxes: (top, left, height, width) of the crops in that order.
        blend: "gaussian" or "mean".
        hand_on: called with each finished cell.
    """

    def __init__(self, boxes: Sequence[tuple[int, int, int, int]], blend: str, hand_on: Callable[[Cell], None]) -> None:
        self._boxes = boxes
        self._blend = blend
        self._hand_on = hand_on
        self._cells: list[Cell] = []
        self._shares: dict[tuple[object, ...], Tensor] = {}
        # Crops to come begin further right in these rows, or further down: the first such row and column of each.
        self._open: list[tuple[int, int]] = [(FAR, FAR)] * len(boxes)
        for number in range(len(boxes) - 2, -1, -1):
            here, after = boxes[number], boxes[number + 1]
            same = here[0] == after[0]
            self._open[number] = (self._open[number + 1][0], after[1]) if same else (after[0], FAR)

    def add(self, number: int, values: Tensor) -> int:
        """Take in the crop `number`, [..., h, w], and hand on what is finished. Returns the first row that is not."""
        top, left, height, width = self._boxes[number]
        self._overlay(Cell(top, left, height, width, values, ((0, 0, height, width),), tame=_tame(values)))
        row_open, left_open = self._open[number]
        kept: list[Cell] = []
        for cell in self._cells:
            if cell.top >= row_open or cell.left >= left_open:
                kept.append(cell)
                continue
            ready = cell.common(-1, -1, row_open, left_open)
            assert ready is not None
            self._hand_on(cell.cut(*ready))
            kept += cell.without(*ready)
        self._cells = [_by_itself(cell) for cell in kept]
        return top if left_open < FAR else row_open

    def _overlay(self, new: Cell) -> None:
        cells, fresh = [], [new]
        bottom, right = new.top + new.height, new.left + new.width
        for cell in self._cells:
            both = cell.common(new.top, new.left, bottom, right)
            if both is None:
                cells.append(cell)
                continue
            cells += cell.without(*both)
            cells.append(self._average(cell.cut(*both), new.cut(*both)))
            fresh = [rest for part in fresh for rest in _minus(part, both)]
        self._cells = cells + fresh

    def _average(self, held: Cell, added: Cell) -> Cell:
        """A running average, so that equal values stay exactly what they are."""
        parts = held.parts + added.parts
        share = self._share(held, added)
        old, new = held.values, added.values
        if held.tame and added.tame:
            # In place where the memory is ours: fresh memory would cost as much as the average.
            ours = held.ours and not (old.requires_grad or new.requires_grad)
            values = torch.lerp(old, new, share, out=old) if ours else torch.lerp(old, new, share)
        else:  # where one is infinite the difference inside of lerp is no number; a weighted sum is
            values = torch.lerp(old, new, share)
            values = torch.where(values.isfinite(), values, old * (1 - share) + new * share)
        return held._replace(values=values, parts=parts, ours=True, tame=held.tame and added.tame)

    def _share(self, held: Cell, added: Cell) -> Tensor:
        """Of the crop that is added in the average, [h, w]. In a grid the same ones come again and again."""
        like = added.values
        key = (held.parts, added.parts, held.height, held.width, like.dtype, like.device)
        if key not in self._shares:
            if len(self._shares) >= 64:
                self._shares.clear()
            old = sum(self._weight(part, held.height, held.width) for part in held.parts)
            new = self._weight(added.parts[0], held.height, held.width)
            self._shares[key] = (new / (old + new)).to(like.device, like.dtype)
        return self._shares[key]

    def _weight(self, part: Part, height: int, width: int) -> Tensor:
        """How much a part of a crop is trusted, float64 [h, w], positive everywhere."""
        row, column, crop_height, crop_width = part
        down, over = _side(crop_height, self._blend), _side(crop_width, self._blend)
        return torch.outer(down[row : row + height], over[column : column + width])


def _side(length: int, blend: str) -> Tensor:
    if blend == "mean":
        return torch.ones(length, dtype=torch.float64)
    place = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    # The floor keeps corners away from zero, where a quotient of two weights would lose its digits.
    return torch.exp(-0.5 * (place / (length / 8)) ** 2).clamp_(min=1e-3)


def _tame(values: Tensor) -> bool:
    """Whether the difference of two such is surely a number, by one look at all of a crop."""
    if values.device.type != "cpu":
        return False  # asking would wait for the device
    flat = values.detach().reshape(-1)
    return bool(flat.dot(flat) < torch.finfo(flat.dtype).max)


def _minus(cell: Cell, rectangle: tuple[int, int, int, int]) -> Iterator[Cell]:
    both = cell.common(*rectangle)
    return iter([cell]) if both is None else cell.without(*both)


def _by_itself(cell: Cell) -> Cell:
    """A cell that holds its own memory, and no more than it shows."""
    values = cell.values
    if cell.ours and values.untyped_storage().nbytes() <= values.numel() * values.element_size():
        return cell
    return cell._replace(values=values.clone(memory_format=torch.contiguous_format), ours=True)


def uncovered(boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int]) -> int:
    """How many pixels lie in no box. Counted between the boxes' edges: a scene's map of pixels would be too large."""
    rows = sorted({0, size[0], *(edge for top, _, height, _ in boxes for edge in (top, top + height))})
    columns = sorted({0, size[1], *(edge for _, left, _, width in boxes for edge in (left, left + width))})
    row_of, column_of = ({edge: i for i, edge in enumerate(edges)} for edges in (rows, columns))
    seen = torch.zeros(len(rows), len(columns), dtype=torch.bool)
    for top, left, height, width in set(boxes):
        seen[row_of[top] : row_of[top + height], column_of[left] : column_of[left + width]] = True
    heights, widths = torch.tensor(rows).diff(), torch.tensor(columns).diff()
    return int((torch.outer(heights, widths) * ~seen[:-1, :-1]).sum())
