"""Bilinear resampling by OpenCV, of the part of the picture that is looked at only: any number of channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit.transforms._resampling import by_torch
from segkit.transforms._resampling.by_torch import gaussian_taps
from segkit.transforms._resampling.geometry import Geometry, Size, coordinates, single_affine

_LIMIT = 32_767  # OpenCV's maps are made of 16-bit integers inside


def takes(image: Tensor, size: Size = (1, 1)) -> bool:
    """Is the image on the CPU, and are both sizes small enough?

    In float64 OpenCV rounds places to 1/32 of a pixel, which torch does not.
    """
    if image.device.type != "cpu" or image.requires_grad or image.dtype == torch.float64:
        return False
    return max(*image.shape[-2:], *size) + 2 < _LIMIT


def sample(image: Tensor, geometry: Geometry, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] at the places of `geometry`; beyond its edge, where others fill, anything."""
    affine = single_affine(geometry.stages)
    if affine is None:
        x, y = coordinates(geometry.stages, geometry.size)
        bounds = [float(each) for each in (x.min(), x.max(), y.min(), y.max())]
    else:
        bounds = list(affine.bounds(0, 0, geometry.size[1] - 1, geometry.size[0] - 1))
    taps = [gaussian_taps(deviation) for deviation in sigma]
    left, right = part_needed(bounds[0], bounds[1], geometry.source[1], len(taps[1]))
    top, bottom = part_needed(bounds[2], bounds[3], geometry.source[0], len(taps[0]))
    scales = affine is not None and (affine,) == Geometry.scaling(geometry.source, geometry.size).stages
    if scales:  # OpenCV's resize knows no offset, so it gets all of the picture
        top, bottom, left, right = 0, geometry.source[0], 0, geometry.source[1]
    planes = _planes(image[..., top:bottom, left:right])
    if planes is None:
        return by_torch.sample(image, geometry, sigma)
    moved = np.empty((len(planes), *geometry.size), planes.dtype)
    needed: Iterable[np.ndarray] = planes
    if max(map(len, taps)) > 1:
        down, across = map(np.array, taps)
        # One after the other, so that each is resampled while it is in the cache.
        needed = (cv2.sepFilter2D(plane, -1, across, down, borderType=cv2.BORDER_REPLICATE) for plane in planes)
    size = geometry.size[::-1]
    if affine is None:
        map_x = (x - (left - 1)).to(torch.float32).expand(geometry.size).numpy()
        map_y = (y - (top - 1)).to(torch.float32).expand(geometry.size).numpy()
        _warp(list(needed), moved, lambda pixels: cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR))
    elif scales:
        for plane, out in zip(needed, moved, strict=True):
            cv2.resize(plane, size, dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        matrix = np.array([[affine.xx, affine.xy, affine.dx - left + 1], [affine.yx, affine.yy, affine.dy - top + 1]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        _warp(list(needed), moved, lambda pixels: cv2.warpAffine(pixels, matrix, size, flags=flags))
    return _as_it_was(moved, image)


def _warp(planes: list[np.ndarray], moved: np.ndarray, warp: Callable[[np.ndarray], np.ndarray]) -> None:
    """Warp planes into those of `moved`; `warp` sees them with one pixel more on each side, a copy of the edge.

    Four channels side by side take OpenCV 0.4 of the time of three planes, or of three channels. The copied edge is as
    far as a place within the picture can look, so OpenCV need not look after edges, which takes a third more.
    """
    for first in range(0, len(planes), 4):
        some, out = planes[first : first + 4], list(moved[first : first + 4])
        missing = 4 - len(some) if len(some) > 1 else 0
        pixels = warp(_with_edge(some + some[:1] * missing))
        cv2.split(pixels, [*out, *(np.empty_like(out[0]) for _ in range(missing))])  # writes into `moved`


def _with_edge(planes: list[np.ndarray]) -> np.ndarray:
    """[H + 2, W + 2, planes]: the planes side by side, and around them one pixel more on each side, as at the edge."""
    height, width = planes[0].shape
    shape = height + 2, width + 2, len(planes)
    # The first element is left out, so that no pixel is aligned to its size: if it is, OpenCV's merge writes past the
    # cache, and the warp, which takes twice as long then, has to fetch the picture from memory.
    framed = np.empty(math.prod(shape) + 1, planes[0].dtype)[1:].reshape(shape)
    if len(planes) == 1:
        framed[1:-1, 1:-1, 0] = planes[0]
    else:
        cv2.merge(planes, dst=framed[1:-1, 1:-1])
    framed[0, 1:-1], framed[-1, 1:-1] = framed[1, 1:-1], framed[-2, 1:-1]
    framed[:, 0], framed[:, -1] = framed[:, 1], framed[:, -2]
    return framed if len(planes) > 1 else framed[..., 0]


def blur(image: Tensor, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] after a Gaussian blur by (vertical, horizontal) standard deviations."""
    planes = _planes(image)
    if planes is None:
        return by_torch.blur(image, sigma)
    blurred = np.empty_like(planes)
    down, across = (np.array(gaussian_taps(deviation)) for deviation in sigma)
    for plane, out in zip(planes, blurred, strict=True):
        cv2.sepFilter2D(plane, -1, across, down, dst=out, borderType=cv2.BORDER_REPLICATE)
    return _as_it_was(blurred, image)


def recolor(image: Tensor, gain: float, share: float, matrix: np.ndarray | None) -> Tensor:
    """uint8 [..., C, H, W] times `gain` plus `share` of its channel's mean, then colours through a 3 x 3 `matrix`."""
    planes = image.contiguous().reshape(-1, *image.shape[-2:]).numpy()
    changed = np.empty_like(planes)
    offsets = [share * cv2.mean(plane)[0] if share else 0.0 for plane in planes]
    if matrix is None:
        for plane, out, offset in zip(planes, changed, offsets, strict=True):
            cv2.addWeighted(plane, gain, plane, 0, offset, dst=out)
    else:
        for first in range(0, len(planes), 3):
            picture = slice(first, first + 3)
            both = matrix @ np.column_stack([gain * np.eye(3), offsets[picture]])
            cv2.split(cv2.transform(cv2.merge(list(planes[picture])), both), list(changed[picture]))
    return torch.from_numpy(changed).reshape(image.shape)


def _planes(image: Tensor) -> np.ndarray | None:
    """[planes, H, W], each row without gaps, in a dtype of OpenCV that holds all values; the image's memory if it can.

    None if there is none: wide integers need the 24 bits of float32 and one to round by, and mostly are of 16 bits.
    """
    if image.dtype in (torch.int32, torch.int64) and image.numel():
        whole = image.contiguous()
        low, high = (int(each) for each in whole.aminmax())
        if low >= 0 and high < 1 << 16:
            return whole.numpy().astype(np.uint16).reshape(-1, *image.shape[-2:])
        if low < -(1 << 23) or high > 1 << 23:
            return None
    values = image if image.dtype == torch.uint8 else image.to(torch.float32)
    planes: np.ndarray = (values if values.stride(-1) == 1 else values.contiguous()).numpy()
    return planes.reshape(-1, *image.shape[-2:])


def part_needed(low: float, high: float, length: int, taps: int) -> tuple[int, int]:
    """The part of an axis that a map looks at, with the neighbours that interpolation and blur need."""
    margin = 2 + taps // 2
    first = min(max(math.floor(low) - margin, 0), length - 1)
    return first, max(min(math.ceil(high) + margin + 1, length), first + 1)


def _as_it_was(planes: np.ndarray, image: Tensor) -> Tensor:
    """[..., C, h, w] in the dtype of `image`."""
    if planes.dtype == np.uint16:
        planes = planes.astype(np.int32)
    result = torch.from_numpy(planes).reshape(*image.shape[:-2], *planes.shape[-2:])
    if result.is_floating_point() and not image.is_floating_point():
        result.round_()
    return result.to(image.dtype)
