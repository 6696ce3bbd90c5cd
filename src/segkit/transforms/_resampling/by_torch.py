"""Bilinear resampling by torch alone: on CUDA, for gradients, and for images beyond OpenCV's limits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.transforms._resampling.geometry import Geometry, coordinates


def sample(image: Tensor, geometry: Geometry, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] at the places of `geometry`; beyond its edge, the pixel at the edge.

    Integers are computed in float32 (float64 from 32 bits on) and rounded; float16 and bfloat16 in float32.
    """
    if image.shape[:-2].numel() == 0:  # torch's operators refuse an empty batch
        return image.new_empty((*image.shape[:-2], *geometry.size))
    pixels = _blurred(image, sigma)
    height, width = geometry.source
    x, y = coordinates(geometry.stages, geometry.size, image.device)
    x, y = ((2 * x + 1) / width - 1).expand(geometry.size), ((2 * y + 1) / height - 1).expand(geometry.size)
    grid = torch.stack([x, y], -1).to(pixels.dtype)[None]
    moved = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _as_it_was(moved.reshape(*image.shape[:-2], *geometry.size), image)


def blur(image: Tensor, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] after a Gaussian blur by (vertical, horizontal) standard deviations."""
    return _as_it_was(_blurred(image, sigma).reshape(image.shape), image) if image.numel() else image.clone()


def _blurred(image: Tensor, sigma: tuple[float, float]) -> Tensor:
    """[1, planes, H, W] in floating point, the edge repeated outwards."""
    wide = torch.float64 if image.dtype in (torch.float64, torch.int32, torch.int64) else torch.float32
    pixels = image.to(wide).reshape(1, -1, *image.shape[-2:])
    channels = pixels.shape[1]
    for axis, deviation in zip((2, 3), sigma, strict=True):
        taps = gaussian_taps(deviation)
        if len(taps) == 1:
            continue
        reach = len(taps) // 2
        index = torch.arange(-reach, pixels.shape[axis] + reach, device=pixels.device).clamp_(0, pixels.shape[axis] - 1)
        padded = pixels.index_select(axis, index)
        shape = [1, 1, 1, 1]
        shape[axis] = len(taps)
        kernel = torch.tensor(taps, dtype=pixels.dtype, device=pixels.device).reshape(shape)
        pixels = F.conv2d(padded, kernel.expand(channels, *shape[1:]), groups=channels)
    return pixels


def gaussian_taps(sigma: float) -> list[float]:
    """Weights of a sampled Gaussian, odd in number and summing to 1; [1.0] when it would blur nothing visible."""
    if sigma < 0.2:  # the neighbours would weigh less than 4e-6
        return [1.0]
    reach = math.ceil(2.5 * sigma)
    taps = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1)]
    total = sum(taps)
    return [tap / total for tap in taps]


def _as_it_was(result: Tensor, image: Tensor) -> Tensor:
    return result.to(image.dtype) if image.is_floating_point() else result.round_().to(image.dtype)
