"""Where each output pixel comes from: sizes, a chain of matrices and displacement fields, and frames that clip.

A pixel has its centre at its index: x runs to the right and y down, pixel (0, 0) covers [-0.5, 0.5) on both axes.
A geometry leads from an *output* pixel back to the place in the source image where its value is found. Two geometries
are joined without touching a pixel, so a chain of transforms is resampled once.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from segkit.transforms._field import Field

Size = tuple[int, int]
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
        clips: frames in between: (stages from the output to the frame, size of the frame). What lies outside of a
            frame was cut away there, even where the source image has something to show.

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
    clips: tuple[tuple[tuple[Stage, ...], Size], ...] = ()

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
        clips = [*after.clips, *((_join(after.stages, stages), frame) for stages, frame in self.clips)]
        if _frame_cuts(self, after):
            clips.append((after.stages, self.size))
        return Geometry(self.source, after.size, _join(after.stages, self.stages), tuple(clips))


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


def nearest(places: Tensor) -> Tensor:
    """The index of the pixel that covers each place; on the edge between two pixels, the later one."""
    return (places + (0.5 + EPSILON)).floor_().to(torch.int64)


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


def covers(frame: Size, x: np.ndarray, y: np.ndarray) -> bool:
    """Do all these places lie on pixels of the frame?"""
    low, high = -0.5 - EPSILON, -0.5 - EPSILON  # as `nearest` rounds
    inside = (x >= low) & (x < frame[1] + high) & (y >= low) & (y < frame[0] + high)
    return bool(inside.all())


def _join(first: tuple[Stage, ...], second: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages of `first`, then those of `second`; neighbouring matrices become one."""
    joined: list[Stage] = []
    for stage in (*first, *second):
        if joined and not isinstance(stage, Field) and not isinstance(joined[-1], Field):
            joined[-1] = stage @ joined[-1]
        else:
            joined.append(stage)
    return tuple(joined)


def _frame_cuts(before: Geometry, after: Geometry) -> bool:
    """Could `after` look beyond the frame between the two, at something that `before` has left out there?"""
    onto_frame, onto_source = single_matrix(after.stages), single_matrix(before.stages)
    if onto_frame is not None and covers(before.size, *corners(onto_frame, after.size)):
        return False  # it looks at the inside of the frame only
    if onto_source is not None and not before.clips:
        height, width = before.source
        edges = np.array([[-0.5, width - 0.5] * 2, [-0.5] * 2 + [height - 0.5] * 2, [1] * 4], np.float64)
        x, y, _ = np.linalg.solve(onto_source, edges)
        height, width = before.size
        slack = 1e-6
        if min(x.min(), y.min()) >= -0.5 - slack and x.max() <= width - 0.5 + slack and y.max() <= height - 0.5 + slack:
            return False  # the whole source lies inside the frame, so nothing was left out
    return True
