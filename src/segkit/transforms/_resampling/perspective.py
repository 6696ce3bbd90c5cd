"""A map of the plane that keeps straight lines straight, but not parallel ones parallel: a picture seen at a slant."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from segkit.transforms._resampling.affine import Affine, Point


class Perspective(NamedTuple):
    """Leads (x, y) to the affine (x, y) divided by gx * x + gy * y + g.

    The divisor is at least half of its smallest value on the frame that the map was made for. Beyond that frame nothing
    is shown, and there every place stays finite, even where a horizon would be.
    """

    xx: float
    xy: float
    dx: float
    yx: float
    yy: float
    dy: float
    gx: float
    gy: float
    g: float
    least: float

    @classmethod
    def onto(cls, size: tuple[int, int], corners: Sequence[Point]) -> Perspective:
        """Leads the outer corners of a frame of (height, width) `size` to `corners`, clockwise from the top left."""
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
        # Of the unit square: the affine map that three corners ask for, and the divisor that the fourth one adds.
        x_side, y_side, x_down, y_down = x1 - x2, y1 - y2, x3 - x2, y3 - y2
        x_rest, y_rest = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
        area = x_side * y_down - x_down * y_side
        across = (x_rest * y_down - x_down * y_rest) / area if area else -1.0
        down = (x_side * y_rest - x_rest * y_side) / area if area else -1.0
        least = min(1.0, 1 + across, 1 + down, 1 + across + down)
        if not least > 0:
            raise ValueError(
                "Geometry.perspective: `corners` must be those of a convex figure, one after the other, got "
                f"{list(corners)}. Move each by less than a quarter of the picture."
            )
        rows = (x1 - x0 + across * x1, x3 - x0 + down * x3, x0), (y1 - y0 + across * y1, y3 - y0 + down * y3, y0)
        height, width = size
        numbers: list[float] = []
        for a, b, c in (*rows, (across, down, 1.0)):  # a pixel's centre is its index, its edge half before
            numbers += [a / width, b / height, c + 0.5 * a / width + 0.5 * b / height]
        return cls._make([*numbers, least / 2])

    def at(self, x: float, y: float) -> Point:
        """The place of one point."""
        divisor = max(self.gx * x + self.gy * y + self.g, self.least)
        right, down = Affine(*self[:6]).at(x, y)
        return right / divisor, down / divisor

    def near(self, x: float, y: float) -> Affine:
        """The affine map that does the same at one point and, but for curvature, around it."""
        divisor = max(self.gx * x + self.gy * y + self.g, self.least)
        right, down = self.at(x, y)
        xx, xy = (self.xx - right * self.gx) / divisor, (self.xy - right * self.gy) / divisor
        yx, yy = (self.yx - down * self.gx) / divisor, (self.yy - down * self.gy) / divisor
        return Affine(xx, xy, right - xx * x - xy * y, yx, yy, down - yx * x - yy * y)

    def bounds(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """Smallest and largest x, smallest and largest y that a rectangle is led to, or less and more."""
        low, high, _, _ = Affine(self.gx, self.gy, self.g, 0, 0, 0).bounds(left, top, right, bottom)
        if low >= self.least:  # a convex figure, whose corners are its extremes
            x, y = zip(*(self.at(*corner) for corner in itertools.product((left, right), (top, bottom))), strict=True)
            return min(x), max(x), min(y), max(y)
        divisors = self.least, max(high, self.least)
        x_low, x_high, y_low, y_high = Affine(*self[:6]).bounds(left, top, right, bottom)
        quotients = [[each / divisor for divisor in divisors] for each in (x_low, x_high, y_low, y_high)]
        return min(quotients[0]), max(quotients[1]), min(quotients[2]), max(quotients[3])
