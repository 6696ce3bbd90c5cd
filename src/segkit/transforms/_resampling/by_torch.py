"""Resampling by torch alone, a whole batch at once: on accelerators, for gradients, and beyond OpenCV's limits.

Each sample has a map of its own, and the number of operators does not depend on how many samples there are. Where a
pixel comes from is the sum of what its column and what its row give: H + W numbers, made in float64 on the host and
sent as int64 with 32 bits of fraction. The device adds them; the high word of the sum is an index, the low one the
share of the next pixel, so masks are exact without float64 there. Nothing is asked of the device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segkit.transforms._resampling.affine import IDENTITY, Affine
from segkit.transforms._resampling.field import STILL, Field, displacements
from segkit.transforms._resampling.geometry import EPSILON, Geometry, Size, Stage, single_affine
from segkit.transforms._resampling.perspective import Perspective

_BITS = 32
_ONE = 1 << _BITS
_HALF = round((0.5 + EPSILON) * _ONE)  # what makes a floor of a rounding: on an edge it is always the later pixel
_FAR = 2.0**29  # no picture reaches so far, and sums of what is cut here fit


class Places:
    """Where the pixels of a batch's outputs come from, and what is found there.

    Args:
        geometries: one for each sample, from one source size to one output size.
        device: where the pixels are.
    """

    def __init__(self, geometries: Sequence[Geometry], device: torch.device) -> None:
        self._geometries, self._device = geometries, device
        self._source, self._size = geometries[0].source, geometries[0].size
        self._x, self._y = self._fixed([geometry.stages for geometry in geometries])

    def nearest(self, pixels: Tensor, fill: float) -> Tensor:
        """Of pixels [B, planes, H, W] the nearest, in their own dtype, and `fill` where nothing is shown."""
        height, width = self._source
        row, column = ((each + _HALF) >> _BITS for each in (self._y, self._x))
        found = self._at(pixels, row.clamp(0, height - 1), column.clamp(0, width - 1))
        return found.masked_fill(self.hidden[:, None], fill)

    def bilinear(self, pixels: Tensor, sigma: Sequence[tuple[float, float]]) -> Tensor:
        """Of pixels [B, planes, H, W], blurred by `sigma` each; beyond the edge as at the edge, in their own dtype.

        Integers are computed in float32 (float64 from 32 bits on) and rounded; float16 and bfloat16 in float32. A
        sample of which whole pixels are moved keeps their bits.
        """
        blurred = blur_each(pixels, sigma)
        wide = _wide(pixels)
        height, width = self._source
        y, x = self._y.clamp(0, (height - 1) << _BITS), self._x.clamp(0, (width - 1) << _BITS)
        row, column = y >> _BITS, x >> _BITS
        below, right = (row + 1).clamp(max=height - 1), (column + 1).clamp(max=width - 1)
        down, across = (((each & (_ONE - 1)).to(wide) * (1 / _ONE))[:, None] for each in (y, x))
        first = self._at(blurred, row, column)
        upper = torch.lerp(first.to(wide), self._at(blurred, row, right).to(wide), across)
        lower = torch.lerp(self._at(blurred, below, column).to(wide), self._at(blurred, below, right).to(wide), across)
        moved = as_it_was(torch.lerp(upper, lower, down), pixels)
        whole = torch.tensor([moves_whole_pixels(geometry) for geometry in self._geometries])
        return torch.where(whole.to(self._device)[:, None, None, None], as_it_was(first, pixels), moved)

    @functools.cached_property
    def hidden(self) -> Tensor:
        """True [B, height, width] where the output shows nothing of the source."""
        hidden = self._beyond(self._x, self._y, [geometry.shown for geometry in self._geometries])
        for place in range(max(len(geometry.clips) for geometry in self._geometries)):
            clips = [geometry.clips[place : place + 1] for geometry in self._geometries]
            everything = (), (0, 0, *self._size)
            chains, rects = zip(*(clip[0] if clip else everything for clip in clips), strict=True)
            hidden = hidden | self._beyond(*self._fixed(chains), rects)
        return hidden

    def _beyond(self, x: Tensor, y: Tensor, rects: Sequence[tuple[int, int, int, int]]) -> Tensor:
        top, left, bottom, right = torch.tensor(rects).to(self._device).T[:, :, None, None]
        row, column = (y + _HALF) >> _BITS, (x + _HALF) >> _BITS
        return (row < top) | (row >= bottom) | (column < left) | (column >= right)

    def _at(self, pixels: Tensor, row: Tensor, column: Tensor) -> Tensor:
        index = (row * self._source[1] + column).flatten(1)[:, None].expand(-1, pixels.shape[1], -1)
        return pixels.flatten(2).gather(2, index).reshape(*pixels.shape[:2], *self._size)

    def _fixed(self, chains: Sequence[tuple[Stage, ...]]) -> tuple[Tensor, Tensor]:
        """Both coordinates of each output pixel, int64 [B, height, width], with 32 bits of fraction."""
        height, width = self._size
        if all(single_affine(chain) is not None for chain in chains):
            xx, xy, dx, yx, yy, dy = np.array([single_affine(chain) for chain in chains]).T[:, :, None]
            columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
            parts = (xx * columns + dx, xy * rows), (yx * columns, yy * rows + dy)
            sums = np.stack([np.concatenate(each, 1) for each in parts])
            sent = torch.from_numpy(np.rint(sums.clip(-_FAR, _FAR) * _ONE).astype(np.int64)).to(self._device)
            fixed = sent[..., None, :width] + sent[..., width:, None]
            return fixed[0], fixed[1]
        x, y = (
            (each.clamp(-_FAR, _FAR) * _ONE).round().to(torch.int64).expand(len(chains), height, width)
            for each in _bent(chains, self._size, self._device)
        )
        return x, y


def sample(image: Tensor, geometry: Geometry, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] at the places of `geometry`; beyond its edge, the pixel at the edge."""
    moved = Places([geometry], image.device).bilinear(_one(image), [sigma])
    return moved.reshape(*image.shape[:-2], *geometry.size)


def look_up(pixels: Tensor, geometry: Geometry, fill: float) -> tuple[Tensor, Tensor]:
    """Pixels [..., H, W] at their nearest places, and True [h, w] where that is the fill."""
    places = Places([geometry], pixels.device)
    return places.nearest(_one(pixels), fill).reshape(*pixels.shape[:-2], *geometry.size), places.hidden[0]


def moves_whole_pixels(geometry: Geometry) -> bool:
    """Is each output pixel one of the source, or fill?"""
    affine = single_affine(geometry.stages)
    return affine is not None and affine.moves_whole_pixels()


def blur(image: Tensor, sigma: tuple[float, float]) -> Tensor:
    """The image [..., C, H, W] after a Gaussian blur by (vertical, horizontal) standard deviations."""
    return as_it_was(blur_each(_one(image), [sigma]).reshape(image.shape), image)


def blur_each(images: Tensor, sigma: Sequence[tuple[float, float]]) -> Tensor:
    """[B, planes, H, W] blurred by deviations of their own, the edge repeated outwards: floating point if any is."""
    pixels, (batch, planes) = images, images.shape[:2]
    for axis, deviations in zip((2, 3), zip(*sigma, strict=True), strict=True):
        taps = [gaussian_taps(deviation) for deviation in deviations]
        longest = max(map(len, taps))
        if longest == 1 or not images.numel():
            continue
        reach = longest // 2
        rows = [[0.0] * (reach - len(each) // 2) + each + [0.0] * (reach - len(each) // 2) for each in taps]
        shape = [batch * planes, 1, 1, 1]
        shape[axis] = longest
        weights = torch.tensor(rows, dtype=_wide(images)).to(images.device).repeat_interleave(planes, 0).reshape(shape)
        index = torch.arange(-reach, pixels.shape[axis] + reach, device=images.device).clamp_(0, pixels.shape[axis] - 1)
        padded = pixels.to(weights.dtype).index_select(axis, index).flatten(0, 1)[None]
        pixels = F.conv2d(padded, weights, groups=batch * planes).reshape(images.shape)
    return pixels


def gaussian_taps(sigma: float) -> list[float]:
    """Weights of a sampled Gaussian, odd in number and summing to 1; [1.0] when it would blur nothing visible."""
    if sigma < 0.2:  # the neighbours would weigh less than 4e-6
        return [1.0]
    reach = math.ceil(2.5 * sigma)
    taps = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1)]
    total = sum(taps)
    return [tap / total for tap in taps]


def as_it_was(result: Tensor, image: Tensor) -> Tensor:
    """In the dtype of `image`, rounded if that holds integers."""
    if result.is_floating_point() and not image.is_floating_point():
        result = result.round()
    return result.to(image.dtype)


def _bent(chains: Sequence[tuple[Stage, ...]], size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both coordinates, float64, broadcasting to [B, height, width], where not all stages are affine."""
    x = torch.arange(size[1], dtype=torch.float64, device=device).expand(len(chains), 1, -1)
    y = torch.arange(size[0], dtype=torch.float64, device=device).expand(len(chains), -1)[..., None]
    split = [_in_turns(chain) for chain in chains]
    deepest = max(map(len, split))
    for stage in range(deepest):
        # A chain that is shorter than others begins with what changes nothing.
        turn = [
            each[stage - deepest + len(each)] if stage + len(each) >= deepest else (STILL, IDENTITY) for each in split
        ]
        fields, affines = zip(*turn, strict=True)
        if any(field is not STILL for field in fields):
            right, down = displacements(fields, x, y).unbind(1)
            x, y = x + right, y + down
        # An affine map divides by 1 where other samples have a perspective.
        table = torch.tensor([(*each[:6], *(each[6:] or (0, 0, 1, 1))) for each in affines], dtype=torch.float64)
        straight, slanted = not table[:, [1, 3, 6, 7]].any(), bool(table[:, 6:8].any())
        xx, xy, dx, yx, yy, dy, gx, gy, g, least = table.to(device).T[:, :, None, None]
        divisor = torch.maximum(x * gx + y * gy + g, least) if slanted else None
        x, y = (x * xx + dx, y * yy + dy) if straight else (x * xx + y * xy + dx, x * yx + y * yy + dy)
        if divisor is not None:
            x, y = x / divisor, y / divisor
    return x, y


def _in_turns(chain: tuple[Stage, ...]) -> list[tuple[Field, Affine | Perspective]]:
    """The chain as fields, each with the affine map or the perspective that follows it."""
    turns: list[tuple[Field, Affine | Perspective]] = []
    for stage in chain:
        if isinstance(stage, Field):
            turns.append((stage, IDENTITY))
        elif turns and turns[-1][1] is IDENTITY:
            turns[-1] = turns[-1][0], stage
        else:
            turns.append((STILL, stage))
    return turns


def _one(image: Tensor) -> Tensor:
    """[1, planes, H, W]: a batch of one."""
    return image.reshape(1, math.prod(image.shape[:-2]), *image.shape[-2:])


def _wide(image: Tensor) -> torch.dtype:
    return torch.float64 if image.dtype in (torch.float64, torch.int32, torch.int64) else torch.float32
