"""Shapes into an array, for shapes that come from elsewhere than a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from segkit.annotations._annotations import smallest_dtype
from segkit.annotations._drawing.draw import draw
from segkit.annotations._drawing.paint import paint_rings
from segkit.annotations._drawing.shape import Shape, ring_of
from segkit.annotations._rle import check_size
from segkit.errors import DataError

__all__ = ["rasterize"]


def rasterize(
    shapes: Sequence[Shape] | Sequence[Any] | np.ndarray, size: tuple[int, int], *, values: Sequence[int] | None = None
) -> np.ndarray:
    """Draw shapes, later ones over earlier ones.

    A pixel belongs to a shape if its centre (x + 0.5, y + 0.5) lies inside. The rule is even-odd in each ring, and the
    rings of one shape are united. Vertices keep their fractions and may lie outside. A centre exactly on an edge
    belongs to what lies right of it or below. This is not how cv2.fillPoly and Pillow draw, for which whole numbers
    are centres of pixels and edges are painted.

    Args:
        shapes: `Shape` objects; or outlines, each [N, 2] of (x, y) or a flat list x, y, x, y, …; or lists of outlines,
            the parts of one object. One outline [N, 2] by itself is one shape.
        size: (height, width).
        values: a number for each shape, 0 or more; by default 1, 2, 3, …

    Returns:
        [H, W]: the value of the uppermost shape at each pixel, 0 where there is none; uint8, uint16 or int32, the
        smallest that holds all values.

    Raises:
        DataError: an outline has an odd number of coordinates, NaN or infinity, or a run does not fit the image.
        ValueError: `values` has another length than `shapes`, or `size` is not a size.

    Example:
        >>> rasterize([[(0, 0), (3.5, 0), (0, 3.5)]], (3, 4))
        array([[1, 1, 1, 0],
               [1, 1, 0, 0],
               [1, 0, 0, 0]], dtype=uint8)
    """
    height, width = check_size("rasterize", size)
    listed = _one_by_one(shapes)
    numbers = list(range(1, len(listed) + 1)) if values is None else [int(value) for value in values]
    if len(numbers) != len(listed) or min(numbers, default=0) < 0:
        raise ValueError(
            f"rasterize: `values` must be one number of 0 or more for each of {len(listed)} shapes, got "
            f"{len(numbers)}: {numbers[:5]}."
        )
    out = np.zeros((height, width), smallest_dtype([min(numbers, default=0), max(numbers, default=0)]))
    try:
        if any(isinstance(shape, Shape) for shape in listed):
            drawn = [s if isinstance(s, Shape) else Shape("", tuple(_rings(s, i))) for i, s in enumerate(listed)]
            draw(out, drawn, np.array(numbers, np.int64))
        else:  # outlines alone need no objects around them, which would take half of the time
            parts = [(ring, number) for i, number in enumerate(numbers) for ring in _rings(listed[i], i)]
            outlines = [ring for ring, _ in parts]
            if outlines and not math.isfinite(np.concatenate(outlines).sum()):
                for i, shape in enumerate(listed):
                    for ring in _rings(shape, i):
                        ring_of(ring, f"shape {i}")
            paint_rings(out, outlines, np.array([number for _, number in parts], np.int64))
    except DataError as error:
        raise DataError(f"rasterize: {error}.") from None
    return out


def _one_by_one(shapes: Any) -> list[Any]:
    if isinstance(shapes, Shape):
        return [shapes]
    listed = list(shapes)
    if len(listed) and isinstance(listed[0], np.ndarray) and listed[0].ndim == 2:
        return listed
    return [listed] if listed and all(_is_point(point) for point in listed) else listed


def _rings(outline: Any, number: int) -> list[np.ndarray]:
    """The rings of one shape that have points, each [N, 2]."""
    if isinstance(outline, np.ndarray) and outline.ndim == 2 and outline.shape[1] == 2 and outline.dtype == np.float64:
        return [outline] if len(outline) else []  # whether it is finite is asked of all together
    several = len(outline) and not _is_number(outline[0]) and not _is_point(outline[0])
    return [ring_of(ring, f"shape {number}") for ring in (outline if several else [outline]) if len(ring)]


def _is_number(thing: Any) -> bool:
    return isinstance(thing, float | int | str | np.generic) or np.ndim(thing) == 0


def _is_point(thing: Any) -> bool:
    return isinstance(thing, tuple | list | np.ndarray) and len(thing) == 2 and all(map(_is_number, thing))
