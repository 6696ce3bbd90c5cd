"""A picture at another size, bicubic: by torch's own operator on every device, so that it is what others' resize is."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.transforms._resampling.geometry import Size

INTERPOLATIONS = ("bilinear", "bicubic")


def as_interpolation(name: str, value: object) -> str:
    """How an image is resized: one of the two words."""
    if value not in INTERPOLATIONS:
        raise ValueError(
            f"{name}: `interpolation` must be one of {INTERPOLATIONS}, got {value!r}. It is for the image; a "
            "mask takes the nearest pixel whatever it says."
        )
    return str(value)


def resized(image: Tensor, size: Size, *, antialias: bool) -> Tensor:
    """The image [..., C, H, W] at another (height, width), in its own dtype.

    Integers are computed in float32 (float64 from 32 bits on), rounded and clipped to what their dtype holds, or to
    16 bits where these hold all of the image; float16 and bfloat16 in float32.
    """
    wide = torch.float64 if image.dtype in (torch.float64, torch.int32, torch.int64) else torch.float32
    planes = image.reshape(1, math.prod(image.shape[:-2]), *image.shape[-2:]).to(wide)
    if not planes.numel():
        return image.new_zeros((*image.shape[:-2], *size))
    result = F.interpolate(planes, size, mode="bicubic", align_corners=False, antialias=antialias)
    result = result.reshape(*image.shape[:-2], *size)
    if image.dtype == torch.bool:
        return result > 0.5
    if not image.is_floating_point():
        result = result.round().clamp(*_range(image))
    return result.to(image.dtype)


def _range(image: Tensor) -> tuple[int, int]:
    """Smallest and largest value that may come of integers."""
    kind = torch.iinfo(image.dtype)
    if kind.bits >= 32:
        # 16-bit values live in int32, as torch.uint16 has few operators: they must not leave their own range.
        least, most = (int(value) for value in image.aminmax())
        if least >= 0 and most <= 65_535:
            return 0, 65_535
    return kind.min, kind.max if kind.bits < 64 else kind.max - 1023  # the largest that float64 holds
