"""What changes values, each sample of a batch by numbers of its own, by a number of operators without regard to B."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Box = tuple[int, int, int, int]

# The grey that a person sees, from RGB (ITU-R BT.601); the axes of the hue circle are YIQ's.
TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_FROM_YIQ = np.linalg.inv(np.array(TO_YIQ))


def adjust_colors(
    images: Tensor, factors: Sequence[tuple[float, float, float, float]], *, contrast: bool, colors: bool
) -> Tensor:
    """[B, C, H, W] by (brightness, contrast, saturation, hue) each: one affine map of the channels.

    Args:
        images: floating point or uint8.
        factors: as `adjust_color` takes them.
        contrast: any contrast may differ from 1.
        colors: any saturation or hue may change.
    """
    values = images if images.is_floating_point() else images.to(torch.float32)
    gain = _column([b * c for b, c, _, _ in factors], values)
    if contrast:
        mean = images.mean((-2, -1), keepdim=True, dtype=torch.float64)
        share = torch.tensor([b * (1 - c) for b, c, _, _ in factors], dtype=torch.float64).to(images.device)
        changed = torch.addcmul((mean * share[:, None, None, None]).to(values.dtype), values, gain)
    else:
        changed = values * gain
    if colors:
        matrix = torch.from_numpy(np.stack([color_matrix(saturation, hue) for _, _, saturation, hue in factors]))
        wide = changed if changed.dtype == torch.float64 else changed.to(torch.float32)
        into = matrix.to(wide.dtype).to(images.device)[..., None, None]  # [B, 3, 3, 1, 1]
        # Not a matrix product, which a user may have allowed to be rough.
        changed = into[:, :, 0] * wide[:, :1]
        for channel in (1, 2):
            changed = torch.addcmul(changed, into[:, :, channel], wide[:, channel : channel + 1])
    return changed.to(images.dtype) if images.is_floating_point() else changed.round_().clamp_(0, 255).to(images.dtype)


def adjust_gammas(images: Tensor, gammas: Sequence[float]) -> Tensor:
    """[B, C, H, W] to powers of their own."""
    if images.dtype == torch.uint8:
        powers = torch.tensor(gammas, dtype=torch.float64)[:, None]
        tables = (torch.arange(256, dtype=torch.float64) / 255).pow(powers).mul_(255).round_().to(torch.uint8)
        found = tables.to(images.device).gather(1, images.flatten(1).to(torch.int64))
        return found.reshape(images.shape)
    return images.clamp(min=0).pow(_column(gammas, images))


def cut_out(
    images: Tensor, masks: Tensor | None, boxes: Sequence[Sequence[Box]], *, image_fill: float, mask_fill: int | None
) -> tuple[Tensor, Tensor | None]:
    """Rectangles of each sample painted over: as many (top, left, height, width) for each."""
    table = torch.tensor(boxes).to(images.device)  # [B, holes, 4]
    first, length = table[..., :2, None], table[..., 2:, None]
    inside = []
    for axis, extent in enumerate(images.shape[-2:]):
        place = torch.arange(extent, device=images.device)
        inside.append((place >= first[:, :, axis]) & (place < first[:, :, axis] + length[:, :, axis]))
    holes = (inside[0][..., None] & inside[1][..., None, :]).any(1)  # [B, H, W]
    if masks is not None and mask_fill is not None:
        places = holes.to(masks.device)
        masks = masks.masked_fill(places if masks.ndim == 3 else places[:, None], mask_fill)
    return images.masked_fill(holes[:, None], image_fill), masks


def color_matrix(saturation: float, hue: float) -> np.ndarray:
    """What leads one RGB to the other: float64 [3, 3]."""
    cos, sin = math.cos(2 * math.pi * hue) * saturation, math.sin(2 * math.pi * hue) * saturation
    return _FROM_YIQ @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ np.array(TO_YIQ)


def where(happens: Sequence[bool], changed: Tensor, images: Tensor) -> Tensor:
    """The changed sample where something happens, the very one elsewhere."""
    return changed if all(happens) else torch.where(_column(happens, changed, torch.bool), changed, images)


def _column(numbers: Sequence[float], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(numbers, dtype=dtype or like.dtype).to(like.device)[:, None, None, None]
