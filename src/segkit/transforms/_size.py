"""Transforms that set the size: resize, crop, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._base import GeometricTransform, SizedTransform
from segkit.transforms._resampling.bicubic import as_interpolation
from segkit.transforms._resampling.chance import integer
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.inputs import as_fill, as_number, as_size, as_whole


class Resize(SizedTransform):
    """The whole picture at another size: the image bilinear or bicubic with antialiasing, the mask nearest.

    Args:
        size: (height, width) of the result in pixels; an int is a square.
        antialias: blur the image by as much as it shrinks, so that fine texture does not turn into false patterns.
        interpolation: of the image, "bilinear", or "bicubic" as torch's `interpolate` does it. What is bicubic is
            resized by itself, not joined with its neighbours; it may overshoot, and integers are cut off where their
            dtype ends, or 16 bits that live in int32.

    `Resize(256)` gives a square, here; `ResizeKeepRatio` keeps the picture's shape.

    Example:
        >>> image = torch.arange(16.0).reshape(1, 4, 4)
        >>> mask = torch.tensor([[0, 0, 1, 1]] * 4)
        >>> resized, labels = Resize(8)(image, mask)
        >>> resized.shape, labels[0].tolist()
        (torch.Size([1, 8, 8]), [0, 0, 0, 0, 1, 1, 1, 1])
    """

    def __init__(self, size: int | Size, *, antialias: bool = True, interpolation: str = "bilinear") -> None:
        self.size = as_size("Resize", size)
        self.antialias = antialias
        self.interpolation = as_interpolation("Resize", interpolation)

    def draw(
        self, source: Size, *, generator: torch.Generator | None = None, size: int | Size | None = None
    ) -> Geometry:
        """The map of one call."""
        return Geometry.scaling(source, self.wanted(size))


class ResizeKeepRatio(GeometricTransform):
    """The whole picture larger or smaller, both sides by one factor, as other libraries' `Resize(256)` does it.

    Args:
        shortest: length of the shorter side of the result, in pixels.
        longest: length of the longer side. With both, the shorter side gets its length unless the longer would then
            exceed its own.
        antialias: blur the image by as much as it shrinks.
        interpolation: of the image, "bilinear" or "bicubic", as in `Resize`.

    Example:
        >>> ResizeKeepRatio(shortest=30)(torch.zeros(3, 60, 120)).shape
        torch.Size([3, 30, 60])
        >>> ResizeKeepRatio(shortest=30, longest=40)(torch.zeros(3, 60, 120)).shape
        torch.Size([3, 20, 40])
    """

    def __init__(
        self,
        shortest: int | None = None,
        longest: int | None = None,
        *,
        antialias: bool = True,
        interpolation: str = "bilinear",
    ) -> None:
        if shortest is None and longest is None:
            raise ValueError("ResizeKeepRatio: `shortest` or `longest` must be given, got neither. Pass shortest=256.")
        name = "ResizeKeepRatio"
        self.shortest = None if shortest is None else as_size(name, shortest, "shortest")[0]
        self.longest = None if longest is None else as_size(name, longest, "longest")[0]
        self.antialias = antialias
        self.interpolation = as_interpolation(name, interpolation)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        wanted = ((self.shortest, min(source)), (self.longest, max(source)))
        factor = min(length / side for length, side in wanted if length is not None)
        height, width = (max(1, round(side * factor)) for side in source)
        return Geometry.scaling(source, (height, width))


class CenterCrop(SizedTransform):
    """The middle of the picture.

    Args:
        size: (height, width) of the crop in pixels; an int is a square.

    Example:
        >>> CenterCrop(2)(torch.arange(16).reshape(1, 4, 4)).tolist()
        [[[5, 6], [9, 10]]]
    """

    def __init__(self, size: int | Size) -> None:
        self.size = as_size("CenterCrop", size)

    def draw(
        self, source: Size, *, generator: torch.Generator | None = None, size: int | Size | None = None
    ) -> Geometry:
        """The map of one call."""
        height, width = fitting("CenterCrop", source, self.wanted(size))
        return Geometry.window(source, (source[0] - height) // 2, (source[1] - width) // 2, (height, width))


class RandomCrop(SizedTransform):
    """A window at a random place; with `focus_class`, one that contains this class if the mask does.

    The focus is one pixel of the class, all equally likely; the window is placed at random around it. Of several
    classes that are there, each is equally likely.

    Args:
        size: (height, width) of the crop in pixels; an int is a square.
        focus_class: class index that the crop must contain, or several, of which it must contain one. A mask without
            them is cropped anywhere. The call keyword of the same name replaces it for one call, as a sampler that
            balances classes does.
        min_labelled: the least share of pixels that are not ignored. Ten places are tried; if none will do, the window
            lies around one labelled pixel, so that no crop is ignored altogether while the mask is not.
        ignore_index: label of pixels that count nowhere.

    Raises:
        ValueError: the image is smaller than the crop (put `PadTo` before it), or there is a focus but no mask.

    Example:
        >>> mask = torch.zeros(64, 64, dtype=torch.uint8)
        >>> mask[50, 3] = 2
        >>> crop = RandomCrop(16, focus_class=2)
        >>> image, labels = crop(torch.zeros(1, 64, 64), mask, generator=torch.Generator().manual_seed(0))
        >>> (labels == 2).sum().item()
        1
    """

    focused = True

    def __init__(
        self,
        size: int | Size,
        *,
        focus_class: int | Sequence[int] | None = None,
        min_labelled: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.size = as_size("RandomCrop", size)
        self.focus_class = _classes(focus_class)
        self.min_labelled = as_number("RandomCrop", "min_labelled", min_labelled, 0, 1)
        self.ignore_index = as_whole("RandomCrop", "ignore_index", ignore_index)

    def draw(
        self,
        source: Size,
        *,
        generator: torch.Generator | None = None,
        size: int | Size | None = None,
        focus_class: int | Sequence[int] | None = None,
        mask: Tensor | None = None,
    ) -> Geometry:
        """The map of one call; a focus needs the mask."""
        height, width = fitting("RandomCrop", source, self.wanted(size))
        focus = self.focus_class if focus_class is None else _classes(focus_class)
        labelled = None if mask is None or self.min_labelled == 0 else mask != self.ignore_index
        for _ in range(1 if labelled is None else 10):
            anchor = None if focus is None else _pixel_of(focus, mask, generator)
            top, left = self._place(source, (height, width), anchor, generator)
            inside = (..., slice(top, top + height), slice(left, left + width))
            if labelled is None or labelled[inside].double().mean() >= self.min_labelled:
                return Geometry.window(source, top, left, (height, width))
        assert labelled is not None
        top, left = self._place(source, (height, width), _one_of(labelled, generator), generator)
        return Geometry.window(source, top, left, (height, width))

    def needs_mask(self, focus_class: int | Sequence[int] | None) -> bool:
        """Does a call with this `focus_class` look at the mask?"""
        return self.min_labelled > 0 or super().needs_mask(focus_class)

    @staticmethod
    def _place(
        source: Size, size: Size, anchor: tuple[int, int] | None, generator: torch.Generator | None
    ) -> tuple[int, int]:
        """The top left pixel of a window that contains `anchor`, anywhere it can be."""
        if anchor is None:
            return integer(source[0] - size[0] + 1, generator), integer(source[1] - size[1] + 1, generator)
        top = _around(anchor[0], size[0], source[0], generator)
        return top, _around(anchor[1], size[1], source[1], generator)


class PadTo(SizedTransform):
    """At least this size: smaller pictures get a margin, larger sides stay as they are.

    Args:
        size: smallest (height, width) of the result in pixels; an int is a square.
        center: put half of the margin above and to the left, instead of all of it below and to the right.
        image_fill: value of the margin in the image; "reflect" mirrors the picture at its edge, "replicate" repeats the
            edge. The mask has `mask_fill` there all the same.
        mask_fill: value of the margin in the mask.

    Example:
        >>> image, mask = PadTo((2, 3))(torch.ones(1, 1, 2), torch.zeros(1, 2, dtype=torch.uint8))
        >>> mask.tolist()
        [[0, 0, 255], [255, 255, 255]]
    """

    fills = True

    def __init__(
        self, size: int | Size, *, center: bool = False, image_fill: float | str = 0.0, mask_fill: int = IGNORE_INDEX
    ) -> None:
        self.size = as_size("PadTo", size)
        self.center = center
        self.image_fill = as_fill("PadTo", image_fill)
        self.mask_fill = as_whole("PadTo", "mask_fill", mask_fill)

    def draw(
        self, source: Size, *, generator: torch.Generator | None = None, size: int | Size | None = None
    ) -> Geometry:
        """The map of one call."""
        wanted = self.wanted(size)
        return padding(source, (max(source[0], wanted[0]), max(source[1], wanted[1])), center=self.center)


class PadToMultiple(GeometricTransform):
    """Height and width rounded up to a multiple, as networks that halve the picture n times need it (2**n).

    Args:
        multiple_of: what height and width of the result are multiples of, in pixels.
        center: put half of the margin above and to the left, instead of all of it below and to the right.
        image_fill: value of the margin in the image; "reflect" mirrors the picture at its edge, "replicate" repeats the
            edge. The mask has `mask_fill` there all the same.
        mask_fill: value of the margin in the mask.

    Example:
        >>> PadToMultiple(32)(torch.zeros(3, 33, 64)).shape
        torch.Size([3, 64, 64])
    """

    fills = True

    def __init__(
        self, multiple_of: int, *, center: bool = False, image_fill: float | str = 0.0, mask_fill: int = IGNORE_INDEX
    ) -> None:
        self.multiple_of = as_size("PadToMultiple", multiple_of, "multiple_of")[0]
        self.center = center
        self.image_fill = as_fill("PadToMultiple", image_fill)
        self.mask_fill = as_whole("PadToMultiple", "mask_fill", mask_fill)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        height, width = (-(-length // self.multiple_of) * self.multiple_of for length in source)
        return padding(source, (height, width), center=self.center)


def padding(source: Size, size: Size, *, center: bool) -> Geometry:
    """The source inside a frame of `size` that is at least as large."""
    top, left = ((size[0] - source[0]) // 2, (size[1] - source[1]) // 2) if center else (0, 0)
    return Geometry.window(source, -top, -left, size)


def fitting(name: str, source: Size, size: Size) -> Size:
    """The size of a crop, if the image is as large."""
    if size[0] > source[0] or size[1] > source[1]:
        raise ValueError(
            f"{name}: `size` must not exceed the image's height and width {source}, got {size}. "
            f"Put PadTo({size}) before it."
            + (" If the channel axis stands last, pass image.movedim(-1, -3)." if source[1] <= 4 < source[0] else "")
        )
    return size


def _classes(focus_class: Any) -> int | tuple[int, ...] | None:
    if focus_class is None or not isinstance(focus_class, Sequence):
        return None if focus_class is None else as_whole("RandomCrop", "focus_class", focus_class)
    classes = tuple(as_whole("RandomCrop", "focus_class", each) for each in focus_class)
    if not classes:
        raise ValueError("RandomCrop: `focus_class` must name at least one class, got none. Pass None for any.")
    return classes


def _pixel_of(
    focus: int | tuple[int, ...], mask: Tensor | None, generator: torch.Generator | None
) -> tuple[int, int] | None:
    """(row, column) of one of the class's pixels, each equally likely; None if there are none."""
    if mask is None:
        raise ValueError(
            f"RandomCrop: `mask` must be given to find focus_class={focus}, got None. Call it with a mask."
        )
    if isinstance(focus, tuple):
        there = [each for each in focus if bool((mask == each).any())]
        if not there:
            return None
        focus = there[integer(len(there), generator)]
    return _one_of(mask == focus, generator)


def _one_of(wanted: Tensor, generator: torch.Generator | None) -> tuple[int, int] | None:
    """(row, column) of one of the pixels that are True, each equally likely; None if there are none."""
    found = wanted.flatten().nonzero()[:, 0]
    if len(found) == 0:
        return None
    pixel = int(found[integer(len(found), generator)])
    height, width = wanted.shape[-2:]
    return pixel // width % height, pixel % width


def _around(anchor: int, length: int, available: int, generator: torch.Generator | None) -> int:
    """The first pixel of a window that contains `anchor`, anywhere it can be."""
    first = max(0, anchor - length + 1)
    last = min(anchor, available - length)
    return first + integer(last - first + 1, generator)
