"""Bilinear resampling by OpenCV, plane by plane on the tensor's own memory: any number of channels, no permute."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit.transforms._geometry import Geometry, Size, coordinates, corners, scaling, single_matrix
from segkit.transforms._sampling import gaussian_taps

_LIMIT = 32_767  # OpenCV's maps are made of 16-bit integers inside


def takes(image: Tensor, size: Size = (1, 1)) -> bool:
    """Are the image on the CPU, both sizes small enough, and its values such as float32 can hold?

    In float64 OpenCV rounds places to 1/32 of a pixel, which torch does not.
    """
    if image.device.type != "cpu" or image.requires_grad or max(*image.shape[-2:], *size) >= _LIMIT:
        return False
    if image.dtype in (torch.int32, torch.int64):
        low, high = image.aminmax()
        return int(low) >= -(1 << 23) and int(high) <= 1 << 23  # exact in float32, with a bit to round by
    return image.dtype != torch.float64


def sample(image: Tensor, geometry: Geometry, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] at the places of `geometry`; beyond its edge, the pixel at the edge."""
    planes = _planes(image)
    moved = np.empty((len(planes), *geometry.size), planes.dtype)
    matrix = single_matrix(geometry.stages)
    if matrix is None:
        x, y = coordinates(geometry.stages, geometry.size, torch.device("cpu"))
        span = (float(x.min()), float(x.max())), (float(y.min()), float(y.max()))
    else:
        x_corners, y_corners = corners(matrix, geometry.size)
        span = (x_corners.min(), x_corners.max()), (y_corners.min(), y_corners.max())
    taps = [gaussian_taps(deviation) for deviation in sigma]
    left, right = _needed(span[0], geometry.source[1], len(taps[1]))
    top, bottom = _needed(span[1], geometry.source[0], len(taps[0]))
    planes = planes[:, top:bottom, left:right]
    kernels = [np.array(weights) for weights in taps]
    blurs = max(map(len, taps)) > 1
    if matrix is None:
        map_x = (x - left).to(torch.float32).expand(geometry.size).numpy()
        map_y = (y - top).to(torch.float32).expand(geometry.size).numpy()
    else:
        scales = _is(matrix, scaling(geometry.source, geometry.size))
        matrix = matrix[:2] - [[0, 0, left], [0, 0, top]]
    size = geometry.size[::-1]
    for plane, out in zip(planes, moved, strict=True):
        if blurs:
            plane = cv2.sepFilter2D(plane, -1, kernels[1], kernels[0], borderType=cv2.BORDER_REPLICATE)
        if matrix is None:
            cv2.remap(plane, map_x, map_y, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)
        elif scales:
            cv2.resize(plane, size, dst=out, interpolation=cv2.INTER_LINEAR)
        else:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            cv2.warpAffine(plane, matrix, size, dst=out, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return _as_it_was(torch.from_numpy(moved).reshape(*image.shape[:-2], *geometry.size), image)


def blur(image: Tensor, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] after a Gaussian blur by (vertical, horizontal) standard deviations."""
    planes = _planes(image)
    blurred = np.empty_like(planes)
    down, across = (np.array(gaussian_taps(deviation)) for deviation in sigma)
    for plane, out in zip(planes, blurred, strict=True):
        cv2.sepFilter2D(plane, -1, across, down, dst=out, borderType=cv2.BORDER_REPLICATE)
    return _as_it_was(torch.from_numpy(blurred).reshape(image.shape), image)


def _planes(image: Tensor) -> np.ndarray:
    """[planes, H, W] in a dtype of OpenCV, in the image's own memory where it can be."""
    values = image if image.dtype == torch.uint8 else image.to(torch.float32)
    planes: np.ndarray = values.contiguous().reshape(-1, *image.shape[-2:]).numpy()
    return planes


def _needed(span: tuple[float, float], length: int, taps: int) -> tuple[int, int]:
    """The part of an axis that a map looks at, with the neighbours that interpolation and blur need."""
    margin = 2 + taps // 2
    low = min(max(int(np.floor(span[0])) - margin, 0), length - 1)
    high = max(min(int(np.ceil(span[1])) + margin + 1, length), low + 1)
    return low, high


def _is(matrix: np.ndarray, geometry: Geometry) -> bool:
    return np.array_equal(matrix, geometry.stages[0])  # type: ignore[arg-type]


def _as_it_was(result: Tensor, image: Tensor) -> Tensor:
    if result.dtype == image.dtype:
        return result
    return result.to(image.dtype) if image.is_floating_point() else result.round_().to(image.dtype)
