"""A picture that goes on beyond its edge, mirrored or as its edge is: what a map then looks at is never outside."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from segkit.transforms._resampling.by_torch import gaussian_taps
from segkit.transforms._resampling.geometry import Geometries, Geometry, blur_for
from segkit.transforms._resampling.support import bounds, within


def extended(
    image: Tensor, geometry: Geometry | Geometries, mode: str, *, antialias: bool
) -> tuple[Tensor, Geometry | Geometries]:
    """The image [..., H, W] as far beyond its edge as the map looks, and the same map for it, which hides nothing.

    What a crop in the chain has cut off is no picture any more: the mirror stands at the edge of what is left.
    """
    each = geometry.each if isinstance(geometry, Geometries) else (geometry,)
    window = _window(each, antialias)
    for axis in (0, 1):
        edges = [(one.shown[axis], one.shown[axis + 2]) for one in each]
        index = np.stack([_places(window[axis], window[axis] + window[axis + 2], *edge, mode) for edge in edges])
        image = _taken(image, axis - 2, torch.from_numpy(index).to(image.device))
    moved = [dataclasses.replace(within(one, window), visible=None, clips=()) for one in each]
    return image, Geometries(tuple(moved)) if isinstance(geometry, Geometries) else moved[0]


def _window(each: tuple[Geometry, ...], antialias: bool) -> tuple[int, int, int, int]:
    """(top, left, height, width) of all that any of the maps looks at, what interpolation and blur need included."""
    begin, end = [0.0, 0.0], [1.0, 1.0]
    for one in each:
        left, right, top, bottom = bounds(one)
        taps = (gaussian_taps(sigma) for sigma in (blur_for(one) if antialias else (0.0, 0.0)))
        for axis, (low, high, row) in enumerate(zip((top, left), (bottom, right), taps, strict=True)):
            begin[axis] = min(begin[axis], math.floor(low) - 2 - len(row) // 2)
            end[axis] = max(end[axis], math.ceil(high) + 3 + len(row) // 2)
    return int(begin[0]), int(begin[1]), int(end[0] - begin[0]), int(end[1] - begin[1])


def _places(begin: int, end: int, first: int, stop: int, mode: str) -> np.ndarray:
    """The pixels of [first, stop) that stand for those of [begin, end)."""
    length = max(stop - first, 1)
    away = np.arange(begin - first, end - first)
    if mode == "reflect" and length > 1:  # the edge itself is not repeated
        away = np.abs((away + length - 1) % (2 * length - 2) - (length - 1))
    return away.clip(0, length - 1) + first


def _taken(image: Tensor, axis: int, index: Tensor) -> Tensor:
    """Rows or columns of an image, or of each sample of a batch its own."""
    if len(index) == 1:
        return image.index_select(axis, index[0])
    shape = list(image.shape)
    shape[axis] = index.shape[1]
    along = index[:, None, :, None] if axis == -2 else index[:, None, None]
    return image.gather(axis, along.expand(shape))
