"""Which part of the source a geometry looks at, and the same geometry for an image that is cut to that part."""

from __future__ import annotations

import dataclasses
import math

from segkit.transforms._resampling.affine import Affine
from segkit.transforms._resampling.by_opencv import part_needed
from segkit.transforms._resampling.by_torch import gaussian_taps
from segkit.transforms._resampling.field import Field
from segkit.transforms._resampling.geometry import Geometry, blur_for, single_affine

Window = tuple[int, int, int, int]  # top, left, height, width


def looked_at(geometry: Geometry, *, antialias: bool = True) -> Window:
    """The (top, left, height, width) of the source that the output depends on, the filter's support included.

    At least one pixel, even where the output shows nothing of the source.
    """
    left, right, top, bottom = bounds(geometry)
    onto_source = single_affine(geometry.stages)
    if onto_source is not None and onto_source.moves_whole_pixels():
        rows = _clipped(math.floor(top), math.ceil(bottom) + 1, geometry.source[0])
        columns = _clipped(math.floor(left), math.ceil(right) + 1, geometry.source[1])
    else:
        down, across = (len(gaussian_taps(sigma)) for sigma in (blur_for(geometry) if antialias else (0.0, 0.0)))
        rows = part_needed(top, bottom, geometry.source[0], down)
        columns = part_needed(left, right, geometry.source[1], across)
    return rows[0], columns[0], rows[1] - rows[0], columns[1] - columns[0]


def within(geometry: Geometry, window: Window) -> Geometry:
    """The same map for the image cut to `window`. What lay outside of the whole image lies outside still."""
    top, left, height, width = window
    if window == (0, 0, *geometry.source):
        return geometry
    # Where not all is affine the shift stays a step of its own: whole numbers are taken off without rounding, so that
    # places are those of the whole image to the last bit.
    shift, onto_source = Affine(1, 0, -left, 0, 1, -top), single_affine(geometry.stages)
    stages = (*geometry.stages, shift) if onto_source is None else (shift.after(onto_source),)
    first, begin, end, stop = geometry.shown
    rows = max(first - top, 0), min(end - top, height)
    columns = max(begin - left, 0), min(stop - left, width)
    visible = rows[0], columns[0], max(rows), max(columns)
    return dataclasses.replace(geometry, source=(height, width), stages=stages, visible=visible)


def bounds(geometry: Geometry) -> tuple[float, float, float, float]:
    """Smallest and largest x, smallest and largest y of the places that the output's pixels come from."""
    left, right, top, bottom = 0.0, geometry.size[1] - 1.0, 0.0, geometry.size[0] - 1.0
    for stage in geometry.stages:
        if isinstance(stage, Field):
            # A B-spline stays between its control points, so these bound it without a look at any pixel.
            (x_low, y_low), (x_high, y_high) = stage.points.min((1, 2)), stage.points.max((1, 2))
            left, right, top, bottom = left + x_low, right + x_high, top + y_low, bottom + y_high
        else:
            left, right, top, bottom = stage.bounds(left, top, right, bottom)
    return left, right, top, bottom


def _clipped(first: int, end: int, length: int) -> tuple[int, int]:
    first = min(max(first, 0), length - 1)
    return first, max(min(end, length), first + 1)
