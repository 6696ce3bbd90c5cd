"""Bilinear resampling by OpenCV, plane by plane on the tensor's own memory: any number of channels, no permute."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit.transforms._geometry import Geometry, coordinates, corners, single_matrix
from segkit.transforms._sampling import gaussian_taps

_LIMIT = 32_767  # OpenCV's maps are made of 16-bit integers inside


def takes(geometry: Geometry) -> bool:
    """Is everything small enough for OpenCV?"""
    return max(*geometry.source, *geometry.size) < _LIMIT


def sample(image: Tensor, geometry: Geometry, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] at the places of `geometry`; beyond its edge, the pixel at the edge."""
    planes = _in_a_dtype_of_opencv(image).contiguous().reshape(-1, *geometry.source).numpy()
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
        matrix = matrix[:2] - [[0, 0, left], [0, 0, top]]
    for plane, out in zip(planes, moved, strict=True):
        if blurs:
            plane = cv2.sepFilter2D(plane, -1, kernels[1], kernels[0], borderType=cv2.BORDER_REPLICATE)
        if matrix is None:
            cv2.remap(plane, map_x, map_y, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE)
        else:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            size = geometry.size[::-1]
            cv2.warpAffine(plane, matrix, size, dst=out, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    result = torch.from_numpy(moved).reshape(*image.shape[:-2], *geometry.size)
    if result.dtype == image.dtype:
        return result
    return result.to(image.dtype) if image.is_floating_point() else result.round_().to(image.dtype)


def _in_a_dtype_of_opencv(image: Tensor) -> Tensor:
    if image.dtype in (torch.uint8, torch.int16, torch.float32, torch.float64):
        return image.detach()
    if image.dtype in (torch.int32, torch.int64):
        low, high = image.aminmax()
        small = int(low) >= -(1 << 23) and int(high) <= 1 << 23  # exact in float32, with a bit to round by
        return image.to(torch.float32 if small else torch.float64)
    return image.detach().to(torch.float32)  # int8, float16, bfloat16


def _needed(span: tuple[float, float], length: int, taps: int) -> tuple[int, int]:
    """The part of an axis that a map looks at, with the neighbours that interpolation and blur need."""
    margin = 2 + taps // 2
    low = min(max(int(np.floor(span[0])) - margin, 0), length - 1)
    high = max(min(int(np.ceil(span[1])) + margin + 1, length), low + 1)
    return low, high
