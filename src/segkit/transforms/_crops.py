"""One picture as a stack of crops: five, ten (mirrored too), and the boxes that say where they were."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from segkit.transforms._base import Pair, Transform, image_size
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.inputs import as_number, as_size
from segkit.transforms._resampling.resample import resample
from segkit.transforms._size import fitting


class CropBox(NamedTuple):
    """Where a crop was taken: the rows [top, top + height), the columns [left, left + width), mirrored or not.

    Example:
        >>> FiveCrop(2).geometry((4, 6))[-1]
        CropBox(top=1, left=2, height=2, width=2, mirrored=False)
    """

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False


class CropStack(Transform):
    """A transform that gives K crops: image [..., K, C, h, w] and mask [..., K, h, w]. Subclasses say where."""

    sized = True
    moves = True
    draws = False

    def geometry(self, source: Size, *, size: int | Size | None = None) -> tuple[CropBox, ...]:
        """The K boxes for an image of (height, width) `source`: what `merge_crops` needs to put crops back."""
        raise TypeError(f"{type(self).__name__} does not say where its crops are: implement geometry.")

    def apply(
        self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None, size: int | Size | None = None
    ) -> Pair:
        """The crops, with the K axis before the channels."""
        source = image_size(image)
        maps = [_map(source, box) for box in self.geometry(source, size=size)]
        crops, masks = zip(*(resample(image, mask, each) for each in maps), strict=True)
        return torch.stack(crops, -4), None if mask is None else torch.stack(masks, image.ndim - 3)


class FiveCrop(CropStack):
    """The four corners and the centre, in the order top left, top right, bottom left, bottom right, centre.

    Args:
        size: (height, width) of each crop in pixels; an int is a square.

    Returns:
        Image [..., 5, C, h, w] and mask [..., 5, h, w], always with the K axis.

    Example:
        >>> crops, masks = FiveCrop(2)(torch.arange(12).reshape(1, 3, 4), torch.zeros(3, 4, dtype=torch.uint8))
        >>> crops.shape, masks.shape
        (torch.Size([5, 1, 2, 2]), torch.Size([5, 2, 2]))
        >>> crops[:, 0, 0, 0].tolist()
        [0, 2, 4, 6, 1]
    """

    def __init__(self, size: int | Size) -> None:
        self.size = as_size("FiveCrop", size)

    def geometry(self, source: Size, *, size: int | Size | None = None) -> tuple[CropBox, ...]:
        """The five boxes for an image of (height, width) `source`."""
        return _five("FiveCrop", source, self.wanted(size))


class TenCrop(CropStack):
    """The five crops of `FiveCrop`, then the same five mirrored left to right.

    Args:
        size: (height, width) of each crop in pixels; an int is a square.

    Returns:
        Image [..., 10, C, h, w] and mask [..., 10, h, w], always with the K axis.

    Example:
        >>> crops = TenCrop(2)(torch.arange(12).reshape(1, 3, 4))
        >>> crops[0, 0, 0].tolist(), crops[5, 0, 0].tolist()
        ([0, 1], [1, 0])
    """

    def __init__(self, size: int | Size) -> None:
        self.size = as_size("TenCrop", size)

    def geometry(self, source: Size, *, size: int | Size | None = None) -> tuple[CropBox, ...]:
        """The ten boxes for an image of (height, width) `source`."""
        boxes = _five("TenCrop", source, self.wanted(size))
        return (*boxes, *(box._replace(mirrored=True) for box in boxes))


class GridCrop(CropStack):
    """Crops side by side that cover the whole picture, evenly spread, overlapping by at least `overlap`.

    Args:
        size: (height, width) of each crop in pixels; an int is a square.
        overlap: an int is a number of pixels, a float a fraction of the crop's side, in [0, 1).

    Returns:
        Image [..., K, C, h, w] and mask [..., K, h, w], row by row; K depends on the picture's size.

    Example:
        >>> GridCrop(4, 1)(torch.zeros(1, 7, 10)).shape
        torch.Size([6, 1, 4, 4])
        >>> [box[:2] for box in GridCrop(4, 1).geometry((7, 10))]
        [(0, 0), (0, 3), (0, 6), (3, 0), (3, 3), (3, 6)]
    """

    def __init__(self, size: int | Size, overlap: int | float = 0.25) -> None:
        self.size = as_size("GridCrop", size)
        self.overlap = overlap
        as_number("GridCrop", "overlap", overlap, 0)
        self._steps(self.size)

    def geometry(self, source: Size, *, size: int | Size | None = None) -> tuple[CropBox, ...]:
        """The boxes for an image of (height, width) `source`."""
        wanted = fitting("GridCrop", source, self.wanted(size))
        rows, columns = (
            _spread(length, side, step) for length, side, step in zip(source, wanted, self._steps(wanted), strict=True)
        )
        return tuple(CropBox(top, left, *wanted) for top in rows for left in columns)

    def _steps(self, size: Size) -> list[int]:
        """The largest distance between neighbouring crops, down and to the right."""
        fraction = isinstance(self.overlap, float)
        steps = [side - math.ceil(self.overlap * side if fraction else self.overlap) for side in size]
        if min(steps) < 1:
            raise ValueError(
                f"GridCrop: `overlap` must be smaller than the crop {size}, got {self.overlap!r}. "
                "An int counts pixels, a float is a fraction of the side."
            )
        return steps


def _spread(length: int, side: int, step: int) -> list[int]:
    """Where windows of `side` begin that cover [0, length), at most `step` apart."""
    gaps = -(-(length - side) // step)
    return [i * (length - side) // gaps for i in range(gaps + 1)] if gaps else [0]


def _five(name: str, source: Size, size: Size) -> tuple[CropBox, ...]:
    height, width = fitting(name, source, size)
    bottom, right = source[0] - height, source[1] - width
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return tuple(CropBox(top, left, height, width) for top, left in places)


def _map(source: Size, box: CropBox) -> Geometry:
    window = Geometry.window(source, box.top, box.left, (box.height, box.width))
    return window.then(Geometry.flipping(window.size, horizontal=True)) if box.mirrored else window
