"""Apply a geometry to an image and its mask: exactly where no interpolation is needed, otherwise once.

The image is bilinear, blurred beforehand by just as much as the map shrinks it; the mask takes the nearest pixel of a
float64 map. Both agree on what lies outside: where the mask gets its fill, the image gets its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segkit.transforms._resampling import bicubic, by_opencv
from segkit.transforms._resampling.by_torch import Places, moves_whole_pixels
from segkit.transforms._resampling.extend import extended
from segkit.transforms._resampling.geometry import Geometries, Geometry, blur_for, single_affine
from segkit.transforms._resampling.nearest import fill_where, look_up, outside


def resample(
    image: Tensor,
    mask: Tensor | None,
    geometry: Geometry | Geometries,
    *,
    image_fill: float | str = 0.0,
    mask_fill: int = 255,
    antialias: bool = True,
    interpolation: str = "bilinear",
) -> tuple[Tensor, Tensor | None]:
    """The image [..., C, H, W] and its mask [..., H, W] after `geometry`, in their own dtypes.

    An `image_fill` of "reflect" or "replicate" lets the image go on beyond its edge; the mask has `mask_fill` there.
    With "bicubic" as `interpolation` the geometry is a scaling of the whole image.
    With `Geometries` each sample of a batch, image [B, C, H, W], goes its own way, all of them at once.
    """
    if interpolation == "bicubic" and geometry.size != image.shape[-2:]:
        labels = None if mask is None else resample_mask(mask, geometry, mask_fill)
        return bicubic.resized(image, geometry.size, antialias=antialias), labels
    if isinstance(image_fill, str):
        labels = None if mask is None else resample_mask(mask, geometry, mask_fill)
        image, onto_extended = extended(image, geometry, image_fill, antialias=antialias)
        return resample(image, None, onto_extended, antialias=antialias)[0], labels
    if isinstance(geometry, Geometries):
        return _each(image, mask, geometry, image_fill, mask_fill, antialias)
    moved = _moved_whole(image, geometry, image_fill)
    if moved is not None:
        hidden = outside(geometry, image.device, whole=True)
        labels = None if mask is None else resample_mask(mask, geometry, mask_fill)
        return fill_where(moved, hidden, image_fill), labels
    if not by_opencv.takes(image, geometry.size):  # a batch of one
        one = image.reshape(1, math.prod(image.shape[:-2]), *image.shape[-2:])
        moved, _ = _each(one, None, Geometries((geometry,)), image_fill, mask_fill, antialias)
        labels = None if mask is None else resample_mask(mask, geometry, mask_fill)
        return moved.reshape(*image.shape[:-2], *geometry.size), labels
    labels, hidden = (None, None) if mask is None else look_up(mask, geometry, mask_fill)
    if mask is None or mask.device != image.device:
        hidden = outside(geometry)
    if image.dtype == torch.bool:  # between True and False there is nothing to interpolate
        return look_up(image, geometry, image_fill)[0], labels
    sigma = blur_for(geometry) if antialias else (0.0, 0.0)
    return fill_where(by_opencv.sample(image, geometry, sigma), hidden, image_fill), labels


def resample_mask(mask: Tensor, geometry: Geometry | Geometries, fill: int) -> Tensor:
    """The mask [..., H, W] alone."""
    if isinstance(geometry, Geometries):
        return _nearest(Places(geometry.each, mask.device), mask, fill)
    moved = _moved_whole(mask, geometry, fill)
    if moved is not None:
        return fill_where(moved, outside(geometry, mask.device, whole=True), fill)
    return look_up(mask, geometry, fill)[0]


def _each(
    images: Tensor, masks: Tensor | None, geometry: Geometries, image_fill: float, mask_fill: int, antialias: bool
) -> tuple[Tensor, Tensor | None]:
    """A batch [B, planes, H, W], and masks [B, H, W] or [B, N, H, W], by a map for each sample."""
    places = Places(geometry.each, images.device)
    labels = None
    if masks is not None:
        same = masks.device == images.device
        labels = _nearest(places if same else Places(geometry.each, masks.device), masks, mask_fill)
    if images.dtype == torch.bool or all(map(moves_whole_pixels, geometry.each)):
        return places.nearest(images, image_fill), labels
    sigma = [blur_for(each) if antialias else (0.0, 0.0) for each in geometry.each]
    return places.bilinear(images, sigma).masked_fill(places.hidden[:, None], image_fill), labels


def _nearest(places: Places, masks: Tensor, fill: int) -> Tensor:
    stack = masks if masks.ndim == 4 else masks[:, None]
    moved = places.nearest(stack, fill)
    return moved if masks.ndim == 4 else moved[:, 0]


def _moved_whole(pixels: Tensor, geometry: Geometry, fill: float) -> Tensor | None:
    """The result if every output pixel is one source pixel (crops, pads, flips, right angles), else None."""
    affine = single_affine(geometry.stages)
    if affine is None or not affine.moves_whole_pixels():
        return None
    xx, xy, x, yx, yy, y = map(int, affine)
    top, left, bottom, right = geometry.shown
    turned = xx == 0
    if turned:
        pixels, (top, left, bottom, right) = pixels.transpose(-1, -2), (left, top, right, bottom)
        (xx, x), (yy, y) = (yx, y), (xy, x)
    columns, at_x = _overlap(xx, x, geometry.size[1], left, right)
    rows, at_y = _overlap(yy, y, geometry.size[0], top, bottom)
    piece = pixels[..., rows, columns]
    flipped = [axis for axis, sign in ((-2, yy), (-1, xx)) if sign < 0]
    if piece.shape[-2:] == geometry.size:
        if flipped:
            return piece.flip(flipped).contiguous()
        # A copy of the window lets the rest of a large image go; what is left whole stays the very tensor.
        untouched = piece.shape == pixels.shape and not turned and not geometry.clips
        return piece if untouched else piece.clone(memory_format=torch.contiguous_format)
    moved = pixels.new_full((*pixels.shape[:-2], *geometry.size), fill)
    moved[..., at_y, at_x] = piece.flip(flipped) if flipped else piece
    return moved


def _overlap(sign: int, offset: int, length: int, begin: int, end: int) -> tuple[slice, slice]:
    """Those of the source indices sign * i + offset, i in [0, length), in [begin, end): slices of source and output."""
    first = offset if sign > 0 else offset - length + 1
    low = max(begin, first)
    high = max(low, min(end, first + length))
    start = low - first if sign > 0 else first + length - high
    return slice(low, high), slice(start, start + high - low)
