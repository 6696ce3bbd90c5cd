"""Where each output pixel comes from: sizes, a chain of matrices and displacement fields, and frames that clip.

A pixel has its centre at its index: x runs to the right and y down, pixel (0, 0) covers [-0.5, 0.5) on both axes.
A geometry leads from an *output* pixel back to the place in the source image where its value is found. Two geometries
are joined without touching a pixel, so a chain of transforms is resampled once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segkit.transforms._resampling.affine import IDENTITY, Affine, about_centre
from segkit.transforms._resampling.field import Field
from segkit.transforms._resampling.perspective import Perspective

Size = tuple[int, int]
Rect = tuple[int, int, int, int]  # top, left, bottom, right: the pixels [top, bottom) x [left, right)
Stage = Affine | Perspective | Field

# Coordinates are float64 sums of a few products; this covers their rounding and is far below what a pixel can show.
EPSILON = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Geometry:
    """A map from the pixels of an output to places in a source image, as `draw` of a geometric transform returns it.

    Made by `identity`, `window` (crops and pads), `scaling`, `flipping`, `turning`, `affine`, `perspective` and
    `bending`, each for an image of (height, width) `source`; joined by `first.then(second)`; applied by
    `functional.apply_geometry`.

    Attributes:
        source: (height, width) of the image that goes in.
        size: (height, width) of the image that comes out.
        stages: affine maps, perspectives and displacement fields, applied in order to the (x, y) index of an output
            pixel.
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
        >>> both.stages[0].at(0, 0)  # the output's pixel (0, 0) comes from column 3, row 1
        (3, 1)
    """

    source: Size
    size: Size
    stages: tuple[Stage, ...] = ()
    visible: Rect | None = None
    clips: tuple[tuple[tuple[Stage, ...], Rect], ...] = ()

    @staticmethod
    def identity(source: Size) -> Geometry:
        """Every pixel stays where it is."""
        return Geometry(source, source)

    @staticmethod
    def window(source: Size, top: int, left: int, size: Size) -> Geometry:
        """The pixels [top, top + height) x [left, left + width); a window may reach beyond the image."""
        return Geometry(source, size, (Affine(1, 0, left, 0, 1, top),))

    @staticmethod
    def scaling(source: Size, size: Size) -> Geometry:
        """The whole image at another size. Edges meet edges, so centres are aligned by half a pixel."""
        y, x = source[0] / size[0], source[1] / size[1]
        return Geometry(source, size, (Affine(x, 0, 0.5 * x - 0.5, 0, y, 0.5 * y - 0.5),))

    @staticmethod
    def flipping(source: Size, *, horizontal: bool = False, vertical: bool = False) -> Geometry:
        """The image mirrored."""
        height, width = source
        x, left = (-1, width - 1) if horizontal else (1, 0)
        y, top = (-1, height - 1) if vertical else (1, 0)
        return Geometry(source, source, (Affine(x, 0, left, 0, y, top),))

    @staticmethod
    def turning(source: Size, quarters: int) -> Geometry:
        """The image turned counter-clockwise by quarters of a full turn."""
        height, width = source
        if quarters % 4 == 0:
            return Geometry.identity(source)
        if quarters % 4 == 1:
            return Geometry(source, (width, height), (Affine(0, -1, width - 1, 1, 0, 0),))
        if quarters % 4 == 2:
            return Geometry.flipping(source, horizontal=True, vertical=True)
        return Geometry(source, (width, height), (Affine(0, 1, 0, -1, 0, height - 1),))

    @staticmethod
    def affine(
        source: Size,
        *,
        angle: float = 0.0,
        translate: tuple[float, float] = (0.0, 0.0),
        scale: float = 1.0,
        shear: tuple[float, float] = (0.0, 0.0),
    ) -> Geometry:
        """The image sheared, enlarged and turned about its centre, then moved, in a frame as large as it was.

        The angle is in degrees counter-clockwise, `translate` is (down, right) in pixels, `shear` (vertical,
        horizontal) in degrees.
        """
        centre = (source[1] - 1) / 2, (source[0] - 1) / 2
        forward = about_centre(centre, angle=angle, scale=scale, shear=shear[::-1], shift=translate[::-1])
        return Geometry(source, source, (forward.inverse(),))

    @staticmethod
    def perspective(source: Size, corners: Sequence[tuple[float, float]]) -> Geometry:
        """The image as seen at a slant, in a frame as large as it was.

        `corners` are the places (x, y) in the source that come to the outer corners of the frame: top left, top right,
        bottom right, bottom left. Those of the picture itself, of which the first is (-0.5, -0.5), change nothing.

        Raises:
            ValueError: they are not those of a convex figure.
        """
        return Geometry(source, source, (Perspective.onto(source, corners),))

    @staticmethod
    def bending(source: Size, points: Tensor | np.ndarray, spacing: tuple[float, float]) -> Geometry:
        """The image displaced smoothly, by a cubic B-spline.

        `points`, float64 [2, rows, columns], say how far to the right and down of itself a pixel looks; they are
        (vertical, horizontal) `spacing` pixels apart, point (1, 1) on pixel (0, 0), one more ring around the image.
        """
        return Geometry(source, source, (Field(np.asarray(points), spacing),))

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
            onto_source = single_affine(self.stages)
            if onto_source is not None and onto_source.moves_whole_pixels():
                visible = _common(self.shown, _pixels_of(frame, onto_source))
            else:
                clips.append((after.stages, frame))
        return Geometry(self.source, after.size, _join(after.stages, self.stages), visible, tuple(clips))

    def inverse(self) -> Geometry:
        """The way back, where whole pixels were moved: what was cut off stays outside.

        Raises:
            ValueError: pixels were moved by fractions, or bent.
        """
        onto_source = single_affine(self.stages)
        if onto_source is None or not onto_source.moves_whole_pixels():
            raise ValueError(
                "Geometry.inverse: `stages` must move whole pixels (flips, right angles, crops, pads), got "
                f"{self.stages}. Interpolation cannot be undone."
            )
        onto_output = onto_source.inverse()
        visible = None if self.visible is None else _common((0, 0, *self.size), _pixels_of(self.shown, onto_output))
        return Geometry(self.size, self.source, (Affine(*(round(each) for each in onto_output)),), visible)

    @property
    def shown(self) -> Rect:
        """What is visible of the source, written out."""
        return self.visible or (0, 0, *self.source)


@dataclasses.dataclass(frozen=True, eq=False)
class Geometries:
    """A map for each sample of a batch, joined as one."""

    each: tuple[Geometry, ...]

    def then(self, after: Geometries) -> Geometries:
        """Each first, then its own `after`."""
        return Geometries(tuple(one.then(next_) for one, next_ in zip(self.each, after.each, strict=True)))

    @property
    def size(self) -> Size:
        """What comes out of the first."""
        return self.each[0].size


def coordinates(
    stages: tuple[Stage, ...], size: Size, device: torch.device | None = None, rows: slice | None = None
) -> tuple[Tensor, Tensor]:
    """Where the pixels of an output of `size` come from: float64 x and y that broadcast to [height, width].

    While the axes stay apart (crops, flips, scales) x is [1, width] and y is [height, 1], which costs nothing.
    `rows` picks some rows of the output.
    """
    x = torch.arange(size[1], dtype=torch.float64, device=device)[None]
    first, last = (0, size[0]) if rows is None else (rows.start, rows.stop)
    y = torch.arange(first, last, dtype=torch.float64, device=device)[:, None]
    for stage in stages:
        if isinstance(stage, Field):
            right, down = stage.displacement(x, y)
            x, y = x + right, y + down
        elif isinstance(stage, Perspective):
            divisor = _combine(stage.gx, x, stage.gy, y, stage.g).clamp(min=stage.least)
            right, down = _combine(stage.xx, x, stage.xy, y, stage.dx), _combine(stage.yy, y, stage.yx, x, stage.dy)
            x, y = right / divisor, down / divisor
        else:
            x, y = _combine(stage.xx, x, stage.xy, y, stage.dx), _combine(stage.yy, y, stage.yx, x, stage.dy)
    return x, y


def _combine(a: float, x: Tensor, b: float, y: Tensor, offset: float) -> Tensor:
    first = x * a + offset
    return first if b == 0 else first + y * b


def stretch(stages: tuple[Stage, ...], size: Size) -> tuple[float, float]:
    """Source pixels per output pixel in the middle, horizontally and vertically, displacement fields left out."""
    total, middle = IDENTITY, ((size[1] - 1) / 2, (size[0] - 1) / 2)
    for stage in stages:
        if isinstance(stage, Perspective):
            total = stage.near(*total.at(*middle)).after(total)
        elif not isinstance(stage, Field):
            total = stage.after(total)
    return total.spans()


def blur_for(geometry: Geometry) -> tuple[float, float]:
    """Standard deviations (vertical, horizontal) in source pixels that remove what the output is too coarse to show.

    An output pixel that spans m source pixels needs a blur of about m / 2, and the bilinear look-up already blurs by
    the same amount as m = 1 does; variances add up.
    """
    # Up to a fifth smaller, the neighbours would weigh less than 2 %: not worth a pass over the image.
    horizontal, vertical = (
        0.5 * (m**2 - 1) ** 0.5 if m > 1.2 else 0.0 for m in stretch(geometry.stages, geometry.size)
    )
    return vertical, horizontal


def single_affine(stages: tuple[Stage, ...]) -> Affine | None:
    """The one affine map that all stages amount to, or None if a perspective or a displacement field is among them."""
    if not stages:
        return IDENTITY
    return stages[0] if len(stages) == 1 and isinstance(stages[0], Affine) else None


def looks_inside(onto: Affine, size: Size, rect: Rect) -> bool:
    """Do all pixels of an output of `size` show a pixel of the rectangle?"""
    x_low, x_high, y_low, y_high = (each + (0.5 + EPSILON) for each in onto.bounds(0, 0, size[1] - 1, size[0] - 1))
    top, left, bottom, right = rect
    return x_low >= left and x_high < right and y_low >= top and y_high < bottom  # as masks round


def _join(first: tuple[Stage, ...], second: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages of `first`, then those of `second`; neighbouring affine maps become one."""
    joined: list[Stage] = []
    for stage in (*first, *second):
        last = joined[-1] if joined else None
        if isinstance(stage, Affine) and isinstance(last, Affine):
            joined[-1] = stage.after(last)
        else:
            joined.append(stage)
    return tuple(joined)


def _cuts(before: Geometry, after: Geometry, frame: Rect) -> bool:
    """Could `after` look beyond what the frame between the two shows, at something that `before` had left out there?"""
    onto_frame, onto_source = single_affine(after.stages), single_affine(before.stages)
    if onto_frame is not None and looks_inside(onto_frame, after.size, frame):
        return False  # it looks at the inside of the frame only
    if onto_source is None or before.clips:
        return True
    top, left, bottom, right = before.shown
    x_low, x_high, y_low, y_high = onto_source.inverse().bounds(left - 0.5, top - 0.5, right - 0.5, bottom - 0.5)
    top, left, bottom, right = frame
    slack = 0.5 + 1e-6  # if all that was visible lies inside the frame, nothing was left out
    return x_low < left - slack or x_high > right - 0.5 + 1e-6 or y_low < top - slack or y_high > bottom - 0.5 + 1e-6


def _pixels_of(frame: Rect, onto: Affine) -> Rect:
    """The source pixels that a rectangle of whole pixels shows."""
    top, left, bottom, right = frame
    x_low, x_high, y_low, y_high = onto.bounds(left, top, right - 1, bottom - 1)
    return int(y_low), int(x_low), int(y_high) + 1, int(x_high) + 1


def _common(one: Rect, other: Rect) -> Rect:
    top, left = max(one[0], other[0]), max(one[1], other[1])
    return top, left, max(top, min(one[2], other[2])), max(left, min(one[3], other[3]))
