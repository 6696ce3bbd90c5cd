"""The transforms without randomness: each function does one thing to an image and its mask, with the parameters given.

A function is called as f(image, mask=None, ...) with an image [..., C, H, W] and a mask [..., H, W] and returns what it
was given. The classes of `segkit.transforms` draw the parameters and do the same.

Example:
    >>> import torch
    >>> from segkit.transforms import functional
    >>> image, mask = torch.rand(3, 4, 6), torch.zeros(4, 6, dtype=torch.uint8)
    >>> image, mask = functional.crop(image, mask, top=1, left=2, size=(2, 3))
    >>> image.shape, mask.shape
    (torch.Size([3, 2, 3]), torch.Size([2, 3]))
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._base import given, image_size
from segkit.transforms._objects.targets import border_weights, component_regions, distance_maps, skeleton
from segkit.transforms._pixels import (
    add_noise,
    adjust_color,
    adjust_gamma,
    cutout,
    equalize_tiles,
    gaussian_blur,
    normalize,
)
from segkit.transforms._resampling.bicubic import as_interpolation
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.inputs import as_number, as_size, check_fill, check_image_fill, check_pair
from segkit.transforms._resampling.resample import resample

__all__ = [
    "add_noise",
    "adjust_color",
    "adjust_gamma",
    "affine",
    "apply_geometry",
    "border_weights",
    "component_regions",
    "crop",
    "cutout",
    "distance_maps",
    "equalize_tiles",
    "flip",
    "gaussian_blur",
    "normalize",
    "pad",
    "resize",
    "rotate90",
    "skeleton",
]


def apply_geometry(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    geometry: Geometry,
    antialias: bool = True,
    image_fill: float | str = 0.0,
    mask_fill: int = IGNORE_INDEX,
) -> Any:
    """Move image and mask by one map: what `draw` of a geometric transform gave, or several joined by `then`.

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        geometry: made for images of this height and width.
        antialias: blur the image by as much as the map shrinks it.
        image_fill: value of image pixels that come from outside, or "reflect" or "replicate".
        mask_fill: value of mask pixels that come from outside.

    Example:
        >>> import torch
        >>> from segkit.transforms import RandomCrop
        >>> image = torch.rand(3, 8, 8)
        >>> geometry = RandomCrop(4).draw((8, 8))
        >>> torch.equal(apply_geometry(image, geometry=geometry), apply_geometry(image, geometry=geometry))
        True
    """
    check_pair("apply_geometry", image, mask)
    if geometry.source != image_size(image):
        raise ValueError(
            f"apply_geometry: `geometry` must be made for the image's size {image_size(image)}, got one for "
            f"{geometry.source}. Draw it for this image."
        )
    check_image_fill("apply_geometry", image, image_fill)
    check_fill("apply_geometry", mask, mask_fill)
    return _move(image, mask, geometry, antialias=antialias, image_fill=image_fill, mask_fill=mask_fill)


def resize(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    size: int | Size,
    antialias: bool = True,
    interpolation: str = "bilinear",
) -> Any:
    """The whole picture at another size: the image bilinear or bicubic, the mask nearest, pixel centres aligned.

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        size: (height, width) of the result in pixels; an int is a square.
        antialias: blur the image by as much as it shrinks.
        interpolation: of the image, "bilinear" or "bicubic".

    Example:
        >>> import torch
        >>> resize(torch.zeros(13, 100, 101), size=(50, 60)).shape
        torch.Size([13, 50, 60])
    """
    check_pair("resize", image, mask)
    word, geometry = (
        as_interpolation("resize", interpolation),
        Geometry.scaling(image_size(image), as_size("resize", size)),
    )
    return given(*resample(image, mask, geometry, antialias=antialias, interpolation=word))


def crop(image: Tensor, mask: Tensor | None = None, *, top: int, left: int, size: int | Size) -> Any:
    """The rows [top, top + height) and columns [left, left + width).

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        top: first row.
        left: first column.
        size: (height, width) of the crop in pixels; an int is a square.

    Raises:
        ValueError: the crop reaches beyond the image.

    Example:
        >>> import torch
        >>> crop(torch.arange(9).reshape(1, 3, 3), top=1, left=0, size=(1, 2)).tolist()
        [[[3, 4]]]
    """
    check_pair("crop", image, mask)
    height, width = as_size("crop", size)
    source = image_size(image)
    if not (0 <= top <= source[0] - height and 0 <= left <= source[1] - width):
        raise ValueError(
            f"crop: `size` must fit into the image {source} from row {top}, column {left}, got {(height, width)}. "
            "Pad the image first."
        )
    return _move(image, mask, Geometry.window(source, top, left, (height, width)))


def flip(image: Tensor, mask: Tensor | None = None, *, horizontal: bool = False, vertical: bool = False) -> Any:
    """The picture mirrored: left and right exchanged (horizontal), top and bottom exchanged (vertical).

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        horizontal: exchange left and right.
        vertical: exchange top and bottom.

    Example:
        >>> import torch
        >>> flip(torch.tensor([[[1, 2], [3, 4]]]), horizontal=True).tolist()
        [[[2, 1], [4, 3]]]
    """
    check_pair("flip", image, mask)
    return _move(image, mask, Geometry.flipping(image_size(image), horizontal=horizontal, vertical=vertical))


def pad(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    image_fill: float | str = 0.0,
    mask_fill: int = IGNORE_INDEX,
) -> Any:
    """A margin around the picture.

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        top: rows above.
        bottom: rows below.
        left: columns to the left.
        right: columns to the right.
        image_fill: value of the margin in the image, or "reflect" or "replicate".
        mask_fill: value of the margin in the mask.

    Raises:
        ValueError: a margin is negative.

    Example:
        >>> import torch
        >>> pad(torch.ones(1, 1, 1), top=1, right=2).tolist()
        [[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]
    """
    check_pair("pad", image, mask)
    if min(top, bottom, left, right) < 0:
        raise ValueError(
            f"pad: `top`, `bottom`, `left` and `right` must be at least 0, got {(top, bottom, left, right)}. "
            "Use crop to cut off."
        )
    height, width = image_size(image)
    geometry = Geometry.window((height, width), -top, -left, (height + top + bottom, width + left + right))
    check_image_fill("pad", image, image_fill)
    check_fill("pad", mask, mask_fill)
    return _move(image, mask, geometry, image_fill=image_fill, mask_fill=mask_fill)


def rotate90(image: Tensor, mask: Tensor | None = None, *, quarters: int) -> Any:
    """The picture turned counter-clockwise by right angles; an odd number exchanges height and width.

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        quarters: how many right angles.

    Example:
        >>> import torch
        >>> rotate90(torch.tensor([[[1, 2], [3, 4]]]), quarters=1).tolist()
        [[[2, 4], [1, 3]]]
    """
    check_pair("rotate90", image, mask)
    return _move(image, mask, Geometry.turning(image_size(image), quarters))


def affine(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    angle: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
    antialias: bool = True,
    image_fill: float | str = 0.0,
    mask_fill: int = IGNORE_INDEX,
) -> Any:
    """The picture sheared, enlarged and turned about its centre, then moved, in a frame as large as it was.

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        angle: degrees, counter-clockwise.
        translate: (down, right) in pixels.
        scale: enlargement.
        shear: (vertical, horizontal) in degrees.
        antialias: blur the image by as much as it shrinks.
        image_fill: value of image pixels that come from outside, or "reflect" or "replicate".
        mask_fill: value of mask pixels that come from outside.

    Example:
        >>> import torch
        >>> affine(torch.tensor([[[1, 2, 3]]]), torch.tensor([[1, 2, 3]]), translate=(0, 1))
        (tensor([[[0, 1, 2]]]), tensor([[255,   1,   2]]))
    """
    check_pair("affine", image, mask)
    check_image_fill("affine", image, image_fill)
    check_fill("affine", mask, mask_fill)
    geometry = Geometry.affine(
        image_size(image),
        angle=as_number("affine", "angle", angle),
        translate=(as_number("affine", "translate", translate[0]), as_number("affine", "translate", translate[1])),
        scale=as_number("affine", "scale", scale, 1e-3, 1e3),
        shear=(as_number("affine", "shear", shear[0], -80, 80), as_number("affine", "shear", shear[1], -80, 80)),
    )
    return _move(image, mask, geometry, antialias=antialias, image_fill=image_fill, mask_fill=mask_fill)


def _move(
    image: Tensor,
    mask: Tensor | None,
    geometry: Geometry,
    *,
    antialias: bool = True,
    image_fill: float | str = 0.0,
    mask_fill: int = IGNORE_INDEX,
) -> Any:
    moved = resample(image, mask, geometry, image_fill=image_fill, mask_fill=mask_fill, antialias=antialias)
    return given(*moved)
