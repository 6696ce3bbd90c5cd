"""An affine map of the plane in plain numbers: composing and asking a few of them costs less than one array."""

from __future__ import annotations

import math
from typing import NamedTuple

Point = tuple[float, float]


class Affine(NamedTuple):
    """Leads (x, y) to (xx * x + xy * y + dx, yx * x + yy * y + dy)."""

    xx: float
    xy: float
    dx: float
    yx: float
    yy: float
    dy: float

    def at(self, x: float, y: float) -> Point:
        """The place of one point."""
        return self.xx * x + self.xy * y + self.dx, self.yx * x + self.yy * y + self.dy

    def after(self, first: Affine) -> Affine:
        """`first`, then this one."""
        return Affine(
            self.xx * first.xx + self.xy * first.yx,
            self.xx * first.xy + self.xy * first.yy,
            self.xx * first.dx + self.xy * first.dy + self.dx,
            self.yx * first.xx + self.yy * first.yx,
            self.yx * first.xy + self.yy * first.yy,
            self.yx * first.dx + self.yy * first.dy + self.dy,
        )

    def inverse(self) -> Affine:
        """The map that leads back."""
        area = self.xx * self.yy - self.xy * self.yx
        xx, xy, yx, yy = self.yy / area, -self.xy / area, -self.yx / area, self.xx / area
        return Affine(xx, xy, -xx * self.dx - xy * self.dy, yx, yy, -yx * self.dx - yy * self.dy)

    def bounds(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """Smallest and largest x, smallest and largest y that a rectangle is led to."""
        (xx, xy, dx), (yx, yy, dy) = self[:3], self[3:]
        x_low, x_high = (xx * left, xx * right) if xx > 0 else (xx * right, xx * left)
        y_low, y_high = (yx * left, yx * right) if yx > 0 else (yx * right, yx * left)
        x_more, x_most = (xy * top, xy * bottom) if xy > 0 else (xy * bottom, xy * top)
        y_more, y_most = (yy * top, yy * bottom) if yy > 0 else (yy * bottom, yy * top)
        return x_low + x_more + dx, x_high + x_most + dx, y_low + y_more + dy, y_high + y_most + dy

    def spans(self) -> tuple[float, float]:
        """How far apart, in x and in y, neighbouring points get: the lengths of the two rows."""
        return math.hypot(self.xx, self.xy), math.hypot(self.yx, self.yy)

    def moves_whole_pixels(self) -> bool:
        """Is every pixel led onto a pixel: moved, mirrored or turned by right angles?"""
        if not all(each == math.floor(each) for each in self):
            return False
        straight = abs(self.xx) == abs(self.yy) == 1 and self.xy == self.yx == 0
        turned = abs(self.xy) == abs(self.yx) == 1 and self.xx == self.yy == 0
        return straight or turned


IDENTITY = Affine(1, 0, 0, 0, 1, 0)


def about_centre(centre: Point, *, angle: float, scale: float, shear: Point, shift: Point) -> Affine:
    """Shear (x, y) and enlarge, turn counter-clockwise as seen with y pointing down, shift; in degrees and pixels."""
    cos, sin = _cos_sin(angle)
    along_x, along_y = (math.tan(math.radians(each)) for each in shear)
    slant = Affine(1, along_x, 0, along_y, 1 + along_x * along_y, 0)
    turn = Affine(cos * scale, sin * scale, centre[0] + shift[0], -sin * scale, cos * scale, centre[1] + shift[1])
    return turn.after(slant).after(Affine(1, 0, -centre[0], 0, 1, -centre[1]))


def _cos_sin(degrees: float) -> Point:
    """Right angles come out exact."""
    quarters, rest = divmod(degrees, 90)
    cos, sin = (1.0, 0.0) if rest == 0 else (math.cos(math.radians(rest)), math.sin(math.radians(rest)))
    for _ in range(int(quarters) % 4):
        cos, sin = -sin, cos
    return cos, sin
