"""Where each output pixel comes from: sizes, a chain of matrices and displacement fields, and frames that clip.

A pixel has its centre at its index: x runs to the right and y down, pixel (0, 0) covers [-0.5, 0.5) on both axes.
A geometry leads from an *output* pixel back to the place in the source image where its value is found. Two geometries
are joined without touching a pixel, so a chain of transforms is resampled once.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from segkit.transforms._field import Field

Size = tuple[int, int]
Rect = tuple[int, int, int, int]  # top, left, bottom, right: the pixels [top, bottom) x [left, right)
Stage = np.ndarray | Field

# Coordinates are float64 sums of a few products; this covers their rounding and is far below what a pixel can show.
EPSILON = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Geometry:
    """A map from the pixels of an output to places in a source image, as `draw` of a geometric transform returns it.

    Apply it with `functional.apply_geometry`; join two with `first.then(second)`.

    Attributes:
        source: (height, width) of the image that goes in.
        size: (height, width) of the image that comes out.
        stages: 3 x 3 matrices on (x, y, 1) and displacement fields, applied in order to output pixel indices.
        visible: (top, left, bottom, right) of the source pixels that are left to show; None: all of them. A crop in
            the chain cuts off for good, even if what follows looks beyond it.
        clips: the same for frames after which pixels are no longer whole: (stages from the output to the frame, what
            is visible of the frame).

    Example:
        >>> from segkit.transforms import CenterCrop, HorizontalFlip
        >>> crop = CenterCrop(2).draw((4, 6))
        >>> both = crop.then(HorizontalFlip(p=1).draw((2, 2)))
        >>> both.source, both.size
        ((4, 6), (2, 2))
        >>> both.stages[0].tolist()  # output pixel 0 comes from column 3, row 1
        [[-1.0, 0.0, 3.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    """

    source: Size
    size: Size
    stages: tuple[Stage, ...] = ()
    visible: Rect | None = None
    clips: tuple[tuple[tuple[Stage, ...], Rect], ...] = ()

    def then(self, after: Geometry) -> Geometry:
        """This geometry first, `after` on its result: one map, still resampled once.

        Raises:
            ValueError: `after` was made for an image of another size.
        """
        if after.source != self.size:
            raise ValueError(
                f"Geometry.then: `after` must start from {self.size}, got one that starts from {after.source}. "
                "Draw it for the size that comes out of the first."
            )
        clips = [*after.clips, *((_join(after.stages, stages), rect) for stages, rect in self.clips)]
        visible, frame = self.visible, after.shown
        if _cuts(self, after, frame):
            if whole_pixels(self.stages) is None:
                clips.append((after.stages, frame))
            else:
                visible = _common(self.shown, _rect_in_source(self, frame))
        return Geometry(self.source, after.size, _join(after.stages, self.stages), visible, tuple(clips))

    @property
    def shown(self) -> Rect:
        """What is visible of the source, written out."""
        return self.visible or (0, 0, *self.source)


def identity(source: Size) -> Geometry:
    """Every pixel stays where it is."""
    return Geometry(source, source)


def window(source: Size, top: int, left: int, size: Size) -> Geometry:
    """The pixels [top, top + height) x [left, left + width); a window may reach beyond the image."""
    return Geometry(source, size, (matrix(1, 0, left, 0, 1, top),))


def scaling(source: Size, size: Size) -> Geometry:
    """The whole image at another size. Edges meet edges, so centres are aligned by half a pixel."""
    y, x = source[0] / size[0], source[1] / size[1]
    return Geometry(source, size, (matrix(x, 0, 0.5 * x - 0.5, 0, y, 0.5 * y - 0.5),))


def flipping(source: Size, *, horizontal: bool = False, vertical: bool = False) -> Geometry:
    """The image mirrored."""
    height, width = source
    x, left = (-1, width - 1) if horizontal else (1, 0)
    y, top = (-1, height - 1) if vertical else (1, 0)
    return Geometry(source, source, (matrix(x, 0, left, 0, y, top),))


def turning(source: Size, quarters: int) -> Geometry:
    """The image turned counter-clockwise by quarters of a full turn."""
    height, width = source
    if quarters % 4 == 0:
        return identity(source)
    if quarters % 4 == 1:
        return Geometry(source, (width, height), (matrix(0, -1, width - 1, 1, 0, 0),))
    if quarters % 4 == 2:
        return flipping(source, horizontal=True, vertical=True)
    return Geometry(source, (width, height), (matrix(0, 1, 0, -1, 0, height - 1),))


def affine(
    source: Size, *, angle: float, translate: tuple[float, float], scale: float, shear: tuple[float, float]
) -> Geometry:
    """The image enlarged, sheared and turned about its centre, then moved; what falls outside of the frame is lost."""
    cos, sin = _cos_sin(angle)
    shear_y, shear_x = (math.tan(math.radians(each)) for each in shear)
    # From the centre of the picture outwards: shear and enlarge, then turn counter-clockwise, with y pointing down.
    forward = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1, shear_x], [shear_y, 1 + shear_x * shear_y]]) * scale
    back = np.linalg.inv(forward)
    centre = np.array([(source[1] - 1) / 2, (source[0] - 1) / 2])
    (xx, xy), (yx, yy) = back.tolist()
    x, y = centre - back @ (centre + np.array(translate[::-1]))
    return Geometry(source, source, (matrix(xx, xy, x, yx, yy, y),))


def _cos_sin(degrees: float) -> tuple[float, float]:
    """Right angles come out exact."""
    quarters, rest = divmod(degrees, 90)
    cos, sin = (1.0, 0.0) if rest == 0 else (math.cos(math.radians(rest)), math.sin(math.radians(rest)))
    for _ in range(int(quarters) % 4):
        cos, sin = -sin, cos
    return cos, sin


def matrix(xx: float, xy: float, x: float, yx: float, yy: float, y: float) -> np.ndarray:
    """The 3 x 3 matrix of source_x = xx * x + xy * y + x and source_y = yx * x + yy * y + y."""
    return np.array([[xx, xy, x], [yx, yy, y], [0, 0, 1]], np.float64)


def coordinates(stages: tuple[Stage, ...], size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the pixels of an output of `size` come from: float64 x and y that broadcast to [height, width].

    While the axes stay apart (crops, flips, scales) x is [1, width] and y is [height, 1], which costs nothing.
    """
    x = torch.arange(size[1], dtype=torch.float64, device=device)[None]
    y = torch.arange(size[0], dtype=torch.float64, device=device)[:, None]
    for stage in stages:
        if isinstance(stage, Field):
            dx, dy = stage.displacement(x, y)
            x, y = x + dx, y + dy
        else:
            (xx, xy, tx), (yx, yy, ty) = stage[:2].tolist()
            x, y = _combine(xx, x, xy, y, tx), _combine(yy, y, yx, x, ty)
    return x, y


def _combine(a: float, x: Tensor, b: float, y: Tensor, offset: float) -> Tensor:
    first = x * a + offset
    return first if b == 0 else first + y * b


def linear_part(stages: tuple[Stage, ...]) -> np.ndarray:
    """The 2 x 2 matrix of all stages together, displacement fields left out: how much the map stretches."""
    total = np.eye(2)
    for stage in stages:
        if not isinstance(stage, Field):
            total = stage[:2, :2] @ total
    return total


def single_matrix(stages: tuple[Stage, ...]) -> np.ndarray | None:
    """The one matrix that all stages amount to, or None if a displacement field is among them."""
    if any(isinstance(stage, Field) for stage in stages):
        return None
    return stages[0] if stages else np.eye(3)  # type: ignore[return-value]


def corners(transform: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The corner pixels' x and y after `transform`: four each."""
    bottom, right = size[0] - 1, size[1] - 1
    points = np.array([[0, right, 0, right], [0, 0, bottom, bottom], [1, 1, 1, 1]], np.float64)
    x, y, _ = transform @ points
    return x, y


def covers(rect: Rect, x: np.ndarray, y: np.ndarray) -> bool:
    """Do all these places lie on pixels of the rectangle?"""
    top, left, bottom, right = rect
    x, y = x + 0.5 + EPSILON, y + 0.5 + EPSILON  # as `Places` rounds
    return bool(((x >= left) & (x < right) & (y >= top) & (y < bottom)).all())


def whole_pixels(stages: tuple[Stage, ...]) -> list[list[int]] | None:
    """[[xx, xy, x], [yx, yy, y]] in integers, if every output pixel is one source pixel (moved, mirrored or turned)."""
    matrix = single_matrix(stages)
    if matrix is None or not np.array_equal(matrix, matrix.round()):
        return None
    rows: list[list[int]] = matrix[:2].astype(int).tolist()
    (xx, xy, _), (yx, yy, _) = rows
    straight = abs(xx) == abs(yy) == 1 and xy == yx == 0
    turned = abs(xy) == abs(yx) == 1 and xx == yy == 0
    return rows if straight or turned else None


def _join(first: tuple[Stage, ...], second: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages of `first`, then those of `second`; neighbouring matrices become one."""
    joined: list[Stage] = []
    for stage in (*first, *second):
        if joined and not isinstance(stage, Field) and not isinstance(joined[-1], Field):
            joined[-1] = stage @ joined[-1]
        else:
            joined.append(stage)
    return tuple(joined)


def _cuts(before: Geometry, after: Geometry, frame: Rect) -> bool:
    """Could `after` look beyond what the frame between the two shows, at something that `before` had left out there?"""
    onto_frame, onto_source = single_matrix(after.stages), single_matrix(before.stages)
    if onto_frame is not None and covers(frame, *corners(onto_frame, after.size)):
        return False  # it looks at the inside of the frame only
    if onto_source is not None and not before.clips:
        top, left, bottom, right = before.shown
        edges = np.array([[left, right] * 2, [top, top, bottom, bottom], [2, 2, 2, 2]], np.float64) - [
            [0.5],
            [0.5],
            [1],
        ]
        x, y, _ = np.linalg.solve(onto_source, edges)
        top, left, bottom, right = frame
        slack = 1e-6 - 0.5
        if (
            x.min() >= left - 1e-6 - 0.5
            and x.max() <= right + slack
            and y.min() >= top - 1e-6 - 0.5
            and y.max() <= bottom + slack
        ):
            return False  # all that was visible lies inside the frame, so nothing was left out
    return True


def _rect_in_source(geometry: Geometry, frame: Rect) -> Rect:
    """The source pixels of a rectangle of the output, where pixels stay whole."""
    top, left, bottom, right = frame
    corner = np.array([[left, right - 1], [top, bottom - 1], [1, 1]], np.float64)
    matrix = single_matrix(geometry.stages)
    assert matrix is not None, "whole pixels are moved by a matrix"
    x, y = (matrix @ corner)[:2].astype(int)
    return int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1


def _common(one: Rect, other: Rect) -> Rect:
    top, left = max(one[0], other[0]), max(one[1], other[1])
    return top, left, max(top, min(one[2], other[2])), max(left, min(one[3], other[3]))
