"""From shapes to an array, and what can be said of each on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segkit.annotations._drawing.paint import paint_rings
from segkit.annotations._drawing.shape import Note, Shape
from segkit.annotations._drawing.spans import Window, crosses_itself, ellipse_patch, ellipse_reach
from segkit.errors import DataError

__all__ = ["draw", "judge"]


def draw(
    out: np.ndarray,
    shapes: Sequence[Shape],
    values: np.ndarray,
    size: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Paint each shape's value into `out`, C-contiguous integers [H, W]: by z, and later over earlier.

    Neighbours in that order that have outlines only are painted together. `out` is a picture of `size`, or the part of
    it whose (top, left) is `corner`.
    """
    height, width = size or out.shape
    window = (*corner, *out.shape)
    rings: list[np.ndarray] = []
    of_ring: list[int] = []

    def flush() -> None:
        if rings:
            inside = range(len(rings)) if window[2:] == (height, width) else _touching(rings, window)
            paint_rings(out, [rings[i] for i in inside], np.array([of_ring[i] for i in inside], np.int64), corner)
            rings.clear()
            of_ring.clear()

    for i in sorted(range(len(shapes)), key=lambda i: shapes[i].z):  # stable
        shape = shapes[i].placed(height, width)
        if not shape.holes and shape.runs is None and shape.ellipse is None:
            rings += shape.rings
            of_ring += [int(values[i])] * len(shape.rings)
            continue
        flush()
        for top, left, inside in _patches(shape, height, width, window):
            part = out[top : top + inside.shape[0], left : left + inside.shape[1]]
            np.copyto(part, out.dtype.type(values[i]), where=inside)
    flush()


def _touching(rings: Sequence[np.ndarray], window: Window) -> list[int]:
    """Which rings may have pixels in a window."""
    x, y = np.concatenate(rings).T
    sizes = np.array([len(ring) for ring in rings])
    starts = np.cumsum(sizes) - sizes
    top, left, height, width = window
    touch = (np.maximum.reduceat(x, starts) > left) & (np.minimum.reduceat(x, starts) < left + width)
    touch &= (np.maximum.reduceat(y, starts) > top) & (np.minimum.reduceat(y, starts) < top + height)
    return np.flatnonzero(touch).tolist()


def _patches(shape: Shape, height: int, width: int, window: Window) -> list[tuple[int, int, np.ndarray]]:
    """(top, left, bool [h, w]) in a window of all parts of a shape on an image of this size."""
    patches = []
    above, before, tall, wide = window
    if shape.ellipse is not None:
        patches.append(ellipse_patch(shape.ellipse, window))
    if shape.runs is not None:
        try:
            pixels = shape.runs.pixels(height, width)
        except DataError as error:
            raise DataError(f"{shape.source or 'a shape'}: {error}") from None
        top, left = shape.runs.box[:2] if shape.runs.box else (0, 0)
        top, left = top - above, left - before
        y, x = max(0, -top), max(0, -left)  # what reaches outside is cut off
        patches.append((max(0, top), max(0, left), pixels[y : max(y, tall - top), x : max(x, wide - left)]))
    if shape.rings:
        points = np.concatenate(shape.rings)
        low = np.floor(points.min(0)).clip((before, above), (before + wide, above + tall)).astype(int)
        high = np.ceil(points.max(0)).clip((before, above), (before + wide, above + tall)).astype(int)
        left, top = low.tolist()
        grid = np.zeros((high[1] - top, high[0] - left), np.uint8)
        if grid.size:
            for part, value in ((shape.rings, 1), (shape.holes, 0)):
                paint_rings(grid, part, np.full(len(part), value), (top, left))
        patches.append((top - above, left - before, grid.view(np.bool_)))
    return patches


def judge(image: str, shapes: Sequence[Shape], values: np.ndarray, size: tuple[int, int]) -> list[Note]:
    """What is empty, outside, self-crossing, or hidden by later shapes of another value."""
    height, width = size
    notes = []
    ids = np.zeros(size, np.int32)
    draw(ids, shapes, np.arange(1, len(shapes) + 1))
    value_of = np.concatenate([[-1], np.asarray(values, np.int64)])
    for i, shape in enumerate(shapes):
        placed = shape.placed(height, width)
        patches = _patches(placed, height, width, (0, 0, height, width))
        drawn = np.zeros(0, np.int32)
        if patches:
            top, left = min(p[0] for p in patches), min(p[1] for p in patches)
            bottom = max(p[0] + p[2].shape[0] for p in patches)
            right = max(p[1] + p[2].shape[1] for p in patches)
            mine = np.zeros((max(0, bottom - top), max(0, right - left)), np.bool_)
            for y, x, inside in patches:
                mine[y - top : y - top + inside.shape[0], x - left : x - left + inside.shape[1]] |= inside
            drawn = ids[top:bottom, left:right][mine]
        points = np.concatenate(placed.rings) if placed.rings else np.zeros((0, 2))
        beyond = (points < 0).any() or (points > (width, height)).any() or _leaves(placed, height, width)
        if not drawn.size:
            notes.append(
                Note("outside", image, shape.source, "It lies outside the picture.")
                if beyond
                else Note("empty", image, shape.source, "No pixel's centre is in it.")
            )
            continue
        if beyond:
            notes.append(Note("outside", image, shape.source, "A part of it lies outside the picture."))
        if any(crosses_itself(ring, height, width) for ring in placed.rings):
            reason = "Its outline crosses itself; what it goes around twice is outside (even-odd)."
            notes.append(Note("self-crossing", image, shape.source, reason))
        hidden = int((value_of[drawn] != value_of[i + 1]).sum())
        if hidden:
            reason = f"{hidden} of its {drawn.size} pixels lie under later shapes of another class."
            notes.append(Note("overlap", image, shape.source, reason))
    return notes


def _leaves(shape: Shape, height: int, width: int) -> bool:
    """Does a box of pixels or an ellipse reach beyond the image?"""
    if shape.runs is not None and shape.runs.box is not None:
        top, left, h, w = shape.runs.box
        return top < 0 or left < 0 or top + h > height or left + w > width
    if shape.ellipse is not None:
        x, y = shape.ellipse[:2]
        across, along = ellipse_reach(shape.ellipse)
        return x < across or y < along or x + across > width or y + along > height
    return False
