"""A transform that has been drawn for a picture before the picture is read: which window it needs, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit.transforms._resampling.geometry import Geometry, single_affine
from segkit.transforms._resampling.inputs import check_fill, check_image_fill, check_pair
from segkit.transforms._resampling.resample import resample
from segkit.transforms._resampling.support import looked_at, within

Pair = tuple[Tensor, Tensor | None]


class Plan:
    """What `plan` of a transform returns: call it with the pixels of its window, and it gives the finished sample.

    A data set asks a transform ``plan((height, width), generator=..., find_mask=...)`` before it reads, and reads no
    more than ``window``. Any transform may answer: what it returns needs a ``window`` and to be called with the image
    [C, h, w] and the mask [h, w] of that window.

    Attributes:
        window: (top, left, height, width) of the part of the picture that the result depends on.
        takes_stored: the call also takes the image as a file holds it, an array [h, w, C] with the ``top`` that stands
            for 1; then scaling waits for the final crop.

    Example:
        >>> from segkit.transforms import CenterCrop
        >>> plan = CenterCrop(2).plan((4, 6))
        >>> plan.window
        (1, 2, 2, 2)
        >>> image, mask = plan(torch.ones(3, 2, 2), torch.zeros(2, 2, dtype=torch.uint8))
        >>> image.shape
        torch.Size([3, 2, 2])
    """

    takes_stored = True

    def __init__(
        self,
        geometry: Geometry,
        *,
        members: Sequence[Any],
        fills: tuple[float | str, int] | None = None,
        antialias: bool = True,
        pointwise: Callable[[Tensor], Tensor] | None = None,
        then: Callable[[Tensor, Tensor | None], Any] | None = None,
    ) -> None:
        self.geometry = geometry
        self.window = looked_at(geometry, antialias=antialias)
        self._members, self._antialias = members, antialias
        self._image_fill, self._mask_fill = fills or (0.0, 255)
        self._pointwise, self._then = pointwise, then

    def __call__(self, image: Tensor | np.ndarray, mask: Tensor | None, *, top: float | None = None) -> Any:
        """The finished image and mask, from the pixels of the window.

        Args:
            image: [C, h, w]; or, with `top`, an array [h, w, C] as stored.
            mask: [h, w] integers.
            top: the stored value that stands for 1.
        """
        if isinstance(image, np.ndarray):
            image, mask = self._stored(image, mask, 1.0 if top is None else top)
        else:
            self._check(image, mask)
            image, mask = self._moved(image, mask)
            image = image if self._pointwise is None else self._pointwise(image)
        return (image, mask) if self._then is None else self._then(image, mask)

    def _stored(self, pixels: np.ndarray, mask: Tensor | None, top: float) -> Pair:
        """Bytes until the end: pixels that only move are scaled after the cut, all others before they are mixed."""
        planes = _planes(pixels)
        affine = single_affine(self.geometry.stages)
        only_move = affine is not None and affine.moves_whole_pixels() and self._image_fill == 0
        if not only_move or pixels.dtype.kind == "f":
            image = _scaled(planes, top, None)
            self._check(image, mask)
            image, mask = self._moved(image, mask)
            return (image if self._pointwise is None else self._pointwise(image)), mask
        # What moves is bits, whatever they mean; torch moves int16 and int32, but not uint16 and uint32.
        wide = planes.dtype.kind == "u" and planes.dtype.itemsize > 1
        bits = torch.from_numpy(planes.view(f"i{planes.dtype.itemsize}") if wide else planes)
        self._check(bits, mask)
        moved, mask = self._moved(bits, mask)
        return _scaled(moved.numpy().view(planes.dtype), top, self._pointwise), mask

    def _moved(self, image: Tensor, mask: Tensor | None) -> Pair:
        return resample(
            image,
            mask,
            within(self.geometry, self.window),
            image_fill=self._image_fill,
            mask_fill=self._mask_fill,
            antialias=self._antialias,
        )

    def _check(self, image: Tensor, mask: Tensor | None) -> None:
        for member in self._members:
            check_pair(type(member).__name__, image, mask)
            if member.fills:
                check_image_fill(type(member).__name__, image, member.image_fill)
                check_fill(type(member).__name__, mask, member.mask_fill)


def _planes(pixels: np.ndarray) -> np.ndarray:
    """[C, h, w] of its own from [h, w, C]."""
    height, width, channels = pixels.shape
    if channels == 1:
        return np.ascontiguousarray(pixels).reshape(1, height, width)
    if pixels.dtype not in (np.uint8, np.uint16, np.int16, np.float32) or channels > 512:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    planes = np.empty((channels, height, width), pixels.dtype)
    cv2.split(np.ascontiguousarray(pixels), list(planes))  # five times as fast as transposing
    return planes


def _scaled(planes: np.ndarray, top: float, pointwise: Callable[[Tensor], Tensor] | None) -> Tensor:
    """The planes over `top` in float32, then `pointwise`, in one pass where there are few different values."""
    out = np.empty(planes.shape, np.float32)
    if planes.dtype == np.uint8 and planes[0].size > 256:
        values = np.divide(np.arange(256, dtype=np.float32), np.float32(top), dtype=np.float32)
        table = torch.from_numpy(values).expand(len(planes), 1, 256)
        rows = (table if pointwise is None else pointwise(table)).numpy()[:, 0]
        for plane, row, each in zip(planes, rows, out, strict=True):
            cv2.LUT(plane, np.ascontiguousarray(row), each)
        return torch.from_numpy(out)
    if planes.dtype.kind == "f":
        np.copyto(out, planes, casting="same_kind")
    else:
        wide = np.float32 if planes.dtype.itemsize <= 2 else np.float64
        np.divide(planes, wide(top), out=out, dtype=wide, casting="unsafe")
    image = torch.from_numpy(out)
    return image if pointwise is None else pointwise(image)
